//! The worst that one client can ask for in one input, of each kind: what it is given in one piece
//! or all at once, and how much of that one input takes at most.
//!
//! A kind is run twice in the same way: the first time tells which input has used most units of
//! work, the second time this one alone goes through [`counted`], where callgrind looks.

use std::time::{Duration, Instant};

use ahash::RandomState;
use ringmq::auth::{AuthRequest, Verdict};
use ringmq::config::{Config, Limits};
use ringmq::mqtt::ReasonCode;
use ringmq::routing::{Partition, ShardId};
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Full, Input, Message, Outbox, Output, Shard};
use ringmq::storage::{Record, Token};

const SEED: [u64; 4] = [11, 22, 33, 44];
/// The largest packet of the default configuration.
const PACKET_BYTES: usize = 1 << 20;

/// A kind of input: its name, and what gives it to a broker.
type Kind = (&'static str, fn(&mut Broker));

/// What is done to a broker, by name.
pub(crate) const KINDS: &[Kind] = &[
    ("SUBSCRIBE, 262,000 times the same filter", |broker| {
        broker.subscribe_all("one", vec!["#".to_owned(); PACKET_BYTES / 4 - 10].into_iter());
    }),
    ("SUBSCRIBE, 60,000 filters", |broker| {
        broker.subscribe_all("one", exact(60_000));
    }),
    ("SUBSCRIBE, 32,768 filters with wildcards", |broker| {
        broker.subscribe_all("one", overlapping(15));
    }),
    ("SUBSCRIBE, filters of 20,000 bytes", |broker| {
        broker.subscribe_all("one", long_filters());
    }),
    ("UNSUBSCRIBE, 60,000 filters", |broker| {
        let one = broker.subscribe_all("one", exact(60_000));
        broker.give_whole(one, &unsubscribe(exact(60_000)));
    }),
    ("end of a session with 60,000 filters", |broker| {
        let one = broker.subscribe_all("one", exact(60_000));
        broker.forget_worst();
        broker.close(one);
    }),
    ("end of a session with filters of 20,000 bytes", |broker| {
        let one = broker.subscribe_all("one", long_filters());
        broker.forget_worst();
        broker.close(one);
    }),
    ("end of 3,000 sessions together", expire_together),
    ("PUBLISH to 2,048 subscribers, QoS 0", |broker| fan_out(broker, 2048, 0)),
    ("PUBLISH to 2,048 subscribers, QoS 2", |broker| fan_out(broker, 2048, 2)),
    ("PUBLISH to 20,000 subscribers, QoS 1", |broker| fan_out(broker, 20_000, 1)),
    ("PUBLISH to 20,000 new subscribers, QoS 0", |broker| {
        for number in 0..20_000 {
            broker.subscribe_all(&number.to_string(), ["t".to_owned()].into_iter());
        }
        let one = broker.connect("one", 0);
        broker.forget_worst();
        broker.give_whole(one, &publish("t", 0, false));
    }),
    ("PUBLISH that 65,536 filters of one match", |broker| {
        broker.subscribe_all("one", overlapping(16));
        let two = broker.connect("two", 0);
        let topics = (0..50).map(|number| format!("{}{number}", "a/".repeat(16)));
        let packets = topics.flat_map(|topic| publish(&topic, 0, false));
        broker.forget_worst();
        broker.give_whole(two, &packets.collect::<Vec<u8>>());
    }),
    ("PUBLISH that 32 filters of 60,000 bytes match", |broker| {
        let name = "f".repeat(60_000);
        broker.subscribe_all("one", overlapping(5).map(|filter| format!("{name}/{filter}")));
        let two = broker.connect("two", 0);
        let topics = (0..15).map(|number| format!("{name}/{}{number}", "a/".repeat(5)));
        broker.forget_worst();
        let packets = topics.flat_map(|topic| publish(&topic, 0, false));
        broker.give_whole(two, &packets.collect::<Vec<u8>>());
    }),
    ("PUBLISH to 4,096 groups of four clients", |broker| {
        for client in 0..4 {
            let groups = (0..1024).map(|number| format!("$share/g{client}-{number}/t"));
            broker.subscribe_all(&format!("one{client}"), groups);
        }
        let two = broker.connect("two", 0);
        broker.forget_worst();
        broker.give_whole(two, &publish("t", 0, false));
    }),
    ("PUBLISH to 2,048, 16 KB", |broker| {
        for number in 0..2048 {
            broker.subscribe_all(&number.to_string(), ["t".to_owned()].into_iter());
        }
        let two = broker.connect("two", 0);
        broker.forget_worst();
        broker.give_whole(two, &publish_of("t", 0, false, &[7; 16_000]));
    }),
    ("PUBLISH with 8,192 user properties", |broker| {
        broker.subscribe_all("one", ["t".to_owned()].into_iter());
        let two = broker.connect("two", 0);
        broker.forget_worst();
        broker.give_whole(two, &with_user_properties(8192, b"key"));
    }),
    ("PUBLISH after 1,000 changes of long filters", |broker| {
        let prefix = "f".repeat(240);
        let two = broker.connect("two", 0);
        for number in 0..1000 {
            broker.give_whole(two, &publish(&format!("{prefix}/{number}"), 0, false));
        }
        let filters = (0..1000).map(|number| format!("{prefix}/x{number}/+"));
        broker.subscribe_all("one", filters);
        broker.forget_worst();
        let topics = (0..1000).map(|number| format!("{prefix}/{number}"));
        broker.give_whole(two, &topics.flat_map(|t| publish(&t, 0, false)).collect::<Vec<u8>>());
    }),
    ("3,000 wills to 64 that do not read", |broker| {
        for number in 0..64 {
            broker.subscribe_all(&format!("r{number}"), ["w".to_owned()].into_iter());
        }
        let ids: Vec<_> = (0..3000).map(|n| broker.connect_with_will(&n.to_string())).collect();
        ids.into_iter().for_each(|id| broker.close(id));
        broker.now = broker.now + Duration::from_secs(60);
        broker.forget_worst();
        broker.handle(Input::Timeout);
        let other = broker.connect("other", 0);
        broker.finish(other);
    }),
    ("100,000 timers together", |broker| {
        for _ in 0..100_000 {
            broker.effects.outboxes.push(Outbox::default());
            let index = broker.effects.outboxes.len() as u32 - 1;
            let id = ConnectionId { index, generation: 1 };
            broker.handle(Input::Opened { connection: id });
            broker.handle(Input::Closed { connection: id });
        }
        broker.forget_worst();
        broker.now = broker.now + Duration::from_secs(60);
        broker.handle(Input::Timeout);
        let other = broker.connect("other", 0);
        broker.finish(other);
    }),
    ("1,024 shared filters that overlap", |broker| {
        broker.subscribe_all("one", overlapping(10).map(|filter| format!("$share/g/{filter}")));
        let two = broker.connect("two", 0);
        broker.forget_worst();
        broker.give_whole(two, &publish(&"a/".repeat(10), 0, false));
    }),
    ("flood of PUBLISH that nobody wants", |broker| {
        let one = broker.connect("one", 0);
        let packets = (0..20_000).flat_map(|number| publish(&format!("{number:x}"), 0, false));
        broker.give_whole(one, &packets.collect::<Vec<u8>>());
    }),
    ("flood of PINGREQ", |broker| {
        let one = broker.connect("one", 0);
        broker.give_whole(one, &[0xC0, 0].repeat(100_000));
    }),
    ("retained messages of 3,000 filters", |broker| {
        let one = broker.connect("one", 0);
        for number in 0..3000 {
            broker.give_whole(one, &publish(&format!("{number:x}/a"), 0, true));
        }
        let filters = (0..3000).map(|number| format!("+/{}", number % 2));
        broker.forget_worst();
        broker.subscribe_all("two", ["+/a".to_owned()].into_iter().chain(filters));
    }),
    ("resume of a session with a full window", |broker| resume(broker, "t")),
    ("resume of a client that takes no more", |broker| {
        broker.packet_bytes_max = 64;
        resume(broker, "$share/g/t");
    }),
    ("PUBLISH to 64 full queues that expire", expire_in_queues),
    ("end of a session with a full queue", |broker| end_with_queue(broker, "t")),
    ("end of a member with a full queue", |broker| end_with_queue(broker, "$share/g/t")),
];

/// The worst input of a kind.
pub(crate) struct Worst {
    /// Units of work.
    pub(crate) units: u64,
    /// Time that it took.
    pub(crate) busy: Duration,
}

/// What else runs on the machine disturbs no input this often.
const PASSES: usize = 3;

/// Runs a kind, and the input that takes longest through [`counted`].
pub(crate) fn run(kind: fn(&mut Broker)) -> Worst {
    let mut least: Vec<Duration> = Vec::new();
    for pass in 0..PASSES {
        let mut broker = Broker::new(None);
        kind(&mut broker);
        if pass == 0 {
            least = broker.times;
        } else {
            let pairs = least.iter_mut().zip(broker.times);
            pairs.for_each(|(least, time)| *least = time.min(*least));
        }
    }
    let longest = (0..least.len()).max_by_key(|number| least[*number]).unwrap_or(0);
    let mut broker = Broker::new(Some(longest));
    kind(&mut broker);
    Worst { units: broker.units, busy: broker.busy }
}

/// One bare shard and its clients.
pub(crate) struct Broker {
    shard: Shard,
    effects: Effects,
    now: Time,
    /// How long each input took, or nothing if it was preparation.
    times: Vec<Duration>,
    /// The input that goes through [`counted`], and its units and time.
    wanted: Option<usize>,
    units: u64,
    busy: Duration,
    /// What clients that come back take.
    packet_bytes_max: u32,
}

#[derive(Default)]
struct Effects {
    outboxes: Vec<Outbox>,
    persisted: Option<Token>,
}

impl Broker {
    fn new(wanted: Option<usize>) -> Self {
        Self {
            shard: shard(Config::default().limits),
            effects: Effects::default(),
            now: Time::START,
            times: Vec::new(),
            wanted,
            units: 0,
            busy: Duration::ZERO,
            packet_bytes_max: PACKET_BYTES as u32,
        }
    }

    /// Begins with an empty shard that has other limits than the default ones.
    fn limit(&mut self, change: impl FnOnce(&mut Limits)) {
        let mut limits = Config::default().limits;
        change(&mut limits);
        self.shard = shard(limits);
    }

    /// What went before was preparation.
    fn forget_worst(&mut self) {
        self.times.fill(Duration::ZERO);
    }

    fn handle(&mut self, input: Input<'_>) {
        let start = Instant::now();
        if self.wanted == Some(self.times.len()) {
            counted(&mut self.shard, self.now, input, &mut self.effects);
            (self.units, self.busy) = (self.shard.input_units(), start.elapsed());
        } else {
            self.shard.handle(self.now, input, &mut self.effects);
        }
        self.times.push(start.elapsed());
        while let Some(token) = self.effects.persisted.take() {
            self.shard.handle(self.now, Input::Persisted { token }, &mut self.effects);
        }
    }

    fn connect(&mut self, client_id: &str, expiry_s: u32) -> ConnectionId {
        let mut body = b"\0\x04MQTT\x05\x02\0\0\x05\x11".to_vec();
        body.extend(expiry_s.to_be_bytes());
        text(client_id, &mut body);
        self.open(&body)
    }

    /// A client whose session is there.
    fn connect_again(&mut self, client_id: &str) -> ConnectionId {
        let mut body = b"\0\x04MQTT\x05\0\0\0\x0a\x11\xff\xff\xff\xff\x27".to_vec();
        body.extend(self.packet_bytes_max.to_be_bytes());
        text(client_id, &mut body);
        self.open(&body)
    }

    fn open(&mut self, connect: &[u8]) -> ConnectionId {
        let index = self.effects.outboxes.len() as u32;
        self.effects.outboxes.push(Outbox::default());
        let id = ConnectionId { index, generation: 1 };
        self.handle(Input::Opened { connection: id });
        self.handle(Input::Bytes { connection: id, bytes: &packet(0x10, connect) });
        self.finish(id);
        id
    }

    /// A client whose will comes when its session has ended.
    fn connect_with_will(&mut self, client_id: &str) -> ConnectionId {
        let mut body = b"\0\x04MQTT\x05\x06\0\0\x05\x11\0\0\0\x0a".to_vec();
        text(client_id, &mut body);
        body.extend(b"\x05\x18\0\0\0\x0a");
        text("w", &mut body);
        text("gone", &mut body);
        self.open(&body)
    }

    /// Subscribes a client with packets as large as they may be.
    fn subscribe_all(
        &mut self,
        client_id: &str,
        filters: impl Iterator<Item = String>,
    ) -> ConnectionId {
        let id = self.connect(client_id, 0);
        self.subscribe(id, filters);
        id
    }

    fn subscribe(&mut self, id: ConnectionId, filters: impl Iterator<Item = String>) {
        let head = b"\0\x07\0";
        let mut body = head.to_vec();
        for filter in filters {
            if body.len() + filter.len() + 8 > PACKET_BYTES {
                self.give_whole(id, &packet(0x82, &body));
                body.truncate(head.len());
            }
            text(&filter, &mut body);
            body.push(2);
        }
        self.give_whole(id, &packet(0x82, &body));
    }

    fn give_whole(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.handle(Input::Bytes { connection: id, bytes });
        self.finish(id);
    }

    fn close(&mut self, id: ConnectionId) {
        self.handle(Input::Closed { connection: id });
        self.finish(id);
    }

    /// Turn by turn, until nothing is left to do. The client reads, and acknowledges nothing.
    fn finish(&mut self, id: ConnectionId) {
        loop {
            let outbox = &mut self.effects.outboxes[id.index as usize];
            while !outbox.is_empty() {
                outbox.consume(outbox.front().len());
            }
            if outbox.take_drained() {
                self.handle(Input::Drained { connection: id });
            }
            if !self.shard.end_turn() {
                return;
            }
            self.handle(Input::Continue);
        }
    }
}

fn shard(limits: Limits) -> Shard {
    let hasher = RandomState::with_seeds(SEED[0], SEED[1], SEED[2], SEED[3]);
    Shard::new(ShardId::from_index(0), Partition::new(1, SEED), limits, hasher)
}

/// Where callgrind looks.
#[inline(never)]
fn counted(shard: &mut Shard, now: Time, input: Input<'_>, effects: &mut Effects) {
    shard.handle(now, input, effects);
}

fn expire_together(broker: &mut Broker) {
    for number in 0..3000 {
        let id = broker.connect(&number.to_string(), 10);
        let filters = ["x", "y", "z"].map(|name| format!("{name}/{number}/+"));
        broker.subscribe(id, filters.into_iter());
        broker.close(id);
    }
    broker.now = broker.now + Duration::from_secs(60);
    broker.forget_worst();
    broker.handle(Input::Timeout);
    let other = broker.connect("other", 0);
    broker.finish(other);
}

fn fan_out(broker: &mut Broker, subscriber_count: usize, qos: u8) {
    for number in 0..subscriber_count {
        broker.subscribe_all(&number.to_string(), ["t".to_owned()].into_iter());
    }
    let one = broker.connect("one", 0);
    broker.give_whole(one, &publish("t", 0, false)); // Who gets it is known from now on.
    broker.forget_worst();
    broker.give_whole(one, &publish("t", qos, false).repeat(if qos == 0 { 8 } else { 1 }));
}

/// The largest window, full of deliveries whose identifiers are in no order.
fn resume(broker: &mut Broker, filter: &str) {
    broker.limit(|limits| {
        limits.inflight_count_max = u16::MAX;
        limits.outbox_bytes_max = 16 << 20;
    });
    let one = broker.connect("one", u32::MAX);
    broker.subscribe(one, [filter.to_owned()].into_iter());
    let two = broker.connect("two", 0);
    let fill = |broker: &mut Broker| {
        let publish = publish_of("t", 1, false, &[7; 80]);
        (0..u16::MAX).for_each(|_| broker.give_whole(two, &publish));
    };
    fill(broker);
    let ids = (0..u32::from(u16::MAX)).map(|number| (number * 7919 % 65_535 + 1) as u16);
    let acks = ids.flat_map(|id| [&[0x40, 2], &id.to_be_bytes()[..]].concat());
    broker.give_whole(one, &acks.collect::<Vec<u8>>());
    fill(broker);
    broker.close(one);
    let other = broker.connect("other", u32::MAX);
    broker.subscribe(other, [filter.to_owned()].into_iter());
    broker.close(other);
    broker.forget_worst();
    broker.connect_again("one");
}

/// What was queued last expires first, one message after the other.
fn expire_in_queues(broker: &mut Broker) {
    for number in 0..64 {
        let id = broker.connect(&number.to_string(), u32::MAX);
        broker.subscribe(id, ["t".to_owned()].into_iter());
        broker.close(id);
    }
    let two = broker.connect("two", 0);
    for number in 0..10_000 {
        broker.give_whole(two, &expiring("t", 20_000 - number));
    }
    broker.forget_worst();
    for _ in 0..10 {
        broker.now = broker.now.max(Time::START + Duration::from_secs(10_000));
        broker.now = broker.now + Duration::from_secs(1);
        broker.give_whole(two, &expiring("t", 20_000));
    }
}

/// The client has acknowledged nothing; another of its group, if it has one, is away.
fn end_with_queue(broker: &mut Broker, filter: &str) {
    let one = broker.subscribe_all("one", [filter.to_owned()].into_iter());
    let two = broker.connect("two", 0);
    for _ in 0..11_024 {
        broker.give_whole(two, &publish("t", 1, false));
    }
    let other = broker.connect("other", u32::MAX);
    broker.subscribe(other, [filter.to_owned()].into_iter());
    broker.close(other);
    broker.forget_worst();
    broker.close(one);
}

fn exact(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("{number:x}"))
}

