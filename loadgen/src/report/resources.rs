//! What a run cost: the broker and the machine, from the marks at its turning points.

use serde::Serialize;

use crate::report::outcome::Outcome;
use crate::report::series::{Mark, Marks, per};
use crate::sample::process::Sample;

/// The broker under test, if it was sampled.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub(crate) struct Broker {
    pub(crate) pid: u32,
    /// Command name of the process.
    pub(crate) name: String,
    /// It ended during the run; the figures are those of what was seen of it.
    pub(crate) ended: bool,
    /// CPU seconds in the whole run, connecting included.
    pub(crate) cpu_s: Option<f64>,
    /// CPU seconds until all clients were connected.
    pub(crate) connect_cpu_s: Option<f64>,
    pub(crate) steady_cores: Option<f64>,
    /// CPU seconds in the steady part for each million deliveries in it.
    pub(crate) cpu_s_per_million_deliveries: Option<f64>,
    /// Before the first connection.
    pub(crate) rss_bytes_begin: Option<u64>,
    pub(crate) rss_bytes_connected: Option<u64>,
    pub(crate) rss_bytes_per_connection: Option<f64>,
    /// Of sessions that were created and left, where there are any.
    pub(crate) rss_bytes_per_session: Option<f64>,
    pub(crate) rss_bytes_max: Option<u64>,
    /// `None` for another user's process.
    pub(crate) pss_bytes_max: Option<u64>,
    pub(crate) descriptors_max: Option<u64>,
    pub(crate) threads_max: Option<u64>,
}

impl Broker {
    pub(crate) fn of(outcome: &Outcome) -> Option<Self> {
        let (pid, name) = outcome.broker.clone()?;
        let marks = &outcome.marks;
        let seen = |mark: &Option<Mark>| mark.and_then(|mark| mark.broker);
        let (begin, connected) = (seen(&marks.begin), seen(&marks.connected));
        let steady = cpu_between(seen(&marks.steady), seen(&marks.end));
        let (_, steady_s) = marks.steady_part(|_| 0.0);
        let delivered = outcome.recorder.steady_delivered;
        let highest = |of: fn(Sample) -> Option<u64>| samples(outcome).filter_map(of).max();
        Some(Self {
            pid,
            name,
            ended: seen(&marks.drained).is_none(),
            cpu_s: cpu_between(begin, seen(&marks.drained)),
            connect_cpu_s: cpu_between(begin, connected),
            steady_cores: steady.map(|cpu_s| per(cpu_s, steady_s)),
            cpu_s_per_million_deliveries: steady.and_then(|cpu_s| per_million(cpu_s, delivered)),
            rss_bytes_begin: begin.map(|sample| sample.rss_bytes),
            rss_bytes_connected: connected.map(|sample| sample.rss_bytes),
            rss_bytes_per_connection: growth(begin, connected, outcome.connected)
                .filter(|_| outcome.session_count == 0),
            rss_bytes_per_session: growth(begin, connected, outcome.session_count),
            rss_bytes_max: highest(|sample| Some(sample.rss_bytes)),
            pss_bytes_max: highest(|sample| sample.pss_bytes),
            descriptors_max: highest(|sample| sample.descriptors),
            threads_max: highest(|sample| Some(sample.threads)),
        })
    }
}

fn cpu_between(from: Option<Sample>, to: Option<Sample>) -> Option<f64> {
    Some(to?.cpu_s - from?.cpu_s)
}

fn growth(from: Option<Sample>, to: Option<Sample>, connections: u64) -> Option<f64> {
    let grown = to?.rss_bytes as f64 - from?.rss_bytes as f64;
    (connections > 0).then(|| grown / connections as f64)
}

fn samples(outcome: &Outcome) -> impl Iterator<Item = Sample> {
    let marked = outcome.marks.iter().filter_map(|mark| mark.broker);
    let course = outcome.intervals.iter().filter_map(|interval| Some(interval.broker?.sample));
    marked.chain(course)
}

