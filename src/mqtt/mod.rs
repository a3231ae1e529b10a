//! The MQTT wire format: 3.1, 3.1.1 and 5.0 side by side, one file per packet.
//!
//! Bytes come in through [`split`], which cuts them into [`Frame`]s, and [`Packet::decode`], which
//! judges one frame and borrows everything from it: decoding allocates nothing and input never
//! panics. Bytes go out through the `encode` of each packet, which appends to a `Vec<u8>`.
//!
//! What is decided here is what one packet alone shows: its form. What depends on the connection
//! (which end may send which packet, limits that were agreed, topic aliases) is decided by the
//! session, so that the same codec serves both ends of a connection. This module imports nothing of
//! ours.

mod auth;
mod connack;
mod connect;
mod cursor;
mod disconnect;
mod error;
mod foreign;
mod frame;
mod pingreq;
mod property;
mod puback;
mod publish;
mod reason;
mod suback;
mod subscribe;
mod topic;
mod unsuback;
mod unsubscribe;

use std::num::NonZeroU16;

pub use auth::Auth;
pub use connack::Connack;
pub use connect::{Connect, Will};
pub use cursor::{Reader, VARINT_MAX};
pub use disconnect::Disconnect;
pub use error::DecodeError;
pub use foreign::{Foreign, may_begin_connect};
pub use frame::{Frame, PACKET_BYTES_MAX, PacketSet, PacketType, split, wanted};
pub use property::{Properties, Property, PropertyRow, PropertyType};
pub use puback::Ack;
pub use publish::{Layout, Publish};
pub use reason::ReasonCode;
pub use suback::Suback;
pub use subscribe::{RetainHandling, Subscribe, Subscription, SubscriptionOptions, Subscriptions};
pub use topic::{SharedFilter, TopicFilter, TopicName};
pub use unsuback::Unsuback;
pub use unsubscribe::{Filters, Unsubscribe};

/// The three protocols that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`.
    V31,
    /// MQTT 3.1.1.
    #[default]
    V311,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// The protocol level (3.1.1) or protocol version (5.0) byte of CONNECT.
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// Whether packets carry properties and reason codes.
    #[inline]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        }
    }

    pub(crate) const fn protocol_name(self) -> &'static [u8] {
        match self {
            Self::V31 => b"MQIsdp",
            Self::V311 | Self::V5 => b"MQTT",
        }
    }
}

/// Quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl QoS {
    /// The two bits of the wire; 3 is no quality of service.
    #[inline]
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

impl TryFrom<u8> for QoS {
    type Error = DecodeError;

    fn try_from(value: u8) -> Result<Self, DecodeError> {
        Self::from_bits(value).ok_or(DecodeError::QosReserved)
    }
}

impl From<QoS> for u8 {
    fn from(qos: QoS) -> Self {
        qos as Self
    }
}

/// A packet identifier, which is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for 0.
    #[inline]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// 1 to 65,535.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// Any packet of any version, borrowed from the bytes that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Judges one whole frame as `version` sees it. `version` is ignored for CONNECT, which names
    /// its own. After an error the connection must be closed; [`DecodeError::reason`] is what a
    /// 5.0 peer gets first, and [`Connect::version_of`] the version that a refused CONNECT spoke.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        // CONNECT is judged by the version that it names, PUBLISH and acknowledgements where they
        // are decoded.
        let is_judged_later = matches!(frame.kind, PacketType::Connect | PacketType::Publish)
            || frame.kind.is_acknowledgement();
        if !is_judged_later {
            frame.judge(version)?;
        }
        Ok(match frame.kind {
            PacketType::Connect => Self::Connect(Connect::decode(frame)?),
            PacketType::Connack => Self::Connack(Connack::decode(frame, version)?),
            PacketType::Publish => Self::Publish(Publish::decode(frame, version)?),
            PacketType::Puback => Self::Puback(Ack::decode(frame, version)?),
            PacketType::Pubrec => Self::Pubrec(Ack::decode(frame, version)?),
            PacketType::Pubrel => Self::Pubrel(Ack::decode(frame, version)?),
            PacketType::Pubcomp => Self::Pubcomp(Ack::decode(frame, version)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::decode(frame, version)?),
            PacketType::Suback => Self::Suback(Suback::decode(frame, version)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::decode(frame, version)?),
            PacketType::Unsuback => Self::Unsuback(Unsuback::decode(frame, version)?),
            PacketType::Pingreq => pingreq::decode(frame).map(|()| Self::Pingreq)?,
            PacketType::Pingresp => pingreq::decode(frame).map(|()| Self::Pingresp)?,
            PacketType::Disconnect => Self::Disconnect(Disconnect::decode(frame, version)?),
            PacketType::Auth => Self::Auth(Auth::decode(frame)?),
        })
    }

    /// Appends the packet to `out`. `version` is ignored for CONNECT, which names its own.
    ///
    /// # Panics
    /// If a field does not fit its length prefix, the packet exceeds [`PACKET_BYTES_MAX`], or AUTH
    /// is to be written for a version without it: bugs of ours, not of a peer.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => connect.encode(out),
            Self::Connack(connack) => connack.encode(version, out),
            Self::Publish(publish) => publish.encode(version, out),
            Self::Puback(ack) => ack.encode(PacketType::Puback, version, out),
            Self::Pubrec(ack) => ack.encode(PacketType::Pubrec, version, out),
            Self::Pubrel(ack) => ack.encode(PacketType::Pubrel, version, out),
            Self::Pubcomp(ack) => ack.encode(PacketType::Pubcomp, version, out),
            Self::Subscribe(subscribe) => subscribe.encode(version, out),
            Self::Suback(suback) => suback.encode(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Self::Unsuback(unsuback) => unsuback.encode(version, out),
            Self::Pingreq => pingreq::encode(PacketType::Pingreq, out),
            Self::Pingresp => pingreq::encode(PacketType::Pingresp, out),
            Self::Disconnect(disconnect) => disconnect.encode(version, out),
            Self::Auth(auth) => auth.encode(version, out),
        }
    }

    /// Which packet this is.
    pub const fn kind(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

#[cfg(test)]
mod tests;
