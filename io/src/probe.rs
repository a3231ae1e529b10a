//! Asks the system, before any thread is started, for what every executor needs. A thread that
//! does not get it can only say so late, or not at all; here each cause is named with its remedy.

use std::fmt;
use std::fs;
use std::io;

use rustix::process::Resource;

use super::resources::raise;
use super::sockets::Sockets;

/// glommio starts no executor that may lock less.
const LOCKED_BYTES_MIN: usize = 512 * 1024;

/// What is needed and is not there.
#[derive(Debug)]
pub enum Unmet {
    /// A ring with the features that are used; what the system says.
    Ring(io::Error),
    /// Memory that may be locked; how many bytes may be.
    LockedMemory(usize),
}

/// Raises the limits of descriptors and of locked memory as far as the process may, and sets up a
/// ring as every executor will. Returns how many descriptors the process may have.
///
/// # Errors
/// [`Unmet`]: no executor would start.
pub fn probe() -> Result<usize, Unmet> {
    let locked_bytes = raise(Resource::Memlock);
    if locked_bytes < LOCKED_BYTES_MIN {
        return Err(Unmet::LockedMemory(locked_bytes));
    }
    let descriptor_count = raise(Resource::Nofile);
    Sockets::new().map_err(Unmet::Ring)?;
    Ok(descriptor_count)
}

impl fmt::Display for Unmet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => out.write_str(&explain(error, disabled_by_sysctl())),
            Self::LockedMemory(bytes) => write!(
                out,
                "only {} KiB of memory may be locked, and an executor needs {} KiB: raise the \
                 limit with LimitMEMLOCK= (systemd), --ulimit memlock=-1 (Docker) or ulimit -l",
                bytes / 1024,
                LOCKED_BYTES_MIN / 1024
            ),
        }
    }
}

impl std::error::Error for Unmet {}

/// The system calls that a container has to allow.
const CALLS: &str = "io_uring_setup, io_uring_enter and io_uring_register";

fn explain(error: &io::Error, sysctl: Option<u8>) -> String {
    match (error.raw_os_error(), sysctl) {
        (Some(libc::EPERM | libc::EACCES), Some(disabled)) => format!(
            "io_uring is switched off here: the sysctl kernel.io_uring_disabled is {disabled}; set \
             it to 0"
        ),
        (Some(libc::EPERM | libc::EACCES), None) => format!(
            "io_uring is not permitted, as in most containers: run it with a seccomp profile that \
             allows {CALLS}, such as --security-opt seccomp=unconfined (Docker)"
        ),
        (Some(libc::ENOSYS), _) => format!(
            "there is no io_uring: it needs Linux 6.1 or later and, in a container, a seccomp \
             profile that allows {CALLS}"
        ),
        (Some(libc::EINVAL), _) => format!(
            "io_uring has not the features that are used: it needs Linux 6.1 or later, and this \
             is {}",
            fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim()
        ),
        (Some(libc::ENOMEM), _) => "there is no memory for io_uring: raise the limit of locked \
             memory with LimitMEMLOCK= (systemd), --ulimit memlock=-1 (Docker) or ulimit -l"
            .to_owned(),
        (Some(libc::EMFILE | libc::ENFILE), _) => "no descriptor is free for io_uring: raise the \
             limit with LimitNOFILE= (systemd), --ulimit nofile= (Docker) or ulimit -n"
            .to_owned(),
        _ => format!("cannot set up io_uring: {error}"),
    }
}

/// The value of `kernel.io_uring_disabled` if it forbids something.
fn disabled_by_sysctl() -> Option<u8> {
    let value = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    value.trim().parse().ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_remedy_of_its_own() {
        let said = |code| explain(&io::Error::from_raw_os_error(code), None);
        for (code, remedy) in [
            (libc::EPERM, "seccomp=unconfined"),
            (libc::ENOSYS, "seccomp profile"),
            (libc::EINVAL, "Linux 6.1"),
            (libc::ENOMEM, "LimitMEMLOCK="),
            (libc::EMFILE, "LimitNOFILE="),
            (libc::EOPNOTSUPP, "cannot set up io_uring"),
        ] {
            assert!(said(code).contains(remedy), "{}", said(code));
        }
        let said = explain(&io::Error::from_raw_os_error(libc::EPERM), Some(2));
        assert!(said.contains("kernel.io_uring_disabled is 2"), "{said}");
        let said = Unmet::LockedMemory(64 * 1024).to_string();
        assert!(said.starts_with("only 64 KiB") && said.contains("512 KiB"), "{said}");
    }

    #[test]
    fn what_runs_the_tests_has_what_is_needed() {
        assert!(probe().expect("the tests need it, too") > 0);
    }
}
