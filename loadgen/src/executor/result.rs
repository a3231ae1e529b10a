//! What an executor hands in at the end.

use crate::recording::Strays;
use crate::recording::groups::Groups;
use crate::recording::impact::Impact;
use crate::recording::operations::Operations;
use crate::recording::recorder::Recorder;
use crate::recording::replay::ReplayBook;
use crate::recording::tally::{Counts, Settlement, Tally};
use crate::sample::usage::Usage;

/// What an executor hands in at the end.
pub(crate) struct ExecutorResult {
    pub(crate) recorder: Box<Recorder>,
    pub(crate) tally: Tally,
    pub(crate) groups: Groups,
    pub(crate) bystanders: Tally,
    pub(crate) replay: ReplayBook,
    pub(crate) impact: Option<Impact>,
    pub(crate) strays: Strays,
    /// Messages sent per topic.
    pub(crate) sent: Vec<u64>,
    pub(crate) acknowledged: u64,
    /// Messages that the closed loop no longer waits for.
    pub(crate) written_off: u64,
    pub(crate) usage: Usage,
    /// Of the steps that were begun.
    pub(crate) steps: Vec<StepBook>,
}

impl ExecutorResult {
    pub(crate) fn counts(&self) -> Counts {
        [self.tally.counts(), self.groups.counts(), self.replay.counts()].into_iter().sum()
    }

    /// Closes the books. `sent` holds the number of messages sent for each topic of the plan.
    pub(crate) fn settle(&self, sent: &[u64]) -> Settlement {
        let parts = [self.tally.settle(sent), self.groups.settle(sent), self.replay.settle()];
        parts.into_iter().sum()
    }
}

/// What one executor did in one step.
pub(crate) struct StepBook {
    pub(crate) operations: Operations,
    pub(crate) usage: Usage,
}
