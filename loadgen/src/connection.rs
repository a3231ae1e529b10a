//! One connection on its executor: the only code that touches sockets.
//!
//! An idle connection holds no buffer. Reads land in one scratch buffer per executor and are
//! handled at once; only half a packet at the end of a read is kept. What is to be written
//! collects in the executor's other scratch buffer and leaves with one send per turn; only what
//! the socket does not take is kept.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use glommio::net::TcpStream;
use glommio::timer::Timer;
use ringmq::mqtt::{Disconnect, Packet, ReasonCode, Version, split};

use crate::actor::Actor;
use crate::bench::Bench;
use crate::client::Violation;
use crate::control::Clock;
use crate::handshake::Handshake;
use crate::machine;
use crate::mailbox::Mailbox;
use crate::plan::{Client, Greeting, Plan};
use crate::socket;

/// Turns a connection may take before others get theirs.
const TURN_COUNT_MAX: usize = 8;
/// A connection whose peer does not read is itself not read any more.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// The smallest read buffer of an executor.
const INPUT_BYTES_MIN: usize = 256 * 1024;
/// Topic and headers around a payload of ours take far less.
const PACKET_OVERHEAD_BYTES: usize = 64 * 1024;
/// Deliveries that may come before SUBACK.
const EARLY_BYTES_MAX: usize = 16 << 20;
/// How long a broker may take to close a connection after DISCONNECT.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// What all connections of one executor use.
pub(crate) struct Stage {
    pub(crate) clock: Clock,
    pub(crate) bench: RefCell<Bench>,
    /// The handles of the publishers, by place.
    pub(crate) publishers: RefCell<Vec<Rc<Handle>>>,
    /// Of all executors.
    mailboxes: Arc<[Mailbox]>,
    scratch: RefCell<Scratch>,
    version: Version,
    packet_bytes_max: usize,
}

struct Scratch {
    input: Box<[u8]>,
    out: Vec<u8>,
}

impl Stage {
    pub(crate) fn new(clock: Clock, bench: Bench, mailboxes: Arc<[Mailbox]>) -> Self {
        let packet_bytes_max = packet_bytes_max(&bench.plan);
        // Room for a read behind any half packet.
        let input_bytes = INPUT_BYTES_MIN.max(2 * packet_bytes_max);
        Self {
            clock,
            version: bench.plan.version,
            bench: RefCell::new(bench),
            publishers: RefCell::default(),
            mailboxes,
            scratch: RefCell::new(Scratch {
                input: vec![0; input_bytes].into_boxed_slice(),
                out: Vec::new(),
            }),
            packet_bytes_max,
        }
    }

    /// Wakes the publisher at `place`.
    pub(crate) fn wake_publisher(&self, place: usize) {
        self.publishers.borrow()[place].wake();
    }

    /// Passes on what the closed loop has released and completed.
    pub(crate) fn pass_on(&self) {
        let mut bench = self.bench.borrow_mut();
        let Some(closed) = bench.closed_loop() else {
            return;
        };
        while let Some(place) = closed.pop_released() {
            self.wake_publisher(place);
        }
        while let Some((executor, completion)) = closed.pop_outgoing() {
            self.mailboxes[executor as usize].post(completion);
        }
    }
}

/// How others reach a connection that its own task owns.
#[derive(Default)]
pub(crate) struct Handle {
    waker: RefCell<Option<Waker>>,
    written_ns: Cell<i64>,
    /// When the broker was last heard of.
    read_ns: Cell<i64>,
    ping: Cell<Ping>,
    closing: Cell<bool>,
    /// Closing without a word.
    cut: Cell<bool>,
    paused: Cell<bool>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ping {
    #[default]
    None,
    Wanted,
    Outstanding,
    /// The broker has not answered in time.
    Missed,
}

impl Handle {
    pub(crate) fn new(now_ns: i64) -> Self {
        Self { written_ns: Cell::new(now_ns), read_ns: Cell::new(now_ns), ..Self::default() }
    }

    /// When the broker was last heard of.
    pub(crate) fn read_ns(&self) -> i64 {
        self.read_ns.get()
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The connection says DISCONNECT and ends.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    /// When anything was last read or written.
    pub(crate) fn active_ns(&self) -> i64 {
        self.read_ns.get().max(self.written_ns.get())
    }

    /// The connection ends without a word, as when the network fails.
    pub(crate) fn cut(&self) {
        self.cut.set(true);
        self.close();
    }

    /// From now on the connection is not read, or is read again.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.wake();
    }

