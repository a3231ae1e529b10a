//! Deliveries to others: a publisher and a few subscribers that behave, before, during and after a
//! fault. Nothing may be lost or come out of order; how long it took is told, not judged.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::line::{Line, packet};

const SUBSCRIBERS: usize = 8;
/// Between two messages of the publisher.
const PAUSE: Duration = Duration::from_millis(2);

/// Delays of one phase.
type Delays = Arc<Mutex<Vec<(usize, Duration)>>>;

pub(crate) struct Probe {
    phase: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    delays: Delays,
    publisher: JoinHandle<u64>,
    subscribers: Vec<JoinHandle<u64>>,
}

impl Probe {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (phase, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (delays, epoch) = (Delays::default(), Instant::now());
        let subscribers = (0..SUBSCRIBERS)
            .map(|number| {
                let connect = format!("CONNECT probe-{number} keepalive=0");
                let (mut line, _) = Line::connect(address, &connect).expect("a probe is let in");
                line.subscribe("probe:1").expect("a probe may subscribe");
                let (phase, delays) = (Arc::clone(&phase), Arc::clone(&delays));
                thread::spawn(move || subscribe(line, epoch, &phase, &delays))
            })
            .collect();
        let stopped = Arc::clone(&stop);
        let publisher = thread::spawn(move || publish(address, epoch, &stopped));
        Self { phase, stop, delays, publisher, subscribers }
    }

    /// What is measured from now on belongs to another phase.
    pub(crate) fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Stops, expects that everything has come to everybody, and gives a line for each phase.
    pub(crate) fn finish(self, phases: &[&str]) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.publisher.join().expect("the probe's publisher is served");
        for subscriber in self.subscribers {
            let received = subscriber.join().expect("the probe's subscribers are served");
            assert_eq!(received, sent, "messages lost to a client that behaves");
        }
        let delays = self.delays.lock().expect("nobody panicked");
        phases.iter().enumerate().map(|(phase, name)| summary(&delays, phase, name)).collect()
    }
}

/// Publishes at QoS 1 until told to stop, and waits for every PUBACK.
fn publish(address: SocketAddr, epoch: Instant, stop: &AtomicBool) -> u64 {
    let (mut line, _) =
        Line::connect(address, "CONNECT probe-p keepalive=0").expect("it is let in");
    let mut sent = 0;
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        let word = if is_last { "last" } else { "more" };
        let text = format!("{} {sent} {word}", epoch.elapsed().as_micros());
        let id = sent % 60_000 + 1;
        line.send(&packet(&format!("PUBLISH probe q1 id={id} \"{text}\""))).expect("it is read");
        let answer = line.next().expect("a probe is acknowledged");
        assert_eq!(answer[0], 0x40, "no PUBACK: {answer:02x?}");
        sent += 1;
        if is_last {
            return sent;
        }
        thread::sleep(PAUSE);
    }
}

fn subscribe(mut line: Line, epoch: Instant, phase: &AtomicUsize, delays: &Delays) -> u64 {
    let mut received = 0;
    loop {
        let publish = line.next().expect("a probe is delivered to");
        let now = epoch.elapsed();
        // Fixed header of two bytes, the topic `probe` with its length, the packet identifier.
        let (id, text) = (&publish[9..11], String::from_utf8_lossy(&publish[11..]).into_owned());
        line.send(&[&[0x40, 2], id].concat()).expect("the broker reads");
        let mut words = text.split(' ');
        let mut number = || words.next().expect("three words").parse::<u64>().expect("a number");
        let (sent_at, place) = (Duration::from_micros(number()), number());
        assert_eq!(place, received, "out of order, or lost");
        received += 1;
        let measured = (phase.load(Ordering::Relaxed), now.saturating_sub(sent_at));
        delays.lock().expect("nobody panicked").push(measured);
        if text.ends_with("last") {
            return received;
        }
    }
}

fn summary(delays: &[(usize, Duration)], phase: usize, name: &str) -> String {
    let of_phase = delays.iter().filter(|(other, _)| *other == phase);
    let mut delays: Vec<Duration> = of_phase.map(|(_, delay)| *delay).collect();
    delays.sort_unstable();
    let quantile = |part: f64| {
        let place = (delays.len() as f64 * part) as usize;
        delays.get(place.min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    format!(
        "{name}: {} deliveries, p50 {:?}, p99 {:?}, longest {:?}",
        delays.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    )
}
