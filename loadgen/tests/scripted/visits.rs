//! Scenarios whose clients come and go: connections, persistent sessions, retained messages.

use std::time::Duration;

use crate::fake_broker::{FakeBroker, Fate, Script};
use crate::{Run, run_at};

fn run(scenario: &str, script: Script, options: &str) -> Run {
    run_at(&FakeBroker::start(script).address, scenario, options)
}

#[test]
fn connections_that_come_and_stay_are_all_well() {
    let broker = FakeBroker::start(Script::default());
    let run = run_at(&broker.address, "connect", "--connections 40 --subscribe --hold 0.3");
    assert_eq!(run.operation("connect", "connect", "count"), 40);
    assert_eq!(run.operation("connect", "subscribe", "count"), 40);
    assert_eq!(run.count("/connect/connections"), 40);
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("connect on"), "{}", run.stdout);
}

#[test]
fn connections_that_fail_are_counted_and_break_a_promise() {
    let script = Script { hangs_up: |number| number % 10 == 3, ..Script::default() };
    let run = run("connect", script, "--connections 40 --hold 0 --cores 2");
    assert_eq!(run.operation("connect", "connect", "failed"), 4);
    assert_eq!(run.operation("connect", "connect", "count"), 36);
    assert_eq!(run.status, 1, "{}", run.stdout);
    assert!(run.stdout.contains("4 failed to connect, first: cannot connect"), "{}", run.stdout);
}

#[test]
fn connections_that_are_lost_while_idle_are_counted() {
    let script = Script { expels: |number| number % 5 == 0, ..Script::default() };
    let run = run("connect", script, "--connections 20 --hold 1");
    assert_eq!(run.operation("connect", "connect", "count"), 20);
    let verdict = run.report["verdict"].to_string();
    // On a slow machine the first may be lost while others still connect.
    assert!(verdict.contains("failed to stay connected"), "{verdict}");
    let steps = run.report["steps"].as_array().expect("a list").iter();
    let rows = steps.flat_map(|step| step["operations"].as_array().into_iter().flatten());
    let lost = rows.filter(|row| row["name"] == "stay connected");
    assert_eq!(lost.filter_map(|row| row["failed"].as_u64()).sum::<u64>(), 4);
    assert_eq!(run.status, 1, "{}", run.stdout);
}

#[test]
fn a_broker_that_refuses_everybody_fails_the_run() {
    let run = run("connect", Script { connack: Some(5), ..Script::default() }, "--connections 500");
    assert_eq!(run.status, 3, "{}", run.stdout);
    assert!(run.stderr.contains("not authorized (5)"), "{}", run.stderr);
}

#[test]
fn connections_come_at_their_rate_and_count_from_their_time() {
    let options = "--connections 6 --connect-rate 10 --hold 0 --cores 1";
    let prompt = run("connect", Script::default(), options);
    let seconds = |run: &Run| run.report["steps"][0]["seconds"].as_f64().expect("it took a time");
    assert!(seconds(&prompt) >= 0.5, "ten a second come in {} s", seconds(&prompt));
    assert_eq!(prompt.operation("connect", "connect", "count"), 6);
    // One after the other, 300 ms each: the last is due after 500 ms and done after 1800 ms.
    let delay = Duration::from_millis(300);
    let script = Script { connack_delay: delay, ..Script::default() };
    let slow = run("connect", script, &format!("{options} --at-once 1"));
    assert_eq!(slow.operation("connect", "connect", "count"), 6);
    let operations = &slow.report["steps"][0]["operations"];
    let figures = operations.as_array().expect("a list").iter().find(|o| o["name"] == "connect");
    let latency = &figures.expect("they connect")["latency_ns"];
    let max = Duration::from_nanos(latency["max"].as_u64().expect("a figure"));
    assert!(max >= Duration::from_millis(1290), "counted from when it began: {max:?}");
    assert!(seconds(&slow) >= 1.8, "six times 300 ms in {} s", seconds(&slow));
}

const SESSIONS: &str = "--sessions 20 --messages 3 --resume 0.5 --rate 400 --drain 1 --at-once 1";

