//! The highest rate that meets an objective: doubled until it is missed, then bisected.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::plan::{Load, Plan};
use crate::report::{Report, Verdict};
use crate::run::Watch;
use crate::run::repeat::{Measured, round};
use crate::units::{duration, number};

/// A rate counts as reached when this share of it was published in time.
const REACHED_SHARE: f64 = 0.99;

/// What is looked for, and how.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Search {
    pub(crate) objective: Objective,
    /// Where to begin.
    pub(crate) from_per_s: f64,
    /// No higher than this.
    pub(crate) to_per_s: f64,
    /// It is enough to know the rate up to this share.
    pub(crate) precision: f64,
    pub(crate) probe_count_max: u32,
}

/// No message may be lost, and this quantile of the latency must not exceed the limit.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(crate) struct Objective {
    pub(crate) quantile: Quantile,
    pub(crate) limit_ns: u64,
}

#[derive(clap::ValueEnum, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantile {
    P50,
    P90,
    P99,
    #[value(name = "p99.9")]
    P99_9,
    #[value(name = "p99.99")]
    P99_99,
    Max,
}

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

/// Probes until the rate is known. The report is that of the highest rate that met the objective,
/// or of the last probe when none did.
///
/// # Errors
/// A run could not even begin.
pub(crate) fn find(plan: &Plan, search: Search, watch: &mut Watch) -> Result<Measured> {
    let mut bisection = Bisection::new(search);
    let (mut best, mut last) = (None, None);
    let mut probes = Vec::new();
    while let Some(rate_per_s) = bisection.next_rate() {
        let plan = at_rate(plan, rate_per_s);
        let measured = round(&plan, watch)?;
        let failed = measured.failure.is_some();
        let probe = Probe::of(rate_per_s, &measured.reports[0], search.objective);
        eprintln!("probe {}: {probe}", probes.len() + 1);
        bisection.enter(rate_per_s, probe.missed.is_none());
        let slot = if probe.missed.is_none() { &mut best } else { &mut last };
        *slot = Some(measured);
        probes.push(probe);
        if failed {
            break;
        }
    }
    let found = SearchRow {
        objective: search.objective,
        rate_per_s: bisection.met,
        missed_per_s: bisection.missed,
        probes,
    };
    let mut measured = best.or(last).expect("the first rate is always probed");
    measured.reports[0].conclude(found);
    Ok(measured)
}

fn at_rate(plan: &Plan, rate_per_s: f64) -> Plan {
    let mut plan = Plan { load: Load::Open { rate_per_s }, ..plan.clone() };
    plan.settings["rate"] = rate_per_s.into();
    plan
}

impl Objective {
    fn value(self, report: &Report) -> u64 {
        let latency = &report.latency_ns;
        match self.quantile {
            Quantile::P50 => latency.p50,
            Quantile::P90 => latency.p90,
            Quantile::P99 => latency.p99,
            Quantile::P99_9 => latency.p99_9,
            Quantile::P99_99 => latency.p99_99,
            Quantile::Max => latency.max,
        }
    }

    /// Why `report` misses it.
    fn missed(self, rate_per_s: f64, report: &Report) -> Option<String> {
        let latency_ns = self.value(report);
        if let Verdict::Failed { failure } = &report.verdict {
            return Some(failure.clone());
        }
        if let Verdict::Violated { violations } = &report.verdict {
            return Some(violations.join("; "));
        }
        if report.deliveries.lost > 0 {
            return Some(format!("{} lost", report.deliveries.lost));
        }
        if report.publishes.unsent > 0 || report.publishes.per_second < rate_per_s * REACHED_SHARE {
            return Some(format!(
                "only {} published per second",
                number(report.publishes.per_second)
            ));
        }
        (latency_ns > self.limit_ns).then(|| format!("above {}", duration(self.limit_ns)))
    }
}

