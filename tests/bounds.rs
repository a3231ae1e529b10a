//! No input costs more than a bounded amount of work: what one client asks for goes on in later
//! turns, and the others are served in between. [`Shard::audit`] compares the units of the last
//! input with what an input may cost.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use harness::direct::{self, Direct, overlapping, packet_id};
use harness::shards::{ALL, Harness};
use harness::world::Plain;
use ringmq::config::Limits;
use ringmq::metrics::DropCause;
use ringmq::mqtt::{Disconnect, Packet, Property, Publish, QoS, ReasonCode, Version};

const VERSION: Version = Version::V5;
/// Turns after which something is called endless.
const TURNS_MAX: usize = 100_000;

/// One shard and its clients. Every input is bounded.
struct Broker(Direct);

impl Deref for Broker {
    type Target = Direct;

    fn deref(&self) -> &Direct {
        &self.0
    }
}

impl DerefMut for Broker {
    fn deref_mut(&mut self) -> &mut Direct {
        &mut self.0
    }
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
        let mut harness = Harness::new(1, ALL, Limits::default(), 1, Plain);
        harness.audits = true;
        Self(Direct::new(harness, VERSION))
    }

    /// Connects a client.
    fn connect(&mut self, client_id: &str, clean_start: bool, expiry_s: u32) -> usize {
        let expiry = Property::SessionExpiryIntervalS(expiry_s);
        self.0.connect(client_id, clean_start, &[expiry], &[])
    }

    /// A client that is there and has got its CONNACK.
    fn client(&mut self, client_id: &str) -> usize {
        let number = self.connect(client_id, true, 0);
        assert_eq!(self.receive(number), [Got::Connack { session_present: false }]);
        number
    }

    fn receive(&mut self, number: usize) -> Vec<Got> {
        self.0.receive(number, |packet| match packet {
            Packet::Connack(ack) => Got::Connack { session_present: ack.session_present },
            Packet::Publish(publish) => {
                let topic = publish.topic.as_str().to_owned();
                Got::Publish { topic, retain: publish.retain }
            }
            Packet::Suback(ack) => Got::Suback { count: ack.reasons.len() },
            Packet::Unsuback(ack) => Got::Unsuback { count: ack.reasons.len() },
            Packet::Pingresp => Got::Pingresp,
            _ => Got::Other,
        })
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

fn subscribe<S: AsRef<str>>(filters: &[S]) -> Vec<u8> {
    direct::subscribe(VERSION, QoS::AtMostOnce, filters)
}

fn publish(topic: &str, retain: bool) -> Packet<'_> {
    Packet::Publish(direct::publish(topic, b"x", QoS::AtMostOnce, retain))
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
    let mut bytes = subscribe(&filters);
    bytes.extend(direct::unsubscribe(VERSION, &filters));
    Packet::Pingreq.encode(VERSION, &mut bytes);
    broker.send_bytes(one, &bytes);
    assert!(broker.is_paused(one), "the others have their turn");
    let (got, turns) = broker.finish(one, other);
    assert_eq!(
        got,
        [Got::Suback { count: 30_000 }, Got::Unsuback { count: 30_000 }, Got::Pingresp]
    );
    assert!(turns > 100, "{turns}");
    assert!(!broker.is_paused(one));
    assert_eq!(broker.harness.counters().subscriptions, 0);
}

#[test]
fn a_packet_that_is_not_valid_at_its_end_changes_nothing() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let mut bytes = subscribe(&names(10_000));
    *bytes.last_mut().unwrap() = 3; // A QoS that does not exist.
    broker.send_bytes(one, &bytes);
    while !broker.is_closed(one) {
        assert_eq!(broker.harness.counters().subscriptions, 0);
        assert!(broker.turn(), "it is never closed");
    }
    assert_eq!(broker.harness.counters().protocol_errors, 1);
    broker.finish(other, other);
}

