//! Shards in one thread, and clients that speak to them at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use ringmq::auth::{AuthRequest, Verdict};
use ringmq::config::Limits;
use ringmq::metrics::Pool;
use ringmq::mqtt::{
    Connect, Packet, PacketId, Properties, Property, Publish, QoS, ReasonCode, Subscribe,
    Subscription, SubscriptionOptions, Subscriptions, TopicFilter, TopicName, Version,
};
use ringmq::routing::{Partition, ShardId};
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Full, Input, Message, Outbox, Output, Shard};
use ringmq::storage::{Record, Token};

use crate::COUNT;

/// Shards in one thread that are answered at once. What it needs itself it has from the start.
pub(crate) struct Bottle {
    pub(crate) shards: Vec<Shard>,
    sinks: Vec<Sink>,
    partition: Partition,
    pub(crate) now: Time,
}

/// What leaves one shard.
struct Sink {
    messages: VecDeque<(ShardId, Message)>,
    outboxes: Vec<Option<Outbox>>,
    persisted: Option<Token>,
    opened_count: u32,
}

impl Output for Sink {
    fn send(&mut self, to: ShardId, message: Message) -> Result<(), Full> {
        self.messages.push_back((to, message));
        Ok(())
    }

    fn outbox(&mut self, connection: ConnectionId) -> &mut Outbox {
        self.outboxes[connection.index as usize].as_mut().unwrap()
    }

    fn pause(&mut self, _: ConnectionId, _: bool) {}

    fn persist(&mut self, _: &Record<'_>, token: Token) {
        self.persisted = Some(token);
    }

    fn authenticate(&mut self, _: ConnectionId, _: &AuthRequest<'_>) -> Verdict {
        Verdict::Allow(Vec::new())
    }

    fn close(&mut self, connection: ConnectionId, _: ReasonCode) {
        self.outboxes[connection.index as usize] = None;
    }
}

/// A client's connection: to which shard, and which one there.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    pub(crate) home: usize,
    pub(crate) id: ConnectionId,
}

impl Bottle {
    pub(crate) fn new(shard_count: usize) -> Self {
        Self::with_pool(shard_count, &Arc::new(Pool::unlimited()))
    }

    pub(crate) fn with_pool(shard_count: usize, pool: &Arc<Pool>) -> Self {
        let partition = Partition::new(shard_count, [1, 2, 3, 4]);
        let hasher = RandomState::with_seeds(5, 6, 7, 8);
        // Sessions of 3.1.1 do not expire: what a timer takes is measured with those of 5.0.
        let (session_count_max, session_expiry_v3_s) = (10 * COUNT, u32::MAX);
        let limits = Limits { session_count_max, session_expiry_v3_s, ..Limits::default() };
        let shard = |id| {
            let shard = Shard::new(id, partition.clone(), limits, hasher.clone());
            shard.with_pool(Arc::clone(pool))
        };
        let sink = |_| Sink {
            messages: VecDeque::with_capacity(16),
            outboxes: (0..COUNT + 1).map(|_| None).collect(),
            persisted: None,
            opened_count: 0,
        };
        let shards = partition.shards().map(shard).collect();
        Self { shards, sinks: partition.shards().map(sink).collect(), partition, now: Time::START }
    }

    /// Opens the connection that a client is number `index` on.
    pub(crate) fn open(&mut self, client_id: &str, index: usize) -> Line {
        let home = self.partition.home(client_id).index();
        let sink = &mut self.sinks[home];
        sink.opened_count += 1;
        sink.outboxes[index] = Some(Outbox::default());
        let id = ConnectionId { index: index as u32, generation: sink.opened_count };
        self.handle(home, Input::Opened { connection: id });
        Line { home, id }
    }

    pub(crate) fn send(&mut self, line: Line, packet: &Packet<'_>, version: Version) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        self.handle(line.home, Input::Bytes { connection: line.id, bytes: &bytes });
    }

    pub(crate) fn close(&mut self, line: Line) {
        self.handle(line.home, Input::Closed { connection: line.id });
        self.sinks[line.home].outboxes[line.id.index as usize] = None;
    }

    pub(crate) fn connect(&mut self, client_id: &str, index: usize, version: Version) -> Line {
        self.connect_with(client_id, index, version, false)
    }

    /// A client of 3.1.1 whose session ends with its connection.
    pub(crate) fn connect_clean(&mut self, client_id: &str, index: usize) -> Line {
        self.connect_with(client_id, index, Version::V311, true)
    }

