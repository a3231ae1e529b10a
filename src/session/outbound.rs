//! The sending side of QoS 1 and 2: deliveries to this client, from queue to acknowledgement.
//!
//! ```text
//! queued -(room in the window)-> Publish --PUBACK (QoS 1)--------------------> gone
//!                                Publish --PUBREC (QoS 2)--> Release --PUBCOMP--> gone
//!                                Publish --PUBREC with an error-----------------> gone
//!           (too large for a new connection of the client)--> Release --PUBCOMP--> gone
//! ```
//! Any other acknowledgement of an identifier that is in use is a protocol error.
//! A reconnect sends every `Publish` again with DUP and every `Release` again as PUBREL, in the
//! order of `sequence`, as far as the window of the new connection allows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use crate::config::Limits;
use crate::metrics::{AuditError, DropCause};
use crate::mqtt::{Ack, Packet, PacketId, Properties, QoS, ReasonCode};

use super::queue::Queue;
use super::{Allowance, Delivery, Held, Outgoing, Output, ProtocolError, Reach, Terms};

/// Deliveries that are sent or given up together; what is left goes when these are written.
pub const AT_ONCE_MAX: usize = 1024;
/// What one that goes to another member of its group costs, in deliveries that are sent.
const GIVEN_BACK: usize = 16;
/// Packet identifiers go from 1 to 65,535 [MQTT-2.3.1-1].
const PACKET_ID_COUNT: usize = u16::MAX as usize;

/// Deliveries of QoS 1 and 2 to one client that are not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Keyed by packet identifier less one: a free key is a free identifier, and an identifier
    /// is not used again before its handshake has ended [MQTT-2.3.1-4].
    inflight: Slab<Inflight>,
    queue: Queue,
    next_sequence: u64,
    /// Of `inflight`, what was sent on an earlier connection and not again on this one. To sort
    /// 65,535 of them at once would take too long.
    unrepeated: BinaryHeap<Reverse<Mark>>,
    /// On this connection a PUBREL was sent that is one more than the identifier needed, so that
    /// a PUBCOMP may come that is one too many.
    may_complete_twice: bool,
    /// [`AT_ONCE_MAX`] were sent: the rest waits until they are written, whatever comes meanwhile.
    awaits_room: bool,
    /// Bytes of the publishes in `inflight`, shared or not.
    inflight_bytes: usize,
    /// Bytes of memory that are charged for all of it, without what is shared.
    charged: usize,
}

/// The place of a delivery in the original order, and its key in the lowest bits: in one number,
/// which is compared in one step. More than 2^48 deliveries are not sent in any session's life.
type Mark = u64;

#[derive(Debug)]
struct Inflight {
    sequence: u64,
    state: State,
}

/// Where one handshake stands; see the diagram above.
#[derive(Debug)]
enum State {
    Publish(Delivery),
    /// What is left of a delivery that the client has, or that was given up and is to be counted
    /// so once its identifier is free.
    Release(Option<DropCause>),
}

impl Inflight {
    fn is_release(&self) -> bool {
        matches!(self.state, State::Release(_))
    }

    /// Bytes of the publish that may have to be sent again.
    fn bytes(&self) -> usize {
        match &self.state {
            State::Publish(delivery) => delivery.publication.len(),
            State::Release(_) => 0,
        }
    }
}

impl Outbound {
    /// Sends a delivery of QoS 1 or 2 if the window has room, queues or drops it if not.
    #[inline]
    pub(super) fn handle_delivery(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        terms: &Terms,
        window: u16,
        limits: &Limits,
        out: &mut impl Output,
    ) {
        let delivery = Delivery { publication: outgoing.keep(), terms: terms.clone() };
        if self.queue.is_empty() && self.unrepeated.is_empty() && self.may_add(window, out) {
            let packet_id = self.track(delivery, out);
            out.ledger().in_flight += 1;
            out.deliver(outgoing, terms, Some(packet_id), false);
        } else {
            self.enqueue(delivery, limits, out);
        }
    }

