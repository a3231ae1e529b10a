//! Memory that is short now and then, because of others that nothing is known of.

use std::sync::Arc;

use ringmq::config::Limits;
use ringmq::metrics::Pool;

use super::Network;

/// What the shards may hold, and what is left of it.
pub(super) struct Shortage {
    pool: Arc<Pool>,
    /// Bytes that are free after every input, if memory is short.
    free: Option<usize>,
}

impl Shortage {
    pub(super) fn new(limits: &Limits) -> Self {
        let pool = limits.memory_max.map_or_else(Pool::unlimited, |limit| Pool::new(limit, 0));
        Self { pool: Arc::new(pool), free: limits.memory_max }
    }

    pub(super) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }
}

impl Network {
    /// From now on each session may hold so many bytes: an eighth of what is free, a sixteenth of
    /// all memory set aside.
    pub(crate) fn leave(&mut self, share_bytes: usize) {
        let limit = self.shortage.pool.limit();
        self.shortage.free = Some((limit / 16 + 8 * share_bytes).min(limit));
        (0..self.shards.len()).for_each(|index| self.weigh(index));
    }

    /// A shard settles, and others give back what it takes, or take what it gives back.
    pub(super) fn weigh(&mut self, index: usize) {
        let Shortage { pool, free: Some(free) } = &self.shortage else { return };
        self.shards[index].balance_with(0);
        pool.settle(pool.free().cast_signed() - free.cast_signed());
        self.shards[index].balance_with(0);
    }

    /// Sockets and memory have room for everything from now on.
    pub(crate) fn widen(&mut self) {
        self.scenario.socket_bytes = usize::MAX;
        if self.shortage.free.is_some() {
            self.leave(usize::MAX / 16);
        }
    }
}