    /// Called now and then: pings when nothing was written for `idle_ns`, and gives up when that
    /// long after a ping no answer has come.
    pub(crate) fn keep_alive(&self, now_ns: i64, idle_ns: i64) {
        if now_ns - self.written_ns.get() < idle_ns {
            return;
        }
        self.ping.set(match self.ping.get() {
            Ping::None | Ping::Wanted => Ping::Wanted,
            // Whoever does not read cannot see the answer.
            Ping::Outstanding if self.paused.get() => Ping::Outstanding,
            Ping::Outstanding | Ping::Missed => Ping::Missed,
        });
        self.wake();
    }

    fn register(&self, waker: &Waker) {
        let mut registered = self.waker.borrow_mut();
        if registered.as_ref().is_none_or(|registered| !registered.will_wake(waker)) {
            *registered = Some(waker.clone());
        }
    }
}

/// A connection that has finished its handshake.
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    /// What came behind the last packet of the handshake, and what came too early.
    rest: Vec<u8>,
    /// How many messages of QoS 1 and 2 the broker takes at a time.
    receive_count_max: u16,
    /// When CONNACK came.
    pub(crate) connected_ns: i64,
    /// When the last SUBACK came.
    pub(crate) ready_ns: i64,
}

/// A limit of this system was hit: no other client will fare better.
#[derive(Debug)]
pub(crate) struct LimitHit(String);

impl std::error::Error for LimitHit {}

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The way to the broker.
pub(crate) struct Door {
    pub(crate) plan: Arc<Plan>,
    pub(crate) address: SocketAddr,
    pub(crate) clock: Clock,
    /// Connections that were begun here.
    begun_count: Cell<usize>,
}

impl Door {
    /// `first` tells the doors of all executors apart.
    pub(crate) fn new(plan: Arc<Plan>, address: SocketAddr, clock: Clock, first: u32) -> Self {
        Self { plan, address, clock, begun_count: Cell::new(first as usize) }
    }

    /// The address to connect from: the doors together go through all of them in turn.
    fn next_source(&self) -> Option<IpAddr> {
        let number = self.begun_count.get();
        self.begun_count.set(number + self.plan.executor_count as usize);
        let sources = &self.plan.source_ips;
        sources.get(number % sources.len().max(1)).copied()
    }

    /// Connects, says CONNECT and SUBSCRIBE and waits for the answers.
    ///
    /// # Errors
    /// Anything that goes wrong or takes longer than the plan allows, with the client's name.
    pub(crate) async fn open(&self, greeting: Greeting) -> Result<Opened> {
        let timeout = async {
            Timer::new(self.plan.connect_timeout).await;
            bail!("no answer from the broker within {:?}", self.plan.connect_timeout)
        };
        let opened = self.shake_hands(greeting).or(timeout).await;
        let name = || self.plan.name_of(greeting.client);
        opened.with_context(|| format!("cannot connect {} to {}", name(), self.address))
    }

    async fn shake_hands(&self, greeting: Greeting) -> Result<Opened> {
        let mut stream = self.connect(greeting)?;
        let mut out = Vec::new();
        let mut handshake = Handshake::start(&self.plan, greeting, &mut out);
        let mut input = Input { bytes: Vec::new(), early: Vec::new() };
        let mut connected_ns = None;
        loop {
            stream.write_all(&out).await?;
            out.clear();
            input.handle(&mut handshake, &self.plan, &mut out)?;
            if handshake.is_connected() {
                connected_ns.get_or_insert_with(|| self.clock.now_ns());
            }
            if handshake.is_ready() {
                let ready_ns = self.clock.now_ns();
                return Ok(Opened {
                    stream,
                    rest: input.rest(),
                    receive_count_max: handshake.receive_count_max(),
                    connected_ns: connected_ns.unwrap_or(ready_ns),
                    ready_ns,
                });
            }
            if out.is_empty() {
                read_more(&mut stream, &mut input.bytes).await?;
            }
        }
    }

    fn connect(&self, greeting: Greeting) -> Result<TcpStream> {
        let buffer = match greeting.client {
            Client::Member(_) => self.plan.crew.and_then(|crew| crew.receive_buffer_bytes),
            _ => None,
        };
        socket::connect(self.address, self.next_source(), buffer).map_err(|error| {
            match machine::explain_limit(&error, self.plan.connection_count()) {
                Some(advice) => LimitHit(advice).into(),
                None => error.into(),
            }
        })
    }
}

