//! How extra clients come and go.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Error;
use futures_lite::FutureExt;
use glommio::spawn_local;
use glommio::timer::Timer;

use super::Worker;
use crate::client::Actor;
use crate::client::churner::Churner;
use crate::client::idle::Idle;
use crate::client::retained::{Clearer, Replayer};
use crate::client::subscriber::Subscriber;
use crate::executor::connect::{LimitHit, Opened};
use crate::executor::handle::Handle;
use crate::plan::step::{Duty, Visit};
use crate::plan::{Client, Greeting};
use crate::recording::operations::RECONNECT;

/// When this many have failed and none has succeeded, the others need not try.
const VAIN_COUNT_MAX: u32 = 50;

/// An operation of extra clients beside connecting and subscribing.
const STAY: &str = "stay connected";

const PATIENCE_STEP_NS: i64 = 1_000_000_000;
/// How long a broker may take to close a connection after DISCONNECT.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// An extra client was connected, but could not do its duty.
#[derive(Debug)]
struct Unfinished(String);

impl std::error::Error for Unfinished {}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Between two attempts to come back.
const RETRY_TIME: Duration = Duration::from_millis(100);

/// A visit as one executor sees it.
struct Round {
    visit: Visit,
    begin_ns: i64,
    /// All were to come at this time, and try until it works.
    since_ns: Option<i64>,
    /// The next one to come, among all that take part.
    next: Cell<u32>,
    succeeded: Cell<u32>,
    failed: Cell<u32>,
}

/// One extra client on its way.
#[derive(Clone, Copy)]
struct Call {
    client: Client,
    extra: u32,
    place: u32,
    intended_ns: i64,
}

impl Worker {
    /// Runs the visits of this executor: every Nth of those that take part.
    pub(super) async fn visit(self: &Rc<Self>, visit: Visit) {
        self.visit_from(visit, None).await;
    }

    /// Does the same for clients that were all to come at `since_ns`, if there is such a time.
    pub(super) async fn visit_from(self: &Rc<Self>, visit: Visit, since_ns: Option<i64>) {
        let executor_count = self.orders.plan.executor_count;
        let round = Rc::new(Round {
            visit,
            begin_ns: self.orders.clock.now_ns(),
            since_ns,
            next: Cell::new(self.orders.executor),
            succeeded: Cell::new(0),
            failed: Cell::new(0),
        });
        let share = (visit.pace.at_once / executor_count).max(1).min(visit.count);
        let tasks: Vec<_> = (0..share)
            .map(|_| spawn_local(Rc::clone(self).visit_in_turn(Rc::clone(&round))))
            .collect();
        for task in tasks {
            task.await;
        }
    }

