//! PINGREQ and PINGRESP: two bytes each.

use super::{DecodeError, Frame, PacketType, Reader};

/// Both are nothing but a fixed header.
pub(super) const fn decode(frame: Frame<'_>) -> Result<(), DecodeError> {
    Reader::new(frame.body).finish()
}

pub(super) fn encode(kind: PacketType, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind.first_byte(), 0]);
}
