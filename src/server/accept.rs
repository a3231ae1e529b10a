//! New connections: accepted here, read up to their CONNECT, and given to the home of their
//! session. All of it goes through the ring that reads and writes the others.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmq_io::{Event, Key, PeerFacts, Sockets, peek};
use slab::Slab;
use socket2::SockRef;
use tracing::warn;

use crate::config::Limits;
use crate::mqtt;
use crate::session::Time;
use crate::shard::{self, Home, Shard};

use super::connection_log::Name;
use super::connections::{Arrival, Permit, Population};
use super::effects::Effects;
use super::handoff::Handoff;

/// How long accepting pauses after an error such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections of a listener that are accepted in a turn: a storm does not stop the others.
const ACCEPTS_PER_TURN: usize = 16;
/// CONNECT packets that are not whole of which more is read in a turn.
const READS_PER_TURN: usize = 8;
/// At most one line of log about each kind of trouble in this time.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// How long a CONNECT may still be read that lay in its socket when its time had passed.
const LAST_LOOK: Duration = Duration::from_millis(100);
/// What tells keys of arriving connections from those of connections that are at home.
const ARRIVING: u32 = 1 << 27;

/// Whether an event of this key is about a connection that is on its way, or about a listener.
pub(super) fn is_arriving(key: Key) -> bool {
    key.index & ARRIVING != 0
}

/// A connection whose CONNECT is not whole.
struct Arriving {
    socket: OwnedFd,
    generation: u32,
    name: Name,
    permit: Permit,
    /// What has come of its CONNECT.
    bytes: Vec<u8>,
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

/// What an arriving connection needs of its executor.
pub(super) struct Around<'a> {
    pub(super) sockets: &'a mut Sockets,
    pub(super) shard: &'a mut Shard,
    pub(super) effects: &'a mut Effects,
    pub(super) now: Time,
}

/// The listeners of one executor, and the connections on their way to their homes.
pub(super) struct Arrivals {
    limits: Limits,
    population: Arc<Population>,
    listeners: Vec<OwnedFd>,
    /// Listeners that may have connections.
    ready: Vec<usize>,
    /// Accepting pauses until then.
    paused_until: Option<Time>,
    arriving: Slab<Arriving>,
    next_generation: u32,
    /// Those that are to be read, the oldest first.
    readers: VecDeque<Key>,
    /// By when each CONNECT has to be whole, the earliest first.
    deadlines: VecDeque<(Time, Key)>,
    /// The same of those that had something unread when that time had come.
    last_looks: VecDeque<(Time, Key)>,
    /// Memory of what has come of all of them.
    held_bytes: usize,
    /// Those whose home is here, the oldest first.
    at_home: VecDeque<Handoff>,
    is_stopped: bool,
    last_error: Option<Instant>,
    last_refusal: Option<Instant>,
}

impl Arrivals {
    /// Accepts on these sockets from the first turn on.
    pub(super) fn new(
        listeners: Vec<OwnedFd>,
        limits: Limits,
        population: Arc<Population>,
    ) -> io::Result<Self> {
        for listener in &listeners {
            SockRef::from(listener).set_nonblocking(true)?;
        }
        Ok(Self {
            limits,
            population,
            ready: (0..listeners.len()).collect(),
            listeners,
            paused_until: None,
            arriving: Slab::new(),
            next_generation: 0,
            readers: VecDeque::new(),
            deadlines: VecDeque::new(),
            last_looks: VecDeque::new(),
            held_bytes: 0,
            at_home: VecDeque::new(),
            is_stopped: false,
            last_error: None,
            last_refusal: None,
        })
    }

    /// One turn: accepts, reads on, and ends those whose time has passed.
    pub(super) fn turn(&mut self, around: &mut Around<'_>) {
        if self.paused_until.is_none_or(|until| until <= around.now) {
            self.paused_until = None;
            self.accept(around);
        }
        self.read_on(around.sockets);
        self.end_late(around);
    }

    /// Handles what the ring says of a listener or of an arriving connection.
    pub(super) fn handle_event(&mut self, key: Key, event: Event, around: &mut Around<'_>) {
        match event {
            Event::Acceptable => self.ready.push((key.index & !ARRIVING) as usize),
            Event::Received(chunk) => {
                if let Some(arriving) = find(&mut self.arriving, key) {
                    let before = arriving.bytes.capacity();
                    arriving.bytes.extend_from_slice(around.sockets.bytes(&chunk));
                    self.held_bytes += arriving.bytes.capacity() - before;
                    self.judge(key, around);
                }
                around.sockets.give_back(chunk);
            }
            Event::Disarmed => self.readers.push_back(key),
            Event::Finished | Event::Broken(_) => self.end(key, Early::Closed, around),
            Event::Writable => {}
        }
    }