/// Says DISCONNECT and waits until the broker closes the connection: whoever closes first keeps
/// the port for a minute, and that had better be the broker.
pub(crate) async fn leave(mut stream: TcpStream, version: Version) {
    let mut bytes = Vec::new();
    Disconnect::because(ReasonCode::NORMAL_DISCONNECTION).encode(version, &mut bytes);
    if stream.write_all(&bytes).await.is_ok() {
        wait_for_end(stream).await;
    }
}

/// Waits until the broker closes the connection, but not for ever.
pub(crate) async fn wait_for_end(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    let end = async { while matches!(stream.read(&mut buffer).await, Ok(1..)) {} };
    let timeout = async {
        Timer::new(END_TIME_MAX).await;
    };
    end.or(timeout).await;
}

async fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 1024];
    match stream.read(&mut buffer).await? {
        0 => bail!("the broker closed the connection"),
        count => input.extend_from_slice(&buffer[..count]),
    }
    Ok(())
}

/// What has been read during a handshake.
struct Input {
    bytes: Vec<u8>,
    /// Deliveries that came before SUBACK.
    early: Vec<u8>,
}

impl Input {
    /// Handles whole packets up to the end of the handshake.
    fn handle(&mut self, handshake: &mut Handshake, plan: &Plan, out: &mut Vec<u8>) -> Result<()> {
        let mut at = 0;
        while !handshake.is_ready() {
            let Some((frame, used)) = split(&self.bytes[at..], packet_bytes_max(plan))? else {
                break;
            };
            let packet = Packet::decode(frame, plan.version)?;
            if handshake.is_early(&packet) {
                self.early.extend_from_slice(&self.bytes[at..at + used]);
            } else {
                handshake.handle(&packet, out)?;
            }
            at += used;
        }
        if self.early.len() > EARLY_BYTES_MAX {
            bail!("the broker sent more than {EARLY_BYTES_MAX} bytes before SUBACK");
        }
        self.bytes.drain(..at);
        Ok(())
    }

    fn rest(self) -> Vec<u8> {
        let mut rest = self.early;
        rest.extend_from_slice(&self.bytes);
        rest
    }
}

fn packet_bytes_max(plan: &Plan) -> usize {
    plan.payload_bytes + PACKET_OVERHEAD_BYTES
}

/// A connection at work.
pub(crate) struct Connection<A> {
    stream: TcpStream,
    actor: A,
    handle: Rc<Handle>,
    /// The beginning of a packet.
    half: Vec<u8>,
    /// There may be whole packets in `half`: they came with the handshake.
    has_rest: bool,
    unsent: Vec<u8>,
    /// DISCONNECT has been said.
    left: bool,
}

/// What one turn came to.
#[derive(PartialEq, Eq)]
enum Turn {
    Busy,
    Idle,
    Closed,
}

impl<A: Actor> Connection<A> {
    pub(crate) fn new(opened: Opened, mut actor: A, handle: Rc<Handle>) -> Self {
        let Opened { stream, rest, receive_count_max, .. } = opened;
        actor.handle_opened(receive_count_max);
        let has_rest = !rest.is_empty();
        Self { stream, actor, handle, half: rest, has_rest, unsent: Vec::new(), left: false }
    }

    /// Works until the handle closes it, or until the actor is done. DISCONNECT has been said
    /// then, unless it was cut.
    ///
    /// # Errors
    /// The broker closes the connection or does what it must not.
    pub(crate) async fn run(mut self, stage: Rc<Stage>) -> Result<TcpStream> {
        std::future::poll_fn(|cx| self.poll(cx, &stage)).await?;
        Ok(self.stream)
    }

    fn poll(&mut self, cx: &mut Context<'_>, stage: &Stage) -> Poll<Result<()>> {
        self.handle.register(cx.waker());
        for _ in 0..TURN_COUNT_MAX {
            let turn = self.turn(cx, stage);
            stage.pass_on();
            match turn? {
                Turn::Busy => (),
                Turn::Idle => return Poll::Pending,
                Turn::Closed => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>, stage: &Stage) -> Result<Turn> {
        let Scratch { input, out } = &mut *stage.scratch.borrow_mut();
        let mut bench = stage.bench.borrow_mut();
        out.clear();
        if self.handle.cut.get() {
            return Ok(Turn::Closed);
        }
        let read = self.read(cx, stage, &mut bench, input, out)?;
        if self.unsent.is_empty() {
            self.produce(stage.clock.now_ns(), &mut bench, out)?;
        }
        let writes = !out.is_empty() || !self.unsent.is_empty();
        self.write(cx, stage, out)?;
        let takes_more = self.unsent.is_empty();
        Ok(match takes_more && self.left {
            true => Turn::Closed,
            false if read || (writes && takes_more) => Turn::Busy,
            false => Turn::Idle,
        })
    }

    /// One read, its packets handled. False when there is nothing to read for now.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        stage: &Stage,
        bench: &mut Bench,
        input: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        if self.unsent.len() > UNSENT_BYTES_MAX || self.handle.paused.get() {
            return Ok(false);
        }
        let half_bytes = self.half.len();
        input[..half_bytes].copy_from_slice(&self.half);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut input[half_bytes..]);
        let has_rest = mem::take(&mut self.has_rest);
        let read_bytes = match read {
            Poll::Ready(read) => self.check_open(read)?,
            Poll::Pending if has_rest => 0,
            Poll::Pending => return Ok(false),
        };
        let bytes = &input[..half_bytes + read_bytes];
        let used = self.handle_packets(stage, bench, bytes, out)?;
        self.keep_half(&bytes[used..]);
        Ok(read_bytes > 0)
    }

