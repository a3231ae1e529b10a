//! One connection of this shard: from bytes to packets, and when it is not read.

use std::time::Duration;

use crate::config::Limits;
use crate::mqtt::{
    self, Ack, Connect, DecodeError, Disconnect, Frame, Packet, PacketType, Publish, Version,
};
use crate::routing::{Placement, ShardId, shared_filter};
use crate::session::{Ask, KeepAlive, ProtocolError, Session};

use super::connect::Opening;
use super::held::{Held, seconds};
use super::long::{Long, is_long};
use super::pause::Pause;
use super::take_over::{Cause, Claim};
use super::will::LastWill;
use super::wire::{UNLIMITED, Wire};
use super::{CloseReason, ConnectionId, Output, Shard, Timer, work};

/// Where a connection stands.
///
/// ```text
/// AwaitConnect --CONNECT--> Authenticating --allowed--> Ready
///                                  |                      ^
///                                  +--> Claiming ---------+
///                  another connection holds its session
/// ```
#[derive(Debug)]
pub(super) enum Phase {
    /// CONNECT has not come.
    AwaitConnect,
    /// CONNECT has come and is being judged.
    Authenticating(Box<Opening>),
    /// It may connect, and waits until the older connection of its client has ended.
    Claiming(Box<Claim>),
    /// Bound to the session in this slot.
    Ready { slot: u32 },
}

#[derive(Debug)]
pub(super) struct Connection {
    generation: u32,
    pub(super) version: Version,
    /// The largest packet that the client takes.
    pub(super) packet_bytes_max: u32,
    pub(super) phase: Phase,
    pub(super) keep_alive: KeepAlive,
    pub(super) will: Option<Box<LastWill>>,
    /// The method of enhanced authentication that the connection was opened with.
    pub(super) method: Option<Box<str>>,
    /// It has begun to authenticate again, and was asked something.
    pub(super) is_challenged: bool,
    pub(super) pause: Option<Pause>,
    /// Whether a timer that sees whether it still reads is set.
    watched: bool,
    /// Bytes that came and could not be handled: part of a packet, or what came while paused.
    pub(super) held: Held,
    /// When the packet began whose first part is held, in seconds; it wraps at 2^16.
    pub(super) begun_s: u16,
    /// Whether a timer that sees whether that packet is whole is set.
    pub(super) is_packet_watched: bool,
    /// The packet at the front of `held` has more filters than are handled together, and is under
    /// way.
    pub(super) long: Option<Box<Long>>,
    /// Units of work that it has used in a turn, and in which.
    pub(super) spent: u32,
    turn: u32,
}

impl Connection {
    /// Units of work that it has used in this turn.
    fn spent_in(&self, turn: u32) -> u32 {
        if self.turn == turn { self.spent } else { 0 }
    }

    /// The largest packet that is taken from it: a smaller one before its client is accepted.
    pub(super) fn incoming_bytes_max(&self, limits: &Limits) -> usize {
        match self.phase {
            Phase::Ready { .. } => limits.packet_bytes_max,
            _ => limits.packet_bytes_max.min(limits.connect_bytes_max),
        }
    }
}

/// The connections of this shard by index.
#[derive(Debug, Default)]
pub(super) struct Connections {
    table: Vec<Option<Connection>>,
}

impl Connections {
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.table.get_mut(id.index as usize)?.as_mut()?;
        (connection.generation == id.generation).then_some(connection)
    }

    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get_mut(id)?;
        self.table[id.index as usize].take()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.table.iter().enumerate().filter_map(|(index, place)| {
            let connection = place.as_ref()?;
            let index = u32::try_from(index).expect("below 2^32 connections");
            Some((ConnectionId { index, generation: connection.generation }, connection))
        })
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.iter().map(|(id, _)| id).collect()
    }

    fn insert(&mut self, id: ConnectionId, connection: Connection) {
        let index = id.index as usize;
        if index >= self.table.len() {
            self.table.resize_with(index + 1, || None);
        }
        debug_assert!(self.table[index].is_none(), "the index is not in use");
        self.table[index] = Some(connection);
    }
}