impl Probe {
    fn of(rate_per_s: f64, report: &Report, objective: Objective) -> Self {
        Self {
            rate_per_s,
            missed: objective.missed(rate_per_s, report),
            latency_ns: objective.value(report),
            generator_bound: report.generator.generator_bound,
        }
    }
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

/// Which rate to try next.
struct Bisection {
    search: Search,
    probe_count: u32,
    /// The highest that met the objective, the lowest that missed it.
    met: Option<f64>,
    missed: Option<f64>,
}

impl Bisection {
    fn new(search: Search) -> Self {
        Self { search, probe_count: 0, met: None, missed: None }
    }

    fn next_rate(&self) -> Option<f64> {
        let Search { from_per_s, to_per_s, precision, probe_count_max, .. } = self.search;
        if self.probe_count >= probe_count_max {
            return None;
        }
        match (self.met, self.missed) {
            (None, None) => Some(from_per_s.min(to_per_s)),
            (Some(met), None) => (met < to_per_s).then(|| (met * 2.0).min(to_per_s)),
            (None, Some(missed)) => (missed > RATE_MIN).then(|| (missed / 2.0).max(RATE_MIN)),
            // The middle in which both steps are the same factor.
            (Some(met), Some(missed)) => {
                (missed > met * (1.0 + precision)).then(|| (met * missed).sqrt())
            }
        }
    }

    /// A lucky probe above one that missed does not count.
    fn enter(&mut self, rate_per_s: f64, met: bool) {
        self.probe_count += 1;
        let side = if met { &mut self.met } else { &mut self.missed };
        *side = Some(rate_per_s);
    }
}

/// Lower rates tell nothing about a broker.
const RATE_MIN: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn search(from_per_s: f64, to_per_s: f64) -> Search {
        let objective = Objective { quantile: Quantile::P99, limit_ns: 5_000_000 };
        Search { objective, from_per_s, to_per_s, precision: 0.05, probe_count_max: 40 }
    }

    /// The rates that are tried when a broker can do `capacity`.
    fn probe(search: Search, capacity: f64) -> (Vec<f64>, Bisection) {
        let (mut bisection, mut rates) = (Bisection::new(search), Vec::new());
        while let Some(rate) = bisection.next_rate() {
            rates.push(rate);
            bisection.enter(rate, rate <= capacity);
        }
        (rates, bisection)
    }

    #[test]
    fn the_capacity_is_found_from_below_and_from_above() {
        for capacity in [3.0, 99.0, 100.0, 777.0, 123_456.0] {
            let (rates, bisection) = probe(search(100.0, 1e7), capacity);
            let (met, missed) = (bisection.met.expect("met"), bisection.missed.expect("missed"));
            assert!(met <= capacity && capacity < missed, "{capacity}: {rates:?}");
            assert!(missed <= met * 1.05, "{capacity}: {rates:?}");
            assert!(rates.len() < 30, "{rates:?}");
        }
    }

    #[test]
    fn a_generator_that_was_the_limit_where_the_objective_was_missed_admits_it() {
        let probe = |rate_per_s, missed: Option<&str>, generator_bound| Probe {
            rate_per_s,
            missed: missed.map(str::to_owned),
            latency_ns: 0,
            generator_bound,
        };
        let row = |bound_below, bound_above| SearchRow {
            objective: search(1.0, 1.0).objective,
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

    #[test]
    fn the_search_ends_at_its_bounds() {
        let (rates, bisection) = probe(search(100.0, 1000.0), f64::MAX);
        assert_eq!((bisection.met, bisection.missed), (Some(1000.0), None));
        assert_eq!(rates, [100.0, 200.0, 400.0, 800.0, 1000.0]);
        let (rates, bisection) = probe(search(100.0, 1000.0), 0.0);
        assert_eq!((bisection.met, rates.last()), (None, Some(&1.0)));
        let few = Search { probe_count_max: 3, ..search(100.0, 1e7) };
        assert_eq!(probe(few, 1e6).0.len(), 3);
    }
}
