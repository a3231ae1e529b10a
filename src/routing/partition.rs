//! Which shard owns what: sessions by client id, topics by name.
//!
//! The hash is keyed per process, so that no client can aim at one shard. Nothing that outlives the
//! process may depend on it.

use super::level::has_wildcard;
use ahash::RandomState;
use std::fmt;

/// A shard, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

impl ShardId {
    /// Most shards of a process: as many as a [`ShardSet`] has bits.
    pub const COUNT_MAX: usize = 64;

    /// The shard at a place in an array with one item per shard.
    ///
    /// # Panics
    /// If the place is not below [`Self::COUNT_MAX`].
    pub fn from_index(index: usize) -> Self {
        assert!(index < Self::COUNT_MAX, "at most {} shards", Self::COUNT_MAX);
        Self(index as u8)
    }

    /// The shard's place in an array with one item per shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a topic filter must be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the one owner of the only topic it matches.
    One(ShardId),
    /// At every owner, since it has a wildcard.
    Every,
}

/// The map from names to shards. All shards of a process hold equal ones.
#[derive(Clone, Debug)]
pub struct Partition {
    shard_count: u64,
    keys: RandomState,
}

impl Partition {
    /// A partition over `shard_count` shards, 1..=64. `seed` should be random; equal seeds give
    /// equal partitions.
    pub fn new(shard_count: usize, seed: [u64; 4]) -> Self {
        assert!((1..=ShardId::COUNT_MAX).contains(&shard_count), "{shard_count} shards");
        let keys = RandomState::with_seeds(seed[0], seed[1], seed[2], seed[3]);
        Self { shard_count: shard_count as u64, keys }
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> usize {
        self.shard_count as usize
    }

    /// Every shard, in order.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shard_count as u8).map(ShardId)
    }

    /// The shard that owns the session of `client_id`.
    pub fn home(&self, client_id: &str) -> ShardId {
        self.shard_of(client_id)
    }

    /// The shard that owns `topic`.
    pub fn owner(&self, topic: &str) -> ShardId {
        self.shard_of(topic)
    }

    /// Where `filter` must be known so that every publish it matches finds it.
    pub fn placement(&self, filter: &str) -> Placement {
        if has_wildcard(filter) { Placement::Every } else { Placement::One(self.owner(filter)) }
    }

    fn shard_of(&self, name: &str) -> ShardId {
        if self.shard_count == 1 {
            return ShardId(0);
        }
        // The high half of a product spreads hashes over any count without a division.
        let wide = u128::from(self.keys.hash_one(name)) * u128::from(self.shard_count);
        ShardId((wide >> 64) as u8)
    }
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShardSet(u64);

impl ShardSet {
    /// The set without a shard.
    pub const EMPTY: Self = Self(0);

    /// The shards whose bits are set, the lowest bit being the first shard's.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Adds a shard; whether it was new.
    pub fn insert(&mut self, shard: ShardId) -> bool {
        let before = self.0;
        self.0 |= Self::bit(shard);
        self.0 != before
    }

    /// Takes a shard out; whether it was there.
    pub fn remove(&mut self, shard: ShardId) -> bool {
        let before = self.0;
        self.0 &= !Self::bit(shard);
        self.0 != before
    }

    /// Whether the shard is in the set.
    pub fn contains(self, shard: ShardId) -> bool {
        self.0 & Self::bit(shard) != 0
    }

    /// The shards of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// How many shards there are in the set.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is no shard in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shards, lowest first.
    pub fn iter(self) -> impl Iterator<Item = ShardId> + use<> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lowest = (rest != 0).then_some(ShardId(rest.trailing_zeros() as u8));
            rest &= rest.wrapping_sub(1);
            lowest
        })
    }

    fn bit(shard: ShardId) -> u64 {
        assert!(shard.index() < ShardId::COUNT_MAX, "shard {shard} is beyond the set");
        1 << shard.0
    }
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> Self {
        let mut set = Self::EMPTY;
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u64; 4] = [1, 2, 3, 4];

    #[test]
    fn names_spread_evenly_over_any_count_of_shards() {
        for shard_count in [1, 2, 3, 7, 16, 64] {
            let partition = Partition::new(shard_count, SEED);
            let mut counts = vec![0_usize; shard_count];
            for number in 0..64_000 {
                counts[partition.home(&format!("client-{number}")).index()] += 1;
            }
            let fair = 64_000 / shard_count;
            let even = |count: &usize| (fair * 8 / 10..=fair * 12 / 10).contains(count);
            assert!(counts.iter().all(even), "{shard_count} shards: {counts:?}");
        }
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let names: Vec<_> = (0..100).map(|number| format!("a/{number}")).collect();
        let owners = |seed| {
            let partition = Partition::new(16, seed);
            names.iter().map(|name| partition.owner(name)).collect::<Vec<_>>()
        };
        assert_eq!(owners(SEED), owners(SEED));
        assert_ne!(owners(SEED), owners([4, 3, 2, 1]));
    }

    #[test]
    fn only_filters_with_wildcards_are_placed_everywhere() {
        let partition = Partition::new(5, SEED);
        for filter in ["a/b", "$SYS/a", "/", "a b"] {
            assert_eq!(partition.placement(filter), Placement::One(partition.owner(filter)));
        }
        for filter in ["#", "+", "a/#", "a/+/b", "+/a", "$SYS/#", "/+"] {
            assert_eq!(partition.placement(filter), Placement::Every, "{filter}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = ShardSet::EMPTY;
        assert!(set.is_empty());
        for shard in [63, 0, 17].map(ShardId) {
            assert!(set.insert(shard) && !set.insert(shard) && set.contains(shard));
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 17, 63].map(ShardId));
        assert!(set.remove(ShardId(17)) && !set.remove(ShardId(17)));
        assert_eq!(set, [0, 63].map(ShardId).into_iter().collect());
        assert_eq!((set.len(), set.contains(ShardId(17))), (2, false));
        assert_eq!(Partition::new(64, SEED).shards().collect::<ShardSet>().len(), 64);
    }
}
