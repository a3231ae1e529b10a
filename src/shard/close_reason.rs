//! Why connections end.

use std::fmt;

use crate::mqtt::{Foreign, ReasonCode};
use crate::session::ProtocolError;

/// Why a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The client sent DISCONNECT with this reason.
    Disconnected(ReasonCode),
    /// The peer closed the connection without DISCONNECT, or it broke.
    Lost,
    /// Its CONNECT was refused with this reason.
    Refused(ReasonCode),
    /// The client broke the protocol.
    Protocol(ProtocolError),
    /// The client does not speak MQTT.
    Foreign(Foreign),
    /// CONNECT has not come within `connect_timeout_s`.
    ConnectTimeout,
    /// A packet was not whole within `packet_timeout_s`.
    PacketTimeout,
    /// Nothing has come for one and a half times its keep-alive.
    KeepAliveTimeout,
    /// The client has read nothing for `slow_consumer_timeout_s`.
    SlowConsumer,
    /// Another connection has the session of its client identifier.
    TakenOver,
    /// Memory is short, and the connection holds more than its share.
    OverShare,
    /// The client takes no packet as large as the answer that it asks for.
    AnswerTooLarge,
    /// It authenticated again and was refused with this reason.
    NotAuthenticated(ReasonCode),
    /// An administrator wants it.
    Expelled,
    /// The broker stops.
    Shutdown,
}

impl CloseReason {
    /// What DISCONNECT says of it.
    pub(super) fn code(self) -> ReasonCode {
        match self {
            Self::Disconnected(_) | Self::Lost | Self::Foreign(_) => ReasonCode::Success,
            Self::Refused(code) | Self::NotAuthenticated(code) => code,
            Self::Protocol(error) => ReasonCode::from(&error),
            Self::ConnectTimeout => ReasonCode::MaximumConnectTime,
            Self::KeepAliveTimeout => ReasonCode::KeepAliveTimeout,
            Self::PacketTimeout | Self::SlowConsumer | Self::OverShare => ReasonCode::QuotaExceeded,
            Self::TakenOver => ReasonCode::SessionTakenOver,
            Self::AnswerTooLarge => ReasonCode::PacketTooLarge, // [MQTT-3.1.2-24]
            Self::Expelled => ReasonCode::AdministrativeAction,
            Self::Shutdown => ReasonCode::ServerShuttingDown,
        }
    }

    /// Whether neither side has anything to complain about.
    pub fn is_ordinary(self) -> bool {
        match self {
            Self::Disconnected(code) => !code.is_error(),
            Self::Shutdown => true,
            _ => false,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Disconnected(ReasonCode::Success) => "DISCONNECT",
            Self::Disconnected(code) => return write!(out, "DISCONNECT: {}", code.name()),
            Self::Lost => "the peer left without DISCONNECT",
            Self::Refused(code) => return write!(out, "refused: {}", code.name()),
            Self::Protocol(error) => return write!(out, "protocol error: {error}"),
            Self::Foreign(foreign) => return write!(out, "{foreign} on a port for plain MQTT"),
            Self::ConnectTimeout => "no CONNECT within connect_timeout_s",
            Self::PacketTimeout => "half a packet, and no more of it within packet_timeout_s",
            Self::KeepAliveTimeout => "silent for one and a half times its keep-alive",
            Self::SlowConsumer => "has read nothing for slow_consumer_timeout_s",
            Self::TakenOver => "taken over by a newer connection of the same client identifier",
            Self::OverShare => "memory is short, and it holds more than its share",
            Self::AnswerTooLarge => "the answer is larger than the client's maximum packet size",
            Self::NotAuthenticated(code) => {
                return write!(out, "not authenticated again: {}", code.name());
            }
            Self::Expelled => "expelled by an administrator",
            Self::Shutdown => "the broker stops",
        };
        out.write_str(text)
    }
}
