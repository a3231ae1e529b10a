//! One run from beginning to end, as the main thread sees it.

mod progress;
pub(crate) mod repeat;
pub(crate) mod search;

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use glommio::ExecutorJoinHandle;

use crate::executor::control::Control;
use crate::executor::mailbox::Mailbox;
use crate::executor::result::ExecutorResult;
use crate::executor::{Orders, spawn};
use crate::output::Watch;
use crate::pace::schedule::Timeline;
use crate::plan::Plan;
use crate::plan::step::{Step, Visit};
use crate::recording::impact::Impact;
use crate::recording::operations::Operations;
use crate::recording::recorder::Recorder;
use crate::recording::replay::ReplayBook;
use crate::report::outcome::{Outcome, StepOutcome, planned_count};
use crate::report::series::{Mark, Marks, Series, Shown};
use crate::run::progress::Progress;
use crate::sample::clock::Clock;
use crate::sample::machine;

/// How often the main thread looks at the executors.
const LOOK: Duration = Duration::from_millis(10);
/// Between the last connection and the first message.
const START_DELAY_NS: i64 = 50_000_000;
/// After the last delivery that was due: a duplicate may still come.
const GRACE: Duration = Duration::from_millis(200);

/// Carries the plan out.
///
/// # Errors
/// It could not even begin: no address, a limit that is too low, no ring. What goes wrong later
/// is part of the outcome.
pub(crate) fn run(plan: &Arc<Plan>, watch: &mut Watch) -> Result<Outcome> {
    let address = resolve(plan)?;
    check_sources(plan, address)?;
    let connections = plan.connection_count();
    machine::allow_connections(connections).map_err(anyhow::Error::msg)?;
    machine::allow_ports(connections, plan.source_ips.len()).map_err(anyhow::Error::msg)?;
    let clock = Clock::start();
    let control = Arc::new(Control::new(plan.executor_count));
    let executors = spawn_all(plan, address, clock, &control)?;
    let mut run = Run::new(plan, clock, &control, watch);
    run.take_steps();
    run.marks.drained = Some(run.mark());
    control.stop();
    let results = executors
        .into_iter()
        .map(|executor| executor.join().map_err(|error| anyhow!("an executor failed: {error}"))?);
    let results = results.collect::<Result<Vec<ExecutorResult>>>()?;
    Ok(run.outcome(&results))
}

fn check_sources(plan: &Plan, address: SocketAddr) -> Result<()> {
    match plan.source_ips.iter().find(|source| source.is_ipv4() != address.is_ipv4()) {
        Some(source) => Err(anyhow!("cannot connect from {source} to {address}: one is IPv6")),
        None => Ok(()),
    }
}

/// Resolves the name of the broker: of several addresses, the first that takes a connection.
fn resolve(plan: &Plan) -> Result<SocketAddr> {
    let broker = &plan.broker;
    let addresses = broker.to_socket_addrs().with_context(|| format!("cannot resolve {broker}"))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let answers =
        |address: &&SocketAddr| TcpStream::connect_timeout(address, plan.connect_timeout).is_ok();
    match addresses.as_slice() {
        [] => Err(anyhow!("{broker} has no address")),
        [only] => Ok(*only),
        [first, ..] => Ok(*addresses.iter().find(answers).unwrap_or(first)),
    }
}

fn spawn_all(
    plan: &Arc<Plan>,
    address: SocketAddr,
    clock: Clock,
    control: &Arc<Control>,
) -> Result<Vec<ExecutorJoinHandle<Result<ExecutorResult>>>> {
    let mailboxes: Arc<[Mailbox]> = (0..plan.executor_count).map(|_| Mailbox::default()).collect();
    let orders = |executor| Orders {
        executor,
        plan: Arc::clone(plan),
        address,
        clock,
        control: Arc::clone(control),
        mailboxes: Arc::clone(&mailboxes),
    };
    (0..plan.executor_count).map(|executor| spawn(orders(executor))).collect()
}

