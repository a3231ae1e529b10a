//! Take-over, and what has to be read before a connection is judged.
//!
//! ```text
//! CONNECT whose client id is in use -> claims it -> the holder is settled: what its peer has sent
//!   is handled, at most 1 MiB and for at most 100 ms -> the holder is closed, unless it has left
//!   by itself -> the claimants get the session one after the other, in the order of their CONNECT
//! ```
//! A DISCONNECT that was sent before the newer CONNECT is so handled before it [MQTT-3.14.4-3]. The
//! same reading comes before a connection is closed because a time has passed: a process that stood
//! still has not heard what lies in its sockets.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::AHashMap;

use crate::metrics::allocated;
use crate::mqtt::ReasonCode;
use crate::session::{Agreement, Session, Time};

use super::connect::Opening;
use super::connection::Phase;
use super::pause::Pause;
use super::{CloseReason, ConnectionId, Output, Shard, Timer};

/// How long the newer connection waits for what the older one has sent.
const SETTLE_TIME_MAX: Duration = Duration::from_millis(100);
/// Bytes of the older connection that are handled meanwhile.
const SETTLE_BYTES_MAX: usize = 1 << 20;
/// How soon a connection that may not be read is looked at again.
const SETTLE_AGAIN: Duration = Duration::from_millis(10);

/// Which of two connections of one client identifier has the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The claimant's CONNECT was whole last, so it gets the session [MQTT-3.1.4-3].
    Newer,
    /// The claimant's CONNECT was whole first and came to this shard late.
    Older,
    /// The claimant's connection is broken.
    Broken,
}

/// Why a connection may be closed once it is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// Another connection claims its session.
    TakenOver { until: Time, bytes_left: usize },
    /// Its keep-alive has passed.
    Silent,
    /// Its CONNECT has not come in time.
    NoConnect,
    /// Its peer has taken nothing since this many bytes had been written.
    Stalled { written: u64 },
}

/// A CONNECT that may have the session of its client identifier once that is free.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) opening: Box<Opening>,
    /// What the authentication answers with CONNACK.
    pub(super) data: Vec<u8>,
}

/// Connections that are settled, and those that wait for them.
#[derive(Debug, Default)]
pub(super) struct TakeOvers {
    settling: AHashMap<ConnectionId, Vec<Cause>>,
    /// Claimants by the connection that holds their session, oldest first.
    claimants: AHashMap<ConnectionId, VecDeque<ConnectionId>>,
    /// Claimants whose holder has gone.
    granted: VecDeque<ConnectionId>,
}

impl TakeOvers {
    /// Whether any connection is being settled.
    pub(super) fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// Takes bytes that came off what a settling connection may still send.
    pub(super) fn note_bytes(&mut self, id: ConnectionId, count: usize) {
        for cause in self.settling.get_mut(&id).into_iter().flatten() {
            if let Cause::TakenOver { bytes_left, .. } = cause {
                *bytes_left = bytes_left.saturating_sub(count);
            }
        }
    }

    /// Frees what waited for a connection that has ended.
    pub(super) fn handle_left(&mut self, id: ConnectionId) {
        self.settling.remove(&id);
        self.granted.extend(self.claimants.remove(&id).into_iter().flatten());
    }

    /// Whether any claimant may have its session.
    pub(super) fn has_granted(&self) -> bool {
        !self.granted.is_empty()
    }

    /// Returns the next claimant that may have its session.
    pub(super) fn next_granted(&mut self) -> Option<ConnectionId> {
        self.granted.pop_front()
    }

    /// Adds a cause; whether the connection was not being settled before.
    fn add(&mut self, id: ConnectionId, cause: Cause) -> bool {
        let causes = self.settling.entry(id).or_default();
        let kind = std::mem::discriminant(&cause);
        if causes.iter().all(|other| std::mem::discriminant(other) != kind) {
            causes.push(cause);
        }
        causes.len() == 1
    }
}

impl Shard {
    /// Gives a client its session, at once if no other connection holds it.
    pub(super) fn claim_session(&mut self, id: ConnectionId, claim: Claim, out: &mut impl Output) {
        let slot = self.registry.find(&claim.opening.client_id);
        let Some(holder) = slot.and_then(|slot| self.registry.get(slot).connection) else {
            return self.open_session(id, &claim, out);
        };
        match out.standing(id, holder) {
            Standing::Newer => self.wait_for_session(id, holder, claim, out),
            Standing::Older => self.open_aside(id, &claim, out),
            Standing::Broken => {
                self.counters.connections_broken_early += 1;
                self.void_will(id);
                self.close_silently(id, CloseReason::Lost, out);
            }
        }
    }

