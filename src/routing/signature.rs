//! The next levels of a filter or a topic in eight bytes, so that most filters that do not match
//! are rejected without reading them.

use super::level::{after, level_at};
use ahash::RandomState;

/// A byte for each of the next [`Self::LEVELS`] levels, the nearest in the lowest. Whatever a
/// filter matches its signature admits; of a hundred topics that differ from it in a level, it
/// admits one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature(u64);

/// Of a level that a wildcard stands for. Whatever else there is has the highest bit set.
const ANY: u8 = 0;
/// Of every level behind the last one.
const END: u8 = u8::MAX;

/// The lower seven bits of every byte.
const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;

impl Signature {
    /// How many levels it covers.
    pub(super) const LEVELS: usize = 8;

    /// Of a filter, from the level on that starts at `start`.
    pub(super) fn of_filter(filter: &str, mut start: usize, hasher: &RandomState) -> Self {
        let mut codes = [END; Self::LEVELS];
        for depth in 0..Self::LEVELS {
            let Some(level) = level_at(filter, start) else { break };
            match level {
                "#" => {
                    codes[depth..].fill(ANY); // also the end: the parent level, section 4.7.1.2
                    break;
                }
                "+" => codes[depth] = ANY,
                _ => codes[depth] = code(hasher.hash_one(level)),
            }
            start = after(start, level);
        }
        Self(u64::from_le_bytes(codes))
    }

    /// Whether a filter with this signature may match a topic with that one.
    pub(super) fn admits(self, topic: Self) -> bool {
        // A byte of the difference is below 128 if the filter has a name there, and zero if that
        // is the name of the topic.
        let difference = self.0 ^ topic.0;
        !difference & ((difference & LOW) + LOW) & !LOW == 0
    }

    /// Without its first level and with one more at its end.
    fn followed_by(self, code: u8) -> Self {
        Self(self.0 >> 8 | u64::from(code) << 56)
    }

    pub(super) fn halves(self) -> [u32; 2] {
        [self.0 as u32, (self.0 >> 32) as u32]
    }

    pub(super) fn from_halves([low, high]: [u32; 2]) -> Self {
        Self(u64::from(high) << 32 | u64::from(low))
    }
}

fn code(hash: u64) -> u8 {
    0x80 | (hash >> 57) as u8
}

/// A topic, level by level.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    topic: &'a str,
    hasher: &'a RandomState,
    /// The last levels that were read with their hashes, by depth.
    window: [(Option<&'a str>, u64); WINDOW],
    depth: usize,
    start: usize,
    /// Where the first level starts that was not read yet.
    unread: usize,
    signature: Signature,
}

/// At least [`Signature::LEVELS`] and the one that the topic is at.
const WINDOW: usize = 16;

/// What a topic says at one depth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    /// The level; `None` if the topic has ended.
    pub(super) level: Option<&'a str>,
    /// The hash of the level.
    pub(super) hash: u64,
    /// Where in the topic the level starts.
    pub(super) start: usize,
    /// Of the levels that follow.
    pub(super) signature: Signature,
}

impl<'a> Steps<'a> {
    pub(super) fn new(topic: &'a str, hasher: &'a RandomState) -> Self {
        let (window, signature) = ([(None, 0); WINDOW], Signature(0));
        let mut steps = Self { topic, hasher, window, depth: 0, start: 0, unread: 0, signature };
        for depth in 0..=Signature::LEVELS {
            steps.read(depth);
        }
        steps
    }

    /// What the topic says at the next depth. It may be asked once after the last level.
    pub(super) fn next(&mut self) -> Step<'a> {
        let (level, hash) = self.window[self.depth % WINDOW];
        let step = Step { level, hash, start: self.start, signature: self.signature };
        self.start = after(self.start, level.unwrap_or_default());
        self.depth += 1;
        self.read(self.depth + Signature::LEVELS);
        step
    }

    fn read(&mut self, depth: usize) {
        let level = level_at(self.topic, self.unread);
        let hash = level.map_or(0, |level| self.hasher.hash_one(level));
        self.window[depth % WINDOW] = (level, hash);
        self.unread = level.map_or(self.unread, |level| after(self.unread, level));
        self.signature = self.signature.followed_by(level.map_or(END, |_| code(hash)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use proptest::prelude::*;

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    /// The signature of a topic without its first level.
    fn behind_the_first(topic: &str) -> Signature {
        Steps::new(topic, &hasher()).next().signature
    }

    #[test]
    fn a_topic_is_walked_level_by_level() {
        let topic = "/a//bc/0/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19";
        let hasher = hasher();
        let (mut steps, mut start) = (Steps::new(topic, &hasher), 0);
        for level in topic.split('/') {
            let step = steps.next();
            assert_eq!((step.level, step.start), (Some(level), start));
            assert_eq!(step.hash, hasher.hash_one(level));
            start = after(start, level);
            assert_eq!(step.signature, Signature::of_filter(topic, start, &hasher), "{level}");
        }
        let step = steps.next();
        assert_eq!((step.level, step.start), (None, topic.len() + 1));
    }

    #[test]
    fn every_level_that_is_covered_tells_filters_apart() {
        let levels: Vec<_> = (0..=Signature::LEVELS + 1).map(|depth| depth.to_string()).collect();
        let topic = behind_the_first(&levels.join("/"));
        for depth in 1..levels.len() {
            for (level, admitted) in [("+", true), ("other", depth > Signature::LEVELS)] {
                let mut filter = levels.clone();
                filter[depth] = level.to_owned();
                let signature = Signature::of_filter(&filter[1..].join("/"), 0, &hasher());
                assert_eq!(signature.admits(topic), admitted, "{filter:?}");
            }
            let shorter = Signature::of_filter(&levels[1..depth.max(2)].join("/"), 0, &hasher());
            assert_eq!(shorter.admits(topic), depth > Signature::LEVELS, "{depth}");
        }
    }

    proptest! {
        #[test]
        fn what_matches_is_admitted(filter in naive::filter(), topic in naive::topic()) {
            let signature = Signature::of_filter(&filter, 0, &hasher());
            let topic_signature = behind_the_first(&format!("x/{topic}"));
            let matches = naive::matches(&format!("x/{filter}"), &format!("x/{topic}"));
            prop_assert!(signature.admits(topic_signature) || !matches);
        }
    }
}
