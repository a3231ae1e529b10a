//! Memory that is given back when it is scarce: connections are closed that hold more than their
//! share of it in parts of packets and bytes that their clients do not read. A shard closes the one
//! that holds most first, and none any more once it has given back its part of what is missing. A
//! session that ends with its connection loses what it was still to get, as always when that ends.

use std::time::Duration;

use super::account::Level;
use super::{CloseReason, ConnectionId, Output, Shard, Timer, work};

/// How long it may be scarce before that is looked at, and again.
const PAUSE: Duration = Duration::from_millis(100);
/// What a connection may hold until memory is exhausted: a few packets, while it is not read.
const HELD_BYTES_MIN: usize = 16 * 1024;
/// The same however little memory there is.
const HELD_BYTES_LEAST: usize = 2 * 1024;

impl Shard {
    /// Returns whether a connection may hold this many bytes that are not handled or not read.
    #[must_use]
    pub fn may_hold(&self, bytes: usize) -> bool {
        let least = match self.account.level {
            Level::Exhausted => HELD_BYTES_LEAST,
            _ => HELD_BYTES_MIN,
        };
        bytes <= least || self.account.has_share(0, bytes)
    }

    /// Has a timer look whether memory stays scarce.
    pub(super) fn watch_memory(&mut self) {
        if self.account.level >= Level::Scarce && !self.account.is_watched {
            self.account.is_watched = true;
            self.set_timer(self.now + PAUSE, Timer::Memory);
        }
    }

    /// Memory was scarce a moment ago.
    pub(super) fn handle_scarcity(&mut self, out: &mut impl Output) {
        self.account.is_watched = false;
        self.balance();
        if self.account.level < Level::Scarce {
            return;
        }
        self.work.charge(work::times(work::CHECK, self.counters.connections as usize / 32));
        let mut missing = self.account.missing_bytes();
        for (bytes, id) in self.over_share(out) {
            if missing == 0 || self.is_used_up() {
                break;
            }
            self.work.charge(work::SESSION);
            missing = missing.saturating_sub(bytes);
            self.counters.closed_over_quota += 1;
            self.close(id, CloseReason::OverShare, out);
        }
        self.watch_memory();
    }

    /// Connections that hold more than they may, with how much, the heaviest first.
    fn over_share(&self, out: &mut impl Output) -> Vec<(usize, ConnectionId)> {
        let held = |(id, bytes)| (bytes + out.outbox_len(id), id);
        let all = self.connections.iter().map(|(id, connection)| (id, connection.held_bytes()));
        let mut heavy: Vec<_> = all.map(held).filter(|(bytes, _)| !self.may_hold(*bytes)).collect();
        heavy.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        heavy
    }
}
