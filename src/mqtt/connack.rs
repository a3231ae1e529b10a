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
