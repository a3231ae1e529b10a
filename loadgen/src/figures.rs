//! THE table of figures: where each stands in the report, what it is called, counted in and means.
//! The table on the terminal, the HTML report, `compare` and the README are made from it, so a new
//! figure is a field of the report and a row here.

use std::borrow::Cow;

use crate::units::Unit;

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
    /// Lower, but too unsteady from run to run to fail anybody over it.
    LowerUnjudged,
    /// It says what was done, not how well.
    Neither,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    Always,
    /// Only if it is not zero.
    NotZero,
}

/// Figures that belong together.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) figures: &'static [Figure],
}

/// A latency: a figure for each of [`QUANTILES`].
pub(crate) struct Latency {
    pub(crate) at: &'static str,
    pub(crate) name: &'static str,
    /// From where to where, for a row of a table of latencies.
    pub(crate) span: &'static str,
    pub(crate) meaning: &'static str,
}

const fn figure(
    at: &'static str,
    name: &'static str,
    unit: Unit,
    better: Better,
    meaning: &'static str,
) -> Figure {
    let (at, name) = (Cow::Borrowed(at), Cow::Borrowed(name));
    Figure { at, name, unit, better, shown: Shown::Always, meaning }
}

const fn rare(
    at: &'static str,
    name: &'static str,
    better: Better,
    meaning: &'static str,
) -> Figure {
    let (at, name) = (Cow::Borrowed(at), Cow::Borrowed(name));
    Figure { at, name, unit: Count, better, shown: Shown::NotZero, meaning }
}

use Better::{Higher, Lower, LowerUnjudged, Neither};
use Unit::{Bytes, Cores, Count, Nanoseconds, PerSecond, Seconds, Share};

/// All figures but the latencies, in the order in which they are shown.
pub(crate) const GROUPS: &[Group] = &[
    Group { name: "throughput", figures: THROUGHPUT },
    Group { name: "faults", figures: FAULTS },
    Group { name: "broker", figures: BROKER },
    Group { name: "generator", figures: GENERATOR },
];

const THROUGHPUT: &[Figure] = &[
    figure(
        "/publishes/per_second",
        "published",
        PerSecond,
        Higher,
        "Messages that were sent in the steady part of the run, per second",
    ),
    figure(
        "/deliveries/per_second",
        "delivered",
        PerSecond,
        Higher,
        "Deliveries that arrived in the steady part, per second; a message to 100 subscribers is \
         100 deliveries",
    ),
    figure("/publishes/planned", "messages planned", Count, Neither, "Open loop: the schedule"),
    figure(
        "/publishes/sent",
        "messages sent",
        Count,
        Neither,
        "In the whole run, warm-up included",
    ),
    figure(
        "/deliveries/expected",
        "deliveries expected",
        Count,
        Neither,
        "What the messages sent owe to all subscribers",
    ),
    figure(
        "/deliveries/delivered",
        "deliveries",
        Count,
        Neither,
        "Messages seen for the first time, over all subscribers",
    ),
    figure("/connect/connections", "connections", Count, Neither, "Clients that were connected"),
    figure(
        "/connect/per_second",
        "connected",
        PerSecond,
        Neither,
        "From the first connection attempt until the last client was ready",
    ),
];

const FAULTS: &[Figure] = &[
    figure(
        "/deliveries/lost",
        "lost",
        Count,
        LowerUnjudged,
        "Deliveries that had not come when the drain time after the last message was over; a \
         broken promise at QoS 1 and 2",
    ),
    figure("/deliveries/loss", "loss", Share, Lower, "Lost deliveries among those expected"),
    figure(
        "/deliveries/duplicated",
        "duplicated",
        Count,
        LowerUnjudged,
        "Deliveries seen before; a broken promise at QoS 2",
    ),
    figure(
        "/deliveries/out_of_order",
        "out of order",
        Count,
        Lower,
        "Seen for the first time after a later message of the same publisher and topic; a broken \
         promise at every QoS",
    ),
    rare(
        "/deliveries/duplicated_unmarked",
        "duplicated without DUP",
        LowerUnjudged,
        "Duplicates that do not carry the DUP flag",
    ),
    rare(
        "/publishes/unsent",
        "never sent",
        Lower,
        "Planned, but the broker did not take them before the run was over",
    ),
    rare(
        "/publishes/unacknowledged",
        "never acknowledged",
        Lower,
        "QoS 1 and 2: sent, but PUBACK or PUBCOMP has not come; a broken promise",
    ),
    rare(
        "/publishes/held_back",
        "sent late",
        LowerUnjudged,
        "In the steady part, because the broker did not take them sooner; the latency from the \
         intended time has the wait in it",
    ),
    rare(
        "/publishes/written_off",
        "written off",
        Lower,
        "Closed loop: no longer waited for after the drain time, so that the window goes on",
    ),
    rare("/deliveries/too_late", "too late", Lower, "Too late to be told from duplicates"),
    rare("/deliveries/invented", "invented", Lower, "Delivered, but never published"),
    rare(
        "/deliveries/misrouted",
        "misrouted",
        Lower,
        "Delivered to a subscriber that had not asked for the topic",
    ),
    rare(
        "/deliveries/wrong_qos",
        "wrong QoS",
        Lower,
        "Delivered at another QoS than publisher and subscriber have agreed on",
    ),
    rare(
        "/deliveries/retransmitted",
        "retransmitted",
        LowerUnjudged,
        "QoS 2: packets sent again within their exchange, which is allowed",
    ),
    rare("/deliveries/foreign", "foreign", Neither, "Messages of other programs or runs; ignored"),
];

