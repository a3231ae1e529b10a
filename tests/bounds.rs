//! No input costs more than a bounded amount of work: what one client asks for goes on in later
//! turns, and the others are served in between. [`Shard::audit`] compares the units of the last
//! input with what an input may cost.

use std::time::Duration;

use ahash::RandomState;
use ringmq::auth::{AuthRequest, Verdict};
use ringmq::config::Limits;
use ringmq::metrics::DropCause;
use ringmq::mqtt::{
    Connect, Disconnect, Filters, Packet, PacketId, Properties, Property, Publish, QoS, ReasonCode,
    Subscribe, Subscription, SubscriptionOptions, Subscriptions, TopicFilter, TopicName,
    Unsubscribe, Version, split,
};
use ringmq::routing::{Partition, ShardId};
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Full, Input, Message, Outbox, Output, Shard};
use ringmq::storage::{Record, Token};

const VERSION: Version = Version::V5;
/// Turns after which something is called endless.
const TURNS_MAX: usize = 100_000;

/// Everything that leaves the shard.
#[derive(Default)]
struct Outside {
    outboxes: Vec<Outbox>,
    paused: Vec<bool>,
    is_closed: Vec<bool>,
    persisted: Option<Token>,
}

impl Output for Outside {
    fn send(&mut self, _: ShardId, message: Message) -> Result<(), Full> {
        Err(Full(message))
    }

    fn outbox(&mut self, connection: ConnectionId) -> &mut Outbox {
        &mut self.outboxes[connection.index as usize]
    }

    fn pause(&mut self, connection: ConnectionId, paused: bool) {
        self.paused[connection.index as usize] = paused;
    }

    fn persist(&mut self, _: &Record<'_>, token: Token) {
        self.persisted = Some(token);
    }

    fn authenticate(&mut self, _: ConnectionId, _: &AuthRequest<'_>) -> Verdict {
        Verdict::Allow(Vec::new())
    }

    fn close(&mut self, connection: ConnectionId, _: ReasonCode) {
        self.is_closed[connection.index as usize] = true;
    }
}

/// One shard and its clients, whose numbers are those of their connections.
struct Broker {
    shard: Shard,
    outside: Outside,
    now: Time,
}

/// What a client got.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Got {
    Connack { session_present: bool },
    Publish { topic: String, retain: bool },
    Suback { count: usize },
    Unsuback { count: usize },
    Pingresp,
    Other,
}

impl Broker {
    fn new() -> Self {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let partition = Partition::new(1, [1, 2, 3, 4]);
        let shard = Shard::new(ShardId::from_index(0), partition, Limits::default(), hasher);
        Self { shard, outside: Outside::default(), now: Time::START }
    }

