//! A test client that says what it sends and what it expects in the notation.
//!
//! It does not know what carries its bytes: a `Link` is a socket here, and bare shards with virtual
//! time in the conformance table.

use std::time::Duration;

use crate::notation::{Bindings, matches, parse_packet, substitute};
use crate::packet::{Packet, hex, split_header};

/// One connection to a broker, seen from the client.
pub trait Link {
    /// How long an answer may take.
    const PATIENCE: Duration;
    /// How long nothing must come for silence to count.
    const QUIET: Duration;

    /// Sends; that the other side has closed is found out by receiving.
    fn send(&mut self, bytes: &[u8]);

    /// Waits until something has come, at most `patience`, and appends it to `into`.
    fn receive(&mut self, into: &mut Vec<u8>, patience: Duration) -> Received;

    /// Ends the connection without an MQTT DISCONNECT.
    fn end(&mut self, how: End);

    /// Gives the other side time to notice that the connection has ended: what is published before
    /// it does is sent to it, and comes again with DUP.
    fn wait_after_end() {}
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    Bytes,
    Closed,
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// An orderly close of the connection.
    Close,
    /// A reset, as when a process is killed or a network fails.
    Abort,
}

/// Every `Err` says what was expected and what came instead.
pub type Outcome = Result<(), String>;

pub struct Peer<L> {
    link: Option<L>,
    unread: Vec<u8>,
    /// Variables outlive a connection: a redelivery must come with the packet id it had.
    bindings: Bindings,
    /// Whether the CONNECT of this connection was one of MQTT 5.0.
    v5: bool,
}

impl<L: Link> Peer<L> {
    pub fn new(link: L) -> Self {
        Self { link: Some(link), unread: Vec::new(), bindings: Bindings::new(), v5: false }
    }

    /// Whether this client has no connection: it ended it, or saw the other side close.
    pub fn is_closed(&self) -> bool {
        self.link.is_none()
    }

    pub fn reconnect(&mut self, link: L) {
        self.unread.clear();
        self.v5 = false;
        self.link = Some(link);
    }

    /// Sends a packet, or several that are joined by ` & ` in one piece.
    pub fn send(&mut self, text: &str) -> Outcome {
        let mut bytes = Vec::new();
        for text in text.split(" & ") {
            let mut packet = parse_packet(text)?;
            substitute(&mut packet, &self.bindings)?;
            self.v5 |= packet.speaks_v5();
            bytes.extend(packet.encode(self.v5));
        }
        self.send_bytes(&bytes);
        Ok(())
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let connect = split_header(bytes).ok().flatten().filter(|_| bytes[0] >> 4 == 1);
        self.v5 |= connect.is_some_and(|(head, _)| bytes[head..].starts_with(b"\0\x04MQTT\x05"));
        self.link().send(bytes);
    }

    pub fn expect(&mut self, text: &str) -> Outcome {
        self.expect_any_order(&[text])
    }

    /// Expects this packet next, and the first of it within this patience, not the usual one.
    pub fn expect_within(&mut self, text: &str, patience: Duration) -> Outcome {
        self.receive(patience);
        if self.unread.is_empty() {
            return Err(format!("expected {text}: {}", self.what_came()));
        }
        self.expect(text)
    }

    /// Expects exactly these packets next, in whatever order.
    pub fn expect_any_order(&mut self, texts: &[&str]) -> Outcome {
        let mut wanted =
            texts.iter().map(|text| parse_packet(text)).collect::<Result<Vec<_>, _>>()?;
        while !wanted.is_empty() {
            let names = wanted.iter().map(Packet::to_string).collect::<Vec<_>>().join(" or ");
            let packet = self.next_packet().map_err(|got| format!("expected {names}: {got}"))?;
            let found = wanted.iter().position(|want| matches(want, &packet, &mut self.bindings));
            let found = found.ok_or_else(|| format!("expected {names}: got {packet}"))?;
            wanted.remove(found);
        }
        Ok(())
    }

    /// The next packet, whatever it is.
    pub fn next_packet(&mut self) -> Result<Packet, String> {
        loop {
            if let Some((head, body)) = split_header(&self.unread)?
                && self.unread.len() >= head + body
            {
                let bytes: Vec<u8> = self.unread.drain(..head + body).collect();
                return Packet::decode(&bytes, self.v5)
                    .map_err(|error| format!("{error}: {}", hex(&bytes)));
            }
            match self.receive(L::PATIENCE) {
                Received::Bytes => {}
                Received::Closed => return Err(format!("closed{}", self.rest())),
                Received::Nothing => return Err(format!("nothing came{}", self.rest())),
            }
        }
    }

    /// Expects the other side to close, with not a byte before that.
    pub fn expect_closed(&mut self, within: Option<Duration>) -> Outcome {
        if self.unread.is_empty() && self.receive(within.unwrap_or(L::PATIENCE)) == Received::Closed
        {
            return Ok(());
        }
        Err(format!("expected the connection to be closed: {}", self.what_came()))
    }

    pub fn expect_nothing(&mut self) -> Outcome {
        if self.unread.is_empty() && self.receive(L::QUIET) == Received::Nothing {
            return Ok(());
        }
        Err(format!("expected nothing: {}", self.what_came()))
    }

    /// Expects that all that has come by now was looked at.
    pub fn expect_no_rest(&mut self) -> Outcome {
        if self.link.is_none() || self.receive(Duration::ZERO) != Received::Bytes {
            return Ok(());
        }
        Err(format!("at the end of the script: {}", self.what_came()))
    }

    pub fn end(&mut self, how: End) {
        self.end_at_once(how);
        L::wait_after_end();
    }

    /// Ends the connection; the other side may not have seen it when this returns.
    pub fn end_at_once(&mut self, how: End) {
        self.link().end(how);
        self.link = None;
    }

    fn receive(&mut self, patience: Duration) -> Received {
        let Some(link) = &mut self.link else { return Received::Closed };
        let received = link.receive(&mut self.unread, patience);
        if received == Received::Closed {
            self.link = None;
        }
        received
    }

    fn link(&mut self) -> &mut L {
        self.link.as_mut().expect("a script opens a connection before it uses it")
    }

    /// For a message only: consumes what it describes.
    fn what_came(&mut self) -> String {
        if self.unread.is_empty() && self.link.is_some() {
            return "the connection is open and silent".into();
        }
        match self.next_packet() {
            Ok(packet) => format!("got {packet}"),
            Err(error) => error,
        }
    }

    fn rest(&self) -> String {
        match self.unread.as_slice() {
            [] => String::new(),
            half => format!(" after half a packet, {}", hex(half)),
        }
    }
}
