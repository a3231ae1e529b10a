//! CONNACK: the answer to CONNECT.

use super::frame::encode_packet;
use super::{DecodeError, Frame, PacketSet, PacketType, Properties, Reader, ReasonCode, Version};

/// The server accepts or refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Does not exist in 3.1, where it is read and written as `false`.
    pub session_present: bool,
    /// Before 5.0 a return code, see [`ReasonCode::v311_connect_return_code`].
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

const SESSION_PRESENT: u8 = 1;

impl<'a> Connack<'a> {
    pub(super) fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let flags = reader.u8()?;
        let reason = decode_reason(reader.u8()?, version)?;
        let properties = Properties::decode(&mut reader, version, PacketSet::CONNACK)?;
        reader.finish()?;
        if version == Version::V31 {
            return Ok(Self { session_present: false, reason, properties });
        }
        if flags & !SESSION_PRESENT != 0 {
            return Err(DecodeError::ConnackFlagsReserved); // [MQTT-3.2.2-1]
        }
        let session_present = flags != 0;
        if session_present && reason != ReasonCode::Success {
            return Err(DecodeError::SessionPresentWithError); // [MQTT-3.2.2-6]
        }
        Ok(Self { session_present, reason, properties })
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Connack.first_byte(), out, |out| {
            let session_present = self.session_present && version != Version::V31;
            out.push(if session_present { SESSION_PRESENT } else { 0 });
            out.push(match version {
                Version::V5 => self.reason as u8,
                Version::V31 | Version::V311 => self.reason.v311_connect_return_code(),
            });
            self.properties.encode(version, out);
        });
    }
}

fn decode_reason(code: u8, version: Version) -> Result<ReasonCode, DecodeError> {
    if version.is_v5() {
        return ReasonCode::decode(code, PacketSet::CONNACK);
    }
    ReasonCode::from_v311_connect_return_code(code).ok_or(DecodeError::ReasonCodeInvalid { code })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        STRICT, V3, V5, V31, V311, accepts, accepts_as, encode, packet, refuses, refuses_cut,
    };
    use super::*;

    #[test]
    fn valid_connacks() {
        accepts(&V3, 0x20, b"\0\0");
        accepts(&V311, 0x20, b"\x01\0");
        accepts(&V5, 0x20, b"\0\0\0");
        accepts(&V5, 0x20, b"\x01\0\0");
        accepts(&V5, 0x20, b"\0\x87\x06\x26\0\x01k\0\0");
        refuses_cut(Version::V311, 0x20, b"\0\0", |_| false);
        refuses_cut(Version::V5, 0x20, b"\x01\0\x03\x21\0\x0A", |_| false);
        refuses(&V3, 0x20, b"\0\0\0", DecodeError::TrailingBytes, 0x81);
        refuses(&V5, 0x20, b"\0\0\0\0", DecodeError::TrailingBytes, 0x81);
    }

    #[test]
    fn flags() {
        for flags in 2..=0xFF {
            let error = DecodeError::ConnackFlagsReserved; // [MQTT-3.2.2-1]
            refuses(&V311, 0x20, &[flags, 0], error, 0x81);
            refuses(&V5, 0x20, &[flags, 0, 0], error, 0x81);
            accepts_as(&V31, 0x20, &[flags, 0], &packet(0x20, &[0, 0])); // not used in 3.1
        }
        let error = DecodeError::SessionPresentWithError; // [MQTT-3.2.2-6], 3.1.1: [MQTT-3.2.2-4]
        refuses(&V311, 0x20, b"\x01\x05", error, 0x82);
        refuses(&V5, 0x20, b"\x01\x87\0", error, 0x82);
    }

    #[test]
    fn a_refusal_of_5_0_is_said_as_3_1_1_can_say_it() {
        let refusal = super::super::Packet::Connack(Connack {
            session_present: false,
            reason: ReasonCode::Banned,
            properties: Properties::EMPTY,
        });
        assert_eq!(encode(&refusal, Version::V311), b"\x20\x02\0\x05");
        assert_eq!(encode(&refusal, Version::V5), b"\x20\x03\0\x8A\0");
        assert!(STRICT.iter().all(|&version| encode(&refusal, version)[0] == 0x20));
    }
}
