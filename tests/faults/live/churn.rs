//! Clients that connect, subscribe, publish and drop at random, in both versions and at every QoS.
//! The broker's memory stands still once it is warm, and its ledger is exact at the end.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use harness::broker::Broker;
use harness::notation::parse_packet;
use harness::random::Random;

use super::line::Line;
use super::probe::Probe;
use super::{large_run, mib};

/// What one client does in one connection, at most.
const ACTIONS_MAX: usize = 30;
const FILTERS: [&str; 8] =
    ["soak/#", "soak/+/1", "soak/1/2", "+/3/+", "soak/2/#", "soak/4/4", "#", "$share/g/soak/#"];

/// What a crowd has done.
#[derive(Default, Debug)]
struct Tally {
    connections: u64,
    resumed: u64,
    published: u64,
    received: u64,
}

/// One client after the other of a crowd has its turn, until the time is up.
fn crowd(address: SocketAddr, number: usize, clients: usize, until: Instant) -> Tally {
    let mut random = Random::new(number as u64 + 1);
    let mut tally = Tally::default();
    let mut open: Vec<Option<Visit>> = (0..clients).map(|_| None).collect();
    while Instant::now() < until {
        let client = random.below(clients);
        let visit = match open[client].take() {
            Some(visit) => visit,
            None => match Visit::begin(address, number, client, &mut random, &mut tally) {
                Ok(visit) => visit,
                Err(error) => panic!("a client was not let in: {error}"),
            },
        };
        // A connection that the broker has closed, or that has had enough, is gone.
        open[client] = visit.act(&mut random, &mut tally).unwrap_or_default();
    }
    tally
}

struct Visit {
    line: Line,
    v5: bool,
    left: usize,
    next_id: usize,
}

impl Visit {
    fn begin(
        address: SocketAddr,
        crowd: usize,
        client: usize,
        random: &mut Random,
        tally: &mut Tally,
    ) -> io::Result<Self> {
        let v5 = random.below(2) == 0;
        let mut text = format!("CONNECT soak-{crowd}-{client} clean={}", random.below(2));
        if v5 {
            text += &format!(" version=5 expiry={} receive_max=20 alias_max=4", random.below(20));
        }
        if random.below(4) == 0 {
            text += " will=soak/1/1 will_payload=gone will_qos=1";
        }
        let mut visit = Self { line: Line::open(address)?, v5, left: ACTIONS_MAX, next_id: 1 };
        visit.send(&text)?;
        let connack = visit.line.next()?;
        if connack[0] != 0x20 || connack[3] != 0 {
            return Err(io::Error::other(format!("{connack:02x?}")));
        }
        tally.connections += 1;
        tally.resumed += u64::from(connack[2]);
        visit.line.set_patience(Duration::from_millis(1))?;
        Ok(visit)
    }

    /// Does one thing; none if the connection is over.
    fn act(mut self, random: &mut Random, tally: &mut Tally) -> io::Result<Option<Self>> {
        self.left -= 1;
        self.next_id = self.next_id % 1000 + 1;
        let id = self.next_id;
        match random.below(12) {
            0 => return self.leave(random),
            1 | 2 => {
                let (filter, qos) = (FILTERS[random.below(FILTERS.len())], random.below(3));
                self.send(&format!("SUBSCRIBE id={id} {filter}:{qos}"))?;
            }
            3 => self.send(&format!("UNSUBSCRIBE id={id} {}", FILTERS[random.below(8)]))?,
            4 => self.send("PINGREQ")?,
            5..=8 => self.publish(id, random, tally)?,
            _ => {}
        }
        self.read(random, tally)?;
        if self.left == 0 { self.leave(random) } else { Ok(Some(self)) }
    }

    fn publish(&mut self, id: usize, random: &mut Random, tally: &mut Tally) -> io::Result<()> {
        let topic = format!("soak/{}/{}", random.below(6), random.below(6));
        let qos = ["q0".to_owned(), format!("q1 id={id}"), format!("q2 id={id}")];
        let retain = if random.below(20) == 0 { "retain" } else { "" };
        let size = [3, 100, 1000, 4000][random.below(40).min(3).min(random.below(4))];
        self.send(&format!("PUBLISH {topic} {} {retain} \"x\"*{size}", qos[random.below(3)]))?;
        tally.published += 1;
        Ok(())
    }

