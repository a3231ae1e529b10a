//! What a client gets on one connection, read with a decoder that was written apart from the
//! broker's.

use harness::packet::{Packet as SecondOpinion, split_header};
use ringmq::mqtt::{self, Packet, Version};

/// No CONNACK of these shards is larger.
const GREETING_BYTES_MAX: usize = 200;

pub(crate) struct Reader {
    /// What was sent until the first packet was whole; it says the version.
    head: Vec<u8>,
    /// The largest packet that the client takes.
    packet_bytes_max: usize,
    /// Whole packets that came.
    pub(crate) packets: Vec<Vec<u8>>,
    /// The bytes behind them.
    rest: Vec<u8>,
    greeted: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let (head, packets, rest) = (Vec::new(), Vec::new(), Vec::new());
        Self { head, packet_bytes_max: usize::MAX, packets, rest, greeted: false }
    }

    /// Notes what the client has sent of its first packet. The broker takes up to
    /// `packet_bytes_max` bytes.
    pub(crate) fn note_sent(&mut self, bytes: &[u8], packet_bytes_max: usize) {
        self.head.extend(bytes);
        self.packet_bytes_max = taken_bytes_max(&self.head, packet_bytes_max);
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
    pub(crate) fn close(&self) {
        assert!(self.rest.is_empty(), "closed within a packet: {:02x?}", self.rest);
    }

    fn judge(&mut self, bytes: &[u8]) {
        let packet = SecondOpinion::decode(bytes, self.version().is_v5())
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

/// Returns the size of the largest packet that a client takes, as its CONNECT says if that is read.
fn taken_bytes_max(bytes: &[u8], packet_bytes_max: usize) -> usize {
    let Ok(Some((frame, _))) = mqtt::split(bytes, packet_bytes_max) else { return usize::MAX };
    let Ok(Packet::Connect(connect)) = Packet::decode(frame, Version::V311) else {
        return usize::MAX;
    };
    connect.properties.maximum_packet_size().map_or(usize::MAX, |max| max as usize)
}