/// Filters that all match the same topic.
fn overlapping(level_count: usize) -> impl Iterator<Item = String> {
    let level = |number: usize, at| if number >> at & 1 == 0 { "+/" } else { "a/" };
    (0..1 << level_count).map(move |number| {
        (0..level_count).map(|at| level(number, at)).chain(["#"]).collect::<String>()
    })
}

fn long_filters() -> impl Iterator<Item = String> {
    (0..400).map(|number| format!("+/{number}/{}", "f".repeat(20_000)))
}

fn unsubscribe(filters: impl Iterator<Item = String>) -> Vec<u8> {
    let mut body = b"\0\x08\0".to_vec();
    filters.for_each(|filter| text(&filter, &mut body));
    packet(0xA2, &body)
}

fn publish(topic: &str, qos: u8, is_retained: bool) -> Vec<u8> {
    publish_of(topic, qos, is_retained, b"x")
}

fn publish_of(topic: &str, qos: u8, is_retained: bool, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(topic, &mut body);
    if qos > 0 {
        body.extend(b"\0\x09");
    }
    body.push(0);
    body.extend(payload);
    packet(0x30 | qos << 1 | u8::from(is_retained), &body)
}

/// At QoS 1.
fn expiring(topic: &str, expiry_s: u32) -> Vec<u8> {
    let mut body = Vec::new();
    text(topic, &mut body);
    body.extend(b"\0\x09\x05\x02");
    body.extend(expiry_s.to_be_bytes());
    body.push(b'x');
    packet(0x32, &body)
}

