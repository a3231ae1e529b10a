//! What lies around the shards: connections that split, delay and lose bytes, channels that fill,
//! storage that answers late, a clock that the world moves.
//!
//! One [`Network::act`] does one thing, wherever a [`Random`] says; nothing happens by itself.

mod inspection;
mod memory;
mod settle;
mod surroundings;

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use harness::random::Random;
use harness::shards::Harness;
use ringmq::metrics::DropCause;
use ringmq::session::Time;

use crate::life::Life;
use crate::scenario::Scenario;

use surroundings::Surroundings;

/// How a client's end of a connection goes away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Everything that was sent still arrives, then the close.
    Close,
    /// The broker may learn of it at any time, even while it does not read.
    Reset,
    /// The broker never learns of it.
    Vanish,
}

/// What the network tells about itself, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// The broker was given the last byte of this packet; whether it closed the connection at once.
    Handed { pipe: usize, packet: usize, closed: bool },
    /// The broker knows that the connection has ended, or has ended it.
    Ended { pipe: usize, by_broker: bool },
    /// A shard has given up one delivery.
    Dropped { shard: usize, cause: DropCause },
    /// A shard has not retained a message because it had as many as it may.
    NotRetained { shard: usize },
    /// A message was given to a session whose client had no connection.
    GivenOffline { client: usize, message: usize },
}

/// One connection, as the wire sees it.
pub(crate) struct Pipe {
    pub(crate) client: usize,
    /// Bytes that were given to the broker.
    handed: u64,
    /// Bytes that the client has sent.
    sent: u64,
    /// Where packets end, and their numbers.
    marks: VecDeque<(u64, usize)>,
    pub(crate) ending: Option<End>,
    /// Since when the broker knows that the client takes nothing, if it does not.
    pub(crate) blocked: Option<Time>,
    /// When the broker last got a byte.
    pub(crate) heard: Time,
    /// When the client's end last took a byte.
    pub(crate) written: Time,
    pub(crate) was_paused: bool,
    /// The broker has closed it.
    was_closed: bool,
    /// It was not read when the broker closed it.
    pub(crate) is_paused: bool,
}

/// What does not move for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mood {
    /// Bits of shards that get no input.
    frozen_shards: u64,
    /// Channels and connections whose number is this modulo that.
    frozen_lanes: Option<(usize, usize)>,
    frozen_pipes: Option<(usize, usize)>,
    frozen_storage: bool,
}

impl Mood {
    /// Mostly nothing is frozen.
    pub(crate) fn of(random: &mut Random) -> Self {
        let mut mood = Self::default();
        if random.percent(15) {
            mood.frozen_shards = random.bits() & random.bits();
        }
        if random.percent(30) {
            mood.frozen_lanes = Some((random.below(3) + 2, random.below(2)));
        }
        if random.percent(30) {
            mood.frozen_pipes = Some((random.below(3) + 2, random.below(2)));
        }
        mood.frozen_storage = random.percent(40);
        mood
    }

    fn is_frozen(&self, shard: usize) -> bool {
        self.frozen_shards >> shard & 1 == 1
    }

    fn is_still(lanes: Option<(usize, usize)>, number: usize) -> bool {
        lanes.is_some_and(|(modulus, rest)| number % modulus == rest)
    }
}

/// One kind of thing that the network does if there is one to do.
type Act = fn(&mut Network, &mut Random, &Mood) -> bool;

const ACTS: [Act; 8] = [
    Network::hand,
    Network::flush,
    Network::carry,
    Network::room,
    Network::store,
    Network::judge,
    Network::go_on,
    Network::settle,
];

/// The pipe with a number is the harness's end with that number.
pub(crate) struct Network {
    harness: Harness<Surroundings>,
    /// The first pipe that may still do anything.
    first_pipe: usize,
    /// Bits of shards that do not go on with what they have put off.
    pub(crate) held_back: u64,
}

