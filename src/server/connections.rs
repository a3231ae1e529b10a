//! The connections of one executor: their sockets and what waits to be written to them.

use std::cmp;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;
use socket2::SockRef;

use crate::session::Time;
use crate::shard::{ConnectionId, Outbox, Spares, Standing};
use ringmq_io::{Key, PeerFacts, PeerState, Reading, peek};

use super::connection_log::{Name, Traffic};

/// How much of what a closed connection still sends is read, so that the system does not answer
/// it with a reset that overtakes our last packet.
const LAST_READS: usize = 16;
/// Memory of a connection for which nothing waits, in a table that doubles.
const IO_BYTES: usize = size_of::<Io>() * 4 / 3;
/// Bytes of each of these reads.
const LAST_READ_BYTES: usize = 16 * 1024;
/// What waits for a connection that is not behind others: a few packets.
const LITTLE_BYTES: usize = 64 * 1024;
/// Bytes of one write at most: the kernel copies a megabyte in about as many milliseconds.
const WRITE_BYTES_MAX: usize = 256 * 1024;

/// What is known of a connection when its first packet is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) name: Name,
    /// When the kernel got the last of the bytes.
    pub(super) came: Time,
    /// When the executor that accepted the connection had read them.
    pub(super) read: Instant,
}

impl Arrival {
    /// Compares by the kernel's time, which cannot tell what is within `grain`.
    fn order(self, other: Self, grain: Duration) -> cmp::Ordering {
        match self.came {
            came if came + grain < other.came => cmp::Ordering::Less,
            came if came > other.came + grain => cmp::Ordering::Greater,
            _ => cmp::Ordering::Equal,
        }
    }
}

/// Counts the connections of the whole process.
#[derive(Debug, Default)]
pub(super) struct Population {
    open: AtomicUsize,
    accepted: AtomicU64,
}

