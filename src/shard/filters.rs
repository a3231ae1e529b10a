//! The filters of one session: most have one or two, some have a hundred thousand.

use ahash::AHashSet;

/// From so many on they are found by hash.
const FEW_COUNT_MAX: usize = 16;

/// A set of filters.
#[derive(Debug)]
pub(super) enum Filters {
    /// Looked through one by one.
    Few(Vec<Box<str>>),
    /// Found by hash.
    Many(Box<AHashSet<Box<str>>>),
}

impl Default for Filters {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Filters {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn contains(&self, filter: &str) -> bool {
        match self {
            Self::Few(few) => few.iter().any(|held| **held == *filter),
            Self::Many(many) => many.contains(filter),
        }
    }

    /// Adds a filter that is not in the set.
    pub(super) fn insert(&mut self, filter: &str) {
        debug_assert!(!self.contains(filter), "it is in the set");
        match self {
            Self::Few(few) if few.len() < FEW_COUNT_MAX => {
                few.reserve_exact(1); // There are very many of these, and few ever grow.
                few.push(filter.into());
            }
            Self::Few(few) => {
                let mut many: AHashSet<Box<str>> = few.drain(..).collect();
                many.insert(filter.into());
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => _ = many.insert(filter.into()),
        }
    }

    pub(super) fn remove(&mut self, filter: &str) {
        match self {
            Self::Few(few) => few.retain(|held| **held != *filter),
            Self::Many(many) => _ = many.remove(filter),
        }
    }

    /// All of them, leaving none.
    pub(super) fn take(&mut self) -> Vec<Box<str>> {
        match std::mem::take(self) {
            Self::Few(few) => few,
            Self::Many(many) => many.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_same_set_however_many_there_are() {
        let mut filters = Filters::default();
        let names: Vec<String> = (0..100).map(|number| format!("f/{number}")).collect();
        for (count, name) in names.iter().enumerate() {
            assert_eq!(filters.len(), count);
            assert!(!filters.contains(name));
            filters.insert(name);
            assert!(filters.contains(name));
        }
        for name in &names[..50] {
            filters.remove(name);
            assert!(!filters.contains(name));
        }
        let mut left = filters.take();
        left.sort_unstable();
        let mut expected: Vec<Box<str>> = names[50..].iter().map(|n| n.as_str().into()).collect();
        expected.sort_unstable();
        assert_eq!(left, expected);
        assert_eq!(filters.len(), 0);
    }
}
