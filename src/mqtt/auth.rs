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