impl Population {
    /// Returns a number that no other connection of this process has.
    pub(super) fn next_number(&self) -> u64 {
        self.accepted.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Holds a place among the connections that the process may have open.
#[derive(Debug)]
pub(super) struct Permit {
    population: Arc<Population>,
}

impl Permit {
    /// None when `limit` connections are open.
    pub(super) fn take(population: &Arc<Population>, limit: usize) -> Option<Self> {
        let permit = Self { population: Arc::clone(population) };
        (population.open.fetch_add(1, Ordering::Relaxed) < limit).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.population.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection.
pub(super) struct Io {
    socket: OwnedFd,
    pub(super) outbox: Outbox,
    generation: u32,
    arrival: Arrival,
    /// Bytes that have come over it.
    pub(super) received_bytes: u64,
    /// How it broke, if it did.
    pub(super) broken: Option<io::ErrorKind>,
    /// In one of the lists of those to be written.
    dirty: bool,
    /// Much waited for it, and has not all been written since.
    heavy: bool,
    /// The peer takes nothing for now; we are told when it does.
    pub(super) blocked: bool,
    /// The shard has closed it; it goes when its outbox is empty.
    pub(super) closing: bool,
    pub(super) paused: bool,
    /// If it has ended, the shard does not know yet: it is told once it takes bytes.
    pub(super) reading: Reading,
    /// What came while it was paused.
    pub(super) held: Vec<u8>,
    /// Bytes of memory that are charged for what waits, to be written and to be handled.
    charged: usize,
    _permit: Permit,
}

impl Io {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn name(&self) -> Name {
        self.arrival.name
    }

    /// What went over it until now.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            lasted: self.arrival.read.elapsed(),
            received_bytes: self.received_bytes,
            sent_bytes: self.outbox.written(),
        }
    }

    /// The bytes that are written next.
    pub(super) fn next_write(&self) -> &[u8] {
        let front = self.outbox.front();
        &front[..front.len().min(WRITE_BYTES_MAX)]
    }

    /// Takes it out of the lists of those to be written.
    fn clean(&mut self, spares: &mut Spares) {
        self.dirty = false;
        self.outbox.give_back(spares);
    }

    /// Whether bytes may be given to the shard.
    pub(super) fn takes_bytes(&self) -> bool {
        !self.paused && !self.closing
    }

    /// Whether nothing has come that the ring has not received, not even an end.
    pub(super) fn has_nothing_unread(&self) -> bool {
        peek(self.socket()).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Tells the peer that nothing more comes, and lets go of the socket.
    fn finish(&self) {
        let socket = SockRef::from(&self.socket);
        // Each fails only if the peer is gone already.
        let _ = socket.shutdown(Shutdown::Write);
        let mut unread = [MaybeUninit::uninit(); LAST_READ_BYTES];
        for _ in 0..LAST_READS {
            let read = socket.recv_with_flags(&mut unread, libc::MSG_DONTWAIT);
            if !matches!(read, Ok(1..)) {
                break;
            }
        }
        // The ring keeps the socket until its requests have ended, which this makes them do.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// All connections of one executor.
#[derive(Default)]
pub(super) struct Connections {
    table: Slab<Io>,
    next_generation: u32,
    /// First touched, first written.
    dirty: VecDeque<ConnectionId>,
    /// Those of them for which much waits: they are written when the others are.
    heavy: VecDeque<ConnectionId>,
    /// Those that are to be read, or no more.
    turned: Vec<ConnectionId>,
    /// Those of them for which there was no time.
    late: Vec<ConnectionId>,
    /// Those of which the shard waits to hear that all that had come was given to it.
    settling: Vec<ConnectionId>,
    /// Memory of outboxes that were written out.
    spares: Spares,
    /// Bytes of memory that are charged for all connections.
    charged: usize,
}

impl Connections {
    /// Takes a socket in from which `first_bytes` were read; it is read on from the next turn on.
    pub(super) fn insert(
        &mut self,
        socket: OwnedFd,
        arrival: Arrival,
        first_bytes: usize,
        permit: Permit,
    ) -> ConnectionId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let index = self.table.insert(Io {
            socket,
            outbox: Outbox::default(),
            generation,
            arrival,
            received_bytes: first_bytes as u64,
            broken: None,
            dirty: false,
            heavy: false,
            blocked: false,
            closing: false,
            paused: false,
            reading: Reading::Off,
            held: Vec::new(),
            charged: 0,
            _permit: permit,
        });
        let index = u32::try_from(index).expect("below 2^32 connections");
        let id = ConnectionId { index, generation };
        self.turned.push(id);
        id
    }

    /// So many bytes of what waits for a connection that is there were written; whether that was
    /// all of it.
    pub(super) fn consume(&mut self, id: ConnectionId, count: usize) -> bool {
        let io = &mut self.table[id.index as usize];
        debug_assert_eq!(io.generation, id.generation, "it was there when it was written");
        io.outbox.consume_into(count, &mut self.spares);
        io.heavy &= !io.outbox.is_empty();
        io.outbox.is_empty()
    }

    /// Charges what waits for a connection, as it is now.
    pub(super) fn charge(&mut self, id: ConnectionId) {
        let Some(io) = self.table.get_mut(id.index as usize) else { return };
        let bytes = io.outbox.memory_bytes() + io.held.capacity();
        self.charged = self.charged + bytes - std::mem::replace(&mut io.charged, bytes);
    }

    /// Bytes of memory of connections and of all that waits for them.
    pub(super) fn memory_bytes(&self) -> usize {
        self.charged + self.spares.memory_bytes() + self.table.len() * IO_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Io> {
        self.table.get(id.index as usize).filter(|io| io.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Io> {
        find(&mut self.table, id)
    }

    /// The connection, which from now on is in the list of those to be written.
    pub(super) fn touch(&mut self, id: ConnectionId) -> &mut Io {
        let io = &mut self.table[id.index as usize];
        debug_assert_eq!(io.generation, id.generation, "the shard knows what is closed");
        if !io.dirty {
            io.dirty = true;
            let list = if io.heavy { &mut self.heavy } else { &mut self.dirty };
            list.push_back(id);
            io.outbox.lend(&mut self.spares);
        }
        io
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.heavy.is_empty()
    }

    /// The next one to be written for which little waits.
    pub(super) fn next_dirty(&mut self) -> Option<ConnectionId> {
        loop {
            let id = self.dirty.pop_front()?;
            let Some(io) = find(&mut self.table, id) else { continue };
            io.heavy = io.outbox.len() > LITTLE_BYTES;
            if io.heavy {
                self.heavy.push_back(id);
            } else {
                io.clean(&mut self.spares);
                return Some(id);
            }
        }
    }

    /// The next one of those that [`Self::next_dirty`] has passed over.
    pub(super) fn next_heavy(&mut self) -> Option<ConnectionId> {
        loop {
            let id = self.heavy.pop_front()?;
            if let Some(io) = find(&mut self.table, id) {
                io.clean(&mut self.spares);
                return Some(id);
            }
        }
    }

    /// From now on it is read, or is not.
    pub(super) fn pause(&mut self, id: ConnectionId, paused: bool) {
        if let Some(io) = self.get_mut(id) {
            io.paused = paused;
            self.turned.push(id);
        }
    }

    /// Looks at a connection again before the next sleep: whether it is to be read.
    pub(super) fn turn(&mut self, id: ConnectionId) {
        self.turned.push(id);
    }

    /// One that may have to be read, or no more.
    pub(super) fn next_turned(&mut self) -> Option<ConnectionId> {
        self.turned.pop()
    }

    /// It is turned when there is time for it again.
    pub(super) fn put_late(&mut self, id: ConnectionId) {
        self.late.push(id);
    }

    /// There is time for those again for which there was none.
    pub(super) fn turn_late(&mut self) {
        self.turned.append(&mut self.late);
    }

    pub(super) fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Has the next whole turn end with a word about this connection.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        self.settling.push(id);
    }

    pub(super) fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// Takes those that the turn that begins now will have looked at.
    pub(super) fn take_settling(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.settling)
    }

    /// Tells which of two connections of one client is the newer one. Their home learns of them in
    /// any order, so it is the arrival of their bytes that counts. Where that cannot tell, one
    /// whose peer has gone is older than one whose peer is there, and of equals the one read first.
    pub(super) fn standing(&self, claimant: ConnectionId, holder: ConnectionId) -> Standing {
        let (Some(new), Some(old)) = (self.get(claimant), self.get(holder)) else {
            return Standing::Newer;
        };
        let [new_state, old_state] = [new, old].map(|io| PeerFacts::of(io.socket()).state);
        if new_state == PeerState::Broken {
            return Standing::Broken;
        }
        let is_there = |state| u8::from(state == PeerState::Open);
        // Times are whole milliseconds besides.
        let grain = PeerFacts::tick() + Duration::from_millis(1);
        let order = new.arrival.order(old.arrival, grain);
        let order = order.then(is_there(new_state).cmp(&is_there(old_state)));
        match order.then(new.arrival.read.cmp(&old.arrival.read)) {
            cmp::Ordering::Less => Standing::Older,
            _ => Standing::Newer,
        }
    }

    /// Closes a socket in good order.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if self.get_mut(id).is_some() {
            let io = self.table.remove(id.index as usize);
            self.charged -= io.charged;
            io.finish();
        }
    }
}

/// The connection of this name, if it is still there.
fn find(table: &mut Slab<Io>, id: ConnectionId) -> Option<&mut Io> {
    table.get_mut(id.index as usize).filter(|io| io.generation == id.generation)
}

/// What the ring calls a connection.
pub(super) fn key(id: ConnectionId) -> Key {
    Key { index: id.index, generation: id.generation }
}

/// The connection that the ring calls so.
pub(super) fn id(key: Key) -> ConnectionId {
    ConnectionId { index: key.index, generation: key.generation }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &mut Connections) -> ConnectionId {
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let permit = Permit::take(&Arc::default(), 1).unwrap();
        let name = Name::new(1, "127.0.0.1:1".parse().unwrap());
        let arrival = Arrival { name, came: Time::START, read: Instant::now() };
        connections.insert(socket.into(), arrival, 0, permit)
    }

    #[test]
    fn one_for_which_much_waits_is_written_when_the_others_are() {
        let mut connections = Connections::default();
        let (much, little) = (open(&mut connections), open(&mut connections));
        connections.touch(much).outbox.push(&[0; LITTLE_BYTES + 1]);
        connections.touch(little).outbox.push(b"abc");
        assert_eq!(connections.next_dirty(), Some(little));
        assert_eq!(connections.next_dirty(), None);
        connections.touch(much).outbox.push(b"it is there once");
        assert!(connections.has_dirty());
        assert_eq!(connections.next_heavy(), Some(much));
        assert_eq!(connections.next_heavy(), None);
        assert!(!connections.has_dirty());
    }

    /// It is there for each connection beside what its shard knows, whatever it does.
    #[test]
    fn what_the_executor_keeps_for_an_idle_connection_is_little() {
        assert!(size_of::<Io>() <= 224, "{} bytes", size_of::<Io>());
    }

    #[test]
    fn one_write_is_never_long() {
        let mut connections = Connections::default();
        let one = open(&mut connections);
        let payload = vec![7; WRITE_BYTES_MAX + 1];
        connections.touch(one).outbox.push_shared(payload.into());
        assert_eq!(connections.get(one).unwrap().next_write().len(), WRITE_BYTES_MAX);
        assert!(!connections.consume(one, WRITE_BYTES_MAX));
        assert_eq!(connections.get(one).unwrap().next_write(), [7]);
    }

    /// Most of those that are touched are sent something, but the shard also touches one to see
    /// whether its client reads.
    #[test]
    fn one_that_is_touched_for_nothing_owns_no_memory() {
        let mut connections = Connections::default();
        let (one, other) = (open(&mut connections), open(&mut connections));
        connections.touch(one).outbox.push(b"abc");
        assert_eq!(connections.next_dirty(), Some(one));
        let memory = connections.get(one).unwrap().outbox.front().as_ptr();
        assert!(connections.consume(one, 3));
        connections.touch(other);
        assert_eq!(connections.next_dirty(), Some(other));
        let outbox = &mut connections.touch(one).outbox;
        outbox.push(b"de");
        assert_eq!(outbox.front().as_ptr(), memory, "nobody else has it");
    }
}
