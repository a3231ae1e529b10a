//! A budget of memory, and clients of every kind that want more of it at once, beside honest ones:
//! the process keeps to it, and the honest ones lose nothing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::broker::{Broker, wait_until};
use harness::client::Client;
use harness::gate::StopAtEnd;

use crate::crowd::{Crowd, KINDS};

const PAIR_COUNT: usize = 4;
/// Between two publishes of one pair.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the honest are alone at first, and how long it goes on when nobody takes more.
const CALM: Duration = Duration::from_secs(1);
/// How long the last answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PAYLOAD_BYTES: usize = 100;
/// What waits for the one that is away.
const AWAY_COUNT: usize = 50;

/// A publisher and a subscriber with a topic of their own, at QoS 1 and at a steady rate.
struct Pair {
    publisher: TcpStream,
    subscriber: TcpStream,
    topic: String,
}

/// When each publish was sent, and how long its delivery took.
type Exchanges = BTreeMap<u64, (Duration, Duration)>;

fn open(address: SocketAddr, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker accepts");
    stream.set_nodelay(true).expect("a TCP socket has this option");
    stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    let connect = [b"\0\x04MQTT\x04\x02\0\0\0", &[name.len() as u8][..], name.as_bytes()].concat();
    stream.write_all(&[&[0x10, connect.len() as u8], &*connect].concat()).expect("it is open");
    assert_eq!(take(&mut stream), (0x20, vec![0, 0]));
    stream
}

/// The next packet, which is shorter than 128 bytes.
fn take(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a packet comes in time");
    let mut body = vec![0; head[1].into()];
    stream.read_exact(&mut body).expect("the rest of it comes");
    (head[0], body)
}

impl Pair {
    fn open(address: SocketAddr, number: usize) -> Self {
        let topic = format!("honest/{number}");
        let publisher = open(address, &format!("p{number}"));
        let mut subscriber = open(address, &format!("s{number}"));
        let body = [&[0, 1, 0, topic.len() as u8], topic.as_bytes(), &[1]].concat();
        let packet = [&[0x82, body.len() as u8], &*body].concat();
        subscriber.write_all(&packet).expect("it is open");
        assert_eq!(take(&mut subscriber), (0x90, vec![0, 1, 1]));
        Self { publisher, subscriber, topic }
    }

    fn publish(&mut self, number: u64, start: Instant) {
        let id = (number % 60_000 + 1) as u16;
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let sent = start.elapsed().as_nanos() as u64;
        payload[8..16].copy_from_slice(&sent.to_be_bytes());
        let topic = [&[0, self.topic.len() as u8], self.topic.as_bytes()].concat();
        let body = [&*topic, &id.to_be_bytes(), &payload].concat();
        let packet = [&[0x32, body.len() as u8], &*body].concat();
        self.publisher.write_all(&packet).expect("the publisher is not closed");
    }

