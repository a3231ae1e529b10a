//! Which topics have which names, so that a lookup looks at those alone that have the rarest name
//! it asks for, and at nothing if there is none.

use super::sorted::{Place, Sorted};
use crate::arena::{Arena, Key};
use crate::index::Index;
use ahash::RandomState;
use std::borrow::Cow;

/// The depths whose names are known. Those in the first level, at depth 0, are found by the order
/// of the topics; deeper ones are not known, which bounds what a topic of thousands of levels
/// takes.
const DEPTHS: std::ops::RangeInclusive<usize> = 1..=16;

/// For each name at each depth, the topics that have it there, in order.
///
/// What is kept of a name is half of its hash. Two names that look the same have one list, so
/// that it may hold topics that have another name.
#[derive(Debug)]
pub(super) struct Names {
    /// By the hash of a name and its depth: the key of the one topic that has it, since most
    /// names are rare, or the key of a list of at least two with [`IS_LIST`] added.
    index: Index,
    lists: Arena<Sorted>,
    hasher: RandomState,
}

/// The bit of a key that [`Key`] leaves to its holder.
const IS_LIST: u32 = 1 << 31;

enum Holders {
    None,
    One(Key),
    /// The key of their list.
    Many(Key),
}

impl Names {
    /// No names, to be hashed by `hasher`.
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { index: Index::default(), lists: Arena::new(), hasher }
    }

    /// A topic has come, given level by level. `is_before` tells the order of two topics.
    pub(super) fn add<'a>(
        &mut self,
        levels: impl Iterator<Item = &'a str>,
        topic: Key,
        is_before: &impl Fn(Key, Key) -> bool,
    ) {
        for (depth, name) in known(levels) {
            self.add_to(self.hash(depth, name), topic, is_before);
        }
    }

    /// A topic goes that was added before.
    pub(super) fn remove<'a>(
        &mut self,
        levels: impl Iterator<Item = &'a str>,
        topic: Key,
        is_before: &impl Fn(Key, Key) -> bool,
    ) {
        for (depth, name) in known(levels) {
            self.remove_from(self.hash(depth, name), topic, is_before);
        }
    }

    /// All topics that have this name at this depth, and perhaps others; `None` if that is not
    /// known.
    pub(super) fn holders(&self, depth: usize, name: &str) -> Option<Cow<'_, Sorted>> {
        DEPTHS.contains(&depth).then(|| match self.find(self.hash(depth, name)) {
            Holders::None => Cow::Owned(Sorted::default()),
            Holders::One(topic) => Cow::Owned(Sorted::of(topic)),
            Holders::Many(list) => Cow::Borrowed(self.lists.get(list)),
        })
    }

    /// How many names at how many depths there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Adds a topic, once even if two of its names have the same hash.
    fn add_to(&mut self, hash: u64, topic: Key, is_before: &impl Fn(Key, Key) -> bool) {
        match self.find(hash) {
            Holders::None => self.index.insert(hash, topic.bits()),
            Holders::One(holder) if holder == topic => {}
            Holders::One(holder) => {
                let mut both = Sorted::of(holder);
                insert(&mut both, topic, is_before);
                let list = self.lists.insert(both);
                self.index.replace(hash, holder.bits(), list.bits() | IS_LIST);
            }
            Holders::Many(list) => insert(self.lists.get_mut(list), topic, is_before),
        }
    }

    /// Takes a topic out unless it has gone with another of its names.
    fn remove_from(&mut self, hash: u64, topic: Key, is_before: &impl Fn(Key, Key) -> bool) {
        match self.find(hash) {
            Holders::One(holder) if holder == topic => self.index.remove(hash, topic.bits()),
            Holders::None | Holders::One(_) => {}
            Holders::Many(list) => {
                let holders = self.lists.get_mut(list);
                remove(holders, topic, is_before);
                if let Some(last) = holders.only() {
                    self.lists.remove(list);
                    self.index.replace(hash, list.bits() | IS_LIST, last.bits());
                }
            }
        }
    }

    fn find(&self, hash: u64) -> Holders {
        let Some(number) = self.index.find(hash, |_| true) else { return Holders::None };
        let key = Key::from_bits(number & !IS_LIST).expect("no key is zero");
        if number & IS_LIST == 0 { Holders::One(key) } else { Holders::Many(key) }
    }

    fn hash(&self, depth: usize, name: &str) -> u64 {
        self.hasher.hash_one((depth, name))
    }
}

fn known<'a>(levels: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (usize, &'a str)> {
    let first = *DEPTHS.start();
    levels.enumerate().skip(first).take(DEPTHS.count())
}

/// Adds a topic unless it is there.
fn insert(list: &mut Sorted, topic: Key, is_before: &impl Fn(Key, Key) -> bool) {
    let place = list.seek(Place::default(), |other| is_before(other, topic));
    if list.get(place) != Some(topic) {
        list.insert(place, topic);
    }
}

/// Takes a topic out if it is there.
fn remove(list: &mut Sorted, topic: Key, is_before: &impl Fn(Key, Key) -> bool) {
    let place = list.seek(Place::default(), |other| is_before(other, topic));
    if list.get(place) == Some(topic) {
        list.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        Key::from_bits(number).expect("it is not zero")
    }

    fn by_key(one: Key, other: Key) -> bool {
        one < other
    }

    #[test]
    fn a_name_costs_a_slot_of_the_index_and_a_list_if_it_is_common() {
        let topics: Vec<_> = (1..=9).map(key).collect();
        let mut names = Names::new(RandomState::new());
        for topic in &topics {
            names.add(["", "same", &topic.bits().to_string()].into_iter(), *topic, &by_key);
        }
        assert_eq!((names.len(), names.lists.len()), (10, 1));
        let holders = |names: &Names, name| names.holders(1, name).map(|list| list.len());
        assert_eq!(holders(&names, "same"), Some(9));
        for topic in &topics[1..] {
            names.remove(["", "same", &topic.bits().to_string()].into_iter(), *topic, &by_key);
        }
        assert_eq!((names.len(), names.lists.len()), (2, 0));
        assert_eq!((holders(&names, "same"), holders(&names, "other")), (Some(1), Some(0)));
    }

    #[test]
    fn only_the_depths_are_known_that_are_kept() {
        let mut names = Names::new(RandomState::new());
        names.add(["a"; 30].into_iter(), key(1), &by_key);
        let depths = (0..30).filter(|depth| names.holders(*depth, "a").is_some());
        assert_eq!((depths.collect::<Vec<_>>(), names.len()), ((1..=16).collect(), 16));
        names.remove(["a"; 30].into_iter(), key(1), &by_key);
        assert_eq!(names.len(), 0);
    }

    /// Names that look the same, of one topic and of several: as often as one comes and goes.
    #[test]
    fn names_with_the_same_hash_share_a_list() {
        let mut names = Names::new(RandomState::new());
        let [one, two] = [key(1), key(2)];
        let hash = names.hash(1, "a");
        let count = |names: &Names| names.holders(1, "a").expect("the depth is known").len();
        for (topic, wanted) in [(one, 1), (one, 1), (two, 2), (two, 2)] {
            names.add_to(hash, topic, &by_key);
            assert_eq!(count(&names), wanted);
        }
        for (topic, wanted) in [(one, 1), (one, 1), (two, 0), (two, 0)] {
            names.remove_from(hash, topic, &by_key);
            assert_eq!(count(&names), wanted);
        }
        assert_eq!((names.len(), names.lists.len()), (0, 0));
    }
}
