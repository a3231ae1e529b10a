//! The pump of one executor: the only thing that gives inputs to its shard.
//!
//! Everything is handled in turns: a turn takes what the ring, the other shards and the clock have,
//! gives it to the shard, and then writes to every connection that has got something, so one system
//! call carries what many inputs caused.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::metrics::Counters;
use crate::session::Time;
use crate::shard::{ConnectionId, Input, Message, Shard};
use ringmq_io::{Chunk, Event, Key, Reading, Sockets, Written};

use super::accept::{self, Around, Arrivals};
use super::connections::{self, Connections, key};
use super::effects::Effects;
use super::handoff::Handoff;
use super::memory::Lookout;
use super::mesh::Found;

/// Findings of the mesh that are handled before it is looked at again.
const FINDINGS_PER_TURN: usize = 1024;
/// Connections written in one system call.
const WRITES_PER_CALL: usize = 256;
/// Connections written before other tasks get their turn.
const WRITES_PER_TURN: usize = 512;
/// Bytes given to the kernel in a turn after which no further write begins to those for whom little
/// waits.
const WRITE_BYTES_PER_TURN: usize = 4 << 20;
/// The same for those for whom much waits, who do not hold up the others so.
const HEAVY_BYTES_PER_TURN: usize = 2 << 20;
/// The same for both where many want much of a turn.
const CROWD_WRITE_BYTES: usize = 1 << 20;
/// Connections of a turn that are opened: a storm of them lets others have their turn.
const OPENED_PER_TURN: usize = 16;
/// System calls of a turn that read.
const READS_PER_TURN: usize = 64;
/// The same after a turn that could not write everything: the rest comes first, or the last
/// subscriber of a topic would wait for the acknowledgements of the others.
const READS_WHEN_BEHIND: usize = 4;
/// The same where many want much, or memory is short.
const READS_IN_CROWD: usize = 8;
/// How long those read on that have sent more than their share before it is looked whether others
/// wait. More often would split what many readers acknowledge together into small parts.
const READ_ON_ALONE: Duration = Duration::from_millis(2);
/// How long events are taken where many want much.
const CROWD_TAKES: Duration = Duration::from_millis(1);
/// Of the turns behind such a one, one in this many goes on with what was put off, so that readers
/// of very much do not hold it up for ever. With more of them the last subscriber waits longer for
/// what is added.
const CONTINUE_WHEN_BEHIND: u32 = 256;

/// A shard and everything around it that belongs to the same executor.
pub(super) struct Core {
    pub(super) shard: Shard,
    pub(super) effects: Effects,
    sockets: Sockets,
    started: Instant,
    /// What other shards have sent and is not handled yet, the oldest first.
    found: VecDeque<Found<Message, Handoff>>,
    /// The mesh has the waker of the task that runs turns.
    is_registered: bool,
    sent_bytes: u64,
    wakes: u64,
    arrivals: Arrivals,
    /// Turns in succession that have left something to be written, up to the last one.
    behind_count: u32,
    /// The broker stops: what is closed now is still written out.
    pub(super) stopping: bool,
    batch: Batch,
    lookout: Lookout,
}

/// Connections that are written together; empty between calls.
#[derive(Default)]
struct Batch {
    writes: Vec<ConnectionId>,
    results: Vec<io::Result<Written>>,
    /// Those that have nothing to write.
    idle: Vec<ConnectionId>,
}

/// Gives the next connection that is to be written.
type NextConnection = fn(&mut Connections) -> Option<ConnectionId>;

/// What follows a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Another turn, because something is left to be done.
    Turn,
    /// Nothing, until something happens or this time has come.
    Sleep(Option<Time>),
}

