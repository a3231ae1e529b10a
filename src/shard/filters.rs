//! The filters of one session: most have one or two, some have a hundred thousand. Their texts
//! lie in the table of subscriptions, once for all sessions.

use std::collections::BTreeSet;

use crate::routing::FilterKey;

/// This many take no memory of their own.
const FEW_COUNT_MAX: usize = 3;

/// A set of filters.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "few sessions have many, and a set is three words")]
pub(super) enum Filters {
    Few([Option<FilterKey>; FEW_COUNT_MAX]),
    Many(Box<BTreeSet<FilterKey>>),
}

impl Default for Filters {
    fn default() -> Self {
        Self::Few([None; FEW_COUNT_MAX])
    }
}

impl Filters {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.iter().flatten().count(),
            Self::Many(many) => many.len(),
        }
    }

    /// Adds a filter that is not in the set.
    pub(super) fn insert(&mut self, filter: FilterKey) {
        match self {
            Self::Few(few) => match few.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(filter),
                None => {
                    let all = few.iter().copied().flatten().chain([filter]);
                    *self = Self::Many(Box::new(all.collect()));
                }
            },
            Self::Many(many) => {
                let is_new = many.insert(filter);
                debug_assert!(is_new, "it is in the set");
            }
        }
    }

    /// Takes a filter out, if it is in the set.
    pub(super) fn remove(&mut self, filter: FilterKey) {
        match self {
            Self::Few(few) => {
                few.iter_mut().filter(|place| **place == Some(filter)).for_each(|it| *it = None);
            }
            Self::Many(many) => _ = many.remove(&filter),
        }
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = FilterKey> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().flatten();
        few.chain(many.into_iter().flat_map(|many| many.iter())).copied()
    }

    /// Takes out one of them.
    pub(super) fn pop(&mut self) -> Option<FilterKey> {
        match self {
            Self::Few(few) => few.iter_mut().find_map(Option::take),
            Self::Many(many) => many.pop_first(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Subscriptions;

    fn all(filters: &mut Filters) -> Vec<FilterKey> {
        std::iter::from_fn(|| filters.pop()).collect()
    }

    #[test]
    fn is_the_same_set_however_many_there_are() {
        let mut table = Subscriptions::with_seed([1, 2, 3, 4]);
        let mut filters = Filters::default();
        for count in 0..100 {
            assert_eq!(filters.len(), count);
            let name = format!("f/{count}");
            table.insert(&name, 0, ());
            filters.insert(table.find(&name).unwrap());
        }
        for number in 2..100 {
            filters.remove(table.find(&format!("f/{number}")).unwrap());
            assert_eq!(filters.len(), 101 - number);
        }
        let left: Vec<&str> = all(&mut filters).into_iter().map(|key| table.filter(key)).collect();
        assert_eq!(left, ["f/0", "f/1"]);
        assert_eq!(filters.len(), 0);
    }

    #[test]
    fn a_place_that_was_left_is_taken_again() {
        let mut table = Subscriptions::with_seed([1, 2, 3, 4]);
        let mut filters = Filters::default();
        let keys = ["a", "b", "c", "d"].map(|name| {
            table.insert(name, 0, ());
            table.find(name).unwrap()
        });
        keys[..3].iter().for_each(|key| filters.insert(*key));
        filters.remove(keys[1]);
        filters.insert(keys[3]);
        assert!(matches!(filters, Filters::Few(_)));
        assert_eq!(all(&mut filters), [keys[0], keys[3], keys[2]]);
    }

    #[test]
    fn a_set_is_small() {
        assert_eq!(size_of::<Filters>(), 16);
    }
}
