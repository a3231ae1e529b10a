//! Percentiles of a histogram, and its curve.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Points of a curve for each halving of the distance to 100 %.
const CURVE_TICKS_PER_HALF: u32 = 5;

/// Of a histogram with three significant digits.
#[derive(Serialize, Clone, Default, PartialEq, Debug)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) min: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) p99_99: u64,
    pub(crate) max: u64,
    /// As a line: pairs of a quantile, from 0 to 1, and the value that this share did not exceed.
    pub(crate) curve: Vec<(f64, u64)>,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max(),
            curve: curve(histogram),
        }
    }
}

/// Points ever closer to 1: some for each halving of what is left.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let steps = histogram.iter_quantiles(CURVE_TICKS_PER_HALF);
    let value = |step_value: u64| step_value.min(histogram.max());
    let mut points: Vec<(f64, u64)> =
        steps.map(|step| (step.quantile_iterated_to(), value(step.value_iterated_to()))).collect();
    points.dedup();
    points
}
