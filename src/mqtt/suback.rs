//! SUBACK: the answer to SUBSCRIBE.

use super::Version;
use super::cursor::write_u16;
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
            let reason = ReasonCode::decode(code, PacketSet::SUBACK)?;
            if !version.is_v5() && code > ReasonCode::UnspecifiedError as u8 {
                return Err(DecodeError::ReasonCodeInvalid { code }); // 3.1.1: [MQTT-3.9.3-2]
            }
            debug_assert_eq!(reason as u8, code);
        }
        Ok(Self { packet_id, properties, reasons })
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
