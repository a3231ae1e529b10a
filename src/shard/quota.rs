//! What is refused because it exceeds a limit of its client, or a share of memory that is short.
//!
//! Everything but deliveries is refused. A client of 5.0 gets the reason code, 0x97 where none says
//! more. An older client is refused as its version has it, or its packet has no effect. Each
//! refusal is counted.

use crate::mqtt::{Connect, DecodeError, Publish, ReasonCode, TopicName};
use crate::routing::shared_filter;
use crate::session::ProtocolError;

use super::account::{Level, SESSION_BYTES, SUBSCRIPTION_BYTES};
use super::connection::Phase;
use super::{ConnectionId, Output, Shard};

/// A CONNECT's version is known after at most this many bytes: a fixed header of 5, and a protocol
/// name of 6 with its length.
const VERSION_AT_MAX: usize = 14;

impl Shard {
    /// Acknowledges a publish that is not routed, because its topic is beyond a limit.
    pub(super) fn refuse_publish(
        &mut self,
        slot: u32,
        publish: &Publish<'_>,
        out: &mut impl Output,
    ) -> Result<(), ProtocolError> {
        self.counters.publishes_refused += 1;
        let reason = ReasonCode::TopicNameInvalid;
        self.with_wire(slot, out, |session, wire| session.refuse_publish(publish, reason, wire))
    }

    /// Whether a topic is within the limits; most are too short to have too many levels.
    pub(super) fn is_topic_allowed(&self, topic: &str) -> bool {
        let level_count_max = self.limits.topic_level_count_max;
        topic.len() <= self.limits.topic_bytes_max
            && (topic.len() < level_count_max || topic.split('/').count() <= level_count_max)
    }

    /// What a CONNECT is refused with that asks for more than limits and memory allow.
    pub(super) fn judge_connect(&self, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        if connect.client_id.len() > self.limits.client_id_bytes_max {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        let (keep_alive_s, keep_alive_s_max) = (connect.keep_alive_s, self.limits.keep_alive_s_max);
        let is_patient = keep_alive_s == 0 || keep_alive_s > keep_alive_s_max;
        let is_enforced = self.limits.keep_alive_v3_enforced && keep_alive_s_max > 0;
        if is_enforced && is_patient && !connect.version.is_v5() {
            return Err(ReasonCode::QuotaExceeded);
        }
        let will_bytes = connect.will.as_ref().map_or(0, |will| {
            will.topic.as_str().len() + will.properties.raw().len() + will.payload.len()
        });
        if will_bytes > self.limits.will_bytes_max {
            return Err(ReasonCode::QuotaExceeded);
        }
        let is_allowed = |topic: TopicName<'_>| self.is_topic_allowed(topic.as_str());
        if connect.will.as_ref().is_some_and(|will| !is_allowed(will.topic)) {
            return Err(ReasonCode::TopicNameInvalid);
        }
        // A client with a session may come back to it, and end it, however short memory is.
        let session_bytes = match self.registry.find(connect.client_id) {
            Some(_) => 0,
            None => SESSION_BYTES + connect.client_id.len(),
        };
        let is_refused = self.account.level == Level::Exhausted && session_bytes > 0;
        if is_refused || !self.account.has_share(0, session_bytes + will_bytes) {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(())
    }

    /// A CONNECT of which not all is read is refused in the words of its version; whether that is
    /// still to come.
    pub(super) fn must_see_version(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let Phase::AwaitConnect = connection.phase else { return false };
        match Connect::version_at_head(bytes) {
            Ok(version) => connection.version = version,
            Err(error) => return error == DecodeError::Truncated && bytes.len() < VERSION_AT_MAX,
        }
        false
    }

    /// Whether a session may have one more filter of this length.
    pub(super) fn has_room_for_filter(&self, slot: u32, filter: &str) -> bool {
        let resident = self.registry.get(slot);
        let share_count = resident.share_count();
        let count = resident.filters.len() + share_count;
        let bytes = resident.filter_bytes as usize;
        let held = resident.session.held_bytes() + bytes + count * SUBSCRIPTION_BYTES;
        count < self.limits.subscription_count_max
            && (share_count < self.limits.shared_subscription_count_max
                || shared_filter(filter).is_none())
            && bytes + filter.len() <= self.limits.subscription_bytes_max
            && self.account.has_share(held, filter.len())
    }

    /// Whether a message of this size may be retained in the place of one that has `before`.
    pub(super) fn may_retain(&self, bytes: usize, before: Option<usize>) -> bool {
        let limits = &self.limits;
        let count = self.archive.len() + usize::from(before.is_none());
        let held = self.archive.bytes() + bytes - before.unwrap_or(0);
        let grows = bytes > before.unwrap_or(0);
        count <= self.share(limits.retained_count_max)
            && held <= self.share(limits.retained_bytes_max)
            && (!grows || (self.account.level < Level::Scarce && self.account.has_share(0, bytes)))
    }

    /// Counts a connection that is closed for what its client has done, if it held too much.
    pub(super) fn count_over_quota(&mut self, error: &ProtocolError) {
        if matches!(error, ProtocolError::TopicAliasBytes | ProtocolError::OverShare) {
            self.counters.closed_over_quota += 1;
        }
    }
}
