//! What goes from the executor that has accepted a connection to its home.

use std::os::fd::OwnedFd;

use super::connections::{Arrival, Permit};

/// A connection on its way to its home.
pub(super) struct Handoff {
    pub(super) socket: OwnedFd,
    /// What was read from it: the CONNECT and perhaps more.
    pub(super) bytes: Vec<u8>,
    pub(super) arrival: Arrival,
    pub(super) permit: Permit,
}