fn with_user_properties(count: usize, word: &[u8]) -> Vec<u8> {
    let len = [0, word.len() as u8];
    let property = [b"\x26", &len[..], word, &len[..], word].concat();
    let mut body = Vec::new();
    text("t", &mut body);
    body.extend(length(property.len() * count));
    body.extend(property.repeat(count));
    packet(0x30, &body)
}

fn text(text: &str, body: &mut Vec<u8>) {
    body.extend(u16::try_from(text.len()).expect("it is short").to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(length(body.len()));
    packet.extend(body);
    packet
}

/// A length in as many bytes as it takes.
fn length(mut left: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = u8::from(left > 127) << 7;
        bytes.push((left % 128) as u8 | more);
        left /= 128;
        if more == 0 {
            return bytes;
        }
    }
}

impl Output for Effects {
    fn send(&mut self, _: ShardId, message: Message) -> Result<(), Full> {
        Err(Full(message))
    }

    fn outbox(&mut self, connection: ConnectionId) -> &mut Outbox {
        &mut self.outboxes[connection.index as usize]
    }

    fn pause(&mut self, _: ConnectionId, _: bool) {}

    fn persist(&mut self, _: &Record<'_>, token: Token) {
        self.persisted = Some(token);
    }

    fn authenticate(&mut self, _: ConnectionId, _: &AuthRequest<'_>) -> Verdict {
        Verdict::Allow(Vec::new())
    }

    fn close(&mut self, connection: ConnectionId, reason: ReasonCode) {
        panic!("{connection} was closed: {reason:?}");
    }
}
