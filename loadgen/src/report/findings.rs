//! What a run found beside the figures of its publishes and deliveries: how each step went, and
//! what only some scenarios look for.

use serde::Serialize;

use crate::plan::Plan;
use crate::plan::step::Duty;
use crate::recording::impact::Impact;
use crate::recording::operations::{Operation, RECONNECT};
use crate::recording::recorder::Recorder;
use crate::report::outcome::{Outcome, StepOutcome};
use crate::report::percentiles::Percentiles;
use crate::report::search_row::SearchRow;
use crate::report::series::per;
use crate::report::usage::Executor;
use crate::units::count;

/// Steps shorter than this say nothing about the use of a core.
const STEP_S_MIN: f64 = 0.2;

/// One step of the plan.
#[derive(Serialize)]
pub(crate) struct StepRow {
    pub(crate) name: &'static str,
    /// From the beginning of the run.
    pub(crate) from_s: f64,
    pub(crate) seconds: f64,
    pub(crate) operations: Vec<OperationRow>,
    pub(crate) executors: Vec<Executor>,
}

/// What clients asked for in a step, and how long the answers took.
#[derive(Serialize)]
pub(crate) struct OperationRow {
    pub(crate) name: &'static str,
    /// Those that were answered.
    pub(crate) count: u64,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
    /// From the time at which the first was intended to the last answer.
    pub(crate) per_second: f64,
    /// From the time at which it was intended to the answer.
    pub(crate) latency_ns: Percentiles,
}

/// Latencies, from the intended time, of clients that the incident did not concern.
#[derive(Serialize)]
pub(crate) struct ImpactRow {
    /// From the incident to the moment at which it was over for all clients; none if it never was.
    pub(crate) seconds: Option<f64>,
    pub(crate) before_ns: Percentiles,
    pub(crate) during_ns: Percentiles,
    pub(crate) after_ns: Percentiles,
}

/// Deliveries to extra clients, which no other figures contain.
#[derive(Serialize)]
pub(crate) struct BystanderRow {
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) out_of_order: u64,
}

/// What was wrong with retained messages that did come.
#[derive(Serialize)]
pub(crate) struct RetainedRow {
    /// Not the last message of their topics.
    pub(crate) outdated: u64,
    /// Without the RETAIN flag.
    pub(crate) unflagged: u64,
}

/// How evenly shared subscriptions are shared: messages per member.
#[derive(Serialize)]
pub(crate) struct SharesRow {
    pub(crate) members: usize,
    pub(crate) least: u64,
    pub(crate) mean: f64,
    pub(crate) most: u64,
}

#[derive(Serialize)]
pub(crate) struct StallRow {
    pub(crate) longest_gap_ns: u64,
}

/// All of this, as far as the scenario has it.
#[derive(Serialize)]
pub(crate) struct Findings {
    pub(crate) steps: Vec<StepRow>,
    pub(crate) impact: Option<ImpactRow>,
    #[serde(rename = "aside")]
    pub(crate) bystanders: Option<BystanderRow>,
    pub(crate) retained: Option<RetainedRow>,
    pub(crate) shares: Option<SharesRow>,
    pub(crate) stall: Option<StallRow>,
    /// What was found by trying rates; this report is that of the rate found.
    pub(crate) search: Option<SearchRow>,
}

impl Findings {
    pub(crate) fn of(plan: &Plan, outcome: &Outcome) -> Self {
        Self {
            steps: outcome.steps.iter().map(StepRow::of).collect(),
            impact: outcome.impact.as_ref().map(ImpactRow::of),
            bystanders: plan.has_duty(Duty::Bystander).then(|| BystanderRow::of(outcome)),
            retained: plan.retain.then_some(RetainedRow {
                outdated: outcome.replay.outdated,
                unflagged: outcome.replay.unflagged,
            }),
            shares: SharesRow::of(&outcome.shares),
            stall: StallRow::of(&outcome.recorder),
            search: None,
        }
    }