#[test]
fn sessions_get_what_was_published_while_they_were_away() {
    for qos in 1..=2 {
        let broker = FakeBroker::start(Script::default());
        let options = format!("{SESSIONS} --qos {qos} --subscriptions 2 --at-once 7 --cores 2");
        let run = run_at(&broker.address, "sessions", &options.replace("--at-once 1 ", ""));
        assert_eq!(run.operation("create", "subscribe", "count"), 20);
        assert_eq!(run.operation("resume", "receive", "count"), 10);
        assert_eq!(run.count("/publishes/sent"), 20 * 2 * 3);
        assert_eq!(run.deliveries("expected"), 10 * 2 * 3);
        assert_eq!(run.deliveries("delivered"), 10 * 2 * 3);
        assert_eq!(run.count("/latency_ns/count"), 0, "they were offline");
        assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(broker.session_count(), 0, "they are ended");
    }
}

#[test]
fn what_happens_to_the_messages_of_resumed_sessions_is_counted_exactly() {
    // Message n is for session n mod 20, and every other session is resumed.
    let fate = |_, message| match message {
        0 | 1 => Fate::Drop,
        4 | 5 => Fate::Duplicate,
        8 | 9 => Fate::HoldBack,
        _ => Fate::Deliver,
    };
    let run = run("sessions", Script { fate, ..Script::default() }, SESSIONS);
    assert_eq!(run.deliveries("expected"), 10 * 3);
    assert_eq!(run.deliveries("lost"), 1);
    assert_eq!(run.deliveries("duplicated"), 1);
    assert_eq!(run.deliveries("out_of_order"), 1);
    assert_eq!(run.status, 1, "{}", run.stdout);
}

#[test]
fn sessions_that_the_broker_has_forgotten_are_lost_with_their_messages() {
    let run = run("sessions", Script { forgets: true, ..Script::default() }, SESSIONS);
    assert_eq!(run.operation("resume", "connect", "failed"), 10);
    assert_eq!(run.deliveries("lost"), 10 * 3);
    assert!(run.stdout.contains("the broker has lost the session"), "{}", run.stdout);
    assert_eq!(run.status, 1, "{}", run.stdout);
}

#[test]
fn sessions_can_be_left_behind_and_closed_loops_have_an_end() {
    let broker = FakeBroker::start(Script::default());
    let options = "--sessions 30 --messages 2 --resume 0 --window 4 --keep";
    let run = run_at(&broker.address, "sessions", options);
    assert_eq!(run.count("/publishes/acknowledged"), 60);
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(broker.session_count(), 30);
    let refused = run_at(&broker.address, "sessions", "--window 4 --qos 0");
    assert_eq!(refused.status, 2);
    assert!(refused.stderr.contains("--qos 1 or 2"), "{}", refused.stderr);
}

const RETAINED: &str = "--topics 50 --versions 2 --subscribers 3 --rate 1000 --drain 1 --at-once 1";

#[test]
fn retained_messages_come_once_to_everybody_that_asks() {
    for qos in 0..=2 {
        let broker = FakeBroker::start(Script::default());
        let options = format!("{RETAINED} --qos {qos} --publishers 2 --cores 2");
        let run = run_at(&broker.address, "retained", &options);
        assert_eq!(run.count("/publishes/sent"), 200);
        assert_eq!(run.deliveries("delivered"), 3 * 100, "QoS {qos}: {}", run.stderr);
        assert_eq!(run.operation("replay", "get all", "count"), 3);
        assert_eq!((run.count("/retained/outdated"), run.count("/retained/unflagged")), (0, 0));
        assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(broker.retained_count(), 0, "they are ended");
    }
}

#[test]
fn retained_messages_that_are_missing_or_doubled_are_counted() {
    // The last version of topic t is message 50 + t.
    let fate = |subscriber, message| match (subscriber, message) {
        (0, 60 | 70) => Fate::Drop,
        (1, 61) => Fate::Duplicate,
        _ => Fate::Deliver,
    };
    let broker = FakeBroker::start(Script { fate, ..Script::default() });
    let run = run_at(&broker.address, "retained", &format!("{RETAINED} --keep"));
    assert_eq!(run.deliveries("expected"), 150);
    assert_eq!(run.deliveries("lost"), 2);
    assert_eq!(run.deliveries("duplicated"), 1);
    assert_eq!(run.operation("replay", "get all", "count"), 2);
    assert_eq!(run.status, 1, "{}", run.stdout);
    assert_eq!(broker.retained_count(), 50);
}

#[test]
fn a_retained_message_that_is_not_the_last_is_found() {
    let run = run("retained", Script { keeps_first_retained: true, ..Script::default() }, RETAINED);
    assert_eq!(run.count("/retained/outdated"), 3 * 50);
    assert_eq!(run.deliveries("lost"), 0);
    assert_eq!(run.status, 1, "{}", run.stdout);
}
