//! One number of a report: what a row of the table of figures says of it.

use std::borrow::Cow;

use self::Better::{Lower, LowerUnjudged};
use crate::units::Unit::{self, Nanoseconds};

/// One number of a report.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Where it stands in the JSON of a run (RFC 6901). A run that has no such number, or `null`
    /// there, has no such figure.
    pub(crate) at: Cow<'static, str>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    pub(crate) shown: Shown,
    pub(crate) meaning: &'static str,
}

/// Which way a figure gets better, and whether `compare` may fail a run over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Better {
    Higher,
    Lower,
    /// Lower, but too unsteady from run to run to be called a regression.
    LowerUnjudged,
    /// It says what was done, not how well.
    Neither,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    Always,
    /// Only if it is not zero.
    NotZero,
    /// Only if the scenario publishes.
    WithMessages,
    /// Of a histogram: only if there is anything in it.
    WithSamples,
}

/// Figures that belong together.
pub(crate) struct Group {
    pub(crate) name: Cow<'static, str>,
    pub(crate) figures: Cow<'static, [Figure]>,
}

/// A latency: a figure for each of [`QUANTILES`].
#[derive(Clone)]
pub(crate) struct Latency {
    pub(crate) at: Cow<'static, str>,
    pub(crate) name: Cow<'static, str>,
    /// From where to where, for a row of a table of latencies.
    pub(crate) span: Cow<'static, str>,
    pub(crate) meaning: &'static str,
}

pub(super) const ACKNOWLEDGE: &str = "/acknowledge_latency_ns";
pub(super) const LATENESS: &str = "/generator/lateness_ns";

/// Key in the report, name, and whether it is steady enough to be judged by `compare`.
pub(crate) const QUANTILES: &[(&str, &str, bool)] = &[
    ("p50", "p50", true),
    ("p90", "p90", true),
    ("p99", "p99", true),
    ("p99_9", "p99.9", true),
    ("p99_99", "p99.99", false),
    ("max", "max", false),
];

pub(super) const fn figure(
    at: &'static str,
    name: &'static str,
    unit: Unit,
    better: Better,
    meaning: &'static str,
) -> Figure {
    let (at, name) = (Cow::Borrowed(at), Cow::Borrowed(name));
    Figure { at, name, unit, better, shown: Shown::Always, meaning }
}

pub(super) const fn of_messages(
    at: &'static str,
    name: &'static str,
    unit: Unit,
    better: Better,
    meaning: &'static str,
) -> Figure {
    let (at, name) = (Cow::Borrowed(at), Cow::Borrowed(name));
    Figure { at, name, unit, better, shown: Shown::WithMessages, meaning }
}

pub(super) const fn rare(
    at: &'static str,
    name: &'static str,
    better: Better,
    meaning: &'static str,
) -> Figure {
    let (at, name) = (Cow::Borrowed(at), Cow::Borrowed(name));
    Figure { at, name, unit: Unit::Count, better, shown: Shown::NotZero, meaning }
}

impl Latency {
    /// Whether it explains others, and is not what is measured.
    pub(crate) fn is_supplement(&self) -> bool {
        [ACKNOWLEDGE, LATENESS].contains(&self.at.as_ref())
    }

    pub(crate) fn figures(&self) -> impl Iterator<Item = Figure> {
        let judged_at_all = self.at != LATENESS;
        QUANTILES.iter().map(move |(key, name, judged)| Figure {
            at: format!("{}/{key}", self.at).into(),
            name: format!("{} {name}", self.name).into(),
            unit: Nanoseconds,
            better: if *judged && judged_at_all { Lower } else { LowerUnjudged },
            shown: Shown::WithSamples,
            meaning: self.meaning,
        })
    }
}
