//! Which clients may connect: the question, the answer, and the trait of what gives it.

mod allow_all;

pub use allow_all::AllowAll;

use crate::mqtt::ReasonCode;

/// What a CONNECT says about its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthRequest<'a> {
    /// The client identifier, assigned by the broker where the client gave none.
    pub client_id: &'a str,
    /// The user name, if one was sent.
    pub username: Option<&'a str>,
    /// The password, if one was sent.
    pub password: Option<&'a [u8]>,
    /// The method of enhanced authentication that the client named (5.0, clause 4.12).
    pub method: Option<&'a str>,
    /// What that method says this time: at first, to a challenge, or to authenticate again.
    pub data: Option<&'a [u8]>,
}

/// The answer to an [`AuthRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The client may connect; the data goes to it if it named a method.
    Allow(Vec<u8>),
    /// The client's method asks it this, and it answers with AUTH.
    Challenge(Vec<u8>),
    /// The client may not connect, for a reason that CONNACK may carry, such as
    /// [`ReasonCode::BadUserNameOrPassword`] (return code 4 before 5.0).
    Refuse(ReasonCode),
    /// The answer takes time and comes later, as an input of the shard.
    Pending,
}

/// Decides which clients may connect. Never blocks: a slow backend answers [`Verdict::Pending`].
pub trait Authenticator {
    /// Judges one CONNECT.
    fn authenticate(&mut self, request: &AuthRequest<'_>) -> Verdict;
}
