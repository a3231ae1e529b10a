//! Packets that clients send.

use harness::packet::{Kind, Packet, Value};

use crate::life::payload_of;
use crate::scenario::Letter;

/// Of enhanced authentication: what is asked has to be repeated.
pub(crate) const METHOD: &str = "echo";

pub(crate) fn new_packet(name: &str, id: u32) -> Packet {
    let mut packet = Packet::new(Kind::named(name).expect("it is one of MQTT's"));
    packet.push("id", Value::Number(id));
    packet
}

pub(crate) fn auth_packet(code: u32, data: Option<&[u8]>) -> Packet {
    let mut packet = Packet::new(Kind::named("AUTH").expect("it is one"));
    packet.push("code", Value::Number(code));
    packet.push("auth_method", Value::Bytes(METHOD.into()));
    if let Some(data) = data {
        packet.push("auth_data", Value::Bytes(data.to_vec()));
    }
    packet
}

/// A PUBLISH as its letter says, with the whole topic.
pub(crate) fn publish_packet(letter: &Letter, message: usize, id: u32, dup: bool) -> Packet {
    let mut packet = Packet::new(Kind::named("PUBLISH").expect("it is one"));
    packet.push("topic", Value::Bytes(letter.topic.into()));
    packet.push("qos", Value::Number(letter.qos.into()));
    packet.push("dup", Value::Number(dup.into()));
    packet.push("retain", Value::Number(letter.retain.into()));
    if letter.qos > 0 {
        packet.push("id", Value::Number(id));
    }
    let payload = if letter.size == 0 { Vec::new() } else { payload_of(message, letter.size) };
    packet.push("payload", Value::Bytes(payload));
    if let Some(expiry_s) = letter.expiry_s {
        packet.push("message_expiry", Value::Number(expiry_s));
    }
    if letter.has_properties {
        packet.push("content_type", Value::Bytes(content_type(message)));
        packet.push("property", Value::Bytes(format!("number:{message}").into_bytes()));
    }
    packet
}

pub(crate) fn content_type(message: usize) -> Vec<u8> {
    format!("type {message}").into_bytes()
}
