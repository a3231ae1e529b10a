//! The course of a run: intervals without gaps that add up to what the whole run says.

use std::time::Duration;

use serde_json::Value;

use crate::fake_broker::{Fate, Script};
use crate::{MESSAGES, Run, fanout, fated};

fn intervals(run: &Run) -> &[Value] {
    run.report["intervals"].as_array().unwrap_or_else(|| panic!("{}", run.stderr))
}

fn sum(run: &Run, key: &str) -> u64 {
    intervals(run).iter().map(|interval| interval[key].as_u64().expect("a count")).sum()
}

fn number(interval: &Value, key: &str) -> f64 {
    interval[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {interval}"))
}

#[test]
fn intervals_follow_each_other_and_add_up() {
    let run = fated(|_, _| Fate::Deliver, "--subscribers 3 --interval 0.1");
    let intervals = intervals(&run);
    assert!(intervals.len() >= 3, "{intervals:#?}");
    assert!(intervals.is_sorted_by(|a, b| a["to_s"] == b["from_s"]), "{intervals:#?}");
    assert_eq!(sum(&run, "published"), MESSAGES);
    assert_eq!(sum(&run, "delivered"), 3 * MESSAGES);
    let last = intervals.last().expect("there are some");
    assert_eq!(last["to_s"], run.report["moments"]["drained_s"]);
    assert_eq!((&last["connected"], &last["missing"]), (&4.into(), &0.into()));
    for interval in intervals {
        let seconds = number(interval, "to_s") - number(interval, "from_s");
        let delivered = number(interval, "delivered_per_s") * seconds;
        assert!((delivered - number(interval, "delivered")).abs() < 1e-6, "{interval}");
        assert!(number(interval, "generator_cores") >= 0.0);
        assert_eq!(interval["latency_ns"].is_null(), interval["delivered"] == 0, "{interval}");
    }
}

#[test]
fn phases_come_in_order_and_warm_up_has_latencies_of_its_own() {
    let options = "--rate 100 --warmup 0.5 --duration 0.5 --interval 0.1 --subscribers 1";
    let run = fanout(Script::default(), options);
    let phases: Vec<&str> =
        intervals(&run).iter().map(|it| it["phase"].as_str().expect("a name")).collect();
    let order = |phase: &&str| {
        let known = ["connect", "warm_up", "steady", "drain"];
        known.iter().position(|known| known == phase).expect("a known phase")
    };
    assert!(phases.is_sorted_by_key(order), "{phases:?}");
    assert_eq!((phases.first(), phases.last()), (Some(&"connect"), Some(&"drain")));
    let warm_up = intervals(&run).iter().filter(|interval| interval["phase"] == "warm_up");
    assert!(warm_up.filter(|interval| !interval["latency_ns"].is_null()).count() >= 1);
    assert_eq!(run.count("/latency_ns/count"), 50, "but the run counts the steady part only");
}

#[test]
fn what_is_missing_is_seen_when_it_is_skipped() {
    // The last one is dropped, too: nobody can know before the run is over.
    let fate = |_, message| if matches!(message, 10..15 | 49) { Fate::Drop } else { Fate::Deliver };
    let run = fated(fate, "--subscribers 2 --interval 0.1");
    let missing: Vec<u64> =
        intervals(&run).iter().map(|it| it["missing"].as_u64().expect("a count")).collect();
    assert!(missing.is_sorted(), "{missing:?}");
    assert_eq!((missing.first(), missing.last()), (Some(&0), Some(&10)), "{missing:?}");
    assert_eq!(run.deliveries("lost"), 12);
    assert_eq!(run.report["deliveries"]["loss"], 0.12);
}

/// The broker stands still for a second: intervals without deliveries, and then one whose latency
/// from the intended time has the wait in it.
#[test]
fn a_stall_shows_when_it_happened() {
    let stall = Some((20, Duration::from_secs(1)));
    let options = "--rate 100 --warmup 0 --duration 1 --interval 0.1 --subscribers 1";
    let run = fanout(Script { stall, ..Script::default() }, options);
    let intervals = intervals(&run);
    let longest = |interval: &Value| interval["latency_ns"]["max"].as_u64().unwrap_or_default();
    let worst = intervals.iter().position(|it| longest(it) >= 900_000_000).expect("the stall");
    let idle = intervals[..worst].iter().rev().take_while(|it| it["delivered"] == 0).count();
    assert!(idle >= 1, "{intervals:#?}");
    let overall = run.count("/latency_ns/max");
    let max = intervals.iter().map(longest).max();
    assert_eq!(max, Some(overall), "the worst interval is the worst of the run");
}

/// The scripted broker is part of this process, so this is the process to sample.
#[test]
fn the_broker_is_sampled_in_every_interval() {
    let options = format!("--subscribers 2 --interval 0.1 --broker-pid {}", std::process::id());
    let run = fated(|_, _| Fate::Deliver, &options);
    assert_eq!(run.status, 0, "{}", run.stderr);
    for interval in intervals(&run) {
        let broker = &interval["broker"];
        assert!(number(broker, "cores") >= 0.0 && number(broker, "threads") >= 2.0, "{broker}");
        assert!(number(broker, "rss_bytes") > 1e5 && number(broker, "descriptors") >= 3.0);
    }
    let broker = &run.report["broker"];
    assert_eq!(broker["pid"], std::process::id());
    assert_eq!(broker["ended"], false);
    assert!(number(broker, "rss_bytes_max") >= number(broker, "rss_bytes_begin"));
    assert!(number(broker, "pss_bytes_max") > 1e5, "{broker}");
    assert!(number(broker, "cpu_s_per_million_deliveries") >= 0.0);
    assert!(run.row("broker memory (RSS)").ends_with("MiB"), "{}", run.stdout);
    let without = fated(|_, _| Fate::Deliver, "--subscribers 2");
    assert!(without.report["broker"].is_null() && !without.stdout.contains("broker memory"));
}
