//! Keys in an order that their owner knows, in four bytes each.
//!
//! They lie in chunks of bounded length. To find a place takes a binary search over the last keys
//! of the chunks and one within a chunk; to add or take out a key moves what follows in its chunk.

use crate::arena::Key;

/// A list of keys whose order is the caller's.
#[derive(Clone, Debug, Default)]
pub(super) struct Sorted {
    /// None is empty, and none is longer than [`CHUNK_LEN_MAX`].
    chunks: Vec<Vec<Key>>,
    len: usize,
}

/// A place in a [`Sorted`], for as long as that does not change: a key or, behind the last one,
/// the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) chunk: usize,
    pub(super) index: usize,
}

/// What came of adding a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// The chunk that it is in.
    pub(super) chunk: usize,
    /// A chunk that is new, with keys of the one before it.
    pub(super) new_chunk: Option<usize>,
}

/// Moving half a chunk takes a fraction of the search that goes before it.
const CHUNK_LEN_MAX: usize = 512;

impl Sorted {
    /// A set of one key.
    pub(super) fn of(key: Key) -> Self {
        Self { chunks: vec![vec![key]], len: 1 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The one key if there is no other.
    pub(super) fn only(&self) -> Option<Key> {
        if self.len == 1 { self.get(Place::default()) } else { None }
    }

    /// The key at a place; `None` at the end.
    pub(super) fn get(&self, place: Place) -> Option<Key> {
        self.chunks.get(place.chunk)?.get(place.index).copied()
    }

    /// The place that follows one that has a key.
    pub(super) fn after(&self, place: Place) -> Place {
        if place.index + 1 < self.chunks[place.chunk].len() {
            Place { index: place.index + 1, ..place }
        } else {
            Place { chunk: place.chunk + 1, index: 0 }
        }
    }

    /// All keys.
    pub(super) fn chunks(&self) -> &[Vec<Key>] {
        &self.chunks
    }

    /// The first place from `start` on whose key is not before what is looked for. What is
    /// nearby is found soonest.
    pub(super) fn seek(&self, start: Place, is_before: impl Fn(Key) -> bool) -> Place {
        let is_before = |key: &Key| is_before(*key);
        let ends_before = |chunk: &Vec<Key>| chunk.last().is_some_and(is_before);
        match self.chunks.get(start.chunk..) {
            None | Some([]) => start,
            Some([first, ..]) if !ends_before(first) => {
                let passed = first[start.index..].partition_point(is_before);
                Place { index: start.index + passed, ..start }
            }
            Some([_, others @ ..]) => {
                let passed = others.partition_point(ends_before);
                let index = others.get(passed).map_or(0, |chunk| chunk.partition_point(is_before));
                Place { chunk: start.chunk + 1 + passed, index }
            }
        }
    }

    /// Adds a key at a place that was sought for it.
    pub(super) fn insert(&mut self, place: Place, key: Key) -> Added {
        self.len += 1;
        let (Place { chunk, index }, new_chunk) = self.make_room(place);
        let keys = &mut self.chunks[chunk];
        if keys.len() == keys.capacity() {
            // Most stay small, and there are many: doubling would waste more than they need.
            let more = 1 + keys.len() / 4;
            keys.reserve_exact(more.min(CHUNK_LEN_MAX - keys.len()));
        }
        keys.insert(index, key);
        Added { chunk, new_chunk }
    }

    /// Takes out the key at a place. Returns the chunk that has gone with that; what it still had
    /// is in the one before it.
    pub(super) fn remove(&mut self, place: Place) -> Option<usize> {
        self.len -= 1;
        let keys = &mut self.chunks[place.chunk];
        keys.remove(place.index);
        if keys.is_empty() {
            return Some(self.remove_chunk(place.chunk));
        }
        if keys.len() < keys.capacity() / 2 {
            keys.shrink_to(keys.len() + keys.len() / 4);
            return self.join(place.chunk).or_else(|| self.join(place.chunk.checked_sub(1)?));
        }
        None
    }

    /// Where a key goes that shall stand at `place`, in a chunk that is not full, and the chunk
    /// that was made for that.
    fn make_room(&mut self, place: Place) -> (Place, Option<usize>) {
        let at_end = place.chunk == self.chunks.len();
        let Place { chunk, index } = if at_end { self.behind_last() } else { place };
        let Some(keys) = self.chunks.get_mut(chunk).filter(|keys| keys.len() == CHUNK_LEN_MAX)
        else {
            let is_new = index == 0 && self.len == 1;
            return (Place { chunk, index }, is_new.then_some(chunk));
        };
        // What comes in order fills its chunks.
        let kept = if at_end { CHUNK_LEN_MAX } else { CHUNK_LEN_MAX / 2 };
        let moved = keys.split_off(kept);
        keys.shrink_to_fit();
        self.chunks.insert(chunk + 1, moved);
        let place = match index.checked_sub(kept) {
            Some(index) => Place { chunk: chunk + 1, index },
            None => Place { chunk, index },
        };
        (place, Some(chunk + 1))
    }

    /// Behind the last key, in its chunk; if there is none, in a new one.
    fn behind_last(&mut self) -> Place {
        if self.chunks.is_empty() {
            self.chunks = vec![Vec::new()];
        }
        let chunk = self.chunks.len() - 1;
        Place { chunk, index: self.chunks[chunk].len() }
    }

    /// Puts the chunk that follows into this one if that is not half full then.
    fn join(&mut self, chunk: usize) -> Option<usize> {
        let [keys, next, ..] = self.chunks.get_mut(chunk..)? else { return None };
        if keys.len() + next.len() >= CHUNK_LEN_MAX / 2 {
            return None;
        }
        keys.reserve_exact(next.len());
        keys.append(next);
        Some(self.remove_chunk(chunk + 1))
    }

    fn remove_chunk(&mut self, chunk: usize) -> usize {
        self.chunks.remove(chunk);
        let len = self.chunks.len();
        if len < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(len * 2);
        }
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::ops::Range;

    fn key(number: u32) -> Key {
        Key::from_bits(number + 1).expect("it is not zero")
    }

    /// A list in the order of numbers and its model, changed together.
    #[derive(Default)]
    struct Pair {
        sorted: Sorted,
        model: BTreeSet<u32>,
    }

    impl Pair {
        /// Adds every `step`th of these numbers unless it is there, or takes it out if it is.
        fn change(&mut self, add: bool, numbers: Range<u32>, step: usize) {
            for number in numbers.step_by(step) {
                let place = self.sorted.seek(Place::default(), |other| other < key(number));
                let is_there = self.sorted.get(place) == Some(key(number));
                assert_eq!(is_there, self.model.contains(&number));
                if add && !is_there {
                    self.insert(place, number);
                } else if !add && is_there {
                    self.remove(place, number);
                }
            }
            self.check();
        }

        fn insert(&mut self, place: Place, number: u32) {
            let chunk_count = self.sorted.chunks.len();
            let added = self.sorted.insert(place, key(number));
            assert!(self.sorted.chunks[added.chunk].contains(&key(number)));
            let grown = self.sorted.chunks.len() - chunk_count;
            assert_eq!(added.new_chunk.iter().count(), grown);
            self.model.insert(number);
        }

        fn remove(&mut self, place: Place, number: u32) {
            let chunk_count = self.sorted.chunks.len();
            let gone = self.sorted.remove(place);
            assert_eq!(gone.iter().count(), chunk_count - self.sorted.chunks.len());
            self.model.remove(&number);
        }

        /// That nothing is lost, out of order, empty, too long or much larger than it must be.
        fn check(&self) {
            let (mut place, mut keys) = (Place::default(), Vec::new());
            while let Some(key) = self.sorted.get(place) {
                keys.push(key);
                place = self.sorted.after(place);
            }
            assert_eq!(keys, self.model.iter().copied().map(key).collect::<Vec<_>>());
            assert_eq!(self.sorted.len(), self.model.len());
            for chunk in &self.sorted.chunks {
                assert!((1..=CHUNK_LEN_MAX).contains(&chunk.len()));
                assert!(chunk.capacity() <= CHUNK_LEN_MAX && chunk.len() >= chunk.capacity() / 2);
            }
            assert!(self.sorted.chunks.len() >= self.sorted.chunks.capacity() / 4);
        }
    }

    const MANY: u32 = 20 * CHUNK_LEN_MAX as u32;

    #[test]
    fn keys_that_come_in_order_fill_their_chunks() {
        let mut pair = Pair::default();
        pair.change(true, 0..MANY, 1);
        assert_eq!(pair.sorted.chunks.len(), 20);
    }

    #[test]
    fn a_list_gives_back_what_it_no_longer_needs() {
        let mut pair = Pair::default();
        pair.change(true, 0..MANY, 1);
        for end in (0..MANY).step_by(1000) {
            pair.change(false, 0..end, 2);
            pair.change(false, 0..end, 3);
        }
        let chunks_max = pair.sorted.len() / (CHUNK_LEN_MAX / 8) + 1;
        assert!(pair.sorted.chunks.len() <= chunks_max, "{}", pair.sorted.chunks.len());
        pair.change(false, 0..MANY, 1);
        assert_eq!(pair.sorted.chunks.capacity(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn it_holds_what_a_set_holds(
            steps in prop::collection::vec(
                (any::<bool>(), 0_u32..3000, 0_u32..3000, 1_usize..9), 0..20,
            ),
            seeks in prop::collection::vec((0_u32..3000, 0_u32..3000), 20),
        ) {
            let mut pair = Pair::default();
            for (add, one, other, step) in steps {
                pair.change(add, one.min(other)..one.max(other), step);
            }
            for (start, wanted) in seeks {
                let from = pair.sorted.seek(Place::default(), |other| other < key(start));
                let place = pair.sorted.seek(from, |other| other < key(wanted));
                let first = pair.model.range(start.max(wanted)..).next();
                prop_assert_eq!(pair.sorted.get(place), first.copied().map(key));
            }
        }
    }
}