    /// Goes on until told to stop; gives what came of all that was acknowledged, which is all that
    /// was sent.
    fn exchange(mut self, start: Instant, stop: &AtomicBool) -> Exchanges {
        let (acknowledged, received) = (Arc::default(), Arc::default());
        let acknowledging = self.take_acknowledgements(&acknowledged);
        let receiving = self.take_deliveries(start, &received);
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            self.publish(sent, start);
            sent += 1;
            thread::sleep(PAUSE);
        }
        let has_come = |count: &AtomicU64| count.load(Ordering::Relaxed) == sent;
        let is_whole = wait_until(PATIENCE, || has_come(&acknowledged) && has_come(&received));
        assert!(is_whole, "of {sent} {acknowledged:?} were acknowledged, and {received:?} came");
        for stream in [&self.publisher, &self.subscriber] {
            stream.shutdown(std::net::Shutdown::Both).expect("it is open");
        }
        acknowledging.join().expect("it does not fail");
        receiving.join().expect("it does not fail")
    }

    fn take_acknowledgements(&self, count: &Arc<AtomicU64>) -> thread::JoinHandle<()> {
        let mut stream = self.publisher.try_clone().expect("a descriptor can be duplicated");
        let count = Arc::clone(count);
        thread::spawn(move || {
            let mut ack = [0; 4];
            while stream.read_exact(&mut ack).is_ok() {
                assert_eq!(ack[..2], [0x40, 2]);
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Counts deliveries of different publishes, and acknowledges each.
    fn take_deliveries(
        &self,
        start: Instant,
        count: &Arc<AtomicU64>,
    ) -> thread::JoinHandle<Exchanges> {
        let mut stream = self.subscriber.try_clone().expect("a descriptor can be duplicated");
        let (count, topic_bytes) = (Arc::clone(count), self.topic.len());
        thread::spawn(move || {
            let mut exchanges = Exchanges::new();
            let mut delivery = vec![0; 2 + 2 + topic_bytes + 2 + PAYLOAD_BYTES];
            while stream.read_exact(&mut delivery).is_ok() {
                let (head, payload) = delivery.split_at(delivery.len() - PAYLOAD_BYTES);
                let id = &head[head.len() - 2..];
                let _ = stream.write_all(&[0x40, 2, id[0], id[1]]);
                let number =
                    |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
                let sent = Duration::from_nanos(number(8));
                exchanges.insert(number(0), (sent, start.elapsed() - sent));
                count.store(exchanges.len() as u64, Ordering::Relaxed);
            }
            exchanges
        })
    }
}

/// The latency below which 99 of 100 exchanges were that were begun in this time.
fn p99(exchanges: &[Exchanges], when: std::ops::Range<Duration>) -> Duration {
    let all = exchanges.iter().flat_map(BTreeMap::values);
    let of_then = all.filter(|(sent, _)| when.contains(sent));
    let mut latencies: Vec<Duration> = of_then.map(|(_, latency)| *latency).collect();
    latencies.sort_unstable();
    assert!(latencies.len() > 20, "only {} exchanges", latencies.len());
    latencies[latencies.len() * 99 / 100]
}

/// Has the system schedule this thread in another way, and those that it begins.
fn schedule(program: &str, arguments: &[&str]) {
    let task = std::fs::read_link("/proc/thread-self").expect("Linux names its threads");
    let id = task.file_name().expect("it ends with the number of the thread");
    let done = std::process::Command::new(program).args(arguments).arg(id).output();
    assert!(done.is_ok_and(|done| done.status.success()), "{program} {arguments:?} {id:?}");
}

/// Lets every other thread go before this one: the crowd, so that what is measured is how long the
/// broker takes, and not how long the honest wait for a processor.
fn step_back() {
    schedule("renice", &["-n", "19", "-p"]);
}

/// Leaves the first processor to the broker.
fn leave_first_processor() {
    schedule("taskset", &["-c", "-p", "1"]);
}

/// Every kind at once, each to its end.
fn crowd_in(crowd: &Crowd) {
    thread::scope(|scope| {
        let run = |(name, kind): (&'static str, crate::crowd::Kind)| {
            scope.spawn(move || {
                step_back();
                let (begun, lines) = (Instant::now(), kind(crowd));
                println!("  {name}: {} open, {:.1?}", lines.len(), begun.elapsed());
                lines
            })
        };
        let kinds = KINDS.map(run);
        let lines = kinds.map(|kind| kind.join().expect("it gives up rather than to fail"));
        thread::sleep(CALM);
        drop(lines);
    });
}

/// A session that is away while memory is short, of which nothing is taken that it was given
/// before, or that is little.
struct Away {
    client: Client,
    publisher: Client,
}

impl Away {
    fn open(address: SocketAddr) -> Self {
        let mut client = Client::connect(address, "CONNECT away clean=0");
        client.subscribe("away:1");
        client.disconnect();
        let mut away = Self { client, publisher: Client::connect(address, "CONNECT away-p") };
        away.publish(0..AWAY_COUNT / 2);
        away
    }

    fn publish(&mut self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.publisher.send(&format!("PUBLISH away q1 id=1 {number}"));
            self.publisher.expect("PUBACK id=1");
        }
    }

    fn expect_all(&mut self) {
        self.client.reopen();
        self.client.send("CONNECT away clean=0");
        self.client.expect("CONNACK 0 present");
        for number in 0..AWAY_COUNT {
            let publish = self.client.next_packet();
            assert_eq!(publish.text("payload"), number.to_string());
            self.client.acknowledge(&publish);
        }
    }
}

/// Runs all of it and judges it; each kind tries to have as much as an n-th of the budget.
fn keeps_to(budget_mib: usize, cores: usize, nth: usize) {
    let (budget, cores) = (format!("{budget_mib}MiB"), cores.to_string());
    let pin = if cores == "1" { "0" } else { "off" };
    let broker = Broker::start(&["--memory-max", &budget, "--cores", &cores, "--pin", pin]);
    if cores == "1" {
        leave_first_processor();
    }
    let (address, stop) = (broker.address, &AtomicBool::new(false));
    let crowd = Crowd { address, bytes: (budget_mib << 20) / nth };
    let pairs: Vec<Pair> = (0..PAIR_COUNT).map(|number| Pair::open(address, number)).collect();
    let mut away = Away::open(address);
    let start = Instant::now();
    let (exchanges, begun, ended) = thread::scope(|scope| {
        let stopping = StopAtEnd(stop);
        let pairs = pairs.into_iter().map(|pair| scope.spawn(move || pair.exchange(start, stop)));
        let pairs: Vec<_> = pairs.collect();
        thread::sleep(CALM);
        let begun = start.elapsed();
        let crowding = scope.spawn(move || crowd_in(&crowd));
        thread::sleep(CALM);
        away.publish(AWAY_COUNT / 2..AWAY_COUNT);
        crowding.join().expect("it gives up rather than to fail");
        let ended = start.elapsed();
        drop(stopping);
        let exchanges = pairs.into_iter().map(|pair| pair.join().expect("the honest lose nothing"));
        (exchanges.collect::<Vec<_>>(), begun, ended)
    });
    away.expect_all();
    let (alone, beside) = (p99(&exchanges, Duration::ZERO..begun), p99(&exchanges, begun..ended));
    let peak_mib = (broker.peak_bytes() >> 20) as usize;
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!(
        "{budget} on {cores} cores: {peak_mib} MiB at most in {:.0?}; \
         p99 {alone:.1?} alone and {beside:.1?} beside the crowd: {ratio:.1} times",
        ended - begun
    );
    assert!(peak_mib <= budget_mib * 11 / 10, "{peak_mib} of {budget_mib} MiB");
    assert!(peak_mib >= budget_mib * 6 / 10, "{peak_mib} of {budget_mib} MiB: nothing was tested");
    let (_, log) = broker.stop("TERM");
    println!("{}", log.last().expect("it says what it counted"));
}

#[test]
fn a_small_budget_is_kept() {
    keeps_to(96, 1, 5);
}

#[test]
#[ignore = "takes half a minute"]
fn a_budget_of_256_mib_is_kept_on_1_core() {
    keeps_to(256, 1, 3);
}

#[test]
#[ignore = "takes half a minute"]
fn a_budget_of_256_mib_is_kept_on_4_cores() {
    keeps_to(256, 4, 3);
}

#[test]
#[ignore = "takes minutes"]
fn a_budget_of_2_gib_is_kept_on_1_core() {
    keeps_to(2048, 1, 5);
}

#[test]
#[ignore = "takes minutes"]
fn a_budget_of_2_gib_is_kept_on_4_cores() {
    keeps_to(2048, 4, 5);
}
