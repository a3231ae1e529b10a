//! A search for the subscribers of one topic, piece by piece.

use super::level::{has_wildcard, matches};
use super::trie::Walk;

/// A subscriber list that is longer is a piece of its own, or several.
pub(super) const LIST_LEN_MAX: usize = 32;

/// How far such a search has come. Other subscriptions may come and go between two pieces: one
/// that was there before the first piece and is there after the last one is found.
#[derive(Debug, Default)]
pub struct Search {
    /// Of the filters with wildcards.
    pub(super) walk: Walk,
    /// The filter without wildcard was found, or is not there.
    pub(super) is_exact_done: bool,
    /// Filters with many subscribers, the one that is being looked through first.
    pub(super) lists: Vec<List>,
    /// The number of those that are done.
    pub(super) lists_done: usize,
}

/// Where a subscription was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a list that was looked through at once.
    Short,
    /// In a list that may have changed meanwhile, so that it may be found there twice.
    Long(u32),
}

/// A filter with many subscribers.
#[derive(Debug)]
pub(super) struct List {
    pub(super) filter: Box<str>,
    /// Subscribers at the beginning of the list that were not found yet: one that goes leaves its
    /// place to the last one, which was.
    pub(super) left: usize,
}

impl Search {
    /// Whether everything was found.
    pub fn is_done(&self) -> bool {
        self.walk.is_done() && self.is_exact_done && self.lists.is_empty()
    }

    /// Whether subscribers of a filter are still to be found, because it matches the topic.
    pub fn is_to_come(&self, filter: &str, topic: &str) -> bool {
        let is_passed = match has_wildcard(filter) {
            true => self.walk.has_passed(filter),
            false => self.is_exact_done,
        };
        let is_left = !is_passed || self.lists.iter().any(|list| *list.filter == *filter);
        is_left && matches(filter, topic)
    }

    /// Where the subscribers of a filter are found, if that is under way or still to come.
    pub fn place(&self, filter: &str) -> Place {
        match self.lists.last() {
            Some(list) if *list.filter == *filter => Place::Long(self.list_number()),
            _ => Place::Short,
        }
    }

    /// The number of the list that is being looked through.
    pub(super) fn list_number(&self) -> u32 {
        u32::try_from(self.lists_done + 1).unwrap_or(u32::MAX)
    }
}
