//! The protocol state of one client: QoS 1 and 2 flows both ways, and their packet ids.
//!
//! ```text
//! sending,   QoS 1:  begin ─ PUBLISH ─> Published ─ PUBACK ─> free
//!            QoS 2:  begin ─ PUBLISH ─> Published ─ PUBREC ─> Released ─ PUBCOMP ─> free
//! receiving, QoS 2:  PUBLISH ─> unreleased ─ PUBREL ─> free
//! ```

use std::fmt;

use ringmq::mqtt::{
    Ack, DecodeError, Packet, PacketId, PacketType, Publish, QoS, ReasonCode, Version,
};

/// What a broker did that MQTT does not allow, or that makes the measurement meaningless.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Violation {
    Undecodable(DecodeError),
    /// CONNACK with this return code.
    Refused(u8),
    /// A subscription was granted at this QoS (or refused with 0x80).
    Downgraded {
        granted: u8,
        wanted: QoS,
    },
    Unexpected(PacketType),
    /// A packet of 5.0 that says what went wrong.
    Failed(PacketType, ReasonCode),
    UnknownPacketId {
        kind: PacketType,
        packet_id: u16,
    },
    /// More deliveries before SUBACK than are kept.
    Flood {
        byte_count_max: usize,
    },
    /// No PINGRESP came in time.
    Silent,
    /// The session that was left behind is not there any more.
    SessionLost,
    /// There is a session where none was expected.
    SessionLeft,
}

impl std::error::Error for Violation {}

impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Self {
        Self::Undecodable(error)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(error) => write!(f, "the broker sent a malformed packet: {error}"),
            Self::Refused(code) => {
                write!(f, "the broker refused the connection: {}", refusal_name(*code))
            }
            Self::Downgraded { granted: 0x80, .. } => {
                f.write_str("the broker refused to subscribe")
            }
            Self::Downgraded { granted, wanted } => {
                write!(f, "the broker granted QoS {granted} instead of {}", *wanted as u8)
            }
            Self::Unexpected(kind) => write!(f, "the broker sent {kind:?}, which was not due"),
            Self::Failed(kind, reason) => {
                write!(f, "the broker sent {kind:?} with reason {reason:?} ({:#x})", *reason as u8)
            }
            Self::UnknownPacketId { kind, packet_id } => {
                write!(f, "the broker sent {kind:?} for packet id {packet_id}, which was not due")
            }
            Self::Flood { byte_count_max } => {
                write!(f, "the broker sent more than {byte_count_max} bytes before SUBACK")
            }
            Self::SessionLost => f.write_str("the broker has lost the session"),
            Self::SessionLeft => {
                f.write_str("the broker says that there is a session, but there was none")
            }
            Self::Silent => f.write_str("the broker did not answer PINGREQ in time"),
        }
    }
}

fn refusal_name(code: u8) -> &'static str {
    match code {
        1 => "unacceptable protocol version (1)",
        2 => "client id rejected (2)",
        3 => "server unavailable (3)",
        4 => "bad user name or password (4)",
        5 => "not authorized (5)",
        _ => "unknown return code",
    }
}

/// A message that is on its way to the broker at QoS 1 or 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InFlight {
    /// The number of the message among those of its publisher.
    pub(crate) index: u64,
    pub(crate) intended_ns: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Free,
    Published,
    Released,
}

/// The sending side. Memory follows the largest number of messages ever in flight.
pub(crate) struct Sender {
    qos: QoS,
    version: Version,
    /// By packet id - 1.
    slots: Vec<(Stage, InFlight)>,
    /// Packet ids used before and free again.
    free: Vec<PacketId>,
    /// How many messages the broker takes at a time.
    in_flight_max: u16,
}

impl Sender {
    pub(crate) fn new(qos: QoS, version: Version) -> Self {
        Self { qos, version, slots: Vec::new(), free: Vec::new(), in_flight_max: u16::MAX }
    }

