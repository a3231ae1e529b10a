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

#[cfg(test)]
mod tests {
    use super::super::tests::{V3, V5, accepts, encode, refuses, refuses_cut};
    use super::*;

    #[test]
    fn valid_unsubacks() {
        accepts(&V3, 0xB0, b"\0\x01");
        accepts(&V5, 0xB0, b"\0\x01\0\0\x11\x80");
        accepts(&V5, 0xB0, b"\0\x01\x04\x1F\0\x01r\x11");
    }

    #[test]
    fn unsubacks_that_are_none() {
        refuses(&V3, 0xB0, b"\0\0", DecodeError::PacketIdZero, 0x82);
        refuses(&V5, 0xB0, b"\0\0\0\0", DecodeError::PacketIdZero, 0x82);
        refuses(&V3, 0xB0, b"\0\x01\0", DecodeError::TrailingBytes, 0x81); // 3.1.1: no payload
        refuses(&V5, 0xB0, b"\0\x01\0", DecodeError::EntriesMissing, 0x82);
        refuses_cut(Version::V311, 0xB0, b"\0\x01", |_| false);
        refuses_cut(Version::V5, 0xB0, b"\0\x01\x04\x1F\0\x01r\x11", |_| false);
    }

    #[test]
    fn codes_are_not_written_before_5_0() {
        let packet_id = PacketId::new(1).expect("not 0");
        let unsuback = Unsuback { packet_id, properties: Properties::EMPTY, reasons: &[0, 0x11] };
        let packet = super::super::Packet::Unsuback(unsuback);
        assert_eq!(encode(&packet, Version::V311), b"\xB0\x02\0\x01");
    }
}
