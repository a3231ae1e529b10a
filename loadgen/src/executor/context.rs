//! What all connections of one executor use, and the guards that keep them open.

use std::cell::RefCell;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;

use crate::client::Actor;
use crate::executor::handle::{Agenda, Handle};
use crate::executor::mailbox::Mailbox;
use crate::executor::pump::Pump;
use crate::recording::Recording;
use crate::sample::clock::Clock;
use ringmq_io::{Key, Sockets};

/// The clock, the recording and the connections of one executor.
pub(crate) struct ExecutorContext {
    pub(crate) clock: Clock,
    pub(crate) recording: RefCell<Recording>,
    /// The handles of the publishers, by place.
    pub(crate) publishers: RefCell<Vec<Rc<Handle>>>,
    /// Of all executors.
    mailboxes: Arc<[Mailbox]>,
    agenda: Rc<Agenda>,
    pump: RefCell<Pump>,
}

impl ExecutorContext {
    pub(crate) fn new(
        clock: Clock,
        recording: Recording,
        mailboxes: Arc<[Mailbox]>,
        sockets: Sockets,
    ) -> Self {
        let agenda = Rc::new(Agenda::default());
        Self {
            clock,
            recording: RefCell::new(recording),
            publishers: RefCell::default(),
            mailboxes,
            pump: RefCell::new(Pump::new(sockets, Rc::clone(&agenda))),
            agenda,
        }
    }

    /// Wakes the publisher at `place`.
    pub(crate) fn wake_publisher(&self, place: usize) {
        self.publishers.borrow()[place].wake();
    }

    /// Passes on what the closed loop has released and completed.
    pub(crate) fn pass_on(&self) {
        let mut recording = self.recording.borrow_mut();
        let Some(closed) = recording.closed_loop() else {
            return;
        };
        while let Some(place) = closed.pop_released() {
            self.wake_publisher(place);
        }
        while let Some((executor, completion)) = closed.pop_outgoing() {
            self.mailboxes[executor as usize].post(completion);
        }
    }

    /// Schedules a turn.
    pub(crate) fn wake_turn(&self) {
        self.agenda.wake();
    }

    /// Takes a turn: ready when other tasks should run, pending when there is nothing to do.
    pub(crate) fn poll_turn(&self, cx: &Context<'_>) -> Poll<()> {
        if self.pump.borrow_mut().turn(self.clock, &self.recording, || self.pass_on()) {
            return Poll::Ready(());
        }
        self.agenda.sleep(cx.waker());
        Poll::Pending
    }

    /// Adds a connection whose socket begins to connect.
    pub(crate) fn add_connection(
        self: &Rc<Self>,
        socket: OwnedFd,
        actor: impl Actor + 'static,
    ) -> ConnectionGuard {
        let now_ns = self.clock.now_ns();
        let (key, handle) = self.pump.borrow_mut().insert(now_ns, socket, Box::new(actor));
        ConnectionGuard { context: Rc::clone(self), key, handle }
    }
}

/// Closes a connection of the pump when it is dropped.
pub(crate) struct ConnectionGuard {
    context: Rc<ExecutorContext>,
    key: Key,
    handle: Rc<Handle>,
}

impl ConnectionGuard {
    pub(crate) fn handle(&self) -> &Rc<Handle> {
        &self.handle
    }

    /// Hands the connection to another actor, with `early`, which came before its time.
    pub(crate) fn start(&self, actor: impl Actor + 'static, early: Vec<u8>) {
        let ExecutorContext { clock, recording, pump, .. } = &*self.context;
        let work = (Box::new(actor) as Box<dyn Actor>, early);
        pump.borrow_mut().start_actor(self.key, clock.now_ns(), work, &mut recording.borrow_mut());
        self.context.pass_on();
    }

    /// Waits until the handle has closed the connection, or until the actor is done. DISCONNECT
    /// has been said then, unless it was cut.
    ///
    /// # Errors
    /// The broker closes the connection or does what it must not.
    pub(crate) async fn left(&self) -> Result<()> {
        poll_fn(|cx| self.handle.poll_end(cx)).await
    }

    /// Waits until the broker has closed the connection.
    pub(crate) async fn gone(&self) {
        poll_fn(|cx| self.handle.poll_gone(cx)).await;
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.context.pump.borrow_mut().remove(self.key);
    }
}
