//! Connecting to the broker, and the handshake up to the last SUBACK.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result, bail};
use futures_lite::FutureExt;
use glommio::timer::Timer;
use ringmq::mqtt::{Packet, split};

use crate::client::handshake::Handshake;
use crate::client::qos::Violation;
use crate::client::{Actor, Handled};
use crate::executor::context::{ConnectionGuard, ExecutorContext};
use crate::executor::handle::Handle;
use crate::executor::socket;
use crate::plan::{Client, Greeting, Plan};
use crate::recording::Recording;
use crate::sample::machine;

/// Deliveries that may come before SUBACK.
const EARLY_BYTES_MAX: usize = 16 << 20;

/// A connection that has finished its handshake.
pub(crate) struct Opened {
    guard: ConnectionGuard,
    greeted: Greeted,
}

/// What came of a handshake.
struct Greeted {
    /// Deliveries that came before SUBACK.
    early: Vec<u8>,
    /// How many messages of QoS 1 and 2 the broker takes at a time.
    receive_count_max: u16,
    /// When CONNACK came.
    connected_ns: i64,
    /// When the last SUBACK came.
    ready_ns: i64,
}

impl Opened {
    pub(crate) fn handle(&self) -> &Rc<Handle> {
        self.guard.handle()
    }

    pub(crate) fn connected_ns(&self) -> i64 {
        self.greeted.connected_ns
    }

    pub(crate) fn ready_ns(&self) -> i64 {
        self.greeted.ready_ns
    }

    /// Hands the connection to `actor`.
    pub(crate) fn start(self, mut actor: impl Actor + 'static) -> ConnectionGuard {
        let Self { guard, greeted } = self;
        actor.handle_opened(greeted.receive_count_max);
        guard.start(actor, greeted.early);
        guard
    }
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

/// Opens the connections of one executor.
pub(crate) struct Connector {
    plan: Arc<Plan>,
    address: SocketAddr,
    context: Rc<ExecutorContext>,
    /// Connections that were begun here.
    begun_count: Cell<usize>,
}

impl Connector {
    /// `first` is the number of the executor: it spreads the source addresses over all of them.
    pub(crate) fn new(
        plan: Arc<Plan>,
        address: SocketAddr,
        context: Rc<ExecutorContext>,
        first: u32,
    ) -> Self {
        Self { plan, address, context, begun_count: Cell::new(first as usize) }
    }

    /// Returns the address to connect from: all executors together use the addresses in turn.
    fn next_source(&self) -> Option<IpAddr> {
        let number = self.begun_count.get();
        self.begun_count.set(number + self.plan.executor_count as usize);
        let sources = &self.plan.source_ips;
        sources.get(number % sources.len().max(1)).copied()
    }

    /// Connects, sends CONNECT and SUBSCRIBE and waits for the answers.
    ///
    /// # Errors
    /// Anything that goes wrong or takes longer than the plan allows, with the client's name.
    pub(crate) async fn connect(&self, greeting: Greeting) -> Result<Opened> {
        let timeout = async {
            Timer::new(self.plan.connect_timeout).await;
            bail!("no answer from the broker within {:?}", self.plan.connect_timeout)
        };
        let opened = self.shake_hands(greeting).or(timeout).await;
        let name = || self.plan.name_of(greeting.client);
        opened.with_context(|| format!("cannot connect {} to {}", name(), self.address))
    }

    async fn shake_hands(&self, greeting: Greeting) -> Result<Opened> {
        let socket = self.open_socket(greeting)?;
        let reception = Rc::default();
        let greeter = Greeter::new(&self.plan, greeting, Rc::clone(&reception));
        let guard = self.context.add_connection(socket, greeter);
        let greeted = poll_fn(|cx| poll_greeted(&guard, &reception, cx)).await?;
        Ok(Opened { guard, greeted })
    }

    fn open_socket(&self, greeting: Greeting) -> Result<OwnedFd> {
        let buffer = match greeting.client {
            Client::Extra(_) => self.plan.extras.and_then(|extras| extras.receive_buffer_bytes),
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

/// Where a greeter leaves its result for the task that waits for it.
#[derive(Default)]
struct Reception {
    greeted: Cell<Option<Greeted>>,
    waiting: Cell<Option<Waker>>,
}

fn poll_greeted(
    guard: &ConnectionGuard,
    reception: &Reception,
    cx: &Context<'_>,
) -> Poll<Result<Greeted>> {
    if let Some(greeted) = reception.greeted.take() {
        return Poll::Ready(Ok(greeted));
    }
    reception.waiting.set(Some(cx.waker().clone()));
    guard.handle().poll_end(cx).map(|end| end.and_then(|()| bail!("it was closed")))
}

/// Says what has to be said before a connection is ready, and leaves the rest to others.
struct Greeter {
    handshake: Handshake,
    /// CONNECT, until it is said.
    hello: Vec<u8>,
    early: Vec<u8>,
    connected_ns: Option<i64>,
    reception: Rc<Reception>,
}

impl Greeter {
    fn new(plan: &Plan, greeting: Greeting, reception: Rc<Reception>) -> Self {
        let mut hello = Vec::new();
        let handshake = Handshake::start(plan, greeting, &mut hello);
        Self { handshake, hello, early: Vec::new(), connected_ns: None, reception }
    }

    fn record(&mut self, now_ns: i64) {
        if !self.handshake.is_connected() {
            return;
        }
        let connected_ns = *self.connected_ns.get_or_insert(now_ns);
        if self.handshake.is_ready() {
            self.reception.greeted.set(Some(Greeted {
                early: mem::take(&mut self.early),
                receive_count_max: self.handshake.receive_count_max(),
                connected_ns,
                ready_ns: now_ns,
            }));
            self.reception.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Actor for Greeter {
    fn handle(
        &mut self,
        _now_ns: i64,
        packet: &Packet<'_>,
        _bench: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        self.handshake.handle(packet, out)
    }

    fn produce(&mut self, _now_ns: i64, _bench: &mut Recording, out: &mut Vec<u8>) {
        out.append(&mut self.hello);
    }

    /// Handles the handshake alone: what comes too early is kept, what comes after it is left.
    fn handle_packets(
        &mut self,
        now_ns: i64,
        bytes: &[u8],
        recording: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<Handled, Violation> {
        let (version, packet_bytes_max) =
            (recording.plan.version, recording.plan.packet_bytes_max());
        let (mut at, was_ready) = (0, self.handshake.is_ready());
        while !self.handshake.is_ready() {
            let Some((frame, used)) = split(&bytes[at..], packet_bytes_max)? else { break };
            let packet = Packet::decode(frame, version)?;
            if self.handshake.is_early(&packet) {
                self.early.extend_from_slice(&bytes[at..at + used]);
            } else {
                self.handle(now_ns, &packet, recording, out)?;
            }
            at += used;
        }
        if self.early.len() > EARLY_BYTES_MAX {
            return Err(Violation::Flood { byte_count_max: EARLY_BYTES_MAX });
        }
        if !was_ready {
            self.record(now_ns);
        }
        Ok(Handled { byte_count: at, pong: false })
    }
}