#[test]
fn a_connection_that_ends_in_the_middle_leaves_no_subscribe_behind() {
    let mut broker = Broker::new();
    let one = broker.connect("one", true, 1000);
    let other = broker.client("other");
    broker.receive(one);
    broker.send(other, &[publish("0", true)]);
    let bytes = subscribe(&names(10_000));
    broker.send_bytes(one, &bytes);
    while broker.harness.counters().subscriptions < 2000 {
        assert!(broker.turn());
    }
    broker.lose(one);
    broker.finish(other, other);
    let again = broker.connect("one", false, 1000);
    let (got, _) = broker.finish(again, other);
    let retained = Got::Publish { topic: "0".into(), retain: true };
    assert_eq!(got, [Got::Connack { session_present: true }, retained]);
    let bytes = subscribe(&names(1));
    broker.send_bytes(again, &bytes);
    assert!(broker.finish(again, other).0.contains(&Got::Suback { count: 1 }));
}

#[test]
fn a_session_with_very_many_filters_ends_a_few_at_a_time() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let bytes = subscribe(&names(30_000));
    broker.send_bytes(one, &bytes);
    broker.finish(one, other);
    broker.send(other, &[publish("7", false)]); // Remembered, and to be forgotten.
    assert_eq!(broker.receive(one).len(), 1);
    broker.send(one, &[disconnect()]);
    assert_eq!(broker.harness.counters().sessions, 1);
    assert!(broker.harness.counters().subscriptions > 20_000);

    let again = broker.client("one");
    let matched = broker.harness.counters().ledger.matched;
    for topic in ["7", "2a", "752f"] {
        broker.send(other, &[publish(topic, false)]);
    }
    assert_eq!(broker.harness.counters().ledger.matched, matched, "nothing is for who is gone");
    let bytes = subscribe(&names(8));
    broker.send_bytes(again, &bytes);
    broker.send(other, &[publish("7", false)]);
    let (got, turns) = broker.finish(again, other);
    let delivered = Got::Publish { topic: "7".into(), retain: false };
    assert_eq!(got, [Got::Suback { count: 8 }, delivered.clone()]);
    assert!(turns > 50, "{turns}");
    assert_eq!(broker.harness.counters().subscriptions, 8);
    broker.send(other, &[publish("7", false)]);
    assert_eq!(broker.receive(again), [delivered]);
}

#[test]
fn a_session_with_a_full_queue_ends_a_few_at_a_time() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let filters = ["t".to_owned()];
    let bytes = direct::subscribe(VERSION, QoS::AtLeastOnce, &filters);
    broker.send_bytes(one, &bytes);
    let held = 1024 + Limits::default().queue_count_max as u64 / 32 * 32;
    fill(&mut broker, other, held);
    let left = |broker: &Broker| {
        let ledger = &broker.harness.counters().ledger;
        ledger.in_flight + ledger.queued
    };
    assert_eq!(left(&broker), held);
    broker.lose(one);
    assert_eq!(broker.harness.counters().sessions, 1);
    assert!(left(&broker) > held / 4, "most of it waits for a later turn");

    let again = broker.connect("one", false, 0);
    let (got, turns) = broker.finish(again, other);
    assert_eq!(got, [Got::Connack { session_present: false }]);
    assert!(turns > 0 && left(&broker) == 0, "{turns}");
    assert_eq!(broker.harness.counters().ledger.dropped_for(DropCause::SessionEnded), held);
}

/// What belongs to a group and is too large for its member is given back.
#[test]
fn what_comes_behind_a_connect_makes_a_resume_no_larger() {
    let mut broker = Broker::new();
    let (one, other) = (broker.connect("one", true, 100), broker.client("other"));
    let filters = ["$share/g/t".to_owned()];
    let bytes = direct::subscribe(VERSION, QoS::AtLeastOnce, &filters);
    broker.send_bytes(one, &bytes);
    broker.lose(one);
    let held = Limits::default().queue_count_max as u64 / 32 * 32;
    fill(&mut broker, other, held);
    assert_eq!(broker.harness.counters().ledger.queued, held);
    let properties = [Property::SessionExpiryIntervalS(100), Property::MaximumPacketSize(64)];
    let again = broker.0.connect("one", false, &properties, &[Packet::Pingreq; 200]);
    let left = broker.harness.counters().ledger.queued;
    assert!(left > held - 200 && left < held, "{left} of {held} are left");
    (0..=held / 64).for_each(|_| _ = broker.finish(again, other));
    let ledger = &broker.harness.counters().ledger;
    assert_eq!((ledger.queued, ledger.dropped_for(DropCause::TooLarge)), (0, held));
}