    /// Begins to settle a connection: what its peer has sent is handled before it is judged.
    pub(super) fn settle(&mut self, id: ConnectionId, cause: Cause, out: &mut impl Output) {
        let is_first = self.take_overs.add(id, cause);
        if is_first && out.settle(id) {
            self.handle_settled(id, true, out);
        }
    }

    /// A look at a settling connection has ended: all that had come until then is handled, and
    /// `is_quiet` says that nothing is left unread.
    pub(super) fn handle_settled(
        &mut self,
        id: ConnectionId,
        is_quiet: bool,
        out: &mut impl Output,
    ) {
        let Some(causes) = self.take_overs.settling.remove(&id) else { return };
        let is_paused = self.connections.get_mut(id).is_some_and(|c| c.is_paused());
        for cause in causes {
            let is_over = match cause {
                Cause::TakenOver { until, bytes_left } => {
                    let is_cut_off = !is_quiet && (self.now >= until || bytes_left == 0);
                    self.counters.takeovers_cut_off += u64::from(is_cut_off);
                    is_quiet || is_cut_off
                }
                Cause::Silent | Cause::NoConnect => is_quiet || is_paused,
                Cause::Stalled { .. } => true, // Whether it is read does not matter.
            };
            if is_over {
                self.judge(id, cause, out);
            } else {
                self.take_overs.add(id, cause);
            }
        }
        if self.connections.get_mut(id).is_none() {
            self.take_overs.settling.remove(&id);
        } else if !self.take_overs.settling.contains_key(&id) {
            // It was judged and may stay.
        } else if is_paused {
            self.set_timer(self.now + SETTLE_AGAIN, Timer::Settle(id));
        } else {
            self.settle_again(id, out);
        }
    }

    /// Looks again at a connection that was not quiet.
    pub(super) fn settle_again(&mut self, id: ConnectionId, out: &mut impl Output) {
        if self.take_overs.settling.contains_key(&id) && out.settle(id) {
            self.handle_settled(id, true, out);
        }
    }

    /// Gives a claimant the session that its holder has left, or has it claim it from the next.
    pub(super) fn grant(&mut self, id: ConnectionId, out: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::Claiming(_)) {
            return;
        }
        let phase = std::mem::replace(&mut connection.phase, Phase::AwaitConnect);
        let Phase::Claiming(claim) = phase else { return };
        self.claim_session(id, *claim, out);
        if self.connections.get_mut(id).is_some_and(|c| !matches!(c.phase, Phase::Claiming(_))) {
            self.unpause(id, Pause::TakeOver);
        }
    }

    /// Closes a connection if its cause still holds after all that came was handled.
    fn judge(&mut self, id: ConnectionId, cause: Cause, out: &mut impl Output) {
        match cause {
            Cause::TakenOver { .. } => {
                self.counters.takeovers += 1;
                self.close(id, CloseReason::TakenOver, out);
            }
            Cause::Silent => self.judge_silence(id, out),
            Cause::NoConnect => self.judge_connect_time(id, out),
            Cause::Stalled { written } => self.judge_stall(id, written, out),
        }
    }

    fn wait_for_session(
        &mut self,
        id: ConnectionId,
        holder: ConnectionId,
        claim: Claim,
        out: &mut impl Output,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.phase = Phase::Claiming(Box::new(claim));
        self.pause(id, Pause::TakeOver, out);
        self.take_overs.claimants.entry(holder).or_default().push_back(id);
        self.settle(holder, self.taken_over(), out);
    }

    fn taken_over(&self) -> Cause {
        Cause::TakenOver { until: self.now + SETTLE_TIME_MAX, bytes_left: SETTLE_BYTES_MAX }
    }

    /// Serves a connection that a newer one has overtaken on its way here, as if it had come in
    /// time and was taken over then: what its client has sent counts, its session does not stay.
    fn open_aside(&mut self, id: ConnectionId, claim: &Claim, out: &mut impl Output) {
        let opening = &claim.opening;
        if !self.has_room_for_session() {
            let reason = ReasonCode::ServerUnavailable;
            return self.refuse(id, &opening.client_id, reason, out);
        }
        let agreement = Agreement { expiry_interval_s: 0, ..opening.agreement };
        self.account.names += allocated(opening.client_id.len());
        let slot = self.registry.insert_aside(Session::new(&opening.client_id, &agreement));
        self.void_delayed_will(id); // The client is back already [MQTT-3.1.3-9].
        self.bind(id, slot, &agreement, false, claim, out);
        self.settle(id, self.taken_over(), out);
    }
}
