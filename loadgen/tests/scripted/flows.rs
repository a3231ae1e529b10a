//! Scenarios of publishers and subscribers other than `fanout`: who gets what, and that faults are
//! found in each of them.

use crate::fake_broker::{FakeBroker, Fate, Script};
use crate::{MESSAGES, Run, SHORT, run_at};

fn run(scenario: &str, script: Script, options: &str) -> Run {
    run_at(&FakeBroker::start(script).address, scenario, &format!("{SHORT} {options}"))
}

fn fated(scenario: &str, fate: fn(usize, usize) -> Fate, options: &str) -> Run {
    run(scenario, Script { fate, ..Script::default() }, options)
}

#[test]
fn pairs_deliver_each_message_once() {
    for qos in 0..=2 {
        let run =
            fated("pairs", |_, _| Fate::Deliver, &format!("--pairs 4 --topics 2 --qos {qos}"));
        assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(run.deliveries("expected"), MESSAGES);
        assert_eq!(run.deliveries("delivered"), MESSAGES);
        assert_eq!(run.report["scenario"], "pairs");
        assert!(run.stdout.contains("4 pairs"), "{}", run.stdout);
    }
}

#[test]
fn pairs_find_each_kind_of_fault() {
    // By message: each has one subscriber, whichever that is.
    let fate = |_, message| match message {
        5 => Fate::Drop,
        6 | 7 => Fate::Duplicate,
        8 => Fate::HoldBack,
        _ => Fate::Deliver,
    };
    let run = fated("pairs", fate, "--pairs 5 --qos 1");
    assert_eq!(run.deliveries("lost"), 1);
    assert_eq!(run.deliveries("duplicated"), 2);
    assert_eq!(run.deliveries("out_of_order"), 1);
    assert_eq!(run.deliveries("delivered"), MESSAGES - 1);
    assert_eq!(run.status, 1, "{}", run.stdout);
}

#[test]
fn pairs_in_closed_loop_keep_their_windows_apart() {
    let options = "--warmup 0 --duration 0.5 --drain 2 --pairs 3 --window 2 --cores 2 --qos 1";
    let broker = FakeBroker::start(Script::default());
    let run = run_at(&broker.address, "pairs", options);
    let sent = run.count("/publishes/sent");
    assert!(sent >= 6, "{}", run.stdout);
    assert_eq!(run.deliveries("delivered"), sent, "{}", run.stdout);
    assert_eq!(run.status, 0, "{}", run.stdout);
}

#[test]
fn fanin_delivers_everything_to_every_wildcard() {
    let run = fated("fanin", |_, _| Fate::Deliver, "--publishers 10 --subscribers 2 --qos 1");
    assert_eq!(run.deliveries("expected"), 2 * MESSAGES);
    assert_eq!(run.deliveries("delivered"), 2 * MESSAGES);
    assert_eq!(run.status, 0, "{}", run.stdout);
}

#[test]
fn fanin_finds_each_kind_of_fault() {
    let fate = |subscriber, message| match (subscriber, message) {
        (0, 5 | 9) => Fate::Drop,
        (1, 20) => Fate::Duplicate,
        (1, 30) => Fate::HoldBack,
        _ => Fate::Deliver,
    };
    // One publisher, so that what is held back is overtaken on its own topic.
    let run = fated("fanin", fate, "--publishers 1 --subscribers 2 --qos 2");
    assert_eq!(run.deliveries("lost"), 2);
    assert_eq!(run.deliveries("duplicated"), 1);
    assert_eq!(run.deliveries("out_of_order"), 1);
    assert_eq!(run.status, 1, "{}", run.stdout);
}

/// Order is promised per topic: overtaking between topics is nobody's fault.
#[test]
fn order_between_topics_is_not_expected() {
    let fate = |_, message| if message == 20 { Fate::HoldBack } else { Fate::Deliver };
    let run = fated("fanin", fate, "--publishers 1 --topics 10 --subscribers 1 --qos 1");
    assert_eq!((run.deliveries("out_of_order"), run.deliveries("lost")), (0, 0));
    assert_eq!(run.status, 0, "{}", run.stdout);
}
