//! The subscriptions of the sessions that live on this shard, found by topic.

use super::filters::FilterMap;
use super::search::{LIST_LEN_MAX, List, Place, Search};
use super::subscribers::{Removal, Subscribers};
use super::trie::Effort;
use crate::arena::Key;
use ahash::RandomState;
use std::hash::Hash;

/// Filters, each with its subscribers `S` and their options `O`.
///
/// Filters and topics are taken to be valid; the wire format has checked them.
#[derive(Debug)]
pub struct Subscriptions<S, O> {
    filters: FilterMap<Subscribers<S, O>>,
    hasher: RandomState,
    len: usize,
}

/// Memory of a subscriber beyond the first of its filter: its item, and its place among many.
const SUBSCRIBER_BYTES: usize = 32;

/// Names a filter for as long as it has a subscriber, so that a subscriber need not keep its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterKey(Key);

/// What an insert met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted<O> {
    /// The filter had no subscriber before.
    pub first_for_filter: bool,
    /// The subscriber had subscribed to the filter before, with these options
    /// [MQTT-3.8.4-3].
    pub replaced: Option<O>,
}

/// What a remove met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The subscriber had subscribed to the filter.
    pub existed: bool,
    /// The filter has no subscriber any more.
    pub last_for_filter: bool,
}

impl<S: Copy + Eq + Hash, O: Copy> Subscriptions<S, O> {
    /// No subscriptions, with hashes keyed at random.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }

    /// Makes an empty table, with hashes keyed by `seed`, which no client should know.
    pub fn with_seed(seed: [u64; 4]) -> Self {
        Self::with_hasher(RandomState::with_seeds(seed[0], seed[1], seed[2], seed[3]))
    }

    /// No subscriptions, with hashes keyed by `hasher`, a secret of the process.
    pub fn with_hasher(hasher: RandomState) -> Self {
        Self { filters: FilterMap::new(hasher.clone()), hasher, len: 0 }
    }

    /// Adds a subscription, or replaces the options of the one that is there [MQTT-3.8.4-3].
    pub fn insert(&mut self, filter: &str, subscriber: S, options: O) -> Inserted<O> {
        if let Some(subscribers) = self.filters.get_mut(filter) {
            let replaced = subscribers.insert(subscriber, options, &self.hasher);
            self.len += usize::from(replaced.is_none());
            return Inserted { first_for_filter: false, replaced };
        }
        self.filters.insert(filter, Subscribers::One((subscriber, options)));
        self.len += 1;
        Inserted { first_for_filter: true, replaced: None }
    }

    /// Takes a subscription out, if it is there.
    pub fn remove(&mut self, filter: &str, subscriber: S) -> Removed {
        let removal = match self.filters.get_mut(filter) {
            Some(subscribers) => subscribers.remove(subscriber, &self.hasher),
            None => Removal::Absent,
        };
        if removal == Removal::Absent {
            return Removed { existed: false, last_for_filter: false };
        }
        let last_for_filter = removal == Removal::LastIsLeft;
        if last_for_filter {
            self.filters.remove(filter);
        }
        self.len -= 1;
        Removed { existed: true, last_for_filter }
    }

    /// Filters that were moved within the table, long ones counted several times, since this was
    /// asked for last.
    pub fn take_moved(&mut self) -> usize {
        self.filters.take_moved()
    }

    /// The options under which a subscriber has subscribed to a filter.
    pub fn get(&self, filter: &str, subscriber: S) -> Option<O> {
        let subscribers = self.filters.get(filter)?;
        subscribers.options(subscriber, &self.hasher)
    }

    /// [`Self::get`] for a filter that has a subscriber, by its key.
    ///
    /// # Panics
    /// If the last subscriber of that filter has gone.
    pub fn get_by_key(&self, key: FilterKey, subscriber: S) -> Option<O> {
        self.filters.value(key.0).options(subscriber, &self.hasher)
    }

    /// The key of a filter that has a subscriber.
    pub fn find(&self, filter: &str) -> Option<FilterKey> {
        self.filters.find(filter).map(FilterKey)
    }

    /// The text of a filter.
    ///
    /// # Panics
    /// If the last subscriber of that filter has gone.
    pub fn filter(&self, key: FilterKey) -> &str {
        self.filters.text(key.0)
    }

    /// Calls `found` for every subscription that matches `topic`. A subscriber with several
    /// matching filters is found once for each. Returns what that took.
    pub fn for_each_match(&self, topic: &str, found: &mut impl FnMut(S, &O)) -> Effort {
        self.find_up_to(usize::MAX, topic, found).unwrap_or_default()
    }