    /// Lists the broken promises, for the verdict.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut violations = failures(&self.steps);
        if let Some(RetainedRow { outdated, unflagged }) = self.retained {
            let rows = [(outdated, "retained, but not the last"), (unflagged, "without RETAIN")];
            let bad = rows.into_iter().filter(|&(count, _)| count > 0);
            violations.extend(bad.map(|(count, what)| format!("{count} {what}")));
        }
        if let Some(bystanders) = &self.bystanders
            && bystanders.out_of_order > 0
        {
            violations.push(format!("{} out of order at slow consumers", bystanders.out_of_order));
        }
        if self.impact.as_ref().is_some_and(|impact| impact.seconds.is_none()) {
            violations.push("not everybody was back in time".to_owned());
        }
        violations
    }
}

impl ImpactRow {
    fn of(impact: &Impact) -> Self {
        Self {
            seconds: impact.seconds(),
            before_ns: Percentiles::of(&impact.before),
            during_ns: Percentiles::of(&impact.during),
            after_ns: Percentiles::of(&impact.after),
        }
    }
}

impl BystanderRow {
    fn of(outcome: &Outcome) -> Self {
        let (counts, settlement) = &outcome.bystanders;
        Self {
            expected: settlement.expected,
            delivered: counts.delivered,
            lost: settlement.lost,
            duplicated: counts.duplicated,
            out_of_order: counts.out_of_order,
        }
    }
}

impl StallRow {
    /// Returns `None` where there were no two deliveries.
    pub(crate) fn of(recorder: &Recorder) -> Option<Self> {
        let longest_gap_ns = recorder.longest_gap_ns;
        (longest_gap_ns > 0).then_some(Self { longest_gap_ns })
    }
}

impl SharesRow {
    fn of(deliveries: &[u64]) -> Option<Self> {
        let (least, most) = (deliveries.iter().min()?, deliveries.iter().max()?);
        Some(Self {
            members: deliveries.len(),
            least: *least,
            mean: deliveries.iter().sum::<u64>() as f64 / deliveries.len() as f64,
            most: *most,
        })
    }
}

/// Operations that failed. A broker that turns some of a crowd away for a moment defends itself;
/// what counts is that all are back in the end.
fn failures(steps: &[StepRow]) -> Vec<String> {
    let mut violations = Vec::new();
    for step in steps {
        let failed = |row: &&OperationRow| row.failed > 0 && row.name != RECONNECT;
        for row in step.operations.iter().filter(failed) {
            let reason = row.first_failure.as_deref().unwrap_or("unknown");
            let (failed, name) = (count(row.failed), row.name);
            violations.push(format!("{}: {failed} failed to {name}, first: {reason}", step.name));
        }
    }
    violations
}

/// Says why the generator, not the broker, may have been the limit of a step.
pub(crate) fn limits(steps: &[StepRow], cpu_share_max: f64) -> Vec<String> {
    let mut reasons = Vec::new();
    for step in steps.iter().filter(|step| step.is_measured() && step.seconds >= STEP_S_MIN) {
        for (place, executor) in step.executors.iter().enumerate() {
            if executor.cpu_share >= cpu_share_max {
                let percent = executor.cpu_share * 100.0;
                reasons
                    .push(format!("{}: executor {place} used {percent:.0} % of a core", step.name));
            }
        }
    }
    reasons
}

impl StepRow {
    fn of(step: &StepOutcome) -> Self {
        let operations = step.operations.iter();
        Self {
            name: step.name,
            from_s: step.begin_ns as f64 / 1e9,
            seconds: (step.end_ns - step.begin_ns) as f64 / 1e9,
            operations: operations
                .map(|(name, operation)| OperationRow::of(name, operation))
                .collect(),
            executors: step.usage.iter().map(Executor::of).collect(),
        }
    }

    /// Flows have their own figures.
    fn is_measured(&self) -> bool {
        !self.operations.is_empty()
    }
}

impl OperationRow {
    fn of(name: &'static str, operation: &Operation) -> Self {
        let count = operation.latency.len();
        let seconds = operation.last_ns.saturating_sub(operation.first_ns) as f64 / 1e9;
        Self {
            name,
            count,
            failed: operation.failed,
            first_failure: operation.first_failure.clone(),
            per_second: per(count as f64, seconds),
            latency_ns: Percentiles::of(&operation.latency),
        }
    }
}
