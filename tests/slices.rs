//! A publish to very many subscribers is delivered slice by slice: other topics go on meanwhile,
//! nobody gets anything twice or out of order, and it is acknowledged when it is done.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use harness::direct::{self, Direct, overlapping};
use harness::shards::{ALL, Harness};
use harness::world::Plain;
use ringmq::config::Limits;
use ringmq::mqtt::{Ack, Disconnect, Packet, PacketId, QoS, ReasonCode, Version};
use ringmq::shard::Slices;

const VERSION: Version = Version::V311;

/// One shard and its clients.
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

impl Broker {
    fn new(slices: Slices) -> Self {
        Self::with_limits(slices, Limits::default())
    }

    fn with_limits(slices: Slices, limits: Limits) -> Self {
        Self(Direct::new(Harness::new(1, ALL, limits, 1, Plain).with_slices(slices), VERSION))
    }

    fn connect(&mut self) -> usize {
        self.connect_with(true)
    }

    fn connect_with(&mut self, clean_start: bool) -> usize {
        let client_id = format!("c{}", self.harness.ends.len());
        let number = self.0.connect(&client_id, clean_start, &[], &[]);
        self.receive(number);
        number
    }

    fn subscriber(&mut self, filter: &str) -> usize {
        let number = self.connect();
        self.subscribe(number, filter);
        number
    }

    fn subscribe(&mut self, number: usize, filter: &str) {
        self.subscribe_at(number, filter, QoS::AtMostOnce);
        self.receive(number);
    }

    fn subscribe_at(&mut self, number: usize, filter: &str, qos: QoS) {
        self.send_bytes(number, &direct::subscribe(VERSION, qos, &[filter]));
    }

    fn unsubscribe(&mut self, number: usize, filter: &str) {
        self.send_bytes(number, &direct::unsubscribe(VERSION, &[filter]));
    }

    /// The payloads that came since the last look, and `ack` for each acknowledgement.
    fn receive(&mut self, number: usize) -> Vec<String> {
        self.receive_with_ids(number).into_iter().map(|(_, text)| text).collect()
    }

    /// The same, each with the packet identifier that it came with.
    fn receive_with_ids(&mut self, number: usize) -> Vec<(Option<PacketId>, String)> {
        let received = self.0.receive(number, |packet| match packet {
            Packet::Publish(publish) => {
                let text = String::from_utf8_lossy(publish.payload).into_owned();
                Some((publish.packet_id, text))
            }
            Packet::Puback(ack) => Some((Some(ack.packet_id), "ack".to_owned())),
            _ => None,
        });
        received.into_iter().flatten().collect()
    }

    fn finish(&mut self) {
        while self.turn() {}
        assert_eq!(self.harness.audit(), Ok(()));
        assert_eq!(self.harness.counters().put_off, 0);
    }
}

fn publish<'a>(topic: &'a str, payload: &'a str, qos: QoS) -> Packet<'a> {
    Packet::Publish(direct::publish(topic, payload.as_bytes(), qos, false))
}

fn at_qos0<'a>(topic: &'a str, payload: &'a str) -> Packet<'a> {
    publish(topic, payload, QoS::AtMostOnce)
}

fn retained<'a>(topic: &'a str, payload: &'a str) -> Packet<'a> {
    Packet::Publish(direct::publish(topic, payload.as_bytes(), QoS::AtLeastOnce, true))
}

fn slices_of(subscriber_count: usize) -> Slices {
    Slices { subscriber_count, ..Slices::default() }
}