impl Core {
    pub(super) fn new(
        shard: Shard,
        effects: Effects,
        sockets: Sockets,
        arrivals: Arrivals,
        started: Instant,
    ) -> Self {
        Self {
            shard,
            effects,
            sockets,
            started,
            found: VecDeque::new(),
            is_registered: false,
            sent_bytes: 0,
            wakes: 0,
            arrivals,
            behind_count: 0,
            stopping: false,
            batch: Batch::default(),
            lookout: Lookout::default(),
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::START + self.started.elapsed()
    }

    /// Gives one input to the shard.
    fn handle(&mut self, input: Input<'_>) {
        self.handle_at(self.now(), input);
    }

    /// Takes what other shards have sent, unless some of it is still to be handled.
    fn look_at_mesh(&mut self, waker: &Waker) {
        let mesh = &self.effects.mesh;
        if self.found.is_empty() && (mesh.is_rung() || !self.is_registered) {
            self.is_registered = true;
            mesh.look(waker, FINDINGS_PER_TURN, |one| self.found.push_back(one));
        }
    }

    /// Handles what came from other shards, all at the time it is now, until the turn has taken as
    /// long as it may.
    fn handle_found(&mut self) {
        let now = self.now();
        while !self.shard.is_turn_over()
            && let Some(one) = self.found.pop_front()
        {
            match one {
                Found::Message(from, message) => {
                    self.handle_at(now, Input::Message { from, message });
                }
                Found::Room(to) => self.handle_at(now, Input::Room { to }),
                Found::Handoff(handoff) => self.arrivals.adopt(handoff),
            }
        }
    }

    /// Has the shard look at its timers, if one is due.
    fn handle_timers(&mut self) {
        let now = self.now();
        if self.shard.next_timeout().is_some_and(|time| time <= now) {
            self.handle_at(now, Input::Timeout);
        }
    }

    /// Accepts connections, reads on in those whose CONNECT is not whole, and opens those that are
    /// at home.
    fn admit(&mut self) {
        let now = self.now();
        let (sockets, shard, effects) = (&mut self.sockets, &mut self.shard, &mut self.effects);
        self.arrivals.turn(&mut Around { sockets, shard, effects, now });
        self.open_arrived();
    }

    fn handle_arriving(&mut self, now: Time, key: Key, event: Event) {
        let (sockets, shard, effects) = (&mut self.sockets, &mut self.shard, &mut self.effects);
        self.arrivals.handle_event(key, event, &mut Around { sockets, shard, effects, now });
    }

    /// Has the shard handle the first bytes of connections that have come: of one in any case.
    fn open_arrived(&mut self) {
        for count in 0..OPENED_PER_TURN {
            if count > 0 && self.shard.is_turn_over() {
                return;
            }
            let Some(handoff) = self.arrivals.next_at_home() else { return };
            let Handoff { socket, bytes, arrival, permit } = handoff;
            let id = self.effects.connections.insert(socket, arrival, bytes.len(), permit);
            self.handle(Input::Opened { connection: id });
            self.handle(Input::Bytes { connection: id, bytes: &bytes });
        }
    }

    /// Closes every connection once its outbox is written.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.arrivals.stop();
        self.handle(Input::Shutdown);
    }

    /// What the shard and its executor have counted.
    pub(super) fn counters(&self) -> Counters {
        Counters { bytes_sent: self.sent_bytes, mesh_wakes: self.wakes, ..self.shard.counters() }
    }

    /// One turn: handles what has come, writes what waits, rings other shards. `waker` is woken
    /// when another shard sends something after that.
    pub(super) fn turn(&mut self, waker: &Waker) -> Next {
        self.sockets.wake();
        let settling = self.effects.connections.take_settling();
        self.shard.begin_turn();
        if self.effects.connections.has_late() {
            self.turn_reading();
        }
        // What the last turn left comes first in this one.
        let is_left = !self.found.is_empty();
        self.look_at_mesh(waker);
        if is_left {
            self.handle_found();
        }
        self.take_events(self.reads());
        if !is_left {
            self.handle_found();
        }
        self.handle_timers();
        self.admit();
        self.read_on();
        self.turn_reading();
        self.write_dirty();
        settling.into_iter().for_each(|id| self.end_look(id));
        let started = self.started;
        self.lookout.handle_turn(self.shard.pool(), || Time::START + started.elapsed());
        self.balance();
        // What is put off is seldom added to what waits to be written.
        let is_due = self.behind_count.is_multiple_of(CONTINUE_WHEN_BEHIND);
        let more = is_due && self.shard.end_turn();
        if more {
            self.handle_at(self.now(), Input::Continue);
        }
        self.turn_reading();
        self.wakes += self.effects.mesh.ring();
        if more || self.has_work() || !self.sockets.sleep() {
            return Next::Turn;
        }
        Next::Sleep(self.shard.next_timeout().into_iter().chain(self.arrivals.next_time()).min())
    }

    /// Whether anything is left to be done that does not come from outside.
    fn has_work(&self) -> bool {
        let connections = &self.effects.connections;
        !self.found.is_empty()
            || self.arrivals.has_work()
            || connections.has_late()
            || connections.has_dirty()
            || connections.is_settling()
    }

    /// Whether there is a reason for a turn, which has come since the last one.
    pub(super) fn is_wanted(&self) -> bool {
        self.effects.mesh.is_rung() || self.has_work()
    }

    fn handle_at(&mut self, now: Time, input: Input<'_>) {
        feed(&mut self.shard, &mut self.effects, now, input);
    }

    /// System calls of this turn that read.
    fn reads(&self) -> usize {
        match () {
            () if self.behind_count > 0 => READS_WHEN_BEHIND,
            () if self.shard.is_crowded() => READS_IN_CROWD,
            () => READS_PER_TURN,
        }
    }

