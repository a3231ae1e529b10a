//! A map from filters to values that finds the values of all filters a topic matches.
//!
//! Filters without wildcard are found by one hash of the whole topic; the others lie in the
//! [`Trie`]. Both share one store of texts and values.

use super::level::has_wildcard;
use super::trie::{Effort, Texts, Trie, Walk};
use crate::arena::{Arena, Key};
use crate::index::Index;
use crate::metrics::allocated;
use ahash::RandomState;

#[derive(Debug)]
pub(super) struct FilterMap<V> {
    entries: Arena<Entry<V>>,
    exact: Index,
    wild: Trie,
    hasher: RandomState,
    /// Bytes of memory of all filters and of their places.
    bytes: usize,
}

/// Memory of a filter beside its text and its value: its place in the index, or in a bucket of the
/// trie and its share of the nodes.
const PLACE_BYTES: usize = 20;

#[derive(Debug)]
struct Entry<V> {
    filter: Box<str>,
    value: V,
}

impl<V> Texts for Arena<Entry<V>> {
    fn text(&self, key: Key) -> &str {
        &self.get(key).filter
    }
}

impl<V> FilterMap<V> {
    /// An empty map whose hashes are keyed by `hasher`.
    pub(super) fn new(hasher: RandomState) -> Self {
        let wild = Trie::new(hasher.clone());
        Self { entries: Arena::new(), exact: Index::default(), wild, hasher, bytes: 0 }
    }

    /// Bytes of memory that the filters take with their values.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// How many filters there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The key of a filter, for as long as it is in the map.
    pub(super) fn find(&self, filter: &str) -> Option<Key> {
        if has_wildcard(filter) {
            self.wild.find(filter, &self.entries)
        } else {
            self.find_exact(filter)
        }
    }

    /// The filter that has this key.
    pub(super) fn text(&self, key: Key) -> &str {
        self.entries.text(key)
    }

    /// The value of the filter that has this key.
    pub(super) fn value(&self, key: Key) -> &V {
        &self.entries.get(key).value
    }

    pub(super) fn get(&self, filter: &str) -> Option<&V> {
        Some(&self.entries.get(self.find(filter)?).value)
    }

    pub(super) fn get_mut(&mut self, filter: &str) -> Option<&mut V> {
        let key = self.find(filter)?;
        Some(&mut self.entries.get_mut(key).value)
    }

    /// Adds a filter that is not in the map.
    pub(super) fn insert(&mut self, filter: &str, value: V) {
        debug_assert!(self.find(filter).is_none());
        self.bytes += entry_bytes::<V>(filter);
        let key = self.entries.insert(Entry { filter: filter.into(), value });
        if has_wildcard(filter) {
            self.wild.insert(filter, key, &self.entries);
        } else {
            self.exact.insert(self.hasher.hash_one(filter), key.bits());
        }
    }

    /// Takes a filter out, with its value.
    pub(super) fn remove(&mut self, filter: &str) -> Option<V> {
        let key = self.find(filter)?;
        self.bytes -= entry_bytes::<V>(filter);
        if has_wildcard(filter) {
            self.wild.remove(filter, key, &self.entries);
        } else {
            self.exact.remove(self.hasher.hash_one(filter), key.bits());
        }
        Some(self.entries.remove(key).value)
    }

    /// What was moved, beside what came and went, since this was asked for last.
    pub(super) fn take_moved(&mut self) -> usize {
        self.wild.take_moved()
    }

    /// Calls `found` with the value of every filter that matches `topic`, once per filter.
    /// Returns what that took among the filters with wildcards; `None`, and some are not found, if
    /// it would be much more than `effort_max`.
    pub(super) fn for_each_match(
        &self,
        topic: &str,
        effort_max: usize,
        found: &mut impl FnMut(&V),
    ) -> Option<Effort> {
        if let Some(key) = self.find_exact(topic) {
            found(&self.entries.get(key).value);
        }
        let found_wild = &mut |key| found(&self.entries.get(key).value);
        self.wild.for_each_match(topic, effort_max, &self.entries, found_wild)
    }

    /// Goes on with a match of the filters with wildcards until about `effort_max` is spent; calls
    /// `found` with filters and their values. Returns what that took.
    pub(super) fn walk(
        &self,
        topic: &str,
        walk: &mut Walk,
        effort_max: usize,
        found: &mut impl FnMut(&str, &V),
    ) -> Effort {
        let found_wild = &mut |key| {
            let entry = self.entries.get(key);
            found(&entry.filter, &entry.value);
        };
        self.wild.walk(topic, walk, effort_max, &self.entries, found_wild)
    }

