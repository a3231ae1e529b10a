//! AUTH: one more step of an authentication that takes several, 5.0 only.

use super::frame::encode_packet;
use super::{DecodeError, Frame, PacketSet, PacketType, Properties, Reader, ReasonCode, Version};

/// One step of an extended authentication exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    pub reason: ReasonCode,
    /// Hold an authentication method, unless the packet is the empty one.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        if reader.is_empty() {
            // 3.15.2.1: success without properties.
            return Ok(Self { reason: ReasonCode::Success, properties: Properties::EMPTY });
        }
        let reason = ReasonCode::decode(reader.u8()?, PacketSet::AUTH)?; // [MQTT-3.15.2-1]
        let properties = Properties::decode(&mut reader, Version::V5, PacketSet::AUTH)?;
        reader.finish()?;
        if properties.authentication_method().is_none() {
            return Err(DecodeError::AuthenticationMethodMissing); // 3.15.2.2.2
        }
        Ok(Self { reason, properties })
    }

    /// Appends the packet to `out` in its shortest form.
    ///
    /// # Panics
    /// If `version` has no AUTH.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        assert!(version.is_v5(), "AUTH exists in 5.0 only");
        encode_packet(PacketType::Auth.first_byte(), out, |out| {
            if self.reason != ReasonCode::Success || !self.properties.is_empty() {
                out.push(self.reason as u8);
                self.properties.encode(version, out);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{V3, V5, accepts, refuses, refuses_cut};
    use super::*;

    #[test]
    fn valid_auths() {
        accepts(&V5, 0xF0, b""); // 3.15.2.1
        accepts(&V5, 0xF0, b"\0\x04\x15\0\x01m");
        accepts(&V5, 0xF0, b"\x18\x08\x15\0\x01m\x16\0\x01d");
        accepts(&V5, 0xF0, b"\x19\x04\x15\0\x01m");
    }

    #[test]
    fn auths_that_are_none() {
        refuses_cut(Version::V5, 0xF0, b"\x18\x08\x15\0\x01m\x16\0\x01d", |len| len == 0);
        refuses(&V5, 0xF0, b"\x18\x04\x15\0\x01m\0", DecodeError::TrailingBytes, 0x81);
        for body in [b"\x18\0" as &[u8], b"\0\0", b"\x18\x04\x16\0\x01d"] {
            let error = DecodeError::AuthenticationMethodMissing; // 3.15.2.2.2
            refuses(&V5, 0xF0, body, error, 0x82);
        }
        let error = DecodeError::PacketTypeReserved { kind: 15 }; // 3.1.1: table 2.1
        refuses(&V3, 0xF0, b"\x18\x04\x15\0\x01m", error, 0x81);
        refuses(&V3, 0xF0, b"", error, 0x81);
    }

    #[test]
    #[should_panic(expected = "5.0 only")]
    fn auth_is_not_written_for_3_1_1() {
        let auth = Auth { reason: ReasonCode::Success, properties: Properties::EMPTY };
        auth.encode(Version::V311, &mut vec![]);
    }
}