    /// Every input is bounded.
    fn handle(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &mut self.outside);
        self.shard.audit().expect("an input costs no more than it may");
        while let Some(token) = self.outside.persisted.take() {
            self.shard.handle(self.now, Input::Persisted { token }, &mut self.outside);
        }
    }

    /// Connects a client.
    fn connect(&mut self, client_id: &str, clean_start: bool, expiry_s: u32) -> usize {
        let expiry = Property::SessionExpiryIntervalS(expiry_s);
        self.connect_with(client_id, clean_start, &[expiry], &[])
    }

    /// Connects a client that says more at once.
    fn connect_with(
        &mut self,
        client_id: &str,
        clean_start: bool,
        properties: &[Property<'_>],
        more: &[Packet<'_>],
    ) -> usize {
        let number = self.outside.outboxes.len();
        self.outside.outboxes.push(Outbox::default());
        self.outside.paused.push(false);
        self.outside.is_closed.push(false);
        self.handle(Input::Opened { connection: id(number) });
        let mut raw = Vec::new();
        let connect = Connect {
            version: VERSION,
            is_bridge: false,
            clean_start,
            keep_alive_s: 0,
            properties: Properties::write(properties.iter().copied(), &mut raw),
            client_id,
            will: None,
            username: None,
            password: None,
        };
        self.send(number, &[&[Packet::Connect(connect)], more].concat());
        number
    }

    /// A client that is there and has got its CONNACK.
    fn client(&mut self, client_id: &str) -> usize {
        let number = self.connect(client_id, true, 0);
        assert_eq!(self.receive(number), [Got::Connack { session_present: false }]);
        number
    }

    fn send(&mut self, number: usize, packets: &[Packet<'_>]) {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(VERSION, &mut bytes));
        self.handle(Input::Bytes { connection: id(number), bytes: &bytes });
    }

    fn receive(&mut self, number: usize) -> Vec<Got> {
        let (outbox, mut bytes) = (&mut self.outside.outboxes[number], Vec::new());
        while !outbox.is_empty() {
            bytes.extend_from_slice(outbox.front());
            outbox.consume(outbox.front().len());
        }
        if outbox.take_drained() {
            self.handle(Input::Drained { connection: id(number) });
        }
        let (mut rest, mut got) = (&bytes[..], Vec::new());
        while let Some((frame, used)) = split(rest, usize::MAX).expect("well formed") {
            got.push(match Packet::decode(frame, VERSION).expect("a valid packet") {
                Packet::Connack(ack) => Got::Connack { session_present: ack.session_present },
                Packet::Publish(publish) => {
                    let topic = publish.topic.as_str().to_owned();
                    Got::Publish { topic, retain: publish.retain }
                }
                Packet::Suback(ack) => Got::Suback { count: ack.reasons.len() },
                Packet::Unsuback(ack) => Got::Unsuback { count: ack.reasons.len() },
                Packet::Pingresp => Got::Pingresp,
                _ => Got::Other,
            });
            rest = &rest[used..];
        }
        got
    }

    /// One turn; whether there was more to do.
    fn turn(&mut self) -> bool {
        let more = self.shard.end_turn();
        if more {
            self.handle(Input::Continue);
        }
        more
    }

    /// Goes on until nothing is left to do, while another client pings in each turn and is
    /// answered in the same; what `number` got, and after how many turns.
    fn finish(&mut self, number: usize, other: usize) -> (Vec<Got>, usize) {
        let mut got = Vec::new();
        for turns in 0..TURNS_MAX {
            self.send(other, &[Packet::Pingreq]);
            assert_eq!(self.receive(other), [Got::Pingresp], "in turn {turns}");
            got.extend(self.receive(number));
            if !self.turn() {
                return (got, turns);
            }
        }
        panic!("there is no end");
    }
}

fn id(number: usize) -> ConnectionId {
    ConnectionId { index: number as u32, generation: 1 }
}

fn packet_id(number: u16) -> PacketId {
    PacketId::new(number).expect("it is not 0")
}

fn subscribe(filters: &[String], raw: &mut Vec<u8>) -> Vec<u8> {
    subscribe_at(QoS::AtMostOnce, filters, raw)
}

fn subscribe_at(qos: QoS, filters: &[String], raw: &mut Vec<u8>) -> Vec<u8> {
    let options = SubscriptionOptions { qos, ..Default::default() };
    let parsed = filters.iter().map(|filter| TopicFilter::parse(filter).expect("a valid filter"));
    let all: Vec<Subscription<'_>> =
        parsed.map(|filter| Subscription { filter, options }).collect();
    let subscriptions = Subscriptions::write(VERSION, &all, raw);
    let (packet_id, properties) = (packet_id(1), Properties::EMPTY);
    let packet = Packet::Subscribe(Subscribe { packet_id, properties, subscriptions });
    encoded(&packet)
}

fn unsubscribe(filters: &[String], raw: &mut Vec<u8>) -> Vec<u8> {
    let parsed = filters.iter().map(|filter| TopicFilter::parse(filter).expect("a valid filter"));
    let all: Vec<TopicFilter<'_>> = parsed.collect();
    let (packet_id, properties) = (packet_id(2), Properties::EMPTY);
    let filters = Filters::write(&all, raw);
    encoded(&Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }))
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(VERSION, &mut bytes);
    bytes
}

fn publish<'a>(topic: &'a str, retain: bool) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain,
        topic: TopicName::parse(topic).expect("a topic without wildcard"),
        packet_id: None,
        properties: Properties::EMPTY,
        payload: b"x",
    })
}

