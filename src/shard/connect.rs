//! How a connection gets its session, and how both end.

use std::time::Duration;

use tracing::debug;

use crate::auth::{AuthRequest, Verdict};
use crate::mqtt::{Connack, Connect, Packet, Properties, Publish, ReasonCode, Version, Will};
use crate::session::{KeepAlive, Outgoing, ProtocolError, Publication, Session, Time};
use crate::storage::Record;

use super::connection::{Connection, Pause, Phase};
use super::{ConnectionId, Output, SessionRef, Shard, Timer};

/// What a CONNECT asked for, while it is being judged.
#[derive(Debug)]
pub(super) struct Opening {
    client_id: Box<str>,
    clean_start: bool,
    keep_alive_s: u16,
}

impl Shard {
    /// A CONNECT that is well-formed: answers it, or asks whether the client may connect.
    pub(super) fn handle_connect(
        &mut self,
        now: Time,
        id: ConnectionId,
        connect: &Connect<'_>,
        out: &mut impl Output,
    ) {
        let connection = self.connections.get_mut(id).expect("its packet is being handled");
        connection.version = connect.version;
        if connect.version == Version::V5 {
            return self.refuse(now, id, ReasonCode::UnsupportedProtocolVersion, out);
        }
        connection.will = connect.will.as_ref().map(|will| Box::new(keep_will(will)));
        let Some(client_id) = self.client_id(connect) else {
            // [MQTT-3.1.3-8]
            return self.refuse(now, id, ReasonCode::ClientIdentifierNotValid, out);
        };
        let request = AuthRequest {
            client_id: &client_id,
            username: connect.username,
            password: connect.password,
        };
        let verdict = out.authenticate(id, &request);
        let (clean_start, keep_alive_s) = (connect.clean_start, connect.keep_alive_s);
        let opening = Box::new(Opening { client_id, clean_start, keep_alive_s });
        let connection = self.connections.get_mut(id).expect("nothing closed it");
        connection.phase = Phase::Authenticating(opening);
        match verdict {
            Verdict::Pending => self.pause(id, Pause::Authentication, out),
            verdict => self.handle_authenticated(now, id, verdict, out),
        }
    }

    pub(super) fn handle_authenticated(
        &mut self,
        now: Time,
        id: ConnectionId,
        verdict: Verdict,
        out: &mut impl Output,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let phase = std::mem::replace(&mut connection.phase, Phase::AwaitConnect);
        let Phase::Authenticating(opening) = phase else {
            connection.phase = phase;
            return;
        };
        match verdict {
            Verdict::Allow => self.open_session(now, id, &opening, out),
            Verdict::BadCredentials => {
                self.refuse(now, id, ReasonCode::BadUserNameOrPassword, out);
            }
            Verdict::NotAuthorized => self.refuse(now, id, ReasonCode::NotAuthorized, out),
            Verdict::Pending => connection.phase = Phase::Authenticating(opening),
        }
        self.unpause(id, Pause::Authentication);
    }

    /// DISCONNECT: the client leaves on purpose, so its will is void [MQTT-3.14.4-3].
    pub(super) fn handle_disconnect(&mut self, now: Time, id: ConnectionId, out: &mut impl Output) {
        self.void_will(id);
        self.close(now, id, ReasonCode::Success, out);
    }

