//! `session::Output` as a shard fills it: the outbox of the session's connection, if it has one.

use crate::metrics::{Counters, Ledger};
use crate::mqtt::{
    Layout, PACKET_BYTES_MAX, Packet, PacketId, Properties, Property, Publish, QoS, TopicName,
    Version,
};
use crate::session::{
    Allowance, Delivery, Naming, OutboundAliases, Outgoing, Output, Reach, Terms, Time,
};

use super::{ConnectionId, Outbox};

/// A payload from this size on is shared between outboxes instead of copied into each.
pub(super) const SHARED_PAYLOAD_BYTES_MIN: usize = 16 * 1024;
/// A publish with less than this in payload and properties is no larger than a packet may be,
/// whatever a delivery of it adds.
const SURELY_FITS_BYTES: usize = PACKET_BYTES_MAX / 2;
/// Maximum packet size of a client that named none: what the format allows.
pub(super) const UNLIMITED: u32 = PACKET_BYTES_MAX as u32;

/// What a connection's client speaks and takes.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) version: Version,
    /// The largest packet that it takes [MQTT-3.1.2-24].
    pub(super) packet_bytes_max: u32,
    /// Its subscriptions get the retain flag as it was published, and nothing back that it has
    /// published itself.
    pub(super) is_bridge: bool,
    /// None if it takes no topic aliases.
    pub(super) aliases: Option<Box<OutboundAliases>>,
}

impl Peer {
    pub(super) fn new(version: Version, packet_bytes_max: u32) -> Self {
        let packet_bytes_max = packet_bytes_max.min(UNLIMITED);
        Self { version, packet_bytes_max, is_bridge: false, aliases: None }
    }

    /// Bytes of memory that its aliases take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.aliases.as_ref().map_or(0, |aliases| aliases.memory_bytes())
    }
}

/// The way from one session to its client.
pub(super) struct Wire<'a, O> {
    pub(super) out: &'a mut O,
    /// None while the client is offline.
    pub(super) connection: Option<ConnectionId>,
    pub(super) outbox_bytes_max: usize,
    pub(super) peer: &'a mut Peer,
    pub(super) counters: &'a mut Counters,
    pub(super) allowance: &'a Allowance,
    pub(super) layouts: &'a mut Layouts,
    /// See [`super::Shard::given_back`].
    pub(super) given_back: &'a mut Vec<Delivery>,
    /// All deliveries are of the publish that `layouts` was cleared for, and there are many.
    pub(super) is_fan_out: bool,
    pub(super) now: Time,
}

impl<O: super::Output> Output for Wire<'_, O> {
    fn now(&self) -> Time {
        self.now
    }

    fn reach(&mut self) -> Reach {
        let Some(connection) = self.connection else { return Reach::Offline };
        if self.out.outbox_len(connection) < self.outbox_bytes_max {
            return Reach::Open;
        }
        self.ask_for_room();
        Reach::Full
    }

    fn ask_for_room(&mut self) {
        if let Some(connection) = self.connection {
            self.out.outbox(connection).want_drained(self.outbox_bytes_max / 2);
        }
    }

    fn fits(&mut self, outgoing: &mut Outgoing<'_>, terms: &Terms) -> bool {
        let Peer { version, packet_bytes_max, .. } = *self.peer;
        let ids = terms.subscription_ids();
        self.connection.is_none() || takes(version, packet_bytes_max, outgoing, terms.qos, ids)
    }

    fn give_back(&mut self, delivery: Delivery) {
        self.given_back.push(delivery);
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let Peer { version, packet_bytes_max, .. } = *self.peer;
        let Some(connection) = self.connection else { return };
        let outbox = self.out.outbox(connection);
        let mut is_sent = false;
        outbox.push_with(|buffer| {
            is_sent = encode_within(packet, version, packet_bytes_max, buffer);
        });
        // Acknowledgements and PINGRESP are smaller than CONNACK, and the size of SUBACK and
        // UNSUBACK was judged when they were asked for.
        debug_assert!(is_sent, "no answer is dropped: {packet:?}");
    }

    fn deliver(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        terms: &Terms,
        packet_id: Option<PacketId>,
        dup: bool,
    ) {
        self.count(terms.qos);
        let Some(connection) = self.connection else { return };
        let naming = match self.peer.aliases {
            None => Naming::Name,
            Some(_) => self.name(outgoing, terms, packet_id),
        };
        let outbox = self.out.outbox(connection);
        let version = self.peer.version;
        let is_alike = !dup
            && !terms.retain
            && naming == Naming::Name
            && (!version.is_v5() || (terms.extras.is_none() && outgoing.expiry().is_none()));
        if is_alike && outgoing.view().payload.len() < SHARED_PAYLOAD_BYTES_MIN {
            let (qos, retain) = (terms.qos, false);
            let packet = Publish { dup, qos, retain, packet_id, ..*outgoing.view() };
            if self.is_fan_out {
                return self.layouts.push(&packet, version, outbox);
            }
            return outbox.push_with(|buffer| packet.encode(version, buffer));
        }
        let packet = self.layouts.dress(outgoing, terms, packet_id, dup, self.now, naming);
        if packet.payload.len() < SHARED_PAYLOAD_BYTES_MIN {
            return outbox.push_with(|buffer| packet.encode(version, buffer));
        }
        outbox.push_with(|buffer| _ = packet.encode_head(version, buffer));
        outbox.push_shared(outgoing.keep().shared_payload());
    }

    fn allowance(&self) -> Allowance {
        *self.allowance
    }

    fn charge(&mut self, change: isize) {
        charge(self.counters, change);
    }

    fn ledger(&mut self) -> &mut Ledger {
        &mut self.counters.ledger
    }
}

