//! What a run came to: figures, verdicts, JSON. All arithmetic, no measuring.

pub(crate) mod document;
pub(crate) mod figure;
pub(crate) mod figures;
pub(crate) mod findings;
pub(crate) mod outcome;
pub(crate) mod percentiles;
pub(crate) mod resources;
pub(crate) mod search_row;
pub(crate) mod series;
pub(crate) mod usage;

use ringmq::mqtt::QoS;
use serde::Serialize;
use serde_json::Value;

use crate::plan::Plan;
use crate::report::findings::{Findings, StepRow};
use crate::report::outcome::{Outcome, planned_count};
use crate::report::percentiles::Percentiles;
use crate::report::resources::{Broker, MachineUse, per_million};
use crate::report::search_row::SearchRow;
use crate::report::series::{Interval, per};
use crate::report::usage::Executor;
use crate::sample::machine::Machine;

/// Raised when the meaning of a field changes.
pub(crate) const FORMAT: u32 = 2;
/// An executor that used this share of a core may have been the limit.
const CPU_SHARE_MAX: f64 = 0.95;
/// An executor that waited for a core this share of the time was disturbed by others.
const WAIT_SHARE_MAX: f64 = 0.10;
/// A schedule kept this well is never the limit.
const LATENESS_NS_MAX: u64 = 1_000_000;

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) generator: Generator,
    pub(crate) scenario: &'static str,
    /// The clients that took part, in words.
    pub(crate) cast: String,
    pub(crate) settings: Value,
    pub(crate) machine: Machine,
    /// In the steady part.
    pub(crate) machine_use: Option<MachineUse>,
    pub(crate) started_unix_s: u64,
    pub(crate) moments: Moments,
    pub(crate) verdict: Verdict,
    pub(crate) connect: Connect,
    /// Length of the measured part.
    pub(crate) steady_s: f64,
    pub(crate) publishes: Publishes,
    pub(crate) deliveries: Deliveries,
    /// From the intended time of the publish to the delivery, nanoseconds.
    pub(crate) latency_ns: Percentiles,
    /// From the actual send to the delivery: hides what a slow broker made the publisher wait.
    pub(crate) raw_latency_ns: Percentiles,
    /// From the intended time to PUBACK or PUBCOMP; none at QoS 0.
    pub(crate) acknowledge_latency_ns: Option<Percentiles>,
    /// Steps and whatever else the scenario has.
    #[serde(flatten)]
    pub(crate) findings: Findings,
    /// If it was sampled.
    pub(crate) broker: Option<Broker>,
    /// From the first connection attempt to the last delivery, without a gap.
    pub(crate) intervals: Vec<Interval>,
}

/// When the parts of the run began, in seconds from the first connection attempt.
#[derive(Serialize)]
pub(crate) struct Moments {
    pub(crate) connected_s: f64,
    /// The warm-up.
    pub(crate) start_s: Option<f64>,
    pub(crate) steady_s: Option<f64>,
    pub(crate) end_s: Option<f64>,
    pub(crate) drained_s: Option<f64>,
}

/// Whether the run is worth anything, and whether the broker kept its promises.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(crate) enum Verdict {
    Ok,
    Violated { violations: Vec<String> },
    Failed { failure: String },
}

/// What this program used itself, and whether it was the limit.
#[derive(Serialize)]
pub(crate) struct Generator {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// True: these figures are the generator's limit, not the broker's.
    pub(crate) generator_bound: bool,
    pub(crate) reasons: Vec<String>,
    /// "release"; figures of another build mean little.
    pub(crate) build: &'static str,
    /// CPU seconds of the whole process in the whole run, connecting included.
    pub(crate) cpu_s: f64,
    /// `None` where there is no steady part.
    pub(crate) steady_cores: Option<f64>,
    /// CPU seconds for each million messages, sent and received, in the steady part.
    pub(crate) cpu_s_per_million_messages: Option<f64>,
    /// In the steady part.
    pub(crate) executors: Vec<Executor>,
    /// Actual minus intended send time, where the broker did not hold the publisher back.
    pub(crate) lateness_ns: Percentiles,
}

#[derive(Serialize)]
pub(crate) struct Connect {
    pub(crate) connections: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
}

