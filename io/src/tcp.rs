//! Plain TCP: listening, and connections until they are at home.
#![allow(unsafe_code, reason = "glommio takes descriptors only as numbers")]

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use futures_lite::AsyncReadExt;
use glommio::net;
use socket2::SockRef;

/// A connected TCP stream, until it is given to the [`Sockets`](super::Sockets) of its executor.
#[derive(Debug)]
pub struct Tcp {
    stream: net::TcpStream,
}

impl Tcp {
    /// Reads into `buffer`; 0 bytes mean that the peer will send no more.
    ///
    /// # Errors
    /// What the system says; the stream is of no use any more.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).await
    }

    /// Returns the address of the other end; an unspecified one if the connection is gone.
    pub fn peer(&self) -> SocketAddr {
        let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        self.stream.peer_addr().unwrap_or(unknown)
    }

    /// Gives the connection up as a descriptor.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn detach(self) -> io::Result<OwnedFd> {
        // Packets are put together before they are written: waiting for more is of no use. It
        // fails only on a connection that is gone, which the next read reports.
        let _ = self.stream.set_nodelay(true);
        // SAFETY: the stream keeps the descriptor open for the length of this borrow.
        unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }.try_clone_to_owned()
    }
}

/// A socket that connections come to, one of several on the same address.
#[derive(Debug)]
pub struct TcpListener {
    listener: net::TcpListener,
    /// The same socket, for its end; missing only if descriptors ran out.
    twin: Option<OwnedFd>,
}

impl TcpListener {
    /// Takes a listening socket over on the executor that this is called on.
    #[must_use]
    pub fn attach(socket: OwnedFd) -> Self {
        let twin = socket.try_clone().ok();
        // SAFETY: the descriptor is open and from here on the listener is its only owner.
        let listener = unsafe { net::TcpListener::from_raw_fd(socket.into_raw_fd()) };
        Self { listener, twin }
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// What the system says, such as no free descriptor; a later call may work again.
    pub async fn accept(&self) -> io::Result<Tcp> {
        Ok(Tcp { stream: self.listener.accept().await? })
    }
}

impl Drop for TcpListener {
    /// The ring holds on to the socket until the kernel has taken the ring down, some time after
    /// the end of the process; its address must be free before that.
    fn drop(&mut self) {
        if let Some(socket) = &self.twin {
            // It fails only on a socket that does not listen.
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
    }
}
