//! Runs that never change: one that has every figure there is, and several of one command.

use std::time::Duration;

use ringmq::mqtt::QoS;

use crate::pace::schedule::Timeline;
use crate::plan::Plan;
use crate::plan::objective::{Objective, Quantile};
use crate::plan::step::{Duty, Step, Visit};
use crate::plan::tests::plan;
use crate::recording::brief::Brief;
use crate::recording::impact::Impact;
use crate::recording::operations::Operations;
use crate::recording::recorder::{Recorder, Times};
use crate::recording::replay::ReplayBook;
use crate::recording::tally::{Counts, Settlement};
use crate::report::Report;
use crate::report::document::Document;
use crate::report::outcome::{Outcome, StepOutcome};
use crate::report::search_row::{Probe, SearchRow};
use crate::report::series::tests::{interval, sample};
use crate::report::series::{BrokerInterval, Interval, Phase};
use crate::report::tests::{machine, outcome};
use crate::sample::process::Sample;
use crate::sample::usage::Usage;

const MS: i64 = 1_000_000;
const TIMELINE: Timeline = Timeline { start_ns: 0, steady_ns: 0, end_ns: 10_000 * MS };

/// Latencies of 1 to 100 ms, and one of a second.
pub(super) fn recorder() -> Recorder {
    let mut recorder = Recorder::new();
    for step in (1..=100).chain([1000]) {
        let times = Times { intended_ns: 0, sent_ns: step * MS / 4 };
        recorder.record_publish(&TIMELINE, times, step % 10 == 0);
        recorder.record_delivery(&TIMELINE, times, step * MS);
        recorder.record_acknowledged(&TIMELINE, 0, step * MS / 2);
    }
    recorder.longest_gap_ns = 45_678_901;
    recorder
}

fn report(plan: &Plan, outcome: &Outcome) -> Report {
    let mut report = Report::new(plan, outcome, machine());
    report.generator.version = "0.0.0";
    report.generator.build = "release";
    report
}

fn settings() -> serde_json::Value {
    serde_json::json!({
        "broker": "localhost:1883", "drain": 5.0, "payload": 64, "qos": 1, "rate": 10.0,
        "source_ips": ["127.0.0.2"], "username": null, "keep": false,
    })
}

/// A run in which everything happens that a report can tell.
pub(super) fn one_run() -> Document {
    let bystanders = Visit::arrival(3, true, Duty::Bystander);
    let plan = Plan {
        scenario: "golden",
        cast: "1 publisher -> 5 subscribers".to_owned(),
        settings: settings(),
        qos: QoS::AtLeastOnce,
        retain: true,
        steps: vec![Step::Visit(bystanders), Step::Assemble, Step::Flow],
        ..plan()
    };
    let mut report = report(&plan, &eventful());
    let probe = |rate_per_s, missed: Option<&str>, generator_bound| Probe {
        rate_per_s,
        missed: missed.map(str::to_owned),
        latency_ns: 4_321_000,
        generator_bound,
    };
    report.conclude(SearchRow {
        objective: Objective { quantile: Quantile::P99_9, limit_ns: 5_000_000 },
        rate_per_s: Some(100.0),
        missed_per_s: Some(150.0),
        probes: vec![probe(100.0, None, false), probe(150.0, Some("above 5.00 ms"), true)],
    });
    Document::new(&[report])
}

