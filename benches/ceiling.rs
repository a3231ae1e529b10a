//! The kernel's ceiling of fan-out: a plain loop that writes every PUBLISH to every subscriber as
//! it came, and does nothing else that a broker does.
//!
//! It speaks just enough MQTT for a load generator at QoS 0: CONNACK, SUBACK (whatever is asked for
//! is granted, and everybody who has subscribed gets everything), PINGRESP. What has come when it
//! looks leaves in one write for each subscriber. `scripts/bench-peers` runs it beside brokers:
//!
//! ```sh
//! cargo run --release --example ceiling -- 127.0.0.1:1884
//! ```

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use ringmq::mqtt::{PACKET_BYTES_MAX, PacketType, split};

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 64 * 1024;

struct Client {
    stream: TcpStream,
    /// Half a packet.
    unread: Vec<u8>,
    /// What the socket did not take.
    unwritten: Vec<u8>,
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1884".into());
    let address = address.parse().map_err(|_| io::Error::other("expected ADDRESS:PORT"))?;
    let mut listener = TcpListener::bind(address)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut ceiling = Ceiling {
        clients: Vec::new(),
        subscribers: Vec::new(),
        published: Vec::new(),
        scratch: vec![0; READ_BYTES],
    };
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                ceiling.accept(&listener, poll.registry())?;
            } else {
                ceiling.serve(event.token().0);
            }
        }
        ceiling.publish();
    }
}

struct Ceiling {
    /// Numbers are never used again: a run is short.
    clients: Vec<Option<Client>>,
    subscribers: Vec<usize>,
    /// What has come since the last look.
    published: Vec<u8>,
    scratch: Vec<u8>,
}

impl Ceiling {
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Token(self.clients.len()), interest)?;
            let client = Client { stream, unread: Vec::new(), unwritten: Vec::new() };
            self.clients.push(Some(client));
        }
    }

    fn serve(&mut self, number: usize) {
        self.write(number, &[]);
        while let Some(client) = &mut self.clients[number] {
            match client.stream.read(&mut self.scratch) {
                Ok(count @ 1..) => {
                    client.unread.extend_from_slice(&self.scratch[..count]);
                    self.answer(number);
                    if count < READ_BYTES {
                        return; // The next event tells what comes after.
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => self.forget(number),
            }
        }
    }

    /// Answers every whole packet, and keeps publishes as they are.
    fn answer(&mut self, number: usize) {
        let Some(client) = &mut self.clients[number] else { return };
        let unread = std::mem::take(&mut client.unread);
        let (mut used, mut answers) = (0, Vec::new());
        while let Ok(Some((frame, length))) = split(&unread[used..], PACKET_BYTES_MAX) {
            match frame.kind {
                PacketType::Connect => answers.extend([0x20, 2, 0, 0]),
                PacketType::Subscribe => {
                    answers.extend([0x90, 3, frame.body[0], frame.body[1], 0]);
                    self.subscribers.push(number);
                }
                PacketType::Publish => self.published.extend(&unread[used..used + length]),
                PacketType::Pingreq => answers.extend([0xD0, 0]),
                _ => {}
            }
            used += length;
        }
        if let Some(client) = &mut self.clients[number] {
            client.unread = unread[used..].to_vec();
        }
        if !answers.is_empty() {
            self.write(number, &answers);
        }
    }

    /// Writes what has come to every subscriber.
    fn publish(&mut self) {
        let mut published = std::mem::take(&mut self.published);
        if !published.is_empty() {
            for index in 0..self.subscribers.len() {
                self.write(self.subscribers[index], &published);
            }
        }
        published.clear();
        self.published = published;
    }

    fn write(&mut self, number: usize, bytes: &[u8]) {
        let Some(client) = &mut self.clients[number] else { return };
        let all = if client.unwritten.is_empty() {
            bytes
        } else {
            client.unwritten.extend_from_slice(bytes);
            &client.unwritten
        };
        if all.is_empty() {
            return;
        }
        match client.stream.write(all) {
            Ok(count) => client.unwritten = all[count..].to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => client.unwritten = all.to_vec(),
            Err(_) => self.forget(number),
        }
    }

    fn forget(&mut self, number: usize) {
        self.clients[number] = None;
        self.subscribers.retain(|subscriber| *subscriber != number);
    }
}
