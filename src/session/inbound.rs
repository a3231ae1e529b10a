//! The receiving side of QoS 1 and 2: publishes of this client that wait to be acknowledged.
//!
//! ```text
//! QoS 1   PUBLISH -> pending -(accepted by every home that was counted)-> PUBACK
//! QoS 2   PUBLISH -> pending + received -(accepted)-> PUBREC -> received -(PUBREL)-> PUBCOMP
//!                                       -(refused)--> PUBREC with an error -> gone
//! ```

use std::collections::VecDeque;

use ahash::AHashMap;

use crate::metrics::AuditError;
use crate::mqtt::{Ack, Packet, PacketId, Properties, QoS, ReasonCode, TopicName};

use super::alias::InboundAliases;
use super::{Output, ProtocolError};

/// Names one publish of a session among those that wait to be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence(u32);

/// What to do with a publish that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Route it. The owner and the homes that have to accept it name it by this number.
    Route(Sequence),
    /// A duplicate of a QoS 2 publish that was routed before: not routed again [MQTT-4.3.3-10].
    Duplicate,
}

/// Publishes of one client, from PUBLISH to the end of their handshake.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// In the order in which they came, because acknowledgements are owed in that order
    /// [MQTT-4.6.0-2], [MQTT-4.6.0-3]; the front has the number `first`.
    pending: VecDeque<Pending>,
    first: u32,
    /// How many of `pending` are of QoS 1 and came on this connection.
    qos1_count: usize,
    /// Packet identifiers of QoS 2 publishes whose PUBREL has not come, and whether their PUBLISH
    /// came on this connection.
    received: AHashMap<PacketId, bool>,
    /// Publishes that came on this connection and whose handshake has not ended.
    unsettled_count: usize,
    aliases: Option<Box<InboundAliases>>,
    /// The most entries that `received` has had: its memory is not given back before all is.
    received_count_max: usize,
    /// Bytes of memory that are charged for all of it.
    charged: usize,
}

#[derive(Debug)]
struct Pending {
    packet_id: PacketId,
    qos: QoS,
    /// Homes that were counted and have not accepted; below zero while an acceptance has overtaken
    /// the count.
    outstanding: i32,
    /// What it is acknowledged with.
    reason: ReasonCode,
    /// The owner has said how many homes are to accept it.
    counted: bool,
    /// The connection that it came on, or came again on, is still there to be answered.
    owed: bool,
}

impl Pending {
    fn done(&self) -> bool {
        self.counted && self.outstanding == 0
    }

    fn is_qos2(&self, packet_id: PacketId) -> bool {
        self.packet_id == packet_id && self.qos == QoS::ExactlyOnce
    }
}

impl Inbound {
    /// Publishes that are not yet acknowledged.
    #[must_use]
    pub(super) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Returns the number of publishes of this connection whose handshake has not ended. The
    /// client's send quota, which is reset for each connection, counts the same [MQTT-4.9.0-1].
    pub(super) fn unsettled_count(&self) -> usize {
        self.unsettled_count
    }

    /// Whether a QoS 2 publish with this identifier came on this connection and is between
    /// PUBLISH and PUBREL.
    pub(super) fn is_unsettled(&self, packet_id: PacketId) -> bool {
        self.received.get(&packet_id) == Some(&true)
    }

    /// Compares the counts with what they count.
    pub(super) fn audit(&self) -> Result<(), AuditError> {
        let owed = |p: &&Pending| p.qos == QoS::AtLeastOnce && p.owed;
        let qos1 = self.pending.iter().filter(owed).count();
        let qos2 = self.received.values().filter(|is_unsettled| **is_unsettled).count();
        let compare = |what, charged: usize, held: usize| {
            AuditError::compare(what, charged as u64, held as u64)
        };
        compare("publishes of QoS 1 under way", self.qos1_count, qos1)?;
        compare("publishes under way", self.unsettled_count, qos1 + qos2)?;
        compare("memory of publishes under way", self.charged, self.memory_bytes())
    }

    /// Takes a PUBLISH in; a duplicate is answered at once if its first copy was accepted.
    pub(super) fn handle_publish(
        &mut self,
        qos: QoS,
        packet_id: PacketId,
        out: &mut impl Output,
    ) -> Verdict {
        let earlier = match qos {
            QoS::ExactlyOnce => self.received.insert(packet_id, true),
            _ => None,
        };
        if qos == QoS::ExactlyOnce {
            self.unsettled_count += usize::from(earlier != Some(true));
            if self.received.len() > self.received_count_max {
                self.received_count_max = self.received.len();
                self.recharge(out);
            }
        }
        if earlier.is_some() {
            self.answer_duplicate(packet_id, out);
            return Verdict::Duplicate;
        }
        Verdict::Route(self.add(qos, packet_id, out))
    }

