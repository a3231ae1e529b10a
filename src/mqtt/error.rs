//! Why bytes were refused.

use std::fmt;

use super::ReasonCode;

/// Why bytes are not a packet. The peer is to blame for each of these.
///
/// In 3.1 and 3.1.1 the answer is to close the connection without a word, except for
/// [`DecodeError::UnsupportedVersion`], which is owed a CONNACK with return code 1
/// [MQTT-3.1.2-2]. In 5.0 the answer is CONNACK (to a CONNECT) or DISCONNECT with
/// [`DecodeError::reason`], then the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Packet type 0, or 15 before 5.0 [MQTT-2.2.1].
    PacketTypeReserved { kind: u8 },
    /// Flags of the fixed header are not what the packet type demands [MQTT-2.1.3-1].
    FlagsReserved,
    /// DUP on a publish of QoS 0 [MQTT-3.3.1-2].
    DupWithoutQos,
    /// QoS 3 in a fixed header, connect flags or a 3.1.1 subscription [MQTT-3.3.1-4].
    QosReserved,
    /// A variable byte integer goes on after its fourth byte.
    VarintTooLong,
    /// A variable byte integer uses more bytes than needed [MQTT-1.5.5-1].
    VarintNotMinimal,
    /// The fixed header announces more than this side accepts [MQTT-3.2.2-15].
    PacketTooLarge,
    /// The packet ends within a field.
    Truncated,
    /// Bytes are left after the last field.
    TrailingBytes,
    /// A string is not UTF-8 or holds a surrogate [MQTT-1.5.4-1].
    Utf8IllFormed,
    /// A string holds U+0000 [MQTT-1.5.4-2].
    Utf8Nul,
    /// A packet identifier of 0 [MQTT-2.2.1-3].
    PacketIdZero,
    /// CONNECT does not name MQTT [MQTT-3.1.2-1].
    ProtocolName,
    /// CONNECT names a level that is not spoken; nothing after it was looked at [MQTT-3.1.2-2].
    UnsupportedVersion { level: u8 },
    /// The reserved bit of the connect flags is set [MQTT-3.1.2-3].
    ConnectFlagsReserved,
    /// Will QoS or will retain without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13].
    WillFlagsWithoutWill,
    /// A password without a user name, which only 5.0 allows [MQTT-3.1.2-22].
    PasswordWithoutUsername,
    /// CONNACK flags other than session present [MQTT-3.2.2-1].
    ConnackFlagsReserved,
    /// Session present in a CONNACK that refuses [MQTT-3.2.2-6].
    SessionPresentWithError,
    /// An empty topic name or topic filter [MQTT-4.7.3-1].
    TopicEmpty,
    /// A topic name or topic filter over 65,535 bytes [MQTT-4.7.3-3].
    TopicTooLong,
    /// A wildcard in a topic name [MQTT-3.3.2-2].
    TopicNameWildcard,
    /// An empty topic in a publish of 5.0 that has no topic alias.
    TopicMissing,
    /// A wildcard that does not occupy its level, or `#` before the end [MQTT-4.7.1-1].
    TopicFilterWildcard,
    /// `$share/` without a share name and a filter [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    SharedFilterMalformed,
    /// No local on a shared subscription [MQTT-3.8.3-4].
    SharedFilterNoLocal,
    /// Reserved bits of the subscription options [MQTT-3.8.3-5].
    SubscriptionOptionsReserved,
    /// QoS 3 or retain handling 3 in the subscription options of 5.0.
    SubscriptionOptionsValue,
    /// SUBSCRIBE, SUBACK, UNSUBSCRIBE or UNSUBACK without an entry [MQTT-3.8.3-2].
    EntriesMissing,
    /// A property identifier that the specification does not have.
    PropertyUnknown { id: u32 },
    /// A property that this packet must not carry.
    PropertyNotAllowed { id: u8 },
    /// A property more than once where once is the limit.
    PropertyRepeated { id: u8 },
    /// A property with a value outside its range.
    PropertyOutOfRange { id: u8 },
    /// Authentication data without an authentication method, or AUTH without a method.
    AuthenticationMethodMissing,
    /// A reason or return code that this packet must not carry.
    ReasonCodeInvalid { code: u8 },
}