#[derive(Serialize)]
pub(crate) struct Publishes {
    /// Messages of the schedule; none in closed loop.
    pub(crate) planned: Option<u64>,
    pub(crate) sent: u64,
    /// Planned, but the broker never took them.
    pub(crate) unsent: u64,
    /// To the end: PUBACK, PUBCOMP.
    pub(crate) acknowledged: u64,
    pub(crate) unacknowledged: u64,
    /// In the steady part.
    pub(crate) per_second: f64,
    /// Sent late in the steady part because the broker did not take them sooner.
    pub(crate) held_back: u64,
    /// Closed loop: no longer waited for, so that the window does not stand still.
    pub(crate) written_off: u64,
}

#[derive(Serialize)]
pub(crate) struct Deliveries {
    pub(crate) expected: u64,
    /// Messages seen for the first time, per subscriber.
    pub(crate) delivered: u64,
    /// In the steady part.
    pub(crate) per_second: f64,
    pub(crate) lost: u64,
    /// Lost among those expected, 0 to 1.
    pub(crate) loss: f64,
    pub(crate) duplicated: u64,
    /// Those without the DUP flag.
    pub(crate) duplicated_unmarked: u64,
    /// Seen for the first time after a message of the same publisher and topic that was later.
    pub(crate) out_of_order: u64,
    /// So late that they could no longer be told from duplicates; they count as lost.
    pub(crate) too_late: u64,
    /// With numbers that were never sent.
    pub(crate) invented: u64,
    /// Of other runs or other programs: ignored.
    pub(crate) foreign: u64,
    /// On topics that the subscriber has not asked for.
    pub(crate) misrouted: u64,
    /// QoS 2: the same packet again before PUBREL; no second delivery.
    pub(crate) retransmitted: u64,
    pub(crate) wrong_qos: u64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, outcome: &Outcome, machine: Machine) -> Self {
        let recorder = &outcome.recorder;
        let publishes = Publishes::of(plan, outcome);
        let deliveries = Deliveries::of(outcome);
        let latency_ns = Percentiles::of(&recorder.latency);
        let acknowledges = plan.qos > QoS::AtMostOnce;
        let findings = Findings::of(plan, outcome);
        let mut broken = broken_promises(plan.qos, &publishes, &deliveries);
        broken.extend(findings.violations());
        Self {
            format: FORMAT,
            generator: Generator::of(outcome, &latency_ns, &findings.steps),
            scenario: plan.scenario,
            cast: plan.cast.clone(),
            settings: plan.settings.clone(),
            machine,
            machine_use: MachineUse::of(&outcome.marks),
            started_unix_s: outcome.started_unix_s,
            moments: Moments::of(outcome),
            verdict: Verdict::of(outcome.failure.as_deref(), broken),
            connect: Connect::of(outcome),
            steady_s: steady_s(outcome),
            publishes,
            deliveries,
            latency_ns,
            raw_latency_ns: Percentiles::of(&recorder.raw_latency),
            acknowledge_latency_ns: acknowledges
                .then(|| Percentiles::of(&recorder.acknowledge_latency)),
            findings,
            broker: Broker::of(outcome),
            intervals: outcome.intervals.clone(),
        }
    }
}

impl Report {
    /// Ends a search: it went well if any rate met the objective.
    pub(crate) fn conclude(&mut self, found: SearchRow) {
        if found.rate_per_s.is_none() && self.verdict == Verdict::Ok {
            let violations = vec!["no rate met the objective".to_owned()];
            self.verdict = Verdict::Violated { violations };
        }
        if found.is_generator_bound() {
            self.generator.generator_bound = true;
            let reason = "the generator was the limit at the lowest rate that missed the objective";
            self.generator.reasons.push(reason.to_owned());
        }
        self.findings.search = Some(found);
    }
}

impl Verdict {
    fn of(failure: Option<&str>, violations: Vec<String>) -> Self {
        match failure {
            Some(failure) => Self::Failed { failure: failure.to_owned() },
            None if violations.is_empty() => Self::Ok,
            None => Self::Violated { violations },
        }
    }
}