    /// Adds a publish that is owed its acknowledgement after all those before it.
    fn add(&mut self, qos: QoS, packet_id: PacketId, out: &mut impl Output) -> Sequence {
        let sequence = self.first.wrapping_add(self.pending.len() as u32);
        self.qos1_count += usize::from(qos == QoS::AtLeastOnce);
        self.unsettled_count += usize::from(qos == QoS::AtLeastOnce);
        let room = self.pending.capacity();
        self.pending.push_back(Pending {
            packet_id,
            qos,
            outstanding: 0,
            reason: ReasonCode::Success,
            counted: false,
            owed: true,
        });
        if self.pending.capacity() != room {
            self.recharge(out);
        }
        Sequence(sequence)
    }

    /// The owner counted how many homes are still to accept it, or refused it for `reason`.
    pub(super) fn handle_counted(
        &mut self,
        sequence: Sequence,
        homes: u32,
        reason: ReasonCode,
        out: &mut impl Output,
    ) {
        if let Some(pending) = self.find(sequence) {
            debug_assert!(!pending.counted, "an owner counts once");
            pending.counted = true;
            pending.reason = reason;
            pending.outstanding += i32::try_from(homes).expect("below 2^31 homes and groups");
            self.acknowledge(out);
        }
    }

    /// One home that was counted holds the publish for all of its sessions.
    pub(super) fn handle_accepted(&mut self, sequence: Sequence, out: &mut impl Output) {
        if let Some(pending) = self.find(sequence) {
            pending.outstanding -= 1;
            self.acknowledge(out);
        }
    }

    /// The client releases a QoS 2 packet identifier; answered even if it is unknown, because
    /// the PUBCOMP of an earlier connection may have been lost.
    ///
    /// # Errors
    /// The identifier is of a PUBLISH at QoS 1.
    pub(super) fn handle_pubrel(
        &mut self,
        packet_id: PacketId,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        let reason = match self.release(packet_id) {
            true => ReasonCode::Success,
            false if self.is_pending_at_qos1(packet_id) => {
                return Err(ProtocolError::Acknowledgement);
            }
            false => ReasonCode::PacketIdentifierNotFound,
        };
        out.send(&Packet::Pubcomp(ack(packet_id, reason))); // [MQTT-4.3.3-11]
        Ok(())
    }

    /// A publish that is not routed, or was before: its acknowledgement waits for its turn like any
    /// other [MQTT-4.6.0-2], [MQTT-4.6.0-3]. An error ends its handshake.
    pub(super) fn answer_in_turn(
        &mut self,
        qos: QoS,
        packet_id: PacketId,
        reason: ReasonCode,
        out: &mut impl Output,
    ) {
        let sequence = self.add(qos, packet_id, out);
        self.handle_counted(sequence, 0, reason, out);
    }

    /// Returns the topic that an alias of this connection stands for.
    pub(super) fn topic_of_alias(&self, alias: u16) -> Option<&str> {
        self.aliases.as_ref()?.topic(alias)
    }

