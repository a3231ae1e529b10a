//! Opening sockets: from which address, and with how large a buffer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Begins to connect. The socket becomes writable when the connection stands; if it does not come
/// about, the socket has an error then.
///
/// # Errors
/// A limit of the system, or a refusal that is known at once.
pub(crate) fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    receive_buffer_bytes: Option<usize>,
) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        bind(&socket, source)?;
    }
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        _ => (),
    }
    // The ring waits for readiness itself.
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

/// The port is chosen when connecting, so that every address has all ports for every broker.
fn bind(socket: &Socket, source: IpAddr) -> io::Result<()> {
    setsockopt(socket, IpBindAddressNoPort, &true)?;
    // No limit was hit, whatever the system calls it.
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => io::Error::other(format!(
            "{source} is no address of this machine; add it with \
             `sudo ip address add {source} dev INTERFACE`, or choose from 127.0.0.0/8 for a broker \
             on this machine"
        )),
        _ => io::Error::other(format!("cannot connect from {source}: {error}")),
    };
    socket.bind(&SocketAddr::new(source, 0).into()).map_err(explain)
}