    /// The end of this connection publishes no will.
    pub(super) fn void_will(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.will = None;
        }
    }

    /// The peer closed the connection, or it broke.
    pub(super) fn handle_closed(&mut self, now: Time, id: ConnectionId, out: &mut impl Output) {
        if let Some(connection) = self.connections.take(id) {
            self.leave(now, connection, out);
        }
    }

    pub(super) fn handle_protocol_error(
        &mut self,
        now: Time,
        id: ConnectionId,
        error: &ProtocolError,
        out: &mut impl Output,
    ) {
        debug!(%id, "closed: {error}");
        self.counters.protocol_errors += 1;
        let Some(connection) = self.connections.get_mut(id) else { return };
        match error {
            ProtocolError::Malformed(error)
                if matches!(connection.phase, Phase::AwaitConnect)
                    && error.v311_connect_return_code().is_some() =>
            {
                self.refuse(now, id, error.reason(), out); // [MQTT-3.1.2-2]
            }
            error => self.close(now, id, ReasonCode::from(error), out), // [MQTT-4.8.0-1]
        }
    }

    /// Ends a connection from this side; a will that is still there is published.
    pub(super) fn close(
        &mut self,
        now: Time,
        id: ConnectionId,
        reason: ReasonCode,
        out: &mut impl Output,
    ) {
        if let Some(connection) = self.connections.take(id) {
            out.close(id, reason);
            self.leave(now, connection, out);
        }
    }

    pub(super) fn handle_expiry(&mut self, now: Time, name: SessionRef, out: &mut impl Output) {
        let Some(slot) = self.registry.resolve(name) else { return };
        match self.registry.get(slot).expiry {
            Some(expiry) if expiry <= now => self.end_session(slot, out),
            Some(expiry) => self.timers.insert(expiry, Timer::Expiry(name)),
            None => {}
        }
    }

    /// CONNACK that says no, then close [MQTT-3.2.2-5]. The will of a client that was never
    /// connected is not published.
    fn refuse(&mut self, now: Time, id: ConnectionId, reason: ReasonCode, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.will = None;
        let version = connection.version;
        send_connack(id, version, false, reason, out);
        self.close(now, id, reason, out);
    }

    /// The identifier that the session goes by; none if the client has to give one.
    fn client_id(&mut self, connect: &Connect<'_>) -> Option<Box<str>> {
        if !connect.client_id.is_empty() {
            return Some(connect.client_id.into());
        }
        if !connect.clean_start || connect.version == Version::V31 {
            return None; // [MQTT-3.1.3-7]; 3.1 does not know empty identifiers.
        }
        Some(self.assign_client_id())
    }

    /// Makes up an identifier that nobody uses and whose home is this shard [MQTT-3.1.3-6].
    fn assign_client_id(&mut self) -> Box<str> {
        loop {
            self.assigned_count += 1;
            let client_id = format!("auto-{}-{}", self.id.index(), self.assigned_count);
            let ours = self.partition.home(&client_id) == self.id;
            if ours && self.registry.find(&client_id).is_none() {
                return client_id.into();
            }
        }
    }

    fn open_session(
        &mut self,
        now: Time,
        id: ConnectionId,
        opening: &Opening,
        out: &mut impl Output,
    ) {
        let present = self.take_over(now, opening, out);
        let Some(slot) = present.or_else(|| self.new_session(id, opening, out)) else {
            return self.refuse(now, id, ReasonCode::ServerUnavailable, out);
        };
        let connection = self.connections.get_mut(id).expect("it was not the old connection");
        connection.phase = Phase::Ready { slot };
        connection.keep_alive = KeepAlive::new(opening.keep_alive_s, now);
        if let Some(deadline) = connection.keep_alive.deadline() {
            self.timers.insert(deadline, Timer::Silence(id));
        }
        let version = connection.version;
        let resident = self.registry.get_mut(slot);
        resident.connection = Some(id);
        resident.version = version;
        resident.expiry = None;
        send_connack(id, version, present.is_some(), ReasonCode::Success, out);
        let (persistent, window) = (!opening.clean_start, self.limits.inflight_count_max);
        self.with_wire(slot, out, |session, wire| {
            session.handle_resumed(persistent, window, wire);
        });
        self.replay_later(slot);
        debug!(%id, client_id = %opening.client_id, present = present.is_some(), "connected");
    }

    /// Ends an older connection of the same client [MQTT-3.1.4-2]; the slot of the session that
    /// goes on, if one does.
    fn take_over(&mut self, now: Time, opening: &Opening, out: &mut impl Output) -> Option<u32> {
        let slot = self.registry.find(&opening.client_id)?;
        if let Some(old) = self.registry.get(slot).connection {
            self.counters.takeovers += 1;
            self.close(now, old, ReasonCode::SessionTakenOver, out);
        }
        let slot = self.registry.find(&opening.client_id)?;
        if opening.clean_start {
            self.end_session(slot, out); // [MQTT-3.1.2-6]
            return None;
        }
        Some(slot) // [MQTT-3.1.2-4]
    }

    /// None when there are too many sessions.
    fn new_session(
        &mut self,
        id: ConnectionId,
        opening: &Opening,
        out: &mut impl Output,
    ) -> Option<u32> {
        if self.registry.len() >= self.share(self.limits.session_count_max) {
            return None;
        }
        let version = self.connections.get_mut(id)?.version;
        let persistent = !opening.clean_start;
        let window = self.limits.inflight_count_max;
        if persistent {
            let record = Record::SessionBegun { client_id: &opening.client_id };
            self.commits.persist(&record, out);
        }
        let session = Session::new(&opening.client_id, persistent, window);
        Some(self.registry.insert(session, version))
    }

    /// This shard's share of a limit that holds for the whole process.
    pub(super) fn share(&self, limit: usize) -> usize {
        limit.div_ceil(self.partition.shard_count())
    }

    /// What follows from the end of a connection, whoever ended it.
    fn leave(&mut self, now: Time, connection: Connection, out: &mut impl Output) {
        self.counters.connections -= 1;
        self.counters.connections_closed += 1;
        let Phase::Ready { slot } = connection.phase else { return };
        let resident = self.registry.get_mut(slot);
        resident.connection = None;
        resident.session.handle_disconnected();
        if resident.session.is_persistent() {
            self.set_expiry(now, slot);
        } else {
            self.end_session(slot, out);
        }
        if let Some(will) = connection.will {
            self.counters.wills_published += 1; // [MQTT-3.1.2-8]
            self.publish(&mut Outgoing::kept(&will), None, out);
        }
    }

    fn set_expiry(&mut self, now: Time, slot: u32) {
        let limit_s = self.limits.session_expiry_s_max;
        if limit_s != u32::MAX {
            let expiry = now + Duration::from_secs(limit_s.into());
            self.registry.get_mut(slot).expiry = Some(expiry);
            self.timers.insert(expiry, Timer::Expiry(self.registry.name(slot)));
        }
    }

    fn end_session(&mut self, slot: u32, out: &mut impl Output) {
        self.with_wire(slot, out, |session, wire| session.handle_ended(wire));
        for filter in std::mem::take(&mut self.registry.get_mut(slot).filters) {
            self.remove_subscription(slot, &filter, out);
        }
        let resident = self.registry.remove(slot);
        if resident.session.is_persistent() {
            let record = Record::SessionEnded { client_id: resident.session.client_id() };
            self.commits.persist(&record, out);
        }
    }
}

fn keep_will(will: &Will<'_>) -> Publication {
    Publication::new(&Publish {
        dup: false,
        qos: will.qos,
        retain: will.retain,
        topic: will.topic,
        packet_id: None,
        properties: will.properties,
        payload: will.payload,
    })
}

fn send_connack(
    id: ConnectionId,
    version: Version,
    session_present: bool,
    reason: ReasonCode,
    out: &mut impl Output,
) {
    // A client of a version that is not spoken yet reads the answer of 3.1.1.
    let version = if version.is_v5() { Version::V311 } else { version };
    let connack = Connack { session_present, reason, properties: Properties::EMPTY };
    out.outbox(id).push_with(|buffer| Packet::Connack(connack).encode(version, buffer));
}