    /// The same if that is not much more than `max` subscriptions and places to look at; `None`,
    /// and only some of them are found, if it is: then [`Self::search`] goes on in pieces.
    pub fn find_up_to(
        &self,
        max: usize,
        topic: &str,
        found: &mut impl FnMut(S, &O),
    ) -> Option<Effort> {
        let mut count = 0;
        let effort = self.filters.for_each_match(topic, max, &mut |subscribers| {
            let list = subscribers.as_slice();
            count += list.len();
            if count <= max {
                list.iter().for_each(|(subscriber, options)| found(*subscriber, options));
            }
        });
        effort.filter(|_| count <= max)
    }

    /// Goes on with a search until about `max` subscriptions and places were looked at; calls
    /// `found` for every subscription that matches `topic`, and says where it was. Returns what
    /// that took.
    pub fn search(
        &self,
        topic: &str,
        search: &mut Search,
        max: usize,
        found: &mut impl FnMut(S, &O, Place),
    ) -> usize {
        let mut spent = 0;
        while !search.is_done() && spent < max {
            spent += if !search.walk.is_done() {
                self.search_wild(topic, search, max - spent, found)
            } else if !search.lists.is_empty() {
                self.search_list(search, max - spent, found)
            } else {
                search.is_exact_done = true;
                let exact = self.filters.get(topic);
                exact.map_or(1, |list| take_list(topic, list, &mut search.lists, found))
            };
        }
        spent
    }

    /// Among the filters with wildcards; long lists are put aside.
    fn search_wild(
        &self,
        topic: &str,
        search: &mut Search,
        max: usize,
        found: &mut impl FnMut(S, &O, Place),
    ) -> usize {
        let (lists, mut count) = (&mut search.lists, 0);
        let effort = self.filters.walk(topic, &mut search.walk, max, &mut |filter, list| {
            count += take_list(filter, list, lists, found);
        });
        effort.total() + count
    }

    /// A piece of a long list, from its end.
    fn search_list(
        &self,
        search: &mut Search,
        max: usize,
        found: &mut impl FnMut(S, &O, Place),
    ) -> usize {
        let place = Place::Long(search.list_number());
        let Some(list) = search.lists.last_mut() else { return 0 };
        let subscribers = self.filters.get(&list.filter).map_or(&[][..], Subscribers::as_slice);
        let end = list.left.min(subscribers.len());
        list.left = end.saturating_sub(max.max(1));
        subscribers[list.left..end].iter().for_each(|(who, options)| found(*who, options, place));
        let count = end - list.left;
        if list.left == 0 {
            search.lists.pop();
            search.lists_done += 1;
        }
        count + 1
    }

    /// Bytes of memory that the filters take with their subscribers.
    pub fn memory_bytes(&self) -> usize {
        let beyond_the_first = self.len - self.filters.len();
        self.filters.memory_bytes() + beyond_the_first * SUBSCRIBER_BYTES
    }

    /// How many subscriptions there are: pairs of filter and subscriber.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subscription.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many different filters there are.
    pub fn filter_count(&self) -> usize {
        self.filters.len()
    }
}

/// Finds the subscribers of a filter, or puts it aside if there are many; returns what that took.
fn take_list<S: Copy + Eq + Hash, O: Copy>(
    filter: &str,
    subscribers: &Subscribers<S, O>,
    lists: &mut Vec<List>,
    found: &mut impl FnMut(S, &O, Place),
) -> usize {
    let list = subscribers.as_slice();
    if list.len() > LIST_LEN_MAX {
        lists.push(List { filter: filter.into(), left: list.len() });
        return 1;
    }
    list.iter().for_each(|(subscriber, options)| found(*subscriber, options, Place::Short));
    list.len()
}

