//! The only way anything leaves a shard.

use std::fmt;

use crate::auth::{AuthRequest, Verdict};
use crate::mqtt::{ReasonCode, Version};
use crate::routing::ShardId;
use crate::storage::{Record, Token};

use super::{CloseReason, Message, Outbox, Standing};

/// A connection as its shard and its executor know it; stale once the index is used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId {
    /// Place in the executor's table.
    pub index: u32,
    /// How often that place was used before.
    pub generation: u32,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.index, self.generation)
    }
}

/// What a client that is connected has said of itself.
#[derive(Clone, Copy, Debug)]
pub struct Connected<'a> {
    /// Given by the client or assigned to it.
    pub client_id: &'a str,
    /// Of its CONNECT.
    pub version: Version,
    /// Of its CONNECT.
    pub username: Option<&'a str>,
    /// In force, in seconds; 0 for none.
    pub keep_alive_s: u16,
    /// It goes on with a session that was there.
    pub is_session_present: bool,
}

/// The channel was full; here is the message back.
#[derive(Debug)]
pub struct Full(pub Message);

/// Filled by production with sockets and channels, by tests with a recorder.
pub trait Output {
    /// Sends to another shard.
    ///
    /// # Errors
    /// The channel is full. The shard keeps the message and goes on at
    /// [`Input::Room`](super::Input::Room).
    fn send(&mut self, to: ShardId, message: Message) -> Result<(), Full>;

    /// What waits to be written to a connection that the shard has not closed. Everything that
    /// is in it when `handle` returns is written.
    fn outbox(&mut self, connection: ConnectionId) -> &mut Outbox;

    /// Bytes that wait for a connection that the shard has not closed. Most packets ask only
    /// this, and need not have the connection looked at when the turn ends.
    fn outbox_len(&mut self, connection: ConnectionId) -> usize {
        self.outbox(connection).len()
    }

    /// Gives the shard all that the peer of a connection has sent until now, and then
    /// [`Input::Settled`](super::Input::Settled). Returns true if all was given already.
    fn settle(&mut self, _connection: ConnectionId) -> bool {
        true
    }

    /// Tells which of two connections of one client identifier is the newer one: `claimant` asks
    /// for the session that `holder` has.
    fn standing(&mut self, _claimant: ConnectionId, _holder: ConnectionId) -> Standing {
        Standing::Newer
    }

    /// Stops (`true`) or resumes reading a connection.
    fn pause(&mut self, connection: ConnectionId, paused: bool);

    /// Keeps a record; answered by [`Input::Persisted`](super::Input::Persisted).
    fn persist(&mut self, record: &Record<'_>, token: Token);

    /// Judges a CONNECT; [`Verdict::Pending`] is answered by
    /// [`Input::Authenticated`](super::Input::Authenticated).
    fn authenticate(&mut self, connection: ConnectionId, request: &AuthRequest<'_>) -> Verdict;

    /// Learns that a client is connected, for the log.
    fn note_connected(&mut self, _connection: ConnectionId, _facts: &Connected<'_>) {}

    /// Learns why a connection has ended, for the log; the client identifier is empty if none was
    /// accepted.
    fn note_closed(&mut self, _connection: ConnectionId, _client_id: &str, _reason: CloseReason) {}

    /// Ends a connection once its outbox is written; nothing more comes in from it.
    fn close(&mut self, connection: ConnectionId, reason: ReasonCode);
}
