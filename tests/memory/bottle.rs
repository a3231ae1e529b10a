//! Shards whose clients are heard at once, and that take no memory but their own.

use std::sync::Arc;
use std::time::Duration;

use harness::direct::{connect, encoded, publish, subscribe};
use harness::shards::{ALL, Harness};
use harness::world::Plain;
use ringmq::config::Limits;
use ringmq::metrics::Pool;
use ringmq::mqtt::{Connect, Packet, Properties, Property, Publish, QoS, Version};
use ringmq::shard::Outbox;

use crate::COUNT;

/// Where names fall decides when tables double: with some seeds one does so late in a test.
const SEED: u64 = 5;

/// Shards in one thread that are answered at once. What it needs itself it has from the start.
pub(crate) struct Bottle {
    pub(crate) harness: Harness<Plain>,
}

/// A client's end of a connection.
pub(crate) type Line = usize;

impl Bottle {
    pub(crate) fn new(shard_count: usize) -> Self {
        Self::with_pool(shard_count, &Arc::new(Pool::unlimited()))
    }

    pub(crate) fn with_pool(shard_count: usize, pool: &Arc<Pool>) -> Self {
        // Sessions of 3.1.1 do not expire: what a timer takes is measured with those of 5.0.
        let (session_count_max, session_expiry_v3_s) = (10 * COUNT, u32::MAX);
        let limits = Limits { session_count_max, session_expiry_v3_s, ..Limits::default() };
        let mut harness = Harness::new(shard_count, ALL, limits, SEED, Plain).with_pool(pool);
        harness.reserve(COUNT + 1);
        Self { harness }
    }

    pub(crate) fn send(&mut self, line: Line, packet: &Packet<'_>, version: Version) {
        self.send_raw(line, &encoded(version, packet));
    }

    /// Lets the shards handle bytes of a client and all that follows from them.
    pub(crate) fn send_raw(&mut self, line: Line, bytes: &[u8]) {
        self.harness.send(line, bytes);
        self.harness.hand(line, ALL, |_| 0);
        self.work();
    }

    pub(crate) fn close(&mut self, line: Line) {
        self.harness.leave(line);
        self.work();
    }

    /// Time passes, and the timers of all shards with it.
    pub(crate) fn pass(&mut self, duration: Duration) {
        self.harness.pass(duration);
        self.work();
    }

    fn work(&mut self) {
        self.harness.work();
        self.harness.cut_closed();
    }

    pub(crate) fn connect(&mut self, client_id: &str, version: Version) -> Line {
        self.connect_with(client_id, version, false)
    }

    /// A client of 3.1.1 whose session ends with its connection.
    pub(crate) fn connect_clean(&mut self, client_id: &str) -> Line {
        self.connect_with(client_id, Version::V311, true)
    }

    fn connect_with(&mut self, client_id: &str, version: Version, clean_start: bool) -> Line {
        let line = self.harness.open();
        let mut buffer = Vec::new();
        let properties = match version {
            Version::V5 => Properties::write([Property::SessionExpiryIntervalS(7200)], &mut buffer),
            _ => Properties::EMPTY,
        };
        let connect = connect(version, client_id, clean_start);
        let connect = Connect { keep_alive_s: 60, properties, ..connect };
        self.send(line, &Packet::Connect(connect), version);
        line
    }

    pub(crate) fn subscribe(&mut self, line: Line, filter: &str, version: Version) {
        self.send_raw(line, &subscribe(version, QoS::AtLeastOnce, &[filter]));
    }

    /// What waits in the outbox of a connection is written.
    pub(crate) fn drain(&mut self, line: Line) -> usize {
        self.harness.write(line, ALL);
        self.work();
        std::mem::take(&mut self.harness.ends[line].inbox).len()
    }

    /// Whether the shard has not closed a connection.
    pub(crate) fn is_open(&self, line: Line) -> bool {
        self.harness.connection(line).is_some()
    }

    /// Clients come back with a clean session, and leave.
    pub(crate) fn end_sessions(&mut self, count: usize, name: impl Fn(usize) -> String) {
        for number in 0..count {
            let line = self.connect_clean(&name(number));
            if self.is_open(line) {
                self.close(line);
            }
        }
    }

    /// Lets the shards settle as an executor does at the end of a turn.
    pub(crate) fn settle_shards(&mut self) {
        for (shard, desk) in self.harness.shards.iter_mut().zip(&self.harness.desks) {
            let outboxes = desk.connections.iter().flatten().map(|connection| &connection.outbox);
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
        let publish = publish(topic, payload, QoS::AtMostOnce, retain);
        self.send(line, &Packet::Publish(Publish { properties, ..publish }), Version::V5);
    }
}