#[test]
fn another_topic_goes_on_between_the_slices_of_100_000_subscribers() {
    const COUNT: u64 = 100_000;
    let mut broker = Broker::new(Slices::default());
    for _ in 0..COUNT {
        broker.subscriber("big");
    }
    let watcher = broker.subscriber("small");
    let (one, other) = (broker.connect(), broker.connect());
    broker.send(one, &[publish("big", "to all", QoS::AtLeastOnce)]);
    let (mut turns, mut before) = (0, 0);
    loop {
        broker.send(other, &[at_qos0("small", "in between")]);
        assert_eq!(broker.receive(watcher), ["in between"], "in turn {turns}");
        let sent = broker.harness.counters().deliveries_sent_qos0 - turns - 1;
        assert!(sent - before <= Slices::default().subscriber_count as u64, "{sent}");
        if turns == 3 {
            assert_eq!(broker.harness.audit(), Ok(()));
        }
        let acknowledged = broker.receive(one);
        assert_eq!(acknowledged == ["ack"], sent == COUNT, "{sent} have it");
        if sent == COUNT {
            break;
        }
        assert!(broker.turn(), "{sent} of them have it");
        (turns, before) = (turns + 1, sent);
    }
    assert!(turns >= COUNT / Slices::default().subscriber_count as u64);
    for number in 0..COUNT as usize {
        assert_eq!(broker.receive(number), ["to all"]);
    }
}

#[test]
fn what_one_client_publishes_comes_in_its_order() {
    let mut broker = Broker::new(slices_of(4));
    let subscribers: Vec<usize> = (0..20).map(|_| broker.subscriber("+")).collect();
    let publisher = broker.connect();
    let packets = ["1", "2", "3", "4"].map(|payload| at_qos0("big", payload));
    broker.send(publisher, &packets);
    broker.send(publisher, &[at_qos0("other", "5"), at_qos0("big", "6")]);
    broker.finish();
    for subscriber in subscribers {
        assert_eq!(broker.receive(subscriber), ["1", "2", "3", "4", "5", "6"]);
    }
}

#[test]
fn publishes_that_wait_together_are_delivered_together() {
    let mut broker = Broker::new(slices_of(4));
    let subscribers: Vec<usize> = (0..20).map(|_| broker.subscriber("big")).collect();
    let publisher = broker.connect();
    broker.send(publisher, &["1", "2", "3"].map(|payload| at_qos0("big", payload)));
    for turn in 0..5 {
        assert!(broker.turn());
        let with_all = subscribers.iter().filter(|s| broker.receive(**s) == ["1", "2", "3"]);
        assert_eq!(with_all.count(), 4, "in turn {turn}");
    }
    assert!(!broker.turn());
}

#[test]
fn who_comes_in_the_middle_gets_nothing_and_who_goes_breaks_nothing() {
    let mut broker = Broker::new(slices_of(4));
    let subscribers: Vec<usize> = (0..20).map(|_| broker.subscriber("big")).collect();
    let publisher = broker.connect();
    broker.send(publisher, &[publish("big", "before", QoS::AtLeastOnce)]);
    assert!(broker.turn());
    // The first has it and the last has not; both are gone, and others are in their places.
    for gone in [subscribers[0], subscribers[19]] {
        broker.send(gone, &[Packet::Disconnect(Disconnect::because(ReasonCode::Success))]);
        assert!(broker.is_closed(gone));
    }
    let newcomers = [broker.subscriber("big"), broker.subscriber("big")];
    broker.send(publisher, &[at_qos0("big", "after")]);
    broker.finish();
    for newcomer in newcomers {
        assert_eq!(broker.receive(newcomer), ["after"]);
    }
    for subscriber in &subscribers[1..19] {
        assert_eq!(broker.receive(*subscriber), ["before", "after"]);
    }
    assert_eq!(broker.receive(publisher), ["ack"]);
    assert_eq!(broker.harness.counters().ledger.matched, 19 + 20);
}

/// A publish that waits may not be joined by one that others are to get.
#[test]
fn who_subscribes_while_a_publish_waits_gets_what_is_published_after_suback() {
    let mut broker = Broker::new(slices_of(4));
    let subscribers: Vec<usize> = (0..20).map(|_| broker.subscriber("big")).collect();
    let publisher = broker.connect();
    broker.send(publisher, &[publish("big", "before", QoS::AtLeastOnce)]);
    let newcomer = broker.subscriber("big");
    broker.send(publisher, &[publish("big", "after", QoS::AtLeastOnce)]);
    broker.finish();
    assert_eq!(broker.receive(newcomer), ["after"]);
    for subscriber in subscribers {
        assert_eq!(broker.receive(subscriber), ["before", "after"]);
    }
    assert_eq!(broker.receive(publisher), ["ack", "ack"]);
    assert_eq!(broker.harness.counters().ledger.matched, 20 + 21);
}

