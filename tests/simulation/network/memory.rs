//! Memory that is short now and then, because of others that nothing is known of.

use std::sync::Arc;

use ringmq::config::Limits;
use ringmq::metrics::Pool;
use ringmq::shard::Shard;

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

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A shard settles, and others give back what it takes, or take what it gives back.
    pub(super) fn weigh(&self, shard: &mut Shard) {
        let Some(free) = self.free else { return };
        shard.balance_with(0);
        self.pool.settle(self.pool.free().cast_signed() - free.cast_signed());
        shard.balance_with(0);
    }
}

impl Network {
    /// Leaves each session `share_bytes` from now on: an eighth of what is free, a sixteenth of all
    /// memory set aside.
    pub(crate) fn leave(&mut self, share_bytes: usize) {
        let shortage = &mut self.harness.world.shortage;
        let limit = shortage.pool.limit();
        shortage.free = Some((limit / 16 + 8 * share_bytes).min(limit));
        self.harness.shards.iter_mut().for_each(|shard| shortage.weigh(shard));
    }

    /// Sockets and memory have room for everything from now on.
    pub(crate) fn widen(&mut self) {
        self.harness.world.scenario.socket_bytes = usize::MAX;
        if self.harness.world.shortage.free.is_some() {
            self.leave(usize::MAX / 16);
        }
    }
}
