//! When a connection is not read, and when it is read again.

use crate::mqtt::{Packet, Publish, QoS};
use crate::routing::ShardId;

use super::{ConnectionId, Output, Shard};

/// Why a connection is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pause {
    /// The way to another shard is full.
    Link(ShardId),
    /// Too many of its publishes wait to be acknowledged.
    Receipts,
    /// Too many of its publishes are put off.
    PutOff,
    /// An earlier publish to another owner has not been taken in.
    Order,
    /// Its own outbox is at the limit: it sends, and does not read the answers.
    Outbox,
    /// Its CONNECT is being judged.
    Authentication,
    /// The older connection of its client has not ended.
    TakeOver,
    /// It has used what it may of a turn, and others have theirs.
    Turn,
}

impl Pause {
    /// Whether a publisher waits for room.
    fn is_for_room(self) -> bool {
        !matches!(self, Self::Order | Self::Authentication | Self::TakeOver | Self::Turn)
    }
}

impl Shard {
    /// Reads connections on that were put aside, in turn, until the input has taken as long as it
    /// may.
    pub(super) fn read_on(&mut self, out: &mut impl Output) {
        if let Some(claimant) = self.take_overs.next_granted() {
            self.grant(claimant, out);
        }
        self.aside.append(&mut self.ready);
        self.aside.extend(self.links.next_ready());
        while !self.is_used_up()
            && let Some(id) = self.aside.pop_front()
        {
            self.resume(id, out);
        }
    }

    /// Has others read first if the input has taken as long as it may; whether that is so.
    pub(super) fn put_aside(&mut self, id: ConnectionId, out: &mut impl Output) -> bool {
        if !self.is_used_up() || self.connections.get_mut(id).is_none_or(|c| c.pause.is_some()) {
            return false;
        }
        self.pause(id, Pause::Turn, out);
        true
    }

    /// Reads a connection again that was paused.
    pub(super) fn resume(&mut self, id: ConnectionId, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.pause.take().is_none() {
            return;
        }
        connection.spent = 0;
        out.pause(id, false);
        self.handle_held(id, out);
    }

    /// Stops reading a connection; the bytes that are not handled yet stay with it.
    pub(super) fn pause(&mut self, id: ConnectionId, pause: Pause, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.pause = Some(pause);
        out.pause(id, true);
        match pause {
            Pause::Link(peer) => self.links.wait(peer, id),
            Pause::Outbox => out.outbox(id).want_drained(self.limits.outbox_bytes_max / 2),
            Pause::Turn => self.aside.push_back(id),
            Pause::Receipts
            | Pause::PutOff
            | Pause::Order
            | Pause::Authentication
            | Pause::TakeOver => {}
        }
        if pause.is_for_room() {
            self.counters.publishers_paused += 1;
        }
    }

    /// Reads a connection again if this was what it waited for.
    pub(super) fn unpause(&mut self, id: ConnectionId, reason: Pause) {
        if self.connections.get_mut(id).is_some_and(|c| c.pause == Some(reason)) {
            self.ready.push_back(id);
        }
    }

    /// What has to change before this packet can be handled.
    pub(super) fn pause_before(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        out: &mut impl Output,
    ) -> Option<Pause> {
        match packet {
            Packet::Subscribe(_) | Packet::Unsubscribe(_) => self.pause_before_filters(id, out),
            _ => self.pause_before_answer(id, out),
        }
    }

    /// What has to change before filters can be placed or given up.
    pub(super) fn pause_before_filters(
        &self,
        id: ConnectionId,
        out: &mut impl Output,
    ) -> Option<Pause> {
        self.pause_before_answer(id, out).or_else(|| self.links.behind().map(Pause::Link))
    }

    pub(super) fn pause_before_answer(
        &self,
        id: ConnectionId,
        out: &mut impl Output,
    ) -> Option<Pause> {
        (out.outbox_len(id) >= self.limits.outbox_bytes_max).then_some(Pause::Outbox)
    }

    pub(super) fn pause_before_publish(
        &self,
        id: ConnectionId,
        slot: u32,
        publish: &Publish<'_>,
        owner: Option<ShardId>,
        out: &mut impl Output,
    ) -> Option<Pause> {
        if out.outbox_len(id) >= self.limits.outbox_bytes_max {
            return Some(Pause::Outbox);
        }
        if publish.qos > QoS::AtMostOnce
            && self.has_many_pending(slot)
            && !self.exceeds_receive_maximum(slot)
        {
            return Some(Pause::Receipts);
        }
        if !self.put_off.is_empty() && self.has_put_off_too_many(self.registry.name(slot)) {
            return Some(Pause::PutOff);
        }
        let owner = owner?; // Without one it is an error, which is not put off.
        if self.must_wait_for_order(slot, owner) {
            return Some(Pause::Order);
        }
        if owner == self.id {
            return self.links.behind().map(Pause::Link); // Deliveries to other homes wait there.
        }
        self.links.must_wait(owner).then_some(Pause::Link(owner))
    }

    /// A 5.0 client was told the limit, and breaks the protocol when it goes beyond it: that is
    /// not put off.
    fn exceeds_receive_maximum(&self, slot: u32) -> bool {
        let resident = self.registry.get(slot);
        let max = usize::from(self.limits.receive_count_max);
        resident.peer.version.is_v5() && resident.session.unsettled_count() >= max
    }
}
