//! What a run found beside the figures of its publishes and deliveries: how each step went, and
//! what only some scenarios look for.

use std::fmt::{self, Formatter};

use serde::Serialize;
use serde_json::Value;

use crate::document::Document;
use crate::figures::QUANTILES;
use crate::impact::Impact;
use crate::operations::{Operation, RECONNECT};
use crate::plan::Plan;
use crate::report::{Executor, Percentiles};
use crate::run::{Outcome, StepOutcome};
use crate::series::per;
use crate::step::Duty;
use crate::units::{Unit, count};

/// Steps shorter than this say nothing about the use of a core.
const STEP_S_MIN: f64 = 0.2;

/// One step of the plan.
#[derive(Serialize)]
pub(crate) struct StepRow {
    pub(crate) name: &'static str,
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

/// What an incident did to everybody else. Latencies from the intended time.
#[derive(Serialize)]
pub(crate) struct ImpactRow {
    /// From the incident to the moment at which it was over for everybody; none if it never was.
    pub(crate) seconds: Option<f64>,
    pub(crate) before_ns: Percentiles,
    pub(crate) during_ns: Percentiles,
    pub(crate) after_ns: Percentiles,
}

/// Deliveries to members of the crew, which nobody else's figures contain.
#[derive(Serialize)]
pub(crate) struct AsideRow {
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

/// All of this, as far as the scenario has it.
#[derive(Serialize)]
pub(crate) struct Findings {
    pub(crate) steps: Vec<StepRow>,
    pub(crate) impact: Option<ImpactRow>,
    pub(crate) aside: Option<AsideRow>,
    pub(crate) retained: Option<RetainedRow>,
    pub(crate) shares: Option<SharesRow>,
}

impl Findings {
    pub(crate) fn of(plan: &Plan, outcome: &Outcome) -> Self {
        Self {
            steps: outcome.steps.iter().map(StepRow::of).collect(),
            impact: outcome.impact.as_ref().map(ImpactRow::of),
            aside: plan.has_duty(Duty::Aside).then(|| AsideRow::of(outcome)),
            retained: plan.retain.then_some(RetainedRow {
                outdated: outcome.replay.outdated,
                unflagged: outcome.replay.unflagged,
            }),
            shares: SharesRow::of(&outcome.shares),
        }
    }

