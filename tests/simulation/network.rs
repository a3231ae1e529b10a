//! What lies around the shards: connections that split, delay and lose bytes, channels that fill,
//! storage that answers late, a clock that somebody else moves.
//!
//! One [`Network::act`] does one thing, wherever a [`Random`] says; nothing happens by itself.

mod inspection;
mod memory;
mod settle;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use ahash::RandomState;
use ringmq::auth::Verdict;
use ringmq::metrics::DropCause;
use ringmq::routing::{Partition, ShardId};
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Home, Input, Message, Shard, home};

use crate::desk::{Desk, Stored};
use crate::life::Life;
use crate::scenario::Scenario;
use harness::random::Random;

use memory::Shortage;

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
    to_broker: Vec<u8>,
    /// Bytes that were given to the broker.
    handed: u64,
    /// Bytes that the client has sent.
    sent: u64,
    /// Where packets end, and their numbers.
    marks: VecDeque<(u64, usize)>,
    pub(crate) ending: Option<End>,
    to_client: Vec<u8>,
    /// What came before it could be told which shard is the connection's home.
    unplaced: Vec<u8>,
    /// Shard and place in its table.
    home: Option<(usize, usize)>,
    /// Since when the broker knows that the client takes nothing, if it does not.
    pub(crate) blocked: Option<Time>,
    /// The broker has no part in it any more.
    over: bool,
    /// When the broker last got a byte.
    pub(crate) heard: Time,
    /// When the client's end last took a byte.
    pub(crate) written: Time,
    pub(crate) was_paused: bool,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Hand,
    Flush,
    Carry,
    Room,
    Store,
    Judge,
    Continue,
    Settle,
}

const KINDS: [Kind; 8] = [
    Kind::Hand,
    Kind::Flush,
    Kind::Carry,
    Kind::Room,
    Kind::Store,
    Kind::Judge,
    Kind::Continue,
    Kind::Settle,
];

pub(crate) struct Network {
    pub(crate) now: Time,
    scenario: Scenario,
    partition: Partition,
    shards: Vec<Shard>,
    shortage: Shortage,
    desks: Vec<Desk>,
    pub(crate) pipes: Vec<Pipe>,
    /// The first pipe that may still do anything.
    first_pipe: usize,
    /// Bits of shards that do not go on with what they have put off.
    pub(crate) held_back: u64,
    /// With their time.
    pub(crate) reports: Vec<(Time, Report)>,
    trace: DefaultHasher,
    pub(crate) life: Life,
    /// Whether shards are asked to look at themselves; the checker does without.
    audits: bool,
}

impl Network {
    pub(crate) fn new(scenario: &Scenario, life: Life) -> Self {
        let (count, seed) = (scenario.shard_count, scenario.seed);
        let partition = Partition::new(count, [seed, 1, 2, 3]);
        let hasher = RandomState::with_seeds(seed, 4, 5, 6);
        let shortage = Shortage::new(&scenario.limits);
        let shard = |id| {
            Shard::new(id, partition.clone(), scenario.limits, hasher.clone())
                .with_slices(scenario.slices)
                .with_pool(shortage.pool())
        };
        Self {
            now: Time::START,
            shards: partition.shards().map(shard).collect(),
            shortage,
            desks: (0..count).map(|_| Desk::new(count, scenario.channel_count_max)).collect(),
            partition,
            scenario: Scenario { steps: Vec::new(), ..scenario.clone() },
            pipes: Vec::new(),
            first_pipe: 0,
            held_back: 0,
            reports: Vec::new(),
            trace: DefaultHasher::new(),
            life,
            audits: std::env::var_os("RINGMQ_SIMULATION_AUDIT").is_none_or(|value| value != "0"),
        }
    }

    /// Opens a connection; the number names it from now on.
    pub(crate) fn open(&mut self, client: usize) -> usize {
        self.pipes.push(Pipe {
            client,
            to_broker: Vec::new(),
            handed: 0,
            sent: 0,
            marks: VecDeque::new(),
            ending: None,
            to_client: Vec::new(),
            unplaced: Vec::new(),
            home: None,
            blocked: None,
            over: false,
            heard: self.now,
            written: self.now,
            was_paused: false,
            is_paused: false,
        });
        self.pipes.len() - 1
    }

    /// Sends one packet, which is reported under its number once the broker has all of it.
    pub(crate) fn send(&mut self, pipe: usize, bytes: &[u8], packet: usize) {
        let pipe = &mut self.pipes[pipe];
        pipe.to_broker.extend_from_slice(bytes);
        pipe.sent += bytes.len() as u64;
        pipe.marks.push_back((pipe.sent, packet));
    }

