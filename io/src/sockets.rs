//! Reads and writes of all sockets of one executor, through a ring of its own.
//!
//! glommio makes a system call for each read and each write, and one more to wait for each
//! socket. Here a socket is armed once and then delivers into a pool of buffers that all sockets
//! share (multishot receive), and the writes of a turn are handed to the kernel together: a turn
//! costs about one system call, however many sockets have something. An idle socket owns no
//! buffer and no task.
//!
//! The kernel works on this ring only while [`Sockets`] is in a call (`DEFER_TASKRUN`). Before the
//! executor sleeps it calls [`Sockets::sleep`] and waits for the event descriptor to become
//! readable.
#![allow(unsafe_code, reason = "the kernel reads and writes memory that is named by address")]

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};

use super::pool::{BUFFER_COUNT, Chunk, Pool};

/// Requests handed over in one system call at most.
const REQUEST_COUNT_MAX: u32 = 1024;
/// Completions that wait for us; more are kept by the kernel.
const COMPLETION_COUNT_MAX: u32 = 4096;
/// What a socket has received at most that has not sent much.
const LITTLE_BYTES: u64 = 1024;
/// The only pool.
const POOL: u16 = 0;

/// Names a socket. The caller chooses it; the generation distinguishes sockets that have the same
/// index one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Below 2^28.
    pub index: u32,
    /// Another one each time that the index is used again.
    pub generation: u32,
}

/// What happened to a socket.
#[derive(Debug)]
pub enum Event {
    /// Bytes came: [`Sockets::bytes`] shows them until [`Sockets::give_back`].
    Received(Chunk),
    /// The peer sends no more.
    Finished,
    /// The connection broke.
    Broken(io::Error),
    /// It is read no more, because that was asked for or for want of buffers: to read on,
    /// [`Sockets::steer`] is called again.
    Disarmed,
    /// There is room to write again.
    Writable,
    /// A listening socket has connections.
    Acceptable,
}

/// What the ring does with a socket. The owner of the socket keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Nothing.
    Off,
    /// It reads.
    On,
    /// It was told to stop and has not said yet that it has.
    Stopping,
    /// The peer sends no more.
    Ended,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Bytes that the socket took.
    pub count: usize,
    /// It takes no more for now.
    pub is_full: bool,
}

/// Requests, by what they ask for.
#[derive(Clone, Copy)]
enum Kind {
    Read = 0,
    Stop = 1,
    Write = 2,
    AwaitRoom = 3,
    AwaitConnection = 4,
}

/// The sockets of one executor; may be used by the thread that made it alone.
pub struct Sockets {
    /// Before the pool: the kernel lets go of the buffers when the ring is closed.
    ring: IoUring,
    pool: Pool,
    wakeup: OwnedFd,
    /// Completions that have been seen, oldest first, writes left out.
    seen: VecDeque<Seen>,
    /// Results of the writes that are under way, and how many bytes each had.
    written: Vec<(i32, u32)>,
    open_write_count: usize,
}

/// A completion: what was asked for, what came of it, and the kernel's flags.
struct Seen {
    name: u64,
    result: i32,
    flags: u32,
}

