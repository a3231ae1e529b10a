//! Many subscribers that have stopped reading, under a flood: memory stays within what was
//! configured, and others are served. The small share is in `tests/broker/slow_consumer.rs`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::broker::Broker;
use harness::gate::StopAtEnd;

use super::line::{Line, packet};
use super::probe::Probe;
use super::{large_run, mib};

const READERS: usize = 200;
const PAYLOAD_BYTES: usize = 10_000;
const OUTBOX_BYTES_MAX: u64 = 256 << 10;
const QUEUE_BYTES_MAX: u64 = 1 << 20;
/// Beside what is configured: the broker itself, allocator, and the publishers' packets.
const ROOM: u64 = 64 << 20;

/// Publishes at one QoS until told to stop.
fn flood(address: SocketAddr, qos: u8, stop: &AtomicBool) -> u64 {
    let connect = format!("CONNECT flood-{qos} keepalive=0");
    let (mut line, _) = Line::connect(address, &connect).expect("it is let in");
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = if qos > 0 { "id=1" } else { "" };
        line.send(&packet(&format!("PUBLISH flood q{qos} {id} \"x\"*{PAYLOAD_BYTES}")))
            .expect("the broker reads");
        if qos > 0 {
            line.next().expect("PUBACK");
        }
        sent += 1;
    }
    sent
}

fn flood_stopped_readers(duration: Duration) {
    let (outbox, queue) = (OUTBOX_BYTES_MAX.to_string(), QUEUE_BYTES_MAX.to_string());
    let broker = Broker::start(&[
        "--cores",
        "2",
        "--outbox-bytes-max",
        &outbox,
        "--queue-bytes-max",
        &queue,
        "--slow-consumer-timeout-s",
        "3600",
    ]);
    let address = broker.address;
    let stopped: Vec<_> = (0..READERS)
        .map(|number| {
            let connect = format!("CONNECT stopped-{number} keepalive=0");
            let (mut line, _) = Line::connect(address, &connect).expect("it is let in");
            line.subscribe(&format!("flood:{}", number % 2)).expect("it may subscribe");
            line
        })
        .collect();
    let probe = Probe::start(address);
    thread::sleep(Duration::from_secs(3));
    let (before, stop, mut peak) = (broker.resident_bytes(), AtomicBool::new(false), 0);
    probe.enter(1);
    let sent: Vec<u64> = thread::scope(|scope| {
        let stopping = StopAtEnd(&stop);
        let floods: Vec<_> = (0..2)
            .map(|qos| {
                scope.spawn({
                    let stop = &stop;
                    move || flood(address, qos, stop)
                })
            })
            .collect();
        let until = Instant::now() + duration;
        while Instant::now() < until {
            peak = peak.max(broker.resident_bytes());
            thread::sleep(Duration::from_millis(50));
        }
        drop(stopping);
        floods.into_iter().map(|flood| flood.join().expect("it is served")).collect()
    });
    probe.enter(2);
    thread::sleep(Duration::from_secs(3));
    probe.finish(&["before", "during", "after"]).iter().for_each(|line| println!("{line}"));
    let bound = READERS as u64 * (OUTBOX_BYTES_MAX + QUEUE_BYTES_MAX) + ROOM;
    println!(
        "{sent:?} messages of {PAYLOAD_BYTES} bytes at QoS 0 and 1 to {READERS} stopped readers"
    );
    println!("RSS {} before, {} at most; bound {}", mib(before), mib(peak), mib(bound));
    assert!(peak - before < bound, "grew by {} bytes", peak - before);
    drop(stopped);
}

#[test]
#[ignore = "a large run: scripts/live-faults slow_readers"]
fn large() {
    flood_stopped_readers(large_run());
}