    async fn visit_in_turn(self: Rc<Self>, round: Rc<Round>) {
        let extras = self.orders.plan.extras.expect("a plan with visits has extra clients");
        while let Some(place) = round.take_place(self.orders.plan.executor_count) {
            let intended_ns = self.await_turn(&round, place).await;
            let extra = round.visit.extra(place, extras.count);
            let call = Call { client: Client::Extra(extra), extra, place, intended_ns };
            while !self.orders.control.is_stopping() {
                let Err(error) = self.call(&round, call).await else {
                    round.succeeded.set(round.succeeded.get() + 1);
                    break;
                };
                self.handle_failed_visit(&round, call, &error);
                if round.since_ns.is_none() {
                    break;
                }
                Timer::new(RETRY_TIME).await;
            }
            self.station().visited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when this visit was intended.
    async fn await_turn(&self, round: &Round, place: u32) -> i64 {
        let Some(rate_per_s) = round.visit.pace.rate_per_s else {
            return round.since_ns.unwrap_or_else(|| self.orders.clock.now_ns());
        };
        let intended_ns = round.begin_ns + (f64::from(place) * 1e9 / rate_per_s) as i64;
        while self.orders.clock.now_ns() < intended_ns && !self.orders.control.is_stopping() {
            let left_ns = (intended_ns - self.orders.clock.now_ns()).clamp(0, 100_000_000);
            Timer::new(Duration::from_nanos(left_ns as u64)).await;
        }
        intended_ns
    }

    async fn call(self: &Rc<Self>, round: &Round, call: Call) -> Result<(), Error> {
        let Visit { session, subscribes, duty, .. } = round.visit;
        let Call { client, extra, .. } = call;
        let opened = self.connector.connect(Greeting { client, session, subscribes }).await?;
        self.record_opened(round, call, &opened);
        match duty {
            Duty::Leave => {
                self.see_through(opened, Idle::leaving()).await?;
            }
            Duty::Idle => self.keep(round, call, opened, Idle::default()),
            Duty::Churn => self.keep(round, call, opened, Churner::new(extra)),
            Duty::Bystander => {
                let subscriber =
                    Subscriber::bystander(&mut self.context.recording.borrow_mut(), extra);
                self.keep(round, call, opened, subscriber);
            }
            Duty::Receive => {
                let subscriber =
                    Subscriber::leaving(&mut self.context.recording.borrow_mut(), extra);
                let read_ns = self.see_through(opened, subscriber).await?;
                self.record("receive", call.intended_ns, read_ns);
            }
            Duty::Replay => {
                let filter = self.orders.plan.filters_of(client).swap_remove(0);
                let replayer = Replayer::new(&mut self.context.recording.borrow_mut(), filter);
                self.see_through(opened, replayer).await?;
            }
            Duty::Clear => {
                let read_ns = self.see_through(opened, Clearer::default()).await?;
                self.record("clear", call.intended_ns, read_ns);
            }
        }
        Ok(())
    }

    /// Keeps the client connected.
    fn keep(
        self: &Rc<Self>,
        round: &Round,
        Call { client, place, .. }: Call,
        opened: Opened,
        actor: impl Actor + 'static,
    ) {
        let at = (place / self.orders.plan.executor_count) as usize;
        let mut extras = self.extras.borrow_mut();
        let room = extras.len().max(at + 1);
        extras.resize_with(room, Rc::default);
        extras[at] = Rc::clone(opened.handle());
        if round.since_ns.is_none() {
            self.station().connected.fetch_add(1, Ordering::Relaxed);
        }
        self.watch_end(client, opened.start(actor), Self::handle_lost);
    }

    /// Records the loss of an extra client, which tells about the broker and does not end the run.
    fn handle_lost(&self, client: Client, error: &Error) {
        let reason = format!("{}: {error:#}", self.orders.plan.name_of(client));
        self.context.recording.borrow_mut().operations.record_failure(STAY, &reason);
    }

    /// The client does its duty and leaves. When the broker has nothing to say any more, it has to
    /// leave as well. Returns when it was last heard of.
    async fn see_through(&self, opened: Opened, actor: impl Actor + 'static) -> Result<i64, Error> {
        let guard = opened.start(actor);
        let patience = async {
            self.lose_patience(guard.handle()).await;
            Err(Error::msg("the broker does not even take DISCONNECT"))
        };
        let left = guard.left().or(patience).await;
        left.map_err(|error| Error::new(Unfinished(format!("{error:#}"))))?;
        let read_ns = guard.handle().read_ns();
        let timeout = async {
            Timer::new(END_TIME_MAX).await;
        };
        // The side that closes first keeps the port for a minute (TIME_WAIT): let it be the broker.
        guard.gone().or(timeout).await;
        Ok(read_ns)
    }

    /// Closes the connection when nothing was read or written for so long as lost deliveries are
    /// waited for. Returns when that was no use.
    async fn lose_patience(&self, handle: &Handle) {
        let plan = &self.orders.plan;
        let patience_ns = plan.drain.as_nanos() as i64;
        let idle_ns = i64::from(plan.keep_alive_s) * 1_000_000_000 / 2;
        loop {
            let now_ns = self.orders.clock.now_ns();
            let left_ns = handle.active_ns() + patience_ns - now_ns;
            if left_ns <= 0 || self.orders.control.is_stopping() {
                break;
            }
            if idle_ns > 0 {
                handle.keep_alive(now_ns, idle_ns);
            }
            Timer::new(Duration::from_nanos(left_ns.clamp(1_000_000, PATIENCE_STEP_NS) as u64))
                .await;
        }
        handle.close();
        Timer::new(plan.connect_timeout).await;
    }

    fn record(&self, name: &'static str, intended_ns: i64, now_ns: i64) {
        self.context.recording.borrow_mut().operations.record(name, intended_ns, now_ns);
    }

    fn record_opened(&self, round: &Round, call: Call, opened: &Opened) {
        self.record(round.operation(), call.intended_ns, opened.connected_ns());
        if round.visit.subscribes {
            self.record("subscribe", opened.connected_ns(), opened.ready_ns());
        }
    }

    fn handle_failed_visit(&self, round: &Round, call: Call, error: &Error) {
        let reason = format!("{error:#}");
        round.failed.set(round.failed.get() + 1);
        let in_vain = round.succeeded.get() == 0 && round.failed.get() >= VAIN_COUNT_MAX;
        if (in_vain && round.since_ns.is_none()) || error.is::<LimitHit>() {
            self.orders.control.fail(reason.clone());
        }
        let recording = &mut *self.context.recording.borrow_mut();
        recording.operations.record_failure(round.operation(), &reason);
        if round.visit.duty == Duty::Receive && !error.is::<Unfinished>() {
            // What was published for it is lost with it.
            Subscriber::new(recording, call.extra);
        }
    }
}

impl Round {
    /// Names the operation of connecting in the report.
    fn operation(&self) -> &'static str {
        if self.since_ns.is_some() { RECONNECT } else { "connect" }
    }

    fn take_place(&self, executor_count: u32) -> Option<u32> {
        let place = self.next.get();
        self.next.set(place.saturating_add(executor_count));
        (place < self.visit.count).then_some(place)
    }
}
