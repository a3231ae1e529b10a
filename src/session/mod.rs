//! One client's protocol, without input or output.
//!
//! A [`Session`] outlives its connections. Packets come in through [`Session::handle_packet`],
//! deliveries through [`Session::handle_delivery`]; bytes leave through [`Output`]. What needs
//! other sessions (a publish to route, filters to place) is returned as an [`Ask`], so that the
//! shard can answer it while no session is borrowed.

mod alias;
mod error;
mod inbound;
mod keep_alive;
mod outbound;
mod output;
mod piece;
mod publication;
mod queue;
mod time;

#[cfg(test)]
mod tests;

pub use alias::{Naming, OutboundAliases};
pub use error::ProtocolError;
pub use inbound::Sequence;
pub use keep_alive::KeepAlive;
pub use outbound::AT_ONCE_MAX;
pub use output::{Allowance, Output, Reach};
pub use publication::{Delivery, Extras, Outgoing, Publication, Terms, is_payload_valid};
pub use time::Time;

use inbound::{Inbound, Verdict};
use outbound::Outbound;

use crate::config::Limits;
use crate::metrics::{AuditError, DropCause};
use crate::mqtt::{
    Ack, Auth, Disconnect, Packet, PacketId, PacketSet, PacketType, Properties, Publish, QoS,
    ReasonCode, Suback, Subscribe, TopicName, Unsuback, Unsubscribe,
};

/// What the handshakes of a client may take however short memory is.
const SHARE_BYTES_MIN: usize = 16 * 1024;

/// A session that stays until a client ends it.
pub const NEVER: u32 = u32::MAX;

