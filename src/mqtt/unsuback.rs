//! UNSUBACK: the answer to UNSUBSCRIBE.

use super::Version;
use super::cursor::write_u16;
use super::frame::encode_packet;
use super::{DecodeError, Frame, PacketId, PacketSet, PacketType, Properties, Reader, ReasonCode};

/// What became of the topic filters of one UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    /// One code for each filter in the same order [MQTT-3.11.3-1], each a [`ReasonCode`] that
    /// UNSUBACK may carry. Before 5.0 there are none: read as empty and not written.
    pub reasons: &'a [u8],
}

impl<'a> Unsuback<'a> {
    pub(super) fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        if !version.is_v5() {
            reader.finish()?;
            return Ok(Self { packet_id, properties: Properties::EMPTY, reasons: &[] });
        }
        let properties = Properties::decode(&mut reader, version, PacketSet::UNSUBACK)?;
        let reasons = reader.rest();
        if reasons.is_empty() {
            return Err(DecodeError::EntriesMissing);
        }
        for &code in reasons {
            ReasonCode::decode(code, PacketSet::UNSUBACK)?; // [MQTT-3.11.3-2]
        }
        Ok(Self { packet_id, properties, reasons })
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Unsuback.first_byte(), out, |out| {
            write_u16(out, self.packet_id.get());
            self.properties.encode(version, out);
            if version.is_v5() {
                out.extend_from_slice(self.reasons);
            }
        });
    }
}
