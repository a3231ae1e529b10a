//! The test client over a socket; it panics where a broker does not do what the test says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::packet::Packet;
use crate::peer::{End, Link, Peer, Received};

pub struct SocketLink {
    stream: TcpStream,
}

impl SocketLink {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, Self::PATIENCE)
            .expect("the broker accepts connections in time");
        stream.set_nodelay(true).expect("a TCP socket has this option");
        stream.set_write_timeout(Some(Self::PATIENCE)).expect("the timeout is not zero");
        Self { stream }
    }
}

impl Link for SocketLink {
    const PATIENCE: Duration = Duration::from_secs(10);
    const QUIET: Duration = Duration::from_millis(100);

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn receive(&mut self, into: &mut Vec<u8>, patience: Duration) -> Received {
        let patience = patience.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(patience)).expect("the timeout is not zero");
        let mut buffer = [0; 65_536];
        match self.stream.read(&mut buffer) {
            Ok(0) => Received::Closed,
            Ok(count) => {
                into.extend(&buffer[..count]);
                Received::Bytes
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Nothing,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Received::Closed,
            Err(error) => panic!("cannot read from the broker: {error}"),
        }
    }

    fn end(&mut self, how: End) {
        if how == End::Close {
            let _ = self.stream.shutdown(Shutdown::Both);
        } else {
            // A socket that is closed with a linger time of zero answers with a reset.
            let socket = socket2::SockRef::from(&self.stream);
            socket.set_linger(Some(Duration::ZERO)).expect("a TCP socket has this option");
        }
    }

    fn wait_after_end() {
        std::thread::sleep(Self::QUIET);
    }
}

/// A connected client.
pub struct Client {
    peer: Peer<SocketLink>,
    address: SocketAddr,
}

impl Client {
    /// Opens a connection and says nothing yet.
    pub fn open(address: SocketAddr) -> Self {
        Self { peer: Peer::new(SocketLink::connect(address)), address }
    }

    /// Opens a connection, sends this CONNECT and expects to be accepted without a stored session.
    #[track_caller]
    pub fn connect(address: SocketAddr, connect: &str) -> Self {
        let mut client = Self::open(address);
        client.send(connect);
        client.expect("CONNACK 0");
        client
    }

    /// Opens a new connection for the same script, after `abort` or a close by the broker.
    pub fn reopen(&mut self) {
        self.peer.reconnect(SocketLink::connect(self.address));
    }

    #[track_caller]
    pub fn subscribe(&mut self, filter_and_qos: &str) {
        self.send(&format!("SUBSCRIBE id=1 {filter_and_qos}"));
        let (_, qos) = filter_and_qos.rsplit_once(':').expect("filter:qos");
        self.expect(&format!("SUBACK id=1 {qos}"));
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.peer.send(text).unwrap();
    }

    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        self.peer.expect(text).unwrap();
    }

    #[track_caller]
    pub fn expect_any_order(&mut self, texts: &[&str]) {
        self.peer.expect_any_order(texts).unwrap();
    }

    #[track_caller]
    pub fn expect_closed(&mut self) {
        self.peer.expect_closed(None).unwrap();
    }

    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.peer.expect_nothing().unwrap();
    }

    #[track_caller]
    pub fn next_packet(&mut self) -> Packet {
        self.peer.next_packet().unwrap()
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.peer.send_bytes(bytes);
    }

    /// Sends the PUBACK for a PUBLISH at QoS 1.
    pub fn acknowledge(&mut self, publish: &Packet) {
        let id = publish.number("id").expect("a PUBLISH at QoS 1 has an id");
        self.send(&format!("PUBACK id={id}"));
    }

    /// Whether an accepting CONNACK comes in time, rather than a close or nothing.
    pub fn is_accepted_within(&mut self, patience: Duration) -> bool {
        self.peer.expect_within("CONNACK 0", patience).is_ok()
    }

    /// Leaves in order; the broker has seen it when this returns.
    #[track_caller]
    pub fn disconnect(&mut self) {
        self.send("DISCONNECT");
        self.expect_closed();
    }

    /// Ends the connection as a killed process does.
    pub fn abort(&mut self) {
        self.peer.end(End::Abort);
    }

    /// Ends the connection; the broker may not have seen it when this returns.
    pub fn end_at_once(mut self, how: End) {
        self.peer.end_at_once(how);
    }

    /// Ends the connection in order, but without a DISCONNECT.
    pub fn close(&mut self) {
        self.peer.end(End::Close);
    }
}
