//! What was worked out for a topic, remembered until a filter changes that matches the topic.
//!
//! A filter without wildcard is the topic that it matches, which is forgotten at once. A change of
//! one with wildcards is noted, and each topic looks, when it is asked for, whether one of the
//! changes since then matches it. So a client that publishes to few topics pays for few
//! comparisons, and the other topics cost nothing.

use std::collections::{VecDeque, hash_map};

use ahash::AHashMap;

use super::level::{has_wildcard, matches};

/// Topics that are remembered: as many as fit into the table before it grows once more.
const ROUTE_COUNT_MAX: usize = 14 * 1024;
/// A longer topic is not remembered: when the table grows, all are hashed again.
const TOPIC_BYTES_MAX: usize = 1024;
/// Routes that are given up when another one comes, while some have to go.
const GONE_PER_INSERT: usize = 2;
/// The most that are given up in one turn, or for one that needs the room, and their bytes, which
/// the last of them may exceed.
const GONE_PER_TURN: usize = 256;
const GONE_BYTES_PER_TURN: usize = 256 * 1024;
/// Memory of one beside its topic and what its value points to.
const ROUTE_BYTES: usize = 96;
/// Changes that are noted; a topic that was not used since then is computed again.
const CHANGE_COUNT_MAX: usize = 1024;
/// A change of a longer filter is not noted: everything is forgotten.
const FILTER_BYTES_MAX: usize = 256;

/// Topics, each with a `T`.
#[derive(Debug)]
pub struct Routes<T> {
    routes: AHashMap<Box<str>, Route<T>>,
    /// Bytes of memory of all of them.
    bytes: usize,
    /// What has to go, to make room; it is not remembered any more, and given up bit by bit.
    leaving: hash_map::IntoIter<Box<str>, Route<T>>,
    leaving_bytes: usize,
    bytes_max: usize,
    /// Filters with wildcards that have changed, the newest last.
    changes: VecDeque<Box<str>>,
    change_count_max: usize,
    /// All changes ever noted.
    change_count: u64,
}

#[derive(Debug)]
struct Route<T> {
    value: T,
    bytes: usize,
    /// This many changes have been examined, and do not match.
    seen: u64,
}