impl<S: Copy + Eq + Hash, O: Copy> Default for Subscriptions<S, O> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive::{self, found};
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn first_and_last_of_a_filter_are_told() {
        let mut subscriptions = Subscriptions::with_seed([1, 2, 3, 4]);
        for filter in ["a/b", "a/+"] {
            let first = Inserted { first_for_filter: true, replaced: None };
            assert_eq!(subscriptions.insert(filter, 1, 10), first);
            let second = Inserted { first_for_filter: false, replaced: None };
            assert_eq!(subscriptions.insert(filter, 2, 20), second);
            let again = Inserted { first_for_filter: false, replaced: Some(10) };
            assert_eq!(subscriptions.insert(filter, 1, 11), again);
        }
        assert_eq!((subscriptions.len(), subscriptions.filter_count()), (4, 2));
        assert_eq!(found(&subscriptions, "a/b"), [(1, 11), (1, 11), (2, 20), (2, 20)]);
        for filter in ["a/b", "a/+"] {
            let absent = Removed { existed: false, last_for_filter: false };
            assert_eq!(subscriptions.remove(filter, 3), absent);
            let one = Removed { existed: true, last_for_filter: false };
            assert_eq!(subscriptions.remove(filter, 1), one);
            let last = Removed { existed: true, last_for_filter: true };
            assert_eq!(subscriptions.remove(filter, 2), last);
            assert_eq!(subscriptions.remove(filter, 2), absent);
        }
        assert!(subscriptions.is_empty());
    }

    /// The examples of MQTT 3.1.1, section 4.7, and their neighbours: where they stand, filter,
    /// topic, whether it matches.
    const EXAMPLES: &[(&str, &str, &str, bool)] = &[
        ("4.7.1.2", "sport/tennis/player1/#", "sport/tennis/player1", true),
        ("4.7.1.2", "sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("4.7.1.2", "sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("4.7.1.2", "sport/tennis/player1/#", "sport/tennis/player2", false),
        ("4.7.1.2", "sport/#", "sport", true),
        ("4.7.1.2", "#", "sport/tennis", true),
        ("4.7.1.2", "#", "/", true),
        ("4.7.1.2", "sport/tennis/#", "sport/tennis/", true),
        ("4.7.1.2", "sport/tennis/#", "sport", false),
        ("4.7.1.3", "sport/tennis/+", "sport/tennis/player1", true),
        ("4.7.1.3", "sport/tennis/+", "sport/tennis/player2", true),
        ("4.7.1.3", "sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("4.7.1.3", "sport/+", "sport", false),
        ("4.7.1.3", "sport/+", "sport/", true),
        ("4.7.1.3", "+", "sport", true),
        ("4.7.1.3", "+/tennis/#", "sport/tennis", true),
        ("4.7.1.3", "sport/+/player1", "sport/tennis/player1", true),
        ("4.7.1.3", "sport/+/player1", "sport//player1", true),
        ("4.7.1.3", "+/+", "/finance", true),
        ("4.7.1.3", "/+", "/finance", true),
        ("4.7.1.3", "+", "/finance", false),
        ("MQTT-4.7.2-1", "#", "$SYS/broker/uptime", false),
        ("MQTT-4.7.2-1", "+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("MQTT-4.7.2-1", "+", "$SYS", false),
        ("4.7.2", "$SYS/#", "$SYS/broker/uptime", true),
        ("4.7.2", "$SYS/#", "$SYS", true),
        ("4.7.2", "$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("4.7.2", "a/#", "a/$SYS", true),
        ("4.7.2", "+/+", "a/$SYS", true),
        ("4.7.3", "ACCOUNTS", "Accounts", false),
        ("4.7.3", "Accounts payable", "Accounts payable", true),
        ("4.7.3", "/finance", "finance", false),
        ("4.7.3", "finance/", "finance", false),
        ("4.7.3", "/", "/", true),
        ("MQTT-4.7.3-4", "caf\u{e9}", "cafe\u{301}", false),
    ];

    #[test]
    fn the_examples_of_the_specification_hold() {
        for (clause, filter, topic, expected) in EXAMPLES {
            let mut subscriptions = Subscriptions::new();
            subscriptions.insert(filter, 1, 0);
            let matched = !found(&subscriptions, topic).is_empty();
            assert_eq!(matched, *expected, "{clause}: {filter} and {topic}");
            assert_eq!(naive::matches(filter, topic), *expected, "{clause}, in the model");
        }
        let mut together = Subscriptions::new();
        for (number, (_, filter, _, _)) in EXAMPLES.iter().enumerate() {
            together.insert(filter, 1, number);
        }
        for (clause, filter, topic, expected) in EXAMPLES {
            let options = together.get(filter, 1).expect("it was inserted");
            let matched = found(&together, topic).contains(&(1, options));
            assert_eq!(matched, *expected, "{clause}: {filter} among others and {topic}");
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_the_specification_says(
            steps in prop::collection::vec((naive::filter(), 0_u8..4), 0..80),
            topics in prop::collection::vec(naive::topic(), 1..10),
        ) {
            let mut subscriptions = Subscriptions::with_seed([1, 2, 3, 4]);
            let mut model: BTreeMap<(String, u8), usize> = BTreeMap::new();
            for (number, (filter, subscriber)) in steps.into_iter().enumerate() {
                let others = model.keys().filter(|(f, s)| *f == filter && *s != subscriber).count();
                let pair = (filter.clone(), subscriber);
                if number % 3 == 0 && let Some(options) = model.remove(&pair) {
                    prop_assert_eq!(subscriptions.get(&filter, subscriber), Some(options));
                    let removed = subscriptions.remove(&filter, subscriber);
                    let last_for_filter = others == 0;
                    prop_assert_eq!(removed, Removed { existed: true, last_for_filter });
                } else {
                    let replaced = model.insert(pair, number);
                    let first_for_filter = others == 0 && replaced.is_none();
                    let inserted = subscriptions.insert(&filter, subscriber, number);
                    prop_assert_eq!(inserted, Inserted { first_for_filter, replaced });
                }
                prop_assert_eq!(subscriptions.len(), model.len());
                for (filter, _) in model.keys() {
                    let key = subscriptions.find(filter).expect("it has a subscriber");
                    prop_assert_eq!(subscriptions.filter(key), filter);
                }
            }
            for topic in &topics {
                let wanted = model.iter().filter(|((filter, _), _)| naive::matches(filter, topic));
                let mut wanted: Vec<_> = wanted.map(|((_, s), options)| (*s, *options)).collect();
                wanted.sort_unstable();
                prop_assert_eq!(found(&subscriptions, topic), wanted, "{}", topic);
            }
        }

        #[test]
        fn a_search_finds_what_is_there_all_the_time_once(
            before in prop::collection::vec((naive::filter(), 0_u8..4), 0..150),
            changes in prop::collection::vec((naive::filter(), 0_u8..4), 0..60),
            (topic, max) in (naive::topic(), 1_usize..20),
            bucket_len_max in prop::sample::select(vec![2_usize, 4, 64]),
        ) {
            let mut subscriptions = Subscriptions::with_seed([1, 2, 3, 4]);
            subscriptions.filters = FilterMap::with_buckets(bucket_len_max);
            let mut constant: BTreeSet<(String, u8)> = before.iter().cloned().collect();
            for (filter, who) in &before {
                subscriptions.insert(filter, *who, 0);
            }
            let (mut search, mut came) = (Search::default(), Vec::new());
            let mut ever = constant.clone();
            let mut changes = changes.into_iter();
            while !search.is_done() {
                subscriptions.search(&topic, &mut search, max, &mut |who, _, _| came.push(who));
                let Some((filter, who)) = changes.next() else { continue };
                if subscriptions.remove(&filter, who).existed {
                    // The caller of the search has to ask whether it is still to come.
                    let is_left = search.is_to_come(&filter, &topic);
                    came.extend(is_left.then_some(who));
                    ever.insert((filter, who));
                } else {
                    subscriptions.insert(&filter, who, 0);
                    ever.insert((filter.clone(), who));
                    constant.retain(|pair| *pair != (filter.clone(), who));
                }
            }
            let count = |all: &BTreeSet<(String, u8)>, who: u8| {
                all.iter().filter(|(f, s)| *s == who && naive::matches(f, &topic)).count()
            };
            for who in 0..4 {
                let times = came.iter().filter(|other| **other == who).count();
                prop_assert!(times >= count(&constant, who), "{who}: {times}");
                if ever.len() == constant.len() {
                    prop_assert_eq!(times, count(&constant, who));
                }
            }
        }
    }

    #[test]
    fn a_long_list_is_found_in_pieces_whoever_goes_meanwhile() {
        let mut subscriptions = Subscriptions::with_seed([1, 2, 3, 4]);
        for who in 0..2000_u32 {
            subscriptions.insert("a/+", who, ());
            subscriptions.insert("a/b", who, ());
        }
        assert!(subscriptions.find_up_to(3999, "a/b", &mut |_, _| {}).is_none());
        assert!(subscriptions.find_up_to(4000, "a/b", &mut |_, _| {}).is_some());
        let (mut search, mut seen, mut gone) = (Search::default(), [0; 2000], 0);
        while !search.is_done() {
            let mut count = 0;
            subscriptions.search("a/b", &mut search, 50, &mut |who, (), place| {
                assert_ne!(place, Place::Short);
                seen[who as usize] += 1;
                count += 1;
            });
            assert!(count <= 50);
            gone = (gone + 7) % 1000;
            subscriptions.remove("a/+", gone);
            subscriptions.remove("a/b", gone);
        }
        assert!(seen[1000..].iter().all(|times| *times >= 2), "they were there all the time");
    }
}
