//! Listening sockets: their addresses, and how patient their connections are.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that may wait to be accepted; the system lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// TCP asks a silent peer again after so long, unless it has been silent for less than that.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// How long a peer that does not answer is taken to be there. A listening socket hands it on to its
/// connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// Silence after which the peer is asked; zero for never.
    pub keep_alive: Duration,
    /// Time that what was sent may stay unconfirmed; zero leaves it to the system.
    pub user_timeout: Duration,
}

impl Patience {
    fn apply(self, socket: &Socket) -> io::Result<()> {
        if !self.keep_alive.is_zero() {
            let interval = PROBE_INTERVAL.min(self.keep_alive);
            let keep_alive = TcpKeepalive::new().with_time(self.keep_alive).with_interval(interval);
            socket.set_tcp_keepalive(&keep_alive)?;
        }
        if !self.user_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        }
        Ok(())
    }
}

/// Opens `count` listening sockets on one address, which share its connections
/// (`SO_REUSEPORT`); with port 0 the system chooses one port for all. Says which address it is.
///
/// # Errors
/// What the system says, such as that the address is in use.
pub fn bind(
    address: SocketAddr,
    count: usize,
    patience: Patience,
) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    // The first is bound before it may share its port: the port of another process that shares
    // it, such as a second broker, counts as in use then.
    let first = socket(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..count {
        let next = socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        sockets.push(next);
    }
    for socket in &sockets {
        patience.apply(socket)?;
        socket.listen(BACKLOG)?;
    }
    Ok((address, sockets.into_iter().map(OwnedFd::from).collect()))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // The same port of IPv4 can be listened on beside it.
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpStream};

    use socket2::SockRef;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    const OFF: Patience = Patience { keep_alive: Duration::ZERO, user_timeout: Duration::ZERO };

    #[test]
    fn connections_are_as_patient_as_their_listener() {
        let (keep_alive, user_timeout) = (Duration::from_secs(40), Duration::from_secs(70));
        for patience in [OFF, Patience { keep_alive, user_timeout }] {
            let (address, mut sockets) = bind(ANY, 1, patience).expect("there is a free port");
            let listener = std::net::TcpListener::from(sockets.remove(0));
            let _client = TcpStream::connect(address).expect("it listens");
            let (stream, _) = listener.accept().expect("the client is there");
            let socket = SockRef::from(&stream);
            let is_on = !patience.keep_alive.is_zero();
            assert_eq!(socket.keepalive().expect("an option of sockets"), is_on);
            let timeout = socket.tcp_user_timeout().expect("an option of TCP");
            assert_eq!(timeout.unwrap_or_default(), patience.user_timeout);
            if is_on {
                assert_eq!(socket.tcp_keepalive_time().expect("an option of TCP"), keep_alive);
                let interval = socket.tcp_keepalive_interval().expect("an option of TCP");
                assert_eq!(interval, PROBE_INTERVAL);
            }
        }
    }

    #[test]
    fn a_port_is_shared_by_the_sockets_of_one_call_only() {
        let (address, sockets) = bind(ANY, 3, OFF).expect("there is a free port");
        assert_eq!(sockets.len(), 3);
        let error = bind(address, 1, OFF).expect_err("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        for _ in 0..100 {
            let (other, _sockets) = bind(ANY, 2, OFF).expect("there is a free port");
            assert_ne!(other, address);
        }
    }

    #[test]
    fn connections_are_spread_over_the_sockets() {
        let (address, sockets) = bind(ANY, 2, OFF).expect("there is a free port");
        let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address)).collect();
        assert!(clients.iter().all(Result::is_ok));
        for socket in sockets {
            let listener = std::net::TcpListener::from(socket);
            let (mut stream, _) = listener.accept().expect("each has a share");
            stream.set_nonblocking(true).expect("it is a socket");
            assert!(stream.read(&mut [0]).is_err());
        }
    }
}
