//! Shards without sockets and threads, and clients that do nothing but answer: what the broker's
//! own code does for each packet, and nothing else.
//!
//! A turn is what it is in production: every client's bytes are handed over, then every connection
//! that was touched is written out, and what was put off goes on. Between shards, messages lie in
//! a vector.

use std::time::{Duration, Instant};

use ahash::RandomState;
use ringmq::auth::{AuthRequest, Verdict};
use ringmq::config::{Config, Limits, Order};
use ringmq::mqtt::{
    Ack, Connect, Packet, PacketId, Properties, Publish, QoS, ReasonCode, Subscribe, Subscription,
    SubscriptionOptions, Subscriptions, TopicFilter, TopicName, Version, split,
};
use ringmq::routing::{Partition, ShardId};
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Full, Input, Message, Outbox, Output, Shard, Spares};
use ringmq::storage::{Engine, Memory, Record, Token};

const PAYLOAD: [u8; 64] = [0x55; 64];
const SEED: [u64; 4] = [11, 22, 33, 44];

/// Who publishes to whom.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// So many publishers, each with its own topic, and one subscriber of all of them.
    FanIn(usize),
    /// So many publishers, each with its own topic and its own subscriber.
    Pairs(usize),
    /// One publisher and so many subscribers of its topic.
    FanOut(usize),
    /// So many publishers that go to and fro between two topics of different owners, and one
    /// subscriber of all of them.
    Alternating(usize, Order),
}

/// A client, seen from its own end.
struct Client {
    home: ShardId,
    id: ConnectionId,
    /// What is handed over in its next turn.
    sent: Vec<u8>,
    /// What it got and has not looked at.
    received: Vec<u8>,
}

/// The way out of a shard: buffers.
struct Effects {
    /// What other shards are sent.
    messages: Vec<(ShardId, Message)>,
    outboxes: Vec<Outbox>,
    /// First touched, first written.
    touched: Vec<ConnectionId>,
    is_touched: Vec<bool>,
    spares: Spares,
    engine: Memory,
}

/// One shard and its way out.
struct Core {
    shard: Shard,
    effects: Effects,
}

/// Shards and their clients.
pub(crate) struct Bare {
    cores: Vec<Core>,
    clients: Vec<Client>,
    /// Messages that are handed over; empty between calls.
    messages: Vec<(ShardId, Message)>,
    /// Connections that publish, each with its PUBLISH.
    publishers: Vec<(usize, Vec<u8>)>,
    version: Version,
    /// Publishes that clients have sent.
    pub(crate) published_count: u64,
    /// Deliveries that clients have got.
    pub(crate) delivered_count: u64,
    /// Time that the shards took.
    pub(crate) busy: Duration,
}

impl Bare {
    /// Shards whose clients of `version` are connected, and subscribed where they have to be.
    pub(crate) fn new(shard_count: usize, shape: Shape, version: Version, qos: QoS) -> Self {
        let order = if let Shape::Alternating(_, order) = shape { order } else { Order::Client };
        let limits = Limits { order, ..Config::default().limits };
        let mut bare = Self::empty(shard_count, version, limits);
        let (publisher_count, subscriber_count) = match shape {
            Shape::FanIn(count) | Shape::Alternating(count, _) => (count, 1),
            Shape::Pairs(count) => (count, count),
            Shape::FanOut(count) => (1, count),
        };
        for number in 0..subscriber_count {
            let filter = match shape {
                Shape::FanIn(_) => "plant/+/temperature".to_owned(),
                Shape::Alternating(..) => "plant/#".to_owned(),
                Shape::Pairs(_) => topic(number),
                Shape::FanOut(_) => topic(0),
            };
            let client = bare.connect(&format!("subscriber-{number}"));
            bare.subscribe(client, &filter, qos);
        }
        for number in 0..publisher_count {
            let client = bare.connect(&format!("publisher-{number}"));
            let mut bytes = Vec::new();
            publish(&topic(number), qos).encode(version, &mut bytes);
            if let Shape::Alternating(..) = shape {
                let other = bare.topic_of_another_owner(number);
                publish(&other, qos).encode(version, &mut bytes);
            }
            bare.publishers.push((client, bytes));
        }
        bare.settle();
        bare
    }

