//! A codec of the fake broker's own: just enough of MQTT 3.1.1. What clients of 5.0 send and get is
//! translated at the socket, without properties.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// One publish on its way.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) topic: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Message {
    /// The message of a PUBLISH, and where its packet id is.
    pub(super) fn parse(first: u8, body: &[u8]) -> (Self, usize) {
        let qos = first >> 1 & 3;
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let payload_at = if qos == 0 { topic_end } else { topic_end + 2 };
        let message = Self {
            qos,
            retain: first & 1 != 0,
            topic: body[2..topic_end].to_vec(),
            payload: body[payload_at..].to_vec(),
        };
        (message, topic_end)
    }

    pub(super) fn encode(&self, dup: bool, packet_id: u16, bytes: &mut Vec<u8>) {
        let Self { qos, retain, topic, payload } = self;
        bytes.push(0x30 | u8::from(dup) << 3 | qos << 1 | u8::from(*retain));
        let id_bytes = if *qos == 0 { 0 } else { 2 };
        write_length(bytes, 2 + topic.len() + id_bytes + payload.len());
        bytes.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        bytes.extend_from_slice(topic);
        if *qos > 0 {
            bytes.extend_from_slice(&packet_id.to_be_bytes());
        }
        bytes.extend_from_slice(payload);
    }
}

/// What matters of a CONNECT: its client id, and whether it wants a clean session.
pub(super) fn parse_connect(body: &[u8]) -> (Vec<u8>, bool) {
    let name_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let clean = body[name_end + 1] & 2 != 0;
    let (client_id, _) = string(&body[name_end + 4..]);
    (client_id.to_vec(), clean)
}

/// The filters of a SUBSCRIBE with the QoS asked for, or of an UNSUBSCRIBE (QoS 0).
pub(super) fn parse_filters(body: &[u8], with_qos: bool) -> Vec<(Vec<u8>, u8)> {
    let mut filters = Vec::new();
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let (filter, behind) = string(rest);
        let qos = if with_qos { behind[0] } else { 0 };
        filters.push((filter.to_vec(), qos));
        rest = &behind[usize::from(with_qos)..];
    }
    filters
}

fn string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (&bytes[2..end], &bytes[end..])
}

/// Whether a filter asks for a topic.
pub(super) fn matches(filter: &[u8], topic: &[u8]) -> bool {
    let mut topic = topic.split(|&byte| byte == b'/');
    for level in filter.split(|&byte| byte == b'/') {
        match (level, topic.next()) {
            (b"#", _) => return true,
            (b"+", Some(_)) => (),
            (level, Some(name)) if level == name => (),
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// `$share/group/filter` -> group, filter.
pub(super) fn shared(filter: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = filter.strip_prefix(b"$share/")?;
    let at = rest.iter().position(|&byte| byte == b'/')?;
    Some((&rest[..at], &rest[at + 1..]))
}

pub(super) fn write_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length > 127 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// A socket that several threads write whole packets to.
#[derive(Clone)]
pub(super) struct Output {
    pub(super) stream: Arc<Mutex<TcpStream>>,
    pub(super) piece_bytes: usize,
    /// The client has said that it speaks 5.0.
    pub(super) is_v5: Arc<AtomicBool>,
}

impl Output {
    /// Whole packets; whoever has left does not get anything.
    pub(super) fn write(&self, bytes: &[u8]) {
        if self.is_v5.load(Ordering::SeqCst) {
            self.write_pieces(&to_v5(bytes));
        } else {
            self.write_pieces(bytes);
        }
    }

    fn write_pieces(&self, bytes: &[u8]) {
        let mut stream = self.stream.lock().expect("no writer panics");
        for piece in bytes.chunks(self.piece_bytes) {
            let _ = stream.write_all(piece);
        }
    }

    pub(super) fn close(&self) {
        let _ = self.stream.lock().expect("no writer panics").shutdown(Shutdown::Both);
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream)
    }
}

pub(super) struct Input {
    pub(super) stream: TcpStream,
    pub(super) buffer: Vec<u8>,
}

impl Input {
    /// First byte and body of the next packet; `None` when the peer has left.
    pub(super) fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(mut packet) = self.buffered_packet() {
                let (_, header_bytes) = length(&packet).expect("it is complete");
                return Some((packet[0], packet.split_off(header_bytes)));
            }
            let mut bytes = [0; 65_536];
            match self.stream.read(&mut bytes) {
                Ok(count) if count > 0 => self.buffer.extend_from_slice(&bytes[..count]),
                _ => return None,
            }
        }
    }

    pub(super) fn buffered_packet(&mut self) -> Option<Vec<u8>> {
        let (length, header_bytes) = length(&self.buffer)?;
        let complete = self.buffer.len() >= header_bytes + length;
        complete.then(|| self.buffer.drain(..header_bytes + length).collect())
    }
}

/// Remaining length and bytes of the fixed header.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (position, byte) in bytes.get(1..)?.iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((length, position + 2));
        }
    }
    None
}

/// What a client of 5.0 has sent, in the words of 3.1.1: its properties are left out.
pub(super) fn from_v5(first: u8, body: &[u8]) -> Vec<u8> {
    let at = match first >> 4 {
        1 => 10,
        3 => Message::parse(first, body).1 + if first & 6 == 0 { 0 } else { 2 },
        8 | 10 => 2,
        _ => return body.to_vec(),
    };
    assert!(body[at] < 0x80, "properties of more than 127 bytes");
    [&body[..at], &body[at + 1 + usize::from(body[at])..]].concat()
}

/// Packets of 3.1.1 in the words of 5.0, with no properties.
fn to_v5(mut packets: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((length, header_bytes)) = length(packets) {
        let (first, body) = (packets[0], &packets[header_bytes..header_bytes + length]);
        let (before, after): (usize, &[u8]) = match first >> 4 {
            2 => (2, &[0]),
            3 => (Message::parse(first, body).1 + if first & 6 == 0 { 0 } else { 2 }, &[0]),
            9 => (2, &[0]),
            // One filter at a time is all that the load generator unsubscribes from.
            11 => (2, &[0, 0]),
            _ => (length, &[]),
        };
        bytes.push(first);
        write_length(&mut bytes, length + after.len());
        bytes.extend_from_slice(&body[..before]);
        bytes.extend_from_slice(after);
        bytes.extend_from_slice(&body[before..]);
        packets = &packets[header_bytes + length..];
    }
    bytes
}
