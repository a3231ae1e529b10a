//! Connections that never become clients: silence, half a CONNECT that trickles in, and garbage.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use harness::broker::Broker;
use harness::random::Random;

use super::line::{Line, PATIENCE, packet};
use super::probe::Probe;
use super::{large_run, mib};

/// What the broker may grow by while it is attacked.
const GROWTH_MAX: u64 = 64 << 20;

fn descriptor_count(broker: &Broker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).expect("the broker runs").count()
}

/// Opens connections of all kinds.
fn attack(address: SocketAddr, count: usize, random: &mut Random) -> Vec<Line> {
    let connect = packet("CONNECT half will=w will_payload=\"x\"*200");
    let open = |number: usize| {
        let mut line = Line::open(address).ok()?;
        let garbage: Vec<u8> = (0..40).map(|_| random.below(256) as u8).collect();
        let bytes = match number % 4 {
            0 => &[],
            1 => &connect[..connect.len() / 2],
            2 => &connect[..1],
            _ => garbage.as_slice(),
        };
        line.send(bytes).ok()?;
        Some(line)
    };
    (0..count).filter_map(open).collect()
}

/// `count` connections at a time, for as long as it takes; a byte now and then keeps none alive.
fn besiege(count: usize, timeout_s: u64, duration: Duration) {
    let broker = Broker::start(&["--cores", "2", "--connect-timeout-s", &timeout_s.to_string()]);
    let address = broker.address;
    let probe = Probe::start(address);
    thread::sleep(Duration::from_millis(200));
    let (before, descriptors) = (broker.resident_bytes(), descriptor_count(&broker));
    let (started, mut random, mut opened, mut peak) = (Instant::now(), Random::new(1), 0, 0);
    probe.enter(1);
    loop {
        let mut lines = attack(address, count, &mut random);
        opened += lines.len();
        peak = peak.max(broker.resident_bytes());
        let sent = Instant::now();
        while sent.elapsed() < Duration::from_secs(timeout_s) / 2 {
            // Slowloris: a byte each, to those that still wait for the rest of their CONNECT.
            lines.iter_mut().skip(1).step_by(4).for_each(|line| drop(line.send(b"x")));
            thread::sleep(Duration::from_millis(100));
        }
        let closed =
            lines.iter_mut().filter_map(|line| line.is_closed_within(PATIENCE).then_some(()));
        assert_eq!(closed.count(), lines.len(), "connections that were left open");
        if started.elapsed() >= duration {
            break;
        }
    }
    probe.enter(2);
    thread::sleep(Duration::from_millis(500));
    let lines = probe.finish(&["before", "during", "after"]);
    lines.iter().for_each(|line| println!("{line}"));
    let left = descriptor_count(&broker).saturating_sub(descriptors);
    println!(
        "{opened} connections opened, {count} at a time; RSS {} at first, {} at most",
        mib(before),
        mib(peak)
    );
    assert!(left <= 5, "{left} descriptors are left over");
    assert!(peak.saturating_sub(before) < GROWTH_MAX, "grew from {before} to {peak} bytes");
}

#[test]
fn half_open_connections_are_shed() {
    besiege(300, 1, Duration::ZERO);
}

#[test]
#[ignore = "a large run: scripts/live-faults half_open"]
fn large() {
    besiege(8000, 5, large_run());
}
