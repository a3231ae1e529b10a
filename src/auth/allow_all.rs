//! The authenticator of a broker without any: every client may connect.

use crate::mqtt::ReasonCode;

use super::{AuthRequest, Authenticator, Verdict};

/// Says yes, but to no method of enhanced authentication: it knows none.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authenticator for AllowAll {
    fn authenticate(&mut self, request: &AuthRequest<'_>) -> Verdict {
        match request.method {
            None => Verdict::Allow(Vec::new()),
            Some(_) => Verdict::Refuse(ReasonCode::BadAuthenticationMethod), // [MQTT-4.12.0-1]
        }
    }
}