fn charge(counters: &mut Counters, change: isize) {
    counters.session_bytes = counters.session_bytes.wrapping_add_signed(change as i64);
}

impl<O> Wire<'_, O> {
    /// How to name the topic, which is remembered; an alias is not defined where the packet would
    /// become too large by it.
    fn name(
        &mut self,
        outgoing: &Outgoing<'_>,
        terms: &Terms,
        packet_id: Option<PacketId>,
    ) -> Naming {
        let Peer { version, packet_bytes_max, ref mut aliases, .. } = *self.peer;
        let Some(aliases) = aliases else { return Naming::Name };
        let topic = outgoing.view().topic.as_str();
        let naming = aliases.naming(topic);
        let packet = self.layouts.dress(outgoing, terms, packet_id, false, self.now, naming);
        if packet.encoded_len(version) > packet_bytes_max as usize {
            return Naming::Name; // A short topic is shorter than its alias.
        }
        if let Naming::Define(alias) = naming {
            let before = aliases.memory_bytes();
            aliases.define(topic, alias);
            charge(self.counters, (aliases.memory_bytes() - before).cast_signed());
        }
        naming
    }

    fn count(&mut self, qos: QoS) {
        *match qos {
            QoS::AtMostOnce => &mut self.counters.deliveries_sent_qos0,
            QoS::AtLeastOnce => &mut self.counters.deliveries_sent_qos1,
            QoS::ExactlyOnce => &mut self.counters.deliveries_sent_qos2,
        } += 1;
    }
}

/// Whether a client takes the packet that a publish becomes for it, with its topic by name. The
/// owner of a shared subscription asks the same of its members.
#[inline]
pub(super) fn takes(
    version: Version,
    packet_bytes_max: u32,
    outgoing: &Outgoing<'_>,
    qos: QoS,
    subscription_ids: &[u32],
) -> bool {
    let Publish { payload, properties, .. } = outgoing.view();
    let is_small = payload.len() + properties.raw().len() < SURELY_FITS_BYTES;
    if packet_bytes_max == UNLIMITED && is_small {
        return true;
    }
    let expiry = outgoing.expiry().map(|_| Property::MessageExpiryIntervalS(0));
    let ids = subscription_ids.iter().map(|id| Property::SubscriptionIdentifier(*id));
    let more_len = expiry.into_iter().chain(ids).map(Property::encoded_len).sum();
    outgoing.view().encoded_len_at(version, qos, more_len) <= packet_bytes_max as usize
}

/// Appends a packet unless the client does not take one of its size [MQTT-3.1.2-24]; false then.
pub(super) fn encode_within(
    packet: &Packet<'_>,
    version: Version,
    packet_bytes_max: u32,
    buffer: &mut Vec<u8>,
) -> bool {
    let start = buffer.len();
    packet.encode(version, buffer);
    let is_within = buffer.len() - start <= packet_bytes_max as usize;
    if !is_within {
        buffer.truncate(start);
    }
    is_within
}

/// One publish, encoded once for each way it can look on the wire; only the packet identifier
/// differs between the subscribers of a layout.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    /// By QoS; 3.1 and 3.1.1 look the same.
    v3: [Encoded; 3],
    v5: [Encoded; 3],
    /// Any of these is encoded.
    is_used: bool,
    /// The properties of a packet that is encoded for one subscriber alone.
    properties: Vec<u8>,
}

#[derive(Debug, Default)]
struct Encoded {
    bytes: Vec<u8>,
    layout: Option<Layout>,
}

