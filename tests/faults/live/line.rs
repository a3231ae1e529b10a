//! A connection that costs little: thousands of them in one process, without expectations.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::notation::parse_packet;
use harness::packet::split_header;

/// How long anything may take on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes of a packet of 3.1.1.
pub(crate) fn packet(text: &str) -> Vec<u8> {
    parse_packet(text).expect("the notation").encode(false)
}

pub(crate) struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Line {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Opens a connection and expects to be let in; whether a session was present.
    pub(crate) fn connect(address: SocketAddr, connect: &str) -> io::Result<(Self, bool)> {
        let mut line = Self::open(address)?;
        line.send(&packet(connect))?;
        let present = line.accepted()?;
        Ok((line, present))
    }

    /// Reads CONNACK; whether a session was present.
    pub(crate) fn accepted(&mut self) -> io::Result<bool> {
        match *self.next()? {
            [0x20, 2, present, 0] => Ok(present == 1),
            ref other => Err(io::Error::other(format!("no CONNACK: {other:02x?}"))),
        }
    }

    pub(crate) fn subscribe(&mut self, filter_and_qos: &str) -> io::Result<()> {
        self.send(&packet(&format!("SUBSCRIBE id=1 {filter_and_qos}")))?;
        let answer = self.next()?;
        let is_granted = answer[0] == 0x90 && answer[4] < 0x80;
        is_granted.then_some(()).ok_or_else(|| io::Error::other("no SUBACK"))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Gives up waiting after this time.
    pub(crate) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// The next whole packet.
    pub(crate) fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let header = split_header(&self.unread).map_err(io::Error::other)?;
            if let Some((head, body)) = header.filter(|(h, b)| self.unread.len() >= h + b) {
                return Ok(self.unread.drain(..head + body).collect());
            }
            let mut buffer = [0; 16_384];
            let count = match self.stream.read(&mut buffer) {
                // A process that was stopped for a while and goes on.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.unread.extend(&buffer[..count]);
        }
    }

    /// Waits until the broker closes; what comes before that is thrown away.
    pub(crate) fn is_closed_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.set_patience(left).is_err() {
                return false;
            }
            match self.stream.read(&mut [0; 1024]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Ends the connection as a killed process does: with a reset.
    pub(crate) fn abort(self) {
        let socket = socket2::SockRef::from(&self.stream);
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
}