/// The same for who leaves: what is published after UNSUBACK does not come.
#[test]
fn who_unsubscribes_while_a_publish_waits_gets_nothing_that_is_published_after_unsuback() {
    let mut broker = Broker::new(slices_of(4));
    let subscribers: Vec<usize> = (0..20).map(|_| broker.subscriber("big")).collect();
    let publisher = broker.connect();
    broker.send(publisher, &[at_qos0("big", "before")]);
    broker.unsubscribe(subscribers[19], "big");
    broker.send(publisher, &[at_qos0("big", "after")]);
    broker.finish();
    let last = broker.receive(subscribers[19]);
    assert!(!last.contains(&"after".to_owned()), "{last:?}");
    for subscriber in &subscribers[..19] {
        assert_eq!(broker.receive(*subscriber), ["before", "after"]);
    }
}

/// The member was online when it was chosen, and is not when its turn comes.
#[test]
fn what_waits_for_a_shared_member_that_goes_offline_comes_to_another() {
    let mut broker = Broker::new(slices_of(4));
    (0..20).for_each(|_| _ = broker.subscriber("big"));
    let members = [broker.connect_with(false), broker.connect_with(false)];
    for member in members {
        broker.subscribe_at(member, "$share/g/+", QoS::AtLeastOnce);
        broker.receive(member);
    }
    let publisher = broker.connect();
    broker.send(publisher, &[publish("big", "one", QoS::AtLeastOnce)]);
    assert_eq!(members.map(|member| broker.receive(member).len()), [0, 0], "it was not put off");
    broker.lose(members[0]);
    broker.finish();
    assert_eq!(broker.receive(members[1]), ["one"]);
    assert_eq!(broker.receive(publisher), ["ack"]);
    let ledger = broker.harness.counters().ledger;
    assert_eq!((ledger.queued, ledger.in_flight), (0, 1));
}

