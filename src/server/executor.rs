//! The tasks of one executor.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use futures_lite::future;
use glommio::timer::Timer;
use glommio::{Latency, Shares, TaskQueueHandle};

use crate::auth::AllowAll;
use crate::config::Limits;
use crate::metrics::Counters;
use crate::shard::{Input, Message, Shard};
use crate::storage;
use ringmq_io::{Sockets, TcpListener, yield_to_reactor};

use super::accept::{Acceptor, Handoff};
use super::connections::Population;
use super::core::{Core, Go, Shared};
use super::effects::Effects;
use super::mesh::{Found, Mesh};
use super::signals::Watch;

/// Findings of the mesh handled before other tasks get their turn.
const FINDINGS_PER_TURN: usize = 1024;
/// How new connections share the executor with established ones, out of 1000 each.
const ACCEPT_SHARES: usize = 100;
/// How long an executor without timers sleeps; anything that sets one wakes it.
const IDLE: Duration = Duration::from_secs(3600);
/// What an executor is started with; plain data that goes to its thread.
pub(super) struct Plan {
    pub(super) shard: Box<dyn FnOnce() -> Shard + Send>,
    pub(super) mesh: Mesh<Message, Handoff>,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) limits: Limits,
    pub(super) population: Arc<Population>,
    pub(super) watch: Watch,
    pub(super) started: Instant,
    /// Told once this executor runs, or why it does not.
    pub(super) ready: Sender<io::Result<()>>,
}

/// Runs until the broker stops; what was counted.
pub(super) async fn run(plan: Plan) -> Counters {
    let engine = Box::new(storage::Memory::default());
    let effects = Effects::new(plan.mesh, engine, Box::new(AllowAll));
    let made = Sockets::new().and_then(|sockets| Ok((sockets.wakeup()?, sockets)));
    let (wakeup, sockets) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = plan.ready.send(Err(error));
            return Counters::default();
        }
    };
    let core = Core::new((plan.shard)(), effects, sockets, plan.started);
    let core = Rc::new(RefCell::new(core));
    spawn_turn(&core);
    spawn_wakeup(&core, wakeup);
    spawn_alarm(&core);
    let queue = glommio::executor().create_task_queue(
        Shares::Static(ACCEPT_SHARES),
        Latency::NotImportant,
        "accept",
    );
    let acceptors: Vec<_> = plan
        .listeners
        .into_iter()
        .map(|socket| {
            let listener = TcpListener::attach(socket);
            let acceptor =
                Acceptor::new(Rc::clone(&core), plan.limits, Arc::clone(&plan.population));
            spawn_into(queue, acceptor.run(listener))
        })
        .collect();
    // Nobody listens any more if another executor did not start.
    let _ = plan.ready.send(Ok(()));
    drop(plan.ready);
    run_mesh(&core, &plan.watch).await;
    for acceptor in acceptors {
        acceptor.cancel().await;
    }
    shut_down(&core, plan.limits.shutdown_timeout_s).await;
    debug_assert_eq!(core.borrow().shard.audit(), Ok(()), "what is counted is what is there");
    core.borrow().counters()
}

fn spawn_into<T: 'static>(
    queue: TaskQueueHandle,
    task: impl Future<Output = T> + 'static,
) -> glommio::Task<T> {
    glommio::spawn_local_into(task, queue).expect("the queue was just made")
}

fn spawn_turn(core: &Shared) {
    let core = Rc::clone(core);
    let turn = async move {
        loop {
            poll_fn(|cx| core.borrow_mut().poll_turn(cx)).await;
            yield_to_reactor().await;
        }
    };
    glommio::spawn_local(turn).detach();
}

/// Has a turn follow whenever something happens to a socket while the executor sleeps.
fn spawn_wakeup(core: &Shared, wakeup: OwnedFd) {
    let core = Rc::clone(core);
    let wakeup = ringmq_io::Wakeup::new(wakeup);
    let wake = async move {
        while wakeup.wait().await.is_ok() {
            core.borrow_mut().wake_turn();
        }
    };
    glommio::spawn_local(wake).detach();
}

/// One timer for all that the shard waits for.
fn spawn_alarm(core: &Shared) {
    let core = Rc::clone(core);
    let sleep = async move {
        loop {
            let alarm = poll_fn(|cx| Poll::Ready(core.borrow_mut().poll_alarm(cx))).await;
            let wait = alarm.map_or(IDLE, |alarm| alarm.since(core.borrow().now()));
            if wait.is_zero() {
                core.borrow_mut().handle(Input::Timeout);
                yield_to_reactor().await; // More may have fired than one input takes.
                continue;
            }
            // An earlier timeout wakes this task, which then looks again.
            let mut woken = false;
            let rearmed = poll_fn(|_| {
                if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }
            });
            let slept = async { _ = Timer::new(wait).await };
            future::or(rearmed, slept).await;
        }
    };
    glommio::spawn_local(sleep).detach();
}

/// Handles what comes from other shards until the broker stops.
async fn run_mesh(core: &Shared, watch: &Watch) {
    let (mut found, mut answered) = (VecDeque::new(), 0);
    while poll_fn(|cx| {
        let go = poll_mesh(core, &watch.stop, &mut found, cx);
        watch.census.answer(&mut answered, || core.borrow().counters());
        go
    })
    .await
        == Go::On
    {
        yield_to_reactor().await;
    }
}

/// `found` is what a look has found and is still to be handled: the next look comes after it.
fn poll_mesh(
    core: &Shared,
    stop: &AtomicBool,
    found: &mut VecDeque<Found<Message, Handoff>>,
    cx: &Context<'_>,
) -> Poll<Go> {
    let core = &mut *core.borrow_mut();
    let mut more = !found.is_empty();
    if !more {
        more = core.effects.mesh.look(cx.waker(), FINDINGS_PER_TURN, |one| found.push_back(one));
    }
    core.handle_found(found);
    more |= !found.is_empty();
    if stop.load(Ordering::Acquire) {
        return Poll::Ready(Go::Away);
    }
    if more { Poll::Ready(Go::On) } else { Poll::Pending }
}

/// Closes every connection once its outbox is written, or after the time that is allowed.
async fn shut_down(core: &Shared, timeout_s: u16) {
    core.borrow_mut().stop();
    let deadline = Instant::now() + Duration::from_secs(timeout_s.into());
    while !core.borrow().effects.connections.is_empty() && Instant::now() < deadline {
        Timer::new(Duration::from_millis(1)).await;
    }
}
