//! Who may connect: the question, the answer, and the trait of those who give it.

mod allow_all;

pub use allow_all::AllowAll;

/// What a CONNECT says about who it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthRequest<'a> {
    /// The client identifier, assigned by the broker where the client gave none.
    pub client_id: &'a str,
    /// The user name, if one was sent.
    pub username: Option<&'a str>,
    /// The password, if one was sent.
    pub password: Option<&'a [u8]>,
}

/// The answer to an [`AuthRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The client may connect.
    Allow,
    /// User name or password are wrong: CONNACK return code 4.
    BadCredentials,
    /// The client is known and may not connect: CONNACK return code 5.
    NotAuthorized,
    /// The answer takes time and comes later, as an input of the shard.
    Pending,
}

/// Decides who may connect. Never blocks: a slow backend answers [`Verdict::Pending`].
pub trait Authenticator {
    /// Judges one CONNECT.
    fn authenticate(&mut self, request: &AuthRequest<'_>) -> Verdict;
}
