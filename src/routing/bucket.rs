//! A few filters in one piece. To look at all of them costs about as much as one more step down
//! the trie, since their signatures lie side by side.

use super::signature::Signature;
use crate::arena::Key;

/// Filters whose first levels are the same, by key, in no order.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Of the levels that follow those that are the same.
    pub(super) signature: Signature,
    pub(super) key: Key,
}

impl Bucket {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Reads a word of each part, so that all lies in a cache when it is looked through.
    pub(super) fn fetch(&self) -> usize {
        // Four entries are a cache line, and the processor fetches two of them together.
        self.entries.iter().step_by(8).fold(0, |sum, entry| sum ^ entry.key.bits() as usize)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.len() == self.entries.capacity() {
            // Most buckets stay small: doubling would waste more than they need.
            self.entries.reserve_exact(2 + self.entries.len() / 4);
        }
        self.entries.push(entry);
    }

    /// Takes out the filter with this key, which is there.
    pub(super) fn remove(&mut self, key: Key) {
        let place = self.entries.iter().position(|entry| entry.key == key);
        self.entries.swap_remove(place.expect("the filter was put into this bucket"));
        if self.entries.len() < self.entries.capacity() / 2 {
            self.entries.shrink_to_fit();
        }
    }

    /// The keys of those that may match a topic that goes on like this.
    pub(super) fn candidates(&self, topic: Signature) -> impl Iterator<Item = Key> {
        let may_match = move |entry: &&Entry| entry.signature.admits(topic);
        self.entries.iter().filter(may_match).map(|entry| entry.key)
    }

    /// The keys of those whose signature is this one.
    pub(super) fn twins(&self, signature: Signature) -> impl Iterator<Item = Key> {
        let same = move |entry: &&Entry| entry.signature == signature;
        self.entries.iter().filter(same).map(|entry| entry.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_filters_fit_into_a_cache_line() {
        assert_eq!(size_of::<Entry>(), 16);
    }
}