    /// Ends a connection from the client's side; of the bytes on their way so many in a thousand
    /// still arrive.
    pub(crate) fn end(&mut self, pipe: usize, how: End, kept: usize) {
        let pipe = &mut self.pipes[pipe];
        if how != End::Close {
            pipe.to_broker.truncate(pipe.to_broker.len() * kept / 1000);
        }
        pipe.to_client.clear();
        pipe.ending = Some(how);
        let broken = pipe.home.filter(|_| how == End::Reset && !pipe.over);
        broken.into_iter().for_each(|(shard, slot)| self.desks[shard].break_off(slot));
    }

    /// Whether the broker has got the whole first packet.
    pub(crate) fn is_placed(&self, pipe: usize) -> bool {
        self.pipes[pipe].home.is_some() || self.pipes[pipe].over
    }

    /// Loses a connection that has no home yet.
    pub(crate) fn abandon(&mut self, pipe: usize) {
        self.reports.push((self.now, Report::Ended { pipe, by_broker: false }));
        let pipe = &mut self.pipes[pipe];
        pipe.to_broker.clear();
        pipe.to_client.clear();
        pipe.over = true;
    }

    /// Closes the connection of a client, whichever it has.
    pub(crate) fn expel(&mut self, client_id: &str) {
        let home = self.partition.home(client_id).index();
        self.handle(home, Input::Expel { client_id });
    }

    /// What has come for the client, and whether the broker has closed behind it.
    pub(crate) fn receive(&mut self, pipe: usize, into: &mut Vec<u8>) -> bool {
        let pipe = &mut self.pipes[pipe];
        into.append(&mut pipe.to_client);
        pipe.over
    }

    /// What of a message storage has not confirmed, for a session of one of these clients.
    pub(crate) fn unconfirmed(&self, is_it: impl Fn(&Stored) -> bool) -> Option<&Stored> {
        self.desks.iter().flat_map(|desk| &desk.stored).map(|(_, what)| what).find(|w| is_it(w))
    }

    /// Does one thing if there is one to do.
    pub(crate) fn act(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let first = random.pick(&[0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 7]);
        for offset in 0..KINDS.len() {
            let moved = match KINDS[(first + offset) % KINDS.len()] {
                Kind::Hand => self.hand(random, mood),
                Kind::Flush => self.flush(random, mood),
                Kind::Carry => self.carry(random, mood),
                Kind::Room => self.room(random, mood),
                Kind::Store => self.store(random, mood),
                Kind::Judge => self.judge(random),
                Kind::Continue => self.go_on(random, mood),
                Kind::Settle => self.settle(random, mood),
            };
            if moved {
                return true;
            }
        }
        false
    }

    /// Moves the clock; timers fire on their way. A look into sockets takes no time.
    pub(crate) fn advance(&mut self, to: Time) {
        let mut random = Random::new(self.now.ms());
        while self.now < to {
            let next = self.shards.iter().filter_map(Shard::next_timeout).min();
            self.now = next.unwrap_or(to).clamp(self.now, to);
            for index in 0..self.shards.len() {
                if self.shards[index].next_timeout().is_some_and(|timeout| timeout <= self.now) {
                    self.handle(index, Input::Timeout);
                }
            }
            while self.settle(&mut random, &Mood::default()) {}
        }
    }

