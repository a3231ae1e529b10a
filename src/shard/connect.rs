//! How a connection gets its session, and how both end.

use std::time::Duration;

use crate::auth::{AuthRequest, Verdict};
use crate::metrics::allocated;
use crate::mqtt::{Connack, Connect, Disconnect, Foreign, Packet, Properties, ReasonCode, Version};
use crate::session::{
    AT_ONCE_MAX, Agreement, KeepAlive, NEVER, OutboundAliases, ProtocolError, Session, Time,
    is_payload_valid,
};
use crate::storage::Record;

use super::authenticate::send_auth;
use super::connack::{accepting, send_connack};
use super::connection::{Connection, Phase};
use super::pause::Pause;
use super::take_over::Claim;
use super::will::LastWill;
use super::wire::{Peer, UNLIMITED, encode_within};
use super::{CloseReason, Connected, ConnectionId, Output, SessionRef, Shard, Timer, work};

/// What a CONNECT asked for, while it is being judged.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) client_id: Box<str>,
    /// The client gave none.
    pub(super) assigned: bool,
    clean_start: bool,
    is_bridge: bool,
    pub(super) keep_alive_s: u16,
    pub(super) requested_expiry_s: u32,
    pub(super) agreement: Agreement,
    alias_count_max: u16,
    /// The method of enhanced authentication, if the client named one.
    pub(super) method: Option<Box<str>>,
    username: Option<Box<str>>,
    password: Option<Box<[u8]>>,
}

