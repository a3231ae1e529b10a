//! How tasks reach a connection that the pump owns.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use anyhow::Result;

use ringmq_io::Key;

/// Connections that want their turn. Publishers go first: the schedule must not wait for
/// deliveries.
#[derive(Default)]
pub(crate) struct Agenda {
    publishers: RefCell<VecDeque<Key>>,
    others: RefCell<VecDeque<Key>>,
    /// Wakes the task that has turns taken.
    turn: Cell<Option<Waker>>,
}

impl Agenda {
    /// Schedules a turn.
    pub(crate) fn wake(&self) {
        if let Some(turn) = self.turn.take() {
            turn.wake();
        }
    }

    /// Registers the waker of the task that takes turns.
    pub(crate) fn sleep(&self, waker: &Waker) {
        self.turn.set(Some(waker.clone()));
    }

    pub(crate) fn next(&self) -> Option<Key> {
        let publisher = self.publishers.borrow_mut().pop_front();
        publisher.or_else(|| self.others.borrow_mut().pop_front())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.publishers.borrow().is_empty() && self.others.borrow().is_empty()
    }
}

/// A connection as others see it; one by default that has not come.
#[derive(Default)]
pub(crate) struct Handle {
    place: Option<(Key, Rc<Agenda>)>,
    /// It is on the agenda.
    waits: Cell<bool>,
    publishes: Cell<bool>,
    written_ns: Cell<i64>,
    /// Returns when something was last read.
    read_ns: Cell<i64>,
    ping: Cell<Ping>,
    closing: Cell<bool>,
    /// Closing without a word.
    cut: Cell<bool>,
    paused: Cell<bool>,
    end: RefCell<End>,
}

/// How far a connection has ended.
#[derive(Default)]
struct End {
    /// It does no more work: it has said DISCONNECT or was cut, or this went wrong.
    outcome: Option<Result<()>>,
    /// Records that nothing more comes from the broker.
    is_gone: bool,
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Ping {
    #[default]
    None,
    Wanted,
    Outstanding,
    /// The broker has not answered in time.
    Missed,
}

impl Handle {
    pub(crate) fn new(now_ns: i64, key: Key, agenda: &Rc<Agenda>) -> Self {
        let place = Some((key, Rc::clone(agenda)));
        let now_ns = Cell::new(now_ns);
        Self { place, written_ns: now_ns.clone(), read_ns: now_ns, ..Self::default() }
    }

    /// Puts the connection on the agenda.
    pub(crate) fn wake(&self) {
        let Some((key, agenda)) = &self.place else { return };
        if !self.waits.replace(true) {
            let queue = if self.publishes.get() { &agenda.publishers } else { &agenda.others };
            queue.borrow_mut().push_back(*key);
            agenda.wake();
        }
    }

    /// Takes the connection off the agenda.
    pub(crate) fn take_turn(&self) {
        self.waits.set(false);
    }

    /// Lets the connection go before those that do not publish.
    pub(crate) fn go_first(&self) {
        self.publishes.set(true);
    }

    /// When the broker was last heard of.
    pub(crate) fn read_ns(&self) -> i64 {
        self.read_ns.get()
    }

    /// Returns when anything was last read or written.
    pub(crate) fn active_ns(&self) -> i64 {
        self.read_ns.get().max(self.written_ns.get())
    }

    pub(crate) fn record_read(&self, now_ns: i64) {
        self.read_ns.set(now_ns);
    }

    pub(crate) fn record_written(&self, now_ns: i64) {
        self.written_ns.set(now_ns);
    }

    /// Closes the connection with DISCONNECT.
    pub(crate) fn close(&self) {
        self.begin_to_close();
        self.wake();
    }

    /// Does the same for a connection that has its turn.
    pub(crate) fn begin_to_close(&self) {
        self.closing.set(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Closes the connection without DISCONNECT, as when the network fails.
    pub(crate) fn cut(&self) {
        self.cut.set(true);
        self.close();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Stops reading the connection, or starts it again.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.wake();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// Called now and then: pings when nothing was written for `idle_ns`, and gives up when that
    /// long after a ping no answer has come.
    pub(crate) fn keep_alive(&self, now_ns: i64, idle_ns: i64) {
        if now_ns - self.written_ns.get() < idle_ns {
            return;
        }
        self.ping.set(match self.ping.get() {
            Ping::None | Ping::Wanted => Ping::Wanted,
            // A connection that is not read cannot see the answer.
            Ping::Outstanding if self.paused.get() => Ping::Outstanding,
            Ping::Outstanding | Ping::Missed => Ping::Missed,
        });
        self.wake();
    }

    pub(crate) fn ping(&self) -> Ping {
        self.ping.get()
    }

    pub(crate) fn set_ping(&self, ping: Ping) {
        self.ping.set(ping);
    }

    /// Ends the work of the connection.
    pub(crate) fn end(&self, outcome: Result<()>) {
        let mut end = self.end.borrow_mut();
        end.is_gone |= outcome.is_err();
        end.outcome.get_or_insert(outcome);
        end.tell();
    }

    /// Nothing more comes from the broker.
    pub(crate) fn finish(&self) {
        let mut end = self.end.borrow_mut();
        end.is_gone = true;
        end.tell();
    }

    /// Waits until the connection does no more work; ready once.
    pub(crate) fn poll_end(&self, cx: &Context<'_>) -> Poll<Result<()>> {
        let mut end = self.end.borrow_mut();
        end.waiting = Some(cx.waker().clone());
        end.outcome.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until nothing more comes from the broker.
    pub(crate) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        let mut end = self.end.borrow_mut();
        end.waiting = Some(cx.waker().clone());
        if end.is_gone { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl End {
    fn tell(&mut self) {
        if let Some(waiting) = mem::take(&mut self.waiting) {
            waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_pinged_and_given_up_when_no_answer_comes() {
        let handle = Handle::default();
        handle.keep_alive(9, 10);
        assert!(handle.ping.get() == Ping::None);
        handle.keep_alive(10, 10);
        assert!(handle.ping.get() == Ping::Wanted);
        handle.written_ns.set(10);
        handle.ping.set(Ping::Outstanding);
        handle.keep_alive(15, 10);
        assert!(handle.ping.get() == Ping::Outstanding);
        handle.keep_alive(20, 10);
        assert!(handle.ping.get() == Ping::Missed);
    }

    #[test]
    fn who_waits_is_on_the_agenda_once_and_publishers_go_first() {
        let agenda = Rc::new(Agenda::default());
        let handle = |index| Handle::new(0, Key { index, generation: 1 }, &agenda);
        let (subscriber, publisher) = (handle(1), handle(2));
        publisher.go_first();
        for handle in [&subscriber, &publisher, &subscriber] {
            handle.wake();
        }
        let indexes = || std::iter::from_fn(|| agenda.next()).map(|key| key.index);
        assert_eq!(indexes().collect::<Vec<_>>(), [2, 1]);
        subscriber.take_turn();
        subscriber.wake();
        assert_eq!(indexes().collect::<Vec<_>>(), [1]);
        assert!(agenda.is_empty());
    }
}
