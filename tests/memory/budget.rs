//! Memory that is short: those who hold much are refused more of it, those who hold little go on,
//! and what was taken in stays.

use std::sync::Arc;

use ringmq::metrics::{DropCause, Pool};
use ringmq::mqtt::{Packet, QoS, Version};

use crate::bottle::{Bottle, Line};
use crate::charges::{connect_with, publish_at};
use crate::client_id;

const LIMIT: usize = 8 << 20;
const PAYLOAD: [u8; 10_000] = [7; 10_000];

struct Short {
    bottle: Bottle,
    pool: Arc<Pool>,
    publisher: Line,
}

impl Short {
    fn new(shard_count: usize) -> Self {
        let pool = Arc::new(Pool::new(LIMIT, 1 << 20));
        let mut bottle = Bottle::with_pool(shard_count, &pool);
        let publisher = bottle.connect("publisher", Version::V311);
        bottle.drain(publisher);
        Self { bottle, pool, publisher }
    }

    /// An offline session that wants what is published to a topic of this name.
    fn offline(&mut self, name: &str) {
        let line = self.bottle.connect(name, Version::V311);
        self.bottle.subscribe(line, name, Version::V311);
        self.bottle.close(line);
    }

    fn publish(&mut self, topic: &str, payload: &[u8], id: u16) {
        publish_at(&mut self.bottle, self.publisher, topic, payload, QoS::AtLeastOnce, id);
        if id.is_multiple_of(10) {
            self.bottle.settle_shards();
        }
        assert!(self.pool.used() <= LIMIT + LIMIT / 20, "{} bytes are used", self.pool.used());
    }

    fn dropped(&self, cause: DropCause) -> u64 {
        self.bottle.harness.counters().ledger.dropped_for(cause)
    }

    fn queued(&self) -> u64 {
        self.bottle.harness.counters().ledger.queued
    }

    /// Whether a client that comes is accepted: CONNACK 0.
    fn accepts(&mut self, client_id: &str) -> bool {
        let line = connect_with(&mut self.bottle, client_id, None);
        let ping = Packet::Pingreq;
        self.bottle.is_open(line) && {
            self.bottle.send(line, &ping, Version::V5);
            self.bottle.drain(line) == 2
        }
    }
}

#[test]
fn who_holds_much_loses_what_is_new_and_who_holds_little_loses_nothing() {
    for (shard_count, hoarder_count) in [(1, 1), (1, 40), (4, 40)] {
        let mut short = Short::new(shard_count);
        let hoarders: Vec<String> = (0..hoarder_count).map(|n| format!("hoarder{n}")).collect();
        hoarders.iter().for_each(|name| short.offline(name));
        short.offline("modest");
        let (mut id, mut sent) = (0, 0);
        for round in 0..3000 / hoarder_count {
            for name in &hoarders {
                id = id % 1000 + 1;
                short.publish(name, &PAYLOAD, id);
            }
            if round % 5 == 0 && sent < 10 {
                sent += 1;
                short.publish("modest", &[7; 100], 1001);
            }
        }
        let dropped = short.dropped(DropCause::OverShare);
        assert!(dropped > 1000, "{dropped} of 3000 were dropped");
        let kept = short.queued();
        assert!(kept >= 70, "{kept} wait");
        assert!(short.accepts("latecomer"));
        let modest = short.bottle.connect("modest", Version::V311);
        short.bottle.pass(std::time::Duration::from_millis(20));
        let bytes = short.bottle.drain(modest);
        assert!(bytes >= 4 + sent * 100, "{bytes} bytes of {sent} deliveries");
        assert_eq!(short.bottle.harness.audit(), Ok(()));
    }
}

#[test]
fn what_is_retained_leaves_room_for_others() {
    let mut short = Short::new(1);
    for number in 0..2000 {
        let topic = format!("r/{number}");
        short.bottle.publish(short.publisher, &topic, &PAYLOAD, true);
        short.bottle.settle_shards();
    }
    let counters = short.bottle.harness.counters();
    assert!(counters.retained > 300 && counters.retained_refused > 1000, "{counters:?}");
    // The pool is told of changes of 64 KiB, once for 64 KiB that were read.
    assert!(short.pool.used() <= LIMIT / 8 * 7 + 3 * 64 * 1024, "{} bytes", short.pool.used());
    assert!(short.accepts("latecomer"));
    short.offline("modest");
    short.publish("modest", &[7; 1000], 1);
    assert_eq!(short.queued(), 1);
    short.bottle.publish(short.publisher, "r/0", b"", true);
    short.bottle.publish(short.publisher, "r/1", b"smaller", true);
    let refused = short.bottle.harness.counters().retained_refused;
    assert_eq!(refused, counters.retained_refused, "what takes less is always taken");
}

