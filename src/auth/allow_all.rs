//! The authenticator of a broker without any: everybody may connect.

use super::{AuthRequest, Authenticator, Verdict};

/// Says yes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authenticator for AllowAll {
    fn authenticate(&mut self, _: &AuthRequest<'_>) -> Verdict {
        Verdict::Allow
    }
}