impl Shard {
    /// A CONNECT that is well-formed: answers it, or asks whether the client may connect.
    pub(super) fn handle_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        out: &mut impl Output,
    ) {
        let meter = self.account.meter;
        let will = connect.will.as_ref().map(|will| Box::new(LastWill::new(will, meter)));
        let connection = self.connections.get_mut(id).expect("its packet is being handled");
        connection.version = connect.version;
        connection.will = will;
        connection.packet_bytes_max = connect.properties.maximum_packet_size().unwrap_or(UNLIMITED);
        if let Err(reason) = self.judge_connect(connect) {
            self.counters.connections_refused_quota += 1;
            return self.refuse(id, connect.client_id, reason, out);
        }
        let Some(opening) = self.opening(connect) else {
            // [MQTT-3.1.3-8]
            return self.refuse(id, "", ReasonCode::ClientIdentifierNotValid, out);
        };
        let wants_retained = connect.will.as_ref().is_some_and(|will| will.retain);
        if wants_retained && !opening.agreement.may_retain {
            // [MQTT-3.2.2-13]
            return self.refuse(id, &opening.client_id, ReasonCode::RetainNotSupported, out);
        }
        if connect.will.is_some_and(|will| !is_payload_valid(will.properties, will.payload)) {
            return self.refuse(id, &opening.client_id, ReasonCode::PayloadFormatInvalid, out);
        }
        let data = connect.properties.authentication_data();
        self.authenticate(id, Box::new(opening), data, out);
    }

    /// Asks whether the client may connect; `data` is what its method says this time.
    pub(super) fn authenticate(
        &mut self,
        id: ConnectionId,
        opening: Box<Opening>,
        data: Option<&[u8]>,
        out: &mut impl Output,
    ) {
        let request = AuthRequest {
            client_id: &opening.client_id,
            username: opening.username.as_deref(),
            password: opening.password.as_deref(),
            method: opening.method.as_deref(),
            data,
        };
        let verdict = out.authenticate(id, &request);
        let connection = self.connections.get_mut(id).expect("nothing closed it");
        connection.phase = Phase::Authenticating(opening);
        match verdict {
            Verdict::Pending => self.pause(id, Pause::Authentication, out),
            verdict => self.handle_authenticated(id, verdict, out),
        }
    }

    pub(super) fn handle_authenticated(
        &mut self,
        id: ConnectionId,
        verdict: Verdict,
        out: &mut impl Output,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Phase::Ready { .. } = connection.phase {
            return self.handle_reauthenticated(id, verdict, out);
        }
        let phase = std::mem::replace(&mut connection.phase, Phase::AwaitConnect);
        let Phase::Authenticating(opening) = phase else {
            connection.phase = phase;
            return;
        };
        match verdict {
            Verdict::Allow(data) => self.handle_allowed(id, Claim { opening, data }, out),
            Verdict::Challenge(data) => {
                let reason = ReasonCode::ContinueAuthentication;
                let packet_bytes_max = connection.packet_bytes_max;
                if send_auth(id, &opening.method, reason, &data, packet_bytes_max, out) {
                    connection.phase = Phase::Authenticating(opening);
                } else {
                    let reason = ReasonCode::ImplementationSpecificError;
                    self.refuse(id, &opening.client_id, reason, out);
                }
            }
            Verdict::Refuse(reason) => self.refuse(id, &opening.client_id, reason, out),
            Verdict::Pending => connection.phase = Phase::Authenticating(opening),
        }
        self.unpause(id, Pause::Authentication);
    }

    fn handle_allowed(&mut self, id: ConnectionId, claim: Claim, out: &mut impl Output) {
        if self.can_be_accepted(id, &claim.opening, &claim.data) {
            self.claim_session(id, claim, out);
        } else {
            let reason = ReasonCode::ImplementationSpecificError;
            self.refuse(id, &claim.opening.client_id, reason, out);
        }
    }

    /// DISCONNECT: the client leaves on purpose. Its will is void [MQTT-3.14.4-3] unless it gives
    /// a reason of any other kind [MQTT-3.1.2-8].
    pub(super) fn handle_disconnect(
        &mut self,
        id: ConnectionId,
        slot: u32,
        disconnect: &Disconnect<'_>,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        if let Some(interval_s) = disconnect.properties.session_expiry_interval_s() {
            let interval_s = interval_s.min(self.limits.session_expiry_s_max);
            self.registry.get_mut(slot).session.handle_expiry_interval(interval_s)?;
        }
        if disconnect.reason == ReasonCode::NORMAL_DISCONNECTION {
            self.void_will(id);
        }
        self.close_silently(id, CloseReason::Disconnected(disconnect.reason), out);
        Ok(())
    }

    /// The peer closed the connection, or it broke.
    pub(super) fn handle_closed(&mut self, id: ConnectionId, out: &mut impl Output) {
        if let Some(connection) = self.connections.take(id) {
            out.note_closed(id, self.client_id_of(&connection), CloseReason::Lost);
            self.leave(id, connection, out);
        }
    }

    pub(super) fn handle_expel(&mut self, client_id: &str, out: &mut impl Output) {
        let Some(slot) = self.registry.find(client_id) else { return };
        if let Some(connection) = self.registry.get(slot).connection {
            self.close(connection, CloseReason::Expelled, out);
        }
    }

    pub(super) fn handle_protocol_error(
        &mut self,
        id: ConnectionId,
        error: ProtocolError,
        bytes: &[u8],
        out: &mut impl Output,
    ) {
        self.counters.protocol_errors += 1;
        self.count_over_quota(&error);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let code = ReasonCode::from(&error);
        let has_code = match &error {
            ProtocolError::Malformed(error) => error.v311_connect_return_code().is_some(),
            _ => false,
        };
        match connection.phase {
            // [MQTT-4.13.1-1]
            Phase::Ready { .. } => self.close(id, CloseReason::Protocol(error), out),
            _ if has_code || connection.version.is_v5() => {
                self.refuse_because(id, "", code, CloseReason::Protocol(error), out);
            }
            Phase::AwaitConnect if let Some(foreign) = Foreign::of(bytes) => {
                self.close_silently(id, CloseReason::Foreign(foreign), out);
            }
            // [MQTT-4.8.0-1] of 3.1.1
            _ => self.close_silently(id, CloseReason::Protocol(error), out),
        }
    }

    /// Ends a connection from this side and says why, where the client's version can be told; a
    /// will that is still there is published.
    pub(super) fn close(&mut self, id: ConnectionId, reason: CloseReason, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (version, packet_bytes_max) = (connection.version, connection.packet_bytes_max);
        if version.is_v5() && matches!(connection.phase, Phase::Ready { .. }) {
            let packet = Packet::Disconnect(Disconnect::because(reason.code()));
            out.outbox(id).push_with(|buffer| {
                let is_sent = encode_within(&packet, version, packet_bytes_max, buffer);
                debug_assert!(is_sent, "DISCONNECT is smaller than CONNACK, which was taken");
            });
        }
        self.end(id, "", reason.code(), reason, out);
    }

    pub(super) fn close_silently(
        &mut self,
        id: ConnectionId,
        reason: CloseReason,
        out: &mut impl Output,
    ) {
        self.end(id, "", ReasonCode::Success, reason, out);
    }

    /// The will of a session may be due, or the session over.
    pub(super) fn handle_session_timer(&mut self, name: SessionRef, out: &mut impl Output) {
        let Some(slot) = self.registry.resolve(name) else { return };
        self.registry.get_mut(slot).wake = Time::END;
        self.catch_up(slot, out);
        if self.registry.resolve(name).is_some() {
            self.wake_session(slot, self.registry.get(slot).due());
        }
    }

    /// CONNACK that says no, then close [MQTT-3.2.2-7]. The will of a client that was never
    /// connected is not published.
    pub(super) fn refuse(
        &mut self,
        id: ConnectionId,
        client_id: &str,
        code: ReasonCode,
        out: &mut impl Output,
    ) {
        self.refuse_because(id, client_id, code, CloseReason::Refused(code), out);
    }

    fn refuse_because(
        &mut self,
        id: ConnectionId,
        client_id: &str,
        code: ReasonCode,
        reason: CloseReason,
        out: &mut impl Output,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.will = None;
        let properties = Properties::EMPTY;
        let connack = Connack { session_present: false, reason: code, properties };
        let (version, packet_bytes_max) = (connection.version, connection.packet_bytes_max);
        send_connack(id, &connack, version, packet_bytes_max, out);
        self.end(id, client_id, ReasonCode::Success, reason, out);
    }

    /// Closes a connection, and says why in the log; `client_id` is empty if the phase of the
    /// connection knows it.
    fn end(
        &mut self,
        id: ConnectionId,
        client_id: &str,
        code: ReasonCode,
        reason: CloseReason,
        out: &mut impl Output,
    ) {
        if let Some(connection) = self.connections.take(id) {
            let known = self.client_id_of(&connection);
            out.note_closed(id, if client_id.is_empty() { known } else { client_id }, reason);
            out.close(id, code);
            self.leave(id, connection, out);
        }
    }

    /// The client identifier of a connection, as far as it is known; empty if it is not.
    fn client_id_of<'a>(&'a self, connection: &'a Connection) -> &'a str {
        match &connection.phase {
            Phase::AwaitConnect => "",
            Phase::Authenticating(opening) => &opening.client_id,
            Phase::Claiming(claim) => &claim.opening.client_id,
            Phase::Ready { slot } => self.registry.get(*slot).session.client_id(),
        }
    }

    /// What the session will be like; none if the client has to give an identifier.
    fn opening(&mut self, connect: &Connect<'_>) -> Option<Opening> {
        let limits = self.limits;
        let properties = connect.properties;
        let is_v5 = connect.version.is_v5();
        let client_id = self.client_id(connect)?;
        let requested_expiry_s = match (is_v5, connect.clean_start) {
            (true, _) => properties.session_expiry_interval_s().unwrap_or(0),
            (false, true) => 0,
            (false, false) => limits.session_expiry_v3_s,
        };
        let receive_count_max = properties.receive_maximum().unwrap_or(u16::MAX);
        let agreement = Agreement {
            expiry_interval_s: requested_expiry_s.min(limits.session_expiry_s_max),
            window: receive_count_max.min(limits.inflight_count_max),
            alias_count_max: if is_v5 { limits.topic_alias_count_max } else { 0 },
            receive_count_max: is_v5.then_some(limits.receive_count_max),
            may_retain: !is_v5 || limits.retained_count_max > 0,
        };
        Some(Opening {
            client_id,
            assigned: connect.client_id.is_empty(),
            clean_start: connect.clean_start,
            is_bridge: connect.is_bridge,
            keep_alive_s: self.keep_alive_s(connect),
            requested_expiry_s,
            agreement,
            alias_count_max: properties
                .topic_alias_maximum()
                .unwrap_or(0)
                .min(limits.topic_alias_count_max),
            method: properties.authentication_method().map(Into::into),
            username: connect.username.map(Into::into),
            password: connect.password.map(Into::into),
        })
    }

    /// A 5.0 client can be told to keep alive faster than it wants.
    fn keep_alive_s(&self, connect: &Connect<'_>) -> u16 {
        let max = self.limits.keep_alive_s_max;
        let wanted = connect.keep_alive_s;
        if connect.version.is_v5() && max > 0 && (wanted == 0 || wanted > max) {
            return max;
        }
        wanted
    }

    /// The identifier that the session goes by; none if the client has to give one.
    fn client_id(&mut self, connect: &Connect<'_>) -> Option<Box<str>> {
        if !connect.client_id.is_empty() {
            return Some(connect.client_id.into());
        }
        match connect.version {
            Version::V31 => None, // 3.1 does not know empty identifiers.
            Version::V311 if !connect.clean_start => None, // [MQTT-3.1.3-7] of 3.1.1
            _ => Some(self.assign_client_id()),
        }
    }

    /// Makes up an identifier that no client uses and whose home is this shard [MQTT-3.1.3-6].
    fn assign_client_id(&mut self) -> Box<str> {
        loop {
            self.assigned_count += 1;
            let client_id = format!("auto-{:016x}", self.registry.secret(self.assigned_count));
            let ours = self.partition.home(&client_id) == self.id;
            if ours && self.registry.find(&client_id).is_none() {
                return client_id.into();
            }
        }
    }

    /// Gives a client its session, which no connection holds.
    pub(super) fn open_session(&mut self, id: ConnectionId, claim: &Claim, out: &mut impl Output) {
        let opening = &claim.opening;
        let present = self.resumable(opening, out);
        self.work.charge(work::SESSION);
        let Some(slot) = present.or_else(|| self.new_session(opening)) else {
            return self.refuse(id, &opening.client_id, ReasonCode::ServerUnavailable, out);
        };
        self.charge_resume(slot);
        self.bind(id, slot, &opening.agreement, present.is_some(), claim, out);
        self.record_session(slot, out);
    }

    /// Makes a session and a connection each other's, and tells the client.
    pub(super) fn bind(
        &mut self,
        id: ConnectionId,
        slot: u32,
        agreement: &Agreement,
        is_present: bool,
        claim: &Claim,
        out: &mut impl Output,
    ) {
        let Claim { opening, data } = claim;
        let connection = self.connections.get_mut(id).expect("its CONNECT is being handled");
        connection.phase = Phase::Ready { slot };
        connection.method.clone_from(&opening.method);
        connection.keep_alive = KeepAlive::new(opening.keep_alive_s, self.now);
        let (version, packet_bytes_max) = (connection.version, connection.packet_bytes_max);
        if let Some(deadline) = connection.keep_alive.deadline() {
            self.set_timer(deadline, Timer::Silence(id));
        }
        self.accept_connect(id, opening, is_present, data, out);
        let resident = self.registry.get_mut(slot);
        resident.connection = Some(id);
        resident.peer = Peer::new(version, packet_bytes_max);
        resident.peer.is_bridge = opening.is_bridge;
        self.set_aliases(slot, opening.alias_count_max);
        let resident = self.registry.get_mut(slot);
        resident.expiry = Time::END;
        resident.take_will(); // [MQTT-3.1.3-9]
        self.with_wire(slot, out, |session, wire| {
            session.handle_resumed(agreement, wire);
        });
        self.handle_load(slot, out);
        self.replay_later(slot);
        let facts = Connected {
            client_id: &opening.client_id,
            version,
            username: opening.username.as_deref(),
            keep_alive_s: opening.keep_alive_s,
            is_session_present: is_present,
        };
        out.note_connected(id, &facts);
    }

    /// What the session holds is put in order, and some of it sent.
    fn charge_resume(&mut self, slot: u32) {
        let session = &self.registry.get(slot).session;
        let (inflight_count, queued_count) = (session.inflight_count(), session.queued_count());
        let sent_count = AT_ONCE_MAX.min(inflight_count + queued_count);
        self.work.charge(work::order(inflight_count) + work::times(work::DELIVERY, sent_count));
    }

    /// CONNACK that says yes, and in 5.0 on which terms.
    fn accept_connect(
        &mut self,
        id: ConnectionId,
        opening: &Opening,
        session_present: bool,
        data: &[u8],
        out: &mut impl Output,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (version, packet_bytes_max) = (connection.version, connection.packet_bytes_max);
        let mut buffer = Vec::new();
        let connack = accepting(version, opening, session_present, data, &self.limits, &mut buffer);
        send_connack(id, &connack, version, packet_bytes_max, out);
    }

    /// Whether the client takes a CONNACK that says yes: without one no other packet may be sent
    /// [MQTT-3.2.0-1].
    fn can_be_accepted(&mut self, id: ConnectionId, opening: &Opening, data: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let (mut buffer, mut encoded) = (Vec::new(), Vec::new());
        if connection.packet_bytes_max != UNLIMITED {
            let version = connection.version;
            let connack = accepting(version, opening, false, data, &self.limits, &mut buffer);
            Packet::Connack(connack).encode(version, &mut encoded);
        }
        encoded.len() <= connection.packet_bytes_max as usize
    }

    /// Returns the slot of the session that goes on, if one does.
    fn resumable(&mut self, opening: &Opening, out: &mut impl Output) -> Option<u32> {
        let slot = self.registry.find(&opening.client_id)?;
        self.catch_up(slot, out);
        let slot = self.registry.find(&opening.client_id)?;
        if opening.clean_start {
            self.end_session(slot, out); // [MQTT-3.1.2-4]
            return None;
        }
        Some(slot) // [MQTT-3.1.2-5]
    }

    /// What a timer will only say some milliseconds late has happened already.
    fn catch_up(&mut self, slot: u32, out: &mut impl Output) {
        self.publish_due_will(slot, out);
        if self.registry.get(slot).expiry <= self.now {
            self.end_session(slot, out);
        }
    }

    /// None when there are too many sessions.
    fn new_session(&mut self, opening: &Opening) -> Option<u32> {
        if !self.has_room_for_session() {
            return None;
        }
        self.account.names += allocated(opening.client_id.len());
        Some(self.registry.insert(Session::new(&opening.client_id, &opening.agreement)))
    }

    pub(super) fn has_room_for_session(&self) -> bool {
        self.registry.len() < self.share(self.limits.session_count_max)
    }

    /// Tells storage once that a session stays.
    fn record_session(&mut self, slot: u32, out: &mut impl Output) {
        let resident = self.registry.get_mut(slot);
        if resident.session.is_persistent() && resident.session.record() {
            let record = Record::SessionBegun { client_id: resident.session.client_id() };
            self.commits.persist(&record, out);
        }
    }

    /// This shard's share of a limit that holds for the whole process.
    pub(super) fn share(&self, limit: usize) -> usize {
        limit.div_ceil(self.partition.shard_count())
    }

    /// Does what the end of a connection causes, on either side.
    fn leave(&mut self, id: ConnectionId, connection: Connection, out: &mut impl Output) {
        self.take_overs.handle_left(id);
        self.counters.connections -= 1;
        self.counters.connections_closed += 1;
        self.account.held -= connection.held_bytes();
        let Phase::Ready { slot } = connection.phase else { return };
        self.set_aliases(slot, 0);
        let resident = self.registry.get_mut(slot);
        resident.connection = None;
        resident.peer.packet_bytes_max = UNLIMITED;
        self.with_wire(slot, out, |session, wire| session.handle_disconnected(wire));
        if let Some(long) = connection.long {
            self.abandon(&long, out);
        }
        let resident = self.registry.get_mut(slot);
        if !resident.session.is_persistent() {
            self.end_session(slot, out);
        } else {
            self.handle_load(slot, out);
            self.set_expiry(slot);
            if let Some(will) = connection.will {
                self.set_will(slot, will, out);
            }
            return;
        }
        if let Some(will) = connection.will {
            self.publish_will(&will, None, out); // [MQTT-3.1.2-8]
        }
    }

    /// From now on the connection of a session has this many aliases for topics, all to be defined.
    fn set_aliases(&mut self, slot: u32, count_max: u16) {
        let aliases = OutboundAliases::new(count_max, self.limits.topic_alias_bytes_max);
        let peer = &mut self.registry.get_mut(slot).peer;
        let before = peer.memory_bytes();
        peer.aliases = aliases;
        let bytes = self.counters.session_bytes + peer.memory_bytes() as u64;
        self.counters.session_bytes = bytes - before as u64;
    }

    /// Sets a session's timer unless it fires early enough.
    pub(super) fn wake_session(&mut self, slot: u32, due: Time) {
        let resident = self.registry.get_mut(slot);
        if due < resident.wake {
            resident.wake = due;
            self.set_timer(due, Timer::Session(self.registry.name(slot)));
        }
    }

    fn set_expiry(&mut self, slot: u32) {
        let interval_s = self.registry.get(slot).session.expiry_interval_s();
        if interval_s != NEVER {
            let expiry = self.now + Duration::from_secs(interval_s.into());
            self.registry.get_mut(slot).expiry = expiry;
            self.wake_session(slot, expiry);
        }
    }

    pub(super) fn end_session(&mut self, slot: u32, out: &mut impl Output) {
        self.work.charge(work::order(self.registry.get(slot).session.inflight_count()));
        self.with_wire(slot, out, |session, wire| session.handle_ended(wire));
        self.forget_member(slot, out);
        let resident = self.registry.get_mut(slot);
        let will = resident.take_will();
        if resident.session.is_recorded() {
            let record = Record::SessionEnded { client_id: resident.session.client_id() };
            self.commits.persist(&record, out);
        }
        self.retire(slot, out);
        if let Some((_, will)) = will {
            self.publish_will(&will, None, out); // [MQTT-3.1.3-9]
        }
    }
}
