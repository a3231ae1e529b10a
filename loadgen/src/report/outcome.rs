//! What a run came to, as it was measured: what reports are made from.

use crate::pace::schedule::{Schedule, Timeline};
use crate::plan::{Load, Plan};
use crate::recording::Strays;
use crate::recording::impact::Impact;
use crate::recording::operations::Operations;
use crate::recording::recorder::Recorder;
use crate::recording::replay::ReplayBook;
use crate::recording::tally::{Counts, Settlement};
use crate::report::series::{Interval, Marks};
use crate::sample::usage::Usage;

/// Everything that was measured.
pub(crate) struct Outcome {
    /// Why the run did not get to its end.
    pub(crate) failure: Option<String>,
    pub(crate) started_unix_s: u64,
    pub(crate) connected: u64,
    pub(crate) connect_s: f64,
    /// `None` until all clients are connected.
    pub(crate) timeline: Option<Timeline>,
    pub(crate) recorder: Recorder,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) marks: Marks,
    /// Pid and name of the broker, if it was sampled.
    pub(crate) broker: Option<(u32, String)>,
    pub(crate) counts: Counts,
    pub(crate) settlement: Settlement,
    /// Of extra clients that take deliveries.
    pub(crate) bystanders: (Counts, Settlement),
    pub(crate) replay: ReplayBook,
    pub(crate) impact: Option<Impact>,
    /// How many messages each member of a shared subscription has got.
    pub(crate) shares: Vec<u64>,
    pub(crate) strays: Strays,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) written_off: u64,
    /// Of each executor.
    pub(crate) usage: Vec<Usage>,
    pub(crate) steps: Vec<StepOutcome>,
    /// Persistent sessions that were created and left.
    pub(crate) session_count: u64,
}

/// What happened in one step.
pub(crate) struct StepOutcome {
    pub(crate) name: &'static str,
    pub(crate) begin_ns: i64,
    pub(crate) end_ns: i64,
    pub(crate) operations: Operations,
    /// Of each executor.
    pub(crate) usage: Vec<Usage>,
}

/// Counts the messages of the schedule: `None` in closed loop, where the broker decides.
pub(crate) fn planned_count(plan: &Plan, timeline: &Timeline) -> Option<u64> {
    match plan.load {
        _ if plan.message_count.is_some() => plan.message_count,
        Load::Closed { .. } => None,
        Load::Open { rate_per_s } => {
            let schedule = Schedule::new(timeline, rate_per_s, plan.publisher_count);
            Some((0..plan.publisher_count).map(|number| schedule.message_count(number)).sum())
        }
    }
}
