//! Primitives of the wire: a reader over a slice, and functions that append to a vector.

use super::{DecodeError, PacketId};

/// The largest value of a variable byte integer, which is also the largest remaining length.
pub const VARINT_MAX: u32 = 268_435_455;

/// Reads primitives from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the first byte of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses bytes after the last field.
    #[inline]
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer in the fewest bytes that hold it.
    #[inline]
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        if let Some((&byte @ ..0x80, rest)) = self.rest.split_first() {
            self.rest = rest; // As nearly all are.
            return Ok(byte.into());
        }
        let (value, len) = varint(self.rest)?.ok_or(DecodeError::Truncated)?;
        if len != varint_len(value) {
            return Err(DecodeError::VarintNotMinimal); // [MQTT-1.5.5-1]
        }
        self.rest = &self.rest[len..];
        Ok(value)
    }

    #[inline]
    pub fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        // [MQTT-2.2.1-3], 3.1.1: [MQTT-2.3.1-1]
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// Bytes behind a two-byte length.
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A string behind a two-byte length.
    #[inline]
    pub fn utf8(&mut self) -> Result<&'a str, DecodeError> {
        let text = self.utf8_with_nul()?;
        if text.as_bytes().contains(&0) {
            return Err(DecodeError::Utf8Nul); // [MQTT-1.5.4-2]
        }
        Ok(text)
    }

    /// A string whose bytes the caller scans anyway, and then also for U+0000.
    #[inline]
    pub(super) fn utf8_with_nul(&mut self) -> Result<&'a str, DecodeError> {
        // [MQTT-1.5.4-1]; Rust's notion of UTF-8 excludes surrogates too.
        std::str::from_utf8(self.binary()?).map_err(|_| DecodeError::Utf8IllFormed)
    }
}

/// The variable byte integer at the head of `bytes` and its length in bytes, which need not be
/// the shortest; `None` if it is not complete.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(DecodeError::VarintTooLong) } else { Ok(None) }
}

/// How many bytes `value` takes.
#[inline]
pub(super) const fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

#[inline]
pub(super) fn write_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn write_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u32) {
    assert!(value <= VARINT_MAX, "a length or identifier is at most {VARINT_MAX}");
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length that is known to be an encoded one, as a variable byte integer holds it.
#[inline]
pub(super) fn write_len(out: &mut Vec<u8>, len: usize) {
    write_varint(out, u32::try_from(len).unwrap_or(u32::MAX));
}

/// How many bytes a length prefix takes.
#[inline]
pub(super) fn len_len(len: usize) -> usize {
    varint_len(u32::try_from(len).unwrap_or(u32::MAX))
}

#[inline]
pub(super) fn write_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let len =
        u16::try_from(bytes.len()).expect("fields of our own packets are at most 65,535 bytes");
    write_u16(out, len);
    out.extend_from_slice(bytes);
}

#[inline]
pub(super) fn write_utf8(out: &mut Vec<u8>, text: &str) {
    write_binary(out, text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_big_endian() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.u8(), Err(DecodeError::Truncated));
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(Reader::new(&[1]).u16(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[1, 2, 3]).u32(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[0]).finish(), Err(DecodeError::TrailingBytes));
    }

    /// Table 1-1 of 5.0.
    #[test]
    fn variable_byte_integers() {
        for (value, bytes) in [
            (0, &[0x00_u8] as &[u8]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (VARINT_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
            assert_eq!(varint_len(value), bytes.len());
            let mut out = vec![];
            write_varint(&mut out, value);
            assert_eq!(out, bytes);
            let cut = Reader::new(&bytes[..bytes.len() - 1]).varint();
            assert_eq!(cut, Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn variable_byte_integers_that_are_none() {
        for overlong in
            [&[0x80_u8, 0] as &[u8], &[0xFF, 0], &[0x80, 0x80, 0], &[0x80, 0x80, 0x80, 0]]
        {
            // [MQTT-1.5.5-1]
            assert_eq!(Reader::new(overlong).varint(), Err(DecodeError::VarintNotMinimal));
        }
        for endless in [&[0x80_u8; 4] as &[u8], &[0xFF, 0xFF, 0xFF, 0x80, 0x01], &[0xFF; 9]] {
            assert_eq!(Reader::new(endless).varint(), Err(DecodeError::VarintTooLong));
        }
    }

    #[test]
    #[should_panic(expected = "at most 268435455")]
    fn nothing_larger_than_a_variable_byte_integer_is_written() {
        write_len(&mut vec![], VARINT_MAX as usize + 1);
    }

    #[test]
    fn strings_are_utf8() {
        for good in ["", "a", "\u{1}", "\u{7f}", "\u{feff}a", "\u{ffff}", "\u{2a6d4}", "\u{10ffff}"]
        {
            let mut bytes = vec![];
            write_utf8(&mut bytes, good);
            assert_eq!(Reader::new(&bytes).utf8(), Ok(good)); // [MQTT-1.5.4-3]: U+FEFF stays
        }
        // [MQTT-1.5.4-1], 3.1.1: [MQTT-1.5.3-1]
        for bad in [
            b"\0\x01\x80" as &[u8],            // a continuation without a start
            b"\0\x02a\xC3",                    // cut in a character
            b"\0\x02\xC0\x80",                 // overlong U+0000
            b"\0\x03\xE0\x80\xAF",             // overlong /
            b"\0\x03\xED\xA0\x80",             // U+D800
            b"\0\x03\xED\xBF\xBF",             // U+DFFF
            b"\0\x06\xED\xA0\xBD\xED\xB8\x80", // a surrogate pair
            b"\0\x04\xF4\x90\x80\x80",         // beyond U+10FFFF
            b"\0\x01\xFE",
        ] {
            assert_eq!(Reader::new(bad).utf8(), Err(DecodeError::Utf8IllFormed), "{bad:02x?}");
        }
        // [MQTT-1.5.4-2], 3.1.1: [MQTT-1.5.3-2]
        assert_eq!(Reader::new(b"\0\x03a\0b").utf8(), Err(DecodeError::Utf8Nul));
        assert_eq!(Reader::new(b"\0\x03ab").utf8(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(b"\0").utf8(), Err(DecodeError::Truncated));
    }

    #[test]
    fn packet_identifiers_are_not_0() {
        assert_eq!(Reader::new(&[0, 0]).packet_id(), Err(DecodeError::PacketIdZero));
        assert_eq!(Reader::new(&[1, 0]).packet_id().map(PacketId::get), Ok(256));
        assert_eq!(Reader::new(&[1]).packet_id(), Err(DecodeError::Truncated));
    }
}