impl Layouts {
    /// Forgets the publish before.
    pub(super) fn clear(&mut self) {
        if !std::mem::take(&mut self.is_used) {
            return;
        }
        for encoded in self.v3.iter_mut().chain(&mut self.v5) {
            encoded.layout = None;
            encoded.bytes.clear();
        }
    }

    fn push(&mut self, packet: &Publish<'_>, version: Version, outbox: &mut Outbox) {
        self.is_used = true;
        let by_qos = if version.is_v5() { &mut self.v5 } else { &mut self.v3 };
        let Encoded { bytes, layout } = &mut by_qos[packet.qos as usize];
        let layout = *layout.get_or_insert_with(|| packet.encode_with(version, bytes));
        outbox.push_with(|buffer| {
            let start = buffer.len();
            buffer.extend_from_slice(bytes);
            if let Some(packet_id) = packet.packet_id {
                layout.patch_packet_id(&mut buffer[start..], packet_id);
            }
        });
    }

    /// A delivery with all that 5.0 says of it; before 5.0 the properties are not written.
    fn dress<'a>(
        &'a mut self,
        outgoing: &'a Outgoing<'_>,
        terms: &Terms,
        packet_id: Option<PacketId>,
        dup: bool,
        now: Time,
        naming: Naming,
    ) -> Publish<'a> {
        let publish = outgoing.view();
        let properties = &mut self.properties;
        properties.clear();
        properties.extend_from_slice(publish.properties.raw());
        if let Some(expiry) = outgoing.expiry() {
            let left_s = expiry.since(now).as_millis().div_ceil(1000) as u32; // [MQTT-3.3.2-6]
            Property::MessageExpiryIntervalS(left_s).encode(properties);
        }
        for id in terms.subscription_ids() {
            Property::SubscriptionIdentifier(*id).encode(properties); // [MQTT-3.3.4-3]
        }
        if let Naming::Define(alias) | Naming::Alias(alias) = naming {
            Property::TopicAlias(alias).encode(properties);
        }
        let topic = match naming {
            Naming::Alias(_) => TopicName::ALIASED,
            _ => publish.topic,
        };
        let (qos, retain) = (terms.qos, terms.retain);
        let properties = Properties::from_validated(properties);
        Publish { dup, qos, retain, topic, packet_id, properties, payload: publish.payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AuthRequest, Verdict};
    use crate::mqtt::ReasonCode;
    use crate::routing::ShardId;
    use crate::shard::{Full, Message};
    use crate::storage::{Record, Token};

    /// Nothing may leave.
    struct Nowhere;

    impl crate::shard::Output for Nowhere {
        fn send(&mut self, _: ShardId, message: Message) -> Result<(), Full> {
            Err(Full(message))
        }

        fn outbox(&mut self, _: ConnectionId) -> &mut Outbox {
            unreachable!("nothing is sent")
        }

        fn pause(&mut self, _: ConnectionId, _: bool) {}

        fn persist(&mut self, _: &Record<'_>, _: Token) {}

        fn authenticate(&mut self, _: ConnectionId, _: &AuthRequest<'_>) -> Verdict {
            unreachable!("nobody connects")
        }

        fn close(&mut self, _: ConnectionId, _: ReasonCode) {}
    }

    /// Returns whether a client of 5.0 that takes packets of this size is sent this payload.
    fn fits(payload: &[u8], packet_bytes_max: u32) -> bool {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: TopicName::parse("t").unwrap(),
            packet_id: None,
            properties: Properties::EMPTY,
            payload,
        };
        let mut wire = Wire {
            out: &mut Nowhere,
            connection: Some(ConnectionId { index: 0, generation: 1 }),
            outbox_bytes_max: 1024,
            peer: &mut Peer::new(Version::V5, packet_bytes_max),
            counters: &mut Counters::default(),
            allowance: &Allowance::default(),
            layouts: &mut Layouts::default(),
            given_back: &mut Vec::new(),
            is_fan_out: false,
            now: Time::START,
        };
        wire.fits(&mut Outgoing::borrowed(publish), &Terms::plain(QoS::AtMostOnce, false))
    }

    /// What came as the largest packet of 3.1.1 is one byte too long for 5.0, where every publish
    /// has a length of its properties.
    #[test]
    fn what_no_packet_can_hold_fits_nobody() {
        let payload = vec![0; PACKET_BYTES_MAX - 5 - 3]; // Never read, hence no memory.
        for packet_bytes_max in [UNLIMITED, u32::MAX] {
            assert!(!fits(&payload, packet_bytes_max), "{packet_bytes_max}");
            assert!(fits(&payload[1..], packet_bytes_max), "{packet_bytes_max}");
        }
        assert!(!fits(&payload[1..], UNLIMITED - 1));
    }
}
