//! Which names the levels of topics have, so that a lookup for a name that none of them has ends
//! before it begins.

use ahash::{AHashMap, RandomState};

/// Levels that are counted; the names of deeper ones are not known. They bound what a topic of
/// thousands of levels takes.
const DEPTH_MAX: usize = 16;

/// For each name at each depth, how many topics have it there.
///
/// What is kept of a name is half of its hash, so that one takes some 16 bytes. Two names that
/// look the same count as one, which makes an absent one seem present.
#[derive(Debug, Default)]
pub(super) struct Names {
    counts: AHashMap<u32, u32>,
    hasher: RandomState,
}

impl Names {
    /// A topic has come, given level by level.
    pub(super) fn add<'a>(&mut self, levels: impl Iterator<Item = &'a str>) {
        for (depth, name) in levels.take(DEPTH_MAX).enumerate() {
            let hash = self.hash(depth, name);
            *self.counts.entry(hash).or_default() += 1;
        }
    }

    /// A topic has gone that was added before.
    pub(super) fn remove<'a>(&mut self, levels: impl Iterator<Item = &'a str>) {
        for (depth, name) in levels.take(DEPTH_MAX).enumerate() {
            let hash = self.hash(depth, name);
            let count = self.counts.get_mut(&hash).expect("the topic was added");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&hash);
            }
        }
        let len = self.counts.len();
        if len < self.counts.capacity() / 8 {
            self.counts.shrink_to(len * 2);
        }
    }

    /// Whether a topic may have this name at this depth. If not, none has.
    pub(super) fn may_have(&self, depth: usize, name: &str) -> bool {
        depth >= DEPTH_MAX || self.counts.contains_key(&self.hash(depth, name))
    }

    /// How many names at how many depths there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    fn hash(&self, depth: usize, name: &str) -> u32 {
        (self.hasher.hash_one((depth, name)) >> 32) as u32
    }
}
