//! A whole script: several clients and a few shards, and bytes that say who does what next.
//!
//! A script is a header of [`HEADER_BYTES`] and then steps; [`Step`] says what a step is made of.
//! Whatever it says, nothing panics, every client is sent only packets that a server may send, the
//! ledger and the memory of every shard balance after every step, and once everybody has gone and
//! all that expires has expired, nothing is left.

use std::time::Duration;

use harness::shards::ALL;
use ringmq::config::Limits;
use ringmq::mqtt::{PACKET_BYTES_MAX, Packet, split};

use super::bottle::Bottle;
use super::packets::{self, Bytes};

/// Clients that a script can name; each has at most one connection that it still uses.
const SLOTS: usize = 6;
/// Connections that one script may open.
const CONNECTIONS_MAX: usize = 64;
/// Steps that one script may have.
const STEPS_MAX: usize = 2000;
/// Longer than any session, will or message lives under the limits of a script.
const EXPIRED: Duration = Duration::from_secs(3 * SESSION_EXPIRY_S_MAX as u64);
const SESSION_EXPIRY_S_MAX: u32 = 3600;

pub(crate) const HEADER_BYTES: usize = 3;

/// What the lower half of the first byte of a step says; the upper half names the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The client opens a new connection; it no longer uses the one before, nor closes it.
    Open,
    /// A length and so many bytes that the client sends.
    Send,
    /// A well-formed packet, see `packets.rs`.
    SendPacket,
    /// A count: so many bytes are read by the broker, 255 for all.
    Read,
    /// A count: so many bytes are taken by the client, 255 for all.
    Write,
    /// Everything moves until nothing does.
    Settle,
    /// The client answers what it has received, as a good one does.
    Answer,
    /// The client is gone.
    HangUp,
    /// A place in [`PAUSES_MS`]: time passes, timeout by timeout.
    Pass,
    /// The same, but nobody looks at timeouts before the end of it.
    Sleep,
    /// Two shards: the first one's oldest message for the second arrives.
    Deliver,
    /// Two shards: the first may have room in its channel to the second.
    Room,
    /// A shard, and what is answered to it: what it had stored is safe, or who waits to be let in
    /// is or is not.
    Respond,
    /// A client identifier: an administrator wants it gone.
    Expel,
    /// The client takes no more for now.
    Block,
    /// The client takes over from itself: opens, and the old connection closes soon.
    Reopen,
}

const STEPS: [Step; 16] = [
    Step::Open,
    Step::Send,
    Step::SendPacket,
    Step::Read,
    Step::Write,
    Step::Settle,
    Step::Answer,
    Step::HangUp,
    Step::Pass,
    Step::Sleep,
    Step::Deliver,
    Step::Room,
    Step::Respond,
    Step::Expel,
    Step::Block,
    Step::Reopen,
];

pub(crate) const PAUSES_MS: [u64; 8] = [1, 20, 500, 1001, 1600, 5000, 61_000, 4_000_000];

/// Runs a script.
pub fn session_script(data: &[u8]) {
    let mut bytes = Bytes(data);
    let shard_count = 1 + bytes.below(4);
    let (profile, seed) = (bytes.next(), bytes.next());
    let bottle = Bottle::new(shard_count, limits(profile), u64::from(seed));
    let mut play = Play { bottle, slots: [None; SLOTS] };
    for _ in 0..STEPS_MAX {
        if bytes.is_empty() {
            break;
        }
        play.step(&mut bytes);
        play.bottle.audit();
    }
    play.finish(profile & 0x80 != 0);
}

/// Each bit of a profile makes one limit small.
fn limits(profile: u8) -> Limits {
    let mut limits = Limits { session_expiry_s_max: SESSION_EXPIRY_S_MAX, ..Limits::default() };
    let bit = |bit: u8| profile & 1 << bit != 0;
    if bit(0) {
        (limits.queue_count_max, limits.queue_bytes_max) = (3, 1024);
    }
    if bit(1) {
        limits.inflight_count_max = 2;
    }
    if bit(2) {
        (limits.receive_count_max, limits.topic_alias_count_max) = (2, 2);
    }
    if bit(3) {
        limits.outbox_bytes_max = 1024;
    }
    if bit(4) {
        (limits.subscription_count_max, limits.topic_level_count_max) = (3, 3);
    }
    if bit(5) {
        (limits.session_count_max, limits.retained_count_max) = (4, 2);
    }
    if bit(6) {
        (limits.packet_bytes_max, limits.queue_qos0_offline) = (256, true);
    }
    limits
}

