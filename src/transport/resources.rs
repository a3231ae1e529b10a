//! What the system lets this process have: descriptors, and memory that is locked.
#![allow(unsafe_code, reason = "the system calls have no safe wrapper among our dependencies")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A resource that the system limits for a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resource {
    /// Open descriptors, `RLIMIT_NOFILE`.
    Descriptors,
    /// Bytes of locked memory, `RLIMIT_MEMLOCK`.
    LockedMemory,
}

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Self::Descriptors => libc::RLIMIT_NOFILE,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
        }
    }

    /// Raises the soft limit to the hard one; returns what it is then.
    ///
    /// # Errors
    /// What the system says if it does not tell the limit.
    pub(super) fn raise(self) -> io::Result<usize> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes to `limit` alone.
        if unsafe { libc::getrlimit(self.number(), &raw mut limit) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: the kernel reads `raised` alone.
        if unsafe { libc::setrlimit(self.number(), &raw const raised) } == 0 {
            limit = raised;
        }
        Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
    }
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
    let count = count.min(Resource::Descriptors.raise()?).min(ENTRY_COUNT_MAX);
    let highest = count.saturating_sub(1) as libc::c_int;
    // SAFETY: it takes numbers only.
    let copy = unsafe { libc::fcntl(any.as_raw_fd(), libc::F_DUPFD_CLOEXEC, highest) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and has no other owner.
    drop(unsafe { OwnedFd::from_raw_fd(copy) });
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
        let max = Resource::Descriptors.raise().expect("the system says so");
        let count = max.min(2000);
        make_room(count, file.as_fd()).expect("the table grows");
        assert!(table_len() >= count, "{} of {count}", table_len());
        make_room(usize::MAX, file.as_fd()).expect("more than may be is as many as may be");
    }
}
