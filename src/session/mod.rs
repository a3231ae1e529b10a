//! One client's protocol, without input or output.
//!
//! A [`Session`] outlives its connections. Packets come in through [`Session::handle_packet`],
//! deliveries through [`Session::handle_delivery`]; bytes leave through [`Output`]. What needs
//! other sessions (a publish to route, filters to place) is returned as an [`Ask`], so that the
//! shard can answer it while no session is borrowed.

mod error;
mod inbound;
mod keep_alive;
mod outbound;
mod output;
mod publication;
mod queue;
mod time;

#[cfg(test)]
mod tests;

pub use error::ProtocolError;
pub use inbound::Sequence;
pub use keep_alive::KeepAlive;
pub use output::{Output, Reach};
pub use publication::{Delivery, Outgoing, Publication};
pub use time::Time;

use inbound::{Inbound, Verdict};
use outbound::Outbound;

use crate::config::Limits;
use crate::metrics::DropCause;
use crate::mqtt::{Packet, Publish, QoS, Subscribe, Unsubscribe};

/// What a packet asks of the shard.
#[derive(Debug)]
pub enum Ask<'p> {
    /// Nothing: the packet was a matter between client and session.
    Nothing,
    /// Route this publish; acknowledge it under this number (none at QoS 0).
    Publish(Publish<'p>, Option<Sequence>),
    /// Place these filters and answer with SUBACK.
    Subscribe(Subscribe<'p>),
    /// Remove these filters and answer with UNSUBACK.
    Unsubscribe(Unsubscribe<'p>),
    /// The client leaves and its will is void [MQTT-3.14.4-3].
    Disconnect,
}

/// A client's state that outlives its connection.
#[derive(Debug)]
pub struct Session {
    client_id: Box<str>,
    /// Deliveries of QoS 1 and 2 that may be unacknowledged at a time.
    window: u16,
    persistent: bool,
    inbound: Option<Box<Inbound>>,
    outbound: Option<Box<Outbound>>,
}

impl Session {
    /// A session without any state; `window` is the limit of unacknowledged deliveries.
    #[must_use]
    pub fn new(client_id: &str, persistent: bool, window: u16) -> Self {
        Self { client_id: client_id.into(), window, persistent, inbound: None, outbound: None }
    }

    /// The client identifier.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether the session is kept when its connection ends.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Publishes of the client that it has not been given an acknowledgement for.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.inbound.as_ref().map_or(0, |inbound| inbound.pending_count())
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

    /// The client is back: `persistent` and `window` are those of the new connection.
    pub fn handle_resumed(&mut self, persistent: bool, window: u16, out: &mut impl Output) {
        self.persistent = persistent;
        self.window = window;
        if let Some(outbound) = &mut self.outbound {
            outbound.handle_resumed(out);
            outbound.handle_room(window, out);
        }
    }

    /// The connection is gone; the session stays.
    pub fn handle_disconnected(&mut self) {
        if let Some(inbound) = &mut self.inbound {
            inbound.handle_disconnected();
        }
        if self.outbound.as_ref().is_some_and(|outbound| outbound.is_empty()) {
            self.outbound = None;
        }
    }

    /// The session itself is over.
    pub fn handle_ended(&mut self, out: &mut impl Output) {
        if let Some(outbound) = &mut self.outbound {
            outbound.handle_ended(out);
        }
    }

    /// One packet from the client, any but its CONNECT.
    ///
    /// # Errors
    /// What the client did wrong; the connection must be closed [MQTT-4.8.0-1].
    pub fn handle_packet<'p>(
        &mut self,
        packet: Packet<'p>,
        out: &mut impl Output,
    ) -> Result<Ask<'p>, ProtocolError> {
        match packet {
            Packet::Publish(publish) => return Ok(self.handle_publish(publish, out)),
            Packet::Puback(ack) => self.outbound().handle_puback(ack.packet_id, out),
            Packet::Pubrec(ack) => self.outbound().handle_pubrec(ack.packet_id, out),
            Packet::Pubrel(ack) => self.inbound().handle_pubrel(ack.packet_id, out),
            Packet::Pubcomp(ack) => self.outbound().handle_pubcomp(ack.packet_id, out),
            Packet::Subscribe(subscribe) => return Ok(Ask::Subscribe(subscribe)),
            Packet::Unsubscribe(unsubscribe) => return Ok(Ask::Unsubscribe(unsubscribe)),
            Packet::Pingreq => out.send(&Packet::Pingresp), // [MQTT-3.12.4-1]
            Packet::Disconnect(_) => return Ok(Ask::Disconnect),
            Packet::Connect(_) => return Err(ProtocolError::SecondConnect),
            Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp
            | Packet::Auth(_) => return Err(ProtocolError::ServerOnly),
        }
        self.handle_room(out);
        Ok(Ask::Nothing)
    }

    /// One publish for this client, at the QoS that was worked out for it.
    pub fn handle_delivery(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        qos: QoS,
        retain: bool,
        limits: &Limits,
        out: &mut impl Output,
    ) {
        out.ledger().matched += 1;
        let window = self.window;
        match (qos, out.reach()) {
            (QoS::AtMostOnce, Reach::Open) => {
                out.ledger().delivered += 1;
                out.deliver(outgoing, qos, retain, None, false);
            }
            (QoS::AtMostOnce, Reach::Full) => out.ledger().drop_one(DropCause::OutboxFull),
            (QoS::AtMostOnce, Reach::Offline) if !limits.queue_qos0_offline => {
                out.ledger().drop_one(DropCause::Offline);
            }
            (QoS::AtMostOnce, Reach::Offline) => {
                let delivery = Delivery { publication: outgoing.keep(), qos, retain };
                self.outbound().enqueue(delivery, limits, out);
            }
            _ => self.outbound().handle_delivery(outgoing, qos, retain, window, limits, out),
        }
    }

    /// The owner of a publish's topic counted the homes that matched it.
    pub fn handle_counted(&mut self, sequence: Sequence, homes: u32, out: &mut impl Output) {
        if let Some(inbound) = &mut self.inbound {
            inbound.handle_counted(sequence, homes, out);
        }
    }

    /// One matched home has accepted a publish of this client.
    pub fn handle_accepted(&mut self, sequence: Sequence, out: &mut impl Output) {
        if let Some(inbound) = &mut self.inbound {
            inbound.handle_accepted(sequence, out);
        }
    }

    /// The outbox or the window may have room again.
    pub fn handle_room(&mut self, out: &mut impl Output) {
        if let Some(outbound) = &mut self.outbound {
            outbound.handle_room(self.window, out);
        }
    }

    fn handle_publish<'p>(&mut self, publish: Publish<'p>, out: &mut impl Output) -> Ask<'p> {
        if publish.packet_id.is_none() {
            return Ask::Publish(publish, None);
        }
        match self.inbound().handle_publish(publish.qos, publish.packet_id, out) {
            Verdict::Route(sequence) => Ask::Publish(publish, sequence),
            Verdict::Duplicate => Ask::Nothing,
        }
    }

    fn inbound(&mut self) -> &mut Inbound {
        self.inbound.get_or_insert_default()
    }

    fn outbound(&mut self) -> &mut Outbound {
        self.outbound.get_or_insert_default()
    }
}
