//! SUBACK: the answer to SUBSCRIBE.

use super::Version;
use super::cursor::{len_len, write_u16};
use super::frame::encode_packet;
use super::{DecodeError, Frame, PacketId, PacketSet, PacketType, Properties, Reader, ReasonCode};

/// What became of the subscriptions of one SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    /// One code for each subscription in the same order [MQTT-3.8.4-6], each a [`ReasonCode`]
    /// that SUBACK may carry; before 5.0 the QoS that was granted, or 0x80.
    pub reasons: &'a [u8],
}

impl<'a> Suback<'a> {
    pub(super) fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = Properties::decode(&mut reader, version, PacketSet::SUBACK)?;
        let reasons = reader.rest();
        if reasons.is_empty() {
            return Err(DecodeError::EntriesMissing);
        }
        for &code in reasons {
            ReasonCode::decode(code, PacketSet::SUBACK)?; // [MQTT-3.9.3-2]
            if !version.is_v5() && code > ReasonCode::UnspecifiedError as u8 {
                return Err(DecodeError::ReasonCodeInvalid { code }); // 3.1.1: [MQTT-3.9.3-2]
            }
        }
        Ok(Self { packet_id, properties, reasons })
    }

    /// Bytes of the whole packet for this many reasons, without properties; of an UNSUBACK of 5.0
    /// as well, which has the same form.
    pub fn encoded_len(version: Version, reason_count: usize) -> usize {
        let body_len = 2 + Properties::EMPTY.encoded_len(version) + reason_count;
        1 + len_len(body_len) + body_len
    }

    /// Appends the packet to `out`. Before 5.0 every error is written as 0x80.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Suback.first_byte(), out, |out| {
            write_u16(out, self.packet_id.get());
            self.properties.encode(version, out);
            match version {
                Version::V5 => out.extend_from_slice(self.reasons),
                // [MQTT-3.9.3-2] of 3.1.1
                Version::V31 | Version::V311 => {
                    out.extend(self.reasons.iter().map(|&code| code.min(0x80)));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{V3, V5, accepts, encode, refuses, refuses_cut};
    use super::*;

    #[test]
    fn valid_subacks() {
        accepts(&V3, 0x90, b"\0\x01\0\x01\x02\x80");
        accepts(&V5, 0x90, b"\0\x01\0\0\x01\x02\x80\x8F\xA2");
        accepts(&V5, 0x90, b"\0\x01\x04\x1F\0\x01r\x02");
    }

    #[test]
    fn subacks_that_are_none() {
        refuses(&V3, 0x90, b"\0\0\0", DecodeError::PacketIdZero, 0x82);
        refuses(&V5, 0x90, b"\0\0\0\0", DecodeError::PacketIdZero, 0x82);
        refuses(&V3, 0x90, b"\0\x01", DecodeError::EntriesMissing, 0x82);
        refuses(&V5, 0x90, b"\0\x01\0", DecodeError::EntriesMissing, 0x82);
        refuses_cut(Version::V5, 0x90, b"\0\x01\x04\x1F\0\x01r\x02", |_| false);
        for code in (0..=0xFF).filter(|code| ![0, 1, 2, 0x80].contains(code)) {
            let error = DecodeError::ReasonCodeInvalid { code }; // 3.1.1: [MQTT-3.9.3-2]
            refuses(&V3, 0x90, &[0, 1, 0, code], error, 0x82);
        }
    }

    #[test]
    fn the_length_is_known_before() {
        let packet_id = PacketId::new(1).expect("not 0");
        for (version, count) in [(Version::V311, 1), (Version::V5, 1), (Version::V5, 124)]
            .into_iter()
            .chain([(Version::V5, 125), (Version::V5, 16_380), (Version::V5, 16_381)])
        {
            let (properties, reasons) = (Properties::EMPTY, &vec![0; count][..]);
            let suback = super::super::Packet::Suback(Suback { packet_id, properties, reasons });
            assert_eq!(encode(&suback, version).len(), Suback::encoded_len(version, count));
        }
        let unsuback =
            super::super::Unsuback { packet_id, properties: Properties::EMPTY, reasons: &[0; 200] };
        let bytes = encode(&super::super::Packet::Unsuback(unsuback), Version::V5);
        assert_eq!(bytes.len(), Suback::encoded_len(Version::V5, 200));
    }

    #[test]
    fn errors_are_one_code_before_5_0() {
        let packet_id = PacketId::new(1).expect("not 0");
        let reasons = &[0x02, 0x87, 0x80, 0x00];
        let suback = Suback { packet_id, properties: Properties::EMPTY, reasons };
        let bytes = encode(&super::super::Packet::Suback(suback), Version::V311);
        assert_eq!(bytes, b"\x90\x06\0\x01\x02\x80\x80\0");
    }
}
