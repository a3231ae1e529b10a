//! Taking connections from a socket that listens.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use socket2::SockRef;

/// Takes the next connection of a listening socket that does not block; none if there is no other.
/// Its packets leave at once (`TCP_NODELAY`): they are put together before they are written.
///
/// # Errors
/// What the system says, such as no free descriptor; a later call may work again.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    loop {
        match SockRef::from(&listener).accept() {
            Ok((socket, peer)) => {
                // It fails only on a connection that is gone, which the next read reports.
                let _ = socket.set_tcp_nodelay(true);
                let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
                return Ok(Some((socket.into(), peer.as_socket().unwrap_or(unknown))));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            // This one has gone before it was taken.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn connections_are_taken_with_the_address_of_their_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("it is a socket");
        assert!(accept(listener.as_fd()).expect("it listens").is_none());
        let address = listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(address).expect("it listens");
        let (_socket, peer) = accept(listener.as_fd()).expect("it listens").expect("one has come");
        assert_eq!(peer, client.local_addr().expect("it is connected"));
        assert!(accept(listener.as_fd()).expect("it listens").is_none());
    }
}
