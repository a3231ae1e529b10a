//! DISCONNECT: the last packet of a connection.

use super::frame::encode_packet;
use super::{DecodeError, Frame, PacketSet, PacketType, Properties, Reader, ReasonCode, Version};

/// One side is about to close the connection. Before 5.0 only the client sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Before 5.0 always [`ReasonCode::NORMAL_DISCONNECTION`].
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// Without properties.
    pub const fn because(reason: ReasonCode) -> Self {
        Self { reason, properties: Properties::EMPTY }
    }

    pub(super) fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let mut disconnect = Self::because(ReasonCode::NORMAL_DISCONNECTION);
        // 3.14.2.1, 3.14.2.2.1: what is left out is 0.
        if version.is_v5() && !reader.is_empty() {
            disconnect.reason = ReasonCode::decode(reader.u8()?, PacketSet::DISCONNECT)?;
        }
        if version.is_v5() && !reader.is_empty() {
            disconnect.properties =
                Properties::decode(&mut reader, version, PacketSet::DISCONNECT)?;
        }
        reader.finish().map(|()| disconnect)
    }

    /// Appends the packet to `out` in its shortest form.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Disconnect.first_byte(), out, |out| {
            let has_properties = version.is_v5() && !self.properties.is_empty();
            if has_properties
                || (version.is_v5() && self.reason != ReasonCode::NORMAL_DISCONNECTION)
            {
                out.push(self.reason as u8);
            }
            if has_properties {
                self.properties.encode(version, out);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        ALL, V3, V5, accepts, accepts_as, encode, packet, refuses, refuses_cut,
    };
    use super::*;

    #[test]
    fn valid_disconnects() {
        accepts(&ALL, 0xE0, b"");
        accepts(&V5, 0xE0, b"\x04");
        accepts(&V5, 0xE0, b"\x8E\x04\x1F\0\x01r");
        accepts(&V5, 0xE0, b"\0\x05\x11\0\0\0\x01");
        accepts_as(&V5, 0xE0, b"\0", &packet(0xE0, b"")); // 3.14.2.1
        accepts_as(&V5, 0xE0, b"\0\0", &packet(0xE0, b""));
        accepts_as(&V5, 0xE0, b"\x04\0", &packet(0xE0, b"\x04")); // 3.14.2.2.1
    }

    #[test]
    fn disconnects_that_are_none() {
        refuses(&V3, 0xE0, b"\0", DecodeError::TrailingBytes, 0x81); // 3.1.1: no variable header
        refuses(&V5, 0xE0, b"\0\0\0", DecodeError::TrailingBytes, 0x81);
        refuses_cut(Version::V5, 0xE0, b"\0\x05\x11\0\0\0\x01", |len| len < 2);
    }

    #[test]
    fn the_reason_is_not_written_before_5_0() {
        let disconnect = Disconnect::because(ReasonCode::ServerShuttingDown);
        let packet = super::super::Packet::Disconnect(disconnect);
        assert_eq!(encode(&packet, Version::V311), b"\xE0\0");
        assert_eq!(encode(&packet, Version::V5), b"\xE0\x01\x8B");
    }
}