#[test]
fn sessions_that_expire_together_end_a_few_at_a_time() {
    let mut broker = Broker::new();
    let other = broker.client("other");
    for number in 0..5000 {
        let one = broker.connect(&format!("{number}"), true, 10);
        let filters = ["a", "b", "c"].map(|name| format!("{name}/{number}/+"));
        let bytes = subscribe(&filters);
        broker.send_bytes(one, &bytes);
        broker.lose(one);
        broker.turn();
    }
    broker.pass(Duration::from_secs(20));
    assert!(broker.harness.counters().sessions > 4000, "most are still to be ended");
    let (_, turns) = broker.finish(other, other);
    assert!(turns > 20, "{turns}");
    let counters = broker.harness.counters();
    assert_eq!((counters.sessions, counters.subscriptions), (1, 0));
}

#[test]
fn a_flood_of_one_client_leaves_the_others_their_turn() {
    const COUNT: usize = 30_000;
    let mut broker = Broker::new();
    let (one, other, reader) =
        (broker.client("one"), broker.client("other"), broker.client("reader"));
    let bytes = subscribe(&["+".to_owned()]);
    broker.send_bytes(reader, &bytes);
    broker.receive(reader);
    let topics = names(COUNT);
    let mut bytes = Vec::new();
    topics.iter().for_each(|topic| publish(topic, false).encode(VERSION, &mut bytes));
    // What comes behind it, in the same turn, waits with it.
    let (most, rest) = bytes.split_at(bytes.len() / 2);
    broker.send_bytes(one, most);
    assert!(broker.is_paused(one));
    broker.send_bytes(one, rest);
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
    let packet = direct::encoded(VERSION, &publish("t", false));
    let mut count = 0;
    while !broker.is_paused(one) {
        broker.send_bytes(one, &packet);
        count += 1;
        assert!(count < 10_000, "it is never put aside");
    }
    assert!(broker.turn());
    assert!(!broker.is_paused(one));
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
    let bytes = subscribe(&["+/+".to_owned()]);
    for _ in 0..500 {
        broker.send_bytes(one, &bytes);
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
    let bytes = subscribe(&filters);
    broker.send_bytes(one, &bytes);
    let (got, turns) = broker.finish(one, other);
    let last = Got::Publish { topic: filters[COUNT - 1].clone(), retain: true };
    assert_eq!(got, [Got::Suback { count: COUNT }, last]);
    assert!(turns < 200, "{turns}");
}

#[test]
fn a_broker_that_stops_does_not_wait_for_filters() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let bytes = subscribe(&names(30_000));
    broker.send_bytes(one, &bytes);
    broker.finish(one, other);
    broker.harness.shut_down();
    assert!(broker.is_closed(one) && broker.is_closed(other));
    assert!(broker.harness.counters().subscriptions > 20_000);
}

#[test]
fn a_publish_that_very_many_filters_match_is_looked_up_turn_by_turn() {
    let mut broker = Broker::new();
    let (one, other) = (broker.client("one"), broker.client("other"));
    let (filters, topic) = overlapping(14);
    let bytes = subscribe(&filters);
    broker.send_bytes(one, &bytes);
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
    let bytes = subscribe(&["t".to_owned()]);
    let subscribers: Vec<usize> =
        (0..COUNT).map(|number| broker.client(&number.to_string())).collect();
    for subscriber in &subscribers {
        broker.send_bytes(*subscriber, &bytes);
        broker.receive(*subscriber);
        broker.turn();
    }
    broker.send(other, &[publish("t", false)]);
    let (_, turns) = broker.finish(other, other);
    assert!(turns > 1, "{turns}");
    assert_eq!(broker.harness.counters().ledger.matched, COUNT as u64);
}
