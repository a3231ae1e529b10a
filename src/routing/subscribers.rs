//! The subscribers of one filter: usually one, sometimes thousands, always a slice.

use crate::index::Index;
use ahash::RandomState;
use std::hash::Hash;

/// The subscribers of one filter, each once, with its options.
#[derive(Debug)]
pub(super) enum Subscribers<S, O> {
    /// Kept in place, since most filters of a telemetry fleet have one subscriber.
    One((S, O)),
    Many(Box<Many<S, O>>),
}

/// Two or more subscribers.
#[derive(Debug)]
pub(super) struct Many<S, O> {
    items: Vec<(S, O)>,
    /// Where each subscriber lies in `items`; empty as long as looking at all of them is as fast.
    places: Index,
}

/// From how many subscribers on their places are kept.
const PLACES_FROM: usize = 32;

impl<S: Copy + Eq + Hash, O: Copy> Subscribers<S, O> {
    pub(super) fn as_slice(&self) -> &[(S, O)] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(many) => &many.items,
        }
    }

    /// The options of a subscriber, if it is there.
    pub(super) fn options(&self, subscriber: S, hasher: &RandomState) -> Option<O> {
        match self {
            Self::One((one, options)) => (*one == subscriber).then_some(*options),
            Self::Many(many) => many.place(subscriber, hasher).map(|place| many.items[place].1),
        }
    }

    /// Adds a subscriber, or gives it other options; the options that it had.
    pub(super) fn insert(&mut self, subscriber: S, options: O, hasher: &RandomState) -> Option<O> {
        match self {
            Self::One((one, present)) if *one == subscriber => {
                Some(std::mem::replace(present, options))
            }
            Self::One(one) => {
                let items = vec![*one, (subscriber, options)];
                *self = Self::Many(Box::new(Many { items, places: Index::default() }));
                None
            }
            Self::Many(many) => many.insert(subscriber, options, hasher),
        }
    }

    /// Takes a subscriber out, if it is there and not the last one.
    pub(super) fn remove(&mut self, subscriber: S, hasher: &RandomState) -> Removal {
        match self {
            Self::One((one, _)) if *one == subscriber => Removal::LastIsLeft,
            Self::One(_) => Removal::Absent,
            Self::Many(many) => {
                if !many.remove(subscriber, hasher) {
                    return Removal::Absent;
                }
                if let [one] = many.items[..] {
                    *self = Self::One(one);
                }
                Removal::Done
            }
        }
    }
}

/// What became of a subscriber to be removed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removal {
    Absent,
    Done,
    /// It is the only one and is still there: the list goes with it.
    LastIsLeft,
}

impl<S: Copy + Eq + Hash, O: Copy> Many<S, O> {
    fn insert(&mut self, subscriber: S, options: O, hasher: &RandomState) -> Option<O> {
        if let Some(place) = self.place(subscriber, hasher) {
            return Some(std::mem::replace(&mut self.items[place].1, options));
        }
        self.items.push((subscriber, options));
        if !self.places.is_empty() {
            self.places.insert(hasher.hash_one(subscriber), number(self.items.len() - 1));
        } else if self.items.len() >= PLACES_FROM {
            for (place, (subscriber, _)) in self.items.iter().enumerate() {
                self.places.insert(hasher.hash_one(subscriber), number(place));
            }
        }
        None
    }

    fn remove(&mut self, subscriber: S, hasher: &RandomState) -> bool {
        let Some(place) = self.place(subscriber, hasher) else { return false };
        let last = self.items.len() - 1;
        self.items.swap_remove(place);
        if !self.places.is_empty() {
            self.places.remove(hasher.hash_one(subscriber), number(place));
            if let Some((moved, _)) = self.items.get(place) {
                self.places.replace(hasher.hash_one(moved), number(last), number(place));
            }
        }
        self.shrink();
        true
    }

    fn place(&self, subscriber: S, hasher: &RandomState) -> Option<usize> {
        if self.places.is_empty() {
            return self.items.iter().position(|(present, _)| *present == subscriber);
        }
        let is_it = |number: u32| self.items[place(number)].0 == subscriber;
        self.places.find(hasher.hash_one(subscriber), is_it).map(place)
    }

    /// Gives memory back, but not so eagerly that the next insert needs it again.
    fn shrink(&mut self) {
        if self.items.len() < PLACES_FROM / 2 {
            self.places = Index::default();
        }
        if self.items.len() < self.items.capacity() / 4 {
            self.items.shrink_to(self.items.len() * 2);
        }
    }
}

/// What an [`Index`] keeps for a place in the list.
fn number(place: usize) -> u32 {
    u32::try_from(place + 1).expect("memory ends before 32 bits of subscribers do")
}

fn place(number: u32) -> usize {
    number as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    #[test]
    fn one_subscriber_lies_in_place() {
        assert!(size_of::<Subscribers<u64, u64>>() <= 24);
    }

    fn sorted(list: &Subscribers<u16, u8>) -> Vec<(u16, u8)> {
        let mut items = list.as_slice().to_vec();
        items.sort_unstable();
        items
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(
            steps in prop::collection::vec((any::<bool>(), 0_u16..80, any::<u8>()), 0..400),
        ) {
            let mut list = Subscribers::One((0, 0));
            let mut model = BTreeMap::from([(0, 0)]);
            for (add, subscriber, options) in steps {
                if add {
                    let before = list.insert(subscriber, options, &hasher());
                    prop_assert_eq!(before, model.insert(subscriber, options));
                } else {
                    let removal = list.remove(subscriber, &hasher());
                    let present = model.contains_key(&subscriber);
                    prop_assert_eq!(removal, match (present, model.len()) {
                        (false, _) => Removal::Absent,
                        (true, 1) => Removal::LastIsLeft,
                        (true, _) => { model.remove(&subscriber); Removal::Done }
                    });
                }
                prop_assert_eq!(sorted(&list), Vec::from_iter(model.clone()));
            }
        }
    }

    #[test]
    fn memory_comes_back_when_many_leave() {
        let mut list = Subscribers::One((0_u32, ()));
        for subscriber in 1..10_000 {
            list.insert(subscriber, (), &hasher());
        }
        for subscriber in 2..10_000 {
            assert_eq!(list.remove(subscriber, &hasher()), Removal::Done);
        }
        let Subscribers::Many(many) = &list else { panic!("two are left") };
        assert!(many.items.capacity() < 64 && many.places.is_empty());
        list.remove(0, &hasher());
        assert!(matches!(list, Subscribers::One((1, ()))));
    }
}