    /// Limits the messages in flight to what the broker takes.
    pub(crate) fn limit(&mut self, in_flight_max: u16) {
        self.in_flight_max = in_flight_max;
    }

    /// Whether one more message can be in flight: the broker takes it, and there is a packet id.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.len() - self.free.len() < usize::from(self.in_flight_max)
    }

    /// Takes a packet id for a message: none at QoS 0. Only when [`Self::has_room`].
    pub(crate) fn begin(&mut self, message: InFlight) -> Option<PacketId> {
        if self.qos == QoS::AtMostOnce {
            return None;
        }
        let packet_id = self.free.pop().unwrap_or_else(|| self.next_fresh(message));
        self.slots[slot(packet_id)] = (Stage::Published, message);
        Some(packet_id)
    }

    fn next_fresh(&mut self, message: InFlight) -> PacketId {
        self.slots.push((Stage::Free, message));
        u16::try_from(self.slots.len())
            .ok()
            .and_then(PacketId::new)
            .expect("has_room was asked: there are at most 65,535 slots")
    }

    /// Takes an acknowledgement and answers PUBREC. `Some` when a message is acknowledged to the
    /// end.
    ///
    /// # Errors
    /// An acknowledgement that is not due.
    pub(crate) fn handle_ack(
        &mut self,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<InFlight>, Violation> {
        match packet {
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack)
                if ack.reason.is_error() =>
            {
                Err(Violation::Failed(packet.kind(), ack.reason))
            }
            Packet::Disconnect(disconnect) => {
                Err(Violation::Failed(packet.kind(), disconnect.reason))
            }
            Packet::Puback(ack) if self.qos == QoS::AtLeastOnce => {
                self.finish(Stage::Published, packet, ack.packet_id)
            }
            Packet::Pubrec(ack) if self.qos == QoS::ExactlyOnce => {
                self.release(ack.packet_id)?;
                Ack::success(ack.packet_id).encode(PacketType::Pubrel, self.version, out);
                Ok(None)
            }
            Packet::Pubcomp(ack) if self.qos == QoS::ExactlyOnce => {
                self.finish(Stage::Released, packet, ack.packet_id)
            }
            _ => Err(Violation::Unexpected(packet.kind())),
        }
    }

    /// Releases a message at PUBREC, which may come again: PUBREL then goes out again.
    fn release(&mut self, packet_id: PacketId) -> Result<(), Violation> {
        match self.slots.get_mut(slot(packet_id)) {
            Some((stage, _)) if *stage != Stage::Free => {
                *stage = Stage::Released;
                Ok(())
            }
            _ => Err(not_due(PacketType::Pubrec, packet_id)),
        }
    }

    fn finish(
        &mut self,
        wanted: Stage,
        packet: &Packet<'_>,
        packet_id: PacketId,
    ) -> Result<Option<InFlight>, Violation> {
        match self.slots.get_mut(slot(packet_id)) {
            Some((stage, message)) if *stage == wanted => {
                *stage = Stage::Free;
                self.free.push(packet_id);
                Ok(Some(*message))
            }
            _ => Err(not_due(packet.kind(), packet_id)),
        }
    }
}

fn slot(packet_id: PacketId) -> usize {
    usize::from(packet_id.get()) - 1
}

fn not_due(kind: PacketType, packet_id: PacketId) -> Violation {
    Violation::UnknownPacketId { kind, packet_id: packet_id.get() }
}

/// The receiving side. Costs no memory before the first QoS 2 delivery.
#[derive(Default)]
pub(crate) struct Receiver {
    /// QoS 2 packet ids between PUBLISH and PUBREL, one bit each.
    unreleased: Vec<u64>,
}

/// What a packet is to a client that only receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    /// A delivery that has not come before.
    New,
    /// QoS 2: the same packet once more before its release.
    Again,
    /// Part of the exchange of a delivery.
    Release,
}