    /// The topic of a publish with an alias: see [`InboundAliases::resolve`].
    pub(super) fn resolve<'a>(
        &'a mut self,
        alias: u16,
        topic: TopicName<'a>,
        count_max: u16,
        out: &mut impl Output,
    ) -> Result<TopicName<'a>, ProtocolError> {
        let bytes_max = out.allowance().alias_bytes_max.min(out.allowance().held_bytes_max);
        if !topic.is_empty() {
            let aliases = self.aliases.get_or_insert_default();
            let defined = aliases.resolve(alias, topic, count_max, bytes_max).map(drop);
            self.recharge(out);
            return defined.map(|()| topic);
        }
        self.aliases.get_or_insert_default();
        self.recharge(out);
        let aliases = self.aliases.get_or_insert_default();
        aliases.resolve(alias, topic, count_max, bytes_max)
    }

    /// Bytes of memory that it is charged for.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    /// Charges what it has grown by, or gives back what it has shrunk by.
    fn recharge(&mut self, out: &mut impl Output) {
        let bytes = self.memory_bytes();
        if bytes != self.charged {
            out.charge(bytes.wrapping_sub(self.charged).cast_signed());
            self.charged = bytes;
        }
    }

    fn memory_bytes(&self) -> usize {
        let slots = table_slots(self.received_count_max);
        let received_bytes = slots * (size_of::<(PacketId, bool)>() + 1);
        let pending_bytes = self.pending.capacity() * size_of::<Pending>();
        let aliases_bytes = self.aliases.as_ref().map_or(0, |aliases| aliases.memory_bytes());
        let bytes = received_bytes + pending_bytes + aliases_bytes;
        if bytes == 0 { 0 } else { size_of::<Self>() + bytes }
    }

    /// Returns true if there is nothing left to keep, and no answer will come either.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.received.is_empty() && self.aliases.is_none()
    }

    /// The connection is gone: what was asked on it is not answered on the next one, where the
    /// client sends it again.
    pub(super) fn handle_disconnected(&mut self, out: &mut impl Output) {
        for pending in &mut self.pending {
            pending.owed = false;
        }
        self.qos1_count = 0;
        self.received.values_mut().for_each(|is_unsettled| *is_unsettled = false);
        self.unsettled_count = 0;
        self.aliases = None;
        self.recharge(out);
    }

    /// Ends a QoS 2 handshake; false if there was none.
    fn release(&mut self, packet_id: PacketId) -> bool {
        let released = self.received.remove(&packet_id);
        self.unsettled_count -= usize::from(released == Some(true));
        released.is_some()
    }

    fn find(&mut self, sequence: Sequence) -> Option<&mut Pending> {
        self.pending.get_mut(sequence.0.wrapping_sub(self.first) as usize)
    }

    /// An identifier names one publish at a time.
    pub(super) fn is_used_otherwise(&self, qos: QoS, packet_id: PacketId) -> bool {
        match qos {
            QoS::ExactlyOnce => self.is_pending_at_qos1(packet_id),
            _ => self.received.contains_key(&packet_id),
        }
    }

    /// Whether a publish that came on this connection has this identifier.
    pub(super) fn is_used(&self, packet_id: PacketId) -> bool {
        self.is_unsettled(packet_id) || self.is_pending_at_qos1(packet_id)
    }

    fn is_pending_at_qos1(&self, packet_id: PacketId) -> bool {
        let is_it = |p: &Pending| p.packet_id == packet_id && p.qos == QoS::AtLeastOnce && p.owed;
        self.qos1_count > 0 && self.pending.iter().any(is_it)
    }

    /// PUBREC is due after those of the publishes that came on this connection before
    /// [MQTT-4.6.0-3], which may be an earlier one that was refused and came again.
    fn answer_duplicate(&mut self, packet_id: PacketId, out: &mut impl Output) {
        let first = self.pending.iter().rposition(|p| p.is_qos2(packet_id));
        let is_last = !self.pending.range(first.map_or(0, |at| at + 1)..).any(|p| p.owed);
        match first {
            Some(first) if self.pending[first].owed => {}
            Some(first) if is_last => self.pending[first].owed = true,
            Some(_) => _ = self.add(QoS::ExactlyOnce, packet_id, out), // It waits for the first.
            None if is_last => out.send(&Packet::Pubrec(Ack::success(packet_id))),
            None => self.answer_in_turn(QoS::ExactlyOnce, packet_id, ReasonCode::Success, out),
        }
    }

    fn acknowledge(&mut self, out: &mut impl Output) {
        while self.pending.front().is_some_and(Pending::done) {
            let pending = self.pending.pop_front().expect("the front was just seen");
            self.first = self.first.wrapping_add(1);
            if pending.qos == QoS::AtLeastOnce {
                self.qos1_count -= usize::from(pending.owed);
                self.unsettled_count -= usize::from(pending.owed);
            } else if pending.reason.is_error() {
                self.release(pending.packet_id); // [MQTT-4.3.3-9]
            }
            if pending.owed {
                send_ack(pending.qos, pending.packet_id, pending.reason, out);
            } else if let Some(again) =
                self.pending.iter_mut().find(|p| p.is_qos2(pending.packet_id))
            {
                (again.counted, again.reason) = (true, pending.reason);
            }
        }
    }
}

/// Slots of a hash table that has had `count` entries.
fn table_slots(count: usize) -> usize {
    if count == 0 { 0 } else { (count * 8 / 7).next_power_of_two().max(4) }
}

/// PUBREC at QoS 2 [MQTT-4.3.3-8], PUBACK at QoS 1 [MQTT-4.3.2-4].
fn send_ack(qos: QoS, packet_id: PacketId, reason: ReasonCode, out: &mut impl Output) {
    match qos {
        QoS::ExactlyOnce => out.send(&Packet::Pubrec(ack(packet_id, reason))),
        _ => out.send(&Packet::Puback(ack(packet_id, reason))),
    }
}

/// Before 5.0 the reason is not written.
fn ack(packet_id: PacketId, reason: ReasonCode) -> Ack<'static> {
    Ack { packet_id, reason, properties: Properties::EMPTY }
}