    /// Every publisher publishes once, and all handshakes come to their end.
    pub(crate) fn round(&mut self) {
        for (client, bytes) in &self.publishers {
            self.clients[*client].sent.extend_from_slice(bytes);
        }
        self.published_count += self.publishers.len() as u64;
        self.settle();
    }

    /// Returns a topic whose owner is not that of this publisher's first topic.
    fn topic_of_another_owner(&self, number: usize) -> String {
        let partition = self.cores[0].shard.partition();
        let owner = partition.owner(&topic(number));
        let topics = (0..).map(|suffix| format!("{}/{suffix}", topic(number)));
        let mut others = topics.filter(|topic| partition.owner(topic) != owner);
        others.next().expect("there are two shards at least")
    }

    fn empty(shard_count: usize, version: Version, limits: Limits) -> Self {
        let partition = Partition::new(shard_count, SEED);
        let cores = partition.shards().map(|id| Core::new(id, partition.clone(), limits)).collect();
        Self {
            cores,
            clients: Vec::new(),
            messages: Vec::new(),
            publishers: Vec::new(),
            version,
            published_count: 0,
            delivered_count: 0,
            busy: Duration::ZERO,
        }
    }

    fn connect(&mut self, client_id: &str) -> usize {
        let index = self.clients.len();
        let id = ConnectionId { index: index as u32, generation: 1 };
        let home = self.cores[0].shard.partition().home(client_id);
        for core in &mut self.cores {
            core.effects.outboxes.push(Outbox::default());
            core.effects.is_touched.push(false);
        }
        self.clients.push(Client { home, id, sent: Vec::new(), received: Vec::new() });
        self.cores[home.index()].handle(Input::Opened { connection: id });
        let connect = Connect {
            version: self.version,
            is_bridge: false,
            clean_start: true,
            keep_alive_s: 60,
            properties: Properties::EMPTY,
            client_id,
            will: None,
            username: None,
            password: None,
        };
        self.send(index, &Packet::Connect(connect));
        self.settle();
        index
    }

    fn subscribe(&mut self, client: usize, filter: &str, qos: QoS) {
        let filter = TopicFilter::parse(filter).expect("a valid filter");
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let mut raw = Vec::new();
        let subscriptions =
            Subscriptions::write(self.version, &[Subscription { filter, options }], &mut raw);
        let (packet_id, properties) = (packet_id(), Properties::EMPTY);
        let subscribe = Subscribe { packet_id, properties, subscriptions };
        self.send(client, &Packet::Subscribe(subscribe));
    }

    fn send(&mut self, client: usize, packet: &Packet<'_>) {
        packet.encode(self.version, &mut self.clients[client].sent);
    }

    /// Turn by turn, until nobody has anything to say.
    fn settle(&mut self) {
        while self.clients.iter().any(|client| !client.sent.is_empty()) {
            let start = Instant::now();
            self.turn();
            self.busy += start.elapsed();
            for client in &mut self.clients {
                self.delivered_count += client.answer(self.version);
            }
        }
    }

    /// What is measured: all that was sent is handled, all that follows is written.
    #[inline(never)]
    fn turn(&mut self) {
        for client in self.clients.iter_mut().filter(|client| !client.sent.is_empty()) {
            let bytes = Input::Bytes { connection: client.id, bytes: &client.sent };
            self.cores[client.home.index()].handle(bytes);
            client.sent.clear();
        }
        while self.exchange() {}
        for core in &mut self.cores {
            core.effects.write(&mut self.clients);
            while core.shard.end_turn() {
                core.handle(Input::Continue);
                core.effects.write(&mut self.clients);
            }
        }
    }

    /// Hands over what the shards have sent each other; false if that was nothing.
    fn exchange(&mut self) -> bool {
        let mut any = false;
        for from in 0..self.cores.len() {
            std::mem::swap(&mut self.messages, &mut self.cores[from].effects.messages);
            for (to, message) in self.messages.drain(..) {
                let from = ShardId::from_index(from);
                self.cores[to.index()].handle(Input::Message { from, message });
                any = true;
            }
        }
        any
    }
}

