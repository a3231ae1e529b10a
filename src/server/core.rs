//! The pump of one executor: the only thing that gives inputs to its shard.
//!
//! Every task of the executor borrows the [`Core`], hands over what it has and returns without
//! waiting. What the shard put into outboxes and channels leaves at the end of the turn: the
//! task of [`Core::poll_turn`] is woken by the first input and runs behind all tasks that are
//! ready, so one system call carries what many inputs caused.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use glommio::TaskQueueHandle;

use crate::metrics::Counters;
use crate::session::Time;
use crate::shard::{ConnectionId, Input, Shard};

use super::effects::Effects;

/// Bytes read from one connection at a time.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Connections written before other tasks get their turn.
const WRITES_PER_TURN: usize = 512;

/// A shard and everything around it that belongs to the same executor.
pub(super) struct Core {
    pub(super) shard: Shard,
    pub(super) effects: Effects,
    started: Instant,
    scratch: Box<[u8]>,
    /// Wakes the task that sleeps until the next timeout.
    timer: Option<Waker>,
    /// What that task sleeps until.
    alarm: Option<Time>,
    sent_bytes: u64,
    wakes: u64,
    /// The broker stops: what is closed now is still written out.
    pub(super) stopping: bool,
    /// Where the tasks of established connections run.
    pub(super) queue: TaskQueueHandle,
}

/// What the task that reads a connection does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Go {
    /// Lets others have their turn, then reads on.
    On,
    /// Ends: the connection is gone.
    Away,
}

/// Shared by the tasks of one executor; never borrowed across an await.
pub(super) type Shared = Rc<RefCell<Core>>;

impl Core {
    pub(super) fn new(shard: Shard, effects: Effects, started: Instant) -> Self {
        Self {
            shard,
            effects,
            started,
            scratch: vec![0; SCRATCH_BYTES].into(),
            timer: None,
            alarm: None,
            sent_bytes: 0,
            wakes: 0,
            stopping: false,
            queue: glommio::executor().current_task_queue(),
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::START + self.started.elapsed()
    }

    /// Gives one input to the shard.
    pub(super) fn handle(&mut self, input: Input<'_>) {
        let now = self.now();
        self.shard.handle(now, input, &mut self.effects);
        while let Some(token) = self.effects.engine.committed() {
            self.shard.handle(now, Input::Persisted { token }, &mut self.effects);
        }
        if let Some(turn) = self.effects.turn.take() {
            turn.wake();
        }
    }

    /// Closes every connection once its outbox is written.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.handle(Input::Shutdown);
    }

    /// What the shard and its executor have counted.
    pub(super) fn counters(&self) -> Counters {
        Counters { bytes_sent: self.sent_bytes, mesh_wakes: self.wakes, ..self.shard.counters() }
    }

    /// Reads one connection while there is something to read; ready when it is the others' turn,
    /// or when it is gone.
    pub(super) fn poll_read(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<Go> {
        loop {
            let Some(io) = self.effects.connections.get_mut(id) else {
                return Poll::Ready(Go::Away);
            };
            if io.paused || io.closing {
                io.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            let read = io.stream.poll_read(cx, &mut scratch);
            if read.is_pending() {
                io.reader = Some(cx.waker().clone());
            }
            let whole = scratch.len();
            if let Poll::Ready(Ok(count @ 1..)) = read {
                self.handle(Input::Bytes { connection: id, bytes: &scratch[..count] });
            }
            self.scratch = scratch;
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.lost(id);
                    return Poll::Ready(Go::Away);
                }
                Poll::Ready(Ok(count)) if count == whole => return Poll::Ready(Go::On),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Ends a turn: writes what waits, rings other shards, sets the alarm. Ready when it is the
    /// others' turn, or when there are connections in `stalled`: those whose peer takes no more
    /// for now.
    pub(super) fn poll_turn(
        &mut self,
        cx: &Context<'_>,
        stalled: &mut Vec<ConnectionId>,
    ) -> Poll<()> {
        let mut writes = 0;
        while let Some(id) = self.effects.connections.next_dirty() {
            if self.write(id) {
                stalled.push(id);
            }
            writes += 1;
            if writes == WRITES_PER_TURN {
                break;
            }
        }
        // What is put off is not added to what waits to be written.
        let more = !self.effects.connections.has_dirty() && self.shard.end_turn();
        if more {
            self.handle(Input::Continue);
        }
        self.wakes += self.effects.mesh.ring();
        self.set_alarm();
        if more || self.effects.connections.has_dirty() || !stalled.is_empty() {
            return Poll::Ready(());
        }
        self.effects.turn = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Writes to a connection that took no more before; ready when it is written out or gone.
    pub(super) fn poll_drain(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<()> {
        let Some(io) = self.effects.connections.get_mut(id) else { return Poll::Ready(()) };
        match io.write(cx, &mut self.sent_bytes) {
            Ok(true) => {
                io.blocked = false;
                self.written(id);
                Poll::Ready(())
            }
            Ok(false) => {
                self.drained(id);
                Poll::Pending
            }
            Err(_) => {
                self.lost(id);
                Poll::Ready(())
            }
        }
    }

    /// Sleeps until the alarm; ready when the shard's timers are due.
    pub(super) fn poll_alarm(&mut self, cx: &Context<'_>) -> Option<Time> {
        self.timer = Some(cx.waker().clone());
        self.alarm = self.shard.next_timeout();
        self.alarm
    }

    /// True when the peer takes no more for now.
    fn write(&mut self, id: ConnectionId) -> bool {
        let Some(io) = self.effects.connections.get_mut(id) else { return false };
        let closing = io.closing;
        if io.blocked && (!closing || self.stopping) {
            return false; // A task of its own writes to it.
        }
        let mut cx = Context::from_waker(Waker::noop());
        match io.write(&mut cx, &mut self.sent_bytes) {
            Ok(false) if !closing || self.stopping => {
                io.blocked = true;
                if !closing {
                    self.handle(Input::Blocked { connection: id });
                    self.drained(id);
                }
                return true;
            }
            Ok(true) => self.written(id),
            // A connection that is closed does not wait for a peer that does not read.
            Ok(false) | Err(_) => self.lost(id),
        }
        false
    }

    fn written(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        if io.closing {
            self.effects.connections.remove(id, &mut self.scratch);
        } else {
            self.drained(id);
        }
    }

    /// Tells the shard if little enough is left, and it asked.
    fn drained(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        if !io.closing && io.outbox.take_drained() {
            self.handle(Input::Drained { connection: id });
        }
    }

    fn lost(&mut self, id: ConnectionId) {
        let Some(io) = self.effects.connections.get_mut(id) else { return };
        let known = io.closing;
        if !known {
            self.handle(Input::Closed { connection: id });
        }
        self.effects.connections.remove(id, &mut self.scratch);
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