/// Scales CPU seconds to a million messages; `None` without messages.
pub(crate) fn per_million(cpu_s: f64, amount: u64) -> Option<f64> {
    (amount > 0).then(|| cpu_s / amount as f64 * 1e6)
}

/// How the cores of this machine were used in the steady part.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(crate) struct MachineUse {
    /// All programs together.
    pub(crate) busy_cores: f64,
    /// Neither this program nor, if it was sampled, the broker.
    pub(crate) others_cores: f64,
    /// By the hypervisor, among all the time of all cores.
    pub(crate) stolen_share: f64,
}

impl MachineUse {
    pub(crate) fn of(marks: &Marks) -> Option<Self> {
        let (from, to) = (marks.steady?.machine?, marks.end?.machine?);
        let (known_s, seconds) =
            marks.steady_part(|mark| mark.cpu_s + mark.broker.map_or(0.0, |sample| sample.cpu_s));
        let busy_s = to.busy_s - from.busy_s;
        Some(Self {
            busy_cores: per(busy_s, seconds),
            // Of different clocks, so it may come out a little below zero.
            others_cores: per((busy_s - known_s).max(0.0), seconds),
            stolen_share: per(to.stolen_s - from.stolen_s, to.total_s - from.total_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{marks, outcome};
    use crate::sample::machine::MachineTimes;

    #[test]
    fn the_broker_is_charged_for_the_steady_part() {
        let broker = Broker::of(&outcome()).expect("it was sampled");
        assert_eq!((broker.pid, broker.name.as_str(), broker.ended), (7, "fake", false));
        assert_eq!((broker.cpu_s, broker.connect_cpu_s), (Some(4.5), Some(1.0)));
        assert_eq!(broker.steady_cores, Some(1.5));
        // 3 s for 100 deliveries.
        assert_eq!(broker.cpu_s_per_million_deliveries, Some(30_000.0));
        assert_eq!(broker.rss_bytes_per_connection, Some(1_000.0));
        assert_eq!((broker.rss_bytes_max, broker.pss_bytes_max), (Some(20_000), Some(10_000)));
    }

    #[test]
    fn a_broker_that_ended_keeps_what_was_seen_of_it() {
        let mut outcome = outcome();
        for mark in [&mut outcome.marks.end, &mut outcome.marks.drained].into_iter().flatten() {
            mark.broker = None;
        }
        let broker = Broker::of(&outcome).expect("it was sampled");
        assert!(broker.ended);
        assert_eq!((broker.cpu_s, broker.cpu_s_per_million_deliveries), (None, None));
        assert_eq!(broker.rss_bytes_max, Some(9_000));
        outcome.broker = None;
        assert_eq!(Broker::of(&outcome), None);
    }

    #[test]
    fn nothing_delivered_is_no_reason_to_divide_by_it() {
        let mut outcome = outcome();
        outcome.recorder.steady_delivered = 0;
        outcome.connected = 0;
        outcome.session_count = 4;
        let broker = Broker::of(&outcome).expect("it was sampled");
        assert_eq!(broker.rss_bytes_per_session, Some(2_000.0));
        assert_eq!(broker.cpu_s_per_million_deliveries, None);
        assert_eq!(broker.rss_bytes_per_connection, None);
    }

    #[test]
    fn others_are_what_neither_generator_nor_broker_used() {
        let mut marks = marks();
        let times = |busy_s, stolen_s| {
            Some(MachineTimes { busy_s, stolen_s, total_s: 2.0 * busy_s + stolen_s })
        };
        marks.steady.as_mut().expect("it is there").machine = times(10.0, 1.0);
        marks.end.as_mut().expect("it is there").machine = times(15.0, 1.5);
        let machine = MachineUse::of(&marks).expect("both were read");
        // In 2 s: 5 s busy, of which the generator had 1 and the broker 3.
        assert_eq!((machine.busy_cores, machine.others_cores), (2.5, 0.5));
        assert_eq!(machine.stolen_share, 0.5 / 10.5);
        marks.end = None;
        assert_eq!(MachineUse::of(&marks), None);
    }
}