struct Run<'a> {
    plan: &'a Plan,
    clock: Clock,
    control: &'a Control,
    progress: Progress,
    started_unix_s: u64,
    connect_s: f64,
    /// When all messages of the plan were published, if it has a number of them.
    published_ns: i64,
    /// When each step began and ended.
    step_times: Vec<(i64, i64)>,
    recorder: Recorder,
    /// What was collected since the last interval ended.
    current: Recorder,
    series: Series,
    /// When the interval that goes on is to end.
    interval_end_ns: i64,
    marks: Marks,
    watch: &'a mut Watch,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, clock: Clock, control: &'a Control, watch: &'a mut Watch) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        if let Some(log) = &mut watch.log {
            log.begin_run();
        }
        let begin = Mark::take(clock.now_ns(), watch.broker.as_mut());
        Self {
            plan,
            clock,
            control,
            progress: Progress::new(),
            started_unix_s: since_epoch.map_or(0, |time| time.as_secs()),
            connect_s: 0.0,
            published_ns: i64::MAX,
            step_times: Vec::new(),
            recorder: Recorder::new(),
            current: Recorder::new(),
            series: Series::begin(begin),
            interval_end_ns: begin.at_ns + plan.interval.as_nanos() as i64,
            marks: Marks { begin: Some(begin), ..Marks::default() },
            watch,
        }
    }

    fn mark(&mut self) -> Mark {
        Mark::take(self.clock.now_ns(), self.watch.broker.as_mut())
    }

    fn connected(&self) -> u64 {
        self.control.sum(|station| &station.connected)
    }

    fn take_steps(&mut self) {
        let plan = self.plan;
        for (number, step) in plan.steps.iter().enumerate() {
            let begin_ns = self.clock.now_ns();
            self.control.begin(number);
            match step {
                Step::Assemble => self.connect(number),
                Step::Flow => self.flow(),
                Step::Visit(visit) => self.visit(number, visit),
                Step::Idle { time, .. } => self.idle(*time),
            }
            self.step_times.push((begin_ns, self.clock.now_ns()));
            if self.control.is_stopping() {
                return;
            }
            // What is left of the last one goes with the last interval.
            if number + 1 < plan.steps.len() {
                self.end_interval();
            }
        }
    }

    /// Waits until all clients are connected. Each handshake has a timeout, so this ends.
    fn connect(&mut self, number: usize) {
        let wanted = self.plan.flow_client_count();
        let others = self.connected();
        self.wait_for_step(number, |run| {
            run.progress.connecting(run.connected().saturating_sub(others), wanted);
        });
    }

    fn visit(&mut self, number: usize, visit: &Visit) {
        let before = self.control.sum(|station| &station.visited);
        self.wait_for_step(number, |run| {
            let visited = run.control.sum(|station| &station.visited) - before;
            run.progress.visiting(visit.name, visited, visit.count.into());
        });
    }

    fn wait_for_step(&mut self, number: usize, say: impl Fn(&Self)) {
        let begin_ns = self.clock.now_ns();
        while !self.control.is_done(number) && !self.control.is_stopping() {
            thread::sleep(LOOK);
            self.keep_intervals(&say);
        }
        let step = &self.plan.steps[number];
        if step.connects() || step.creates_sessions() {
            let mark = self.mark();
            self.marks.connected = Some(mark);
            if step.connects() {
                self.connect_s += (mark.at_ns - begin_ns) as f64 / 1e9;
            }
        }
    }

    fn idle(&mut self, time: Duration) {
        let end_ns = self.clock.now_ns() + time.as_nanos() as i64;
        while self.clock.now_ns() < end_ns && !self.control.is_stopping() {
            thread::sleep(LOOK.min(time));
            self.keep_intervals(&|_| ());
        }
    }

    fn flow(&mut self) {
        if let Some(timeline) = self.start() {
            self.watch(timeline);
            self.drain(timeline);
        }
    }

    fn start(&mut self) -> Option<Timeline> {
        if self.control.is_stopping() {
            return None;
        }
        let start_ns = self.clock.now_ns() + START_DELAY_NS;
        let steady_ns = start_ns + self.plan.warmup.as_nanos() as i64;
        let end_ns = steady_ns + self.plan.duration.as_nanos() as i64;
        let timeline = Timeline { start_ns, steady_ns, end_ns };
        self.control.start(timeline);
        // Executors hand over when an interval of their own ends; give them a moment.
        self.interval_end_ns = start_ns + self.plan.interval.as_nanos() as i64 + START_DELAY_NS;
        Some(timeline)
    }

    /// Collects and reports in every interval until the last message has been due.
    fn watch(&mut self, timeline: Timeline) {
        let planned = self.plan.message_count;
        let published = |run: &Self| {
            let published = run.control.sum(|station| &station.published);
            planned.is_some_and(|planned| published >= planned)
        };
        self.wait_until(timeline.steady_ns, published);
        self.marks.steady = Some(self.mark());
        self.wait_until(timeline.end_ns, published);
        self.marks.end = Some(self.mark());
        if planned.is_some() {
            self.published_ns = self.clock.now_ns();
        }
    }

    /// Waits for what is still on its way, as long as the plan allows.
    fn drain(&mut self, timeline: Timeline) {
        // The figures of the executors are a few milliseconds old; and what they hand over at the
        // end of the steady part is to be an interval of its own.
        thread::sleep(6 * LOOK);
        self.keep_intervals(&Self::say);
        let planned = planned_count(self.plan, &timeline);
        let deadline_ns = self.clock.now_ns() + self.plan.drain.as_nanos() as i64;
        self.wait_until(deadline_ns, |run| run.is_complete(planned));
        if !self.control.is_stopping() {
            thread::sleep(GRACE.min(self.plan.drain));
        }
    }

    fn wait_until(&mut self, time_ns: i64, done: impl Fn(&Self) -> bool) {
        while !self.control.is_stopping() && self.clock.now_ns() < time_ns && !done(self) {
            thread::sleep(LOOK);
            self.keep_intervals(&Self::say);
        }
    }

    fn keep_intervals(&mut self, say: &impl Fn(&Self)) {
        if self.clock.now_ns() > self.interval_end_ns {
            self.interval_end_ns += self.plan.interval.as_nanos() as i64;
            self.end_interval();
            say(self);
        }
    }

    fn end_interval(&mut self) {
        for station in &self.control.stations {
            station.collect(&mut self.current);
        }
        let mark = self.mark();
        self.take_current(mark);
    }

    fn take_current(&mut self, mark: Mark) {
        let shown = Shown {
            connected: self.connected(),
            missing: self.control.sum(|station| &station.missing),
        };
        let timeline = self.timeline();
        let interval = self.series.end_interval(mark, timeline, &self.current, shown);
        if let Some(log) = &mut self.watch.log {
            log.write(interval, &self.current);
        }
        self.recorder.absorb(&self.current);
        self.current.clear();
    }

    fn say(&self) {
        let end_ns = self.timeline().map_or(0, |timeline| timeline.end_ns);
        let left_s = (end_ns - self.clock.now_ns()) as f64 / 1e9;
        let p99_ns = self.recorder.latency.value_at_quantile(0.99);
        if let Some(interval) = self.series.last() {
            self.progress.running(interval, p99_ns, left_s);
        }
    }

    fn is_complete(&self, planned: Option<u64>) -> bool {
        let published = self.control.sum(|station| &station.published);
        let acknowledged = self.control.sum(|station| &station.acknowledged);
        planned.is_none_or(|planned| published >= planned)
            && (self.plan.qos as u8 == 0 || acknowledged >= published)
            && self.control.sum(|station| &station.open_questions) == 0
            && (self.plan.incident.is_none() || self.control.incident_end_ns() < i64::MAX)
            && self.control.sum(|station| &station.bystanders)
                >= published * self.plan.bystander_count()
            && self.control.sum(|station| &station.delivered)
                >= self.control.sum(|station| &station.owed)
    }

    /// Returns the timeline. A closed loop with a number of messages ends with the last of them.
    fn timeline(&self) -> Option<Timeline> {
        let timeline = self.control.timeline()?;
        Some(Timeline { end_ns: timeline.end_ns.min(self.published_ns), ..timeline })
    }

    fn steps(&self, results: &[ExecutorResult]) -> Vec<StepOutcome> {
        let steps = self.plan.steps.iter().zip(&self.step_times).enumerate();
        steps
            .map(|(number, (step, &(begin_ns, end_ns)))| {
                let books = results.iter().filter_map(|result| result.steps.get(number));
                let mut operations = Operations::default();
                books.clone().for_each(|book| operations.absorb(&book.operations));
                let usage = books.map(|book| book.usage).collect();
                StepOutcome { name: step.name(), begin_ns, end_ns, operations, usage }
            })
            .collect()
    }

    fn outcome(mut self, results: &[ExecutorResult]) -> Outcome {
        self.progress.end();
        for (result, station) in results.iter().zip(&self.control.stations) {
            station.collect(&mut self.current);
            self.current.absorb(&result.recorder);
        }
        let drained = self.marks.drained.expect("the executors stop after this mark");
        self.current.until_ns = self.current.until_ns.max(drained.at_ns);
        self.take_current(drained);
        let sent = sent_per_topic(results);
        Outcome {
            failure: self.control.failure(),
            started_unix_s: self.started_unix_s,
            connected: self.connected(),
            connect_s: self.connect_s,
            timeline: self.timeline(),
            counts: results.iter().map(ExecutorResult::counts).sum(),
            settlement: results.iter().map(|result| result.settle(&sent)).sum(),
            bystanders: (
                results.iter().map(|result| result.bystanders.counts()).sum(),
                results.iter().map(|result| result.bystanders.settle(&sent)).sum(),
            ),
            replay: replay(results),
            impact: impact(results),
            shares: results.iter().flat_map(|result| result.groups.deliveries()).collect(),
            strays: results.iter().map(|result| result.strays).sum(),
            sent: sent.iter().sum(),
            acknowledged: results.iter().map(|result| result.acknowledged).sum(),
            written_off: results.iter().map(|result| result.written_off).sum(),
            usage: results.iter().map(|result| result.usage).collect(),
            session_count: session_count(self.plan, results),
            steps: self.steps(results),
            recorder: self.recorder,
            intervals: self.series.into_intervals(),
            marks: self.marks,
            broker: self.watch.broker.as_ref().map(|it| (it.pid(), it.name().to_owned())),
        }
    }
}

fn session_count(plan: &Plan, results: &[ExecutorResult]) -> u64 {
    let created = (0..plan.steps.len()).filter(|&number| plan.steps[number].creates_sessions());
    let books =
        created.flat_map(|number| results.iter().filter_map(move |it| it.steps.get(number)));
    books.map(|book| book.operations.count("connect")).sum()
}

fn replay(results: &[ExecutorResult]) -> ReplayBook {
    let mut sum = ReplayBook::default();
    results.iter().for_each(|result| sum.absorb(&result.replay));
    sum
}

fn impact(results: &[ExecutorResult]) -> Option<Impact> {
    let mut impacts = results.iter().filter_map(|result| result.impact.as_ref());
    let mut sum = impacts.next()?.clone();
    impacts.for_each(|impact| sum.absorb(impact));
    Some(sum)
}

fn sent_per_topic(results: &[ExecutorResult]) -> Vec<u64> {
    let mut sums = vec![0; results.first().map_or(0, |result| result.sent.len())];
    for result in results {
        sums.iter_mut().zip(&result.sent).for_each(|(sum, sent)| *sum += sent);
    }
    sums
}
