//! One executor: what it is made of, and its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::auth::AllowAll;
use crate::config::Limits;
use crate::metrics::Counters;
use crate::shard::{Message, Shard};
use crate::storage;
use ringmq_io::{Sockets, Wakeup};

use super::accept::Arrivals;
use super::connections::Population;
use super::core::Core;
use super::effects::Effects;
use super::handoff::Handoff;
use super::mesh::Mesh;
use super::pump;
use super::signals::Watch;

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
    let made = Sockets::new().and_then(|sockets| {
        let arrivals = Arrivals::new(plan.listeners, plan.limits, plan.population)?;
        Ok((sockets.wakeup()?, sockets, arrivals))
    });
    let (wakeup, sockets, arrivals) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = plan.ready.send(Err(error));
            return Counters::default();
        }
    };
    let mut core = Core::new((plan.shard)(), effects, sockets, arrivals, plan.started);
    // Nobody listens any more if another executor did not start.
    let _ = plan.ready.send(Ok(()));
    drop(plan.ready);
    pump::run(&mut core, &plan.watch, Wakeup::new(wakeup)).await;
    pump::shut_down(&mut core, plan.limits.shutdown_timeout_s).await;
    debug_assert_eq!(core.shard.audit(), Ok(()), "what is counted is what is there");
    core.counters()
}
