//! What a search for the highest rate came to.

use std::fmt;

use serde::Serialize;

use crate::plan::objective::Objective;
use crate::units::{duration, number};

/// What the search came to.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct SearchRow {
    pub(crate) objective: Objective,
    /// The highest rate that met it; none if no rate did.
    pub(crate) rate_per_s: Option<f64>,
    /// The lowest rate that missed it; none if the search ended at its upper end.
    pub(crate) missed_per_s: Option<f64>,
    pub(crate) probes: Vec<Probe>,
}

impl SearchRow {
    /// Whether a better generator might have found a higher rate.
    pub(crate) fn is_generator_bound(&self) -> bool {
        let missed = |probe: &&Probe| Some(probe.rate_per_s) == self.missed_per_s;
        self.probes.iter().find(missed).is_some_and(|probe| probe.generator_bound)
    }
}

#[derive(Serialize, Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) rate_per_s: f64,
    /// Why the objective was missed; none when it was met.
    pub(crate) missed: Option<String>,
    pub(crate) latency_ns: u64,
    pub(crate) generator_bound: bool,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = duration(self.latency_ns);
        write!(f, "{} publishes/s, {latency}: ", number(self.rate_per_s))?;
        match &self.missed {
            Some(reason) => write!(f, "missed ({reason})")?,
            None => f.write_str("met")?,
        }
        if self.generator_bound { f.write_str("; generator-bound") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::objective::Quantile;

    #[test]
    fn a_generator_that_was_the_limit_where_the_objective_was_missed_admits_it() {
        let probe = |rate_per_s, missed: Option<&str>, generator_bound| Probe {
            rate_per_s,
            missed: missed.map(str::to_owned),
            latency_ns: 0,
            generator_bound,
        };
        let row = |bound_below, bound_above| SearchRow {
            objective: Objective { quantile: Quantile::P99, limit_ns: 5_000_000 },
            rate_per_s: Some(100.0),
            missed_per_s: Some(150.0),
            probes: vec![
                probe(100.0, None, bound_below),
                probe(200.0, Some("late"), true),
                probe(150.0, Some("late"), bound_above),
            ],
        };
        assert!(row(false, true).is_generator_bound());
        assert!(!row(true, false).is_generator_bound());
    }
}
