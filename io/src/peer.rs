//! What the kernel knows of the other end of a connection.
#![allow(unsafe_code, reason = "TCP_INFO has no safe wrapper among our dependencies")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::time::{ClockId, clock_getres};
use socket2::SockRef;

/// What the kernel knows about the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerFacts {
    /// How long ago the last bytes came, exact to [`PeerFacts::tick`].
    pub silence: Duration,
    /// What the peer has done.
    pub state: PeerState,
}

/// What a peer has done with its end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// It may send more.
    Open,
    /// It sends no more; what it has sent can still be read.
    Ended,
    /// The connection is gone.
    Broken,
}

impl PeerFacts {
    /// Returns how exact the kernel's times are: one of its ticks, 1 to 10 ms.
    #[must_use]
    pub fn tick() -> Duration {
        let tick = clock_getres(ClockId::MonotonicCoarse);
        match u64::try_from(tick.tv_nsec) {
            Ok(nanoseconds @ 1..) => Duration::from_nanos(nanoseconds),
            _ => Duration::from_millis(10),
        }
    }

    /// Asks the kernel. A socket that is not TCP's counts as open and as just heard of.
    #[must_use]
    pub fn of(socket: BorrowedFd<'_>) -> Self {
        // SAFETY: the structure is numbers only, for which zeros are valid.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `info`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        let state = match i32::from(info.tcpi_state) {
            _ if result != 0 => PeerState::Open,
            TCP_CLOSE => PeerState::Broken,
            TCP_CLOSE_WAIT | TCP_LAST_ACK | TCP_CLOSING | TCP_TIME_WAIT => PeerState::Ended,
            _ => PeerState::Open,
        };
        let silence = Duration::from_millis(info.tcpi_last_data_recv.into());
        Self { silence, state }
    }
}

/// Looks whether bytes wait to be read, and leaves them there: 1 if some do, 0 at the end.
///
/// # Errors
/// `WouldBlock` if nothing has come; else what the system says of a connection that is gone.
pub fn peek(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    SockRef::from(&socket).recv_with_flags(&mut [MaybeUninit::uninit()], flags)
}

/// States of a connection, as `tcp(7)` numbers them.
const TCP_TIME_WAIT: i32 = 6;
const TCP_CLOSE: i32 = 7;
const TCP_CLOSE_WAIT: i32 = 8;
const TCP_LAST_ACK: i32 = 9;
const TCP_CLOSING: i32 = 11;
