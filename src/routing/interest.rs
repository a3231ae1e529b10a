//! Which homes want which topics: what an owner knows about subscriptions.

use super::filters::FilterMap;
use super::partition::{ShardId, ShardSet};
use super::trie::Effort;
use ahash::RandomState;

/// The filters that homes have told this owner about. A home counts once per filter, however
/// many of its sessions subscribe; it tells of the first and of the last.
#[derive(Debug)]
pub struct Interest {
    filters: FilterMap<ShardSet>,
}

impl Interest {
    /// Makes an empty table, with hashes keyed at random.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }

    /// Makes an empty table, with hashes keyed by `seed`, which no client should know.
    pub fn with_seed(seed: [u64; 4]) -> Self {
        Self::with_hasher(RandomState::with_seeds(seed[0], seed[1], seed[2], seed[3]))
    }

    /// No interest; hashes are keyed by `hasher`, a secret of the process.
    pub fn with_hasher(hasher: RandomState) -> Self {
        Self { filters: FilterMap::new(hasher) }
    }

    /// A home wants what matches `filter`; whether that is new.
    pub fn add(&mut self, filter: &str, home: ShardId) -> bool {
        if let Some(homes) = self.filters.get_mut(filter) {
            return homes.insert(home);
        }
        self.filters.insert(filter, [home].into_iter().collect());
        true
    }

    /// A home no longer wants what matches `filter`; whether it did.
    pub fn remove(&mut self, filter: &str, home: ShardId) -> bool {
        let Some(homes) = self.filters.get_mut(filter) else { return false };
        let changed = homes.remove(home);
        if homes.is_empty() {
            self.filters.remove(filter);
        }
        changed
    }

    /// Filters that were moved within the table, long ones counted several times, since this was
    /// asked for last.
    pub fn take_moved(&mut self) -> usize {
        self.filters.take_moved()
    }

    /// The homes that want a publish to `topic`.
    pub fn homes(&self, topic: &str) -> ShardSet {
        self.find_up_to(usize::MAX, topic).map_or(ShardSet::EMPTY, |(homes, _)| homes)
    }

    /// [`Self::homes`], and what it took to find them; `None` if that would be much more than
    /// `max`.
    pub fn find_up_to(&self, max: usize, topic: &str) -> Option<(ShardSet, Effort)> {
        let mut homes = ShardSet::EMPTY;
        let found = &mut |more: &ShardSet| homes = homes.union(*more);
        let effort = self.filters.for_each_match(topic, max, found)?;
        Some((homes, effort))
    }

    /// Bytes of memory that the filters take.
    pub fn memory_bytes(&self) -> usize {
        self.filters.memory_bytes()
    }

    /// How many different filters there are.
    pub fn filter_count(&self) -> usize {
        self.filters.len()
    }
}

impl Default for Interest {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_home_is_named_once_for_many_filters() {
        let mut interest = Interest::new();
        assert!(interest.add("a/b", ShardId(3)));
        assert!(interest.add("a/+", ShardId(3)) && !interest.add("a/+", ShardId(3)));
        assert!(interest.add("#", ShardId(63)));
        assert_eq!(interest.homes("a/b"), [ShardId(3), ShardId(63)].into_iter().collect());
        assert!(interest.remove("a/b", ShardId(3)) && !interest.remove("a/b", ShardId(3)));
        assert!(interest.remove("#", ShardId(63)) && !interest.remove("#", ShardId(3)));
        assert_eq!(interest.homes("a/b"), [ShardId(3)].into_iter().collect());
        assert_eq!(interest.filter_count(), 1);
    }

    proptest! {
        #[test]
        fn it_names_the_homes_that_the_specification_says(
            steps in prop::collection::vec((naive::filter(), 0_u8..64), 0..60),
            topics in prop::collection::vec(naive::topic(), 1..10),
        ) {
            let mut interest = Interest::with_seed([1, 2, 3, 4]);
            let mut model = BTreeSet::new();
            for (number, (filter, home)) in steps.into_iter().enumerate() {
                let (home, pair) = (ShardId(home), (filter.clone(), home));
                if number % 3 == 2 {
                    prop_assert_eq!(interest.remove(&filter, home), model.remove(&pair));
                } else {
                    prop_assert_eq!(interest.add(&filter, home), model.insert(pair));
                }
            }
            for topic in &topics {
                let wanted = model.iter().filter(|(filter, _)| naive::matches(filter, topic));
                let wanted: ShardSet = wanted.map(|(_, home)| ShardId(*home)).collect();
                prop_assert_eq!(interest.homes(topic), wanted, "{}", topic);
            }
        }
    }
}