#[test]
fn filters_stop_at_the_share_of_their_session() {
    let mut short = Short::new(1);
    let hog = short.bottle.connect("hog", Version::V5);
    for number in 0..200 {
        let filter = format!("{number}/{}", "x".repeat(20_000));
        short.bottle.subscribe(hog, &filter, Version::V5);
        short.bottle.drain(hog);
        short.bottle.settle_shards();
    }
    let counters = short.bottle.harness.counters();
    assert!(counters.subscriptions_refused > 100, "{counters:?}");
    assert!((10..100).contains(&counters.subscriptions), "{counters:?}");
    short.offline("modest");
    assert_eq!(short.bottle.harness.counters().subscriptions, counters.subscriptions + 1);
}

#[test]
fn parts_of_packets_stop_at_the_share_of_their_connection() {
    let mut short = Short::new(1);
    let mut closed = 0;
    for number in 0..30 {
        let line = connect_with(&mut short.bottle, &client_id(number), None);
        short.bottle.send_raw(line, b"\x30\xff\xff\x3e\0\x01t");
        for _ in 0..450 {
            if short.bottle.is_open(line) {
                short.bottle.send_raw(line, &[7; 2048]);
                short.bottle.settle_shards();
            }
        }
        closed += usize::from(!short.bottle.is_open(line));
        assert!(short.pool.used() <= LIMIT + LIMIT / 20, "{} bytes", short.pool.used());
    }
    assert!(closed >= 20, "{closed} of 30 were closed");
    assert_eq!(short.bottle.harness.counters().closed_over_quota, closed as u64);
    assert!(short.accepts("latecomer"));
}

/// When nothing is left nobody new gets in, and when something is given back, they do again.
#[test]
fn sessions_are_refused_at_the_end_and_accepted_again() {
    let mut short = Short::new(1);
    let name = |number: usize| format!("{}{}", client_id(number), "x".repeat(20_000));
    let mut accepted = 0;
    while short.accepts(&name(accepted)) {
        accepted += 1;
        assert!(accepted < 1000);
        short.bottle.settle_shards();
    }
    assert!(accepted > 200, "{accepted}");
    assert_eq!(short.bottle.harness.counters().connections_refused_quota, 1);
    assert!(short.accepts("short-name"), "one that takes little gets in");
    short.bottle.end_sessions(accepted, name);
    short.bottle.settle_shards();
    assert!(short.accepts(&name(0)));
}

/// Half a packet each, and many of them: what is kept for those who hold little is still there.
#[test]
fn many_that_hold_some_leave_room_for_those_who_hold_little() {
    let mut short = Short::new(1);
    short.offline("modest");
    let mut open = 0;
    for number in 0..900 {
        let line = connect_with(&mut short.bottle, &client_id(number), None);
        if short.bottle.is_open(line) {
            short
                .bottle
                .send_raw(line, &[b"\x30\xff\xff\x3e\0\x01t", [7; 14_000].as_slice()].concat());
            open += usize::from(short.bottle.is_open(line));
        }
        short.bottle.settle_shards();
    }
    assert!((100..600).contains(&open), "{open} are open");
    (1..=4).for_each(|id| short.publish("modest", &[7; 100], id));
    assert_eq!((short.queued(), short.dropped(DropCause::OverShare)), (4, 0));
}

/// What nobody was promised is given up once memory is scarce, and no more of it than has to be.
#[test]
fn who_reads_least_is_closed_when_memory_is_scarce() {
    let mut short = Short::new(1);
    let reader = |short: &mut Short, number: usize, topic: &str| {
        let line = connect_with(&mut short.bottle, &client_id(number), None);
        short.bottle.subscribe(line, topic, Version::V5);
        line
    };
    let slow: Vec<Line> = (0..6).map(|number| reader(&mut short, number, "t")).collect();
    let modest = reader(&mut short, 6, "modest");
    for _ in 0..1000 {
        short.bottle.publish(short.publisher, "t", &[7; 1000], false);
        short.bottle.settle_shards();
    }
    short.bottle.publish(short.publisher, "modest", &[7; 100], false);
    for number in 10..50 {
        let line = connect_with(&mut short.bottle, &client_id(number), None);
        short.bottle.send_raw(line, &[b"\x30\xff\xff\x3e\0\x01t", [7; 30_000].as_slice()].concat());
        short.bottle.settle_shards();
    }
    assert!(short.pool.free() < LIMIT / 8, "{} bytes are free", short.pool.free());
    assert!(slow.iter().all(|line| short.bottle.is_open(*line)), "it may be scarce for a moment");
    let before = short.bottle.harness.counters().closed_over_quota;
    short.bottle.pass(std::time::Duration::from_millis(150));
    short.bottle.settle_shards();
    let open = slow.iter().filter(|line| short.bottle.is_open(**line)).count();
    assert!((4..6).contains(&open), "{open} of 6 are open");
    assert!(short.bottle.is_open(modest));
    assert!(short.pool.free() >= LIMIT / 8, "{} bytes are free", short.pool.free());
    let closed = short.bottle.harness.counters().closed_over_quota;
    assert_eq!(closed - before, 6 - open as u64, "nobody else is closed");
}