    fn find_exact(&self, topic: &str) -> Option<Key> {
        if self.exact.is_empty() {
            return None;
        }
        let key = |bits| Key::from_bits(bits).expect("no key is zero");
        let is_it = |bits| *self.entries.get(key(bits)).filter == *topic;
        self.exact.find(self.hasher.hash_one(topic), is_it).map(key)
    }
}

fn entry_bytes<V>(filter: &str) -> usize {
    allocated(filter.len()) + size_of::<Entry<V>>() + PLACE_BYTES
}

#[cfg(test)]
impl<V> FilterMap<V> {
    /// An empty map with buckets of another size.
    pub(super) fn with_buckets(bucket_len_max: usize) -> Self {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let wild = Trie::with_buckets(hasher.clone(), bucket_len_max);
        Self { wild, ..Self::new(hasher) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn empty<V>() -> FilterMap<V> {
        FilterMap::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    fn matches(map: &FilterMap<usize>, topic: &str) -> Vec<usize> {
        let mut found = Vec::new();
        map.for_each_match(topic, usize::MAX, &mut |value| found.push(*value));
        found.sort_unstable();
        found
    }

    #[test]
    fn an_entry_costs_its_text_and_value() {
        assert_eq!(size_of::<Option<Entry<u64>>>(), 24);
    }

    fn with_buckets<V>(bucket_len_max: usize) -> FilterMap<V> {
        FilterMap::with_buckets(bucket_len_max)
    }

    #[test]
    fn few_filters_need_no_nodes_and_leave_none_behind() {
        let mut map = with_buckets(4);
        let filters = ["a/b/c/+", "a/b/c/#", "a/b/+", "a/+", "a/#", "x/+/y"];
        let counts = [(1, 0), (1, 1), (1, 1), (1, 1), (2, 1), (2, 1)];
        for (value, (filter, count)) in filters.iter().zip(counts).enumerate() {
            map.insert(filter, value);
            assert_eq!(map.wild.counts(), count, "with {filter}");
        }
        let counts = [(2, 1), (2, 0), (2, 0), (1, 0), (1, 0), (1, 0)];
        for (filter, count) in filters.iter().zip(counts) {
            assert!(map.remove(filter).is_some());
            assert_eq!(map.wild.counts(), count, "without {filter}");
            map.wild.audit(map.len());
        }
    }

    #[test]
    fn levels_that_all_share_are_passed_at_once() {
        let mut map = with_buckets(4);
        for value in 0..5 {
            map.insert(&format!("a/+/b/c/{value}/#"), value);
        }
        assert_eq!(map.wild.counts(), (5, 0), "the root and four levels");
        assert_eq!(matches(&map, "a/x/b/c/3"), [3]);
        for value in 0..4 {
            map.remove(&format!("a/+/b/c/{value}/#"));
        }
        assert_eq!(map.wild.counts(), (1, 0));
    }

    #[test]
    fn what_a_match_looks_at_does_not_follow_the_number_of_filters() {
        let effort = |count: usize| {
            let mut map = empty();
            for value in 0..count {
                map.insert(&format!("site/{}/+/{value}/#", value % 10), value);
            }
            let effort = map.for_each_match("site/7/x/77/y", usize::MAX, &mut |_| {}).unwrap();
            assert_eq!(matches(&map, "site/7/x/77/y"), [77]);
            effort
        };
        let (few, many) = (effort(1_000), effort(50_000));
        assert_eq!((few.nodes, few.texts), (4, 1));
        assert_eq!(many, few);
    }

    #[test]
    fn signatures_tell_filters_without_reading_them() {
        let mut map = empty();
        for value in 0..32 {
            map.insert(&format!("+/+/+/{value}/+/x"), value);
        }
        let effort = map.for_each_match("a/b/c/no/e/x", usize::MAX, &mut |_| {}).unwrap();
        assert_eq!((effort.nodes, effort.buckets, effort.signatures), (1, 1, 32));
        assert!(effort.texts < 4, "one of a hundred by chance, not {}", effort.texts);
    }

    #[test]
    fn the_deepest_filters_overflow_no_stack() {
        let deep = "/".repeat(65_534);
        let mut map = with_buckets(2);
        for (value, end) in ["+", "#", "a"].iter().enumerate() {
            map.insert(&format!("+{deep}{end}"), value);
        }
        assert_eq!(matches(&map, &format!("{deep}a")), [0, 1, 2]);
        assert_eq!(matches(&map, &deep), [0, 1]);
        assert_eq!(map.remove(&format!("+{deep}#")), Some(1));
        assert_eq!(matches(&map, &format!("x{deep}")), [0]);
    }

    #[test]
    fn filters_in_every_combination_are_all_found() {
        const LEVELS: usize = 12;
        let mut map = empty();
        for number in 0..1 << LEVELS {
            let level = |at| if number >> at & 1 == 0 { "+" } else { "x" };
            map.insert(&(0..LEVELS).map(level).collect::<Vec<_>>().join("/"), number);
        }
        let all = |topic| matches(&map, topic).len();
        assert_eq!(all("x/x/x/x/x/x/x/x/x/x/x/x"), 1 << LEVELS);
        assert_eq!(all("x/x/x/x/x/y/x/x/x/x/x/x"), 1 << (LEVELS - 1));
        assert_eq!(all("x/x/x/x/x/x/x/x/x/x/x"), 0);
    }

    #[test]
    fn what_hangs_at_many_levels_is_found_in_several_lots() {
        let (mut map, mut value) = (with_buckets(2), 0);
        for number in 0..512 {
            let level = |at| if number >> at & 1 == 0 { "+/" } else { "x/" };
            let head: String = (0..9).map(level).collect();
            for between in 0..4 {
                map.insert(&format!("{head}{}y", "+/".repeat(between)), value);
                value += 1;
            }
        }
        for behind in 0..4 {
            let topic = format!("{}{}y", "x/".repeat(9), "y/".repeat(behind));
            let effort = map.for_each_match(&topic, usize::MAX, &mut |_| {}).unwrap();
            assert!(effort.buckets + effort.texts >= 511, "more than one lot");
            assert_eq!(matches(&map, &topic).len(), 512);
        }
    }

    #[test]
    fn names_that_the_index_cannot_tell_apart_are_compared() {
        let (mut map, mut seen) = (with_buckets(2), BTreeMap::new());
        let tag = |name: &str| RandomState::with_seeds(1, 2, 3, 4).hash_one(name) >> 32;
        let mut names = (0..).map(|number: u32| format!("{number:08}"));
        let twins = names.find_map(|name| Some((seen.insert(tag(&name), name.clone())?, name)));
        let (one, other) = twins.expect("half a hash repeats after some 80,000 names");
        for (value, name) in [&one, &other].into_iter().enumerate() {
            map.insert(name, 10 + value);
            map.insert(&format!("{name}/+"), 20 + value);
            map.insert(&format!("{name}/a/#"), 30 + value);
            assert_eq!(matches(&map, name), [10 + value]);
            assert_eq!(matches(&map, &format!("{name}/a")), [20 + value, 30 + value]);
        }
        assert_eq!(map.remove(&format!("{one}/+")), Some(20));
        assert_eq!(matches(&map, &format!("{one}/a")), [30]);
        assert_eq!(matches(&map, &format!("{other}/a")), [21, 31]);
    }

    proptest! {
        #[test]
        fn it_matches_what_the_specification_says(
            steps in prop::collection::vec(naive::filter(), 0..200),
            topics in prop::collection::vec(naive::topic(), 1..20),
            bucket_len_max in prop::sample::select(vec![2_usize, 3, 8, 32]),
        ) {
            let mut map = with_buckets(bucket_len_max);
            let mut model = BTreeMap::new();
            for (value, filter) in steps.iter().enumerate() {
                prop_assert_eq!(map.get(filter), model.get(filter));
                if model.remove(filter).is_some() {
                    prop_assert!(map.remove(filter).is_some());
                } else {
                    map.insert(filter, value);
                    model.insert(filter.clone(), value);
                }
                prop_assert_eq!(map.len(), model.len());
                let wild = model.keys().filter(|filter| has_wildcard(filter)).count();
                map.wild.audit(wild);
            }
            for topic in &topics {
                let wanted = model.iter().filter(|(filter, _)| naive::matches(filter, topic));
                let mut wanted: Vec<_> = wanted.map(|(_, value)| *value).collect();
                wanted.sort_unstable();
                prop_assert_eq!(matches(&map, topic), wanted, "{}", topic);
            }
            for (filter, value) in model {
                prop_assert_eq!(map.remove(&filter), Some(value));
            }
            prop_assert_eq!((map.len(), map.wild.counts()), (0, (1, 0)));
        }
    }
}
