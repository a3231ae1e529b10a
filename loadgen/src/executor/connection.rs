//! One connection between its bytes and its actor. No sockets and no clock here: the pump moves
//! the bytes and tells the time.
//!
//! An idle connection holds no buffer: bytes are handled where they were received, and only half
//! a packet at their end is kept; what is to be written is kept until the socket has taken it.

use std::mem;
use std::rc::Rc;

use ringmq::mqtt::{Disconnect, Packet, ReasonCode};

use crate::client::qos::Violation;
use crate::client::{Actor, BATCH_BYTES};
use crate::executor::handle::{Handle, Ping};
use crate::recording::Recording;

/// A connection whose peer does not read is itself not read any more.
const UNSENT_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Connection {
    pub(crate) handle: Rc<Handle>,
    actor: Box<dyn Actor>,
    /// The beginning of a packet.
    half: Vec<u8>,
    unsent: Vec<u8>,
    /// The socket has not taken all of the last batch: what is due waits.
    is_blocked: bool,
    /// DISCONNECT has been said.
    left: bool,
}

impl Connection {
    pub(crate) fn new(actor: Box<dyn Actor>, handle: Rc<Handle>) -> Self {
        let (half, unsent) = (Vec::new(), Vec::new());
        Self { handle, actor, half, unsent, is_blocked: false, left: false }
    }

    /// Starts another actor in place of the last one: it gets `early`, which came before its time,
    /// and what the last one has not handled.
    ///
    /// # Errors
    /// The broker did what it must not.
    pub(crate) fn start_actor(
        &mut self,
        now_ns: i64,
        actor: Box<dyn Actor>,
        early: Vec<u8>,
        recording: &mut Recording,
    ) -> Result<(), Violation> {
        self.actor = actor;
        let rest = mem::replace(&mut self.half, early);
        self.receive(now_ns, &rest, recording)
    }

    /// Handles what came at `now_ns`.
    ///
    /// # Errors
    /// The broker did what it must not.
    pub(crate) fn receive(
        &mut self,
        now_ns: i64,
        bytes: &[u8],
        recording: &mut Recording,
    ) -> Result<(), Violation> {
        self.handle.record_read(now_ns);
        if self.half.is_empty() {
            let used = self.handle_packets(now_ns, bytes, recording)?;
            self.half.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut whole = mem::take(&mut self.half);
        whole.extend_from_slice(bytes);
        let used = self.handle_packets(now_ns, &whole, recording)?;
        if used < whole.len() {
            whole.drain(..used);
            self.half = whole;
        }
        Ok(())
    }

    fn handle_packets(
        &mut self,
        now_ns: i64,
        bytes: &[u8],
        recording: &mut Recording,
    ) -> Result<usize, Violation> {
        let handled = self.actor.handle_packets(now_ns, bytes, recording, &mut self.unsent)?;
        if handled.pong {
            self.handle.set_ping(Ping::None);
        }
        Ok(handled.byte_count)
    }

    /// Whether its peer takes what it answers.
    pub(crate) fn takes_bytes(&self) -> bool {
        !self.handle.is_paused() && self.unsent.len() <= UNSENT_BYTES_MAX
    }

    /// Adds to what is to be written whatever is due.
    ///
    /// # Errors
    /// The broker has not answered a ping.
    pub(crate) fn produce(
        &mut self,
        now_ns: i64,
        recording: &mut Recording,
    ) -> Result<(), Violation> {
        if self.left || self.is_blocked {
            return Ok(());
        }
        match self.handle.ping() {
            Ping::None | Ping::Outstanding => (),
            Ping::Wanted => {
                Packet::Pingreq.encode(recording.plan.version, &mut self.unsent);
                self.handle.set_ping(Ping::Outstanding);
            }
            Ping::Missed => return Err(Violation::Silent),
        }
        if self.handle.is_closing() || self.actor.is_done() {
            self.handle.begin_to_close();
            self.left = true;
            let disconnect = Disconnect::because(ReasonCode::NORMAL_DISCONNECTION);
            disconnect.encode(recording.plan.version, &mut self.unsent);
        } else {
            self.actor.produce(now_ns, recording, &mut self.unsent);
        }
        Ok(())
    }

    /// Returns what is to be written.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// Drops `byte_count` bytes that the socket has taken; if that was not all, it is full.
    pub(crate) fn handle_written(&mut self, byte_count: usize) {
        let was_blocked = mem::replace(&mut self.is_blocked, byte_count < self.unsent.len());
        if self.is_blocked {
            self.unsent.drain(..byte_count);
            return self.actor.handle_blocked();
        }
        self.unsent = Vec::new();
        if was_blocked || byte_count >= BATCH_BYTES {
            self.handle.wake();
        }
    }

    /// Whether DISCONNECT has been written, and all before it.
    pub(crate) fn has_left(&self) -> bool {
        self.left && self.unsent.is_empty()
    }
}