impl DecodeError {
    /// Returns the reason code that a 5.0 peer gets in CONNACK or DISCONNECT.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::UnsupportedVersion { .. } | Self::ProtocolName => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::PacketTooLarge => ReasonCode::PacketTooLarge,
            Self::PropertyOutOfRange { id: 0x23 } => ReasonCode::TopicAliasInvalid,
            Self::SessionPresentWithError
            | Self::PacketIdZero
            | Self::TopicEmpty
            | Self::TopicMissing
            | Self::SharedFilterNoLocal
            | Self::SubscriptionOptionsValue
            | Self::EntriesMissing
            | Self::PropertyRepeated { .. }
            | Self::PropertyOutOfRange { .. }
            | Self::AuthenticationMethodMissing
            | Self::ReasonCodeInvalid { .. } => ReasonCode::ProtocolError,
            _ => ReasonCode::MalformedPacket,
        }
    }

    /// The return code of the CONNACK that a refused CONNECT of 3.1 or 3.1.1 is owed before the
    /// close; `None` where the connection must be closed without one.
    pub const fn v311_connect_return_code(self) -> Option<u8> {
        match self {
            // [MQTT-3.1.2-2]
            Self::UnsupportedVersion { .. } => Some(1),
            _ => None,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::PacketTypeReserved { .. } => "reserved packet type",
            Self::FlagsReserved => "reserved flags of the fixed header",
            Self::DupWithoutQos => "DUP on a publish of QoS 0",
            Self::QosReserved => "QoS 3",
            Self::VarintTooLong => "variable byte integer of more than four bytes",
            Self::VarintNotMinimal => "variable byte integer longer than needed",
            Self::PacketTooLarge => "packet too large",
            Self::Truncated => "packet ends within a field",
            Self::TrailingBytes => "bytes after the last field",
            Self::Utf8IllFormed => "string is not UTF-8",
            Self::Utf8Nul => "string holds U+0000",
            Self::PacketIdZero => "packet identifier 0",
            Self::ProtocolName => "protocol name is not MQTT",
            Self::UnsupportedVersion { .. } => "unsupported protocol version",
            Self::ConnectFlagsReserved => "reserved connect flag",
            Self::WillFlagsWithoutWill => "will QoS or will retain without a will",
            Self::PasswordWithoutUsername => "password without a user name",
            Self::ConnackFlagsReserved => "reserved CONNACK flags",
            Self::SessionPresentWithError => "session present in a refusal",
            Self::TopicEmpty => "empty topic",
            Self::TopicTooLong => "topic longer than 65,535 bytes",
            Self::TopicNameWildcard => "wildcard in a topic name",
            Self::TopicMissing => "neither topic nor topic alias",
            Self::TopicFilterWildcard => "misplaced wildcard in a topic filter",
            Self::SharedFilterMalformed => "malformed shared subscription",
            Self::SharedFilterNoLocal => "no local on a shared subscription",
            Self::SubscriptionOptionsReserved => "reserved subscription options",
            Self::SubscriptionOptionsValue => "subscription option out of range",
            Self::EntriesMissing => "no entry in the payload",
            Self::PropertyUnknown { .. } => "unknown property",
            Self::PropertyNotAllowed { .. } => "property not allowed here",
            Self::PropertyRepeated { .. } => "property repeated",
            Self::PropertyOutOfRange { .. } => "property out of range",
            Self::AuthenticationMethodMissing => "authentication method missing",
            Self::ReasonCodeInvalid { .. } => "reason code not allowed here",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())?;
        match *self {
            Self::PacketTypeReserved { kind } => write!(formatter, ": {kind}"),
            Self::UnsupportedVersion { level } => write!(formatter, ": {level}"),
            Self::PropertyUnknown { id } => write!(formatter, ": {id:#04x}"),
            Self::PropertyNotAllowed { id }
            | Self::PropertyRepeated { id }
            | Self::PropertyOutOfRange { id } => write!(formatter, ": {id:#04x}"),
            Self::ReasonCodeInvalid { code } => write!(formatter, ": {code:#04x}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}
