//! The assembly: executors, listeners, the mesh between them, and their end.

mod accept;
mod cgroup;
mod connection_log;
mod connections;
mod core;
mod cpus;
mod effects;
mod error;
mod executor;
mod handoff;
mod memory;
mod mesh;
mod pump;
mod signals;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ahash::RandomState;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use glommio::ExecutorJoinHandle;
use tracing::{debug, info, warn};

use crate::config::{Config, Endpoint, Limits};
use crate::metrics::Counters;
use crate::routing::{Partition, ShardId};
use crate::shard::{Message, Shard};
use crate::transport::{self, Patience};

pub use error::ServerError;
use executor::Plan;
use handoff::Handoff;
use mesh::Mesh;
use signals::Watch;

/// Descriptors that are no connections, or that are twice there on the way to their home.
const SPARE_DESCRIPTORS: usize = 1024;
/// How long an executor may take to start.
const START: Duration = Duration::from_secs(30);
/// How long an address may be in use that another process has just left.
const ADDRESS_WAIT: Duration = Duration::from_secs(2);
/// How often it is looked meanwhile whether the broker is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the broker until SIGTERM or SIGINT; `listening` is told each address, with the port that
/// was chosen for port 0, once connections to it are accepted.
///
/// # Errors
/// [`ServerError`]: the broker did not start, or an executor died.
pub fn run(config: &Config, listening: impl FnMut(SocketAddr)) -> Result<(), ServerError> {
    let descriptor_count = ringmq_io::probe().map_err(ServerError::System)?;
    warn_of_few(descriptor_count, config.limits.connection_count_max);
    let (cpus, quota) = (ringmq_io::available_cpus(), cpus::quota_in_thousandths());
    let cores =
        config.cores.unwrap_or_else(|| cpus::executor_count(&config.pin, cpus.len(), quota));
    let placement =
        cpus::placement(&config.pin, &cpus, cores, quota).map_err(ServerError::Executor)?;
    let (addresses, sockets) = bind(&config.listen, cores, patience(&config.limits))?;
    make_room(config.limits.connection_count_max, &sockets);
    let watch = Watch::default();
    let (meshes, bells) = Mesh::new(cores, config.limits.mesh_channel_count(cores));
    signals::watch(watch.clone(), bells)?;
    let (ready, started) = crossbeam_channel::bounded(cores);
    let plans = plans(config, meshes, sockets, &watch, ready);
    let mut executors = Vec::new();
    for (index, (plan, cpu)) in plans.into_iter().zip(placement).enumerate() {
        executors.push(start(index, cpu, plan)?);
    }
    if !await_all(&started, cores, &watch.stop)? {
        // One of them may hang: the end of the process ends it, and nothing was served yet.
        info!("stopped before all executors had started");
        return Ok(());
    }
    addresses.into_iter().for_each(listening);
    info!("ringmq {} is up on {cores} cores", env!("RINGMQ_VERSION"));
    let mut counters = Counters::default();
    for executor in executors {
        let died = |error| ServerError::Executor(format!("{error}"));
        counters.add(&executor.join().map_err(died)?);
    }
    info!("stopped: {}", signals::line(&counters));
    Ok(())
}

/// Waits until all executors run; false if the broker is told to stop before.
fn await_all(
    started: &Receiver<io::Result<()>>,
    cores: usize,
    stop: &AtomicBool,
) -> Result<bool, ServerError> {
    let fail = |why: &dyn fmt::Display| ServerError::Executor(format!("cannot start: {why}"));
    let begun = Instant::now();
    let mut ready_count = 0;
    while ready_count < cores {
        if stop.load(Ordering::Acquire) {
            return Ok(false);
        }
        match started.recv_timeout(LOOK_EVERY) {
            Ok(one) => one.map_err(|error| fail(&error))?,
            Err(RecvTimeoutError::Timeout) if begun.elapsed() < START => continue,
            Err(RecvTimeoutError::Timeout) => return Err(fail(&"it takes too long")),
            Err(RecvTimeoutError::Disconnected) => return Err(fail(&"one ended at once")),
        }
        ready_count += 1;
    }
    Ok(true)
}

/// Says so if there are fewer descriptors than there may be connections.
fn warn_of_few(descriptor_count: usize, connection_count_max: usize) {
    let needed = connection_count_max.saturating_add(SPARE_DESCRIPTORS);
    if descriptor_count < needed {
        warn!(
            "connection_count_max is {connection_count_max}, and this process may have \
             {descriptor_count} descriptors open: raise that to {needed} with LimitNOFILE= \
             (systemd), --ulimit nofile= (Docker) or ulimit -n"
        );
    }
}

