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
            ProtocolError::NotConnect
            | ProtocolError::SecondConnect
            | ProtocolError::ServerOnly => Self::ProtocolError,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(out, "malformed packet: {error}"),
            Self::NotConnect => out.write_str("the first packet was not CONNECT"),
            Self::SecondConnect => out.write_str("a second CONNECT"),
            Self::ServerOnly => out.write_str("a packet that only a server may send"),
        }
    }
}

impl std::error::Error for ProtocolError {}
