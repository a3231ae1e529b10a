//! A shared piece of memory that is charged to the shard that made it, once for all its holders.

use std::fmt;

use triomphe::{Arc, HeaderSlice};

use crate::metrics::{Meter, allocated};

/// Bytes are written in lots of this size.
const LOT_BYTES: usize = 16;
/// From here on memory is filled with zeros by the system, and copied once more.
const LARGE_BYTES: usize = 4096;
/// What lies before the bytes: the count of holders and [`Header`].
const HEADER_BYTES: usize = size_of::<usize>() + size_of::<Header>();

type Lot = [u8; LOT_BYTES];

/// Several byte strings, one behind the other, in one allocation with the count of their holders.
#[derive(Clone)]
pub(super) struct Piece(Arc<HeaderSlice<Header, [Lot]>>);

/// Charged to `meter` until it is dropped with the memory behind it.
struct Header {
    len: usize,
    meter: Meter,
}

impl Header {
    fn new(len: usize, meter: Meter) -> Self {
        meter.add(memory_bytes(len));
        Self { len, meter }
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        self.meter.sub(memory_bytes(self.len));
    }
}

/// Bytes of memory that a piece of `len` bytes takes.
const fn memory_bytes(len: usize) -> usize {
    allocated(HEADER_BYTES + len.next_multiple_of(LOT_BYTES))
}

impl Piece {
    /// Copies `parts` behind one another.
    pub(super) fn join(parts: [&[u8]; 3], meter: Meter) -> Self {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let lot_count = len.div_ceil(LOT_BYTES);
        let header = Header::new(len, meter);
        if len >= LARGE_BYTES {
            let mut lots = vec![[0; LOT_BYTES]; lot_count];
            fill(&mut lots, parts);
            return Self(Arc::from_header_and_vec(header, lots));
        }
        let zeros = std::iter::repeat_n([0; LOT_BYTES], lot_count);
        let mut piece = Arc::from_header_and_iter(header, zeros);
        fill(&mut Arc::get_mut(&mut piece).expect("it has no other holder yet").slice, parts);
        Self(piece)
    }
}

fn fill(lots: &mut [Lot], parts: [&[u8]; 3]) {
    let mut rest = lots.as_flattened_mut();
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0.slice.as_flattened()[..self.0.header.len]
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Piece {}

impl fmt::Debug for Piece {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_behind_one_another_whatever_their_size() {
        for len in [0, 1, 14, 15, 16, 17, LARGE_BYTES - 2, LARGE_BYTES, 3 * LARGE_BYTES + 5] {
            let part = vec![7; len];
            let piece = Piece::join([b"a", &part, b"b"], Meter::default());
            assert_eq!(piece.as_ref(), [b"a", &*part, b"b"].concat(), "{len}");
        }
    }

    #[test]
    fn a_piece_is_charged_once_and_until_its_last_holder_has_gone() {
        let meter = Meter::new();
        let piece = Piece::join([b"abc", b"", &[7; 1000]], meter);
        let charged = meter.bytes();
        assert!((1000..1100).contains(&charged), "{charged}");
        let other = piece.clone();
        assert_eq!(meter.bytes(), charged);
        drop(piece);
        assert_eq!(meter.bytes(), charged);
        drop(other);
        assert_eq!(meter.bytes(), 0);
    }
}