/// A client publishes to `t` at QoS 1; so often, which is a multiple of 32.
fn fill(broker: &mut Broker, publisher: usize, count: u64) {
    let Packet::Publish(publish) = publish("t", false) else { unreachable!("it is a PUBLISH") };
    let (qos, packet_id) = (QoS::AtLeastOnce, Some(packet_id(1)));
    let publish = Packet::Publish(Publish { qos, packet_id, payload: &[7; 80], ..publish });
    for _ in 0..count / 32 {
        broker.send(publisher, &[publish; 32]);
        broker.receive(publisher);
        broker.turn();
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:x}")).collect()
}

fn disconnect() -> Packet<'static> {
    Packet::Disconnect(Disconnect::because(ReasonCode::Success))
}

#[test]
fn very_many_filters_are_placed_and_given_up_a_few_at_a_time() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let filters = names(30_000);
    let mut bytes = subscribe(&filters, &mut Vec::new());
    bytes.extend(unsubscribe(&filters, &mut Vec::new()));
    Packet::Pingreq.encode(VERSION, &mut bytes);
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    assert!(broker.outside.paused[one], "the others have their turn");
    let (got, turns) = broker.finish(one, other);
    assert_eq!(
        got,
        [Got::Suback { count: 30_000 }, Got::Unsuback { count: 30_000 }, Got::Pingresp]
    );
    assert!(turns > 100, "{turns}");
    assert!(!broker.outside.paused[one]);
    assert_eq!(broker.shard.counters().subscriptions, 0);
}

#[test]
fn a_packet_that_is_not_valid_at_its_end_changes_nothing() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let mut bytes = subscribe(&names(10_000), &mut Vec::new());
    *bytes.last_mut().unwrap() = 3; // A QoS that does not exist.
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    while !broker.outside.is_closed[one] {
        assert_eq!(broker.shard.counters().subscriptions, 0);
        assert!(broker.turn(), "it is never closed");
    }
    assert_eq!(broker.shard.counters().protocol_errors, 1);
    broker.finish(other, other);
}

#[test]
fn a_connection_that_ends_in_the_middle_leaves_no_subscribe_behind() {
    let mut broker = Broker::new();
    let one = broker.connect("one", true, 1000);
    let other = broker.client("other");
    broker.receive(one);
    broker.send(other, &[publish("0", true)]);
    let bytes = subscribe(&names(10_000), &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    while broker.shard.counters().subscriptions < 2000 {
        assert!(broker.turn());
    }
    broker.handle(Input::Closed { connection: id(one) });
    broker.finish(other, other);
    let again = broker.connect("one", false, 1000);
    let (got, _) = broker.finish(again, other);
    let retained = Got::Publish { topic: "0".into(), retain: true };
    assert_eq!(got, [Got::Connack { session_present: true }, retained]);
    let bytes = subscribe(&names(1), &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(again), bytes: &bytes });
    assert!(broker.finish(again, other).0.contains(&Got::Suback { count: 1 }));
}

#[test]
fn a_session_with_very_many_filters_ends_a_few_at_a_time() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let bytes = subscribe(&names(30_000), &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    broker.finish(one, other);
    broker.send(other, &[publish("7", false)]); // Remembered, and to be forgotten.
    assert_eq!(broker.receive(one).len(), 1);
    broker.send(one, &[disconnect()]);
    assert_eq!(broker.shard.counters().sessions, 1);
    assert!(broker.shard.counters().subscriptions > 20_000);

    let again = broker.client("one");
    let matched = broker.shard.counters().ledger.matched;
    for topic in ["7", "2a", "752f"] {
        broker.send(other, &[publish(topic, false)]);
    }
    assert_eq!(broker.shard.counters().ledger.matched, matched, "nothing is for who is gone");
    let bytes = subscribe(&names(8), &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(again), bytes: &bytes });
    broker.send(other, &[publish("7", false)]);
    let (got, turns) = broker.finish(again, other);
    let delivered = Got::Publish { topic: "7".into(), retain: false };
    assert_eq!(got, [Got::Suback { count: 8 }, delivered.clone()]);
    assert!(turns > 50, "{turns}");
    assert_eq!(broker.shard.counters().subscriptions, 8);
    broker.send(other, &[publish("7", false)]);
    assert_eq!(broker.receive(again), [delivered]);
}

