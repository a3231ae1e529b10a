//! `shard::Output` as production fills it: sockets, channels, storage and authentication.

use crate::auth::{AuthRequest, Authenticator, Verdict};
use crate::mqtt::ReasonCode;
use crate::routing::ShardId;
use crate::shard::{CloseReason, Connected, ConnectionId, Full, Message, Outbox, Output, Standing};
use crate::storage::{Engine, Record, Token};

use super::connection_log::ConnectionLog;
use super::connections::Connections;
use super::handoff::Handoff;
use super::mesh::Mesh;

/// Where everything goes that leaves a shard.
pub(super) struct Effects {
    pub(super) connections: Connections,
    pub(super) mesh: Mesh<Message, Handoff>,
    pub(super) engine: Box<dyn Engine>,
    authenticator: Box<dyn Authenticator>,
    pub(super) log: ConnectionLog,
}

impl Effects {
    pub(super) fn new(
        mesh: Mesh<Message, Handoff>,
        engine: Box<dyn Engine>,
        authenticator: Box<dyn Authenticator>,
    ) -> Self {
        let (connections, log) = (Connections::default(), ConnectionLog::default());
        Self { connections, mesh, engine, authenticator, log }
    }
}

impl Output for Effects {
    fn send(&mut self, to: ShardId, message: Message) -> Result<(), Full> {
        self.mesh.send(to, message).map_err(Full)
    }

    fn outbox(&mut self, connection: ConnectionId) -> &mut Outbox {
        &mut self.connections.touch(connection).outbox
    }

    fn outbox_len(&mut self, connection: ConnectionId) -> usize {
        self.connections.get(connection).map_or(0, |io| io.outbox.len())
    }

    fn settle(&mut self, connection: ConnectionId) -> bool {
        self.connections.settle(connection);
        false
    }

    fn standing(&mut self, claimant: ConnectionId, holder: ConnectionId) -> Standing {
        self.connections.standing(claimant, holder)
    }

    fn pause(&mut self, connection: ConnectionId, paused: bool) {
        self.connections.pause(connection, paused);
    }

    fn persist(&mut self, record: &Record<'_>, token: Token) {
        self.engine.append(record, token);
    }

    fn authenticate(&mut self, _: ConnectionId, request: &AuthRequest<'_>) -> Verdict {
        self.authenticator.authenticate(request)
    }

    fn note_connected(&mut self, connection: ConnectionId, facts: &Connected<'_>) {
        if let Some(io) = self.connections.get(connection) {
            self.log.connected(io.name(), facts);
        }
    }

    fn note_closed(&mut self, connection: ConnectionId, client_id: &str, reason: CloseReason) {
        let Some(io) = self.connections.get(connection) else { return };
        let (name, traffic) = (io.name(), io.traffic());
        match (reason, io.broken) {
            (CloseReason::Lost, Some(kind)) => {
                let reason = format_args!("broken: {kind}");
                self.log.closed(name, client_id, false, &reason, traffic);
            }
            _ => self.log.closed(name, client_id, reason.is_ordinary(), &reason, traffic),
        }
    }

    fn close(&mut self, connection: ConnectionId, _: ReasonCode) {
        self.connections.touch(connection).closing = true;
    }
}