    /// Takes a connection over that belongs to this executor's shard.
    pub(super) fn adopt(&mut self, handoff: Handoff) {
        if !self.is_stopped {
            self.held_bytes += handoff.bytes.capacity();
            self.at_home.push_back(handoff);
        }
    }

    /// Returns the next connection that is to be opened.
    pub(super) fn next_at_home(&mut self) -> Option<Handoff> {
        let handoff = self.at_home.pop_front()?;
        self.held_bytes -= handoff.bytes.capacity();
        Some(handoff)
    }

    /// When there is something to do that no event tells of.
    pub(super) fn next_time(&self) -> Option<Time> {
        let deadlines = [self.deadlines.front(), self.last_looks.front()];
        let deadlines = deadlines.into_iter().flatten().map(|(time, _)| *time);
        deadlines.chain(self.paused_until).min()
    }

    /// Whether the next turn has something to do.
    pub(super) fn has_work(&self) -> bool {
        let may_accept = self.paused_until.is_none() && !self.ready.is_empty();
        may_accept || !self.readers.is_empty() || !self.at_home.is_empty()
    }

    /// Bytes of memory of connections that are not open yet.
    pub(super) fn memory_bytes(&self) -> usize {
        let deadline_count = self.deadlines.capacity() + self.last_looks.capacity();
        self.held_bytes
            + self.arriving.len() * size_of::<Arriving>()
            + deadline_count * size_of::<(Time, Key)>()
    }

    /// Ends all of it. The ring holds on to a listener until the kernel has taken the ring down,
    /// some time after the end of the process; its address must be free before that.
    pub(super) fn stop(&mut self) {
        for listener in self.listeners.drain(..) {
            // It fails only on a socket that does not listen.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
        self.is_stopped = true;
        self.ready.clear();
        self.readers.clear();
        self.deadlines.clear();
        self.last_looks.clear();
        self.arriving.clear();
        self.at_home.clear();
        self.held_bytes = 0;
    }

    fn accept(&mut self, around: &mut Around<'_>) {
        for number in std::mem::take(&mut self.ready) {
            if self.accept_from(number, around) {
                self.ready.push(number);
            }
        }
    }

    /// Accepts what a listener has, up to its share of a turn; returns whether there may be more.
    fn accept_from(&mut self, number: usize, around: &mut Around<'_>) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(number) else { return false };
            match ringmq_io::accept(listener.as_fd()) {
                Ok(Some((socket, peer))) => self.handle_accepted(socket, peer, around),
                Ok(None) => {
                    let key = Key { index: ARRIVING | number as u32, generation: 0 };
                    around.sockets.await_connection(key, listener.as_fd());
                    return false;
                }
                Err(error) => {
                    self.handle_error(&error, around.now);
                    return true;
                }
            }
        }
        true
    }

    fn handle_accepted(
        &mut self,
        socket: OwnedFd,
        peer: std::net::SocketAddr,
        around: &mut Around<'_>,
    ) {
        let limit = self.limits.connection_count_max;
        let Some(permit) = Permit::take(&self.population, limit) else {
            around.shard.counters_mut().connections_refused_limit += 1;
            if may_log(&mut self.last_refusal) {
                warn!(address = %peer, "connection refused: connection_count_max is {limit}");
            }
            return;
        };
        around.shard.counters_mut().connections_accepted += 1;
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let name = Name::new(self.population.next_number(), peer);
        let arriving = Arriving { socket, generation, name, permit, bytes: Vec::new() };
        let index = self.arriving.insert(arriving);
        let index = u32::try_from(index).expect("far fewer connections") | ARRIVING;
        let key = Key { index, generation };
        around.sockets.read_once(key, self.arriving[index_of(key)].socket.as_fd());
        let timeout = Duration::from_secs(self.limits.connect_timeout_s.into());
        self.deadlines.push_back((around.now + timeout, key));
    }

    /// Connections that are open stay open: what helps is to wait until one of them ends.
    fn handle_error(&mut self, error: &io::Error, now: Time) {
        if may_log(&mut self.last_error) {
            warn!("cannot accept connections: {error}; established ones go on");
        }
        self.paused_until = Some(now + PAUSE);
    }