impl Network {
    pub(crate) fn new(scenario: &Scenario, life: Life) -> Self {
        let Scenario { shard_count, channel_count_max, limits, slices, seed, .. } = *scenario;
        let surroundings = Surroundings::new(scenario, life);
        let pool = Arc::clone(surroundings.shortage.pool());
        let harness = Harness::new(shard_count, channel_count_max, limits, seed, surroundings);
        let mut harness = harness.with_slices(slices).with_pool(&pool);
        // The checker does without.
        let audits = std::env::var_os("RINGMQ_SIMULATION_AUDIT");
        harness.audits = audits.is_none_or(|value| value != "0");
        Self { harness, first_pipe: 0, held_back: 0 }
    }

    pub(crate) fn now(&self) -> Time {
        self.harness.now
    }

    pub(crate) fn pipes(&self) -> &[Pipe] {
        &self.harness.world.pipes
    }

    pub(crate) fn life(&mut self) -> &mut Life {
        &mut self.harness.world.life
    }

    /// Notes what happens to a message now.
    pub(crate) fn note(&mut self, message: Option<usize>, text: impl FnOnce() -> String) {
        self.harness.world.life.note(self.harness.now, message, text);
    }

    pub(crate) fn take_reports(&mut self) -> Vec<(Time, Report)> {
        std::mem::take(&mut self.harness.world.reports)
    }

    /// Opens a connection; the number names it from now on.
    pub(crate) fn open(&mut self, client: usize) -> usize {
        let now = self.now();
        self.harness.world.pipes.push(Pipe {
            client,
            handed: 0,
            sent: 0,
            marks: VecDeque::new(),
            ending: None,
            blocked: None,
            heard: now,
            written: now,
            was_paused: false,
            was_closed: false,
            is_paused: false,
        });
        self.harness.open()
    }

    fn pipe(&mut self, number: usize) -> &mut Pipe {
        &mut self.harness.world.pipes[number]
    }

    fn report(&mut self, report: Report) {
        self.harness.world.reports.push((self.harness.now, report));
    }

    /// Sends one packet, which is reported under its number once the broker has all of it.
    pub(crate) fn send(&mut self, number: usize, bytes: &[u8], packet: usize) {
        self.harness.send(number, bytes);
        let pipe = self.pipe(number);
        pipe.sent += bytes.len() as u64;
        pipe.marks.push_back((pipe.sent, packet));
    }

    /// Ends a connection from the client's side; `kept` of a thousand bytes on their way still
    /// arrive.
    pub(crate) fn end(&mut self, number: usize, how: End, kept: usize) {
        let end = &mut self.harness.ends[number];
        if how != End::Close {
            end.way.truncate(end.way.len() * kept / 1000);
        }
        end.inbox.clear();
        self.pipe(number).ending = Some(how);
        if how == End::Reset
            && let Some((_, connection)) = self.harness.connection_mut(number)
        {
            connection.is_broken = true;
        }
    }

    /// Whether the broker has got the whole first packet.
    pub(crate) fn is_placed(&self, number: usize) -> bool {
        self.harness.is_placed(number) || self.harness.ends[number].is_over
    }

    /// Loses a connection that has no home yet.
    pub(crate) fn abandon(&mut self, number: usize) {
        self.report(Report::Ended { pipe: number, by_broker: false });
        self.harness.ends[number].inbox.clear();
        self.harness.leave(number);
    }

    /// Closes the connection of a client, whichever it has.
    pub(crate) fn expel(&mut self, client_id: &str) {
        self.harness.expel(client_id);
    }

    /// What has come for the client, and whether the broker has closed behind it.
    pub(crate) fn receive(&mut self, number: usize, into: &mut Vec<u8>) -> bool {
        let end = &mut self.harness.ends[number];
        into.append(&mut end.inbox);
        end.is_over
    }