impl Sockets {
    /// Makes a ring on the thread that will use it.
    ///
    /// # Errors
    /// What the system says, such as that io_uring is not allowed, or not known before Linux 6.1;
    /// `probe` explains it.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETION_COUNT_MAX)
            .build(REQUEST_COUNT_MAX)?;
        let mut pool = Pool::new();
        // SAFETY: the pool is page-aligned, has that many entries, and outlives the ring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                pool.entries.as_ptr() as u64,
                BUFFER_COUNT,
                POOL,
                0,
            )
        }?;
        (0..BUFFER_COUNT).for_each(|buffer| pool.give(buffer));
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(wakeup.as_raw_fd())?;
        let sockets = Self {
            ring,
            pool,
            wakeup,
            seen: VecDeque::new(),
            written: Vec::new(),
            open_write_count: 0,
        };
        Ok(sockets)
    }

    /// A descriptor that becomes readable when something happens after [`Sockets::sleep`].
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn wakeup(&self) -> io::Result<OwnedFd> {
        self.wakeup.try_clone()
    }

    /// Has `socket` read from now on, or no more, and says what the ring does with it then. Bytes
    /// may still come until [`Event::Disarmed`].
    #[must_use]
    pub fn steer(
        &mut self,
        reading: Reading,
        is_wanted: bool,
        key: Key,
        socket: BorrowedFd<'_>,
    ) -> Reading {
        match (reading, is_wanted) {
            (Reading::Off, true) => {
                self.read(key, socket);
                Reading::On
            }
            (Reading::On, false) => {
                self.stop(key);
                Reading::Stopping
            }
            _ => reading,
        }
    }

    /// Reads `socket` from now on, until it ends or is disarmed.
    fn read(&mut self, key: Key, socket: BorrowedFd<'_>) {
        let request = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), POOL).build();
        // SAFETY: the request names no memory but the pool's. The kernel keeps the socket.
        unsafe { self.ask(key, Kind::Read, &request) }
    }

    /// Reads `socket` once: [`Event::Received`] and [`Event::Disarmed`] follow, or its end.
    pub fn read_once(&mut self, key: Key, socket: BorrowedFd<'_>) {
        let request = opcode::Recv::new(Fd(socket.as_raw_fd()), std::ptr::null_mut(), 0)
            .buf_group(POOL)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        // SAFETY: the request names no memory but the pool's. The kernel keeps the socket.
        unsafe { self.ask(key, Kind::Read, &request) }
    }

    /// Tells, once, when a listening socket has connections.
    pub fn await_connection(&mut self, key: Key, listener: BorrowedFd<'_>) {
        self.poll(key, Kind::AwaitConnection, listener, libc::POLLIN);
    }

    /// Reads a socket no more; bytes may still come until [`Event::Disarmed`].
    fn stop(&mut self, key: Key) {
        let request = opcode::AsyncCancel::new(name(key, Kind::Read)).build();
        // SAFETY: the request names no memory.
        unsafe { self.ask(key, Kind::Stop, &request) }
    }

    /// Tells, once, when `socket` takes more.
    pub fn await_room(&mut self, key: Key, socket: BorrowedFd<'_>) {
        self.poll(key, Kind::AwaitRoom, socket, libc::POLLOUT);
    }

    /// Waits once until one of `events` is there.
    fn poll(&mut self, key: Key, kind: Kind, socket: BorrowedFd<'_>, events: libc::c_short) {
        let request = opcode::PollAdd::new(Fd(socket.as_raw_fd()), events as u32).build();
        // SAFETY: the request names no memory. The kernel keeps the socket.
        unsafe { self.ask(key, kind, &request) }
    }

    /// Writes to many sockets at once, as much as each takes without waiting. `results` gets what
    /// became of each, in order; an error means that the connection is gone.
    pub fn write<'a>(
        &mut self,
        writes: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        results: &mut Vec<io::Result<Written>>,
    ) {
        debug_assert_eq!(self.open_write_count, 0, "one call at a time");
        self.written.clear();
        for (number, (socket, bytes)) in writes.enumerate() {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let request = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(number as u64 | (Kind::Write as u64) << KIND_SHIFT);
            self.written.push((0, length)); // Its result comes with its completion.
            self.open_write_count += 1;
            // SAFETY: the bytes are borrowed until this returns, which is not before the kernel
            // has said what became of every write.
            unsafe { self.push(&request) }
        }
        while self.open_write_count > 0 {
            self.enter();
        }
        results.clear();
        results.extend(self.written.iter().map(|&(result, length)| outcome(result, length)));
    }

    /// Hands over what was asked for and has the kernel work on what has come, some twenty sockets
    /// in each of `call_count_max` system calls; true if there is something for
    /// [`Sockets::next_event`].
    pub fn look(&mut self, call_count_max: usize) -> bool {
        for _ in 0..call_count_max {
            let waiting = {
                let requests = self.ring.submission();
                requests.taskrun() || requests.cq_overflow() || !requests.is_empty()
            };
            if !waiting {
                break;
            }
            self.enter();
        }
        self.take_completions();
        !self.seen.is_empty()
    }

    /// Has what was seen told in another order: sockets that have sent much come last. What
    /// happened to one socket keeps its order.
    pub fn put_much_last(&mut self) {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for seen in &self.seen {
            *counts.entry(seen.name).or_default() += u64::try_from(seen.result).unwrap_or(0);
        }
        let has_much = |seen: &Seen| counts[&seen.name] > LITTLE_BYTES;
        let (much, little) = self.seen.drain(..).partition::<Vec<_>, _>(has_much);
        self.seen.extend(little.into_iter().chain(much));
    }

    /// Returns the next event, and the socket that it is about.
    pub fn next_event(&mut self) -> Option<(Key, Event)> {
        while let Some(seen) = self.seen.pop_front() {
            let event = match seen.name >> KIND_SHIFT {
                kind if kind == Kind::Read as u64 => self.read_event(&seen),
                kind if kind == Kind::AwaitRoom as u64 => Some(Event::Writable),
                kind if kind == Kind::AwaitConnection as u64 => Some(Event::Acceptable),
                _ => None,
            };
            if let Some(event) = event {
                return Some((key(seen.name), event));
            }
        }
        None
    }

    /// Whether something has happened to a socket that [`Sockets::next_event`] has not told yet.
    #[must_use]
    pub fn has_event(&self, key: Key) -> bool {
        self.seen.iter().any(|seen| self::key(seen.name) == key)
    }

    /// What was received.
    #[must_use]
    pub fn bytes(&self, chunk: &Chunk) -> &[u8] {
        self.pool.bytes(chunk)
    }

    /// Lets other sockets receive into the buffer.
    pub fn give_back(&mut self, chunk: Chunk) {
        self.pool.give(chunk.buffer);
    }

    /// From now on, until [`Sockets::wake`], the event descriptor tells when something happens.
    /// False if something has happened already: then there is nothing to wait for.
    pub fn sleep(&mut self) -> bool {
        self.ring.completion().enable_eventfd();
        // What happens after this makes the descriptor readable; what has happened before is seen.
        fence(Ordering::SeqCst);
        let requests = self.ring.submission();
        let quiet = requests.is_empty() && !requests.taskrun();
        drop(requests);
        let quiet = quiet && self.ring.completion().is_empty() && self.seen.is_empty();
        if !quiet {
            self.wake();
        }
        quiet
    }

    /// Notes that the executor is awake: the event descriptor is no longer needed.
    pub fn wake(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// # Safety
    /// What the request names must stay valid until the kernel has done with it.
    unsafe fn ask(&mut self, key: Key, kind: Kind, request: &squeue::Entry) {
        let request = request.clone().user_data(name(key, kind));
        // SAFETY: as promised by the caller.
        unsafe { self.push(&request) }
    }

    /// # Safety
    /// What the request names must stay valid until the kernel has done with it.
    unsafe fn push(&mut self, request: &squeue::Entry) {
        // SAFETY: as promised by the caller.
        while unsafe { self.ring.submission().push(request) }.is_err() {
            self.enter();
        }
    }

    /// One system call.
    fn enter(&mut self) {
        let (submitter, requests, _) = self.ring.split();
        let count = requests.len();
        drop(requests);
        // SAFETY: no argument is passed.
        let entered = unsafe {
            submitter.enter::<libc::sigset_t>(
                u32::try_from(count).expect("below REQUEST_COUNT_MAX"),
                0,
                GETEVENTS,
                None,
            )
        };
        if let Err(error) = entered {
            let again = [libc::EINTR, libc::EAGAIN, libc::EBUSY];
            let known = error.raw_os_error().is_some_and(|code| again.contains(&code));
            assert!(known, "the kernel takes what it took before: {error}");
        }
        self.take_completions();
    }

    fn take_completions(&mut self) {
        for completion in self.ring.completion() {
            let (name, result) = (completion.user_data(), completion.result());
            if name >> KIND_SHIFT == Kind::Write as u64 {
                self.written[(name & u64::from(u32::MAX)) as usize].0 = result;
                self.open_write_count -= 1;
            } else {
                self.seen.push_back(Seen { name, result, flags: completion.flags() });
            }
        }
    }

    /// A completion of a read may be two events: bytes, and that no more come until it is armed
    /// again.
    fn read_event(&mut self, seen: &Seen) -> Option<Event> {
        let more = cqueue::more(seen.flags);
        if seen.result <= 0 {
            // With an end of the stream, a buffer may come that nothing is in.
            cqueue::buffer_select(seen.flags).into_iter().for_each(|id| self.pool.give(id));
        }
        match seen.result {
            len @ 1.. => {
                let buffer = cqueue::buffer_select(seen.flags).expect("reads have buffers");
                if !more {
                    let disarmed = Seen { name: seen.name, result: -libc::ECANCELED, flags: 0 };
                    self.seen.push_front(disarmed);
                }
                Some(Event::Received(Chunk { buffer, len: len.unsigned_abs() }))
            }
            0 => Some(Event::Finished),
            _ if more => None,
            result if disarms(-result) => Some(Event::Disarmed),
            result => Some(Event::Broken(io::Error::from_raw_os_error(-result))),
        }
    }
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Sockets").field("seen", &self.seen.len()).finish_non_exhaustive()
    }
}

