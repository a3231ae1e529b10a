//! What the system lets this process have: descriptors, and memory that is locked.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of a resource to the hard one; returns what it is then.
pub(super) fn raise(resource: Resource) -> usize {
    let limit = getrlimit(resource);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let now = if setrlimit(resource, raised).is_ok() { limit.maximum } else { limit.current };
    now.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// A table that is made larger at once has no more entries, of 8 bytes each.
const ENTRY_COUNT_MAX: usize = 1 << 20;

/// Makes the table of descriptors hold `count`, or as many as the process may have. The kernel
/// doubles a full table, and in a process with several threads the call that opens a descriptor
/// waits some 15 ms for all processors to take note. So this is called before threads
/// start. `any` is a descriptor that is open.
///
/// # Errors
/// What the system says; nothing has changed then.
pub fn make_room(count: usize, any: BorrowedFd<'_>) -> io::Result<()> {
    let count = count.min(raise(Resource::Nofile)).min(ENTRY_COUNT_MAX);
    let highest = i32::try_from(count).unwrap_or(i32::MAX).saturating_sub(1).max(0);
    rustix::io::fcntl_dupfd_cloexec(any, highest)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Entries of the table.
    fn table_len() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux says so");
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        line.and_then(|size| size.trim().parse().ok()).expect("it is a number")
    }

    #[test]
    fn there_is_room_for_as_many_as_the_process_may_have() {
        let file = std::fs::File::open("/proc/self/status").expect("Linux has it");
        let max = raise(Resource::Nofile);
        let count = max.min(2000);
        make_room(count, file.as_fd()).expect("the table grows");
        assert!(table_len() >= count, "{} of {count}", table_len());
        make_room(usize::MAX, file.as_fd()).expect("more than may be is as many as may be");
    }
}
