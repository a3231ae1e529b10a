//! What a client can do wrong, and the one conversion to a reason code.

use std::fmt;

use crate::mqtt::{DecodeError, ReasonCode};

/// Why a connection is closed on its client's account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// The bytes are not an MQTT packet of the connection's version.
    Malformed(DecodeError),
    /// The first packet was not CONNECT [MQTT-3.1.0-1].
    NotConnect,
    /// A second CONNECT on one connection [MQTT-3.1.0-2].
    SecondConnect,
    /// A packet that only a server may send.
    ServerOnly,
    /// A DISCONNECT with a reason that only a server may give [MQTT-3.14.2-1].
    ServerReason,
    /// An acknowledgement that is not what the packet with its identifier is answered with, such
    /// as PUBREC for a PUBLISH at QoS 1.
    Acknowledgement,
    /// A topic alias of 0 or above what the broker allows [MQTT-3.3.2-8], [MQTT-3.3.2-9].
    TopicAlias,
    /// Aliases that stand for more bytes of topics than the broker keeps.
    TopicAliasBytes,
    /// Memory is short, and this client holds more than its share.
    OverShare,
    /// No topic, and an alias that no topic was given.
    TopicAliasUnknown,
    /// A client's PUBLISH with a subscription identifier [MQTT-3.3.4-6].
    SubscriptionIdentifier,
    /// More publishes under way than the broker's receive maximum [MQTT-3.3.4-7].
    ReceiveMaximum,
    /// A PUBLISH with RETAIN to a broker that has said that it retains nothing [MQTT-3.2.2-14].
    Retain,
    /// A payload that is said to be UTF-8 and is not.
    PayloadFormat,
    /// A session that was to end with its connection cannot be made to last longer.
    SessionExpiry,
    /// Anything but AUTH before the client is let in [MQTT-3.1.2-30], or AUTH of another method or
    /// of none [MQTT-4.12.0-5], [MQTT-4.12.0-7], [MQTT-4.12.1-1].
    UnexpectedPacket,
}

impl From<DecodeError> for ProtocolError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl From<&ProtocolError> for ReasonCode {
    fn from(error: &ProtocolError) -> Self {
        match error {
            ProtocolError::Malformed(error) => error.reason(),
            ProtocolError::TopicAlias => Self::TopicAliasInvalid,
            ProtocolError::TopicAliasBytes | ProtocolError::OverShare => Self::QuotaExceeded,
            ProtocolError::ReceiveMaximum => Self::ReceiveMaximumExceeded,
            ProtocolError::Retain => Self::RetainNotSupported,
            ProtocolError::PayloadFormat => Self::PayloadFormatInvalid,
            ProtocolError::NotConnect
            | ProtocolError::SecondConnect
            | ProtocolError::ServerOnly
            | ProtocolError::ServerReason
            | ProtocolError::Acknowledgement
            | ProtocolError::TopicAliasUnknown
            | ProtocolError::SubscriptionIdentifier
            | ProtocolError::SessionExpiry
            | ProtocolError::UnexpectedPacket => Self::ProtocolError,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Malformed(error) => return write!(out, "malformed packet: {error}"),
            Self::NotConnect => "the first packet was not CONNECT",
            Self::SecondConnect => "a second CONNECT",
            Self::ServerOnly => "a packet that only a server may send",
            Self::ServerReason => "a reason that only a server may give",
            Self::Acknowledgement => "an acknowledgement of the wrong kind",
            Self::TopicAlias => "a topic alias out of range",
            Self::TopicAliasBytes => "topic aliases for too many bytes of topics",
            Self::OverShare => "more than its share of memory that is short",
            Self::TopicAliasUnknown => "a topic alias that stands for no topic",
            Self::SubscriptionIdentifier => "a subscription identifier in a client's PUBLISH",
            Self::ReceiveMaximum => "more publishes under way than the receive maximum",
            Self::Retain => "a message to be retained, where nothing is",
            Self::PayloadFormat => "a payload that is not UTF-8 as it says",
            Self::SessionExpiry => "a session expiry interval after one of zero",
            Self::UnexpectedPacket => "a packet that the authentication does not expect",
        };
        out.write_str(text)
    }
}

impl std::error::Error for ProtocolError {}