/// Lists what the broker owes at this QoS and did not keep.
fn broken_promises(qos: QoS, publishes: &Publishes, deliveries: &Deliveries) -> Vec<String> {
    let at_least_once = qos > QoS::AtMostOnce;
    let exactly_once = qos == QoS::ExactlyOnce;
    let promises = [
        (at_least_once, deliveries.lost, "lost"),
        (exactly_once, deliveries.duplicated, "duplicated"),
        (true, deliveries.out_of_order, "out of order"),
        (at_least_once, publishes.unacknowledged, "published, but never acknowledged"),
        (true, deliveries.invented, "delivered, but never published"),
        (true, deliveries.misrouted, "delivered to a subscriber that had not asked"),
        (true, deliveries.wrong_qos, "delivered at another QoS than agreed"),
    ];
    let broken = promises.into_iter().filter(|&(promised, count, _)| promised && count > 0);
    broken.map(|(_, count, what)| format!("{count} {what}")).collect()
}

impl Generator {
    fn of(outcome: &Outcome, latency: &Percentiles, steps: &[StepRow]) -> Self {
        let executors: Vec<Executor> = outcome.usage.iter().map(Executor::of).collect();
        let lateness_ns = Percentiles::of(&outcome.recorder.lateness);
        let mut reasons = limits(&executors, &lateness_ns, latency);
        reasons.extend(findings::limits(steps, CPU_SHARE_MAX));
        let recorder = &outcome.recorder;
        let (steady_cpu_s, seconds) = outcome.marks.steady_part(|mark| mark.cpu_s);
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            generator_bound: !reasons.is_empty(),
            reasons,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            cpu_s: outcome.marks.whole(|mark| mark.cpu_s),
            steady_cores: (seconds > 0.0).then(|| per(steady_cpu_s, seconds)),
            cpu_s_per_million_messages: per_million(
                steady_cpu_s,
                recorder.steady_published + recorder.steady_delivered,
            ),
            executors,
            lateness_ns,
        }
    }
}

/// Says why the generator, not the broker, may have been the limit.
fn limits(executors: &[Executor], lateness: &Percentiles, latency: &Percentiles) -> Vec<String> {
    let mut reasons = Vec::new();
    for (number, executor) in executors.iter().enumerate() {
        if executor.cpu_share >= CPU_SHARE_MAX {
            let percent = executor.cpu_share * 100.0;
            reasons.push(format!("executor {number} used {percent:.0} % of a core"));
        }
        if executor.wait_share >= WAIT_SHARE_MAX {
            let percent = executor.wait_share * 100.0;
            reasons.push(format!("executor {number} waited {percent:.0} % of the time for a core"));
        }
    }
    if lateness.p99 > LATENESS_NS_MAX && lateness.p99 > latency.p99 / 10 {
        let late_ms = lateness.p99 as f64 / 1e6;
        reasons.push(format!("messages left late: p99 {late_ms:.1} ms after their time"));
    }
    reasons
}

impl Connect {
    fn of(outcome: &Outcome) -> Self {
        Self {
            connections: outcome.connected,
            seconds: outcome.connect_s,
            per_second: per(outcome.connected as f64, outcome.connect_s),
        }
    }
}

impl Publishes {
    fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let planned = outcome.timeline.and_then(|timeline| planned_count(plan, &timeline));
        let awaited = if plan.qos > QoS::AtMostOnce { outcome.sent } else { 0 };
        Self {
            planned,
            sent: outcome.sent,
            unsent: planned.map_or(0, |planned| planned.saturating_sub(outcome.sent)),
            acknowledged: outcome.acknowledged,
            unacknowledged: awaited.saturating_sub(outcome.acknowledged),
            per_second: per(outcome.recorder.steady_published as f64, steady_s(outcome)),
            held_back: outcome.recorder.held_back,
            written_off: outcome.written_off,
        }
    }
}

impl Deliveries {
    fn of(outcome: &Outcome) -> Self {
        let (counts, strays) = (&outcome.counts, &outcome.strays);
        Self {
            expected: outcome.settlement.expected,
            delivered: counts.delivered,
            per_second: per(outcome.recorder.steady_delivered as f64, steady_s(outcome)),
            lost: outcome.settlement.lost,
            loss: per(outcome.settlement.lost as f64, outcome.settlement.expected as f64),
            duplicated: counts.duplicated,
            duplicated_unmarked: counts.duplicated_unmarked,
            out_of_order: counts.out_of_order,
            too_late: counts.too_late,
            invented: outcome.settlement.invented,
            foreign: strays.foreign,
            misrouted: strays.misrouted,
            retransmitted: strays.retransmitted,
            wrong_qos: strays.wrong_qos,
        }
    }
}

