//! What a broker loses, repeats, reorders or makes up is counted exactly.

use crate::fake_broker::{Fate, Script};
use crate::{MESSAGES, SHORT, fanout, fated};

#[test]
fn a_faultless_broker_is_reported_faultless_at_every_qos() {
    for qos in 0..=2 {
        let run = fated(|_, _| Fate::Deliver, &format!("--qos {qos} --subscribers 4"));
        assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(run.report["verdict"]["outcome"], "ok");
        assert_eq!(run.count("/publishes/planned"), MESSAGES);
        assert_eq!(run.count("/publishes/sent"), MESSAGES);
        let acknowledged = if qos == 0 { 0 } else { MESSAGES };
        assert_eq!(run.count("/publishes/acknowledged"), acknowledged);
        assert_eq!(run.deliveries("expected"), 4 * MESSAGES);
        assert_eq!(run.deliveries("delivered"), 4 * MESSAGES);
        assert_eq!(run.count("/latency_ns/count"), 4 * MESSAGES);
        for fault in ["lost", "duplicated", "out_of_order", "foreign", "wrong_qos", "misrouted"] {
            assert_eq!(run.deliveries(fault), 0, "{fault} at QoS {qos}");
        }
    }
}

#[test]
fn version_5_is_spoken_and_judged_like_the_others() {
    let fate = |subscriber, message| match (subscriber, message) {
        (0, 7) => Fate::Drop,
        (1, 9) => Fate::HoldBack,
        _ => Fate::Deliver,
    };
    for version in ["3.1", "5"] {
        for qos in 0..=2 {
            let options = format!("--qos {qos} --subscribers 2 --mqtt-version {version}");
            let run = fated(fate, &options);
            assert_eq!(run.count("/publishes/sent"), MESSAGES, "{version}: {}", run.stderr);
            let acknowledged = if qos == 0 { 0 } else { MESSAGES };
            assert_eq!(run.count("/publishes/acknowledged"), acknowledged, "{version}");
            assert_eq!(run.deliveries("delivered"), 2 * MESSAGES - 1, "{version}");
            assert_eq!(run.deliveries("lost"), 1, "{version}");
            assert_eq!(run.deliveries("out_of_order"), 1, "{version}");
        }
    }
}

#[test]
fn losses_are_counted_and_matter_from_qos_1() {
    // Subscriber 1 misses every tenth message, subscriber 2 the last three.
    let fate = |subscriber, message| match (subscriber, message) {
        (1, message) if message % 10 == 3 => Fate::Drop,
        (2, 47..) => Fate::Drop,
        _ => Fate::Deliver,
    };
    for (qos, status) in [(0, 0), (1, 1), (2, 1)] {
        let run = fated(fate, &format!("--qos {qos} --subscribers 3"));
        assert_eq!(run.deliveries("lost"), 5 + 3);
        assert_eq!(run.deliveries("delivered"), 3 * MESSAGES - 8);
        assert_eq!(run.deliveries("out_of_order"), 0);
        assert_eq!(run.status, status, "QoS {qos}: {}", run.stdout);
        assert_eq!(run.row("lost"), "8");
    }
}

#[test]
fn duplicates_are_counted_and_matter_at_qos_2() {
    let fate = |_, message| match message % 10 {
        2 => Fate::Duplicate,
        4 => Fate::DuplicateMarked,
        _ => Fate::Deliver,
    };
    for (qos, status) in [(1, 0), (2, 1)] {
        let run = fated(fate, &format!("--qos {qos} --subscribers 2"));
        assert_eq!(run.deliveries("duplicated"), 2 * 10);
        assert_eq!(run.deliveries("duplicated_unmarked"), 2 * 5);
        assert_eq!(run.deliveries("delivered"), 2 * MESSAGES);
        assert_eq!(run.count("/latency_ns/count"), 2 * MESSAGES, "a duplicate has no latency");
        assert_eq!(run.deliveries("lost"), 0);
        assert_eq!(run.status, status, "QoS {qos}: {}", run.stdout);
    }
}

#[test]
fn a_qos_2_packet_sent_again_before_its_release_is_no_duplicate() {
    let fate = |_, message| if message == 7 { Fate::Retransmit } else { Fate::Deliver };
    let run = fated(fate, "--qos 2 --subscribers 2");
    assert_eq!((run.deliveries("retransmitted"), run.deliveries("duplicated")), (2, 0));
    assert_eq!(run.status, 0, "{}", run.stdout);
}

#[test]
fn reordering_is_counted_and_matters_at_every_qos() {
    let fate = |subscriber, message| match (subscriber, message) {
        (0, 10 | 20 | 30) => Fate::HoldBack,
        _ => Fate::Deliver,
    };
    for qos in 0..=2 {
        let run = fated(fate, &format!("--qos {qos} --subscribers 2"));
        assert_eq!(run.deliveries("out_of_order"), 3);
        assert_eq!(run.deliveries("lost"), 0);
        assert_eq!(run.deliveries("delivered"), 2 * MESSAGES);
        assert_eq!(run.status, 1, "QoS {qos}: {}", run.stdout);
    }
}

#[test]
fn the_four_faults_are_told_apart() {
    let fate = |_, message| match message {
        5 => Fate::Drop,
        15 => Fate::Duplicate,
        25 => Fate::HoldBack,
        35 => Fate::Replace,
        45 => Fate::Downgrade,
        _ => Fate::Deliver,
    };
    let run = fated(fate, "--qos 1 --subscribers 3");
    assert_eq!(run.deliveries("lost"), 3 * 2, "dropped, and replaced by something foreign");
    for fault in ["duplicated", "out_of_order", "foreign", "wrong_qos"] {
        assert_eq!(run.deliveries(fault), 3, "{fault}");
    }
    assert_eq!(run.status, 1);
}

#[test]
fn sequences_are_kept_per_publisher_and_topic() {
    let fate = |_, message| if message == 20 { Fate::Drop } else { Fate::Deliver };
    let run = fated(fate, "--publishers 3 --topics 2 --subscribers 2 --qos 1");
    assert_eq!(run.deliveries("expected"), 2 * MESSAGES);
    assert_eq!(run.deliveries("lost"), 2);
    assert_eq!(run.deliveries("out_of_order"), 0);
}

#[test]
fn a_publish_that_is_never_acknowledged_breaks_a_promise() {
    let script = Script { unacknowledged: Some(9), ..Script::default() };
    let run = fanout(script, &format!("{SHORT} --qos 1 --subscribers 1"));
    assert_eq!(run.count("/publishes/unacknowledged"), 1);
    assert_eq!(run.deliveries("lost"), 0);
    assert_eq!(run.status, 1, "{}", run.stdout);
}
