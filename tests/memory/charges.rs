//! What a shard charges to the memory of the process against what the allocator says that it
//! takes, for each kind of thing that a client can make grow.

use harness::direct::{connect, publish};
use ringmq::mqtt::{
    Ack, Connect, Packet, PacketId, Properties, Property, Publish, QoS, Subscribe, Subscription,
    SubscriptionOptions, Subscriptions, TopicFilter, TopicName, Version, Will,
};

use crate::bottle::{Bottle, Line};
use crate::{client_id, held};

/// Charged by all shards and by what stands for their executors.
fn charged(bottle: &mut Bottle) -> usize {
    bottle.settle_shards();
    bottle.harness.shards.iter().map(|shard| shard.charged_bytes()).sum()
}

/// Lets something grow in `bottle` and compares what is charged for it with what it takes.
fn compare(what: &str, bottle: &mut Bottle, grow: impl FnOnce(&mut Bottle)) {
    let (real_before, charged_before) = (held(), charged(bottle));
    grow(bottle);
    let (real, charged) = (held() - real_before, charged(bottle) - charged_before);
    let ratio = charged as f64 / real as f64;
    println!("{what}: {charged} charged, {real} taken, {ratio:.2}");
    assert!(real > 100_000, "{what}: {real} bytes are nothing");
    assert!((0.8..=1.1).contains(&ratio), "{what}: {charged} charged, {real} taken, {ratio:.2}");
    assert_eq!(bottle.harness.audit(), Ok(()), "{what}");
}

fn one_shard() -> (Bottle, Line) {
    let mut bottle = Bottle::new(1);
    let line = bottle.connect("one", Version::V5);
    bottle.drain(line);
    (bottle, line)
}

/// A session with this filter that is offline, and somebody who publishes.
fn offline_and_publisher(filter: &str) -> (Bottle, Line) {
    let (mut bottle, line) = one_shard();
    bottle.subscribe(line, filter, Version::V5);
    bottle.close(line);
    let publisher = bottle.connect("publisher", Version::V311);
    (bottle, publisher)
}

pub(crate) fn publish_at(
    bottle: &mut Bottle,
    line: Line,
    topic: &str,
    payload: &[u8],
    qos: QoS,
    id: u16,
) {
    let publish = Publish { packet_id: PacketId::new(id), ..publish(topic, payload, qos, false) };
    bottle.send(line, &Packet::Publish(publish), Version::V311);
    bottle.drain(line);
}

#[test]
fn queues_are_charged() {
    for (payload_bytes, count) in [(1, 6_000_u16), (1000, 3000), (100_000, 100)] {
        let (mut bottle, publisher) = offline_and_publisher("t");
        compare(&format!("queue of {payload_bytes}"), &mut bottle, |bottle| {
            for id in 1..=count {
                let payload = vec![7; payload_bytes];
                publish_at(bottle, publisher, "t", &payload, QoS::AtLeastOnce, id);
            }
        });
        assert_eq!(bottle.harness.counters().ledger.queued, count.into());
    }
}

/// Queues share a payload, and it is charged once.
#[test]
fn a_shared_payload_is_charged_once() {
    let mut bottle = Bottle::new(1);
    for number in 0..1000 {
        let line = bottle.connect(&client_id(number), Version::V311);
        bottle.subscribe(line, "t", Version::V311);
        bottle.close(line);
    }
    let publisher = bottle.connect("publisher", Version::V311);
    compare("shared payload", &mut bottle, |bottle| {
        for id in 1..=6 {
            publish_at(bottle, publisher, "t", &[7; 100_000], QoS::AtLeastOnce, id);
        }
    });
}

#[test]
fn deliveries_in_flight_are_charged_and_given_back() {
    let (mut bottle, line) = one_shard();
    bottle.subscribe(line, "t", Version::V5);
    let publisher = bottle.connect("publisher", Version::V311);
    bottle.drain(line);
    compare("in flight", &mut bottle, |bottle| {
        for id in 1..=800 {
            publish_at(bottle, publisher, "t", &[7; 200], QoS::AtLeastOnce, id);
            bottle.drain(line);
        }
    });
    let before = charged(&mut bottle);
    for id in 1..=800 {
        let ack = Ack::success(PacketId::new(id).unwrap());
        bottle.send(line, &Packet::Puback(ack), Version::V5);
    }
    assert!(charged(&mut bottle) < before - 800 * 200, "what is acknowledged is given back");
}

