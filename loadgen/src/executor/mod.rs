//! One executor: takes its part in every step of the plan, keeps the time of its clients, and
//! hands in its books.

mod connect;
mod connection;
mod context;
pub(crate) mod control;
mod handle;
mod incident;
pub(crate) mod mailbox;
mod pump;
pub(crate) mod result;
mod socket;
mod visits;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Error, Result};
use glommio::timer::Timer;
use glommio::{ExecutorJoinHandle, Task, spawn_local};

use crate::client::publisher::Publisher;
use crate::client::subscriber::Subscriber;
use crate::executor::connect::{Connector, Opened};
use crate::executor::context::{ConnectionGuard, ExecutorContext};
use crate::executor::control::{Control, Station};
use crate::executor::handle::Handle;
use crate::executor::mailbox::Mailbox;
use crate::executor::result::{ExecutorResult, StepBook};
use crate::pace::schedule::{Pacer, Schedule, Timeline};
use crate::plan::step::{HANDSHAKE_COUNT_MAX, Step};
use crate::plan::{Client, Greeting, Plan};
use crate::recording::Recording;
use crate::recording::operations::Operations;
use crate::recording::recorder::Recorder;
use crate::recording::tally::Counts;
use crate::sample::clock::Clock;
use crate::sample::machine;
use crate::sample::usage::Usage;
use ringmq_io::{Sockets, Wakeup};

/// Between two turns that follow each other.
const BREATH: Duration = Duration::from_micros(1);
/// How often an executor looks after itself.
const ROUND: Duration = Duration::from_millis(10);
const KEEP_ALIVE_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// How often the closed loop looks for what is lost, and how long it waits for a message at least.
const WRITE_OFF_INTERVAL_NS: i64 = 200_000_000;
const WRITE_OFF_AGE_NS_MIN: i64 = 1_000_000_000;
/// How long clients may take to say goodbye.
const LEAVE_ROUNDS_MAX: u32 = 200;

/// What an executor needs to know.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) executor: u32,
    pub(crate) plan: Arc<Plan>,
    pub(crate) address: SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) control: Arc<Control>,
    pub(crate) mailboxes: Arc<[Mailbox]>,
}

/// Starts an executor on a thread of its own. It hands in an error when its sockets have no ring.
///
/// # Errors
/// There is no executor.
pub(crate) fn spawn(orders: Orders) -> Result<ExecutorJoinHandle<Result<ExecutorResult>>> {
    let name = format!("loadgen-{}", orders.executor);
    let run = move || async move {
        let control = Arc::clone(&orders.control);
        let result = work(orders).await;
        if let Err(error) = &result {
            control.fail(format!("{error:#}"));
        }
        result
    };
    ringmq_io::spawn_executor(&name, None, run)
        .map_err(|error| match machine::explain_limit(&error, 0) {
            Some(advice) => Error::msg(advice),
            None => error.into(),
        })
        .context("cannot start an io_uring executor")
}

async fn work(orders: Orders) -> Result<ExecutorResult> {
    let sockets = Sockets::new()?;
    let wakeup = Wakeup::new(sockets.wakeup()?);
    let worker = Rc::new(Worker::new(orders, sockets));
    worker.take_up(Rc::clone(&worker).take_turns());
    worker.take_up(Rc::clone(&worker).be_woken(wakeup));
    worker.take_up(Rc::clone(&worker).keep_alive());
    let result = Rc::clone(&worker).run().await;
    worker.drop_chores().await;
    Ok(result)
}

struct Worker {
    orders: Orders,
    connector: Connector,
    context: Rc<ExecutorContext>,
    /// The clients of this executor, and which of them is next to connect.
    clients: Vec<Client>,
    next_client: Cell<usize>,
    handles: RefCell<Vec<Rc<Handle>>>,
    /// Of the extra clients that stay connected, by place.
    extras: RefCell<Vec<Rc<Handle>>>,
    /// Connections that have not ended.
    open_count: Cell<usize>,
    /// What is done beside the steps.
    chores: RefCell<Vec<Task<()>>>,
}

impl Worker {
    fn new(orders: Orders, sockets: Sockets) -> Self {
        let plan = &orders.plan;
        let subscribers = plan.subscribers_on(orders.executor).map(Client::Subscriber);
        let publishers = plan.publishers_on(orders.executor).map(Client::Publisher);
        let clients = subscribers.chain(publishers).collect();
        let recording = Recording::new(Arc::clone(plan), orders.executor);
        // Placeholders: publishers are ready in any order.
        let places = plan.publishers_on(orders.executor).map(|_| Rc::default()).collect();
        let context = Rc::new(ExecutorContext::new(
            orders.clock,
            recording,
            Arc::clone(&orders.mailboxes),
            sockets,
        ));
        *context.publishers.borrow_mut() = places;
        let connector =
            Connector::new(Arc::clone(plan), orders.address, Rc::clone(&context), orders.executor);
        Self {
            connector,
            orders,
            context,
            clients,
            next_client: Cell::new(0),
            handles: RefCell::default(),
            extras: RefCell::default(),
            open_count: Cell::new(0),
            chores: RefCell::default(),
        }
    }

