//! The pump of one executor: the only thing that gives inputs to its shard.
//!
//! What comes over sockets is handled in turns: a turn takes all that the ring has, gives it to
//! the shard, and then writes to every connection that has got something, so one system call
//! carries what many inputs caused. Tasks that bring inputs of other kinds borrow the [`Core`],
//! hand over what they have and return without waiting; they wake the task of
//! [`Core::poll_turn`], which runs behind all tasks that are ready.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::metrics::Counters;
use crate::session::Time;
use crate::shard::{ConnectionId, Input, Message, Shard};
use ringmq_io::{Chunk, Event, Reading, Sockets, Written};

use super::accept::Handoff;
use super::connections::{self, Connections, key};
use super::effects::Effects;
use super::memory::Lookout;
use super::mesh::Found;

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
/// Long CONNECT packets of which more is read in a turn.
const READERS_PER_TURN: usize = 8;
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
    /// Wakes the task that sleeps until the next timeout.
    timer: Option<Waker>,
    /// What that task sleeps until.
    alarm: Option<Time>,
    sent_bytes: u64,
    wakes: u64,
    /// Connections to be opened, the oldest first.
    arrived: VecDeque<Handoff>,
    /// Tasks that wait to read more of a CONNECT.
    readers: VecDeque<Waker>,
    /// Bytes of memory of connections that have come, and of those whose CONNECT is not whole.
    pub(super) opening_bytes: usize,
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
type Next = fn(&mut Connections) -> Option<ConnectionId>;

/// What a task of the executor does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Go {
    /// Lets others have their turn, then goes on.
    On,
    /// Ends.
    Away,
}

/// Shared by the tasks of one executor; never borrowed across an await.
pub(super) type Shared = Rc<RefCell<Core>>;

impl Core {
    pub(super) fn new(shard: Shard, effects: Effects, sockets: Sockets, started: Instant) -> Self {
        Self {
            shard,
            effects,
            sockets,
            started,
            timer: None,
            alarm: None,
            sent_bytes: 0,
            wakes: 0,
            arrived: VecDeque::new(),
            readers: VecDeque::new(),
            opening_bytes: 0,
            behind_count: 0,
            stopping: false,
            batch: Batch::default(),
            lookout: Lookout::default(),
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::START + self.started.elapsed()
    }

    /// Gives one input to the shard, and has the turn that follows write what comes of it.
    pub(super) fn handle(&mut self, input: Input<'_>) {
        self.handle_at(self.now(), input);
        self.wake_turn();
    }

    /// Handles what came from other shards, all at the time it is now, until the turn has taken as
    /// long as it may.
    pub(super) fn handle_found(&mut self, found: &mut VecDeque<Found<Message, Handoff>>) {
        let now = self.now();
        while !self.shard.is_turn_over()
            && let Some(one) = found.pop_front()
        {
            match one {
                Found::Message(from, message) => {
                    self.handle_at(now, Input::Message { from, message });
                }
                Found::Room(to) => self.handle_at(now, Input::Room { to }),
                Found::Handoff(handoff) => self.adopt(handoff),
            }
        }
        self.wake_turn();
    }

    /// Takes a connection over that belongs to this executor's shard, in one of the turns to come.
    pub(super) fn adopt(&mut self, handoff: Handoff) {
        if self.stopping {
            return;
        }
        self.opening_bytes += handoff.bytes.capacity();
        self.arrived.push_back(handoff);
        self.wake_turn();
    }

    /// Has the shard handle the first bytes of connections that have come: of one in any case.
    fn open_arrived(&mut self) {
        for count in 0..OPENED_PER_TURN {
            if count > 0 && self.shard.is_turn_over() {
                return;
            }
            let Some(Handoff { socket, bytes, arrival, permit }) = self.arrived.pop_front() else {
                return;
            };
            self.opening_bytes -= bytes.capacity();
            let id = self.effects.connections.insert(socket, arrival, bytes.len(), permit);
            self.handle(Input::Opened { connection: id });
            self.handle(Input::Bytes { connection: id, bytes: &bytes });
        }
    }

    /// Wakes a task in one of the turns to come: it reads more of a CONNECT then.
    pub(super) fn queue_reader(&mut self, task: Waker) {
        self.readers.push_back(task);
        self.wake_turn();
    }

    fn wake_readers(&mut self) {
        let count = self.readers.len().min(READERS_PER_TURN);
        self.readers.drain(..count).for_each(Waker::wake);
    }

    /// Has a turn follow.
    pub(super) fn wake_turn(&mut self) {
        if let Some(turn) = self.effects.turn.take() {
            turn.wake();
        }
    }

    /// Closes every connection once its outbox is written.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        for handoff in self.arrived.drain(..) {
            self.opening_bytes -= handoff.bytes.capacity();
        }
        self.handle(Input::Shutdown);
    }

    /// What the shard and its executor have counted.
    pub(super) fn counters(&self) -> Counters {
        Counters { bytes_sent: self.sent_bytes, mesh_wakes: self.wakes, ..self.shard.counters() }
    }

    /// One turn: handles what has come, writes what waits, rings other shards, sets the alarm.
    /// Ready when it is the others' turn; pending when there is nothing more to do.
    pub(super) fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.sockets.wake();
        let settling = self.effects.connections.take_settling();
        self.shard.begin_turn();
        if self.effects.connections.has_late() {
            self.turn_reading();
        }
        self.take_events(self.reads());
        self.open_arrived();
        self.wake_readers();
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
        self.set_alarm();
        let connections = &self.effects.connections;
        let more = more || !self.arrived.is_empty() || !self.readers.is_empty();
        let more = more || connections.has_late();
        if more || connections.has_dirty() || connections.is_settling() || !self.sockets.sleep() {
            return Poll::Ready(());
        }
        self.effects.turn = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Sleeps until the alarm; ready when the shard's timers are due.
    pub(super) fn poll_alarm(&mut self, cx: &Context<'_>) -> Option<Time> {
        self.timer = Some(cx.waker().clone());
        self.alarm = self.shard.next_timeout();
        self.alarm
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
        self.shard.balance_with(self.effects.connections.memory_bytes() + self.opening_bytes);
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
    fn write_some(&mut self, next: Next, bytes_max: usize) {
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
    fn collect(&mut self, batch: &mut Batch, bytes_left: &mut usize, next: Next) {
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

    fn set_alarm(&mut self) {
        let next = self.shard.next_timeout();
        let earlier = match (next, self.alarm) {
            (Some(next), Some(alarm)) => next < alarm,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        };
        if earlier && let Some(timer) = self.timer.take() {
            timer.wake();
        }
    }
}

/// Gives one input to the shard, and then what was stored because of it.
fn feed(shard: &mut Shard, effects: &mut Effects, now: Time, input: Input<'_>) {
    shard.handle(now, input, effects);
    while let Some(token) = effects.engine.committed() {
        shard.handle(now, Input::Persisted { token }, effects);
    }
}
