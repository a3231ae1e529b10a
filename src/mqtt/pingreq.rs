//! PINGREQ and PINGRESP: two bytes each.

use super::{DecodeError, Frame, PacketType, Reader};

/// Both are nothing but a fixed header.
pub(super) const fn decode(frame: Frame<'_>) -> Result<(), DecodeError> {
    Reader::new(frame.body).finish()
}

pub(super) fn encode(kind: PacketType, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind.first_byte(), 0]);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ALL, accepts, refuses};
    use super::*;

    #[test]
    fn pings_are_empty() {
        for first_byte in [0xC0, 0xD0] {
            accepts(&ALL, first_byte, b"");
            refuses(&ALL, first_byte, b"\0", DecodeError::TrailingBytes, 0x81);
        }
    }
}