/// What a packet asks of the shard.
#[derive(Debug)]
pub enum Ask<'p> {
    /// Nothing: the packet was a matter between client and session.
    Nothing,
    /// Route this publish; acknowledge it under this number (none at QoS 0).
    Publish(Incoming, Option<Sequence>),
    /// Place these filters and answer with SUBACK.
    Subscribe(Subscribe<'p>),
    /// Remove these filters and answer with UNSUBACK.
    Unsubscribe(Unsubscribe<'p>),
    /// The client leaves.
    Disconnect(Disconnect<'p>),
    /// The client goes on with its authentication.
    Authenticate(Auth<'p>),
}

/// What of a publish goes on to subscribers.
#[derive(Debug)]
pub enum Incoming {
    /// All of it as it came.
    Whole,
    /// This: the rest was for this broker only.
    Kept(Publication),
}

/// What a CONNECT agrees on for the session and its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// Seconds that the session outlives its connection; [`NEVER`] for one that never expires.
    pub expiry_interval_s: u32,
    /// Deliveries of QoS 1 and 2 that may be unacknowledged at a time.
    pub window: u16,
    /// The highest topic alias that the client may use; 0 before 5.0, which has none.
    pub alias_count_max: u16,
    /// Publishes of QoS 1 and 2 that the client may have under way; no such rule before 5.0.
    pub receive_count_max: Option<u16>,
    /// Whether the client may publish with RETAIN; always before 5.0, where it is not told.
    pub may_retain: bool,
}

/// Deliveries that a session holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Waiting, not yet sent.
    pub queued: u64,
    /// Sent and not acknowledged.
    pub in_flight: u64,
}

/// A client's state that outlives its connection.
#[derive(Debug)]
pub struct Session {
    client_id: Box<str>,
    expiry_interval_s: u32,
    window: u16,
    alias_count_max: u16,
    receive_count_max: Option<u16>,
    may_retain: bool,
    /// Storage was told that it began.
    is_recorded: bool,
    inbound: Option<Box<Inbound>>,
    outbound: Option<Box<Outbound>>,
}

impl Session {
    /// A session without any state.
    #[must_use]
    pub fn new(client_id: &str, agreement: &Agreement) -> Self {
        let mut session = Self {
            client_id: client_id.into(),
            expiry_interval_s: 0,
            window: 0,
            alias_count_max: 0,
            receive_count_max: None,
            may_retain: true,
            is_recorded: false,
            inbound: None,
            outbound: None,
        };
        session.agree(agreement);
        session
    }

    /// The client identifier.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether the session is kept when its connection ends.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.expiry_interval_s > 0
    }

    /// Whether storage was told that the session began.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// Notes that storage has a record of the session's begin. Returns whether that is new.
    pub fn record(&mut self) -> bool {
        !std::mem::replace(&mut self.is_recorded, true)
    }

    /// Seconds that the session outlives its connection; [`NEVER`] for one that never expires.
    #[must_use]
    pub fn expiry_interval_s(&self) -> u32 {
        self.expiry_interval_s
    }

    /// Returns the topic that an alias of the client stands for.
    #[must_use]
    pub fn topic_of_alias(&self, alias: u16) -> Option<&str> {
        self.inbound.as_ref()?.topic_of_alias(alias)
    }

    /// Publishes of the client that it has not been given an acknowledgement for.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.inbound.as_ref().map_or(0, |inbound| inbound.pending_count())
    }

    /// Publishes of the client on this connection whose handshake has not ended.
    #[must_use]
    pub fn unsettled_count(&self) -> usize {
        self.inbound.as_ref().map_or(0, |inbound| inbound.unsettled_count())
    }

    /// Deliveries that wait in the queue.
    #[must_use]
    pub fn queued_count(&self) -> usize {
        self.outbound.as_ref().map_or(0, |outbound| outbound.queued_count())
    }

    /// Deliveries that were sent and are not acknowledged.
    #[must_use]
    pub fn inflight_count(&self) -> usize {
        self.outbound.as_ref().map_or(0, |outbound| outbound.inflight_count())
    }

    /// Bytes of memory that the session is charged for, and those of its deliveries, shared or not.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let inbound = self.inbound.as_ref().map_or(0, |inbound| inbound.charged());
        let outbound = |it: &Outbound| it.charged() + it.delivery_bytes();
        inbound + self.outbound.as_deref().map_or(0, outbound)
    }

    /// Bytes of memory that were reported by [`Output::charge`] and not given back.
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        let inbound = self.inbound.as_ref().map_or(0, |inbound| inbound.charged());
        inbound + self.outbound.as_ref().map_or(0, |outbound| outbound.charged())
    }

    /// Compares what is counted of this session with what it holds.
    ///
    /// # Errors
    /// The first figure that does not agree with what is there.
    pub fn audit(&self) -> Result<Held, AuditError> {
        if let Some(inbound) = &self.inbound {
            inbound.audit()?;
        }
        self.outbound.as_ref().map_or_else(|| Ok(Held::default()), |outbound| outbound.audit())
    }

    /// DISCONNECT may change how long the session is kept, but not from nothing
    /// (clause 3.14.2.2.2 of 5.0).
    ///
    /// # Errors
    /// The session was to end with its connection.
    pub fn handle_expiry_interval(&mut self, interval_s: u32) -> Result<(), ProtocolError> {
        if self.expiry_interval_s == 0 && interval_s > 0 {
            return Err(ProtocolError::SessionExpiry);
        }
        self.expiry_interval_s = interval_s;
        Ok(())
    }

    /// The client is back.
    pub fn handle_resumed(&mut self, agreement: &Agreement, out: &mut impl Output) {
        self.agree(agreement);
        if let Some(outbound) = &mut self.outbound {
            outbound.handle_resumed(self.window, out);
        }
    }

    /// The connection is gone; the session stays.
    pub fn handle_disconnected(&mut self, out: &mut impl Output) {
        if let Some(inbound) = &mut self.inbound {
            inbound.handle_disconnected(out);
        }
        let inbound = self.inbound.take_if(|inbound| inbound.is_empty());
        let outbound = self.outbound.take_if(|outbound| outbound.is_empty());
        let freed = inbound.map_or(0, |it| it.charged()) + outbound.map_or(0, |it| it.charged());
        out.charge(freed.cast_signed().wrapping_neg());
    }

    /// The session itself is over. Its deliveries are given up one by one, with
    /// [`Self::give_up_next`].
    pub fn handle_ended(&mut self, out: &mut impl Output) {
        let inbound = self.inbound.take();
        let freed = inbound.map_or(0, |inbound| inbound.charged());
        out.charge(freed.cast_signed().wrapping_neg());
        if let Some(outbound) = &mut self.outbound {
            outbound.put_in_order(out);
        }
    }

    /// Drops and counts the next delivery of a session that is over, and gives it back if another
    /// member of a group may have it; false if none is left.
    pub fn give_up_next(&mut self, out: &mut impl Output) -> bool {
        let Some(outbound) = &mut self.outbound else { return false };
        if outbound.give_up_next(out) {
            return true;
        }
        out.charge(outbound.charged().cast_signed().wrapping_neg());
        self.outbound = None;
        false
    }

    /// One packet from the client, any but its CONNECT.
    ///
    /// # Errors
    /// What the client did wrong; the connection must be closed [MQTT-4.13.1-1].
    pub fn handle_packet<'p>(
        &mut self,
        packet: &Packet<'p>,
        out: &mut impl Output,
    ) -> Result<Ask<'p>, ProtocolError> {
        match *packet {
            Packet::Publish(publish) => {
                let routed = self.handle_publish(&publish, out)?;
                return Ok(routed.map_or(Ask::Nothing, |(it, sequence)| Ask::Publish(it, sequence)));
            }
            Packet::Puback(ack)
            | Packet::Pubrec(ack)
            | Packet::Pubrel(ack)
            | Packet::Pubcomp(ack) => {
                self.handle_ack(packet.kind(), ack, out)?;
                return Ok(Ask::Nothing);
            }
            Packet::Subscribe(subscribe) if self.is_used(subscribe.packet_id) => {
                refuse_subscribe(&subscribe, out);
            }
            Packet::Unsubscribe(unsubscribe) if self.is_used(unsubscribe.packet_id) => {
                refuse_unsubscribe(&unsubscribe, out);
            }
            Packet::Subscribe(subscribe) => return Ok(Ask::Subscribe(subscribe)),
            Packet::Unsubscribe(unsubscribe) => return Ok(Ask::Unsubscribe(unsubscribe)),
            Packet::Pingreq => out.send(&Packet::Pingresp), // [MQTT-3.12.4-1]
            Packet::Disconnect(disconnect) => {
                if !disconnect.reason.is_valid_in(PacketSet::CLIENT_DISCONNECT) {
                    return Err(ProtocolError::ServerReason); // [MQTT-3.14.2-1]
                }
                return Ok(Ask::Disconnect(disconnect));
            }
            Packet::Auth(auth) => return Ok(Ask::Authenticate(auth)),
            Packet::Connect(_) => return Err(ProtocolError::SecondConnect),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return Err(ProtocolError::ServerOnly);
            }
        }
        self.send_more(out);
        Ok(Ask::Nothing)
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP from the client, as [`Self::handle_packet`] takes it.
    ///
    /// # Errors
    /// What the client did wrong; the connection must be closed [MQTT-4.13.1-1].
    pub fn handle_ack(
        &mut self,
        kind: PacketType,
        ack: Ack<'_>,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        match kind {
            PacketType::Puback => self.outbound().handle_puback(ack, out)?,
            PacketType::Pubrec => self.outbound().handle_pubrec(ack, out)?,
            PacketType::Pubcomp => self.outbound().handle_pubcomp(ack.packet_id, out)?,
            _ => self.inbound().handle_pubrel(ack.packet_id, out)?,
        }
        self.send_more(out);
        Ok(())
    }

    /// A PUBLISH from the client, as [`Self::handle_packet`] takes it: what is to be routed of it,
    /// and under which number it is acknowledged.
    ///
    /// # Errors
    /// What the client did wrong; the connection must be closed [MQTT-4.13.1-1].
    pub fn handle_publish(
        &mut self,
        publish: &Publish<'_>,
        out: &mut impl Output,
    ) -> Result<Option<(Incoming, Option<Sequence>)>, ProtocolError> {
        if publish.retain && !self.may_retain {
            return Err(ProtocolError::Retain); // [MQTT-3.2.2-14]
        }
        let incoming = self.take_in(publish, out)?;
        let Some(packet_id) = publish.packet_id else {
            if !is_payload_valid(publish.properties, publish.payload) {
                return Err(ProtocolError::PayloadFormat);
            }
            return Ok(Some((incoming, None)));
        };
        self.judge_quota(publish)?;
        let is_v5 = self.receive_count_max.is_some();
        let inbound = self.inbound();
        let error = if !is_payload_valid(publish.properties, publish.payload) {
            Some(ReasonCode::PayloadFormatInvalid)
        } else {
            let is_used = is_v5 && inbound.is_used_otherwise(publish.qos, packet_id);
            is_used.then_some(ReasonCode::PacketIdentifierInUse)
        };
        if let Some(reason) = error {
            inbound.answer_in_turn(publish.qos, packet_id, reason, out);
            return Ok(None);
        }
        // Judged before anything is kept of it: what is not routed is never acknowledged.
        if inbound.charged() > out.allowance().held_bytes_max.max(SHARE_BYTES_MIN) {
            return Err(ProtocolError::OverShare);
        }
        Ok(match inbound.handle_publish(publish.qos, packet_id, out) {
            Verdict::Route(sequence) => Some((incoming, Some(sequence))),
            Verdict::Duplicate => None,
        })
    }

    /// A publish of the client that is not routed, and why; before 5.0 the client is not told.
    ///
    /// # Errors
    /// The client had too many under way; the connection must be closed.
    pub fn refuse_publish(
        &mut self,
        publish: &Publish<'_>,
        reason: ReasonCode,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        let Some(packet_id) = publish.packet_id else { return Ok(()) };
        self.judge_quota(publish)?;
        self.inbound().answer_in_turn(publish.qos, packet_id, reason, out);
        Ok(())
    }

    /// One publish for this client, on the terms that were worked out for it.
    pub fn handle_delivery(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        terms: &Terms,
        limits: &Limits,
        out: &mut impl Output,
    ) {
        out.ledger().matched += 1;
        if outgoing.expiry().is_some_and(|expiry| expiry <= out.now()) {
            return out.ledger().drop_one(DropCause::Expired); // [MQTT-3.3.2-5]
        }
        if !out.fits(outgoing, terms) {
            return give_up(outgoing, terms, out);
        }
        let window = self.window;
        match (terms.qos, out.reach()) {
            // Behind those that waited while the client was away.
            (QoS::AtMostOnce, Reach::Open | Reach::Full)
                if limits.queue_qos0_offline && self.queued_count() > 0 =>
            {
                let delivery = Delivery { publication: outgoing.keep(), terms: terms.clone() };
                self.outbound().enqueue(delivery, limits, out);
            }
            (QoS::AtMostOnce, Reach::Open) => {
                out.ledger().delivered += 1;
                out.deliver(outgoing, terms, None, false);
            }
            (QoS::AtMostOnce, Reach::Full) => out.ledger().drop_one(DropCause::OutboxFull),
            (QoS::AtMostOnce, Reach::Offline) if !limits.queue_qos0_offline => {
                out.ledger().drop_one(DropCause::Offline);
            }
            (QoS::AtMostOnce, Reach::Offline) => {
                let delivery = Delivery { publication: outgoing.keep(), terms: terms.clone() };
                self.outbound().enqueue(delivery, limits, out);
            }
            _ => self.outbound().handle_delivery(outgoing, terms, window, limits, out),
        }
    }

    /// The owner of a publish's topic counted the homes that are still to accept it, or refused it.
    pub fn handle_counted(
        &mut self,
        sequence: Sequence,
        homes: u32,
        reason: ReasonCode,
        out: &mut impl Output,
    ) {
        if let Some(inbound) = &mut self.inbound {
            inbound.handle_counted(sequence, homes, reason, out);
        }
    }

    /// One of the homes that were counted has accepted a publish of this client.
    pub fn handle_accepted(&mut self, sequence: Sequence, out: &mut impl Output) {
        if let Some(inbound) = &mut self.inbound {
            inbound.handle_accepted(sequence, out);
        }
    }

    /// What was sent is written: the outbox has room again.
    pub fn handle_room(&mut self, out: &mut impl Output) {
        if let Some(outbound) = &mut self.outbound {
            outbound.handle_written(self.window, out);
        }
    }

    /// The window may have room again.
    fn send_more(&mut self, out: &mut impl Output) {
        if let Some(outbound) = &mut self.outbound {
            outbound.handle_room(self.window, out);
        }
    }

    fn agree(&mut self, agreement: &Agreement) {
        self.expiry_interval_s = agreement.expiry_interval_s;
        self.window = agreement.window;
        self.receive_count_max = agreement.receive_count_max;
        self.may_retain = agreement.may_retain;
        self.alias_count_max = agreement.alias_count_max;
    }

    /// Takes out of a publish what is meant for this broker only.
    fn take_in(
        &mut self,
        publish: &Publish<'_>,
        out: &mut impl Output,
    ) -> Result<Incoming, ProtocolError> {
        if publish.properties.are_forwarded() {
            return Ok(Incoming::Whole);
        }
        if publish.properties.subscription_identifiers().next().is_some() {
            return Err(ProtocolError::SubscriptionIdentifier); // [MQTT-3.3.4-6]
        }
        let topic = match publish.properties.topic_alias() {
            Some(alias) => {
                let count_max = self.alias_count_max;
                self.inbound().resolve(alias, publish.topic, count_max, out)?
            }
            None => publish.topic,
        };
        debug_assert!(topic != TopicName::ALIASED, "an alias stands for a topic");
        let publish = Publish { topic, ..*publish };
        let meter = out.allowance().meter;
        Ok(Incoming::Kept(Publication::metered(&publish, out.now(), meter)))
    }

    /// The client must not have more under way than it was told [MQTT-3.3.4-7].
    fn judge_quota(&mut self, publish: &Publish<'_>) -> Result<(), ProtocolError> {
        let Some(count_max) = self.receive_count_max else { return Ok(()) };
        let inbound = self.inbound();
        let is_known = publish.packet_id.is_some_and(|id| inbound.is_unsettled(id));
        if !is_known && inbound.unsettled_count() >= count_max.into() {
            return Err(ProtocolError::ReceiveMaximum);
        }
        Ok(())
    }

    /// Whether an identifier names a publish of this connection that is under way
    /// [MQTT-2.2.1-3]; never before 5.0, which has no word for it.
    #[must_use]
    pub fn is_used(&self, packet_id: PacketId) -> bool {
        let is_v5 = self.receive_count_max.is_some();
        is_v5 && self.inbound.as_ref().is_some_and(|inbound| inbound.is_used(packet_id))
    }

    fn inbound(&mut self) -> &mut Inbound {
        self.inbound.get_or_insert_default()
    }

    fn outbound(&mut self) -> &mut Outbound {
        self.outbound.get_or_insert_default()
    }
}

