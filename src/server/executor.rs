//! One executor: what it is made of, and its end.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use glommio::{Latency, Shares, TaskQueueHandle};

use crate::auth::AllowAll;
use crate::config::Limits;
use crate::metrics::Counters;
use crate::shard::{Message, Shard};
use crate::storage;
use ringmq_io::{Sockets, TcpListener, Wakeup};

use super::accept::Acceptor;
use super::connections::Population;
use super::core::Core;
use super::effects::Effects;
use super::handoff::Handoff;
use super::mesh::Mesh;
use super::pump;
use super::signals::Watch;

/// How new connections share the executor with established ones, out of 1000 each.
const ACCEPT_SHARES: usize = 100;

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
    pump::run(&core, &plan.watch, Wakeup::new(wakeup)).await;
    for acceptor in acceptors {
        acceptor.cancel().await;
    }
    pump::shut_down(&core, plan.limits.shutdown_timeout_s).await;
    debug_assert_eq!(core.borrow().shard.audit(), Ok(()), "what is counted is what is there");
    core.borrow().counters()
}

fn spawn_into<T: 'static>(
    queue: TaskQueueHandle,
    task: impl Future<Output = T> + 'static,
) -> glommio::Task<T> {
    glommio::spawn_local_into(task, queue).expect("the queue was just made")
}
