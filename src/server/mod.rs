//! The assembly: executors, listeners, the mesh between them, and their end.

mod accept;
mod connections;
mod core;
mod effects;
mod executor;
mod memory;
mod mesh;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ahash::RandomState;
use crossbeam_channel::Sender;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{debug, info};

use crate::config::{Config, Limits};
use crate::metrics::Counters;
use crate::routing::{Partition, ShardId};
use crate::shard::{Message, Shard};
use crate::transport::{self, Patience};

use accept::Handoff;
use executor::Plan;
use mesh::{Bell, Mesh};

/// Memory that each executor reserves for buffers of its ring, which sockets do not use.
const RING_MEMORY_BYTES: usize = 1 << 20;

/// No task runs for long, and those that have much to do let others have their turn; preemption
/// by glommio's timer is for what was overlooked, and unsafe where threads wait long for a CPU
/// (see `executor::HEARTBEAT`).
const PREEMPT: Duration = Duration::from_secs(1);
/// Descriptors that are no connections, or that are twice there on the way to their home.
const SPARE_DESCRIPTORS: usize = 1024;
/// How long an executor may take to start.
const START: Duration = Duration::from_secs(30);

/// Why the broker did not start, or ended before it was told to.
#[derive(Debug)]
pub enum ServerError {
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// Signals cannot be received.
    Signals(io::Error),
    /// An executor did not start or died.
    Executor(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => write!(out, "cannot listen on {address}: {error}"),
            Self::Signals(error) => write!(out, "cannot receive signals: {error}"),
            Self::Executor(error) => write!(out, "executor: {error}"),
        }
    }
}

impl std::error::Error for ServerError {}

/// From now on a panic in any thread ends the process, after its message: a broker of which a part
/// is dead would look alive.
pub fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic); // Ignores that it cannot write.
        std::process::abort();
    }));
}

/// Runs the broker until SIGTERM or SIGINT; `listening` is told each address, with the port that
/// was chosen for port 0, once connections to it are accepted.
///
/// # Errors
/// [`ServerError`]: the broker did not start, or an executor died.
pub fn run(config: &Config, listening: impl FnMut(SocketAddr)) -> Result<(), ServerError> {
    let cpus = available_cpus();
    let cores = config.cores.unwrap_or(cpus.len());
    let (addresses, sockets) = bind(&config.listen, cores, patience(&config.limits))?;
    make_room(config.limits.connection_count_max, &sockets);
    let stop = Arc::new(AtomicBool::new(false));
    let (meshes, bells) = Mesh::new(cores, config.limits.mesh_channel_count(cores));
    watch_signals(Arc::clone(&stop), bells)?;
    let (ready, started) = crossbeam_channel::bounded(cores);
    let plans = plans(config, meshes, sockets, &stop, &ready);
    let mut executors = Vec::new();
    for (index, plan) in plans.into_iter().enumerate() {
        let cpu = if cores <= cpus.len() { Some(cpus[index]) } else { None };
        executors.push(start(index, cpu, plan)?);
    }
    for _ in 0..cores {
        let late = |_| ServerError::Executor(format!("not ready within {START:?}"));
        let fail = |error| ServerError::Executor(format!("cannot start: {error}"));
        started.recv_timeout(START).map_err(late)?.map_err(fail)?;
    }
    addresses.into_iter().for_each(listening);
    info!("ringmq {} is up on {cores} cores", env!("CARGO_PKG_VERSION"));
    let mut counters = Counters::default();
    for executor in executors {
        let died = |error| ServerError::Executor(format!("{error}"));
        counters.add(&executor.join().map_err(died)?);
    }
    report(&counters);
    Ok(())
}

/// The CPUs that this process may run on.
fn available_cpus() -> Vec<usize> {
    let online = glommio::CpuSet::online();
    let allowed = allowed_cpus();
    let mut cpus: Vec<usize> =
        online.map(|set| set.iter().map(|location| location.cpu).collect()).unwrap_or_default();
    cpus.retain(|cpu| allowed.as_ref().is_none_or(|allowed| allowed.contains(cpu)));
    cpus.sort_unstable();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// The CPUs of the process's affinity mask, as the system writes it: `0-3,8`.
fn allowed_cpus() -> Option<Vec<usize>> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
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
    let socket = sockets.iter().flatten().next();
    if let Some(Err(error)) = socket.map(|socket| {
        transport::make_room(connection_count_max.saturating_add(SPARE_DESCRIPTORS), socket.as_fd())
    }) {
        debug!("the table of descriptors grows when it has to: {error}");
    }
}

type Bound = (Vec<SocketAddr>, Vec<Vec<OwnedFd>>);

/// One socket for each address and executor, by executor.
fn bind(addresses: &[SocketAddr], cores: usize, patience: Patience) -> Result<Bound, ServerError> {
    let mut bound = Vec::new();
    let mut by_executor: Vec<Vec<OwnedFd>> = (0..cores).map(|_| Vec::new()).collect();
    for &address in addresses {
        let fail = |error| ServerError::Listen(address, error);
        let (address, sockets) = transport::bind(address, cores, patience).map_err(fail)?;
        bound.push(address);
        for (executor, socket) in by_executor.iter_mut().zip(sockets) {
            executor.push(socket);
        }
    }
    Ok((bound, by_executor))
}

fn plans(
    config: &Config,
    meshes: Vec<Mesh<Message, Handoff>>,
    sockets: Vec<Vec<OwnedFd>>,
    stop: &Arc<AtomicBool>,
    ready: &Sender<io::Result<()>>,
) -> Vec<Plan> {
    let seeds = RandomState::new();
    let seed = [0, 1, 2, 3].map(|number: u64| seeds.hash_one(number));
    let partition = Partition::new(meshes.len(), seed);
    let open = Arc::new(AtomicUsize::new(0));
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
            open: Arc::clone(&open),
            stop: Arc::clone(stop),
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
    LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .name(&format!("shard-{index}"))
        .io_memory(RING_MEMORY_BYTES)
        .preempt_timer(PREEMPT)
        .spawn(move || executor::run(plan))
        .map_err(|error| ServerError::Executor(format!("cannot start: {error}")))
}

/// SIGTERM and SIGINT stop the broker; a second one ends it at once.
fn watch_signals(stop: Arc<AtomicBool>, bells: Arc<[Bell]>) -> Result<(), ServerError> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(ServerError::Signals)?;
    let watch = move || {
        for signal in signals.forever() {
            if stop.swap(true, Ordering::AcqRel) {
                std::process::exit(128 + signal);
            }
            // Before anything else: a line of log may take as long as its reader likes.
            for (index, bell) in bells.iter().enumerate() {
                bell.ring(ShardId::from_index(index));
            }
            info!("stopping: no new connections, open ones are flushed and closed");
        }
    };
    let named = thread::Builder::new().name("signals".to_owned());
    named.spawn(watch).map(drop).map_err(ServerError::Signals)
}

fn report(counters: &Counters) {
    let all = counters.iter().chain(counters.ledger.iter());
    let seen: Vec<String> = all
        .filter(|(_, value)| *value > 0)
        .map(|(row, value)| format!("{}={value}", row.name))
        .collect();
    info!("stopped: {}", seen.join(" "));
}