/// One at a time is acknowledged: what is retained waits at its owner, not in the queue.
#[test]
fn retained_messages_come_no_faster_than_the_queue_of_the_subscriber_takes_them() {
    const COUNT: usize = 200;
    let limits = Limits { queue_count_max: 64, inflight_count_max: 1, ..Limits::default() };
    let mut broker = Broker::with_limits(Slices::default(), limits);
    let publisher = broker.connect();
    for number in 0..COUNT {
        broker.send(publisher, &[retained(&format!("r/{number}"), &number.to_string())]);
    }
    assert_eq!(broker.receive(publisher).len(), COUNT);
    let subscriber = broker.connect();
    broker.subscribe_at(subscriber, "r/#", QoS::AtLeastOnce);
    let mut came: Vec<usize> = Vec::new();
    for _ in 0..10 * COUNT {
        for (id, payload) in broker.receive_with_ids(subscriber) {
            came.push(payload.parse().expect("payloads are numbers"));
            let ack = Ack::success(id.expect("it came at QoS 1"));
            broker.send(subscriber, &[Packet::Puback(ack)]);
        }
        broker.turn();
        broker.pass(Duration::from_millis(16));
        assert_eq!(broker.harness.audit(), Ok(()));
    }
    came.sort_unstable();
    assert_eq!(came, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(broker.harness.counters().ledger.dropped_total(), 0);
}

#[test]
fn two_large_publishes_take_turns() {
    let mut broker = Broker::new(slices_of(8));
    let one: Vec<usize> = (0..100).map(|_| broker.subscriber("one")).collect();
    let other: Vec<usize> = (0..100).map(|_| broker.subscriber("other")).collect();
    let publishers = [broker.connect(), broker.connect()];
    broker.send(publishers[0], &[at_qos0("one", "1")]);
    broker.send(publishers[1], &[at_qos0("other", "2")]);
    for _ in 0..3 {
        assert!(broker.turn());
    }
    let mut with_it =
        |all: &[usize]| all.iter().filter(|s| !broker.receive(**s).is_empty()).count();
    assert_eq!((with_it(&one), with_it(&other)), (12, 12));
    broker.finish();
}

#[test]
fn a_client_that_puts_off_too_much_is_not_read_and_the_others_are() {
    let mut broker = Broker::new(Slices { put_off_of_one_max: 3, ..slices_of(4) });
    let subscribers: Vec<usize> = (0..20).map(|_| broker.subscriber("big")).collect();
    let watcher = broker.subscriber("small");
    let (flooder, other) = (broker.connect(), broker.connect());
    let payloads: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    let packets: Vec<Packet<'_>> = payloads.iter().map(|text| at_qos0("big", text)).collect();
    broker.send(flooder, &packets);
    assert_eq!(broker.harness.counters().put_off, 3);
    assert!(broker.is_paused(flooder));
    broker.send(other, &[at_qos0("small", "read")]);
    assert_eq!(broker.receive(watcher), ["read"]);
    broker.finish();
    assert!(!broker.is_paused(flooder));
    for subscriber in subscribers {
        assert_eq!(broker.receive(subscriber), payloads);
    }
}

#[test]
fn publishers_are_not_read_while_too_much_is_put_off_and_all_have_their_turn() {
    let slices = Slices { put_off_count_max: 4, put_off_of_one_max: 100, ..slices_of(4) };
    let mut broker = Broker::new(slices);
    let subscriber = broker.subscriber("+");
    let others: Vec<usize> = (0..9).map(|_| broker.subscriber("big")).collect();
    let publishers: Vec<usize> = (0..10).map(|_| broker.connect()).collect();
    for publisher in &publishers {
        let texts: Vec<String> = (0..40).map(|number| format!("{publisher} {number}")).collect();
        let packets: Vec<Packet<'_>> = texts.iter().map(|text| at_qos0("big", text)).collect();
        broker.send(*publisher, &packets);
    }
    assert_eq!(broker.harness.counters().put_off, 4);
    assert_eq!(publishers.iter().filter(|p| broker.is_paused(**p)).count(), 10);
    broker.finish();
    assert!(publishers.iter().all(|publisher| !broker.is_paused(*publisher)));
    let received = broker.receive(subscriber);
    assert_eq!(received.len(), 400);
    assert!(others.iter().all(|other| broker.receive(*other) == received));
    // Every publisher has had its turn before the first has had its third.
    let place = |text: String| received.iter().position(|other| *other == text).unwrap();
    let firsts = publishers.iter().map(|publisher| place(format!("{publisher} 0")));
    assert!(firsts.max().unwrap() < place(format!("{} 12", publishers[0])), "{received:?}");
}

#[test]
fn what_is_put_off_when_the_broker_stops_is_counted() {
    let mut broker = Broker::new(slices_of(4));
    (0..20).for_each(|_| _ = broker.subscriber("big"));
    let publisher = broker.connect();
    broker.send(publisher, &[at_qos0("big", "1"), at_qos0("big", "2")]);
    assert!(broker.turn());
    broker.harness.shut_down();
    assert_eq!(broker.harness.audit(), Ok(()));
    let counters = broker.harness.counters();
    assert_eq!((counters.ledger.matched, counters.ledger.delivered), (40, 8));
    assert!(!broker.turn());
}

fn few_matches(match_count: usize) -> Slices {
    Slices { match_count, ..Slices::default() }
}

#[test]
fn who_has_very_many_filters_that_match_gets_one_copy_in_its_order() {
    let (filters, topic) = overlapping(7);
    let mut broker = Broker::new(few_matches(10));
    let (one, watcher) = (broker.connect(), broker.subscriber("+/small"));
    filters.iter().for_each(|filter| broker.subscribe(one, filter));
    let other = broker.subscriber("#");
    let publisher = broker.connect();
    broker.send(publisher, &[publish(&topic, "1", QoS::AtLeastOnce), at_qos0("b/c", "2")]);
    broker.send(other, &[at_qos0("a/small", "between")]);
    assert_eq!(broker.receive(watcher), ["between"], "others go on");
    assert_eq!(broker.receive(one), [""; 0]);
    let mut turns = 0;
    while broker.turn() {
        turns += 1;
        assert_eq!(broker.harness.audit(), Ok(()));
    }
    assert!(turns > 2, "{turns}");
    assert_eq!(broker.receive(one), ["1"]);
    assert_eq!(broker.receive(other), ["between", "1", "2"]);
    assert_eq!(broker.receive(publisher), ["ack"]);
    broker.send(publisher, &[at_qos0(&topic, "3")]);
    assert_eq!(broker.receive(one), ["3"], "it is remembered who gets it");
}

/// It always has one that matches, wherever the search has come to.
#[test]
fn who_changes_one_filter_for_another_while_a_publish_waits_misses_nothing() {
    let (filters, topic) = overlapping(5);
    for (before, after) in [("#", &*topic), (&*topic, "#"), ("a/+/#", "a/a/#"), ("a/#", "+/#")] {
        for turns in 0..12 {
            let mut broker = Broker::new(few_matches(4));
            let many = broker.connect();
            filters.iter().for_each(|filter| broker.subscribe(many, filter));
            let one = broker.subscriber(before);
            let publisher = broker.connect();
            broker.send(publisher, &[at_qos0(&topic, "x")]);
            (0..turns).for_each(|_| _ = broker.turn());
            broker.subscribe_at(one, after, QoS::AtMostOnce);
            broker.unsubscribe(one, before);
            broker.finish();
            assert_eq!(broker.receive(one), ["x"], "{before} and {after}, {turns}");
            assert_eq!(broker.receive(many), ["x"]);
            broker.send(publisher, &[at_qos0(&topic, "y")]);
            broker.finish();
            broker.unsubscribe(one, after);
            broker.send(publisher, &[at_qos0(&topic, "z")]);
            broker.finish();
            assert_eq!(broker.receive(one), ["y"], "{before} and {after}, {turns}");
            assert_eq!(broker.receive(many), ["y", "z"]);
        }
    }
}

#[test]
fn who_subscribes_while_a_publish_is_searched_for_gets_what_is_published_after_suback() {
    let (filters, topic) = overlapping(5);
    for turns in 0..12 {
        for filter in ["#", &*topic] {
            let mut broker = Broker::new(few_matches(4));
            let many = broker.connect();
            filters.iter().for_each(|filter| broker.subscribe(many, filter));
            let publisher = broker.connect();
            broker.send(publisher, &[publish(&topic, "before", QoS::AtLeastOnce)]);
            (0..turns).for_each(|_| _ = broker.turn());
            let newcomer = broker.subscriber(filter);
            broker.send(publisher, &[publish(&topic, "after", QoS::AtLeastOnce)]);
            broker.finish();
            assert_eq!(broker.receive(newcomer), ["after"], "{filter}, {turns}");
            assert_eq!(broker.receive(many), ["before", "after"]);
            assert_eq!(broker.receive(publisher), ["ack", "ack"]);
        }
    }
}

#[test]
fn very_many_subscribers_of_one_filter_are_found_piece_by_piece() {
    let mut broker = Broker::new(few_matches(20));
    let subscribers: Vec<usize> = (0..500).map(|_| broker.subscriber("big")).collect();
    let publisher = broker.connect();
    broker.send(publisher, &[publish("big", "x", QoS::AtLeastOnce)]);
    assert!(broker.turn());
    broker.lose(subscribers[0]);
    broker.unsubscribe(subscribers[499], "big");
    broker.finish();
    for subscriber in &subscribers[1..] {
        assert_eq!(broker.receive(*subscriber), ["x"]);
    }
    assert_eq!(broker.receive(publisher), ["ack"]);
}

#[test]
fn what_is_searched_for_when_the_broker_stops_is_for_nobody() {
    let (filters, topic) = overlapping(5);
    let mut broker = Broker::new(few_matches(4));
    let many = broker.connect();
    filters.iter().for_each(|filter| broker.subscribe(many, filter));
    let publisher = broker.connect();
    broker.send(publisher, &[at_qos0(&topic, "x")]);
    assert!(broker.turn());
    broker.harness.shut_down();
    assert_eq!(broker.harness.audit(), Ok(()));
    assert!(!broker.turn());
}