#[test]
fn a_session_with_a_full_queue_ends_a_few_at_a_time() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let filters = ["t".to_owned()];
    let bytes = subscribe_at(QoS::AtLeastOnce, &filters, &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    let held = 1024 + Limits::default().queue_count_max as u64 / 32 * 32;
    fill(&mut broker, other, held);
    let left = |broker: &Broker| {
        let ledger = &broker.shard.counters().ledger;
        ledger.in_flight + ledger.queued
    };
    assert_eq!(left(&broker), held);
    broker.handle(Input::Closed { connection: id(one) });
    assert_eq!(broker.shard.counters().sessions, 1);
    assert!(left(&broker) > held / 4, "most of it waits for a later turn");

    let again = broker.connect("one", false, 0);
    let (got, turns) = broker.finish(again, other);
    assert_eq!(got, [Got::Connack { session_present: false }]);
    assert!(turns > 0 && left(&broker) == 0, "{turns}");
    assert_eq!(broker.shard.counters().ledger.dropped_for(DropCause::SessionEnded), held);
}

/// What belongs to a group and is too large for its member is given back.
#[test]
fn what_comes_behind_a_connect_makes_a_resume_no_larger() {
    let mut broker = Broker::new();
    let (one, other) = (broker.connect("one", true, 100), broker.client("other"));
    let filters = ["$share/g/t".to_owned()];
    let bytes = subscribe_at(QoS::AtLeastOnce, &filters, &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    broker.handle(Input::Closed { connection: id(one) });
    let held = Limits::default().queue_count_max as u64 / 32 * 32;
    fill(&mut broker, other, held);
    assert_eq!(broker.shard.counters().ledger.queued, held);
    let properties = [Property::SessionExpiryIntervalS(100), Property::MaximumPacketSize(64)];
    let again = broker.connect_with("one", false, &properties, &[Packet::Pingreq; 200]);
    let left = broker.shard.counters().ledger.queued;
    assert!(left > held - 200 && left < held, "{left} of {held} are left");
    (0..=held / 64).for_each(|_| _ = broker.finish(again, other));
    let ledger = &broker.shard.counters().ledger;
    assert_eq!((ledger.queued, ledger.dropped_for(DropCause::TooLarge)), (0, held));
}

#[test]
fn sessions_that_expire_together_end_a_few_at_a_time() {
    let mut broker = Broker::new();
    let other = broker.client("other");
    for number in 0..5000 {
        let one = broker.connect(&format!("{number}"), true, 10);
        let filters = ["a", "b", "c"].map(|name| format!("{name}/{number}/+"));
        let bytes = subscribe(&filters, &mut Vec::new());
        broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
        broker.handle(Input::Closed { connection: id(one) });
        broker.turn();
    }
    broker.now = broker.now + Duration::from_secs(20);
    broker.handle(Input::Timeout);
    assert!(broker.shard.counters().sessions > 4000, "most are still to be ended");
    let (_, turns) = broker.finish(other, other);
    assert!(turns > 20, "{turns}");
    let counters = broker.shard.counters();
    assert_eq!((counters.sessions, counters.subscriptions), (1, 0));
}

#[test]
fn a_flood_of_one_client_leaves_the_others_their_turn() {
    const COUNT: usize = 30_000;
    let mut broker = Broker::new();
    let (one, other, reader) =
        (broker.client("one"), broker.client("other"), broker.client("reader"));
    let bytes = subscribe(&["+".to_owned()], &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(reader), bytes: &bytes });
    broker.receive(reader);
    let topics = names(COUNT);
    let mut bytes = Vec::new();
    topics.iter().for_each(|topic| publish(topic, false).encode(VERSION, &mut bytes));
    // What comes behind it, in the same turn, waits with it.
    let (most, rest) = bytes.split_at(bytes.len() / 2);
    broker.handle(Input::Bytes { connection: id(one), bytes: most });
    assert!(broker.outside.paused[one]);
    broker.handle(Input::Bytes { connection: id(one), bytes: rest });
    let (got, turns) = broker.finish(reader, other);
    assert!(turns > 20, "{turns}");
    let publish = |topic: &String| Got::Publish { topic: topic.clone(), retain: false };
    assert!(got.iter().eq(topics.iter().map(publish).collect::<Vec<_>>().iter()), "in order");
}