/// `IORING_ENTER_GETEVENTS`: work on what has come.
const GETEVENTS: u32 = 1;
/// Above the index and the generation.
const KIND_SHIFT: u32 = 60;

fn name(key: Key, kind: Kind) -> u64 {
    debug_assert!(key.index < 1 << 28, "an index has 28 bits");
    u64::from(key.generation) | u64::from(key.index) << 32 | (kind as u64) << KIND_SHIFT
}

fn key(name: u64) -> Key {
    let index = (name >> 32) as u32 & ((1 << 28) - 1);
    Key { index, generation: name as u32 }
}

fn disarms(code: i32) -> bool {
    [libc::ECANCELED, libc::ENOBUFS, libc::EINTR, libc::EAGAIN].contains(&code)
}

fn outcome(result: i32, length: u32) -> io::Result<Written> {
    let no_room = [libc::EAGAIN, libc::EINTR, libc::ENOBUFS, libc::ENOMEM];
    match result {
        0.. => Ok(result.unsigned_abs()),
        _ if no_room.contains(&-result) => Ok(0),
        _ => Err(io::Error::from_raw_os_error(-result)),
    }
    .map(|count| Written { count: count as usize, is_full: count < length })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    const KEY: Key = Key { index: 7, generation: 9 };

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let ours = TcpStream::connect(address).expect("it listens");
        (ours, listener.accept().expect("it has come").0)
    }

    /// Waits for what happens next.
    fn event(sockets: &mut Sockets) -> (Key, Event) {
        loop {
            sockets.look(1);
            if let Some(event) = sockets.next_event() {
                return event;
            }
            std::thread::yield_now();
        }
    }

    fn received(sockets: &mut Sockets, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match event(sockets) {
                (KEY, Event::Received(chunk)) => {
                    bytes.extend_from_slice(sockets.bytes(&chunk));
                    sockets.give_back(chunk);
                }
                other => panic!("{other:?}"),
            }
        }
        bytes
    }

    #[test]
    fn reads_more_than_the_pool_holds_and_the_end() {
        let mut sockets = Sockets::new().expect("the kernel can");
        let (ours, mut peer) = pair();
        let bytes: Vec<u8> = (0..4_000_000_u32).map(|number| number as u8).collect();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || {
            peer.write_all(&sent).expect("it is read");
        });
        sockets.read(KEY, ours.as_fd());
        let mut got = Vec::new();
        loop {
            match event(&mut sockets) {
                (KEY, Event::Received(chunk)) => {
                    got.extend_from_slice(sockets.bytes(&chunk));
                    sockets.give_back(chunk);
                }
                (KEY, Event::Disarmed) => sockets.read(KEY, ours.as_fd()),
                (KEY, Event::Finished) => break,
                other => panic!("{other:?}"),
            }
        }
        writer.join().expect("it does not fail");
        assert!(got == bytes, "all bytes in order");
    }

    #[test]
    fn one_read_brings_what_has_come_and_no_more() {
        let mut sockets = Sockets::new().expect("the kernel can");
        let (ours, mut peer) = pair();
        peer.write_all(b"first").expect("it fits");
        sockets.read_once(KEY, ours.as_fd());
        assert_eq!(received(&mut sockets, 5), b"first");
        assert!(matches!(event(&mut sockets), (KEY, Event::Disarmed)));
        peer.write_all(b"second").expect("it fits");
        sockets.look(1);
        assert!(sockets.next_event().is_none(), "nothing reads it");
        sockets.read_once(KEY, ours.as_fd());
        assert_eq!(received(&mut sockets, 6), b"second");
        assert!(matches!(event(&mut sockets), (KEY, Event::Disarmed)));
        drop(peer);
        sockets.read_once(KEY, ours.as_fd());
        assert!(matches!(event(&mut sockets), (KEY, Event::Finished)));
    }

    #[test]
    fn a_listener_tells_of_connections() {
        let mut sockets = Sockets::new().expect("the kernel can");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        sockets.await_connection(KEY, listener.as_fd());
        sockets.look(1);
        assert!(sockets.next_event().is_none(), "none has come");
        let _client = TcpStream::connect(listener.local_addr().expect("it is bound"));
        assert!(matches!(event(&mut sockets), (KEY, Event::Acceptable)));
    }

    #[test]
    fn who_has_sent_much_is_told_of_last_and_each_in_its_order() {
        const MUCH: Key = Key { index: 3, generation: 1 };
        let mut sockets = Sockets::new().expect("the kernel can");
        let ((much, mut flood), (little, mut ping)) = (pair(), pair());
        let bytes: Vec<u8> = (0..20_000_u32).map(|number| number as u8).collect();
        flood.write_all(&bytes).expect("it fits");
        ping.write_all(b"ping").expect("it fits");
        sockets.read(MUCH, much.as_fd());
        sockets.read(KEY, little.as_fd());
        while sockets.seen.len() < 10 || !sockets.has_event(KEY) {
            sockets.look(1);
        }
        assert!(sockets.seen.front().is_some_and(|seen| key(seen.name) == MUCH));
        sockets.put_much_last();
        let mut got = Vec::new();
        while let Some((key, event)) = sockets.next_event() {
            let Event::Received(chunk) = event else { continue };
            assert_eq!(key == KEY, got.is_empty());
            got.extend_from_slice(sockets.bytes(&chunk));
            sockets.give_back(chunk);
        }
        assert!(got.starts_with(b"ping") && bytes.starts_with(&got[4..]));
    }

    #[test]
    fn a_socket_that_is_stopped_says_so_and_can_be_read_again() {
        let mut sockets = Sockets::new().expect("the kernel can");
        let (ours, mut peer) = pair();
        sockets.read(KEY, ours.as_fd());
        peer.write_all(b"one").expect("it is open");
        assert_eq!(received(&mut sockets, 3), b"one");
        sockets.stop(KEY);
        assert!(matches!(event(&mut sockets), (KEY, Event::Disarmed)));
        peer.write_all(b"two").expect("it is open");
        assert!(!sockets.look(1));
        sockets.read(KEY, ours.as_fd());
        assert_eq!(received(&mut sockets, 3), b"two");
    }

    #[test]
    fn writes_what_fits_and_tells_when_there_is_room() {
        let mut sockets = Sockets::new().expect("the kernel can");
        let (ours, mut peer) = pair();
        let (gone, _) = pair();
        gone.shutdown(std::net::Shutdown::Write).expect("it is open");
        let much = vec![7; 64 << 20];
        let mut results = Vec::new();
        let writes = [(ours.as_fd(), &much[..]), (gone.as_fd(), b"x"), (ours.as_fd(), b"y")];
        sockets.write(writes.into_iter(), &mut results);
        let Written { count, is_full } = *results[0].as_ref().expect("some fit");
        assert!(is_full && count > 0 && count < much.len());
        assert!(results[1].is_err());
        assert_eq!(results[2].as_ref().ok(), Some(&Written { count: 0, is_full: true }));
        sockets.await_room(KEY, ours.as_fd());
        assert!(!sockets.look(1));
        let reader = std::thread::spawn(move || peer.read_exact(&mut vec![0; count]));
        assert!(matches!(event(&mut sockets), (KEY, Event::Writable)));
        reader.join().expect("no panic").expect("all bytes come");
    }

    #[test]
    fn a_sleeper_is_told_and_nothing_is_missed() {
        let mut sockets = Sockets::new().expect("the kernel can");
        let (ours, mut peer) = pair();
        sockets.read(KEY, ours.as_fd());
        sockets.look(1);
        assert!(sockets.sleep());
        let mut wakeup = std::fs::File::from(sockets.wakeup().expect("a descriptor is free"));
        peer.write_all(b"x").expect("it is open");
        let mut count = [0; 8];
        wakeup.read_exact(&mut count).expect("the event descriptor tells");
        sockets.wake();
        assert_eq!(received(&mut sockets, 1), b"x");
        peer.write_all(b"y").expect("it is open");
        while sockets.sleep() {
            sockets.wake();
        }
        assert_eq!(received(&mut sockets, 1), b"y");
    }

    #[test]
    fn more_writes_than_requests_fit_into_the_ring() {
        let mut sockets = Sockets::new().expect("the kernel can");
        let (ours, mut peer) = pair();
        let count = 3 * REQUEST_COUNT_MAX as usize;
        let mut results = Vec::new();
        sockets.write((0..count).map(|_| (ours.as_fd(), &b"ab"[..])), &mut results);
        let all = Written { count: 2, is_full: false };
        assert!(results.iter().all(|result| result.as_ref().is_ok_and(|one| *one == all)));
        let mut bytes = vec![0; 2 * count];
        peer.read_exact(&mut bytes).expect("all bytes come");
        assert!(bytes.chunks(2).all(|pair| pair == b"ab"));
    }
}