/// How long TCP takes a peer to be there that does not answer.
fn patience(limits: &Limits) -> Patience {
    Patience {
        keep_alive: Duration::from_secs(limits.tcp_keep_alive_s.into()),
        user_timeout: Duration::from_secs(limits.tcp_user_timeout_s.into()),
    }
}

/// Has the system make its table of descriptors as large as connections may make it, before there
/// are threads.
fn make_room(connection_count_max: usize, sockets: &[Vec<OwnedFd>]) {
    let Some(socket) = sockets.iter().flatten().next() else { return };
    let count = connection_count_max.saturating_add(SPARE_DESCRIPTORS);
    if let Err(error) = ringmq_io::make_room(count, socket.as_fd()) {
        debug!("the table of descriptors grows when it has to: {error}");
    }
}

type Bound = (Vec<SocketAddr>, Vec<Vec<OwnedFd>>);

/// One socket for each address and executor, by executor.
fn bind(endpoints: &[Endpoint], cores: usize, patience: Patience) -> Result<Bound, ServerError> {
    let mut bound = Vec::new();
    let mut by_executor: Vec<Vec<OwnedFd>> = (0..cores).map(|_| Vec::new()).collect();
    for endpoint in endpoints {
        let mut port = None;
        for mut address in endpoint.addresses() {
            // Both have the port that the system has chosen for the first.
            address.set_port(port.unwrap_or_else(|| address.port()));
            let sockets = match bind_patiently(address, cores, patience) {
                Err(error) if port.is_some() && is_without_ipv6(&error) => continue,
                bound => bound.map_err(|error| ServerError::Listen(address, error))?,
            };
            let (address, sockets) = sockets;
            port = Some(address.port());
            bound.push(address);
            for (executor, socket) in by_executor.iter_mut().zip(sockets) {
                executor.push(socket);
            }
        }
    }
    Ok((bound, by_executor))
}

/// A process that was killed may hold its address for a moment: its rings are taken down later.
fn bind_patiently(
    address: SocketAddr,
    count: usize,
    patience: Patience,
) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let begun = Instant::now();
    loop {
        match transport::bind(address, count, patience) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < ADDRESS_WAIT =>
            {
                thread::sleep(LOOK_EVERY);
            }
            bound => return bound,
        }
    }
}

/// Whether the system has no IPv6, or no address of it.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn plans(
    config: &Config,
    meshes: Vec<Mesh<Message, Handoff>>,
    sockets: Vec<Vec<OwnedFd>>,
    watch: &Watch,
    ready: Sender<io::Result<()>>,
) -> Vec<Plan> {
    let seeds = RandomState::new();
    let seed = [0, 1, 2, 3].map(|number: u64| seeds.hash_one(number));
    let partition = Partition::new(meshes.len(), seed);
    let population = Arc::default();
    let pool = memory::pool(&config.limits, meshes.len());
    let started = Instant::now();
    let limits = config.limits;
    let plan = |(index, (mesh, listeners))| {
        let (id, partition) = (ShardId::from_index(index), partition.clone());
        let (hasher, pool) = (RandomState::new(), Arc::clone(&pool));
        let shard = move || Shard::new(id, partition, limits, hasher).with_pool(pool);
        Plan {
            shard: Box::new(shard),
            mesh,
            listeners,
            limits,
            population: Arc::clone(&population),
            watch: watch.clone(),
            started,
            ready: ready.clone(),
        }
    };
    meshes.into_iter().zip(sockets).enumerate().map(plan).collect()
}

fn start(
    index: usize,
    cpu: Option<usize>,
    plan: Plan,
) -> Result<ExecutorJoinHandle<Counters>, ServerError> {
    ringmq_io::spawn_executor(&format!("shard-{index}"), cpu, move || executor::run(plan))
        .map_err(|error| ServerError::Executor(format!("cannot start: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_hangs_can_be_stopped() {
        let (ready, started) = crossbeam_channel::bounded(2);
        ready.send(Ok(())).unwrap();
        let stop = AtomicBool::new(true);
        assert!(!await_all(&started, 2, &stop).unwrap());
    }

    #[test]
    fn a_start_is_over_when_all_executors_run() {
        let (ready, started) = crossbeam_channel::bounded(2);
        (0..2).for_each(|_| ready.send(Ok(())).unwrap());
        assert!(await_all(&started, 2, &AtomicBool::new(false)).unwrap());
    }

    #[test]
    fn a_start_fails_with_the_first_executor_that_does() {
        let (ready, started) = crossbeam_channel::bounded(2);
        ready.send(Err(io::Error::other("no ring"))).unwrap();
        let error = await_all(&started, 2, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.to_string(), "executor: cannot start: no ring");
        let (ready, started) = crossbeam_channel::bounded::<io::Result<()>>(1);
        drop(ready);
        let error = await_all(&started, 1, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.to_string(), "executor: cannot start: one ended at once");
    }
}
