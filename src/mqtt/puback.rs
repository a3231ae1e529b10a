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

    /// [`Packet::decode`](super::Packet::decode) of the packets that come as often as PUBLISH.
    ///
    /// # Errors
    /// As for any packet.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        debug_assert!(frame.kind.is_acknowledgement(), "not {:?}", frame.kind);
        frame.judge(version)?;
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
        if !version.is_v5() || (self.reason == ReasonCode::Success && self.properties.is_empty()) {
            let [high, low] = self.packet_id.get().to_be_bytes();
            return out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
        }
        encode_packet(kind.first_byte(), out, |out| {
            write_u16(out, self.packet_id.get());
            out.push(self.reason as u8);
            if !self.properties.is_empty() {
                self.properties.encode(version, out);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        ALL, V3, V5, accepts, accepts_as, decode, packet, refuses, refuses_cut,
    };
    use super::*;

    const FIRST_BYTES: [(u8, u8); 4] = [(0x40, 0x10), (0x50, 0x87), (0x62, 0x92), (0x70, 0x92)];

    #[test]
    fn valid_acknowledgements() {
        for (first_byte, code) in FIRST_BYTES {
            accepts(&ALL, first_byte, b"\0\x01");
            accepts(&ALL, first_byte, b"\xFF\xFF");
            accepts(&V5, first_byte, &[0, 1, code]);
            accepts(&V5, first_byte, &[0, 1, code, 4, 0x1F, 0, 1, b'r']);
            accepts(&V5, first_byte, &[0, 1, 0, 4, 0x1F, 0, 1, b'r']);
            let shortest = packet(first_byte, b"\0\x01");
            accepts_as(&V5, first_byte, b"\0\x01\0", &shortest); // 3.4.2.1
            accepts_as(&V5, first_byte, b"\0\x01\0\0", &shortest);
            accepts_as(&V5, first_byte, &[0, 1, code, 0], &packet(first_byte, &[0, 1, code]));
        }
    }

    #[test]
    fn acknowledgements_that_are_none() {
        for (first_byte, code) in FIRST_BYTES {
            // [MQTT-2.2.1-3], 3.1.1: [MQTT-2.3.1-1]
            refuses(&ALL, first_byte, b"\0\0", DecodeError::PacketIdZero, 0x82);
            refuses_cut(Version::V311, first_byte, b"\0\x01", |_| false);
            let body = [0, 1, code, 4, 0x1F, 0, 1, b'r'];
            refuses_cut(Version::V5, first_byte, &body, |len| len == 2 || len == 3);
            refuses(&V3, first_byte, b"\0\x01\0", DecodeError::TrailingBytes, 0x81);
            refuses(&V3, first_byte, b"\0\x01\0\0", DecodeError::TrailingBytes, 0x81);
            refuses(&V5, first_byte, b"\0\x01\0\0\0", DecodeError::TrailingBytes, 0x81);
        }
    }

    #[test]
    fn the_reason_of_an_older_version_is_success() {
        let bytes = packet(0x40, b"\0\x09");
        let ack = Ack::success(PacketId::new(9).expect("not 0"));
        assert_eq!(decode(&bytes, Version::V31), Ok(super::super::Packet::Puback(ack)));
        let mut out = vec![];
        let refusal = Ack { reason: ReasonCode::NotAuthorized, ..ack };
        refusal.encode(PacketType::Puback, Version::V311, &mut out);
        assert_eq!(out, bytes);
    }
}
