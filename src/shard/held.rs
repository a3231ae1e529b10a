//! Parts of packets, and what came while a connection was not read: charged, and bounded in bytes
//! and in time.

use std::time::Duration;

use crate::session::Time;

use super::connection::Connection;
use super::{CloseReason, ConnectionId, Output, Shard, Timer};

/// Bytes that are used from the front; without any it owns no memory. What is used is moved over
/// now and then alone: a few packets at a time are taken out of what may be megabytes.
#[derive(Debug, Default)]
pub(super) struct Held(Option<Box<Part>>);

/// Never without a byte that is not used.
#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    used: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What is not used.
    pub(super) fn rest(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |part| &part.bytes[part.used..])
    }

    /// Grows with what comes, not with what a header announces.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Some(part) => part.bytes.extend_from_slice(bytes),
            None if bytes.is_empty() => {}
            None => self.0 = Some(Box::new(Part { bytes: bytes.to_vec(), used: 0 })),
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |part| part.bytes.capacity() + size_of::<Part>())
    }

    /// Marks `count` bytes as used.
    pub(super) fn consume(&mut self, count: usize) {
        let Some(part) = &mut self.0 else { return };
        part.used += count;
        if part.used == part.bytes.len() {
            self.0 = None;
        } else if part.used > part.bytes.len() / 2 {
            part.bytes.drain(..part.used);
            part.used = 0;
        }
    }
}

impl Connection {
    /// Whether it is not read.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Bytes of memory that are charged for parts of packets.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Whether a timer is to be set for the packet that has begun.
    fn watch_packet(&mut self) -> bool {
        !std::mem::replace(&mut self.is_packet_watched, true)
    }

    /// For how many seconds a part of a packet is held. While the connection is not read, it is not
    /// the client that is late. If nothing is held, the timer is over.
    fn packet_age_s(&mut self, now: Time) -> Option<u16> {
        if self.pause.is_some() {
            self.begun_s = seconds(now);
        }
        self.is_packet_watched = !self.held.is_empty();
        self.is_packet_watched.then(|| seconds(now).wrapping_sub(self.begun_s))
    }
}

impl Shard {
    /// Handles what is held of a connection, as far as its packets are whole.
    pub(super) fn handle_held(&mut self, id: ConnectionId, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let bytes_max = connection.incoming_bytes_max(&self.limits);
        let mut held = std::mem::take(&mut connection.held);
        self.account.held -= held.capacity();
        let used = self.handle_packets(id, held.rest(), bytes_max, out);
        held.consume(used);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !held.is_empty() {
            self.account.held += held.capacity();
            connection.held = held;
            if used > 0 {
                connection.begun_s = seconds(self.now);
            }
            self.judge_held(id, out);
        }
    }

    /// Holds bytes that could not be handled.
    pub(super) fn hold(&mut self, id: ConnectionId, rest: &[u8], out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let before = connection.held.capacity();
        if connection.held.is_empty() {
            connection.begun_s = seconds(self.now);
        }
        connection.held.extend(rest);
        self.account.held = self.account.held + connection.held.capacity() - before;
        self.judge_held(id, out);
    }

    /// Closes a connection that holds a part of a packet which is more than its share of memory,
    /// and has others watched until the packet is whole.
    fn judge_held(&mut self, id: ConnectionId, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let bytes = connection.held_bytes();
        if !self.may_hold(bytes) {
            self.counters.closed_over_quota += 1;
            return self.close(id, CloseReason::OverShare, out);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if bytes > 0 && self.limits.packet_timeout_s > 0 && connection.watch_packet() {
            let timeout_s = u64::from(self.limits.packet_timeout_s) + 1;
            let deadline = self.now + Duration::from_secs(timeout_s);
            self.set_timer(deadline, Timer::Packet(id));
        }
    }

    /// A packet whose first byte came long ago may still not be whole.
    pub(super) fn handle_packet_timeout(&mut self, id: ConnectionId, out: &mut impl Output) {
        let timeout_s = self.limits.packet_timeout_s;
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(age_s) = connection.packet_age_s(now) else { return };
        if age_s <= timeout_s {
            let left = Duration::from_secs(u64::from(timeout_s - age_s) + 1);
            return self.set_timer(now + left, Timer::Packet(id));
        }
        self.counters.closed_half_packet += 1;
        self.close(id, CloseReason::PacketTimeout, out);
    }
}

/// Seconds since the start, as far as 16 bits go: twice as far as the longest time limit.
pub(super) fn seconds(time: Time) -> u16 {
    (time.ms() / 1000) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_used_in_their_order() {
        let mut held = Held::default();
        held.extend(b"");
        assert!(held.is_empty());
        held.extend(b"abcdef");
        held.consume(1);
        assert_eq!(held.rest(), b"bcdef");
        held.extend(b"gh");
        held.consume(4);
        assert_eq!(held.rest(), b"fgh");
        assert_eq!(held.0.as_ref().map(|part| part.bytes.len()), Some(3), "the others were moved");
        held.consume(3);
        assert!(held.is_empty() && held.rest().is_empty());
        assert_eq!(size_of::<Held>(), 8);
    }
}