    /// Does one thing if there is one to do.
    pub(crate) fn act(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let first = random.pick(&[0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 7]);
        (0..ACTS.len()).any(|offset| ACTS[(first + offset) % ACTS.len()](self, random, mood))
    }

    /// Moves the clock; timers fire on their way. A look into sockets takes no time.
    pub(crate) fn advance(&mut self, to: Time) {
        let mut random = Random::new(self.now().ms());
        while self.now() < to {
            self.harness.step_towards(to);
            while self.settle(&mut random, &Mood::default()) {}
        }
    }

    /// A number that is the same if and only if everything was the same, byte by byte.
    pub(crate) fn trace(&self) -> u64 {
        self.harness.world.trace.finish()
    }

    /// All shards, from one on that chance chooses.
    fn shards_from(&self, random: &mut Random) -> impl Iterator<Item = usize> + use<> {
        let count = self.harness.shards.len();
        let first = random.below(count);
        (0..count).map(move |offset| (first + offset) % count)
    }

    /// Gives the broker bytes of some connection, or its end.
    fn hand(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let (first, count) = (self.first_pipe, self.pipes().len() - self.first_pipe);
        let start = if count > 0 { random.below(count) } else { 0 };
        for offset in 0..count {
            let number = first + (start + offset) % count;
            if self.may_hand(number, mood) {
                self.hand_one(number, random);
                return true;
            }
        }
        while self.harness.ends.get(self.first_pipe).is_some_and(|end| end.is_over) {
            self.first_pipe += 1;
        }
        false
    }

    /// Whether the broker can learn that the client has ended the connection.
    fn has_end(&self, number: usize) -> bool {
        matches!(self.pipes()[number].ending, Some(End::Close | End::Reset))
    }

    fn may_hand(&self, number: usize, mood: &Mood) -> bool {
        let end = &self.harness.ends[number];
        let idle = end.is_over || end.way.is_empty() && !self.has_end(number);
        if idle || Mood::is_still(mood.frozen_pipes, number) {
            return false;
        }
        let Some((shard, connection)) = self.harness.connection(number) else { return true };
        let is_reset = self.pipes()[number].ending == Some(End::Reset);
        let is_read = !connection.is_paused || is_reset;
        is_read && !connection.is_closing && !mood.is_frozen(shard)
    }

    fn hand_one(&mut self, number: usize, random: &mut Random) {
        let length = self.harness.ends[number].way.len();
        if length == 0 || self.harness.connection(number).is_some_and(|(_, at)| at.is_paused) {
            self.report(Report::Ended { pipe: number, by_broker: false });
            return self.harness.leave(number);
        }
        let (count, now) = (random.piece(length), self.now());
        let pipe = self.pipe(number);
        pipe.handed += count as u64;
        pipe.heard = now;
        self.harness.hand(number, count, |shard_count| random.below(shard_count));
        self.report_handed(number);
    }

    fn report_handed(&mut self, number: usize) {
        let is_closed = match self.harness.connection(number) {
            Some((_, connection)) => connection.is_closing,
            None => self.is_placed(number),
        };
        let (now, world) = (self.now(), &mut self.harness.world);
        let pipe = &mut world.pipes[number];
        while pipe.marks.front().is_some_and(|(end, _)| *end <= pipe.handed) {
            let (_, packet) = pipe.marks.pop_front().expect("it was just seen");
            let is_last = pipe.marks.front().is_none_or(|(end, _)| *end > pipe.handed);
            let closed = is_closed && is_last;
            world.reports.push((now, Report::Handed { pipe: number, packet, closed }));
        }
    }

    /// Writes some of what waits for some client.
    fn flush(&mut self, random: &mut Random, mood: &Mood) -> bool {
        for shard in self.shards_from(random) {
            let count = self.harness.desks[shard].connections.len();
            let start = if count > 0 { random.below(count) } else { 0 };
            for offset in 0..count {
                let slot = (start + offset) % count;
                if !mood.is_frozen(shard) && self.flush_one(shard, slot, random, mood) {
                    return true;
                }
            }
        }
        false
    }

