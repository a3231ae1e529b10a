//! Scenarios in which others do something while messages flow: shared subscriptions, churn,
//! reconnect storms, slow consumers.

use std::time::Duration;

use crate::fake_broker::{FakeBroker, Fate, Script};
use crate::{MESSAGES, Run, SHORT, run_at};

fn run(scenario: &str, script: Script, options: &str) -> Run {
    run_at(&FakeBroker::start(script).address, scenario, options)
}

#[test]
fn each_group_gets_each_message_once() {
    for qos in 0..=2 {
        let options =
            format!("{SHORT} --qos {qos} --publishers 2 --groups 3 --members 4 --cores 2");
        let run = run("shared", Script::default(), &options);
        assert_eq!(run.deliveries("expected"), 3 * MESSAGES);
        assert_eq!(run.deliveries("delivered"), 3 * MESSAGES);
        assert_eq!(run.count("/shares/members"), 12);
        assert!(run.count("/shares/least") >= MESSAGES / 4);
        assert_eq!(run.status, 0, "QoS {qos}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn a_message_for_nobody_or_for_two_members_is_found() {
    let members = |message, count| match message {
        7 | 8 => Vec::new(),
        9 => vec![0, 1],
        _ => vec![message % count],
    };
    // Members take turns: 15 comes to the same one as 12.
    let fate = |_, message| if message == 12 { Fate::HoldBack } else { Fate::Deliver };
    let script = Script { members, fate, ..Script::default() };
    let run = run("shared", script, &format!("{SHORT} --qos 2 --publishers 1 --members 3"));
    assert_eq!(run.deliveries("lost"), 2);
    assert_eq!(run.deliveries("duplicated"), 1);
    assert_eq!(run.deliveries("out_of_order"), 1);
    assert_eq!(run.status, 1, "{}", run.stdout);
}

#[test]
fn shared_subscriptions_work_in_closed_loop() {
    let options = "--window 3 --qos 1 --warmup 0 --duration 0.5 --drain 2 --groups 2 --cores 2";
    let run = run("shared", Script::default(), options);
    let sent = run.count("/publishes/sent");
    assert!(sent >= 30, "{}", run.stdout);
    assert_eq!(run.deliveries("delivered"), 2 * sent);
    assert_eq!(run.status, 0, "{}", run.stdout);
}

#[test]
fn churn_is_answered_and_deliveries_beside_it_are_exact() {
    let fate = |subscriber, message| match (subscriber, message) {
        // Churners subscribe, too, but get nothing.
        (_, 11) => Fate::Drop,
        _ => Fate::Deliver,
    };
    let options = format!("{SHORT} --qos 1 --churners 5 --churn-rate 100 --filters 1 --cores 2");
    let run = run("churn", Script { fate, ..Script::default() }, &options);
    assert_eq!(run.operation("flow", "subscribe", "count"), 25);
    assert_eq!(run.operation("flow", "unsubscribe", "count"), 25);
    assert_eq!(run.deliveries("expected"), 10 * MESSAGES);
    assert_eq!(run.deliveries("lost"), 10);
    assert_eq!(run.status, 1, "{}", run.stdout);
}

#[test]
fn subscriptions_that_are_never_answered_break_a_promise() {
    let script = Script { ignores_unsubscribe: true, ..Script::default() };
    let options = format!("{SHORT} --churners 5 --churn-rate 100 --filters 1 --subscribers 1");
    let run = run("churn", script, &options);
    assert_eq!(run.operation("flow", "change subscriptions", "failed"), 25);
    assert_eq!(run.deliveries("lost"), 0);
    assert_eq!(run.status, 1, "{}", run.stdout);
}

/// The broker turns everybody away three times, so that the storm takes 300 ms at least, and
/// stands still for that long soon after its beginning.
#[test]
fn a_storm_shows_in_the_deliveries_of_others() {
    let script = Script {
        hangs_up: |number| (23..83).contains(&number),
        stall: Some((27, Duration::from_millis(300))),
        ..Script::default()
    };
    let options = "--rate 100 --warmup 0 --duration 1 --drain 5 --qos 1 --crowd 20 \
                   --storm-at 0.25 --subscribers 2";
    let run = run("reconnect-storm", script, options);
    assert_eq!(run.operation("flow", "reconnect", "count"), 20, "{}", run.stdout);
    assert_eq!(run.operation("flow", "reconnect", "failed"), 60);
    assert!(run.report["impact"]["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.3));
    assert_eq!(run.count("/impact/before_ns/count"), 2 * 25);
    let later = run.count("/impact/during_ns/count") + run.count("/impact/after_ns/count");
    assert_eq!(later, 2 * 75);
    assert!(run.ms("/impact/during_ns/max") >= 299.0, "{}", run.stdout);
    assert_eq!(run.deliveries("lost"), 0);
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_crowd_that_never_comes_back_breaks_a_promise() {
    let script = Script { hangs_up: |number| number >= 12, ..Script::default() };
    let options = "--rate 50 --warmup 0 --duration 0.6 --drain 1 --crowd 10 --subscribers 1";
    let run = run("reconnect-storm", script, options);
    assert!(run.report["impact"]["seconds"].is_null());
    assert_eq!(run.status, 1, "{}", run.stdout);
    assert!(run.stdout.contains("not everybody was back"), "{}", run.stdout);
}

#[test]
fn slow_consumers_have_books_of_their_own() {
    // The slow ones come first.
    let fate = |subscriber, message| match (subscriber, message) {
        (0, 5 | 6) => Fate::Drop,
        (1, 7) => Fate::Duplicate,
        (2, 8) => Fate::Drop,
        _ => Fate::Deliver,
    };
    let script = Script { fate, ..Script::default() };
    let options = format!("{SHORT} --qos 1 --subscribers 4 --slow 0.5");
    let run = run("slow-consumer", script, &options);
    assert_eq!(run.deliveries("expected"), 2 * MESSAGES);
    assert_eq!((run.deliveries("lost"), run.deliveries("duplicated")), (1, 0));
    assert_eq!(run.count("/aside/expected"), 2 * MESSAGES);
    assert_eq!((run.count("/aside/lost"), run.count("/aside/duplicated")), (2, 1));
    assert_eq!(run.status, 1, "{}", run.stdout);
}

/// This broker waits for whoever does not read, and everybody else waits with it.
#[test]
fn a_broker_that_lets_slow_consumers_hold_up_others_is_found() {
    let options = "--rate 50 --payload 300000 --warmup 0 --duration 1.2 --drain 10 \
                   --subscribers 3 --slow 0.3 --stall-at 0.2 --stall 0.9";
    let run = run("slow-consumer", Script::default(), options);
    assert_eq!(run.deliveries("delivered"), 2 * 60, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.count("/aside/delivered"), 60);
    assert!(run.ms("/impact/during_ns/max") >= 200.0, "{}", run.stdout);
    assert_eq!(run.status, 0, "{}", run.stdout);
}
