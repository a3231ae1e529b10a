//! Subscribers that do not read: the broker's memory stays bounded and nobody else suffers.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::broker::Broker;
use harness::client::Client;
use harness::gate::{Gate, StopAtEnd};
use harness::notation::parse_packet;

const FLOOD: Duration = Duration::from_secs(3);
/// Messages that are exchanged beside it, at least.
const EXCHANGE_COUNT_MIN: usize = 20;
/// What an executor may do between a publish and its delivery, in a debug build.
const EXCHANGE_CPU_MAX: Duration = Duration::from_millis(500);

/// What the broker may grow by: the outbox and the queue of the slow subscriber (1 and 16 MiB by
/// default), what lies in socket buffers, and room for an allocator to be an allocator.
const GROWTH_MAX: u64 = 64 << 20;

/// Publishes as fast as the broker takes it until told to stop, or until the broker closes; what
/// comes back is thrown away.
fn flood(address: SocketAddr, qos: u8, stop: &AtomicBool) -> u64 {
    let mut stream = TcpStream::connect_timeout(&address, FLOOD).expect("the broker accepts");
    let mut answers = stream.try_clone().expect("a descriptor can be duplicated");
    thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
    stream.set_write_timeout(Some(Duration::from_millis(100))).expect("the timeout is not zero");
    let mut waiting = parse_packet("CONNECT flood").expect("it is one").encode(false);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        if waiting.is_empty() {
            waiting = flood_packet(qos, sent);
            sent += 1;
        }
        match stream.write(&waiting) {
            Ok(count) => drop(waiting.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {} // Not read for now.
            Err(_) => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    sent
}

fn flood_packet(qos: u8, number: u64) -> Vec<u8> {
    let id = if qos > 0 { format!("id={}", number % 60_000 + 1) } else { String::new() };
    let text = format!("PUBLISH flood q{qos} {id} \"x\"*10000");
    parse_packet(&text).expect("it is one").encode(false)
}

/// A pair of clients that exchanges a message now and then.
struct Pair {
    subscriber: Client,
    publisher: Client,
    exchanged: usize,
}

impl Pair {
    fn connect(address: SocketAddr) -> Self {
        let mut subscriber = Client::connect(address, "CONNECT calm-s");
        subscriber.subscribe("calm:1");
        let publisher = Client::connect(address, "CONNECT calm-p");
        Self { subscriber, publisher, exchanged: 0 }
    }

    fn exchange(&mut self) {
        self.exchanged += 1;
        let number = self.exchanged;
        self.publisher.send(&format!("PUBLISH calm q1 id={number} x"));
        self.publisher.expect(&format!("PUBACK id={number}"));
        self.subscriber.expect(&format!("PUBLISH calm q1 id=$p{number} x"));
        self.subscriber.send(&format!("PUBACK id=$p{number}"));
    }

    /// Exchanges messages until then, and at least so many. Each must come without waiting for
    /// others: an executor that has worked for long meanwhile has let it wait, however busy the
    /// rest of the machine was. Gives the most memory that the broker had meanwhile.
    fn expect_served(&mut self, broker: &Broker, until: Instant, least_count: usize) -> u64 {
        let (first, mut peak) = (self.exchanged, 0);
        while Instant::now() < until || self.exchanged < first + least_count {
            let before = broker.cpu_times();
            self.exchange();
            let spent = before.most_until(&broker.cpu_times());
            assert!(spent < EXCHANGE_CPU_MAX, "an executor worked {spent:?} during an exchange");
            peak = peak.max(broker.resident_bytes());
            thread::sleep(Duration::from_millis(20));
        }
        peak
    }
}

fn a_stalled_subscriber_is_contained(cores: &str, qos: u8) {
    let broker = Broker::start(&["--cores", cores]);
    let mut stalled = Client::connect(broker.address, "CONNECT stalled");
    stalled.subscribe(&format!("flood:{qos}"));
    let mut calm = Pair::connect(broker.address);
    let before = broker.resident_bytes();
    let (address, stop) = (broker.address, &AtomicBool::new(false));
    let (sent, peak) = thread::scope(|scope| {
        let stopping = StopAtEnd(stop);
        let flooding = scope.spawn(move || flood(address, qos, stop));
        let peak = calm.expect_served(&broker, Instant::now() + FLOOD, EXCHANGE_COUNT_MIN);
        drop(stopping);
        (flooding.join(), peak)
    });
    let sent = sent.expect("flooding does not fail");
    let grown = peak.saturating_sub(before);
    assert!(grown < GROWTH_MAX, "grew by {grown} bytes after {sent} messages");
    assert!(sent > 100, "the publisher was hardly read: {sent} messages");
}

#[test]
fn a_stalled_subscriber_at_qos_0_is_contained() {
    a_stalled_subscriber_is_contained("1", 0);
}

#[test]
fn a_stalled_subscriber_at_qos_0_on_another_core_is_contained() {
    a_stalled_subscriber_is_contained("4", 0);
}

#[test]
fn a_stalled_subscriber_at_qos_1_is_contained() {
    a_stalled_subscriber_is_contained("2", 1);
}

/// Publishes its numbers as fast as it can and returns once the broker has read them all; the
/// second half when the broker has read the first half of everybody's.
fn publish_numbers(address: SocketAddr, publisher: usize, count: usize, half: &Gate) {
    let mut client = Client::connect(address, &format!("CONNECT p{publisher}"));
    for number in 0..count {
        if number == count / 2 {
            client.send("PINGREQ");
            client.expect("PINGRESP");
            half.wait();
        }
        client.send(&format!("PUBLISH flood/{publisher} \"{number:0500}\""));
    }
    client.send("PINGREQ");
    client.expect("PINGRESP");
}

/// What a slow subscriber got from each publisher, up to the answer to its last packet.
fn read_numbers(subscriber: &mut Client, into: &mut BTreeMap<String, Vec<usize>>) {
    subscriber.send("PINGREQ");
    loop {
        let packet = subscriber.next_packet();
        if packet.kind.name == "PINGRESP" {
            return;
        }
        let number = packet.text("payload").parse().expect("numbers are published");
        into.entry(packet.text("topic")).or_default().push(number);
    }
}

/// The subscriber gets on at its own pace, what it cannot take is counted to the message, and
/// nobody's messages are held back for those of others.
#[test]
fn many_publishers_at_qos_0_starve_nobody_and_every_drop_is_counted() {
    const PUBLISHERS: usize = 20;
    const EACH: usize = 2_500;
    let broker = Broker::start(&["--cores", "2", "--slow-consumer-timeout-s", "600"]);
    let address = broker.address;
    let mut subscriber = Client::connect(address, "CONNECT s");
    subscriber.subscribe("flood/+:0");
    let mut received = BTreeMap::new();
    // Twelve megabytes that nobody reads: more than the outbox and the sockets hold, however slow
    // this machine is.
    let half = &Gate::new("publishers at half of their messages", PUBLISHERS + 1);
    let mut calm = Pair::connect(address);
    thread::scope(|scope| {
        let floods: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| scope.spawn(move || publish_numbers(address, publisher, EACH, half)))
            .collect();
        calm.expect_served(&broker, Instant::now(), EXCHANGE_COUNT_MIN);
        half.wait();
        while floods.iter().any(|flood| !flood.is_finished()) {
            read_numbers(&mut subscriber, &mut received);
            thread::sleep(Duration::from_millis(50));
        }
    });
    read_numbers(&mut subscriber, &mut received);
    subscriber.disconnect();
    let (_, log) = broker.stop("TERM");
    assert_eq!(received.len(), PUBLISHERS, "nobody was left out");
    for (topic, numbers) in &received {
        assert!(numbers.is_sorted_by(|one, next| one < next), "{topic} is out of order");
    }
    let received: usize = received.values().map(Vec::len).sum();
    let dropped = counted(&log, "deliveries_dropped_outbox_full");
    assert!(dropped > 0, "the subscriber could take everything: nothing was tested");
    assert_eq!(received + dropped, PUBLISHERS * EACH);
}

/// A counter in what the broker says at its end; those that are zero are left out.
fn counted(log: &[String], name: &str) -> usize {
    let last = log.iter().find(|line| line.contains("stopped:")).expect("it says what it counted");
    let value = last.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map_or(0, |value| value.parse().expect("a counter is a number"))
}

/// An offline session collects up to its limits; what it kept is whole and in order.
#[test]
fn an_offline_queue_is_bounded() {
    const LIMIT: usize = 50;
    let broker = Broker::start(&["--cores", "2", "--queue-count-max", "50"]);
    let mut offline = Client::connect(broker.address, "CONNECT off clean=0");
    offline.subscribe("t:1");
    offline.disconnect();
    let mut publisher = Client::connect(broker.address, "CONNECT p");
    for number in 1..=3 * LIMIT {
        publisher.send(&format!("PUBLISH t q1 id={number} \"{number}\""));
        publisher.expect(&format!("PUBACK id={number}"));
    }
    offline.reopen();
    offline.send("CONNECT off clean=0");
    offline.expect("CONNACK 0 present");
    let mut numbers = Vec::new();
    for _ in 0..LIMIT {
        let packet = offline.next_packet();
        numbers.push(packet.text("payload").parse::<usize>().unwrap());
        offline.acknowledge(&packet);
    }
    offline.expect_nothing();
    // The oldest are kept, in their order; every later one was dropped and counted.
    assert_eq!(numbers, (1..=LIMIT).collect::<Vec<_>>());
    let (_, log) = broker.stop("TERM");
    assert_eq!(counted(&log, "deliveries_dropped_queue_full"), 2 * LIMIT);
}

/// A subscriber that was slow for a while and reads again gets on with it.
#[test]
fn a_subscriber_that_reads_again_is_served_again() {
    let broker = Broker::start(&["--cores", "2"]);
    let mut slow = Client::connect(broker.address, "CONNECT slow");
    slow.subscribe("t:1");
    let mut publisher = Client::connect(broker.address, "CONNECT p");
    for batch in 0..20 {
        let numbers = batch * 100 + 1..=batch * 100 + 100;
        let packets: Vec<_> =
            numbers.clone().map(|n| format!("PUBLISH t q1 id={n} \"{n}\"")).collect();
        publisher.send(&packets.join(" & "));
        numbers.for_each(|n| publisher.expect(&format!("PUBACK id={n}")));
    }
    for number in 1..=2000 {
        let packet = slow.next_packet();
        assert_eq!(packet.text("payload"), number.to_string());
        slow.acknowledge(&packet);
    }
    publisher.send("PUBLISH t done");
    slow.expect("PUBLISH t done");
}
