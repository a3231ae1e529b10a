//! New connections: accepted here, read up to their CONNECT, and given to the home of their
//! session.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::timer::Timer;
use tracing::warn;

use crate::config::Limits;
use crate::mqtt;
use crate::shard::{self, Home};
use ringmq_io::{PeerFacts, Tcp, TcpListener, yield_to_reactor};

use super::connection_log::Name;
use super::connections::{Arrival, Permit, Population};
use super::handoff::Handoff;
use super::pump::Shared;

/// How long accepting pauses after an error such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections accepted before other tasks get their turn: a storm never lets accepting wait.
const ACCEPTS_PER_TURN: usize = 16;
/// At most one line of log about each kind of trouble in this time.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// How long a CONNECT may still be read that lay in its socket when its time had passed.
const LAST_LOOK: Duration = Duration::from_millis(100);
/// First read of a connection; most CONNECT packets fit.
const FIRST_READ_BYTES: usize = 512;
/// Any other read of it: many may have much to read at once.
const READ_BYTES_MAX: usize = 16 * 1024;

/// Accepts on the listeners of one executor.
pub(super) struct Acceptor {
    core: Shared,
    limits: Limits,
    population: Arc<Population>,
    last_error: Option<Instant>,
    last_refusal: Option<Instant>,
}

impl Acceptor {
    pub(super) fn new(core: Shared, limits: Limits, population: Arc<Population>) -> Self {
        Self { core, limits, population, last_error: None, last_refusal: None }
    }

    /// Accepts for ever.
    pub(super) async fn run(mut self, listener: TcpListener) {
        for count in 1_usize.. {
            match listener.accept().await {
                Ok(stream) => self.handle_accepted(stream),
                Err(error) => self.handle_error(&error).await,
            }
            if count.is_multiple_of(ACCEPTS_PER_TURN) {
                yield_to_reactor().await;
            }
        }
    }

    fn handle_accepted(&mut self, stream: Tcp) {
        let limit = self.limits.connection_count_max;
        let Some(permit) = Permit::take(&self.population, limit) else {
            self.core.borrow_mut().shard.counters_mut().connections_refused_limit += 1;
            if may_log(&mut self.last_refusal) {
                let address = stream.peer();
                warn!(%address, "connection refused: connection_count_max is {limit}");
            }
            return;
        };
        let name = Name::new(self.population.next_number(), stream.peer());
        self.core.borrow_mut().shard.counters_mut().connections_accepted += 1;
        let (core, limits) = (Rc::clone(&self.core), self.limits);
        glommio::spawn_local(welcome(core, stream, name, permit, limits)).detach();
    }

    /// Connections that are open stay open: what helps is to wait until one of them ends.
    async fn handle_error(&mut self, error: &io::Error) {
        if may_log(&mut self.last_error) {
            warn!("cannot accept connections: {error}; established ones go on");
        }
        Timer::new(PAUSE).await;
    }
}

fn may_log(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let may = last.is_none_or(|last| now.duration_since(last) >= LOG_EVERY);
    if may {
        *last = Some(now);
    }
    may
}

/// Reads a connection's first packet and brings it to its home.
async fn welcome(core: Shared, mut stream: Tcp, name: Name, permit: Permit, limits: Limits) {
    let packet_bytes_max = limits.connect_bytes_max.min(limits.packet_bytes_max);
    let first = read_first_packet(&core, &mut stream, packet_bytes_max);
    let (bytes, home) = match future::or(first, refuse_late(&limits)).await {
        Ok(first) => first,
        Err(early) => {
            let log = &mut core.borrow_mut().effects.log;
            return log.closed_early(name, early == Early::Closed, early.text());
        }
    };
    let read = Instant::now();
    let socket = match stream.detach() {
        Ok(socket) => socket,
        Err(error) => return warn!("connection dropped on its way to its home: {error}"),
    };
    let came = core.borrow().now().before(PeerFacts::of(socket.as_fd()).silence);
    let handoff = Handoff { socket, bytes, arrival: Arrival { name, came, read }, permit };
    let core = &mut *core.borrow_mut();
    match home {
        Home::At(home) if home != core.shard.id() => core.effects.mesh.hand_off(home, handoff),
        _ => core.adopt(handoff),
    }
}

/// Ends the wait for a CONNECT when its time has passed. A process that stood still looks into its
/// sockets once more before.
async fn refuse_late<T>(limits: &Limits) -> Result<T, Early> {
    Timer::new(Duration::from_secs(limits.connect_timeout_s.into())).await;
    Timer::new(LAST_LOOK).await;
    Err(Early::Late)
}

/// Why a connection has ended before its CONNECT was whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Early {
    /// The peer closed it, as one does that only looks whether the port is open.
    Closed,
    /// The time for it has passed.
    Late,
    /// Memory is short, and its CONNECT is large.
    OverShare,
}

impl Early {
    fn text(self) -> &'static str {
        match self {
            Self::Closed => "the peer sent no CONNECT",
            Self::Late => "no CONNECT within connect_timeout_s",
            Self::OverShare => "memory is short, and its CONNECT is large",
        }
    }
}

/// Memory of a connection whose CONNECT is not whole, until that is so or it ends.
struct Charge {
    core: Shared,
    bytes: usize,
}

impl Charge {
    fn new(core: &Shared, bytes: usize) -> Self {
        core.borrow_mut().opening_bytes += bytes;
        Self { core: Rc::clone(core), bytes }
    }

    /// False if memory is too short for it.
    fn set(&mut self, bytes: usize) -> bool {
        let core = &mut *self.core.borrow_mut();
        core.opening_bytes = core.opening_bytes + bytes - self.bytes;
        self.bytes = bytes;
        let is_allowed = core.shard.may_hold(bytes);
        core.shard.counters_mut().connections_refused_quota += u64::from(!is_allowed);
        is_allowed
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.core.borrow_mut().opening_bytes -= self.bytes;
    }
}

/// Returns what came, once that says where the connection goes: a packet that is not valid, or not
/// a CONNECT, goes to a shard as soon as that is seen.
async fn read_first_packet(
    core: &Shared,
    stream: &mut Tcp,
    packet_bytes_max: usize,
) -> Result<(Vec<u8>, Home), Early> {
    let mut bytes = vec![0; FIRST_READ_BYTES];
    let mut charge = Charge::new(core, FIRST_READ_BYTES);
    let mut length = 0;
    loop {
        if length > 0 {
            await_turn(core).await;
        }
        let end = bytes.len().min(length + READ_BYTES_MAX);
        let read = stream.read(&mut bytes[length..end]).await;
        length += read.ok().filter(|count| *count > 0).ok_or(Early::Closed)?;
        let home = home(core, &bytes[..length], packet_bytes_max);
        if home != Home::Undecided {
            bytes.truncate(length);
            return Ok((bytes, home));
        }
        if length == bytes.len() {
            let wanted = mqtt::wanted(&bytes).unwrap_or(0).min(2 * length);
            bytes.resize(wanted.max(length + FIRST_READ_BYTES), 0);
            if !charge.set(bytes.capacity()) {
                return Err(Early::OverShare);
            }
        }
    }
}

/// Waits for a turn in which more of a CONNECT may be read.
async fn await_turn(core: &Shared) {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        core.borrow_mut().queue_reader(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

fn home(core: &Shared, bytes: &[u8], packet_bytes_max: usize) -> Home {
    shard::home(bytes, packet_bytes_max, core.borrow().shard.partition())
}