impl Receiver {
    /// Takes what a client that only receives may be sent, and answers it.
    ///
    /// # Errors
    /// The broker sends anything else.
    pub(crate) fn handle(
        &mut self,
        packet: &Packet<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<Received, Violation> {
        match packet {
            Packet::Publish(publish) => Ok(match self.handle_publish(publish, version, out) {
                true => Received::New,
                false => Received::Again,
            }),
            Packet::Pubrel(ack) => {
                self.handle_pubrel(ack.packet_id, version, out);
                Ok(Received::Release)
            }
            Packet::Disconnect(disconnect) => {
                Err(Violation::Failed(packet.kind(), disconnect.reason))
            }
            _ => Err(Violation::Unexpected(packet.kind())),
        }
    }

    /// Whether no exchange is half done.
    pub(crate) fn is_idle(&self) -> bool {
        self.unreleased.iter().all(|word| *word == 0)
    }

    /// Acknowledges a delivery. False when the same QoS 2 packet has come before and was not
    /// released since: that is a retransmission, not a second delivery.
    fn handle_publish(
        &mut self,
        publish: &Publish<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(packet_id) = publish.packet_id else {
            return true;
        };
        if publish.qos == QoS::AtLeastOnce {
            Ack::success(packet_id).encode(PacketType::Puback, version, out);
            return true;
        }
        Ack::success(packet_id).encode(PacketType::Pubrec, version, out);
        let (word, bit) = self.bit(packet_id);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }

    /// Answers PUBREL with PUBCOMP; the packet id may then carry another message.
    fn handle_pubrel(&mut self, packet_id: PacketId, version: Version, out: &mut Vec<u8>) {
        let (word, bit) = self.bit(packet_id);
        *word &= !bit;
        Ack::success(packet_id).encode(PacketType::Pubcomp, version, out);
    }

    fn bit(&mut self, packet_id: PacketId) -> (&mut u64, u64) {
        let (at, bit) = (usize::from(packet_id.get() / 64), 1 << (packet_id.get() % 64));
        if self.unreleased.len() <= at {
            self.unreleased.resize(at + 1, 0);
        }
        (&mut self.unreleased[at], bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmq::mqtt::{Properties, TopicName};

    const V: Version = Version::V311;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).expect("not 0")
    }

    fn message(index: u64) -> InFlight {
        InFlight { index, intended_ns: 0 }
    }

    fn puback(value: u16) -> Packet<'static> {
        Packet::Puback(Ack::success(id(value)))
    }

