//! Enhanced authentication (clause 4.12 of 5.0): challenges before a session is opened, and
//! authenticating again while it is.

use crate::auth::{AuthRequest, Verdict};
use crate::mqtt::{Auth, Packet, Properties, Property, ReasonCode, Version};
use crate::session::ProtocolError;

use super::connection::Phase;
use super::pause::Pause;
use super::wire::encode_within;
use super::{CloseReason, ConnectionId, Output, Shard};

impl Shard {
    /// AUTH from a client, whose method has to be the one of its CONNECT.
    pub(super) fn handle_auth(
        &mut self,
        id: ConnectionId,
        auth: &Auth<'_>,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let method = auth.properties.authentication_method();
        let data = auth.properties.authentication_data();
        match std::mem::replace(&mut connection.phase, Phase::AwaitConnect) {
            Phase::Authenticating(opening) => {
                let expected = method == opening.method.as_deref()
                    && auth.reason == ReasonCode::ContinueAuthentication;
                if !expected {
                    connection.phase = Phase::Authenticating(opening);
                    return Err(ProtocolError::UnexpectedPacket); // [MQTT-4.12.0-5]
                }
                self.authenticate(id, opening, data, out);
            }
            phase => {
                connection.phase = phase;
                let reason = match connection.is_challenged {
                    true => ReasonCode::ContinueAuthentication,
                    false => ReasonCode::ReAuthenticate,
                };
                let is_same = method.is_some() && method == connection.method.as_deref();
                if !is_same || auth.reason != reason {
                    return Err(ProtocolError::UnexpectedPacket); // [MQTT-4.12.1-1]
                }
                self.authenticate_again(id, method, data, out);
            }
        }
        Ok(())
    }

    /// The answer to a client that authenticates again.
    pub(super) fn handle_reauthenticated(
        &mut self,
        id: ConnectionId,
        verdict: Verdict,
        out: &mut impl Output,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_challenged = matches!(verdict, Verdict::Challenge(_));
        let packet_bytes_max = connection.packet_bytes_max;
        let is_sent = match verdict {
            Verdict::Allow(data) => {
                let reason = ReasonCode::Success;
                send_auth(id, &connection.method, reason, &data, packet_bytes_max, out)
            }
            Verdict::Challenge(data) => {
                let reason = ReasonCode::ContinueAuthentication;
                send_auth(id, &connection.method, reason, &data, packet_bytes_max, out)
            }
            Verdict::Refuse(reason) => {
                // [MQTT-4.12.1-2]; not every reason of CONNACK may stand in DISCONNECT.
                let is_valid = reason.is_valid_in(crate::mqtt::PacketSet::DISCONNECT);
                let reason = if is_valid { reason } else { ReasonCode::NotAuthorized };
                return self.close(id, CloseReason::NotAuthenticated(reason), out);
            }
            Verdict::Pending => return self.pause(id, Pause::Authentication, out),
        };
        if !is_sent {
            return self.close(id, CloseReason::AnswerTooLarge, out); // [MQTT-3.1.2-24]
        }
        self.unpause(id, Pause::Authentication);
    }

    fn authenticate_again(
        &mut self,
        id: ConnectionId,
        method: Option<&str>,
        data: Option<&[u8]>,
        out: &mut impl Output,
    ) {
        let Some(slot) = self.slot(id) else { return };
        let client_id = self.registry.get(slot).session.client_id();
        let request = AuthRequest { client_id, username: None, password: None, method, data };
        let verdict = out.authenticate(id, &request);
        self.handle_reauthenticated(id, verdict, out);
    }
}

/// AUTH that goes on with, or ends, what the client's method began; false if the client takes no
/// packet of its size.
pub(super) fn send_auth(
    id: ConnectionId,
    method: &Option<Box<str>>,
    reason: ReasonCode,
    data: &[u8],
    packet_bytes_max: u32,
    out: &mut impl Output,
) -> bool {
    let mut buffer = Vec::new();
    let method = Property::AuthenticationMethod(method.as_deref().unwrap_or_default());
    let data = (!data.is_empty()).then_some(Property::AuthenticationData(data));
    let properties = Properties::write([method].into_iter().chain(data), &mut buffer);
    let auth = Packet::Auth(Auth { reason, properties });
    let mut is_sent = false;
    out.outbox(id).push_with(|buffer| {
        is_sent = encode_within(&auth, Version::V5, packet_bytes_max, buffer);
    });
    is_sent
}