const BROKER: &[Figure] = &[
    figure(
        "/broker/steady_cores",
        "broker CPU",
        Cores,
        LowerUnjudged,
        "Cores that the broker used in the steady part; 1 is one core all of the time",
    ),
    figure(
        "/broker/cpu_s_per_million_deliveries",
        "broker CPU per million deliveries",
        Seconds,
        Lower,
        "CPU seconds of the broker in the steady part for each million deliveries in it",
    ),
    figure(
        "/broker/rss_bytes_max",
        "broker memory (RSS)",
        Bytes,
        Lower,
        "The most resident memory that was seen",
    ),
    figure(
        "/broker/pss_bytes_max",
        "broker memory (PSS)",
        Bytes,
        LowerUnjudged,
        "The same, but memory shared with other processes counts in proportion",
    ),
    figure(
        "/broker/rss_bytes_per_connection",
        "broker memory per connection",
        Bytes,
        Lower,
        "Growth of its resident memory while the clients connected and subscribed, for each of \
         them; means little below a few thousand",
    ),
    figure(
        "/broker/descriptors_max",
        "broker descriptors",
        Count,
        Neither,
        "The most open descriptors that were seen",
    ),
    figure("/broker/threads_max", "broker threads", Count, Neither, "The most that were seen"),
];

const GENERATOR: &[Figure] = &[
    figure(
        "/generator/steady_cores",
        "generator CPU",
        Cores,
        Neither,
        "Cores that this program used in the steady part",
    ),
    figure(
        "/generator/cpu_s_per_million_messages",
        "generator CPU per million messages",
        Seconds,
        LowerUnjudged,
        "CPU seconds of this program in the steady part for each million messages, sent and \
         received",
    ),
    figure(
        "/machine_use/stolen_share",
        "CPU stolen",
        Share,
        Neither,
        "Time that the hypervisor gave to others while this machine wanted to run, in the steady \
         part",
    ),
    figure(
        "/machine_use/others_cores",
        "CPU of other programs",
        Cores,
        Neither,
        "Cores used in the steady part by neither this program nor, if it was sampled, the broker",
    ),
];

pub(crate) const LATENCIES: &[Latency] = &[
    Latency {
        at: "/latency_ns",
        name: "latency",
        span: "from intended send",
        meaning: "From the moment at which the message should have been sent to its delivery: \
                  what somebody waits who has something to say. This is the one to quote",
    },
    Latency {
        at: "/raw_latency_ns",
        name: "raw latency",
        span: "from actual send",
        meaning: "From the moment at which the message was sent to its delivery (raw): hides what \
                  a slow broker made the publisher wait",
    },
    Latency {
        at: "/acknowledge_latency_ns",
        name: "acknowledge latency",
        span: "until acknowledged",
        meaning: "QoS 1 and 2: from the intended moment to PUBACK or PUBCOMP",
    },
    Latency {
        at: "/generator/lateness_ns",
        name: "schedule lateness",
        span: "lateness of schedule",
        meaning: "From the intended to the actual send, where the broker had no part in it: the \
                  error of the generator itself",
    },
];

/// What somebody wants to know who has three seconds.
pub(crate) const HEADLINE: &[&str] = &[
    "/deliveries/per_second",
    "/latency_ns/p50",
    "/latency_ns/p99",
    "/deliveries/lost",
    "/broker/cpu_s_per_million_deliveries",
    "/broker/rss_bytes_max",
];

/// Key in the report, name, and whether it is steady enough to be judged by `compare`.
pub(crate) const QUANTILES: &[(&str, &str, bool)] = &[
    ("p50", "p50", true),
    ("p90", "p90", true),
    ("p99", "p99", true),
    ("p99_9", "p99.9", true),
    ("p99_99", "p99.99", false),
    ("max", "max", false),
];

impl Latency {
    pub(crate) fn figures(&self) -> impl Iterator<Item = Figure> {
        let judged_at_all = self.at != "/generator/lateness_ns";
        QUANTILES.iter().map(move |(key, name, judged)| Figure {
            at: format!("{}/{key}", self.at).into(),
            name: format!("{} {name}", self.name).into(),
            unit: Nanoseconds,
            better: if *judged && judged_at_all { Lower } else { LowerUnjudged },
            shown: Shown::Always,
            meaning: self.meaning,
        })
    }
}

/// Every figure that a report may have.
pub(crate) fn all() -> impl Iterator<Item = Figure> {
    let scalars = GROUPS.iter().flat_map(|group| group.figures).cloned();
    scalars.chain(LATENCIES.iter().flat_map(Latency::figures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn figures_are_told_apart_by_place_and_name() {
        let places: HashSet<_> = all().map(|figure| figure.at).collect();
        let names: HashSet<_> = all().map(|figure| (figure.name, figure.unit.in_json())).collect();
        assert_eq!((places.len(), names.len()), (all().count(), all().count()));
    }

    #[test]
    fn the_headline_is_made_of_figures() {
        for at in HEADLINE {
            assert!(all().any(|figure| figure.at == *at), "{at}");
        }
    }

    #[test]
    fn meanings_are_sentences_without_their_full_stop() {
        for Figure { name, meaning, .. } in all() {
            assert!(meaning.starts_with(char::is_uppercase), "{name}: {meaning}");
            assert!(!meaning.ends_with('.'), "{name}: {meaning}");
        }
    }
}
