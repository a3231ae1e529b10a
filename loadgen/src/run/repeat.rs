//! Carrying a plan out, as often as it says.

use std::sync::Arc;

use anyhow::Result;

use crate::output::Watch;
use crate::plan::Plan;
use crate::recording::recorder::Recorder;
use crate::report::Report;
use crate::run;
use crate::sample::machine::Machine;

/// What came of all rounds.
pub(crate) struct Measured {
    /// At least one.
    pub(crate) reports: Vec<Report>,
    /// Of all rounds.
    pub(crate) sum: Recorder,
    /// Why the last round did not get to its end.
    pub(crate) failure: Option<String>,
}

/// Measures all rounds, or up to the first one that fails.
///
/// # Errors
/// A run could not even begin.
pub(crate) fn measure(plan: &Plan, watch: &mut Watch) -> Result<Measured> {
    let mut measured = round(plan, watch)?;
    for number in 2..=plan.repeat_count {
        if measured.failure.is_some() {
            break;
        }
        eprintln!("round {number} of {}", plan.repeat_count);
        let next = round(plan, watch)?;
        measured.reports.extend(next.reports);
        measured.sum.absorb(&next.sum);
        measured.failure = next.failure;
    }
    Ok(measured)
}

/// Measures once, under a name of its own: what is left of one round must not be taken for a
/// message of the next.
///
/// # Errors
/// The run could not even begin.
pub(crate) fn round(plan: &Plan, watch: &mut Watch) -> Result<Measured> {
    let plan = Arc::new(plan.renamed());
    let machine = Machine::detect();
    let outcome = run::run(&plan, watch)?;
    let report = Report::new(&plan, &outcome, machine);
    Ok(Measured { reports: vec![report], sum: outcome.recorder, failure: outcome.failure })
}