    fn publish(qos: QoS, packet_id: Option<PacketId>) -> Publish<'static> {
        Publish {
            dup: false,
            qos,
            retain: false,
            topic: TopicName::parse("t").expect("valid"),
            packet_id,
            properties: Properties::EMPTY,
            payload: b"",
        }
    }

    #[test]
    fn no_more_is_in_flight_than_the_broker_takes() {
        let mut sender = Sender::new(QoS::ExactlyOnce, Version::V5);
        sender.limit(2);
        let message = InFlight { index: 0, intended_ns: 0 };
        let first = sender.begin(message).expect("QoS 2 has packet ids");
        sender.begin(message);
        assert!(!sender.has_room());
        let mut out = Vec::new();
        sender.handle_ack(&Packet::Pubrec(Ack::success(first)), &mut out).expect("it is due");
        assert!(!sender.has_room(), "the quota comes back with PUBCOMP");
        sender.handle_ack(&Packet::Pubcomp(Ack::success(first)), &mut out).expect("it is due");
        assert!(sender.has_room());
    }

    #[test]
    fn an_acknowledgement_with_an_error_is_one() {
        let mut sender = Sender::new(QoS::AtLeastOnce, Version::V5);
        let id = sender.begin(InFlight { index: 0, intended_ns: 0 }).expect("it has packet ids");
        let ack = Ack { reason: ReasonCode::QuotaExceeded, ..Ack::success(id) };
        let error = sender.handle_ack(&Packet::Puback(ack), &mut Vec::new()).expect_err("it is");
        assert!(error.to_string().contains("0x97"), "{error}");
    }

    #[test]
    fn qos_0_has_no_packet_ids_and_no_acknowledgements() {
        let mut sender = Sender::new(QoS::AtMostOnce, V);
        assert_eq!(sender.begin(message(0)), None);
        let result = sender.handle_ack(&puback(1), &mut Vec::new());
        assert_eq!(result, Err(Violation::Unexpected(PacketType::Puback)));
    }

    #[test]
    fn qos_1_ends_with_puback_and_ids_are_used_again() {
        let mut sender = Sender::new(QoS::AtLeastOnce, V);
        assert_eq!(sender.begin(message(0)), Some(id(1)));
        assert_eq!(sender.begin(message(1)), Some(id(2)));
        let mut out = Vec::new();
        assert_eq!(sender.handle_ack(&puback(1), &mut out), Ok(Some(message(0))));
        assert!(out.is_empty());
        assert_eq!(sender.begin(message(2)), Some(id(1)));
    }

    #[test]
    fn an_acknowledgement_that_is_not_due_is_a_violation() {
        let mut sender = Sender::new(QoS::AtLeastOnce, V);
        sender.begin(message(0));
        let mut out = Vec::new();
        assert!(sender.handle_ack(&puback(2), &mut out).is_err());
        assert!(sender.handle_ack(&puback(1), &mut out).is_ok());
        assert!(sender.handle_ack(&puback(1), &mut out).is_err(), "twice");
    }

    #[test]
    fn qos_2_ends_with_pubcomp_after_pubrec() {
        let mut sender = Sender::new(QoS::ExactlyOnce, V);
        let packet_id = sender.begin(message(5)).expect("QoS 2 has packet ids");
        let pubcomp = Packet::Pubcomp(Ack::success(packet_id));
        let mut out = Vec::new();
        assert!(sender.handle_ack(&pubcomp, &mut out).is_err(), "PUBREC comes first");
        let pubrec = Packet::Pubrec(Ack::success(packet_id));
        assert_eq!(sender.handle_ack(&pubrec, &mut out), Ok(None));
        assert_eq!(sender.handle_ack(&pubrec, &mut out), Ok(None), "a repeat is answered");
        assert_eq!(out, [0x62, 2, 0, 1, 0x62, 2, 0, 1]);
        assert_eq!(sender.handle_ack(&pubcomp, &mut out), Ok(Some(message(5))));
    }

    #[test]
    fn there_is_room_for_as_many_messages_as_packet_ids() {
        let mut sender = Sender::new(QoS::AtLeastOnce, V);
        for index in 0..65_535 {
            assert!(sender.has_room());
            sender.begin(message(index));
        }
        assert!(!sender.has_room());
        sender.handle_ack(&puback(65_535), &mut Vec::new()).expect("it is in flight");
        assert!(sender.has_room());
    }

    #[test]
    fn deliveries_are_acknowledged_by_their_qos() {
        let mut receiver = Receiver::default();
        let mut out = Vec::new();
        assert!(receiver.handle_publish(&publish(QoS::AtMostOnce, None), V, &mut out));
        assert!(out.is_empty());
        receiver.handle_publish(&publish(QoS::AtLeastOnce, Some(id(9))), V, &mut out);
        receiver.handle_publish(&publish(QoS::ExactlyOnce, Some(id(9))), V, &mut out);
        assert_eq!(out, [0x40, 2, 0, 9, 0x50, 2, 0, 9]);
    }

    #[test]
    fn a_qos_2_packet_counts_once_until_it_is_released() {
        let mut receiver = Receiver::default();
        let mut out = Vec::new();
        let publish = publish(QoS::ExactlyOnce, Some(id(65_535)));
        assert!(receiver.handle_publish(&publish, V, &mut out));
        assert!(!receiver.handle_publish(&publish, V, &mut out));
        out.clear();
        receiver.handle_pubrel(id(65_535), V, &mut out);
        assert_eq!(out, [0x70, 2, 0xff, 0xff]);
        assert!(receiver.handle_publish(&publish, V, &mut out), "a new message");
    }
}