    /// Reads more of those whose CONNECT is not whole.
    fn read_on(&mut self, sockets: &mut Sockets) {
        let mut left = READS_PER_TURN;
        while left > 0
            && let Some(key) = self.readers.pop_front()
        {
            if let Some(arriving) = find(&mut self.arriving, key) {
                sockets.read_once(key, arriving.socket.as_fd());
                left -= 1;
            }
        }
    }

    /// Sends a connection home once what has come says where that is. A packet that is not valid,
    /// or not a CONNECT, goes to a shard as soon as that is seen: it knows what to answer.
    fn judge(&mut self, key: Key, around: &mut Around<'_>) {
        let Some(arriving) = find(&mut self.arriving, key) else { return };
        let packet_bytes_max = self.limits.connect_bytes_max.min(self.limits.packet_bytes_max);
        let home = match shard::home(&arriving.bytes, packet_bytes_max, around.shard.partition()) {
            Home::Undecided => return self.make_room(key, around),
            Home::At(home) => home,
            Home::Anywhere => around.shard.id(),
        };
        let handoff = self.hand_off(key, around.now);
        if home == around.shard.id() {
            self.adopt(handoff);
        } else {
            around.effects.mesh.hand_off(home, handoff);
        }
    }

    /// Makes room for the rest of a CONNECT, but not for more than twice what has come.
    fn make_room(&mut self, key: Key, around: &mut Around<'_>) {
        let Some(arriving) = find(&mut self.arriving, key) else { return };
        let (length, before) = (arriving.bytes.len(), arriving.bytes.capacity());
        let wanted = mqtt::wanted(&arriving.bytes).unwrap_or(0).min(2 * length);
        arriving.bytes.reserve_exact(wanted.saturating_sub(length));
        let bytes = arriving.bytes.capacity();
        self.held_bytes += bytes - before;
        if !around.shard.may_hold(bytes) {
            around.shard.counters_mut().connections_refused_quota += 1;
            self.end(key, Early::OverShare, around);
        }
    }

    fn hand_off(&mut self, key: Key, now: Time) -> Handoff {
        let Arriving { socket, name, permit, bytes, .. } = self.remove(key);
        let came = now.before(PeerFacts::of(socket.as_fd()).silence);
        let arrival = Arrival { name, came, read: Instant::now() };
        Handoff { socket, bytes, arrival, permit }
    }

    /// Ends connections whose time for a CONNECT has passed. The ring may not have read yet what
    /// came while the process stood still: such a one has a little longer.
    fn end_late(&mut self, around: &mut Around<'_>) {
        while let Some(key) = pop_due(&mut self.deadlines, around.now) {
            match find(&mut self.arriving, key) {
                Some(arriving) if matches!(peek(arriving.socket.as_fd()), Ok(1..)) => {
                    self.last_looks.push_back((around.now + LAST_LOOK, key));
                }
                _ => self.end(key, Early::Late, around),
            }
        }
        while let Some(key) = pop_due(&mut self.last_looks, around.now) {
            self.end(key, Early::Late, around);
        }
    }

    fn end(&mut self, key: Key, early: Early, around: &mut Around<'_>) {
        if find(&mut self.arriving, key).is_some() {
            let arriving = self.remove(key);
            // The ring keeps the socket until its request has ended, which this makes it do.
            let _ = SockRef::from(&arriving.socket).shutdown(Shutdown::Both);
            let is_ordinary = early == Early::Closed;
            around.effects.log.closed_early(arriving.name, is_ordinary, early.text());
        }
    }

    fn remove(&mut self, key: Key) -> Arriving {
        let arriving = self.arriving.remove(index_of(key));
        self.held_bytes -= arriving.bytes.capacity();
        arriving
    }
}

fn index_of(key: Key) -> usize {
    (key.index & !ARRIVING) as usize
}

/// The connection of this key, if it has not ended or gone home.
fn find(arriving: &mut Slab<Arriving>, key: Key) -> Option<&mut Arriving> {
    arriving.get_mut(index_of(key)).filter(|one| one.generation == key.generation)
}

/// Takes the first of a queue if its time has come.
fn pop_due(queue: &mut VecDeque<(Time, Key)>, now: Time) -> Option<Key> {
    queue.front().filter(|(time, _)| *time <= now)?;
    queue.pop_front().map(|(_, key)| key)
}

fn may_log(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let may = last.is_none_or(|last| now.duration_since(last) >= LOG_EVERY);
    if may {
        *last = Some(now);
    }
    may
}
