//! PUBACK, PUBREC, PUBREL and PUBCOMP: the four acknowledgements, which share one form.

use super::cursor::write_u16;
use super::frame::encode_packet;
use super::{DecodeError, Frame, PacketId, PacketType, Properties, Reader, ReasonCode, Version};

/// One step of the delivery of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    /// Success before 5.0.
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// Success without properties.
    pub const fn success(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }
    }

    pub(super) fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let mut ack = Self::success(reader.packet_id()?);
        if !version.is_v5() {
            return reader.finish().map(|()| ack);
        }
        // 3.4.2.1: without reason code it is success; without length there are no properties.
        if !reader.is_empty() {
            ack.reason = ReasonCode::decode(reader.u8()?, frame.kind.set())?;
        }
        if !reader.is_empty() {
            ack.properties = Properties::decode(&mut reader, version, frame.kind.set())?;
        }
        reader.finish().map(|()| ack)
    }

    /// Appends the packet to `out` in its shortest form.
    pub fn encode(&self, kind: PacketType, version: Version, out: &mut Vec<u8>) {
        encode_packet(kind.first_byte(), out, |out| {
            write_u16(out, self.packet_id.get());
            let has_properties = version.is_v5() && !self.properties.is_empty();
            if has_properties || (version.is_v5() && self.reason != ReasonCode::Success) {
                out.push(self.reason as u8);
            }
            if has_properties {
                self.properties.encode(version, out);
            }
        });
    }
}