    fn flush_one(&mut self, shard: usize, slot: usize, random: &mut Random, mood: &Mood) -> bool {
        let Some(connection) = &self.harness.desks[shard].connections[slot] else { return false };
        let (number, id) = (connection.end, connection.id);
        if Mood::is_still(mood.frozen_pipes, number) {
            return false;
        }
        let taken = self.harness.ends[number].inbox.len();
        let room = match self.has_end(number) {
            true => usize::MAX,
            false => self.harness.world.scenario.socket_bytes.saturating_sub(taken),
        };
        if room == 0 || connection.outbox.is_empty() {
            return self.flush_nothing(number, room);
        }
        let bytes = connection.outbox.front();
        let bytes = &bytes[..random.piece(bytes.len().min(room))];
        (id, bytes).hash(&mut self.harness.world.trace);
        let (count, is_last) = (bytes.len(), bytes.len() == connection.outbox.len());
        let now = self.now();
        let pipe = self.pipe(number);
        pipe.written = now;
        pipe.blocked = pipe.blocked.filter(|_| !is_last);
        self.harness.write(number, count);
        if self.has_end(number) {
            self.harness.ends[number].inbox.clear();
        }
        true
    }

    /// There is nothing to write, or no room to write it to.
    fn flush_nothing(&mut self, number: usize, room: usize) -> bool {
        let (_, connection) = self.harness.connection(number).expect("it was just seen");
        if connection.is_closing {
            self.harness.cut(number); // A client that does not read is not waited for.
            return true;
        }
        let is_blocked = room == 0 && !connection.outbox.is_empty();
        if is_blocked && self.pipes()[number].blocked.is_none() {
            self.pipe(number).blocked = Some(self.harness.now);
            self.harness.block(number);
            return true;
        }
        false
    }

    /// Delivers one message of one channel.
    fn carry(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let count = self.harness.shards.len();
        let first = random.below(count * count);
        for offset in 0..count * count {
            let lane = (first + offset) % (count * count);
            let (from, to) = (lane / count, lane % count);
            let is_still = mood.is_frozen(to) || Mood::is_still(mood.frozen_lanes, lane);
            if !is_still && self.harness.deliver(from, to) {
                return true;
            }
        }
        false
    }

    /// Tells a shard that a channel that was full has room.
    fn room(&mut self, random: &mut Random, mood: &Mood) -> bool {
        for from in self.shards_from(random) {
            let mut channels = self.harness.desks[from].channels.iter();
            let Some(to) = channels.position(|channel| channel.has_room) else { continue };
            if !mood.is_frozen(from) {
                return self.harness.room(from, to);
            }
        }
        false
    }

    /// Storage has written some more of what it was given, in its order.
    fn store(&mut self, random: &mut Random, mood: &Mood) -> bool {
        for shard in self.shards_from(random) {
            let count = self.harness.desks[shard].stored.len();
            if count > 0 && !mood.frozen_storage && !mood.is_frozen(shard) {
                return self.harness.persist(shard, random.piece(count));
            }
        }
        false
    }

    /// Lets in, or asks, a client that took time to judge.
    fn judge(&mut self, random: &mut Random, _: &Mood) -> bool {
        for shard in self.shards_from(random) {
            let count = self.harness.desks[shard].judging.len();
            if count > 0 {
                return self.harness.judge(shard, random.below(count));
            }
        }
        false
    }

    /// A turn of a shard ends, and it goes on with what it has put off.
    fn go_on(&mut self, random: &mut Random, mood: &Mood) -> bool {
        self.shards_from(random).any(|shard| {
            let is_held = mood.is_frozen(shard) || self.held_back >> shard & 1 == 1;
            !is_held && self.harness.turn(shard)
        })
    }
}
