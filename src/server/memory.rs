//! How much memory the process may take.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::config::Limits;
use crate::metrics::Pool;
use crate::session::Time;

use super::cgroup;

/// The part that is used unless it is said how much, in percent. What is left is for the kernel,
/// for page tables and stacks. Measured on Linux with `net.ipv4.tcp_wmem` and `tcp_rmem` as they
/// come, by what 100 to 2,000 connections added to `mem` of `/proc/net/sockstat` and to `Slab` of
/// `/proc/meminfo`: one that is idle takes 4 KiB, one whose client does not read 3.8 MiB, and one
/// that is not read either, as its client does not read answers, 2.3 MiB. All of them together get
/// at most `net.ipv4.tcp_mem`, which is 9 % of the machine's memory where nobody has set it.
const SHARE_PERCENT: usize = 70;
/// What the allocator may take beyond what was asked for, out of a hundred.
const ALLOCATOR_PERCENT: usize = 7;

/// What an executor takes whatever clients do: its rings, 2 MiB of buffers that are read into, and
/// its channels.
const EXECUTOR_BYTES: usize = 6 << 20;
/// How often the memory of the process is looked at while something happens.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Turns of an executor after which it looks at the clock for that.
const TURNS_PER_LOOK: u32 = 16;

/// The pool of the shards: what was set, or a share of what there is.
pub(super) fn pool(limits: &Limits, shard_count: usize) -> Arc<Pool> {
    let limit = limits.memory_max.unwrap_or_else(|| available() / 100 * SHARE_PERCENT);
    if limit == 0 {
        return Arc::new(Pool::unlimited());
    }
    info!("memory_max is {} MiB", limit >> 20);
    let base = resident() + shard_count * EXECUTOR_BYTES;
    Arc::new(Pool::new(limit / (100 + ALLOCATOR_PERCENT) * 100, base))
}

/// Tells the pool now and then what the process has in memory: the allocator keeps more than was
/// foreseen where memory is given back in other sizes than it is asked for.
#[derive(Default)]
pub(super) struct Lookout {
    turn_count: u32,
    looked: Time,
}

impl Lookout {
    /// A turn begins; looks if it is time to.
    pub(super) fn handle_turn(&mut self, pool: &Pool, now: impl FnOnce() -> Time) {
        self.turn_count = self.turn_count.wrapping_add(1);
        if !pool.is_limited() || !self.turn_count.is_multiple_of(TURNS_PER_LOOK) {
            return;
        }
        let now = now();
        if now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            pool.see(resident());
        }
    }
}

/// The least of the limits that there are, in bytes; 0 if none is known.
fn available() -> usize {
    let limits = [machine(), address_space(), control_group()];
    limits.into_iter().flatten().min().unwrap_or(0)
}

/// The memory of the machine.
fn machine() -> Option<usize> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    field_kib(&info, "MemTotal:")
}

/// What the process has in memory; 0 if that is not known.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    field_kib(&status, "VmRSS:").unwrap_or(0)
}

/// `RLIMIT_AS`, as the system writes it.
fn address_space() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the control groups of the process allow.
fn control_group() -> Option<usize> {
    let v2 = |folder: &Path| cgroup::number(folder, "memory.max");
    let v1 = |folder: &Path| cgroup::number(folder, "memory.limit_in_bytes");
    cgroup::least("memory", v2, v1).and_then(|bytes| usize::try_from(bytes).ok())
}

/// The value of a line `name: 123 kB`, in bytes.
fn field_kib(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_is_known_and_what_is_taken_is_less() {
        let total = machine().expect("the system says so");
        assert!(total > 64 << 20, "{total}");
        assert!((1..total).contains(&resident()));
        assert!((1..=total).contains(&available()));
    }

    #[test]
    fn nothing_and_a_size_are_limits_that_were_set() {
        let pool_of = |memory_max| pool(&Limits { memory_max, ..Limits::default() }, 1);
        assert_eq!(pool_of(Some(0)).limit(), Pool::unlimited().limit());
        let limit = pool_of(Some(107 << 20)).limit();
        assert_eq!(limit, 100 << 20);
        assert!(pool_of(None).limit() < available());
    }
}
