//! What lies around the shards and is not the same for every test: storage and authentication.

use ringmq::auth::{AuthRequest, Verdict};
use ringmq::mqtt::ReasonCode;
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Input, Shard};
use ringmq::storage::Record;

use crate::desk::Desk;

/// When a verdict is told to the shard that has asked for it.
pub enum Judgement {
    AtOnce(Verdict),
    /// By [`Harness::judge`](crate::shards::Harness::judge).
    Later(Verdict),
}

/// What lies around the shards, as far as a test has a say in it.
pub trait World {
    /// What is noted of a record that storage was given.
    type Note;

    /// Takes a record that the shard of this desk gives to storage.
    fn persist(&mut self, record: &Record<'_>, desk: &Desk<Self::Note>) -> Self::Note;

    /// Judges a client that a shard asks about.
    fn authenticate(
        &mut self,
        shard: usize,
        connection: ConnectionId,
        request: &AuthRequest<'_>,
    ) -> Judgement;

    /// Is called before each input.
    fn before(&mut self, _now: Time, _shard: &Shard, _input: &Input<'_>) {}

    /// Is called after each input.
    fn after(&mut self, _now: Time, _shard: &mut Shard, _desk: &mut Desk<Self::Note>) {}
}

/// The world where a test has no say: storage keeps nothing, and there are two methods of
/// authentication. `echo` asks for a word, unless CONNECT has said it, and takes none but the one
/// it said itself; `late` takes its time and then allows.
pub struct Plain;

impl World for Plain {
    type Note = ();

    fn persist(&mut self, _: &Record<'_>, _: &Desk<()>) {}

    fn authenticate(&mut self, _: usize, _: ConnectionId, request: &AuthRequest<'_>) -> Judgement {
        Judgement::AtOnce(match (request.method, request.data) {
            (None, _) => Verdict::Allow(Vec::new()),
            (Some("echo"), None) => Verdict::Challenge(b"word".to_vec()),
            (Some("echo"), Some(b"word")) => Verdict::Allow(b"thanks".to_vec()),
            (Some("echo"), Some(_)) => Verdict::Refuse(ReasonCode::NotAuthorized),
            (Some("late"), _) => return Judgement::Later(Verdict::Allow(Vec::new())),
            (Some(_), _) => Verdict::Refuse(ReasonCode::BadAuthenticationMethod),
        })
    }
}