/// The first byte of a step, for those who write scripts.
pub(crate) fn first_byte(step: Step, slot: usize) -> u8 {
    let number = STEPS.iter().position(|other| *other == step).expect("it is in the list");
    (slot << 4 | number) as u8
}

struct Play {
    bottle: Bottle,
    /// The connection that each client uses.
    slots: [Option<usize>; SLOTS],
}

impl Play {
    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let first = bytes.next();
        let (step, slot) = (STEPS[usize::from(first & 0x0F)], usize::from(first >> 4) % SLOTS);
        match step {
            Step::Open => self.open(slot),
            Step::Reopen => {
                let old = self.slots[slot];
                self.open(slot);
                old.into_iter().for_each(|old| self.hang_up(old));
            }
            Step::Settle => self.bottle.rest(),
            Step::Pass | Step::Sleep => {
                self.bottle.pass(PAUSES_MS[bytes.below(8)], step == Step::Sleep);
            }
            Step::Expel => self.bottle.harness.expel(packets::client_id(bytes)),
            Step::Deliver | Step::Room | Step::Respond => self.move_shard(step, bytes.next()),
            _ => self.move_client(step, slot, bytes),
        }
    }

    fn open(&mut self, slot: usize) {
        if self.bottle.harness.ends.len() < CONNECTIONS_MAX {
            self.slots[slot] = Some(self.bottle.open());
        }
    }

    /// The client of a connection is gone; the broker learns of it once it has read everything.
    fn hang_up(&mut self, end: usize) {
        self.bottle.harness.ends[end].is_gone = true;
    }

    fn move_shard(&mut self, step: Step, choice: u8) {
        let harness = &mut self.bottle.harness;
        let count = harness.shards.len();
        let (from, high) = (usize::from(choice & 0x0F) % count, usize::from(choice >> 4));
        let _ = match (step, high) {
            (Step::Deliver, _) => harness.deliver(from, high % count),
            (Step::Room, _) => harness.room(from, high % count),
            (_, 0..6) => harness.persist(from, ALL),
            (_, 6..8) => harness.turn(from),
            _ => self.bottle.judge(from, high < 12),
        };
    }

    fn move_client(&mut self, step: Step, slot: usize, bytes: &mut Bytes<'_>) {
        let Some(end) = self.slots[slot] else { return };
        match step {
            Step::Send => {
                let length = bytes.next();
                self.bottle.send(end, bytes.take(length.into()));
            }
            Step::SendPacket => {
                let mut packet = Vec::new();
                packets::write(bytes, self.bottle.version(end), &mut packet);
                self.bottle.send(end, &packet);
            }
            Step::Read => drop(self.bottle.harness.read(end, count(bytes.next()))),
            Step::Write => self.bottle.write(end, count(bytes.next())),
            Step::Answer => self.answer(end),
            Step::HangUp => {
                self.hang_up(end);
                self.slots[slot] = None;
            }
            _ => self.bottle.harness.block(end),
        }
    }

    fn answer(&mut self, end: usize) {
        let version = self.bottle.version(end);
        let mut answers = Vec::new();
        for packet in self.bottle.received(end) {
            let split = split(&packet, PACKET_BYTES_MAX);
            let (frame, _) = split.expect("the broker sent it").expect("whole");
            let packet = Packet::decode(frame, version).expect("the broker sent it");
            packets::write_answer(&packet, version, &mut answers);
        }
        self.bottle.send(end, &answers);
    }

    /// Everybody goes, or the broker stops; then all that may expire does.
    fn finish(mut self, is_shut_down: bool) {
        self.bottle.rest();
        self.bottle.audit();
        if is_shut_down {
            self.bottle.harness.shut_down();
        }
        for end in 0..self.bottle.harness.ends.len() {
            self.hang_up(end);
        }
        for _ in 0..3 {
            self.bottle.rest();
            self.bottle.pass(EXPIRED.as_millis() as u64, false);
        }
        self.bottle.rest();
        self.bottle.audit();
        let counters = self.bottle.harness.counters();
        let left = [
            ("connections", counters.connections),
            ("sessions", counters.sessions),
            ("subscriptions", counters.subscriptions),
            ("queued", counters.ledger.queued),
            ("in flight", counters.ledger.in_flight),
        ];
        for (name, count) in left {
            assert_eq!(count, 0, "{name} are left when everybody has gone");
        }
    }
}

fn count(byte: u8) -> usize {
    if byte == u8::MAX { ALL } else { byte.into() }
}