fn subscribe_all(bottle: &mut Bottle, line: Line, filters: impl Iterator<Item = String>) {
    for filter in filters {
        bottle.subscribe(line, &filter, Version::V5);
        bottle.drain(line);
    }
}

#[test]
fn filters_are_charged() {
    type Name = fn(usize) -> String;
    let kinds: [(&str, Name); 4] = [
        ("exact filters", |number| format!("plant/7/sensor/{number:08}")),
        ("filters with wildcards", |number| format!("plant/+/sensor/{number:08}/#")),
        ("long filters", |number| format!("{number:08}{}", "x".repeat(2000))),
        ("shared filters", |number| format!("$share/group{number:08}/plant/7")),
    ];
    for (what, name) in kinds {
        for shard_count in [1, 2] {
            let mut bottle = Bottle::new(shard_count);
            let line = bottle.connect("one", Version::V5);
            let count = if what == "long filters" { 3000 } else { 24 * 1024 };
            compare(&format!("{what} on {shard_count}"), &mut bottle, |bottle| {
                subscribe_all(bottle, line, (0..count).map(name));
            });
        }
    }
}

#[test]
fn retained_messages_are_charged() {
    for (payload_bytes, count) in [(10, 24 * 1024), (10_000, 200)] {
        let (mut bottle, line) = one_shard();
        compare(&format!("retained of {payload_bytes}"), &mut bottle, |bottle| {
            for number in 0..count {
                let payload = vec![7; payload_bytes];
                bottle.publish(line, &format!("plant/7/sensor/{number:08}"), &payload, true);
            }
        });
    }
}

#[test]
fn retained_messages_that_expire_are_charged() {
    let (mut bottle, line) = one_shard();
    compare("retained, expiring", &mut bottle, |bottle| {
        for number in 0..24 * 1024_u32 {
            let mut buffer = Vec::new();
            let expiry = Property::MessageExpiryIntervalS(1000 + number);
            let properties = Properties::write([expiry], &mut buffer);
            let topic = format!("plant/7/sensor/{number:08}");
            bottle.publish_with(line, &topic, &[7; 10], true, properties);
        }
    });
}

pub(crate) fn connect_with(bottle: &mut Bottle, client_id: &str, will: Option<Will<'_>>) -> Line {
    let line = bottle.harness.open();
    let mut buffer = Vec::new();
    let expiry = Property::SessionExpiryIntervalS(7200);
    let properties = Properties::write([expiry, Property::TopicAliasMaximum(64)], &mut buffer);
    let connect = connect(Version::V5, client_id, false);
    let connect = Connect { keep_alive_s: 60, properties, will, ..connect };
    bottle.send(line, &Packet::Connect(connect), Version::V5);
    if bottle.is_open(line) {
        bottle.drain(line);
    }
    line
}

#[test]
fn sessions_and_their_client_identifiers_are_charged() {
    for padding in [0, 1000] {
        let mut bottle = Bottle::new(1);
        compare(&format!("sessions, {padding} more bytes"), &mut bottle, |bottle| {
            for number in 0..24 * 1024 {
                let name = format!("{}{}", client_id(number), "x".repeat(padding));
                let line = connect_with(bottle, &name, None);
                bottle.close(line);
            }
        });
    }
}

#[test]
fn wills_that_wait_are_charged() {
    for payload_bytes in [0, 1000] {
        wills_are_charged(payload_bytes);
    }
}

fn wills_are_charged(payload_bytes: usize) {
    let mut bottle = Bottle::new(1);
    let payload = vec![7; payload_bytes];
    compare(&format!("wills of {payload_bytes}"), &mut bottle, |bottle| {
        for number in 0..24 * 1024 {
            let mut buffer = Vec::new();
            let delay = Property::WillDelayIntervalS(7200);
            let will = Will {
                qos: QoS::AtMostOnce,
                retain: false,
                properties: Properties::write([delay], &mut buffer),
                topic: TopicName::parse("will").unwrap(),
                payload: &payload,
            };
            let line = connect_with(bottle, &client_id(number), Some(will));
            bottle.close(line);
        }
    });
}

