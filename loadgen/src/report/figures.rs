//! THE table of figures: where each stands in the report, what it is called, counted in and means.
//! The table on the terminal, the HTML report, `compare` and the README are made from it, so a new
//! figure is a field of the report and a row here.

use std::borrow::Cow;

use serde_json::Value;

use crate::report::figure::Better::{Higher, Lower, LowerUnjudged, Neither};
use crate::report::figure::{
    ACKNOWLEDGE, Figure, Group, LATENESS, Latency, Shown, figure, of_messages, rare,
};
use crate::units::Unit::{Bytes, Cores, Count, Nanoseconds, PerSecond, Seconds, Share};

/// All figures of every scenario but the latencies, in the order in which they are shown.
const GROUPS: &[(&str, &[Figure])] = &[
    ("throughput", THROUGHPUT),
    ("stalls", STALLS),
    ("faults", FAULTS),
    ("search", SEARCH),
    ("incident", INCIDENT),
    ("slow consumers", SLOW_CONSUMERS),
    ("shared subscriptions", SHARES),
    ("broker", BROKER),
    ("generator", GENERATOR),
];

const SEARCH: &[Figure] = &[
    figure(
        "/search/rate_per_s",
        "highest rate that met the objective",
        PerSecond,
        Higher,
        "find-max: publishes per second; all other figures are those of the run at this rate",
    ),
    figure(
        "/search/missed_per_s",
        "lowest rate that missed it",
        PerSecond,
        Neither,
        "find-max: the limit lies between these two",
    ),
];