    fn connect_with(
        &mut self,
        client_id: &str,
        index: usize,
        version: Version,
        clean_start: bool,
    ) -> Line {
        let line = self.open(client_id, index);
        let mut buffer = Vec::new();
        let properties = match version {
            Version::V5 => Properties::write([Property::SessionExpiryIntervalS(7200)], &mut buffer),
            _ => Properties::EMPTY,
        };
        let connect = Connect {
            version,
            is_bridge: false,
            clean_start,
            keep_alive_s: 60,
            properties,
            client_id,
            will: None,
            username: None,
            password: None,
        };
        self.send(line, &Packet::Connect(connect), version);
        line
    }

    pub(crate) fn subscribe(&mut self, line: Line, filter: &str, version: Version) {
        let mut buffer = Vec::new();
        let subscription = Subscription {
            filter: TopicFilter::parse(filter).unwrap(),
            options: SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() },
        };
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            properties: Properties::EMPTY,
            subscriptions: Subscriptions::write(version, &[subscription], &mut buffer),
        };
        self.send(line, &Packet::Subscribe(subscribe), version);
    }

    /// Time passes, and the timers of all shards with it.
    pub(crate) fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        (0..self.shards.len()).for_each(|shard| self.handle(shard, Input::Timeout));
    }

    /// Lets a shard handle one input and all that follows from it, and its clients read.
    pub(crate) fn handle(&mut self, shard: usize, input: Input<'_>) {
        self.shards[shard].handle(self.now, input, &mut self.sinks[shard]);
        while self.settle() {}
        while self.shards[shard].end_turn() {
            self.shards[shard].handle(self.now, Input::Continue, &mut self.sinks[shard]);
        }
    }

    fn settle(&mut self) -> bool {
        let mut moved = false;
        for index in 0..self.shards.len() {
            if self.shards[index].end_turn() {
                self.shards[index].handle(self.now, Input::Continue, &mut self.sinks[index]);
                moved = true;
            }
            if let Some(token) = self.sinks[index].persisted.take() {
                let sink = &mut self.sinks[index];
                self.shards[index].handle(self.now, Input::Persisted { token }, sink);
                moved = true;
            }
            if let Some((to, message)) = self.sinks[index].messages.pop_front() {
                let input = Input::Message { from: self.shards[index].id(), message };
                let sink = &mut self.sinks[to.index()];
                self.shards[to.index()].handle(self.now, input, sink);
                moved = true;
            }
        }
        moved
    }

    /// What waits in the outbox of a connection is written.
    pub(crate) fn drain(&mut self, line: Line) -> usize {
        let outbox = self.sinks[line.home].outboxes[line.id.index as usize].as_mut().unwrap();
        let count = outbox.len();
        while !outbox.is_empty() {
            outbox.consume(outbox.front().len());
        }
        count
    }

    pub(crate) fn send_raw(&mut self, line: Line, bytes: &[u8]) {
        self.handle(line.home, Input::Bytes { connection: line.id, bytes });
    }

    /// Whether the shard has not closed a connection.
    pub(crate) fn is_open(&self, line: Line) -> bool {
        self.sinks[line.home].outboxes[line.id.index as usize].is_some()
    }

    /// Clients come back with a clean session, and leave.
    pub(crate) fn end_sessions(&mut self, count: usize, name: impl Fn(usize) -> String) {
        for number in 0..count {
            let line = self.connect_clean(&name(number), COUNT);
            if self.is_open(line) {
                self.close(line);
            }
        }
    }

    /// Lets the shards settle as an executor does at the end of a turn.
    pub(crate) fn settle_shards(&mut self) {
        for (shard, sink) in self.shards.iter_mut().zip(&self.sinks) {
            let outboxes = sink.outboxes.iter().flatten();
            shard.balance_with(outboxes.map(Outbox::memory_bytes).sum());
        }
    }

    /// Publishes at QoS 0; without a reader, the publish is retained or of no consequence.
    pub(crate) fn publish(&mut self, line: Line, topic: &str, payload: &[u8], retain: bool) {
        self.publish_with(line, topic, payload, retain, Properties::EMPTY);
    }

    pub(crate) fn publish_with(
        &mut self,
        line: Line,
        topic: &str,
        payload: &[u8],
        retain: bool,
        properties: Properties<'_>,
    ) {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain,
            topic: TopicName::parse(topic).unwrap(),
            packet_id: None,
            properties,
            payload,
        };
        self.send(line, &Packet::Publish(publish), Version::V5);
    }
}