#[test]
fn connections_are_charged() {
    let mut bottle = Bottle::new(1);
    compare("connections", &mut bottle, |bottle| {
        for number in 0..24 * 1024 {
            connect_with(bottle, &client_id(number), None);
        }
    });
}

#[test]
fn topic_aliases_are_charged_both_ways() {
    let (mut bottle, _) = one_shard();
    let readers: Vec<Line> = (0..100)
        .map(|number| {
            let line = connect_with(&mut bottle, &client_id(number), None);
            bottle.subscribe(line, "#", Version::V5);
            line
        })
        .collect();
    readers.iter().for_each(|line| _ = bottle.drain(*line));
    compare("topic aliases", &mut bottle, |bottle| {
        for alias in 1..=40 {
            let mut buffer = Vec::new();
            let properties = Properties::write([Property::TopicAlias(alias)], &mut buffer);
            let topic = format!("{alias:02}/{}", "x".repeat(400));
            bottle.publish_with(readers[0], &topic, b"", false, properties);
            readers.iter().for_each(|line| _ = bottle.drain(*line));
        }
    });
}

#[test]
fn parts_of_packets_are_charged() {
    let mut bottle = Bottle::new(1);
    let lines: Vec<Line> =
        (0..20).map(|number| connect_with(&mut bottle, &client_id(number), None)).collect();
    compare("parts of packets", &mut bottle, |bottle| {
        for line in &lines {
            let part = [b"\x30\x80\x80\x04\0\x01t".as_slice(), &[7; 60_000]].concat();
            for bytes in part.chunks(2048) {
                bottle.send_raw(*line, bytes);
            }
        }
    });
}

#[test]
fn identifiers_of_qos_2_are_charged() {
    let mut bottle = Bottle::new(1);
    let lines: Vec<Line> =
        (0..10).map(|number| bottle.connect(&client_id(number), Version::V311)).collect();
    compare("identifiers of QoS 2", &mut bottle, |bottle| {
        for line in &lines {
            for id in 1..=40_000 {
                publish_at(bottle, *line, "t", b"", QoS::ExactlyOnce, id);
            }
        }
    });
}

/// A session subscribes with many overlapping filters, each with an identifier, which the route of
/// each topic remembers.
#[test]
fn routes_are_charged() {
    let (mut bottle, line) = one_shard();
    for number in 0..1 << 8 {
        let level = |bit: usize| if number >> bit & 1 == 0 { "a" } else { "+" };
        let filter: Vec<&str> = (0..8).map(level).collect();
        let filter = format!("{}/#", filter.join("/"));
        let mut buffers = (Vec::new(), Vec::new());
        let subscription = Subscription {
            filter: TopicFilter::parse(&filter).unwrap(),
            options: SubscriptionOptions::default(),
        };
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            properties: Properties::write(
                [Property::SubscriptionIdentifier(number as u32 + 1)],
                &mut buffers.0,
            ),
            subscriptions: Subscriptions::write(Version::V5, &[subscription], &mut buffers.1),
        };
        bottle.send(line, &Packet::Subscribe(subscribe), Version::V5);
    }
    bottle.drain(line);
    let publisher = bottle.connect("publisher", Version::V311);
    compare("routes", &mut bottle, |bottle| {
        for number in 0..1200 {
            publish_at(
                bottle,
                publisher,
                &format!("a/a/a/a/a/a/a/a/{number}"),
                b"",
                QoS::AtMostOnce,
                0,
            );
            bottle.drain(line);
        }
    });
}

/// A client that does not read.
#[test]
fn outboxes_are_charged() {
    for payload_bytes in [100, 20_000] {
        let (mut bottle, line) = one_shard();
        bottle.subscribe(line, "t", Version::V5);
        let publisher = bottle.connect("publisher", Version::V311);
        compare(&format!("outbox of {payload_bytes}"), &mut bottle, |bottle| {
            for _ in 0..(700_000 / payload_bytes) {
                publish_at(bottle, publisher, "t", &vec![7; payload_bytes], QoS::AtMostOnce, 0);
            }
        });
    }
}