    fn take_events(&mut self, call_count_max: usize) {
        self.sockets.look(call_count_max);
        if self.shard.is_crowded() {
            self.sockets.put_much_last();
        }
        // All of it has arrived by now.
        let now = self.now();
        // What else has come waits for the next turn if this one has taken as long as it may.
        while !self.shard.is_turn_over()
            && !self.has_taken_long(now)
            && let Some((key, event)) = self.sockets.next_event()
        {
            if accept::is_arriving(key) {
                self.handle_arriving(now, key, event);
                continue;
            }
            let id = connections::id(key);
            match event {
                Event::Received(chunk) => self.handle_received(now, id, chunk),
                // What came before the end is handled before it, and that may have to wait.
                Event::Finished => self.set_reading(id, Reading::Ended),
                Event::Broken(error) => {
                    self.note_broken(id, &error);
                    self.set_reading(id, Reading::Ended);
                }
                Event::Disarmed => self.set_reading(id, Reading::Off),
                Event::Writable => self.handle_writable(id),
                Event::Acceptable => {}
            }
        }
    }

    /// Whether many want much and have had it for long. Units of work do not tell of that: what
    /// takes the time then is memory that is touched for the first time.
    fn has_taken_long(&self, since: Time) -> bool {
        self.shard.is_crowded() && self.now().since(since) > CROWD_TAKES
    }

    /// Has those read on that have sent more than their share, before anything is written: what
    /// they cause goes out together with the rest.
    fn read_on(&mut self) {
        let begun = self.now();
        while self.shard.may_read_on() {
            let now = self.now();
            if now.since(begun) > READ_ON_ALONE && self.is_asked() {
                return;
            }
            self.handle_at(now, Input::Continue);
            if self.shard.is_crowded() {
                return;
            }
            if !self.shard.may_read_on() {
                self.turn_reading(); // More of it may have been received meanwhile.
            }
        }
    }

    /// Takes what has come meanwhile; whether a client waits for an answer or a delivery because of
    /// it, for which the turn has to end. Acknowledgements have no answer.
    fn is_asked(&mut self) -> bool {
        self.turn_reading();
        self.balance();
        let before = self.shard.ask_count();
        self.take_events(1);
        self.shard.ask_count() != before || self.effects.mesh.is_rung()
    }

    fn balance(&mut self) {
        let bytes = self.effects.connections.memory_bytes() + self.arrivals.memory_bytes();
        self.shard.balance_with(bytes);
    }

    fn handle_received(&mut self, now: Time, id: ConnectionId, chunk: Chunk) {
        let bytes = self.sockets.bytes(&chunk);
        if let Some(io) = self.effects.connections.get_mut(id) {
            io.received_bytes += bytes.len() as u64;
            if io.takes_bytes() && io.held.is_empty() {
                let input = Input::Bytes { connection: id, bytes };
                feed(&mut self.shard, &mut self.effects, now, input);
            } else if !io.closing {
                io.held.extend_from_slice(bytes);
                self.effects.connections.charge(id);
            }
        }
        self.sockets.give_back(chunk);
    }

    /// Tells the shard that all that had come on a connection before this turn was given to it.
    fn end_look(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get(id) else { return };
        let is_quiet = io.takes_bytes()
            && io.held.is_empty()
            && !self.sockets.has_event(key(id))
            && io.has_nothing_unread();
        self.handle_at(self.now(), Input::Settled { connection: id, is_quiet });
    }

    fn note_broken(&mut self, id: ConnectionId, error: &io::Error) {
        if let Some(io) = self.effects.connections.get_mut(id) {
            io.broken = Some(error.kind());
        }
    }

    fn set_reading(&mut self, id: ConnectionId, reading: Reading) {
        if let Some(io) = self.effects.connections.get_mut(id) {
            io.reading = reading;
            self.effects.connections.turn(id);
        }
    }

    fn handle_writable(&mut self, id: ConnectionId) {
        if let Some(io) = self.effects.connections.get_mut(id) {
            io.blocked = false;
            self.effects.connections.touch(id);
        }
    }

    /// Has the ring read those that are to be read, and no others.
    fn turn_reading(&mut self) {
        self.effects.connections.turn_late();
        while let Some(id) = self.effects.connections.next_turned() {
            if self.shard.is_turn_over() {
                self.effects.connections.put_late(id);
                continue;
            }
            self.release_held(id);
            let Some(io) = self.effects.connections.get_mut(id) else { continue };
            if io.reading == Reading::Ended && io.takes_bytes() {
                // One that is closed leaves once it is written out.
                self.lost(id);
            } else {
                io.reading = self.sockets.steer(io.reading, io.takes_bytes(), key(id), io.socket());
            }
        }
    }