const THROUGHPUT: &[Figure] = &[
    of_messages(
        "/publishes/per_second",
        "published",
        PerSecond,
        Higher,
        "Messages that were sent in the steady part of the run, per second",
    ),
    of_messages(
        "/deliveries/per_second",
        "delivered",
        PerSecond,
        Higher,
        "Deliveries that arrived in the steady part, per second; a message to 100 subscribers is \
         100 deliveries",
    ),
    of_messages(
        "/publishes/planned",
        "messages planned",
        Count,
        Neither,
        "Open loop: the schedule",
    ),
    of_messages(
        "/publishes/sent",
        "messages sent",
        Count,
        Neither,
        "In the whole run, warm-up included",
    ),
    of_messages(
        "/deliveries/expected",
        "deliveries expected",
        Count,
        Neither,
        "What the messages sent owe to all subscribers",
    ),
    of_messages(
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

const STALLS: &[Figure] = &[of_messages(
    "/stall/longest_gap_ns",
    "longest gap",
    Nanoseconds,
    LowerUnjudged,
    "The longest time in the steady part between two deliveries at one subscriber, or from its \
     last one to the end: under a flood, for how long it was starved",
)];

const FAULTS: &[Figure] = &[
    of_messages(
        "/deliveries/lost",
        "lost",
        Count,
        LowerUnjudged,
        "Deliveries that had not come when the drain time after the last message was over; a \
         broken promise at QoS 1 and 2",
    ),
    of_messages("/deliveries/loss", "loss", Share, Lower, "Lost deliveries among those expected"),
    of_messages(
        "/deliveries/duplicated",
        "duplicated",
        Count,
        LowerUnjudged,
        "Deliveries seen before; a broken promise at QoS 2",
    ),
    of_messages(
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
    rare("/retained/outdated", "outdated", Lower, "Retained, but not the last one of its topic"),
    rare("/retained/unflagged", "without RETAIN", Lower, "Retained, but without the RETAIN flag"),
    rare("/deliveries/foreign", "foreign", Neither, "Messages of other programs or runs; ignored"),
];

const INCIDENT: &[Figure] = &[figure(
    "/impact/seconds",
    "incident over after",
    Seconds,
    Lower,
    "reconnect-storm: from the moment at which the clients were cut off until all were back",
)];

const SLOW_CONSUMERS: &[Figure] = &[
    figure(
        "/aside/expected",
        "expected by slow consumers",
        Count,
        Neither,
        "slow-consumer: deliveries owed to those that stopped reading; no other figure has them",
    ),
    figure("/aside/delivered", "delivered to slow consumers", Count, Neither, "Of these"),
    figure(
        "/aside/lost",
        "lost by slow consumers",
        Count,
        LowerUnjudged,
        "Of these; a broker has to drop what somebody does not take",
    ),
    figure("/aside/out_of_order", "out of order there", Count, Lower, "A broken promise"),
];

const SHARES: &[Figure] = &[
    figure("/shares/members", "members of the groups", Count, Neither, "shared: all of them"),
    figure("/shares/least", "messages of the least busy", Count, Neither, "Of these members"),
    figure("/shares/mean", "messages of a member", Count, Neither, "On average"),
    figure("/shares/most", "messages of the busiest", Count, Neither, "Of these members"),
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
        "/broker/cpu_s",
        "broker CPU, whole run",
        Seconds,
        LowerUnjudged,
        "CPU seconds of the broker from the first connection attempt to the last delivery",
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
        "/broker/rss_bytes_per_session",
        "broker memory per session",
        Bytes,
        Lower,
        "Growth of its resident memory while persistent sessions were created and left, for each \
         of them; means little below a few thousand",
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
        "/generator/cpu_s",
        "generator CPU, whole run",
        Seconds,
        Neither,
        "CPU seconds of this program, connecting included",
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

const LATENCIES: &[Latency] = &[
    Latency {
        at: Cow::Borrowed("/latency_ns"),
        name: Cow::Borrowed("latency"),
        span: Cow::Borrowed("from intended send"),
        meaning: "From the moment at which the message should have been sent to its delivery: \
                  what somebody waits who has something to say. This is the one to quote",
    },
    Latency {
        at: Cow::Borrowed("/raw_latency_ns"),
        name: Cow::Borrowed("raw latency"),
        span: Cow::Borrowed("from actual send"),
        meaning: "From the moment at which the message was sent to its delivery (raw): hides what \
                  a slow broker made the publisher wait",
    },
    Latency {
        at: Cow::Borrowed(ACKNOWLEDGE),
        name: Cow::Borrowed("acknowledge latency"),
        span: Cow::Borrowed("until acknowledged"),
        meaning: "QoS 1 and 2: from the intended moment to PUBACK or PUBCOMP",
    },
    Latency {
        at: Cow::Borrowed("/impact/before_ns"),
        name: Cow::Borrowed("latency before the incident"),
        span: Cow::Borrowed("before the incident"),
        meaning: "reconnect-storm and slow-consumer: to those that it did not concern, from the \
                  intended send",
    },
    Latency {
        at: Cow::Borrowed("/impact/during_ns"),
        name: Cow::Borrowed("latency during the incident"),
        span: Cow::Borrowed("during the incident"),
        meaning: "The same, until it was over",
    },
    Latency {
        at: Cow::Borrowed("/impact/after_ns"),
        name: Cow::Borrowed("latency after the incident"),
        span: Cow::Borrowed("after the incident"),
        meaning: "The same, from then on",
    },
    Latency {
        at: Cow::Borrowed(LATENESS),
        name: Cow::Borrowed("schedule lateness"),
        span: Cow::Borrowed("lateness of schedule"),
        meaning: "From the intended to the actual send, where the broker had no part in it: the \
                  error of the generator itself",
    },
];

/// Figures of steps that stand beside them.
const HEADLINE_STEP_COUNT: usize = 4;

/// Where the figures of the headline stand.
const HEADLINE: &[&str] = &[
    "/deliveries/per_second",
    "/latency_ns/p50",
    "/latency_ns/p99",
    "/deliveries/lost",
    "/impact/seconds",
    "/broker/cpu_s_per_million_deliveries",
    "/broker/rss_bytes_max",
];

/// Groups of a run: those of every scenario, and one for the operations of this one.
pub(crate) fn groups(run: &Value) -> Vec<Group> {
    let group = |&(name, figures): &(&'static str, &'static [Figure])| Group {
        name: Cow::Borrowed(name),
        figures: Cow::Borrowed(figures),
    };
    let mut groups: Vec<Group> = GROUPS.iter().map(group).collect();
    let operations = operations(run);
    let figures: Vec<Figure> = operations.iter().flat_map(Operation::figures).collect();
    groups.insert(2, Group { name: Cow::Borrowed("operations"), figures: figures.into() });
    groups
}

/// Latencies of a run, those of its operations first.
pub(crate) fn latencies(run: &Value) -> Vec<Latency> {
    let mut latencies: Vec<Latency> =
        operations(run).iter().map(|operation| operation.latency()).collect();
    latencies.extend_from_slice(LATENCIES);
    latencies
}

/// Lists every figure that a run may have.
pub(crate) fn all(run: &Value) -> Vec<Figure> {
    let scalars = groups(run).into_iter().flat_map(|group| group.figures.into_owned());
    let latencies = latencies(run);
    scalars.chain(latencies.iter().flat_map(Latency::figures)).collect()
}

/// What clients ask for in one step of a scenario, as to connect: which there are is not known
/// beforehand.
struct Operation {
    step: String,
    name: String,
    at: String,
}

fn operations(run: &Value) -> Vec<Operation> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let mut operations = Vec::new();
    for (number, step) in list(&run["steps"]).iter().enumerate() {
        for (place, operation) in list(&step["operations"]).iter().enumerate() {
            let at = format!("/steps/{number}/operations/{place}");
            operations.push(Operation { step: name(step), name: name(operation), at });
        }
    }
    operations
}

impl Operation {
    fn name(&self) -> String {
        if self.step == self.name {
            return self.name.clone();
        }
        format!("{}: {}", self.step, self.name)
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |key: &str, unit, better, shown, meaning| Figure {
            at: format!("{}/{key}", self.at).into(),
            name: self.name().into(),
            unit,
            better,
            shown,
            meaning,
        };
        let failed = figure("failed", Count, Lower, Shown::NotZero, "Not answered, or refused");
        vec![
            figure(
                "per_second",
                PerSecond,
                Higher,
                Shown::Always,
                "Answers per second, from the beginning of the step to the last one",
            ),
            Figure {
                name: format!("{}, answered", self.name()).into(),
                ..figure("count", Count, Neither, Shown::Always, "In the whole step")
            },
            Figure { name: format!("{}, failed", self.name()).into(), ..failed },
        ]
    }

    fn latency(&self) -> Latency {
        Latency {
            at: format!("{}/latency_ns", self.at).into(),
            name: self.name().into(),
            span: self.name().into(),
            meaning: "From the moment at which it was intended to the answer of the broker",
        }
    }
}

/// Lists the figures that are shown first and largest.
pub(crate) fn headline(run: &Value) -> Vec<Figure> {
    let place = |figure: &Figure| HEADLINE.iter().position(|at| *at == figure.at);
    let of_step = |figure: &&Figure| {
        let ends = ["/per_second", "/p99"];
        figure.at.starts_with("/steps/") && ends.iter().any(|end| figure.at.ends_with(end))
    };
    let all = all(run);
    let mut figures: Vec<Figure> =
        all.iter().filter(|figure| place(figure).is_some()).cloned().collect();
    figures.sort_by_key(place);
    figures.extend(all.iter().filter(of_step).take(HEADLINE_STEP_COUNT).cloned());
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::HashSet;

    fn run() -> Value {
        let operation = |name| json!({"name": name, "count": 5, "per_second": 2.5});
        json!({"steps": [
            {"name": "connect", "operations": [operation("connect")]},
            {"name": "flow", "operations": []},
            {"name": "resume", "operations": [operation("connect"), operation("subscribe")]},
        ]})
    }

    #[test]
    fn figures_are_told_apart_by_place_and_name() {
        let all = all(&run());
        let places: HashSet<_> = all.iter().map(|figure| &figure.at).collect();
        let names: HashSet<_> =
            all.iter().map(|figure| (&figure.name, figure.unit.in_json())).collect();
        assert_eq!((places.len(), names.len()), (all.len(), all.len()));
    }

    #[test]
    fn every_operation_of_every_step_has_its_figures() {
        let run = run();
        let group = groups(&run).remove(2);
        let names: Vec<_> = group.figures.iter().map(|figure| figure.name.as_ref()).collect();
        let connect = ["connect", "connect, answered", "connect, failed", "resume: connect"];
        assert_eq!((group.name.as_ref(), &names[..4]), ("operations", &connect[..]));
        let latencies = latencies(&run);
        assert_eq!(latencies[2].at, "/steps/2/operations/1/latency_ns");
        let headline: Vec<_> = headline(&run).into_iter().map(|figure| figure.at).collect();
        assert_eq!(headline.len(), HEADLINE.len() + HEADLINE_STEP_COUNT);
        assert_eq!(headline[HEADLINE.len()], "/steps/0/operations/0/per_second");
    }

    /// The table of the README.
    fn markdown() -> String {
        let mut lines = vec!["| figure | unit | meaning |".to_owned(), "|---|---|---|".to_owned()];
        for (_, figures) in GROUPS {
            lines.extend(figures.iter().map(|Figure { name, unit, meaning, .. }| {
                format!("| {name} | {} | {meaning} |", unit.in_words())
            }));
        }
        lines.extend(
            LATENCIES
                .iter()
                .map(|Latency { name, meaning, .. }| format!("| {name} | time | {meaning} |")),
        );
        lines.join("\n")
    }

    #[test]
    fn the_readme_explains_every_figure() {
        let readme = include_str!("../../README.md");
        let begin = "<!-- figures: made from src/report/figures.rs, which a test checks -->\n";
        let rest = readme.split(begin).nth(1).expect("the README has this mark");
        let table = rest.split("\n<!-- end of figures -->").next().expect("and this one");
        assert!(table == markdown(), "the table has to be:\n{}", markdown());
    }

    #[test]
    fn the_headline_is_made_of_figures() {
        assert_eq!(headline(&Value::Null).len(), HEADLINE.len());
    }

    #[test]
    fn meanings_are_sentences_without_their_full_stop() {
        for Figure { name, meaning, .. } in all(&run()) {
            assert!(meaning.starts_with(|first: char| first.is_ascii_alphabetic()), "{name}");
            assert!(!meaning.ends_with('.'), "{name}: {meaning}");
        }
    }
}
