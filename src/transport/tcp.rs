//! Plain TCP: listening, and connections until they are at home.
#![allow(unsafe_code, reason = "glommio takes descriptors only as numbers")]

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use futures_lite::AsyncReadExt;
use glommio::net;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

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
        let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes to `tick` alone.
        let result = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut tick) };
        match u64::try_from(tick.tv_nsec) {
            Ok(nanoseconds @ 1..) if result == 0 => Duration::from_nanos(nanoseconds),
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

/// States of a connection, as `tcp(7)` numbers them.
const TCP_TIME_WAIT: i32 = 6;
const TCP_CLOSE: i32 = 7;
const TCP_CLOSE_WAIT: i32 = 8;
const TCP_LAST_ACK: i32 = 9;
const TCP_CLOSING: i32 = 11;

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
    use std::net::TcpStream;

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
