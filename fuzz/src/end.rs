//! A client's end of one connection: what is on its way to the broker, and what came from it, read
//! with a decoder that was written apart from the broker's.

use ringmq::mqtt::Version;

use harness::packet::{Packet, split_header};

/// Fixed header, protocol name and version of a CONNECT, and some more.
const HEAD_BYTES: usize = 32;
/// No CONNACK of these shards is larger.
const GREETING_BYTES_MAX: usize = 200;

pub(crate) struct End {
    /// Sent and not yet read by the broker.
    pub(crate) way: Vec<u8>,
    /// Where the connection lives, once its first packet says so.
    pub(crate) home: Option<usize>,
    /// The client is gone.
    pub(crate) gone: bool,
    /// The broker has closed.
    pub(crate) closed: bool,
    /// The first bytes that were sent, which say the version.
    head: Vec<u8>,
    /// The largest packet that the client takes.
    pub(crate) packet_bytes_max: usize,
    /// Whole packets that came.
    pub(crate) packets: Vec<Vec<u8>>,
    /// The bytes behind them.
    rest: Vec<u8>,
    greeted: bool,
}

impl Default for End {
    fn default() -> Self {
        Self {
            way: Vec::new(),
            home: None,
            gone: false,
            closed: false,
            head: Vec::new(),
            packet_bytes_max: usize::MAX,
            packets: Vec::new(),
            rest: Vec::new(),
            greeted: false,
        }
    }
}

impl End {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(room));
        self.way.extend(bytes);
    }

    /// The version that the first packet names, or 3.1.1: in its words the broker answers what
    /// it cannot read.
    pub(crate) fn version(&self) -> Version {
        let length = self.head.iter().skip(1).position(|byte| byte & 0x80 == 0);
        let Some(start) = length.map(|last| last + 2) else { return Version::V311 };
        match &self.head[start..] {
            _ if self.head[0] >> 4 != 1 => Version::V311,
            [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Version::V5,
            [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3 | 0x83, ..] => Version::V31,
            _ => Version::V311,
        }
    }

    /// Bytes came from the broker.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.rest.extend(bytes);
        while let Some((head, body)) = split_header(&self.rest).expect("a header of the broker")
            && self.rest.len() >= head + body
        {
            let packet: Vec<u8> = self.rest.drain(..head + body).collect();
            self.judge(&packet);
            self.packets.push(packet);
        }
    }

    /// The last byte has come: it must be the last of a packet.
    pub(crate) fn close(&mut self) {
        assert!(self.rest.is_empty(), "closed within a packet: {:02x?}", self.rest);
        self.closed = true;
    }

    fn judge(&mut self, bytes: &[u8]) {
        let packet = Packet::decode(bytes, self.version().is_v5())
            .unwrap_or_else(|error| panic!("the broker sent {bytes:02x?}: {error}"));
        assert!(bytes.len() <= self.packet_bytes_max, "{packet} is too large");
        let is_greeting = packet.kind.name == "CONNACK";
        let is_early = is_greeting || packet.kind.name == "AUTH";
        // What is larger than a client takes is not sent to it, not even CONNACK.
        let may_lack_greeting = self.packet_bytes_max < GREETING_BYTES_MAX;
        assert!(self.greeted || is_early || may_lack_greeting, "{packet} came first");
        assert!(!self.greeted || !is_greeting, "{packet} came twice");
        self.greeted |= is_greeting;
    }
}