    /// Reads what has come, and mostly answers it.
    fn read(&mut self, random: &mut Random, tally: &mut Tally) -> io::Result<()> {
        for _ in 0..50 {
            let packet = match self.line.next() {
                Ok(packet) => packet,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            tally.received += u64::from(packet[0] >> 4 == 3);
            if random.below(20) > 0 {
                self.answer(&packet)?;
            }
        }
        Ok(())
    }

    fn answer(&mut self, packet: &[u8]) -> io::Result<()> {
        let head = 1 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let body = &packet[head..];
        let (first, id) = match (packet[0] >> 4, packet[0] >> 1 & 3) {
            (3, qos @ 1..=2) => {
                let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                (if qos == 1 { 0x40 } else { 0x50 }, &body[at..at + 2])
            }
            (5, _) => (0x62, &body[..2]),
            (6, _) => (0x70, &body[..2]),
            _ => return Ok(()),
        };
        self.line.send(&[&[first, 2], id].concat())
    }

    fn leave(mut self, random: &mut Random) -> io::Result<Option<Self>> {
        match random.below(3) {
            0 => self.send("DISCONNECT")?,
            1 => self.line.abort(),
            _ => {}
        }
        Ok(None)
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.line.send(&parse_packet(text).expect("the notation").encode(self.v5))
    }
}

/// What the broker says when it stops: every counter that is not 0.
fn counters(log: &[String]) -> HashMap<String, u64> {
    let line = log.iter().find_map(|line| line.split_once("stopped: ")).expect("its last words").1;
    let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.parse().expect("a count"))).collect()
}

/// matched = delivered + queued + in flight + dropped[cause], over all shards.
fn assert_balance(counters: &HashMap<String, u64>) {
    let count = |name: &str| counters.get(name).copied().unwrap_or_default();
    let dropped = counters.iter().filter(|(name, _)| name.starts_with("deliveries_dropped_"));
    let dropped: u64 = dropped.map(|(_, count)| count).sum();
    let waiting = count("deliveries_queued") + count("deliveries_in_flight");
    let accounted = count("deliveries_completed") + waiting + dropped;
    assert_eq!(count("deliveries_matched"), accounted, "the ledger: {counters:?}");
    assert!(accounted > 0, "nothing was delivered: {counters:?}");
}

/// The median of each tenth of the time.
fn tenths(samples: &[u64]) -> Vec<u64> {
    samples.chunks(samples.len().div_ceil(10)).map(middle).collect()
}

fn print_tenths(samples: &[u64]) {
    let shown: Vec<String> = tenths(samples).into_iter().map(mib).collect();
    println!("RSS, the median of each tenth of the time: {}", shown.join(", "));
}

fn middle(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Samples of the broker's memory, once a second or more often.
fn soak(crowds: usize, clients: usize, duration: Duration) -> Vec<u64> {
    let broker = Broker::start(&["--cores", "2", "--queue-count-max", "200"]);
    let address = broker.address;
    let probe = Probe::start(address);
    let until = Instant::now() + duration;
    let mut samples = Vec::new();
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let crowds: Vec<_> = (0..crowds)
            .map(|number| scope.spawn(move || crowd(address, number, clients, until)))
            .collect();
        while Instant::now() < until {
            samples.push(broker.resident_bytes());
            thread::sleep((duration / 200).min(Duration::from_secs(1)));
        }
        crowds.into_iter().map(|crowd| crowd.join().expect("no client was refused")).collect()
    });
    print_tenths(&samples);
    probe.finish(&["throughout"]).iter().for_each(|line| println!("{line}"));
    tallies.iter().for_each(|tally| println!("{tally:?}"));
    let (status, log) = broker.stop("TERM");
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let counters = counters(&log);
    println!("{}", log.iter().find(|line| line.contains("stopped: ")).expect("it was found"));
    assert_balance(&counters);
    assert!(tallies.iter().any(|tally| tally.received > 0), "{tallies:?}");
    samples
}

#[test]
fn churn_leaves_the_ledger_exact() {
    soak(8, 10, Duration::from_secs(6));
}

#[test]
#[ignore = "a large run: scripts/live-faults churn"]
fn large() {
    let samples = soak(24, 10, large_run());
    let tenths = tenths(&samples);
    // Warm after three tenths.
    let (warm, last) = (tenths[3], tenths[tenths.len() - 1]);
    assert!(last < warm + warm / 10 + (4 << 20), "grew from {} to {}", mib(warm), mib(last));
}