impl Core {
    fn new(id: ShardId, partition: Partition, limits: Limits) -> Self {
        let hasher = RandomState::with_seeds(SEED[0], SEED[1], SEED[2], SEED[3]);
        let effects = Effects {
            messages: Vec::new(),
            outboxes: Vec::new(),
            touched: Vec::new(),
            is_touched: Vec::new(),
            spares: Spares::default(),
            engine: Memory::default(),
        };
        Self { shard: Shard::new(id, partition, limits, hasher), effects }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.shard.handle(Time::START, input, &mut self.effects);
        while let Some(token) = self.effects.engine.committed() {
            self.shard.handle(Time::START, Input::Persisted { token }, &mut self.effects);
        }
    }
}

impl Client {
    /// Answers what came; how many deliveries that was.
    fn answer(&mut self, version: Version) -> u64 {
        let mut delivered = 0;
        let mut rest = &self.received[..];
        while let Some((frame, used)) = split(rest, usize::MAX).expect("well formed") {
            let answer = match Packet::decode(frame, version).expect("the packet is valid") {
                Packet::Publish(publish) => {
                    delivered += 1;
                    answer_to(&publish)
                }
                Packet::Pubrec(ack) => Some(Packet::Pubrel(Ack::success(ack.packet_id))),
                Packet::Pubrel(ack) => Some(Packet::Pubcomp(Ack::success(ack.packet_id))),
                _ => None,
            };
            if let Some(answer) = answer {
                answer.encode(version, &mut self.sent);
            }
            rest = &rest[used..];
        }
        assert!(rest.is_empty(), "the broker writes whole packets");
        self.received.clear();
        delivered
    }
}

fn answer_to(publish: &Publish<'_>) -> Option<Packet<'static>> {
    let ack = Ack::success(publish.packet_id?);
    Some(match publish.qos {
        QoS::ExactlyOnce => Packet::Pubrec(ack),
        _ => Packet::Puback(ack),
    })
}

fn topic(number: usize) -> String {
    format!("plant/{number}/temperature")
}

fn publish(topic: &str, qos: QoS) -> Publish<'_> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: TopicName::parse(topic).expect("a topic without wildcard"),
        packet_id: (qos != QoS::AtMostOnce).then(packet_id),
        properties: Properties::EMPTY,
        payload: &PAYLOAD,
    }
}

fn packet_id() -> PacketId {
    PacketId::new(7).expect("7 is not 0")
}

impl Effects {
    fn write(&mut self, clients: &mut [Client]) {
        for id in self.touched.drain(..) {
            let index = id.index as usize;
            let (outbox, client) = (&mut self.outboxes[index], &mut clients[index]);
            outbox.give_back(&mut self.spares);
            while !outbox.is_empty() {
                let front = outbox.front();
                client.received.extend_from_slice(front);
                let count = front.len();
                outbox.consume_into(count, &mut self.spares);
            }
            self.is_touched[index] = false;
        }
    }
}

impl Output for Effects {
    fn send(&mut self, to: ShardId, message: Message) -> Result<(), Full> {
        self.messages.push((to, message));
        Ok(())
    }

    fn outbox(&mut self, connection: ConnectionId) -> &mut Outbox {
        let index = connection.index as usize;
        if !std::mem::replace(&mut self.is_touched[index], true) {
            self.touched.push(connection);
            self.outboxes[index].lend(&mut self.spares);
        }
        &mut self.outboxes[index]
    }

    fn outbox_len(&mut self, connection: ConnectionId) -> usize {
        self.outboxes[connection.index as usize].len()
    }

    /// The shard keeps what comes meanwhile, and goes on by itself.
    fn pause(&mut self, _: ConnectionId, _: bool) {}

    fn persist(&mut self, record: &Record<'_>, token: Token) {
        self.engine.append(record, token);
    }

    fn authenticate(&mut self, _: ConnectionId, _: &AuthRequest<'_>) -> Verdict {
        Verdict::Allow(Vec::new())
    }

    fn close(&mut self, connection: ConnectionId, reason: ReasonCode) {
        panic!("{connection} was closed: {reason:?}");
    }
}
