//! The books of retained messages that clients have asked for.

use crate::recording::tally::{Counts, Settlement};

/// What all replays of one executor came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct ReplayBook {
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    pub(crate) duplicated: u64,
    /// Not the last message that was published on its topic.
    pub(crate) outdated: u64,
    /// Without the RETAIN flag [MQTT-3.3.1-8].
    pub(crate) unflagged: u64,
}

impl ReplayBook {
    pub(crate) fn counts(&self) -> Counts {
        let Self { delivered, duplicated, .. } = *self;
        Counts { delivered, duplicated, duplicated_unmarked: duplicated, ..Counts::default() }
    }

    pub(crate) fn settle(&self) -> Settlement {
        let lost = self.expected - self.delivered;
        Settlement { expected: self.expected, lost, invented: 0 }
    }

    /// Adds what `other` has counted.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.outdated += other.outdated;
        self.unflagged += other.unflagged;
    }
}
