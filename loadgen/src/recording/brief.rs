//! A histogram in short.

use hdrhistogram::Histogram;
use serde::Serialize;

/// A histogram in short.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Brief {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Brief {
    /// Summarises both histograms together.
    pub(crate) fn of(parts: [&Histogram<u64>; 2]) -> Option<Self> {
        match parts.map(Histogram::is_empty) {
            [true, true] => None,
            [false, true] => Some(Self::of_one(parts[0])),
            [true, false] => Some(Self::of_one(parts[1])),
            [false, false] => {
                let mut sum = parts[0].clone();
                sum.add(parts[1]).expect("histograms of a recorder have the same bounds");
                Some(Self::of_one(&sum))
            }
        }
    }

    fn of_one(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}