    /// A number that is the same if and only if everything was the same, byte by byte.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn handle(&mut self, index: usize, input: Input<'_>) {
        (index, self.now.ms(), std::mem::discriminant(&input)).hash(&mut self.trace);
        if let Input::Bytes { connection, bytes } = &input {
            (connection, bytes).hash(&mut self.trace);
        }
        let before = self.shards[index].counters();
        self.shards[index].handle(self.now, input, &mut self.desks[index]);
        self.weigh(index);
        self.audit(index);
        for (record, what) in std::mem::take(&mut self.desks[index].judged) {
            (record, what).hash(&mut self.trace);
        }
        self.take_closed(index);
        self.report_deliveries(index, &before);
    }

    /// Connections that the shard closed with nothing left to write are over.
    fn take_closed(&mut self, index: usize) {
        for slot in 0..self.desks[index].connections.len() {
            let Some(io) = &mut self.desks[index].connections[slot] else { continue };
            let pipe = &mut self.pipes[io.pipe];
            pipe.was_paused |= io.paused;
            if io.closing && !io.told {
                io.told = true;
                pipe.is_paused = io.paused;
                self.reports.push((self.now, Report::Ended { pipe: io.pipe, by_broker: true }));
            }
        }
    }

    /// Gives the broker bytes of some connection, or its end.
    fn hand(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let (first, count) = (self.first_pipe, self.pipes.len() - self.first_pipe);
        let start = if count > 0 { random.below(count) } else { 0 };
        for offset in 0..count {
            let number = first + (start + offset) % count;
            if self.may_hand(number, mood) {
                self.hand_one(number, random);
                return true;
            }
        }
        while self.pipes.get(self.first_pipe).is_some_and(|pipe| pipe.over) {
            self.first_pipe += 1;
        }
        false
    }

    fn may_hand(&self, number: usize, mood: &Mood) -> bool {
        let pipe = &self.pipes[number];
        let has_end = matches!(pipe.ending, Some(End::Close | End::Reset));
        let idle = pipe.over || pipe.to_broker.is_empty() && !has_end;
        if idle || Mood::is_still(mood.frozen_pipes, number) {
            return false;
        }
        let Some((shard, slot)) = pipe.home else { return true };
        let io = self.desks[shard].connections[slot].as_ref().expect("it is not over");
        let is_read = !io.paused || pipe.ending == Some(End::Reset);
        is_read && !io.closing && !mood.is_frozen(shard)
    }

    fn hand_one(&mut self, number: usize, random: &mut Random) {
        let pipe = &mut self.pipes[number];
        let is_paused = pipe.home.is_some_and(|(shard, slot)| {
            self.desks[shard].connections[slot].as_ref().is_some_and(|io| io.paused)
        });
        if pipe.to_broker.is_empty() || is_paused {
            return self.hand_end(number);
        }
        let count = random.piece(pipe.to_broker.len());
        let bytes: Vec<u8> = pipe.to_broker.drain(..count).collect();
        pipe.handed += count as u64;
        pipe.heard = self.now;
        match pipe.home {
            Some((shard, slot)) => {
                let id = self.desks[shard].connections[slot].as_ref().expect("it is read").id;
                self.handle(shard, Input::Bytes { connection: id, bytes: &bytes });
            }
            None => {
                pipe.unplaced.extend_from_slice(&bytes);
                self.place(number, random);
            }
        }
        self.report_handed(number);
    }

    fn report_handed(&mut self, number: usize) {
        let pipe = &mut self.pipes[number];
        let closed = pipe.home.is_some_and(|(shard, slot)| {
            self.desks[shard].connections[slot].as_ref().is_none_or(|io| io.closing)
        });
        while pipe.marks.front().is_some_and(|(end, _)| *end <= pipe.handed) {
            let (_, packet) = pipe.marks.pop_front().expect("it was just seen");
            let closed = closed && pipe.marks.front().is_none_or(|(end, _)| *end > pipe.handed);
            self.reports.push((self.now, Report::Handed { pipe: number, packet, closed }));
        }
    }

    fn hand_end(&mut self, number: usize) {
        let pipe = &mut self.pipes[number];
        pipe.over = true;
        pipe.to_broker.clear();
        self.reports.push((self.now, Report::Ended { pipe: number, by_broker: false }));
        if let Some((shard, slot)) = pipe.home {
            let id = self.desks[shard].connections[slot].as_ref().expect("it is not over").id;
            self.handle(shard, Input::Closed { connection: id });
            self.desks[shard].connections[slot] = None;
        }
    }

    /// The server reads a connection's first packet before it knows its home.
    fn place(&mut self, number: usize, random: &mut Random) {
        let unplaced = &self.pipes[number].unplaced;
        let packet_bytes_max = self.scenario.limits.packet_bytes_max;
        let shard = match home(unplaced, packet_bytes_max, &self.partition) {
            Home::Undecided => return,
            Home::At(home) => home.index(),
            Home::Anywhere => random.below(self.shards.len()),
        };
        let client = self.pipes[number].client;
        let name = self.scenario.clients.get(client).map_or("", |profile| &profile.name);
        let (slot, connection) = self.desks[shard].open(number, name);
        let pipe = &mut self.pipes[number];
        pipe.home = Some((shard, slot));
        let bytes = std::mem::take(&mut pipe.unplaced);
        self.handle(shard, Input::Opened { connection });
        self.handle(shard, Input::Bytes { connection, bytes: &bytes });
    }

    /// Writes some of what waits for some client.
    fn flush(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let first = random.below(self.shards.len());
        for offset in 0..self.shards.len() {
            let shard = (first + offset) % self.shards.len();
            let count = self.desks[shard].connections.len();
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
        let Some(io) = &mut self.desks[shard].connections[slot] else { return false };
        let (number, id) = (io.pipe, io.id);
        let pipe = &mut self.pipes[number];
        if Mood::is_still(mood.frozen_pipes, number) {
            return false;
        }
        let is_gone = matches!(pipe.ending, Some(End::Close | End::Reset));
        let room = match is_gone {
            true => usize::MAX,
            false => self.scenario.socket_bytes.saturating_sub(pipe.to_client.len()),
        };
        if room == 0 || io.outbox.is_empty() {
            return self.flush_nothing(shard, slot, room);
        }
        let bytes = io.outbox.front();
        let count = random.piece(bytes.len().min(room));
        (id, &bytes[..count]).hash(&mut self.trace);
        if !is_gone {
            pipe.to_client.extend_from_slice(&bytes[..count]);
        }
        io.outbox.consume(count);
        pipe.written = self.now;
        pipe.blocked = pipe.blocked.filter(|_| !io.outbox.is_empty());
        if !io.closing && io.outbox.take_drained() {
            self.handle(shard, Input::Drained { connection: id });
        }
        true
    }

    /// There is nothing to write, or no room to write it to.
    fn flush_nothing(&mut self, shard: usize, slot: usize, room: usize) -> bool {
        let io = self.desks[shard].connections[slot].as_mut().expect("it was just seen");
        let (number, id) = (io.pipe, io.id);
        let pipe = &mut self.pipes[number];
        if io.closing {
            // Who does not read is not waited for.
            pipe.over = true;
            self.desks[shard].connections[slot] = None;
            return true;
        }
        if room == 0 && !io.outbox.is_empty() && pipe.blocked.is_none() {
            pipe.blocked = Some(self.now);
            self.handle(shard, Input::Blocked { connection: id });
            return true;
        }
        false
    }

    /// Delivers one message of one channel.
    fn carry(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let count = self.shards.len();
        let first = random.below(count * count);
        for offset in 0..count * count {
            let lane = (first + offset) % (count * count);
            let (from, to) = (lane / count, lane % count);
            if self.desks[from].channels[to].is_empty()
                || mood.is_frozen(to)
                || Mood::is_still(mood.frozen_lanes, lane)
            {
                continue;
            }
            let message = self.desks[from].channels[to].pop_front().expect("it is not empty");
            if std::mem::take(&mut self.desks[from].starved[to]) {
                self.desks[from].room[to] = true;
            }
            self.note_message(from, to, &message);
            self.handle(to, Input::Message { from: ShardId::from_index(from), message });
            return true;
        }
        false
    }

    fn note_message(&mut self, from: usize, to: usize, message: &Message) {
        (from, to, std::mem::discriminant(message)).hash(&mut self.trace);
        self.life.note_message(self.now, from, to, message);
    }

    /// Tells a shard that a channel that was full has room.
    fn room(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let first = random.below(self.shards.len());
        for offset in 0..self.shards.len() {
            let from = (first + offset) % self.shards.len();
            let Some(to) = self.desks[from].room.iter().position(|has_room| *has_room) else {
                continue;
            };
            if !mood.is_frozen(from) {
                self.desks[from].room[to] = false;
                self.handle(from, Input::Room { to: ShardId::from_index(to) });
                return true;
            }
        }
        false
    }

    /// Storage has written some more of what it was given, in its order.
    fn store(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let first = random.below(self.shards.len());
        for offset in 0..self.shards.len() {
            let shard = (first + offset) % self.shards.len();
            let count = self.desks[shard].stored.len();
            if count == 0 || mood.frozen_storage || mood.is_frozen(shard) {
                continue;
            }
            let written = random.piece(count);
            let last = self.desks[shard].stored.drain(..written).next_back();
            let (token, _) = last.expect("at least one was written");
            self.handle(shard, Input::Persisted { token });
            return true;
        }
        false
    }

    /// Lets in, or asks, a client that took time to judge.
    fn judge(&mut self, random: &mut Random) -> bool {
        let first = random.below(self.shards.len());
        for offset in 0..self.shards.len() {
            let shard = (first + offset) % self.shards.len();
            if let Some(judged) = self.desks[shard].take_judging(random) {
                self.tell_judged(shard, judged);
                return true;
            }
        }
        false
    }

    /// A turn of a shard ends, and it goes on with what it has put off.
    fn go_on(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let first = random.below(self.shards.len());
        for offset in 0..self.shards.len() {
            let shard = (first + offset) % self.shards.len();
            let is_held = mood.is_frozen(shard) || self.held_back >> shard & 1 == 1;
            if !is_held && self.shards[shard].end_turn() {
                self.handle(shard, Input::Continue);
                return true;
            }
        }
        false
    }

    fn tell_judged(&mut self, shard: usize, (connection, verdict): (ConnectionId, Verdict)) {
        self.handle(shard, Input::Authenticated { connection, verdict });
    }
}