    fn check_open(&self, read: io::Result<usize>) -> Result<usize> {
        match read {
            Ok(count) if count > 0 => Ok(count),
            _ if self.handle.closing.get() => Ok(0),
            Ok(_) => bail!("the broker closed the connection"),
            Err(error) => Err(error).context("the connection broke"),
        }
    }

    fn handle_packets(
        &mut self,
        stage: &Stage,
        bench: &mut Bench,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Violation> {
        // All packets of one read have arrived at the same moment.
        let now_ns = stage.clock.now_ns();
        self.handle.read_ns.set(now_ns);
        let mut at = 0;
        while let Some((frame, used)) = split(&bytes[at..], stage.packet_bytes_max)? {
            match Packet::decode(frame, stage.version)? {
                Packet::Pingresp => {
                    self.handle.ping.set(Ping::None);
                    self.actor.handle_pingresp();
                }
                packet => self.actor.handle(now_ns, &packet, bench, out)?,
            }
            at += used;
        }
        Ok(at)
    }

    fn keep_half(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.half = Vec::new();
        } else {
            self.half.clear();
            self.half.extend_from_slice(rest);
        }
    }

    fn produce(&mut self, now_ns: i64, bench: &mut Bench, out: &mut Vec<u8>) -> Result<()> {
        match self.handle.ping.get() {
            Ping::None | Ping::Outstanding => (),
            Ping::Wanted => {
                Packet::Pingreq.encode(bench.plan.version, out);
                self.handle.ping.set(Ping::Outstanding);
            }
            Ping::Missed => return Err(Violation::Silent.into()),
        }
        if self.actor.is_done() {
            self.handle.closing.set(true);
        }
        if self.handle.closing.get() {
            self.left = true;
            let disconnect = Disconnect::because(ReasonCode::NORMAL_DISCONNECTION);
            disconnect.encode(bench.plan.version, out);
        } else {
            self.actor.produce(now_ns, bench, out);
        }
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>, stage: &Stage, out: &[u8]) -> Result<()> {
        if out.is_empty() && self.unsent.is_empty() {
            return Ok(());
        }
        self.handle.written_ns.set(stage.clock.now_ns());
        let mut unsent = mem::take(&mut self.unsent);
        let written = if unsent.is_empty() {
            let written = self.write_some(cx, out)?;
            unsent.extend_from_slice(&out[written..]);
            0
        } else {
            unsent.extend_from_slice(out);
            self.write_some(cx, &unsent)?
        };
        unsent.drain(..written);
        if !unsent.is_empty() {
            self.actor.handle_blocked();
        }
        self.unsent = unsent;
        Ok(())
    }

    /// Writes as much as the socket takes; if that is not all, its task is woken for the rest.
    fn write_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.poll_write(cx, &bytes[written..]) {
                Poll::Ready(count) => written += count?,
                Poll::Pending => break,
            }
        }
        Ok(written)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(match count {
            // Whoever is leaving does not mind that the broker has left first.
            Err(_) if self.handle.closing.get() => Ok(bytes.len()),
            other => other.context("the broker closed the connection"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_pinged_and_given_up_when_no_answer_comes() {
        let handle = Handle::default();
        handle.keep_alive(9, 10);
        assert!(handle.ping.get() == Ping::None);
        handle.keep_alive(10, 10);
        assert!(handle.ping.get() == Ping::Wanted);
        handle.written_ns.set(10);
        handle.ping.set(Ping::Outstanding);
        handle.keep_alive(15, 10);
        assert!(handle.ping.get() == Ping::Outstanding);
        handle.keep_alive(20, 10);
        assert!(handle.ping.get() == Ping::Missed);
    }
}
