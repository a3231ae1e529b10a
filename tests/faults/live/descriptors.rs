//! No descriptor left: who is connected is served, and others get in once there is room. The small
//! share is in `tests/broker/limits.rs`.

use std::thread;
use std::time::Duration;

use harness::broker::Broker;

use super::line::Line;
use super::probe::Probe;

/// Connects until nobody is let in any more.
fn fill(broker: &Broker, prefix: &str, at_most: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for number in 0..at_most {
        let connect = format!("CONNECT {prefix}-{number} keepalive=0");
        let mut line = Line::open(broker.address).expect("the backlog of the listener has room");
        line.set_patience(Duration::from_secs(2)).expect("it is not zero");
        line.send(&super::line::packet(&connect)).expect("the system takes it");
        if line.accepted().is_err() {
            break;
        }
        lines.push(line);
    }
    lines
}

fn exhaust(descriptors: u32, siege: Duration) {
    let broker = Broker::start_with_descriptors(descriptors, &["--cores", "2"]);
    let probe = Probe::start(broker.address);
    let mut inside = fill(&broker, "first", descriptors as usize);
    println!("{} clients let in with {descriptors} descriptors", inside.len());
    assert!(inside.len() < descriptors as usize, "there was no end to it");
    probe.enter(1);
    // They knock for as long as it lasts.
    let knocking: Vec<_> = (0..100).filter_map(|_| Line::open(broker.address).ok()).collect();
    let lines_before = broker.log().len();
    thread::sleep(siege);
    let logged = broker.log().len() - lines_before;
    println!("{logged} lines of log in {siege:?}, two executors");
    assert!(logged as u64 <= 2 * siege.as_secs() + 4, "more than a line a second and executor");
    drop(knocking);
    let left = inside.split_off(inside.len() / 2);
    left.into_iter().for_each(Line::abort);
    probe.enter(2);
    thread::sleep(Duration::from_secs(1));
    let again = fill(&broker, "second", inside.len() / 2);
    println!("{} clients let in after half of the others had gone", again.len());
    assert_eq!(again.len(), inside.len() / 2, "there is room again");
    probe.finish(&["filling", "full", "after"]).iter().for_each(|line| println!("{line}"));
}

#[test]
#[ignore = "a large run: scripts/live-faults descriptors"]
fn large() {
    exhaust(2000, Duration::from_secs(15));
}