    /// Does something beside the steps, until the last of them is over.
    fn take_up(&self, chore: impl Future<Output = ()> + 'static) {
        let chore = spawn_local(chore);
        self.chores.borrow_mut().push(chore);
    }

    /// Cancels the chores: an executor forgets tasks that have not ended, and leaks what they hold.
    async fn drop_chores(&self) {
        for chore in self.chores.take() {
            chore.cancel().await;
        }
    }

    /// Reads and writes. Between turns others have theirs, and the executor looks at its timers:
    /// a task that only woke itself up would keep it from that.
    async fn take_turns(self: Rc<Self>) {
        loop {
            poll_fn(|cx| self.context.poll_turn(cx)).await;
            Timer::new(BREATH).await;
        }
    }

    /// Schedules a turn whenever something happens to a socket while the executor sleeps.
    async fn be_woken(self: Rc<Self>, wakeup: Wakeup) {
        while wakeup.wait().await.is_ok() {
            self.context.wake_turn();
        }
    }

    async fn run(self: Rc<Self>) -> ExecutorResult {
        let (mut usage, mut steps) = (Usage::default(), Vec::new());
        for (number, step) in self.orders.plan.steps.iter().enumerate() {
            if !self.await_step(number).await {
                break;
            }
            let begin = Usage::now(self.orders.clock);
            usage = self.take(number, step).await.unwrap_or(usage);
            let operations = self.take_operations();
            let used = Usage::now(self.orders.clock).since(begin);
            steps.push(StepBook { operations, usage: used });
            self.show();
            self.station().steps_done.store(number + 1, Ordering::Release);
        }
        self.leave().await;
        self.executor_result(usage, steps)
    }

    fn take_operations(&self) -> Operations {
        let mut recording = self.context.recording.borrow_mut();
        for _ in 0..std::mem::take(&mut recording.open_question_count) {
            recording
                .operations
                .record_failure("change subscriptions", "no answer from the broker");
        }
        std::mem::take(&mut recording.operations)
    }

    /// Waits until a step begins; false if there will be no such step.
    async fn await_step(&self, number: usize) -> bool {
        let control = &self.orders.control;
        while !control.is_stopping() {
            if control.is_begun(number) {
                return true;
            }
            Timer::new(Duration::from_millis(2)).await;
        }
        false
    }

    /// Takes part in a step. Returns what was used in the steady part of a flow.
    async fn take(self: &Rc<Self>, number: usize, step: &Step) -> Option<Usage> {
        match step {
            Step::Assemble => self.connect_all().await,
            Step::Visit(visit) => self.visit(*visit).await,
            Step::Idle { .. } => self.idle(number).await,
            Step::Flow => {
                let timeline = self.await_start().await?;
                self.start(timeline);
                return Some(self.supervise(number, timeline).await);
            }
        }
        None
    }

    /// Waits for the end of an idle step; connections are served meanwhile.
    async fn idle(&self, number: usize) {
        let control = &self.orders.control;
        while !control.is_stopping() && !control.is_ended(number) {
            Timer::new(ROUND).await;
        }
    }

    fn station(&self) -> &Station {
        &self.orders.control.stations[self.orders.executor as usize]
    }

    async fn connect_all(self: &Rc<Self>) {
        let share = (HANDSHAKE_COUNT_MAX / self.orders.plan.executor_count).max(1);
        let count = share.min(self.clients.len() as u32);
        let tasks: Vec<_> =
            (0..count).map(|_| spawn_local(Rc::clone(self).connect_in_turn())).collect();
        for task in tasks {
            task.await;
        }
    }

    async fn connect_in_turn(self: Rc<Self>) {
        let control = &self.orders.control;
        while let Some(&client) = self.clients.get(self.next_client.get()) {
            self.next_client.set(self.next_client.get() + 1);
            if control.is_stopping() {
                return;
            }
            match self.connector.connect(Greeting::clean(client)).await {
                Ok(opened) => self.start_client(client, opened),
                Err(error) => return control.fail(format!("{error:#}")),
            }
        }
    }