impl Moments {
    fn of(outcome: &Outcome) -> Self {
        let seconds = |ns: i64| ns as f64 / 1e9;
        let timeline = outcome.timeline;
        Self {
            connected_s: outcome.connect_s,
            start_s: timeline.map(|timeline| seconds(timeline.start_ns)),
            steady_s: timeline.map(|timeline| seconds(timeline.steady_ns)),
            end_s: timeline.map(|timeline| seconds(timeline.end_ns)),
            drained_s: outcome.marks.drained.map(|mark| seconds(mark.at_ns)),
        }
    }
}

fn steady_s(outcome: &Outcome) -> f64 {
    outcome.timeline.map_or(0.0, |timeline| timeline.steady_s())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::pace::schedule::Timeline;
    use crate::plan::{Load, tests::plan};
    use crate::recording::Strays;
    use crate::recording::recorder::Recorder;
    use crate::recording::tally::{Counts, Settlement};
    use crate::report::series::tests::{interval, mark, sample};
    use crate::report::series::{Marks, Phase};
    use crate::sample::usage::Usage;

    const SECOND: i64 = 1_000_000_000;

    /// The broker has no clients, 8 clients, a steady part that costs it 3 s of CPU, and an end.
    pub(crate) fn marks() -> Marks {
        let mark = |at_s, cpu_s, broker_cpu_s, rss| {
            Some(mark(at_s, cpu_s, Some(sample(broker_cpu_s, rss))))
        };
        Marks {
            begin: mark(-2.0, 0.0, 1.0, 1_000),
            connected: mark(0.0, 0.5, 2.0, 9_000),
            steady: mark(0.0, 0.5, 2.0, 9_000),
            end: mark(2.0, 1.5, 5.0, 20_000),
            drained: mark(3.0, 1.75, 5.5, 10_000),
        }
    }

    /// A run of two seconds with 10 publishes per second that went well.
    pub(crate) fn outcome() -> Outcome {
        let mut recorder = Recorder::new();
        (1..=100).for_each(|step| recorder.latency.saturating_record(step * 1_000_000));
        recorder.steady_delivered = 100;
        recorder.steady_published = 20;
        Outcome {
            failure: None,
            started_unix_s: 0,
            connected: 8,
            connect_s: 2.0,
            timeline: Some(Timeline { start_ns: 0, steady_ns: 0, end_ns: 2 * SECOND }),
            recorder,
            intervals: vec![interval(0.0, 1.0, Phase::Steady), interval(1.0, 2.0, Phase::Steady)],
            counts: Counts { delivered: 100, ..Default::default() },
            settlement: Settlement { expected: 100, ..Default::default() },
            strays: Strays::default(),
            sent: 20,
            acknowledged: 20,
            written_off: 0,
            usage: vec![Usage { cpu_s: 1.0, wait_s: 0.02, elapsed_s: 2.0 }],
            steps: Vec::new(),
            session_count: 0,
            bystanders: Default::default(),
            replay: Default::default(),
            impact: None,
            shares: Vec::new(),
            marks: marks(),
            broker: Some((7, "fake".to_owned())),
        }
    }

    pub(crate) fn machine() -> Machine {
        Machine {
            kernel: "6.0".to_owned(),
            cpu_model: "CPU".to_owned(),
            core_count: 2,
            allowed_core_count: 1,
            memory_bytes: Some(4 << 30),
            operating_system: "Linux 1".to_owned(),
            tcp_congestion_control: "cubic".to_owned(),
            load_average: Some(0.5),
        }
    }

    fn report(qos: QoS, outcome: &Outcome) -> Report {
        let plan = Plan { qos, publisher_count: 1, ..plan() };
        Report::new(&plan, outcome, machine())
    }

    fn status_of(verdict: &Verdict) -> u8 {
        match verdict {
            Verdict::Ok => 0,
            Verdict::Violated { .. } => 1,
            Verdict::Failed { .. } => 3,
        }
    }

    #[test]
    fn rates_are_those_of_the_steady_part() {
        let report = report(QoS::AtLeastOnce, &outcome());
        assert_eq!(report.deliveries.per_second, 50.0);
        assert_eq!(report.publishes.per_second, 10.0);
        assert_eq!(report.connect.per_second, 4.0);
        assert_eq!(report.generator.executors[0].cpu_share, 0.5);
        assert_eq!(report.verdict, Verdict::Ok);
    }

    #[test]
    fn cpu_is_set_against_what_was_done() {
        let generator = report(QoS::AtMostOnce, &outcome()).generator;
        assert_eq!((generator.cpu_s, generator.steady_cores), (1.75, Some(0.5)));
        // 1 s for 20 publishes and 100 deliveries.
        let per_million = generator.cpu_s_per_million_messages.expect("there were some");
        assert!((per_million - 1e6 / 120.0).abs() < 1e-6);
    }

    #[test]
    fn curves_rise_to_the_maximum_and_end_there() {
        let curve = report(QoS::AtMostOnce, &outcome()).latency_ns.curve;
        assert!(curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{curve:?}");
        let (quantile, value) = *curve.last().expect("it has points");
        assert_eq!((quantile, value), (1.0, outcome().recorder.latency.max()));
        assert!(report(QoS::AtMostOnce, &outcome()).raw_latency_ns.curve.is_empty());
    }

    #[test]
    fn percentiles_have_three_digits() {
        let percentiles = report(QoS::AtMostOnce, &outcome()).latency_ns;
        let close = |value: u64, ms: u64| value.abs_diff(ms * 1_000_000) <= ms * 1_000;
        assert!(close(percentiles.p50, 50) && close(percentiles.p90, 90));
        assert!(close(percentiles.p99, 99) && close(percentiles.max, 100));
        assert_eq!(Percentiles::of(&Recorder::new().lateness), Percentiles::default());
    }

    #[test]
    fn promises_depend_on_the_qos() {
        let mut outcome = outcome();
        outcome.settlement.lost = 3;
        outcome.counts.duplicated = 2;
        let status = |qos| status_of(&report(qos, &outcome).verdict);
        assert_eq!(status(QoS::AtMostOnce), 0, "QoS 0 promises neither");
        let Verdict::Violated { violations } = report(QoS::AtLeastOnce, &outcome).verdict else {
            panic!("a loss at QoS 1 is a violation");
        };
        assert_eq!(violations, ["3 lost"], "QoS 1 may duplicate");
        outcome.settlement.lost = 0;
        assert_eq!(status_of(&report(QoS::ExactlyOnce, &outcome).verdict), 1);
    }

    #[test]
    fn order_is_promised_at_every_qos() {
        let mut outcome = outcome();
        outcome.counts.out_of_order = 1;
        assert_eq!(status_of(&report(QoS::AtMostOnce, &outcome).verdict), 1);
    }

    #[test]
    fn publishes_without_acknowledgement_break_a_promise() {
        let outcome = Outcome { acknowledged: 19, ..outcome() };
        assert_eq!(report(QoS::AtMostOnce, &outcome).verdict, Verdict::Ok);
        assert_eq!(status_of(&report(QoS::AtLeastOnce, &outcome).verdict), 1);
    }

    #[test]
    fn a_failed_run_says_nothing_about_promises() {
        let mut outcome = outcome();
        outcome.failure = Some("publisher 0: gone".to_owned());
        outcome.settlement.lost = 3;
        assert_eq!(status_of(&report(QoS::AtLeastOnce, &outcome).verdict), 3);
    }

    #[test]
    fn what_the_broker_never_took_is_unsent() {
        let outcome = Outcome { sent: 15, ..outcome() };
        let publishes = report(QoS::AtMostOnce, &outcome).publishes;
        assert_eq!((publishes.planned, publishes.unsent), (Some(20), 5));
        let closed = Plan { load: Load::Closed { window_size: 1 }, ..plan() };
        assert_eq!(Report::new(&closed, &outcome, machine()).publishes.planned, None);
    }

    fn bound(usage: Usage, lateness_ns: u64) -> bool {
        let mut outcome = Outcome { usage: vec![usage], ..outcome() };
        outcome.recorder.lateness.saturating_record(lateness_ns);
        report(QoS::AtMostOnce, &outcome).generator.generator_bound
    }

    #[test]
    fn a_saturated_starved_or_late_generator_admits_it() {
        let calm = Usage { cpu_s: 1.8, wait_s: 0.1, elapsed_s: 2.0 };
        assert!(!bound(calm, 500_000));
        assert!(bound(Usage { cpu_s: 1.95, ..calm }, 0));
        assert!(bound(Usage { wait_s: 0.3, ..calm }, 0));
        assert!(bound(calm, 20_000_000), "p99 of the latency is 99 ms");
        assert!(!bound(calm, 5_000_000), "little against a latency of 99 ms");
    }
}
