//! Reason codes: THE table.

use super::{DecodeError, PacketSet};

macro_rules! reason_codes {
    ($($code:literal $variant:ident $name:literal [$($packet:ident)+] $return_code:literal;)+) => {
        /// Every reason code of 5.0. 0 has three names, see the constants.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $name] $variant = $code,)+
        }

        impl ReasonCode {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code with this number.
            pub const fn from_u8(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row {
                        name: $name,
                        packets: PacketSet::NONE$(.union(PacketSet::$packet))+,
                        return_code: $return_code,
                    },)+
                }
            }
        }
    };
}

/// What the table says of one code.
struct Row {
    name: &'static str,
    packets: PacketSet,
    return_code: u8,
}

// Code, variant, name, packets that may carry it, and the CONNACK return code that says most
// nearly the same to 3.1 and 3.1.1 (which have only 0 to 5).
#[rustfmt::skip]
reason_codes! {
    0x00 Success "Success"
        [CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT CLIENT_DISCONNECT AUTH] 0;
    0x01 GrantedQos1 "Granted QoS 1" [SUBACK] 0;
    0x02 GrantedQos2 "Granted QoS 2" [SUBACK] 0;
    0x04 DisconnectWithWillMessage "Disconnect with Will Message" [DISCONNECT CLIENT_DISCONNECT] 0;
    0x10 NoMatchingSubscribers "No matching subscribers" [PUBACK PUBREC] 0;
    0x11 NoSubscriptionExisted "No subscription existed" [UNSUBACK] 0;
    0x18 ContinueAuthentication "Continue authentication" [AUTH] 0;
    0x19 ReAuthenticate "Re-authenticate" [AUTH] 0;
    0x80 UnspecifiedError "Unspecified error"
        [CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT CLIENT_DISCONNECT] 3;
    0x81 MalformedPacket "Malformed Packet" [CONNACK DISCONNECT CLIENT_DISCONNECT] 3;
    0x82 ProtocolError "Protocol Error" [CONNACK DISCONNECT CLIENT_DISCONNECT] 3;
    0x83 ImplementationSpecificError "Implementation specific error"
        [CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT CLIENT_DISCONNECT] 3;
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version" [CONNACK] 1;
    0x85 ClientIdentifierNotValid "Client Identifier not valid" [CONNACK] 2;
    0x86 BadUserNameOrPassword "Bad User Name or Password" [CONNACK] 4;
    0x87 NotAuthorized "Not authorized" [CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT] 5;
    0x88 ServerUnavailable "Server unavailable" [CONNACK] 3;
    0x89 ServerBusy "Server busy" [CONNACK DISCONNECT] 3;
    0x8A Banned "Banned" [CONNACK] 5;
    0x8B ServerShuttingDown "Server shutting down" [DISCONNECT] 3;
    0x8C BadAuthenticationMethod "Bad authentication method" [CONNACK DISCONNECT] 5;
    0x8D KeepAliveTimeout "Keep Alive timeout" [DISCONNECT] 3;
    0x8E SessionTakenOver "Session taken over" [DISCONNECT] 3;
    0x8F TopicFilterInvalid "Topic Filter invalid" [SUBACK UNSUBACK DISCONNECT] 3;
    0x90 TopicNameInvalid "Topic Name invalid"
        [CONNACK PUBACK PUBREC DISCONNECT CLIENT_DISCONNECT] 5;
    0x91 PacketIdentifierInUse "Packet Identifier in use" [PUBACK PUBREC SUBACK UNSUBACK] 3;
    0x92 PacketIdentifierNotFound "Packet Identifier not found" [PUBREL PUBCOMP] 3;
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded" [DISCONNECT CLIENT_DISCONNECT] 3;
    0x94 TopicAliasInvalid "Topic Alias invalid" [DISCONNECT CLIENT_DISCONNECT] 3;
    0x95 PacketTooLarge "Packet too large" [CONNACK DISCONNECT CLIENT_DISCONNECT] 3;
    0x96 MessageRateTooHigh "Message rate too high" [DISCONNECT CLIENT_DISCONNECT] 3;
    0x97 QuotaExceeded "Quota exceeded"
        [CONNACK PUBACK PUBREC SUBACK DISCONNECT CLIENT_DISCONNECT] 3;
    0x98 AdministrativeAction "Administrative action" [DISCONNECT CLIENT_DISCONNECT] 3;
    0x99 PayloadFormatInvalid "Payload format invalid"
        [CONNACK PUBACK PUBREC DISCONNECT CLIENT_DISCONNECT] 3;
    0x9A RetainNotSupported "Retain not supported" [CONNACK DISCONNECT] 5;
    0x9B QosNotSupported "QoS not supported" [CONNACK DISCONNECT] 5;
    0x9C UseAnotherServer "Use another server" [CONNACK DISCONNECT] 3;
    0x9D ServerMoved "Server moved" [CONNACK DISCONNECT] 3;
    0x9E SharedSubscriptionsNotSupported "Shared Subscriptions not supported"
        [SUBACK DISCONNECT] 3;
    0x9F ConnectionRateExceeded "Connection rate exceeded" [CONNACK DISCONNECT] 3;
    0xA0 MaximumConnectTime "Maximum connect time" [DISCONNECT] 3;
    0xA1 SubscriptionIdentifiersNotSupported "Subscription Identifiers not supported"
        [SUBACK DISCONNECT] 3;
    0xA2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported"
        [SUBACK DISCONNECT] 3;
}

impl ReasonCode {
    /// What 0 is called in DISCONNECT.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// What 0 is called in SUBACK.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// The name that the specification gives the code.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether the packet did what it asked for.
    #[inline]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether one of `packets` may carry the code.
    pub const fn is_valid_in(self, packets: PacketSet) -> bool {
        self.row().packets.intersects(packets)
    }

    /// The CONNACK return code of 3.1 and 3.1.1 that says most nearly the same, 0 to 5.
    pub const fn v311_connect_return_code(self) -> u8 {
        self.row().return_code
    }

    /// The reason that a CONNACK of 3.1 or 3.1.1 gives; `None` for a code above 5.
    pub const fn from_v311_connect_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl From<ReasonCode> for u8 {
    fn from(reason: ReasonCode) -> Self {
        reason as Self
    }
}

impl ReasonCode {
    /// The code with this number if `packet` may carry it.
    pub(super) fn decode(code: u8, packet: PacketSet) -> Result<Self, DecodeError> {
        Self::from_u8(code)
            .filter(|reason| reason.is_valid_in(packet))
            .ok_or(DecodeError::ReasonCodeInvalid { code })
    }
}
