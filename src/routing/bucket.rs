//! A few filters in one piece. To look at all of them costs about as much as one more step down
//! the trie, since their signatures lie side by side.

use super::signature::Signature;
use crate::arena::Key;

/// Filters whose first levels are the same, by key, in no order.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// The signatures, two words each, and behind them the keys in the same order: a match reads
    /// the keys of few.
    words: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Of the levels that follow those that are the same.
    pub(super) signature: Signature,
    pub(super) key: Key,
}

/// Words of an entry, and those of them that are its signature.
const ENTRY_WORDS: usize = 3;
const SIGNATURE_WORDS: usize = 2;

impl Bucket {
    pub(super) fn len(&self) -> usize {
        self.words.len() / ENTRY_WORDS
    }

    /// In no order that matters.
    pub(super) fn keys(&self) -> impl ExactSizeIterator<Item = Key> {
        self.words[self.len() * SIGNATURE_WORDS..].iter().map(key)
    }

    /// Reads a word of each part that is looked through, so that all of it lies in a cache then.
    pub(super) fn fetch(&self) -> usize {
        // A cache line is 16 words.
        let signatures = &self.words[..self.len() * SIGNATURE_WORDS];
        signatures.iter().step_by(16).fold(0, |sum, word| sum ^ *word as usize)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let len = self.len();
        if self.words.len() == self.words.capacity() {
            // Most buckets stay small: doubling would waste more than they need.
            self.words.reserve_exact(ENTRY_WORDS * (2 + len / 4));
        }
        let behind = len * SIGNATURE_WORDS;
        self.words.splice(behind..behind, entry.signature.halves());
        self.words.push(entry.key.bits());
    }

    /// Takes out the filter with this key, which is there.
    pub(super) fn remove(&mut self, key: Key) {
        let place = self.keys().position(|other| other == key);
        let place = place.expect("the filter was put into this bucket");
        let last = (self.len() - 1) * SIGNATURE_WORDS;
        let last = last..last + SIGNATURE_WORDS;
        let words = &mut self.words;
        words.swap_remove(last.end + place);
        words.copy_within(last.clone(), place * SIGNATURE_WORDS);
        words.drain(last);
        if words.len() < words.capacity() / 2 {
            words.shrink_to_fit();
        }
    }

    /// The keys of those that may match a topic that goes on like this.
    pub(super) fn candidates(&self, topic: Signature) -> impl Iterator<Item = Key> {
        self.keys_of(move |signature| signature.admits(topic))
    }

    /// The keys of those whose signature is this one.
    pub(super) fn twins(&self, signature: Signature) -> impl Iterator<Item = Key> {
        self.keys_of(move |other| other == signature)
    }

    fn keys_of(&self, is_wanted: impl Fn(Signature) -> bool) -> impl Iterator<Item = Key> {
        let (signatures, keys) = self.words.split_at(self.len() * SIGNATURE_WORDS);
        let signatures =
            signatures.as_chunks().0.iter().map(|halves| Signature::from_halves(*halves));
        let wanted = signatures.zip(keys).filter(move |(signature, _)| is_wanted(*signature));
        wanted.map(|(_, bits)| key(bits))
    }
}

fn key(bits: &u32) -> Key {
    Key::from_bits(*bits).expect("keys alone were put there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ahash::RandomState;

    #[test]
    fn entries_come_and_go_in_any_order() {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let entry = |number: u32| Entry {
            signature: Signature::of_filter(&number.to_string(), 0, &hasher),
            key: Key::from_bits(number + 1).expect("above zero"),
        };
        let mut bucket = Bucket::default();
        (0..9).for_each(|number| bucket.push(entry(number)));
        for (gone, left) in [(8, 0..8), (0, 1..8), (1, 2..8)] {
            bucket.remove(entry(gone).key);
            assert_eq!(bucket.len(), left.len());
            assert_eq!(bucket.twins(entry(gone).signature).next(), None);
            for number in left {
                assert!(bucket.twins(entry(number).signature).eq([entry(number).key]));
                assert!(
                    bucket.candidates(entry(number).signature).any(|key| key == entry(number).key)
                );
            }
        }
    }
}