    /// What the broker did not keep, for the verdict.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut violations = failures(&self.steps);
        if let Some(RetainedRow { outdated, unflagged }) = self.retained {
            let rows = [(outdated, "retained, but not the last"), (unflagged, "without RETAIN")];
            let bad = rows.into_iter().filter(|&(count, _)| count > 0);
            violations.extend(bad.map(|(count, what)| format!("{count} {what}")));
        }
        if let Some(aside) = &self.aside
            && aside.out_of_order > 0
        {
            violations.push(format!("{} out of order at slow consumers", aside.out_of_order));
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

impl AsideRow {
    fn of(outcome: &Outcome) -> Self {
        let (counts, settlement) = &outcome.aside;
        Self {
            expected: settlement.expected,
            delivered: counts.delivered,
            lost: settlement.lost,
            duplicated: counts.duplicated,
            out_of_order: counts.out_of_order,
        }
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

/// Why the generator, not the broker, may have been the limit of a step.
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

/// As people read it: a block for each step that has operations, and what else there is. Of
/// several runs, the medians.
pub(crate) fn write_findings(f: &mut Formatter<'_>, document: &Document) -> fmt::Result {
    for (step, row) in rows(&document.first()["steps"]) {
        let at = format!("/steps/{step}");
        write_step(f, document, &at, row)?;
    }
    if document.first()["impact"].is_object() {
        write_impact(f, document)?;
    }
    write_line(f, document, "slow consumers", ASIDE)?;
    write_line(f, document, "retained", RETAINED)?;
    write_line(f, document, "messages per member of a group", SHARES)
}

/// Figures of a line, where they stand and what they are called.
type Line = &'static [(&'static str, &'static str)];

const ASIDE: Line = &[
    ("/aside/expected", "expected"),
    ("/aside/delivered", "delivered"),
    ("/aside/lost", "lost"),
    ("/aside/duplicated", "duplicated"),
    ("/aside/out_of_order", "out of order"),
];
const RETAINED: Line =
    &[("/retained/outdated", "outdated"), ("/retained/unflagged", "without the RETAIN flag")];
const SHARES: Line =
    &[("/shares/least", "least"), ("/shares/mean", "mean"), ("/shares/most", "most")];

fn write_line(f: &mut Formatter<'_>, document: &Document, name: &str, line: Line) -> fmt::Result {
    let shown = |&(at, name): &(&str, &str)| {
        Some(format!("{name} {}", Unit::Count.show(document.figure(at)?.median)))
    };
    let shown: Vec<String> = line.iter().filter_map(shown).collect();
    if shown.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{name}: {}", shown.join("   "))
}

fn rows(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

fn write_step(f: &mut Formatter<'_>, document: &Document, at: &str, row: &Value) -> fmt::Result {
    if rows(&row["operations"]).next().is_none() {
        return Ok(());
    }
    let show = |unit: Unit, at: &str| {
        document.figure(at).map_or_else(|| "-".to_owned(), |spread| unit.show(spread.median))
    };
    let seconds = show(Unit::Seconds, &format!("{at}/seconds"));
    writeln!(f, "\nstep {}: {seconds}", row["name"].as_str().unwrap_or_default())?;
    for (number, operation) in rows(&row["operations"]) {
        let at = format!("{at}/operations/{number}");
        let name = operation["name"].as_str().unwrap_or_default();
        let count = show(Unit::Count, &format!("{at}/count"));
        let rate = show(Unit::PerSecond, &format!("{at}/per_second"));
        let failed = match document.figure(&format!("{at}/failed")) {
            Some(spread) if spread.max > 0.0 => {
                format!("{} failed", Unit::Count.show(spread.median))
            }
            _ => String::new(),
        };
        writeln!(f, "  {name:22}{count:>11}{rate:>22}  {failed}")?;
    }
    let times: Vec<(&str, String)> = rows(&row["operations"])
        .map(|(number, operation)| {
            let name = operation["name"].as_str().unwrap_or_default();
            (name, format!("{at}/operations/{number}/latency_ns"))
        })
        .collect();
    write_times(f, document, &times)
}

fn write_impact(f: &mut Formatter<'_>, document: &Document) -> fmt::Result {
    match document.figure("/impact/seconds") {
        Some(spread) => {
            writeln!(f, "\nincident: over after {}", Unit::Seconds.show(spread.median))?
        }
        None => writeln!(f, "\nincident: not over at the end of the run")?,
    }
    let times = [
        ("deliveries before", "/impact/before_ns".to_owned()),
        ("during", "/impact/during_ns".to_owned()),
        ("after", "/impact/after_ns".to_owned()),
    ];
    write_times(f, document, &times)
}

/// A row of percentiles for each latency that there is.
fn write_times(
    f: &mut Formatter<'_>,
    document: &Document,
    times: &[(&str, String)],
) -> fmt::Result {
    let some = |at: &str| document.figure(&format!("{at}/count")).is_some_and(|it| it.max > 0.0);
    if !times.iter().any(|(_, at)| some(at)) {
        return Ok(());
    }
    write!(f, "  {:22}", "time")?;
    QUANTILES.iter().try_for_each(|(_, name, _)| write!(f, "{name:>11}"))?;
    writeln!(f)?;
    for (name, at) in times.iter().filter(|(_, at)| some(at)) {
        write!(f, "  {name:22}")?;
        for (key, ..) in QUANTILES {
            let spread = document.figure(&format!("{at}/{key}"));
            let shown = spread.map_or_else(String::new, |it| Unit::Nanoseconds.show(it.median));
            write!(f, "{shown:>11}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}