    fn start_client(self: &Rc<Self>, client: Client, opened: Opened) {
        let handle = Rc::clone(opened.handle());
        self.handles.borrow_mut().push(Rc::clone(&handle));
        match client {
            Client::Publisher(number) => {
                let publisher = Publisher::new(&self.orders.plan, number);
                handle.go_first();
                self.context.publishers.borrow_mut()[publisher.place()] = handle;
                self.watch_end(client, opened.start(publisher), Self::handle_broken);
            }
            Client::Subscriber(number) => {
                let subscriber = Subscriber::new(&mut self.context.recording.borrow_mut(), number);
                self.watch_end(client, opened.start(subscriber), Self::handle_broken);
            }
            Client::Extra(_) => unreachable!("extra clients come by visits"),
        }
        self.station().connected.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for the end of a connection, and reports one that was not good.
    fn watch_end(
        self: &Rc<Self>,
        client: Client,
        guard: ConnectionGuard,
        handle_bad: fn(&Self, Client, &Error),
    ) {
        self.open_count.set(self.open_count.get() + 1);
        let worker = Rc::clone(self);
        let task = async move {
            let end = guard.left().await;
            worker.open_count.set(worker.open_count.get() - 1);
            if let Err(error) = end {
                handle_bad(&worker, client, &error);
            }
        };
        spawn_local(task).detach();
    }

    /// Fails the run: without all of its publishers and subscribers it means nothing.
    fn handle_broken(&self, client: Client, error: &Error) {
        let name = self.orders.plan.name_of(client);
        self.orders.control.fail(format!("{name}: {error:#}"));
    }

    async fn await_start(&self) -> Option<Timeline> {
        let control = &self.orders.control;
        while !control.is_stopping() {
            if let Some(timeline) = control.timeline() {
                return Some(timeline);
            }
            Timer::new(Duration::from_millis(2)).await;
        }
        None
    }

    fn start(self: &Rc<Self>, timeline: Timeline) {
        self.context.recording.borrow_mut().start(timeline);
        let schedule = self.context.recording.borrow().schedule();
        match schedule {
            Some(schedule) => {
                self.take_up(Rc::clone(self).keep_schedule(schedule));
            }
            None => {
                self.take_up(Rc::clone(self).open_windows(timeline));
                self.take_up(Rc::clone(self).read_mailbox());
            }
        }
        self.start_extras(timeline);
    }

    /// Open loop: wakes publishers when they have messages due.
    async fn keep_schedule(self: Rc<Self>, schedule: Schedule) {
        let publishers = self.orders.plan.publishers_on(self.orders.executor).collect();
        let mut pacer = Pacer::new(schedule, publishers);
        loop {
            let now_ns = self.orders.clock.now_ns();
            let Some(next_ns) = pacer.tick(now_ns, |place| self.context.wake_publisher(place))
            else {
                return;
            };
            self.sleep_until(next_ns).await;
        }
    }

    /// Closed loop: lets each publisher fill its window.
    async fn open_windows(self: Rc<Self>, timeline: Timeline) {
        self.sleep_until(timeline.start_ns).await;
        self.context.publishers.borrow().iter().for_each(|publisher| publisher.wake());
    }

    /// Closed loop: takes what other executors have completed.
    async fn read_mailbox(self: Rc<Self>) {
        let mailbox = &self.orders.mailboxes[self.orders.executor as usize];
        let mut batch = Vec::new();
        loop {
            poll_fn(|cx| mailbox.poll_take(cx, &mut batch)).await;
            if let Some(closed) = self.context.recording.borrow_mut().closed_loop() {
                batch.drain(..).for_each(|completion| closed.handle_completion(completion));
            }
            self.context.pass_on();
        }
    }

    async fn sleep_until(&self, time_ns: i64) {
        let left_ns = time_ns - self.orders.clock.now_ns();
        if left_ns > 0 {
            Timer::new(Duration::from_nanos(left_ns as u64)).await;
        }
    }

    /// Looks after everything that is not driven by packets, until the flow is over.
    async fn supervise(&self, number: usize, timeline: Timeline) -> Usage {
        let mut stopwatch = Stopwatch::new(self.orders.clock);
        let interval_ns = self.orders.plan.interval.as_nanos() as i64;
        let mut collect_ns = timeline.start_ns + interval_ns;
        let mut write_off_ns = timeline.start_ns + WRITE_OFF_INTERVAL_NS;
        while !self.orders.control.is_stopping() && !self.orders.control.is_ended(number) {
            let now_ns = self.orders.clock.now_ns();
            stopwatch.look(&timeline, now_ns);
            self.show();
            self.watch_incident();
            if now_ns >= collect_ns {
                collect_ns += interval_ns;
                self.station().hand_over(&mut self.context.recording.borrow_mut().recorder, now_ns);
            }
            if now_ns >= write_off_ns {
                write_off_ns += WRITE_OFF_INTERVAL_NS;
                self.write_off(now_ns);
            }
            Timer::new(ROUND).await;
        }
        // Another step may follow, whose intervals this must not be counted in.
        let now_ns = self.orders.clock.now_ns();
        self.station().hand_over(&mut self.context.recording.borrow_mut().recorder, now_ns);
        stopwatch.usage(self.orders.clock)
    }

    fn show(&self) {
        let recording = self.context.recording.borrow();
        let counts: Counts =
            [recording.tally.counts(), recording.groups.counts()].into_iter().sum();
        let station = self.station();
        let set = |figure: &AtomicU64, value| figure.store(value, Ordering::Relaxed);
        set(&station.delivered, counts.delivered);
        set(&station.missing, counts.missing);
        set(&station.bystanders, recording.bystanders.counts().delivered);
        set(&station.open_questions, recording.open_question_count);
        set(&station.acknowledged, recording.acknowledged);
        set(&station.published, recording.sent_count());
        set(&station.owed, recording.owed_count());
    }

    /// Pings for those that have nothing to say, also while others are still connecting.
    async fn keep_alive(self: Rc<Self>) {
        let keep_alive = Duration::from_secs(self.orders.plan.keep_alive_s.into());
        if keep_alive.is_zero() {
            return;
        }
        let idle_ns = keep_alive.as_nanos() as i64 / 2;
        while !self.orders.control.is_stopping() {
            Timer::new(KEEP_ALIVE_INTERVAL_MAX.min(keep_alive / 4)).await;
            let now_ns = self.orders.clock.now_ns();
            self.everybody(|handle| handle.keep_alive(now_ns, idle_ns));
        }
    }

    /// Messages lost must not hold the closed loop up for ever.
    fn write_off(&self, now_ns: i64) {
        let age_ns = (self.orders.plan.drain.as_nanos() as i64).max(WRITE_OFF_AGE_NS_MIN);
        if let Some(closed) = self.context.recording.borrow_mut().closed_loop() {
            closed.expire(now_ns, age_ns);
        }
        self.context.pass_on();
    }

    /// Sends DISCONNECT on all connections, and cuts those that do not take it in time.
    async fn leave(&self) {
        self.everybody(Handle::close);
        for _ in 0..LEAVE_ROUNDS_MAX {
            if self.open_count.get() == 0 {
                return;
            }
            Timer::new(ROUND).await;
        }
        self.everybody(Handle::cut);
        Timer::new(ROUND).await;
    }

    fn everybody(&self, act: impl Fn(&Handle)) {
        self.handles.borrow().iter().for_each(|handle| act(handle));
        self.extras.borrow().iter().for_each(|handle| act(handle));
    }

    fn executor_result(&self, usage: Usage, steps: Vec<StepBook>) -> ExecutorResult {
        let mut recording = self.context.recording.borrow_mut();
        let written_off = recording.closed_loop().map_or(0, |closed| closed.expired_count());
        ExecutorResult {
            recorder: std::mem::replace(&mut recording.recorder, Box::new(Recorder::new())),
            tally: std::mem::take(&mut recording.tally),
            groups: std::mem::take(&mut recording.groups),
            bystanders: std::mem::take(&mut recording.bystanders),
            replay: recording.replay,
            impact: recording.impact.take(),
            strays: recording.strays,
            sent: std::mem::take(&mut recording.sent),
            acknowledged: recording.acknowledged,
            written_off,
            usage,
            steps,
        }
    }
}

/// Takes the usage at the beginning and at the end of the steady part.
struct Stopwatch {
    clock: Clock,
    from: Option<Usage>,
    to: Option<Usage>,
}

impl Stopwatch {
    fn new(clock: Clock) -> Self {
        Self { clock, from: None, to: None }
    }

    fn look(&mut self, timeline: &Timeline, now_ns: i64) {
        if now_ns >= timeline.steady_ns && self.from.is_none() {
            self.from = Some(Usage::now(self.clock));
        }
        if now_ns >= timeline.end_ns && self.to.is_none() {
            self.to = Some(Usage::now(self.clock));
        }
    }

    /// Returns what was used: nothing, if the run did not get to its steady part.
    fn usage(self, clock: Clock) -> Usage {
        let to = self.to.unwrap_or_else(|| Usage::now(clock));
        self.from.map_or_else(Usage::default, |from| to.since(from))
    }
}