    /// Keeps a delivery for later; over a limit it is dropped and counted.
    pub(super) fn enqueue(&mut self, delivery: Delivery, limits: &Limits, out: &mut impl Output) {
        let allowance = out.allowance();
        if self.admit(&delivery, limits, &allowance).is_err() {
            self.sweep(out);
        }
        match self.admit(&delivery, limits, &allowance) {
            Ok(()) => {
                self.queue.push(delivery);
                out.ledger().queued += 1;
                self.recharge(out);
            }
            Err(cause) => out.ledger().drop_one(cause),
        }
    }

    /// What has expired makes room for what has not, once it is found.
    #[cold]
    fn sweep(&mut self, out: &mut impl Output) {
        let expired = self.queue.sweep(out.now());
        out.ledger().queued -= expired;
        (0..expired).for_each(|_| out.ledger().drop_one(DropCause::Expired));
        self.recharge(out);
    }

    /// Ends a QoS 1 delivery; an identifier that is not in use is ignored.
    ///
    /// # Errors
    /// The identifier is of a delivery at QoS 2.
    #[inline]
    pub(super) fn handle_puback(
        &mut self,
        ack: Ack<'_>,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        match self.state(ack.packet_id) {
            Some(State::Publish(delivery)) if delivery.terms.qos == QoS::AtLeastOnce => {
                self.forget(key(ack.packet_id));
                settle(ack.reason, out);
            }
            Some(_) => return Err(ProtocolError::Acknowledgement),
            None => {}
        }
        Ok(())
    }

    /// The client has the QoS 2 publish: from here on only its identifier is kept.
    ///
    /// Answered with PUBREL whether the identifier is in use or not, so that the client's side
    /// ends; not answered if it says that the client has refused the publish.
    ///
    /// # Errors
    /// The identifier is of a delivery at QoS 1.
    pub(super) fn handle_pubrec(
        &mut self,
        ack: Ack<'_>,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        let sequence = self.next_sequence;
        match self.inflight.get_mut(key(ack.packet_id)).map(|inflight| &mut inflight.state) {
            Some(State::Publish(delivery)) if delivery.terms.qos != QoS::ExactlyOnce => {
                return Err(ProtocolError::Acknowledgement);
            }
            Some(State::Publish(_)) if ack.reason.is_error() => {
                self.forget(key(ack.packet_id)); // [MQTT-4.3.3-4]
                settle(ack.reason, out);
                return Ok(());
            }
            Some(state @ State::Publish(_)) => {
                if let State::Publish(taken) = std::mem::replace(state, State::Release(None)) {
                    self.inflight_bytes -= taken.publication.len();
                }
                // PUBREL are repeated in the order of the PUBREC [MQTT-4.6.0-4].
                self.inflight[key(ack.packet_id)].sequence = sequence;
                self.next_sequence += 1;
            }
            // A client that came back may repeat its PUBREC, and then completes twice.
            Some(State::Release(_)) => self.may_complete_twice = true,
            None if ack.reason.is_error() => return Ok(()),
            None => {
                self.may_complete_twice = true;
                let (packet_id, reason) = (ack.packet_id, ReasonCode::PacketIdentifierNotFound);
                let answer = Ack { packet_id, reason, properties: Properties::EMPTY };
                out.send(&Packet::Pubrel(answer));
                return Ok(());
            }
        }
        out.send(&Packet::Pubrel(Ack::success(ack.packet_id))); // [MQTT-4.3.3-4]
        Ok(())
    }

    /// Ends a QoS 2 delivery; an identifier that is not in use is ignored.
    ///
    /// # Errors
    /// The identifier is of a PUBLISH that was not answered with PUBREC.
    pub(super) fn handle_pubcomp(
        &mut self,
        packet_id: PacketId,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        match self.state(packet_id) {
            Some(&State::Release(given_up)) => {
                self.forget(key(packet_id));
                out.ledger().in_flight -= 1;
                match given_up {
                    Some(cause) => out.ledger().drop_one(cause),
                    None => out.ledger().delivered += 1,
                }
            }
            // The identifier may have been given to a new delivery since it was asked for.
            Some(State::Publish(_)) if !self.may_complete_twice => {
                return Err(ProtocolError::Acknowledgement);
            }
            _ => {}
        }
        Ok(())
    }

    /// Repeats what was sent before, then sends what is queued, while window and outbox have room;
    /// very many a part at a time.
    pub(super) fn handle_room(&mut self, window: u16, out: &mut impl Output) {
        if self.unrepeated.is_empty() && self.queue.is_empty() || self.awaits_room {
            return;
        }
        let mut left = AT_ONCE_MAX;
        while let Some(&Reverse(mark)) = self.unrepeated.peek() {
            if left == 0 {
                return self.await_room(out);
            }
            // A PUBREL is no new message for the client's window.
            let is_release = matches!(self.inflight.get(key_of(mark)), Some(i) if i.is_release());
            if !(is_release && out.reach() != Reach::Offline || self.may_send(window, out)) {
                return;
            }
            self.unrepeated.pop();
            left = left.saturating_sub(self.repeat(mark, out));
        }
        while !self.queue.is_empty() && self.may_add(window, out) {
            if left == 0 {
                self.await_room(out);
                break;
            }
            let delivery = self.queue.pop().expect("the queue was just seen not to be empty");
            out.ledger().queued -= 1;
            left = left.saturating_sub(self.send_queued(delivery, out));
        }
        self.recharge(out);
    }

    /// On resume: all that was sent and not acknowledged is repeated, in the original order
    /// [MQTT-4.4.0-1], [MQTT-4.6.0-1]; very much of it once CONNACK is written.
    pub(super) fn handle_resumed(&mut self, window: u16, out: &mut impl Output) {
        self.put_in_order(out);
        self.may_complete_twice = false;
        if self.unrepeated.len() > AT_ONCE_MAX {
            self.await_room(out);
        } else {
            self.handle_written(window, out);
        }
    }

    /// What was sent is written, or belonged to an earlier connection.
    pub(super) fn handle_written(&mut self, window: u16, out: &mut impl Output) {
        self.awaits_room = false;
        self.handle_room(window, out);
    }

    fn await_room(&mut self, out: &mut impl Output) {
        self.awaits_room = true;
        out.ask_for_room();
    }

    /// Drops and counts what a session held that is over, in the original order; false if that was
    /// all. What a shared subscription had chosen it for is given back, for another member; but
    /// not what was sent at QoS 2 [MQTT-4.8.2-5].
    pub(super) fn give_up_next(&mut self, out: &mut impl Output) -> bool {
        let orphan = if let Some(Reverse(mark)) = self.unrepeated.pop() {
            out.ledger().in_flight -= 1;
            self.forget(key_of(mark)).filter(|delivery| delivery.terms.qos == QoS::AtLeastOnce)
        } else if let Some(delivery) = self.queue.pop() {
            out.ledger().queued -= 1;
            self.recharge(out);
            Some(delivery)
        } else {
            return false;
        };
        out.ledger().drop_one(DropCause::SessionEnded);
        if let Some(delivery) = orphan.filter(|delivery| delivery.terms.share().is_some()) {
            out.give_back(delivery);
        }
        true
    }

    /// Deliveries that wait for room.
    #[must_use]
    pub(super) fn queued_count(&self) -> usize {
        self.queue.len()
    }

    /// Deliveries that were sent and are not acknowledged.
    #[must_use]
    pub(super) fn inflight_count(&self) -> usize {
        self.inflight.len()
    }

    /// Bytes of memory that it is charged for.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    /// Bytes of deliveries in flight and queued, shared or not.
    pub(super) fn delivery_bytes(&self) -> usize {
        self.inflight_bytes + self.queue.bytes()
    }

    /// True when there is nothing left to keep.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.inflight.is_empty()
    }

    /// Compares what is charged to the limits with what is there.
    pub(super) fn audit(&self) -> Result<Held, AuditError> {
        self.queue.audit()?;
        let bytes: usize = self.inflight.iter().map(|(_, inflight)| inflight.bytes()).sum();
        let compare = |what, charged: usize, held: usize| {
            AuditError::compare(what, charged as u64, held as u64)
        };
        compare("bytes in flight", self.inflight_bytes, bytes)?;
        compare("memory of deliveries", self.charged, self.memory_bytes())?;
        Ok(Held { queued: self.queue.len() as u64, in_flight: self.inflight.len() as u64 })
    }

    /// What an earlier connection has sent counts once it is repeated; but its packet identifiers
    /// are taken.
    fn may_send(&self, window: u16, out: &mut impl Output) -> bool {
        let is_free = !self.unrepeated.is_empty() || self.inflight.len() < PACKET_ID_COUNT;
        let sent = self.inflight.len().saturating_sub(self.unrepeated.len());
        is_free && sent < usize::from(window) && out.reach() == Reach::Open
    }

    /// Whether one more may be sent than those that were: the bytes in flight are bounded, too, but
    /// one delivery may be in flight whatever its size.
    fn may_add(&self, window: u16, out: &mut impl Output) -> bool {
        let allowance = out.allowance();
        let bytes_max = allowance.inflight_bytes_max.min(allowance.held_bytes_max).max(1);
        self.inflight_bytes < bytes_max && self.may_send(window, out)
    }

    /// Whether the queue has room for one more.
    fn admit(
        &self,
        delivery: &Delivery,
        limits: &Limits,
        allowance: &Allowance,
    ) -> Result<(), DropCause> {
        self.queue.admit(delivery, limits)?;
        let held = self.inflight_bytes + self.queue.bytes() + self.charged;
        if held + delivery.publication.len() > allowance.held_bytes_max {
            return Err(DropCause::OverShare);
        }
        Ok(())
    }

    /// Charges what it has grown by, or gives back what it has shrunk by.
    fn recharge(&mut self, out: &mut impl Output) {
        let bytes = self.memory_bytes();
        if bytes != self.charged {
            out.charge(bytes.wrapping_sub(self.charged).cast_signed());
            self.charged = bytes;
        }
    }

    /// Bytes of memory without what is shared.
    fn memory_bytes(&self) -> usize {
        let inflight_bytes = self.inflight.capacity() * (size_of::<Inflight>() + size_of::<u64>());
        let unrepeated_bytes = self.unrepeated.capacity() * size_of::<Reverse<Mark>>();
        let bytes = inflight_bytes + unrepeated_bytes + self.queue.memory_bytes();
        if bytes == 0 { 0 } else { size_of::<Self>() + bytes }
    }

    /// Notes all that is in flight as not sent on this connection: to be repeated on the next one,
    /// or to be given up with [`Self::give_up_next`].
    pub(super) fn put_in_order(&mut self, out: &mut impl Output) {
        let mark = |(key, inflight): (usize, &Inflight)| Reverse(mark(inflight.sequence, key));
        self.unrepeated = self.inflight.iter().map(mark).collect::<Vec<_>>().into();
        self.recharge(out);
    }

    /// What it cost, in deliveries.
    fn repeat(&mut self, marked: Mark, out: &mut impl Output) -> usize {
        let key = key_of(marked);
        let Some(inflight) = self.inflight.get(key) else { return 1 };
        if mark(inflight.sequence, key) != marked {
            return 1; // The client has answered it on this connection all the same.
        }
        let State::Publish(delivery) = &inflight.state else {
            out.send(&Packet::Pubrel(Ack::success(packet_id(key))));
            return 1;
        };
        let mut outgoing = Outgoing::kept(&delivery.publication);
        if out.fits(&mut outgoing, &delivery.terms) {
            out.deliver(&mut outgoing, &delivery.terms, Some(packet_id(key)), true);
            return 1;
        }
        // As if it had been sent [MQTT-3.1.2-25]. At QoS 2 the client may have it and the
        // identifier, which must not come to stand for another message before it is released; and
        // it goes to nobody else [MQTT-4.8.2-5].
        if delivery.terms.qos == QoS::ExactlyOnce {
            self.inflight_bytes -= delivery.publication.len();
            self.inflight[key].state = State::Release(Some(DropCause::TooLarge));
            out.send(&Packet::Pubrel(Ack::success(packet_id(key))));
            return 1;
        }
        out.ledger().in_flight -= 1;
        self.forget(key).map_or(1, |delivery| give_up(delivery, out))
    }

    /// What it cost, in deliveries.
    fn send_queued(&mut self, delivery: Delivery, out: &mut impl Output) -> usize {
        let Delivery { publication, terms } = delivery.clone();
        let mut outgoing = Outgoing::kept(&publication);
        if outgoing.expiry().is_some_and(|expiry| expiry <= out.now()) {
            out.ledger().drop_one(DropCause::Expired); // [MQTT-3.3.2-5]
            return 1;
        }
        if !out.fits(&mut outgoing, &terms) {
            return give_up(delivery, out);
        }
        if terms.qos == QoS::AtMostOnce {
            out.ledger().delivered += 1;
            out.deliver(&mut outgoing, &terms, None, false);
            return 1;
        }
        let packet_id = self.track(delivery, out);
        out.ledger().in_flight += 1;
        out.deliver(&mut outgoing, &terms, Some(packet_id), false);
        1
    }

    fn track(&mut self, delivery: Delivery, out: &mut impl Output) -> PacketId {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.inflight_bytes += delivery.publication.len();
        let room = self.inflight.capacity();
        let key = self.inflight.insert(Inflight { sequence, state: State::Publish(delivery) });
        if self.inflight.capacity() != room {
            self.recharge(out);
        }
        packet_id(key)
    }

    /// Takes out what is in flight under a key that is in use: a publish, or a release.
    fn forget(&mut self, key: usize) -> Option<Delivery> {
        let inflight = self.inflight.remove(key);
        self.inflight_bytes -= inflight.bytes();
        match inflight.state {
            State::Publish(delivery) => Some(delivery),
            State::Release(_) => None,
        }
    }

    fn state(&self, packet_id: PacketId) -> Option<&State> {
        self.inflight.get(key(packet_id)).map(|inflight| &inflight.state)
    }
}

/// A delivery is too large for the client that is back [MQTT-3.1.2-24]; of a shared subscription
/// another member may take it. What it cost, in deliveries.
fn give_up(delivery: Delivery, out: &mut impl Output) -> usize {
    if delivery.terms.share().is_none() {
        out.ledger().drop_one(DropCause::TooLarge);
        return 1;
    }
    out.ledger().drop_one(DropCause::Reassigned);
    out.give_back(delivery);
    GIVEN_BACK
}

fn settle(reason: ReasonCode, out: &mut impl Output) {
    out.ledger().in_flight -= 1;
    if reason.is_error() {
        out.ledger().drop_one(DropCause::RefusedByClient);
    } else {
        out.ledger().delivered += 1;
    }
}

fn mark(sequence: u64, key: usize) -> Mark {
    sequence << u16::BITS | key as u64
}

fn key_of(mark: Mark) -> usize {
    (mark & u64::from(u16::MAX)) as usize
}

fn key(packet_id: PacketId) -> usize {
    usize::from(packet_id.get()) - 1
}

fn packet_id(key: usize) -> PacketId {
    let number = u16::try_from(key + 1).expect("the window is below 65,536");
    PacketId::new(number).expect("one more than a key is not zero")
}
