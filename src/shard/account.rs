//! What this shard holds because of clients, against what the process may hold.
//!
//! Each table adds up its own bytes where it changes. Here they are summed, at the end of a turn
//! and while much is read, and the pool gets the change. What a session may hold depends on what is
//! free: an eighth of it, without the sixteenth of all memory that is reserved for sessions that
//! hold little. So sessions that hold much are refused more long before memory is used up, and even
//! many of them leave what the others need.

use std::sync::Arc;

use crate::config::Limits;
use crate::metrics::{Meter, Pool};
use crate::session::Allowance;

use super::Shard;

/// The part of what is free that one session may hold.
const SHARE: usize = 8;
/// When less than this part of all memory is free, it is scarce.
const SCARCE: usize = 8;
/// The part of all memory that is reserved for sessions that hold little.
const RESERVE: usize = 16;
/// Such a session holds no more than this, and than this part of what is free.
const LITTLE_BYTES_MAX: usize = 16 * 1024;
const LITTLE_SHARE: usize = 256;
/// A smaller change is not passed to the pool.
const UNTOLD_BYTES: usize = 64 * 1024;
/// After this many bytes were read, the pool gets the change in the middle of a turn.
const READ_BYTES: u64 = 64 * 1024;
/// The part that outboxes and caches are cut to when memory is short.
const SHORT: usize = 16;

/// Memory of a session with its place in the tables, without its client identifier.
pub(super) const SESSION_BYTES: usize = 144;
/// Memory of a connection of which nothing waits.
const CONNECTION_BYTES: usize = 144;
/// Memory of a timer.
const TIMER_BYTES: usize = 40;
/// Memory of a filter of a session beside its text.
pub(super) const SUBSCRIPTION_BYTES: usize = 96;

/// How short memory is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    /// Less than three quarters are used.
    Ample,
    /// Caches are given up, and the outboxes of slow readers are cut.
    Short,
    /// Above seven eighths, nothing is retained that was not, and connections are closed that hold
    /// much.
    Scarce,
    /// Half of the reserve for sessions that hold little is used: no new session is accepted.
    Exhausted,
}

impl Level {
    fn of(pool: &Pool) -> Self {
        let (free, limit) = (pool.free(), pool.limit());
        match () {
            () if free < limit / RESERVE / 2 => Self::Exhausted,
            () if free < limit / SCARCE => Self::Scarce,
            () if free < limit / 4 => Self::Short,
            () => Self::Ample,
        }
    }
}

/// Returns what one session may hold, from what is free.
fn share_of(pool: &Pool) -> usize {
    let free = pool.free();
    let much = free.saturating_sub(pool.limit() / RESERVE) / SHARE;
    much.max(LITTLE_BYTES_MAX.min(pool.free_for_little() / LITTLE_SHARE))
}

/// The sums that no table keeps itself.
#[derive(Debug)]
pub(super) struct Account {
    pool: Arc<Pool>,
    pub(super) meter: Meter,
    pub(super) level: Level,
    pub(super) allowance: Allowance,
    /// What the outbox of a connection may hold when memory is not short.
    outbox_bytes_max: usize,
    /// What the pool was told last.
    told: usize,
    /// Bytes read when the pool was told.
    told_at: u64,
    /// What the executor holds for the connections of this shard.
    executor: usize,
    /// Client identifiers.
    pub(super) names: usize,
    /// Parts of packets.
    pub(super) held: usize,
    /// A timer is set to see whether connections are to be closed.
    pub(super) is_watched: bool,
}

impl Account {
    /// Whether memory is short.
    pub(super) fn is_short(&self) -> bool {
        self.level >= Level::Short
    }

    pub(super) fn new(limits: &Limits) -> Self {
        let meter = Meter::new();
        let allowance = Allowance {
            inflight_bytes_max: limits.inflight_bytes_max,
            held_bytes_max: usize::MAX,
            alias_bytes_max: limits.topic_alias_bytes_max,
            meter,
        };
        Self {
            pool: Arc::new(Pool::unlimited()),
            meter,
            level: Level::Ample,
            allowance,
            outbox_bytes_max: limits.outbox_bytes_max,
            told: 0,
            told_at: 0,
            executor: 0,
            names: 0,
            held: 0,
            is_watched: false,
        }
    }

    /// Whether a session that holds `held` bytes may hold `more`.
    pub(super) fn has_share(&self, held: usize, more: usize) -> bool {
        held + more <= self.allowance.held_bytes_max
    }

    /// Bytes that this shard is to give back before memory is not scarce any more: its part of what
    /// is missing, as it has its part of what is used; never nothing.
    pub(super) fn missing_bytes(&self) -> usize {
        let missing = (self.pool.limit() / SCARCE).saturating_sub(self.pool.free());
        let used = self.pool.used().max(1);
        (missing as u128 * self.told.min(used) as u128 / used as u128) as usize + 1
    }
}

impl Shard {
    /// The same shard as a part of a process whose memory is `pool`.
    #[must_use]
    pub fn with_pool(mut self, pool: Arc<Pool>) -> Self {
        self.account.pool = pool;
        self.balance();
        self
    }

    /// What the process may hold.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.account.pool
    }

    /// Bytes that this shard holds because of clients.
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        let account = &self.account;
        let filters = self.subscriptions.memory_bytes() + self.shares.memory_bytes();
        let interest = self.interest.memory_bytes() + self.groups.memory_bytes();
        let sums = account.names + account.held + filters + interest + self.links.memory_bytes();
        let counted = self.registry.len() * SESSION_BYTES
            + self.counters.connections as usize * CONNECTION_BYTES
            + self.timers.len() * TIMER_BYTES;
        let tables = self.archive.memory_bytes() + self.routes.memory_bytes();
        let sessions = self.counters.session_bytes as usize;
        account.meter.bytes() + sums + counted + tables + sessions + account.executor
    }

    /// Tells the pool what has changed, and sees what it leaves. `executor_bytes` is what the
    /// executor holds for the connections of this shard: outboxes, and bytes that were read.
    pub fn balance_with(&mut self, executor_bytes: usize) {
        self.account.executor = executor_bytes;
        self.balance();
    }

    /// Settles if much was read since that was done last.
    pub(super) fn balance_now_and_then(&mut self) {
        if self.counters.bytes_received - self.account.told_at >= READ_BYTES {
            self.balance();
        }
    }

    pub(super) fn balance(&mut self) {
        let charged = self.charged_bytes();
        let account = &mut self.account;
        account.told_at = self.counters.bytes_received;
        if charged.abs_diff(account.told) >= UNTOLD_BYTES {
            account.pool.settle(charged.wrapping_sub(account.told).cast_signed());
            account.told = charged;
        }
        account.allowance.held_bytes_max = share_of(&account.pool);
        let level = Level::of(&account.pool);
        if level != account.level {
            self.handle_level(level);
        }
    }

    fn handle_level(&mut self, level: Level) {
        self.account.level = level;
        let is_short = self.account.is_short();
        let part = |bytes: usize| if is_short { bytes / SHORT } else { bytes };
        self.limits.outbox_bytes_max = part(self.account.outbox_bytes_max).max(1024);
        let route_bytes_max = self.share(self.limits.route_cache_bytes_max);
        self.routes.set_bytes_max(part(route_bytes_max));
        self.watch_memory();
    }
}