fn eventful() -> Outcome {
    Outcome {
        started_unix_s: 1_795_414_380,
        recorder: recorder(),
        intervals: intervals(),
        counts: Counts {
            delivered: 95,
            duplicated: 3,
            duplicated_unmarked: 2,
            out_of_order: 1,
            too_late: 4,
            missing: 5,
        },
        settlement: Settlement { expected: 100, lost: 5, invented: 6 },
        bystanders: (
            Counts { delivered: 40, duplicated: 1, out_of_order: 2, ..Counts::default() },
            Settlement { expected: 60, lost: 20, invented: 0 },
        ),
        replay: replay(),
        impact: Some(impact()),
        shares: vec![3, 5, 10],
        strays: crate::recording::Strays {
            foreign: 9,
            misrouted: 10,
            retransmitted: 11,
            wrong_qos: 12,
        },
        sent: 19,
        acknowledged: 18,
        written_off: 1,
        usage: vec![
            Usage { cpu_s: 1.95, wait_s: 0.02, elapsed_s: 2.0 },
            Usage { cpu_s: 1.0, wait_s: 0.5, elapsed_s: 2.0 },
        ],
        steps: steps(),
        ..outcome()
    }
}

fn replay() -> ReplayBook {
    let mut book = ReplayBook::default();
    (book.outdated, book.unflagged) = (7, 8);
    book
}

fn impact() -> Impact {
    let mut impact = Impact::new(500 * MS);
    impact.end(1_500 * MS);
    for (intended, latency) in [(100, 2), (600, 250), (700, 150), (1_600, 3)] {
        impact.record(intended * MS, (intended + latency) * MS);
    }
    impact
}

fn steps() -> Vec<StepOutcome> {
    let mut operations = Operations::default();
    (1..=20).for_each(|number| operations.record("connect", 0, number * MS));
    (1..=10).for_each(|number| operations.record("subscribe", number * MS, 2 * number * MS));
    operations.record_failure("connect", "the broker refused the connection: <server unavailable>");
    let usage = vec![Usage { cpu_s: 1.0, wait_s: 0.0, elapsed_s: 1.0 }];
    let step = |name, begin_ns, end_ns, operations, usage| StepOutcome {
        name,
        begin_ns,
        end_ns,
        operations,
        usage,
    };
    vec![
        step("arrive", 0, 1_000 * MS, operations, usage),
        step("flow", 1_000 * MS, 4_000 * MS, Operations::default(), Vec::new()),
    ]
}

fn intervals() -> Vec<Interval> {
    let phases = [Phase::Connect, Phase::WarmUp, Phase::Steady, Phase::Steady, Phase::Drain];
    let at = |number: usize, phase| {
        let from_s = number as f64 - 2.0;
        let count = 10 * number as u64;
        let brief =
            Brief { p50: 1_000_000 * count, p99: 3_000_000 * count, max: 4_100_000 * count };
        let sample = Sample { pss_bytes: None, ..sample(number as f64 * 1.5, 20_000_000) };
        Interval {
            connected: 8,
            published: count,
            published_per_s: count as f64,
            delivered: 5 * count,
            delivered_per_s: 5.0 * count as f64,
            missing: number as u64,
            latency_ns: (count > 0).then_some(brief),
            raw_latency_ns: (count > 0).then_some(brief),
            generator_cores: 0.25 * number as f64,
            broker: Some(BrokerInterval { cores: 1.5, sample }),
            ..interval(from_s, from_s + 1.0, phase)
        }
    };
    phases.into_iter().enumerate().map(|(number, phase)| at(number, phase)).collect()
}

/// Three runs: a good one, one with losses and one that did not get to its end.
pub(super) fn several_runs() -> Document {
    let plan = Plan {
        scenario: "golden",
        settings: serde_json::json!({"broker": "localhost:1883", "payload": 64, "qos": 1,
            "window": 8}),
        qos: QoS::AtLeastOnce,
        publisher_count: 1,
        drain: Duration::from_secs(2),
        ..plan()
    };
    let good = outcome();
    let mut lossy = Outcome { connect_s: 4.0, acknowledged: 19, ..outcome() };
    lossy.settlement.lost = 7;
    lossy.recorder.latency.saturating_record(2_000_000_000);
    lossy.recorder.steady_delivered = 93;
    let failed = Outcome { failure: Some("publisher 0: it is gone".to_owned()), ..outcome() };
    Document::new(&[good, lossy, failed].map(|outcome| report(&plan, &outcome)))
}
