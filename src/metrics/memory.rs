//! What clients cause to be held in memory, against what the process may hold.
//!
//! Each shard adds up what it holds and tells the [`Pool`] of the process how much that has
//! changed. A payload is shared by queues, windows and other shards: it is charged once, to the
//! [`Meter`] of the shard that copied it, from its first to its last holder.

use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// Bytes that an allocator gives for a request of `bytes`.
#[must_use]
pub const fn allocated(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}

/// Bytes of shared pieces of memory that a shard has made and that have a holder somewhere.
///
/// A piece may outlive its shard, so the figure lives as long as the process: a shard leaks a
/// word when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Meter(&'static AtomicUsize);

/// What is made outside of any shard, such as in tests.
static ELSEWHERE: AtomicUsize = AtomicUsize::new(0);

impl Meter {
    /// Makes a meter that shows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::leak(Box::default()))
    }

    /// The bytes that are held now.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// As many more are held.
    #[inline]
    pub fn add(self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// As many of those that were added are not held any more.
    #[inline]
    pub fn sub(self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self(&ELSEWHERE)
    }
}

/// What all shards of a process hold together, and may hold.
///
/// Beside what shards charge a process has memory of which they know nothing: what it has before a
/// client comes, and what its allocator cannot use. That is what was seen last, or `base` at least.
#[derive(Debug)]
pub struct Pool {
    limit: usize,
    base: usize,
    beside: AtomicUsize,
    charged: AtomicIsize,
}

/// The part of a pool that may be taken up by what is not charged beyond its base. The rest is
/// there for clients, however much the allocator keeps for later.
const BESIDE_SHARE: usize = 4;

impl Pool {
    const UNLIMITED: usize = isize::MAX.cast_unsigned();

    /// A pool of `limit` bytes, `base` of which are used whatever clients do.
    #[must_use]
    pub fn new(limit: usize, base: usize) -> Self {
        Self { limit, base, beside: AtomicUsize::new(base), charged: AtomicIsize::new(0) }
    }

    /// A pool that is never used up.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(Self::UNLIMITED, 0)
    }

    /// Bytes that may be held.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that are held, as far as the shards have told.
    #[must_use]
    pub fn used(&self) -> usize {
        self.charged() + self.beside.load(Ordering::Relaxed)
    }

    fn charged(&self) -> usize {
        self.charged.load(Ordering::Relaxed).max(0).cast_unsigned()
    }

    /// Whether it can be used up.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limit < Self::UNLIMITED
    }

    /// The process was seen to have this much memory.
    pub fn see(&self, resident: usize) {
        let beside_max = self.base + self.limit / BESIDE_SHARE;
        let beside = resident.saturating_sub(self.charged()).clamp(self.base, beside_max);
        self.beside.store(beside, Ordering::Relaxed);
    }

    /// Bytes that may be held beside those that are.
    #[must_use]
    pub fn free(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// Returns the same for sessions that hold little: what is not charged beyond the base is
    /// memory that the allocator keeps for later, half of which it may well give to them.
    #[must_use]
    pub fn free_for_little(&self) -> usize {
        let kept = self.beside.load(Ordering::Relaxed).saturating_sub(self.base);
        self.limit.saturating_sub(self.used() - kept / 2)
    }

    /// A shard holds `change` bytes more or, if it is negative, less.
    pub fn settle(&self, change: isize) {
        self.charged.fetch_add(change, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_shows_what_has_a_holder() {
        let meter = Meter::new();
        meter.add(100);
        meter.add(7);
        assert_eq!((meter.bytes(), Meter::new().bytes()), (107, 0));
        meter.sub(100);
        assert_eq!(meter.bytes(), 7);
    }

    #[test]
    fn a_pool_is_used_up_and_gets_room_again() {
        let pool = Pool::new(1000, 100);
        pool.settle(400);
        assert_eq!((pool.used(), pool.free()), (500, 500));
        pool.settle(600);
        assert_eq!((pool.used(), pool.free()), (1100, 0));
        pool.settle(-1000);
        assert_eq!((pool.used(), pool.free()), (100, 900));
        assert_eq!(Pool::unlimited().free(), isize::MAX.cast_unsigned());
    }

    #[test]
    fn what_the_process_has_beside_takes_a_part_of_the_pool_and_not_all_of_it() {
        let pool = Pool::new(1000, 100);
        pool.settle(400);
        for (resident, used) in [(450, 500), (500, 500), (600, 600), (5000, 400 + 350), (10, 500)] {
            pool.see(resident);
            assert_eq!(pool.used(), used, "{resident} are resident");
        }
        pool.see(600);
        assert_eq!((pool.free(), pool.free_for_little()), (400, 450), "half of 100 beside");
        pool.settle(-300);
        assert_eq!(pool.used(), 300, "until it is looked at again");
    }
}