#[test]
fn small_pieces_of_a_flood_count_together() {
    let mut broker = Broker::new();
    let one = broker.client("one");
    broker.turn();
    let packet = encoded(&publish("t", false));
    let mut count = 0;
    while !broker.outside.paused[one] {
        broker.handle(Input::Bytes { connection: id(one), bytes: &packet });
        count += 1;
        assert!(count < 10_000, "it is never put aside");
    }
    assert!(broker.turn());
    assert!(!broker.outside.paused[one]);
}

#[test]
fn a_filter_that_waits_for_what_is_retained_waits_once() {
    const RETAINED: usize = 500;
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    for number in 0..RETAINED {
        // More than waits for a client that does not read.
        broker.send(other, &[publish(&format!("{number}/{}", "r".repeat(1000)), true)]);
        broker.turn();
    }
    let bytes = subscribe(&["+/+".to_owned()], &mut Vec::new());
    for _ in 0..500 {
        broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
        while broker.turn() {}
    }
    let (mut got, _) = broker.finish(one, other);
    loop {
        let (more, _) = broker.finish(one, other); // It has read, and takes more.
        if more.is_empty() {
            break;
        }
        got.extend(more);
    }
    let retained = got.iter().filter(|got| matches!(got, Got::Publish { retain: true, .. }));
    assert_eq!(retained.count(), 2 * RETAINED, "the one that had begun, and the one that waited");
    assert_eq!(got.iter().filter(|got| matches!(got, Got::Suback { .. })).count(), 500);
}

/// No clock is needed for that.
#[test]
fn what_is_retained_for_many_filters_comes_turn_by_turn() {
    const COUNT: usize = 3000;
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let filters = names(COUNT);
    broker.send(other, &[publish(&filters[COUNT - 1], true)]);
    let bytes = subscribe(&filters, &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    let (got, turns) = broker.finish(one, other);
    let last = Got::Publish { topic: filters[COUNT - 1].clone(), retain: true };
    assert_eq!(got, [Got::Suback { count: COUNT }, last]);
    assert!(turns < 200, "{turns}");
}

#[test]
fn a_broker_that_stops_does_not_wait_for_filters() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let bytes = subscribe(&names(30_000), &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    broker.finish(one, other);
    broker.handle(Input::Shutdown);
    assert!(broker.outside.is_closed[one] && broker.outside.is_closed[other]);
    assert!(broker.shard.counters().subscriptions > 20_000);
}

/// Filters that match the same topics, and a topic that all of them match.
fn overlapping(level_count: usize) -> (Vec<String>, String) {
    let level = |number: usize, at| if number >> at & 1 == 0 { "+/" } else { "a/" };
    let filter = |number| (0..level_count).map(|at| level(number, at)).chain(["#"]).collect();
    ((0..1 << level_count).map(filter).collect(), "a/".repeat(level_count))
}

#[test]
fn a_publish_that_very_many_filters_match_is_looked_up_turn_by_turn() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let (filters, topic) = overlapping(14);
    let bytes = subscribe(&filters, &mut Vec::new());
    broker.handle(Input::Bytes { connection: id(one), bytes: &bytes });
    broker.finish(one, other);
    let publisher = broker.client("publisher");
    let topics: Vec<String> = (0..20).map(|number| format!("{topic}{number}")).collect();
    let packets: Vec<Packet<'_>> = topics.iter().map(|topic| publish(topic, false)).collect();
    broker.send(publisher, &packets);
    let (got, turns) = broker.finish(one, other);
    let wanted = topics.into_iter().map(|topic| Got::Publish { topic, retain: false });
    assert!(got.into_iter().eq(wanted), "each once, in order");
    assert!(turns > 40, "{turns}");
}

#[test]
fn a_publish_to_very_many_subscribers_is_looked_up_turn_by_turn() {
    const COUNT: usize = 2500;
    let mut broker = Broker::new();
    let other = broker.client("other");
    let bytes = subscribe(&["t".to_owned()], &mut Vec::new());
    let subscribers: Vec<usize> =
        (0..COUNT).map(|number| broker.client(&number.to_string())).collect();
    for subscriber in &subscribers {
        broker.handle(Input::Bytes { connection: id(*subscriber), bytes: &bytes });
        broker.receive(*subscriber);
        broker.turn();
    }
    broker.send(other, &[publish("t", false)]);
    let (_, turns) = broker.finish(other, other);
    assert!(turns > 1, "{turns}");
    assert_eq!(broker.shard.counters().ledger.matched, COUNT as u64);
}
