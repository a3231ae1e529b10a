//! Bytes in, bytes out; nothing here knows MQTT.

mod tcp;

pub use tcp::{Tcp, TcpListener, bind};

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

/// A stream of bytes to and from one peer, owned by one executor.
///
/// Reading and writing try the system call first and register the task of `cx` only if the call
/// would block, so whoever calls must be ready to be woken for the latest `cx` of each
/// direction.
pub trait Transport {
    /// Reads into `buffer`; 0 bytes mean that the peer will send no more.
    ///
    /// # Errors
    /// What the system says; the stream is of no use any more.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from the front of `bytes`, as many as fit.
    ///
    /// # Errors
    /// What the system says; the stream is of no use any more.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Tells the peer that nothing more comes.
    fn finish(&mut self);

    /// Gives the connection up as a descriptor, so that another executor can take it.
    ///
    /// # Errors
    /// No descriptor is free.
    fn detach(self: Box<Self>) -> io::Result<OwnedFd>;
}