impl<T: Clone> Routes<T> {
    /// Nothing is remembered, and no more is than takes `bytes_max` bytes of memory, unless that is
    /// one topic.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self::bounded(bytes_max, CHANGE_COUNT_MAX)
    }

    fn bounded(bytes_max: usize, change_count_max: usize) -> Self {
        Self {
            routes: AHashMap::default(),
            bytes: 0,
            leaving: hash_map::IntoIter::default(),
            leaving_bytes: 0,
            bytes_max,
            changes: VecDeque::new(),
            change_count_max,
            change_count: 0,
        }
    }

    /// What is remembered for a topic, if no filter with wildcards has changed since it was asked
    /// for last.
    pub fn get(&self, topic: &str) -> Option<T> {
        let route = self.routes.get(topic).filter(|route| route.seen == self.change_count)?;
        Some(route.value.clone())
    }

    /// What is remembered for a topic, if nothing has changed that matches it; and how many changes
    /// were compared with it.
    pub fn get_anew(&mut self, topic: &str) -> (Option<T>, usize) {
        let Some(route) = self.routes.get_mut(topic) else { return (None, 0) };
        let behind = usize::try_from(self.change_count - route.seen).unwrap_or(usize::MAX);
        let mut since = self.changes.iter().rev().take(behind);
        if behind > self.changes.len() || since.any(|filter| matches(filter, topic)) {
            self.remove(topic);
            return (None, behind.min(self.changes.len()));
        }
        route.seen = self.change_count;
        (Some(route.value.clone()), behind)
    }

    /// Remembers a topic; `value_bytes` is the memory that its value points to.
    pub fn insert(&mut self, topic: &str, value: T, value_bytes: usize) {
        self.insert_of(self.change_count, topic, value, value_bytes);
    }

    /// A name for this moment, for what is worked out from now on and remembered later.
    pub fn moment(&self) -> u64 {
        self.change_count
    }

    /// Does [`Self::insert`] for a value that was computed since a [`Self::moment`]. Changes since
    /// that moment count, except those of filters without wildcards.
    pub fn insert_of(&mut self, moment: u64, topic: &str, value: T, value_bytes: usize) {
        if topic.len() > TOPIC_BYTES_MAX {
            return;
        }
        self.remove(topic);
        let bytes = topic.len() + value_bytes + ROUTE_BYTES;
        if self.make_room(bytes) {
            self.bytes += bytes;
            self.routes.insert(topic.into(), Route { value, bytes, seen: moment });
        }
    }

    /// A subscription to a filter has come, gone or changed.
    pub fn forget(&mut self, filter: &str) {
        if !has_wildcard(filter) {
            self.remove(filter);
        } else if filter.len() > FILTER_BYTES_MAX || self.routes.is_empty() {
            self.forget_all();
        } else {
            if self.changes.len() == self.change_count_max {
                self.changes.pop_front();
            }
            self.changes.push_back(filter.into());
            self.change_count += 1;
        }
    }

    /// Bytes of memory that are taken.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.leaving_bytes
    }

    /// Changes what may be taken. What is above that goes in the turns to come.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Gives up some of what has to go, once in a turn.
    pub fn trim(&mut self) {
        if self.memory_bytes() > self.bytes_max {
            self.leave();
        }
        self.let_go(GONE_PER_TURN, GONE_BYTES_PER_TURN);
    }

    /// Forgets everything, because too much has changed. The cost is the same however much that is.
    pub fn forget_all(&mut self) {
        self.changes.clear();
        self.change_count += 1;
    }

    fn remove(&mut self, topic: &str) {
        if let Some(route) = self.routes.remove(topic) {
            self.bytes -= route.bytes;
        }
    }

    /// Gives up what has to go for one more; false if that is too much for now.
    fn make_room(&mut self, bytes: usize) -> bool {
        self.let_go(GONE_PER_INSERT, GONE_BYTES_PER_TURN);
        if self.routes.len() >= ROUTE_COUNT_MAX {
            self.leave();
        }
        let too_much = (self.memory_bytes() + bytes).saturating_sub(self.bytes_max);
        if too_much > 0 && self.memory_bytes() > 0 {
            self.leave();
            self.let_go(GONE_PER_TURN, too_much.min(GONE_BYTES_PER_TURN));
        }
        self.memory_bytes() == 0 || self.memory_bytes() + bytes <= self.bytes_max
    }

    /// All have to go that are remembered, once those that had to go before have gone.
    fn leave(&mut self) {
        if self.leaving.len() == 0 {
            self.leaving = std::mem::take(&mut self.routes).into_iter();
            self.leaving_bytes = std::mem::take(&mut self.bytes);
        }
    }

    /// Gives up as many of those that have to go, until they were as many bytes.
    fn let_go(&mut self, count: usize, bytes: usize) {
        let bytes_left = self.leaving_bytes.saturating_sub(bytes);
        for (_, route) in self.leaving.by_ref().take(count) {
            self.leaving_bytes -= route.bytes;
            if self.leaving_bytes <= bytes_left {
                break;
            }
        }
        if self.leaving.len() == 0 {
            self.leaving = hash_map::IntoIter::default(); // With the memory of the table.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Subscriptions;
    use super::super::naive::{self, found};
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(String, u8),
        Unsubscribe(String, u8),
        Publish(String),
    }

    fn step() -> impl Strategy<Value = Step> {
        let filter = || prop_oneof![1 => naive::topic(), 2 => naive::filter()];
        prop_oneof![
            1 => (filter(), 0_u8..4).prop_map(|(filter, who)| Step::Subscribe(filter, who)),
            1 => (filter(), 0_u8..4).prop_map(|(filter, who)| Step::Unsubscribe(filter, who)),
            3 => naive::topic().prop_map(Step::Publish),
        ]
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_is_found(
            steps in prop::collection::vec(step(), 0..200),
            bytes_max in prop::sample::select(vec![1_usize, 500, 100_000]),
            change_count_max in 1_usize..6,
        ) {
            let mut subscriptions = Subscriptions::with_seed([1, 2, 3, 4]);
            let mut routes = Routes::bounded(bytes_max, change_count_max);
            for (number, step) in steps.iter().enumerate() {
                match step {
                    Step::Subscribe(filter, who) => {
                        subscriptions.insert(filter, *who, number);
                        routes.forget(filter);
                    }
                    Step::Unsubscribe(filter, who) => {
                        if subscriptions.remove(filter, *who).existed {
                            routes.forget(filter);
                        }
                    }
                    Step::Publish(topic) => {
                        let wanted = found(&subscriptions, topic);
                        if let Some(remembered) = routes.get_anew(topic).0 {
                            prop_assert_eq!(&remembered, &wanted, "{}", topic);
                        }
                        routes.insert(topic, wanted.clone(), wanted.len());
                        prop_assert_eq!(routes.get_anew(topic).0, Some(wanted));
                    }
                }
                let bytes: usize = routes.routes.values().map(|route| route.bytes).sum();
                prop_assert_eq!(routes.bytes, bytes);
                prop_assert_eq!(routes.leaving_bytes == 0, routes.leaving.len() == 0);
                let count = routes.routes.len() + routes.leaving.len();
                prop_assert!(routes.memory_bytes() <= bytes_max || count == 1);
            }
        }
    }

    #[test]
    fn what_changes_while_a_route_is_worked_out_counts() {
        for (filter, is_kept) in [("a/+", false), ("b/+", true), ("#", false)] {
            for is_first in [true, false] {
                let mut routes = remembering(if is_first { &[] } else { &["x"] });
                let moment = routes.moment();
                routes.forget(filter);
                routes.insert_of(moment, "a/b", 7, 1);
                let is_known = routes.get_anew("a/b").0 == Some(7);
                // With nothing to forget it is not noted what has changed, but that something has.
                assert_eq!(is_known, is_kept && !is_first, "{filter}");
            }
        }
    }

    #[test]
    fn what_has_not_been_asked_for_since_a_change_is_looked_at_anew() {
        let mut routes = remembering(&["a", "b"]);
        routes.forget("x/+");
        assert_eq!((routes.get("a"), routes.get_anew("a")), (None, (Some(0), 1)));
        assert_eq!((routes.get("a"), routes.get("b")), (Some(0), None));
    }

    fn remembering(topics: &[&str]) -> Routes<usize> {
        let mut routes = Routes::new(1 << 20);
        for (value, topic) in topics.iter().enumerate() {
            routes.insert(topic, value, 1);
        }
        routes
    }

    #[test]
    fn a_change_concerns_the_topics_that_it_matches_and_no_other() {
        for (filter, left) in [
            ("a/b", [None, Some(1), Some(2), Some(3)]),
            ("a/+", [None, None, Some(2), Some(3)]),
            ("#", [None, None, None, Some(3)]),
            ("$SYS/#", [Some(0), Some(1), Some(2), None]),
            ("c", [Some(0), Some(1), Some(2), Some(3)]),
        ] {
            let topics = ["a/b", "a/c", "b", "$SYS/x"];
            let mut routes = remembering(&topics);
            routes.forget(filter);
            assert_eq!(topics.map(|topic| routes.get_anew(topic).0), left, "{filter}");
        }
    }

    #[test]
    fn changes_are_noted_up_to_a_limit() {
        let mut routes = remembering(&["hot", "cold"]);
        for number in 0..10 * CHANGE_COUNT_MAX {
            routes.forget(&format!("other/{number}/+"));
            assert_eq!(routes.get_anew("hot").0, Some(0));
        }
        assert_eq!(routes.changes.len(), CHANGE_COUNT_MAX);
        assert_eq!(routes.get_anew("cold").0, None, "nobody knows what has changed since");
        routes.forget(&format!("{}/+", "x".repeat(FILTER_BYTES_MAX)));
        assert_eq!(routes.get_anew("hot").0, None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut routes = Routes::new(16 << 20);
        for number in 0..2 * ROUTE_COUNT_MAX {
            routes.insert(&number.to_string(), number, 0);
            assert!(routes.routes.len() <= ROUTE_COUNT_MAX);
        }
        routes.insert(&"x".repeat(TOPIC_BYTES_MAX + 1), 0, 0);
        assert_eq!(routes.get(&"x".repeat(TOPIC_BYTES_MAX + 1)), None);
        routes.insert("heavy", 0, 16 << 20);
        assert_eq!(routes.get("heavy"), None, "too much has to go for it");
        for _ in 0..=ROUTE_COUNT_MAX / GONE_PER_TURN {
            routes.insert("heavy", 0, 16 << 20);
        }
        assert_eq!((routes.get("heavy"), routes.routes.len()), (Some(0), 1));
        routes.insert("light", 0, 1);
        assert_eq!((routes.get("heavy"), routes.get("light")), (None, Some(0)));
        routes.set_bytes_max(1);
        routes.trim();
        assert_eq!((routes.get("light"), routes.memory_bytes()), (None, 0));
    }

    #[test]
    fn what_has_to_go_goes_in_parts() {
        let mut routes = Routes::new(16 << 20);
        for number in 0..=ROUTE_COUNT_MAX {
            routes.insert(&number.to_string(), number, 0);
        }
        assert_eq!((routes.routes.len(), routes.leaving.len()), (1, ROUTE_COUNT_MAX));
        assert_eq!(
            (routes.get("0"), routes.get(&ROUTE_COUNT_MAX.to_string())),
            (None, Some(ROUTE_COUNT_MAX))
        );
        routes.insert("one more", 0, 0);
        assert_eq!(routes.leaving.len(), ROUTE_COUNT_MAX - GONE_PER_INSERT);
        routes.trim();
        assert_eq!(routes.leaving.len(), ROUTE_COUNT_MAX - GONE_PER_INSERT - GONE_PER_TURN);
        routes.set_bytes_max(0);
        for _ in 0..=ROUTE_COUNT_MAX / GONE_PER_TURN {
            routes.trim();
        }
        assert_eq!(routes.memory_bytes(), 0);
    }
}
