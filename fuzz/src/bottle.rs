//! A few shards that do what a script says, and clients that read what they are sent with a decoder
//! that was written apart.

use harness::choose::InTurn;
use harness::shards::{ALL, Harness};
use harness::world::Plain;
use ringmq::auth::Verdict;
use ringmq::config::Limits;
use ringmq::mqtt::{ReasonCode, Version};
use ringmq::session::Time;
use ringmq::shard::Slices;

use super::reader::Reader;

/// Messages that a channel between two shards holds.
const CHANNEL_COUNT_MAX: usize = 3;
/// Few clients are too many at once.
const SLICES: Slices = Slices {
    subscriber_count: 1,
    delivery_count: 3,
    put_off_count_max: 4,
    put_off_bytes_max: 1000,
    put_off_of_one_max: 2,
    match_count: 3,
    input_units: 30,
    turn_units: 1000,
};
/// Timeouts that are waited for one by one while time passes.
const TIMEOUTS_MAX: usize = 1000;

pub(crate) struct Bottle {
    pub(crate) harness: Harness<Plain>,
    limits: Limits,
    /// One for each client's end of the harness.
    readers: Vec<Reader>,
}

impl Bottle {
    pub(crate) fn new(shard_count: usize, limits: Limits, seed: u64) -> Self {
        let harness = Harness::new(shard_count, CHANNEL_COUNT_MAX, limits, seed, Plain);
        Self { harness: harness.with_slices(SLICES), limits, readers: Vec::new() }
    }

    pub(crate) fn open(&mut self) -> usize {
        self.readers.push(Reader::new());
        self.harness.open()
    }

    /// The version in which a client speaks.
    pub(crate) fn version(&self, end: usize) -> Version {
        self.readers[end].version()
    }

    /// Sends bytes of a client; the broker reads at once what says where the connection goes, and
    /// all else later.
    pub(crate) fn send(&mut self, end: usize, bytes: &[u8]) {
        self.harness.send(end, bytes);
        if !self.harness.is_placed(end) {
            self.readers[end].note_sent(bytes, self.limits.packet_bytes_max);
            self.harness.read(end, ALL);
        }
    }

    /// Takes up to `count` bytes to a client, or the news that it was closed.
    pub(crate) fn write(&mut self, end: usize, count: usize) {
        self.harness.write(end, count);
        self.harness.finish(end);
        self.look_at(end);
    }

    /// A client looks at what has come.
    fn look_at(&mut self, end: usize) {
        let client = &mut self.harness.ends[end];
        self.readers[end].take(&std::mem::take(&mut client.inbox));
        if client.is_closed {
            self.readers[end].close();
        }
    }

    /// The packets that came to a client since it was asked last.
    pub(crate) fn received(&mut self, end: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.readers[end].packets)
    }

    /// A client is let in, or not; it may be gone by now.
    pub(crate) fn judge(&mut self, shard: usize, is_allowed: bool) -> bool {
        if let Some((_, verdict)) = self.harness.desks[shard].judging.first_mut()
            && !is_allowed
        {
            *verdict = Verdict::Refuse(ReasonCode::NotAuthorized);
        }
        self.harness.judge(shard, 0)
    }

    /// Lets time pass from timeout to timeout, or all at once as on a machine that was asleep.
    pub(crate) fn pass(&mut self, ms: u64, is_asleep: bool) {
        let until = Time::from_ms(self.harness.now.ms().saturating_add(ms));
        for _ in 0..TIMEOUTS_MAX {
            if is_asleep || self.harness.now >= until {
                break;
            }
            self.harness.step_towards(until);
        }
        self.harness.pass(until.since(self.harness.now));
    }

    /// All read, write, deliver and answer until nothing moves any more.
    pub(crate) fn rest(&mut self) {
        self.harness.rest(&mut InTurn);
        (0..self.readers.len()).for_each(|end| self.look_at(end));
    }

    /// Panics unless every delivery and every byte is accounted for, in every shard.
    pub(crate) fn audit(&self) {
        if let Err(error) = self.harness.audit() {
            panic!("{error}: {:?}", self.harness.counters().ledger);
        }
    }
}
