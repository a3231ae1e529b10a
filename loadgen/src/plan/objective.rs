//! What a search for the highest rate is to find.

use serde::Serialize;

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
