//! The highest rate that meets an objective: doubled until it is missed, then bisected.

use anyhow::Result;

use crate::output::Watch;
use crate::plan::objective::{Objective, Quantile, Search};
use crate::plan::{Load, Plan};
use crate::report::percentiles::Percentiles;
use crate::report::search_row::{Probe, SearchRow};
use crate::report::{Report, Verdict};
use crate::run::repeat::{Measured, round};
use crate::units::{duration, number};

/// A rate counts as reached when this share of it was published in time.
const REACHED_SHARE: f64 = 0.99;

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
        let probe = probe(rate_per_s, &measured.reports[0], search.objective);
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

fn probe(rate_per_s: f64, report: &Report, objective: Objective) -> Probe {
    let latency_ns = latency_ns(&report.latency_ns, objective.quantile);
    let missed = promise_broken(report)
        .or_else(|| rate_missed(rate_per_s, report))
        .or_else(|| limit_missed(latency_ns, objective.limit_ns));
    let generator_bound = report.generator.generator_bound;
    Probe { rate_per_s, missed, latency_ns, generator_bound }
}

fn latency_ns(latency: &Percentiles, quantile: Quantile) -> u64 {
    match quantile {
        Quantile::P50 => latency.p50,
        Quantile::P90 => latency.p90,
        Quantile::P99 => latency.p99,
        Quantile::P99_9 => latency.p99_9,
        Quantile::P99_99 => latency.p99_99,
        Quantile::Max => latency.max,
    }
}

/// A run that failed or broke a promise meets no objective, nor does one that lost a message.
fn promise_broken(report: &Report) -> Option<String> {
    let lost = report.deliveries.lost;
    match &report.verdict {
        Verdict::Failed { failure } => Some(failure.clone()),
        Verdict::Violated { violations } => Some(violations.join("; ")),
        Verdict::Ok => (lost > 0).then(|| format!("{lost} lost")),
    }
}

fn rate_missed(rate_per_s: f64, report: &Report) -> Option<String> {
    let published_per_s = report.publishes.per_second;
    let reached = report.publishes.unsent == 0 && published_per_s >= rate_per_s * REACHED_SHARE;
    (!reached).then(|| format!("only {} published per second", number(published_per_s)))
}

fn limit_missed(latency_ns: u64, limit_ns: u64) -> Option<String> {
    (latency_ns > limit_ns).then(|| format!("above {}", duration(limit_ns)))
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