/// What became of a packet.
pub(super) enum Step {
    /// Handled.
    Taken,
    /// Not handled: its connection is paused and it comes again.
    Refused,
    /// The connection is closed.
    Closed,
}

impl Shard {
    pub(super) fn handle_opened(&mut self, id: ConnectionId) {
        let timeout_s = self.limits.connect_timeout_s;
        let connection = Connection {
            generation: id.generation,
            version: Version::V311,
            packet_bytes_max: UNLIMITED,
            phase: Phase::AwaitConnect,
            keep_alive: KeepAlive::new(0, self.now),
            will: None,
            method: None,
            is_challenged: false,
            pause: None,
            watched: false,
            held: Held::default(),
            begun_s: seconds(self.now),
            is_packet_watched: false,
            long: None,
            spent: 0,
            turn: 0,
        };
        self.connections.insert(id, connection);
        self.counters.connections += 1;
        let deadline = self.now + Duration::from_secs(timeout_s.into());
        self.set_timer(deadline, Timer::Connect(id));
    }

    pub(super) fn handle_bytes(&mut self, id: ConnectionId, bytes: &[u8], out: &mut impl Output) {
        self.counters.bytes_received += bytes.len() as u64;
        if self.take_overs.is_settling() {
            self.take_overs.note_bytes(id, bytes.len());
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.keep_alive.handle_bytes(self.now);
        if connection.pause.is_some() {
            return self.hold(id, bytes, out);
        }
        self.work.begin_behind(connection.spent_in(self.work.turn()));
        if connection.held.is_empty() {
            let bytes_max = connection.incoming_bytes_max(&self.limits);
            let used = self.handle_packets(id, bytes, bytes_max, out);
            if used < bytes.len() {
                self.hold(id, &bytes[used..], out);
            }
        } else {
            self.hold(id, bytes, out);
            self.handle_held(id, out);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            (connection.spent, connection.turn) = (self.work.spent(), self.work.turn());
        }
        self.balance_now_and_then();
    }

    pub(super) fn handle_blocked(&mut self, id: ConnectionId, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !std::mem::replace(&mut connection.watched, true) {
            self.watch(id, out);
        }
    }

    pub(super) fn handle_drained(&mut self, id: ConnectionId, out: &mut impl Output) {
        self.unpause(id, Pause::Outbox);
        if let Some(slot) = self.slot(id) {
            self.with_wire(slot, out, |session, wire| session.handle_room(wire));
            self.handle_load(slot, out);
            self.replay_later(slot);
        }
    }

    /// A connection that is still not a client's when its time is up is closed.
    pub(super) fn handle_connect_timeout(&mut self, id: ConnectionId, out: &mut impl Output) {
        if self.is_waiting_for_connect(id) {
            self.settle(id, Cause::NoConnect, out);
        }
    }

    /// A claimant's CONNECT has come in time, however long its session takes.
    fn is_waiting_for_connect(&mut self, id: ConnectionId) -> bool {
        let phase = self.connections.get_mut(id).map(|connection| &connection.phase);
        matches!(phase, Some(Phase::AwaitConnect | Phase::Authenticating(_)))
    }

    pub(super) fn judge_connect_time(&mut self, id: ConnectionId, out: &mut impl Output) {
        if self.is_waiting_for_connect(id) {
            self.close(id, CloseReason::ConnectTimeout, out);
        }
    }

    /// The client may have been silent for longer than its keep-alive allows.
    pub(super) fn handle_silence(&mut self, id: ConnectionId, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.pause.is_some() {
            // It was not heard because it was not read.
            connection.keep_alive.handle_bytes(self.now);
        }
        let Some(deadline) = connection.keep_alive.deadline() else { return };
        match deadline > self.now {
            true => self.set_timer(deadline, Timer::Silence(id)),
            false => self.settle(id, Cause::Silent, out),
        }
    }

    pub(super) fn judge_silence(&mut self, id: ConnectionId, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(deadline) = connection.keep_alive.deadline() else { return };
        if deadline > self.now {
            return self.set_timer(deadline, Timer::Silence(id));
        }
        self.counters.keep_alive_timeouts += 1;
        // [MQTT-3.1.2-22], 3.1.1: [MQTT-3.1.2-24]
        self.close(id, CloseReason::KeepAliveTimeout, out);
    }

    /// A client that has not read one byte for the whole time is closed.
    pub(super) fn handle_stall(&mut self, id: ConnectionId, written: u64, out: &mut impl Output) {
        if self.connections.get_mut(id).is_some() {
            self.settle(id, Cause::Stalled { written }, out);
        }
    }

    pub(super) fn judge_stall(&mut self, id: ConnectionId, written: u64, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let outbox = out.outbox(id);
        if outbox.is_empty() {
            connection.watched = false;
        } else if outbox.written() != written {
            self.watch(id, out);
        } else {
            self.counters.slow_consumers_closed += 1;
            self.close(id, CloseReason::SlowConsumer, out);
        }
    }

    fn watch(&mut self, id: ConnectionId, out: &mut impl Output) {
        let deadline = self.now + Duration::from_secs(self.limits.slow_consumer_timeout_s.into());
        self.set_timer(deadline, Timer::Stall(id, out.outbox(id).written()));
    }

    pub(super) fn slot(&mut self, id: ConnectionId) -> Option<u32> {
        match self.connections.get_mut(id)?.phase {
            Phase::Ready { slot } => Some(slot),
            _ => None,
        }
    }

    fn incoming_bytes_max(&mut self, id: ConnectionId) -> usize {
        self.connections.get_mut(id).map_or(0, |it| it.incoming_bytes_max(&self.limits))
    }

    /// Handles whole packets of at most `bytes_max`; how many bytes were used.
    pub(super) fn handle_packets(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        mut bytes_max: usize,
        out: &mut impl Output,
    ) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let step = match mqtt::split(&bytes[used..], bytes_max) {
                Ok(None) if self.is_not_connect(id, bytes[used]) => Err(ProtocolError::NotConnect),
                Ok(None) => break,
                Ok(Some((frame, length))) => match self.handle_frame(id, frame, out) {
                    Ok(Step::Taken) => {
                        used += length;
                        if bytes_max < self.limits.packet_bytes_max {
                            bytes_max = self.incoming_bytes_max(id); // It may be accepted now.
                        }
                        if self.put_aside(id, out) {
                            break;
                        }
                        continue;
                    }
                    step => step,
                },
                Err(DecodeError::PacketTooLarge) if self.must_see_version(id, &bytes[used..]) => {
                    break;
                }
                Err(error) => Err(error.into()),
            };
            match step {
                Ok(Step::Refused) => break,
                Ok(_) => return bytes.len(),
                Err(error) => {
                    self.handle_protocol_error(id, error, &bytes[used..], out);
                    return bytes.len();
                }
            }
        }
        used
    }

    /// Whether a connection's first packet is another one than CONNECT: nothing waits for the rest
    /// of it.
    fn is_not_connect(&mut self, id: ConnectionId, first_byte: u8) -> bool {
        let phase = self.connections.get_mut(id).map(|connection| &connection.phase);
        matches!(phase, Some(Phase::AwaitConnect)) && !mqtt::may_begin_connect(first_byte)
    }

    fn handle_frame(
        &mut self,
        id: ConnectionId,
        frame: Frame<'_>,
        out: &mut impl Output,
    ) -> Result<Step, ProtocolError> {
        self.work.charge(work::PACKET);
        self.ask_count += u64::from(!frame.kind.is_acknowledgement());
        let Some(connection) = self.connections.get_mut(id) else { return Ok(Step::Closed) };
        if connection.pause.is_some() {
            return Ok(Step::Refused); // The packet before has to be answered first.
        }
        let version = connection.version;
        match connection.phase {
            Phase::Ready { slot } => self.handle_client_frame(id, slot, version, frame, out),
            _ => self.handle_early_frame(id, frame, out),
        }
    }

    /// A frame of a client that is connected.
    fn handle_client_frame(
        &mut self,
        id: ConnectionId,
        slot: u32,
        version: Version,
        frame: Frame<'_>,
        out: &mut impl Output,
    ) -> Result<Step, ProtocolError> {
        match frame.kind {
            PacketType::Publish => {
                self.work.charge(work::bytes(frame.body.len()));
                let publish = Publish::decode(frame, version)?;
                self.handle_publish_packet(id, slot, &publish, out)
            }
            kind if kind.is_acknowledgement() => {
                let ack = Ack::decode(frame, version)?;
                self.handle_ack(id, slot, kind, ack, out)
            }
            // Whatever it says: no reason for which a CONNECT is refused may stand in DISCONNECT.
            PacketType::Connect => Err(ProtocolError::SecondConnect),
            kind if kind.is_from_server() => Err(ProtocolError::ServerOnly),
            _ if is_long(frame, &self.slices) => self.handle_long(id, slot, frame, out),
            _ => {
                let packet = Packet::decode(frame, version)?;
                self.handle_packet(id, slot, &packet, out)
            }
        }
    }

    /// A frame of a client that is not connected yet.
    fn handle_early_frame(
        &mut self,
        id: ConnectionId,
        frame: Frame<'_>,
        out: &mut impl Output,
    ) -> Result<Step, ProtocolError> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(Step::Closed) };
        match (&connection.phase, frame.kind) {
            (Phase::AwaitConnect, PacketType::Connect) => {
                connection.version = refusing_version(frame);
                let Packet::Connect(connect) = Packet::decode(frame, Version::V311)? else {
                    return Err(ProtocolError::NotConnect);
                };
                self.handle_connect(id, &connect, out);
            }
            (Phase::AwaitConnect, _) => return Err(ProtocolError::NotConnect), // [MQTT-3.1.0-1]
            // Whatever it says: no reason for which a CONNECT is refused may stand in DISCONNECT.
            (_, PacketType::Connect) => return Err(ProtocolError::SecondConnect),
            (_, kind) if kind.is_from_server() => return Err(ProtocolError::ServerOnly),
            (Phase::Authenticating(_), PacketType::Auth | PacketType::Disconnect) => {
                match Packet::decode(frame, connection.version)? {
                    Packet::Auth(auth) => self.handle_auth(id, &auth, out)?,
                    Packet::Disconnect(Disconnect { reason, .. }) => {
                        self.close_silently(id, CloseReason::Disconnected(reason), out);
                    }
                    _ => unreachable!("it is one of the two"),
                }
            }
            // [MQTT-3.1.2-30]
            (Phase::Authenticating(_), _) => return Err(ProtocolError::UnexpectedPacket),
            _ => return Ok(Step::Refused), // A claimant is not read meanwhile.
        }
        Ok(self.step_after(id))
    }

    fn step_after(&mut self, id: ConnectionId) -> Step {
        if self.connections.get_mut(id).is_some() { Step::Taken } else { Step::Closed }
    }

    /// [`Self::handle_packet`] for the packet that everything else exists for.
    fn handle_publish_packet(
        &mut self,
        id: ConnectionId,
        slot: u32,
        publish: &Publish<'_>,
        out: &mut impl Output,
    ) -> Result<Step, ProtocolError> {
        let owner = self.owner_of(slot, publish);
        if let Some(pause) = self.pause_before_publish(id, slot, publish, owner, out) {
            if pause == Pause::Order {
                self.ask_for_order(slot, out);
            }
            self.pause(id, pause, out);
            return Ok(Step::Refused);
        }
        if !self.is_topic_allowed(publish.topic.as_str()) {
            self.refuse_publish(slot, publish, out)?;
            return Ok(Step::Taken);
        }
        let routed =
            self.with_wire(slot, out, |session, wire| session.handle_publish(publish, wire))?;
        if let Some((incoming, sequence)) = routed {
            let owner = owner.ok_or(ProtocolError::TopicAliasUnknown)?;
            self.handle_publish(slot, publish, &incoming, owner, sequence, out);
        }
        Ok(Step::Taken)
    }

    /// [`Self::handle_packet`] for the acknowledgements.
    fn handle_ack(
        &mut self,
        id: ConnectionId,
        slot: u32,
        kind: PacketType,
        ack: Ack<'_>,
        out: &mut impl Output,
    ) -> Result<Step, ProtocolError> {
        if let Some(pause) = self.pause_before_answer(id, out) {
            self.pause(id, pause, out);
            return Ok(Step::Refused);
        }
        self.with_wire(slot, out, |session, wire| session.handle_ack(kind, ack, wire))?;
        if kind != PacketType::Pubrel && self.registry.get(slot).aside().is_some() {
            self.handle_load(slot, out);
            self.replay_later(slot);
        }
        Ok(Step::Taken)
    }

    fn handle_packet(
        &mut self,
        id: ConnectionId,
        slot: u32,
        packet: &Packet<'_>,
        out: &mut impl Output,
    ) -> Result<Step, ProtocolError> {
        if let Some(pause) = self.pause_before(id, packet, out) {
            self.pause(id, pause, out);
            return Ok(Step::Refused);
        }
        if !self.takes_answer(slot, packet) {
            self.close(id, CloseReason::AnswerTooLarge, out); // [MQTT-3.1.2-24]
            return Ok(Step::Closed);
        }
        let ask = self.with_wire(slot, out, |session, wire| session.handle_packet(packet, wire))?;
        match ask {
            Ask::Nothing => return Ok(Step::Taken), // None of these closes a connection.
            Ask::Publish(..) => unreachable!("a PUBLISH has a way of its own"),
            Ask::Subscribe(subscribe) => self.handle_subscribe(slot, &subscribe, out),
            Ask::Unsubscribe(unsubscribe) => self.handle_unsubscribe(slot, &unsubscribe, out),
            Ask::Disconnect(disconnect) => {
                self.handle_disconnect(id, slot, &disconnect, out)?;
                return Ok(Step::Closed);
            }
            Ask::Authenticate(auth) => self.handle_auth(id, &auth, out)?,
        }
        Ok(self.step_after(id))
    }

    /// Lends a session together with the way to its client.
    pub(super) fn with_wire<O: Output, R>(
        &mut self,
        slot: u32,
        out: &mut O,
        use_them: impl FnOnce(&mut Session, &mut Wire<'_, O>) -> R,
    ) -> R {
        let resident = self.registry.get_mut(slot);
        let mut wire = Wire {
            out,
            connection: resident.connection,
            outbox_bytes_max: self.limits.outbox_bytes_max,
            peer: &mut resident.peer,
            counters: &mut self.counters,
            allowance: &self.account.allowance,
            layouts: &mut self.layouts,
            given_back: &mut self.given_back,
            is_fan_out: false,
            now: self.now,
        };
        use_them(&mut resident.session, &mut wire)
    }

    /// Whether this shard owns topics that a filter matches.
    pub(super) fn owns(&self, filter: &str) -> bool {
        match self.partition.placement(plain_filter(filter)) {
            Placement::One(owner) => owner == self.id,
            Placement::Every => true,
        }
    }

    /// The other shards that own topics that a filter matches.
    pub(super) fn owners(&self, filter: &str) -> impl Iterator<Item = ShardId> + use<> {
        let owners = match self.partition.placement(plain_filter(filter)) {
            Placement::One(owner) => owner.index()..owner.index() + 1,
            Placement::Every => 0..self.partition.shard_count(),
        };
        let own = self.id;
        owners.map(ShardId::from_index).filter(move |owner| *owner != own)
    }
}

/// What a filter matches, without the group that shares it.
fn plain_filter(filter: &str) -> &str {
    shared_filter(filter).unwrap_or(filter)
}

/// In which version's words a CONNECT is refused, should it not be valid: in those of 3.1.1 if its
/// version is none that is known.
fn refusing_version(frame: Frame<'_>) -> Version {
    Connect::version_of(frame).unwrap_or(Version::V311)
}