    /// Gives the shard what came while the connection was paused.
    fn release_held(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        if io.takes_bytes() && !io.held.is_empty() {
            let bytes = std::mem::take(&mut io.held);
            self.effects.connections.charge(id);
            self.handle_at(self.now(), Input::Bytes { connection: id, bytes: &bytes });
        }
    }

    /// Writes to those that have something, up to the others' turn: first to those who have little.
    fn write_dirty(&mut self) {
        self.write_some(Connections::next_dirty, WRITE_BYTES_PER_TURN);
        self.write_some(Connections::next_heavy, HEAVY_BYTES_PER_TURN);
        let is_behind = self.effects.connections.has_dirty();
        self.behind_count = if is_behind { self.behind_count.wrapping_add(1) } else { 0 };
    }

    /// Writes to those that `next` gives, and `bytes_max` at most. One for which much waits is
    /// given several times.
    fn write_some(&mut self, next: NextConnection, bytes_max: usize) {
        let mut batch = std::mem::take(&mut self.batch);
        let is_crowded = self.shard.is_crowded();
        let mut bytes_left = if is_crowded { CROWD_WRITE_BYTES } else { bytes_max };
        let mut writes_left = WRITES_PER_TURN;
        while writes_left > 0 {
            self.collect(&mut batch, &mut bytes_left, next);
            let write_count = batch.writes.len();
            writes_left = writes_left.saturating_sub(write_count);
            let connections = &self.effects.connections;
            let fronts = batch.writes.iter().map(|&id| {
                let io = connections.get(id).expect("nothing has happened since it was collected");
                (io.socket(), io.next_write())
            });
            self.sockets.write(fronts, &mut batch.results);
            for (id, result) in batch.writes.drain(..).zip(batch.results.drain(..)) {
                self.handle_written(id, result);
            }
            batch.idle.drain(..).for_each(|id| self.written(id));
            if write_count == 0 {
                break;
            }
        }
        self.batch = batch;
    }

    /// Takes the next ones that something has happened to. Changes nothing, so that each is there
    /// only once.
    fn collect(&mut self, batch: &mut Batch, bytes_left: &mut usize, next: NextConnection) {
        while batch.writes.len() < WRITES_PER_CALL
            && *bytes_left > 0
            && let Some(id) = next(&mut self.effects.connections)
        {
            let Some(io) = self.effects.connections.get(id) else { continue };
            if io.outbox.is_empty() {
                batch.idle.push(id);
            } else if !io.blocked || (io.closing && !self.stopping) {
                *bytes_left = bytes_left.saturating_sub(io.next_write().len());
                batch.writes.push(id);
            } else {
                self.effects.connections.charge(id);
            }
        }
    }

    fn handle_written(&mut self, id: ConnectionId, result: io::Result<Written>) {
        if self.effects.connections.get(id).is_none() {
            return;
        }
        let Written { count, is_full } = match result {
            Ok(written) => written,
            Err(error) => {
                self.note_broken(id, &error);
                return self.lost(id);
            }
        };
        let is_empty = self.effects.connections.consume(id, count);
        self.effects.connections.charge(id);
        self.sent_bytes += count as u64;
        if is_full {
            self.handle_full(id);
        } else if is_empty {
            self.written(id);
        } else {
            self.effects.connections.touch(id);
        }
    }

    /// The peer takes no more for now.
    fn handle_full(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        let closing = io.closing;
        if closing && !self.stopping {
            // A connection that is closed does not wait for a peer that does not read.
            return self.lost(id);
        }
        io.blocked = true;
        if !closing {
            self.handle_at(self.now(), Input::Blocked { connection: id });
        }
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        self.sockets.await_room(key(id), io.socket());
        self.drained(id);
    }

    fn written(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        if io.closing {
            self.effects.connections.remove(id);
        } else {
            self.drained(id);
        }
    }

    /// Tells the shard if little enough is left, and it asked.
    fn drained(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        if !io.closing && io.outbox.take_drained() {
            self.handle_at(self.now(), Input::Drained { connection: id });
        }
    }

    fn lost(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        if !io.closing {
            self.handle_at(self.now(), Input::Closed { connection: id });
        }
        self.effects.connections.remove(id);
    }
}

/// Gives one input to the shard, and then what was stored because of it.
fn feed(shard: &mut Shard, effects: &mut Effects, now: Time, input: Input<'_>) {
    shard.handle(now, input, effects);
    while let Some(token) = effects.engine.committed() {
        shard.handle(now, Input::Persisted { token }, effects);
    }
}