/// A delivery is too large for its client [MQTT-3.1.2-24]; of a shared subscription it is matched
/// again, with another member.
#[cold]
fn give_up(outgoing: &mut Outgoing<'_>, terms: &Terms, out: &mut impl Output) {
    if terms.share().is_none() {
        return out.ledger().drop_one(DropCause::TooLarge);
    }
    out.ledger().matched -= 1;
    out.give_back(Delivery { publication: outgoing.keep(), terms: terms.clone() });
}

const IN_USE: u8 = ReasonCode::PacketIdentifierInUse as u8;

fn refuse_subscribe(subscribe: &Subscribe<'_>, out: &mut impl Output) {
    let reasons = vec![IN_USE; subscribe.subscriptions.iter().count()];
    let (packet_id, properties) = (subscribe.packet_id, Properties::EMPTY);
    out.send(&Packet::Suback(Suback { packet_id, properties, reasons: &reasons }));
}

fn refuse_unsubscribe(unsubscribe: &Unsubscribe<'_>, out: &mut impl Output) {
    let reasons = vec![IN_USE; unsubscribe.filters.iter().count()];
    let (packet_id, properties) = (unsubscribe.packet_id, Properties::EMPTY);
    out.send(&Packet::Unsuback(Unsuback { packet_id, properties, reasons: &reasons }));
}
