//! A second opinion on the properties of MQTT 5.0: what they are called in the notation, and their
//! bytes. The encoder writes any property into any packet; the decoder takes only what a server
//! may send.

use crate::packet::{Field, Packet, Value, write_length, write_string};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Byte,
    Two,
    Four,
    Varint,
    Text,
    /// `name:value`.
    Pair,
}

struct Row {
    key: &'static str,
    id: u8,
    shape: Shape,
    /// The packets in which a server may send it.
    from_server: &'static [&'static str],
}

const fn row(key: &'static str, id: u8, shape: Shape, from_server: &'static [&'static str]) -> Row {
    Row { key, id, shape, from_server }
}

const ANSWERS: &[&str] = &[
    "CONNACK",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBACK",
    "UNSUBACK",
    "DISCONNECT",
    "AUTH",
];

const ANYWHERE: &[&str] = &[
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBACK",
    "UNSUBACK",
    "DISCONNECT",
    "AUTH",
];

/// In the order in which two packets are compared.
const ROWS: [Row; 27] = [
    row("format", 0x01, Shape::Byte, &["PUBLISH"]),
    row("message_expiry", 0x02, Shape::Four, &["PUBLISH"]),
    row("content_type", 0x03, Shape::Text, &["PUBLISH"]),
    row("response_topic", 0x08, Shape::Text, &["PUBLISH"]),
    row("correlation", 0x09, Shape::Text, &["PUBLISH"]),
    row("sub_id", 0x0B, Shape::Varint, &["PUBLISH"]),
    row("expiry", 0x11, Shape::Four, &["CONNACK"]),
    row("assigned", 0x12, Shape::Text, &["CONNACK"]),
    row("server_keepalive", 0x13, Shape::Two, &["CONNACK"]),
    row("auth_method", 0x15, Shape::Text, &["CONNACK", "AUTH"]),
    row("auth_data", 0x16, Shape::Text, &["CONNACK", "AUTH"]),
    row("problem_info", 0x17, Shape::Byte, &[]),
    row("will_delay", 0x18, Shape::Four, &[]),
    row("want_response_info", 0x19, Shape::Byte, &[]),
    row("response_info", 0x1A, Shape::Text, &["CONNACK"]),
    row("server_reference", 0x1C, Shape::Text, &["CONNACK", "DISCONNECT"]),
    row("reason", 0x1F, Shape::Text, ANSWERS),
    row("receive_max", 0x21, Shape::Two, &["CONNACK"]),
    row("alias_max", 0x22, Shape::Two, &["CONNACK"]),
    row("alias", 0x23, Shape::Two, &["PUBLISH"]),
    row("max_qos", 0x24, Shape::Byte, &["CONNACK"]),
    row("retain_available", 0x25, Shape::Byte, &["CONNACK"]),
    row("property", 0x26, Shape::Pair, ANYWHERE),
    row("packet_max", 0x27, Shape::Four, &["CONNACK"]),
    row("wildcard_available", 0x28, Shape::Byte, &["CONNACK"]),
    row("sub_id_available", 0x29, Shape::Byte, &["CONNACK"]),
    row("shared_available", 0x2A, Shape::Byte, &["CONNACK"]),
];

/// Properties of a will, which stand among the fields of CONNECT, and what they are called there.
const OF_WILL: [(&str, &str); 7] = [
    ("will_delay", "will_delay"),
    ("will_format", "format"),
    ("will_message_expiry", "message_expiry"),
    ("will_content_type", "content_type"),
    ("will_response_topic", "response_topic"),
    ("will_correlation", "correlation"),
    ("will_property", "property"),
];

/// The name of a property as a field, and its place among them.
pub fn named(name: &str) -> Option<(&'static str, usize)> {
    let keys = ROWS.iter().map(|row| row.key).chain(OF_WILL.iter().map(|(key, _)| *key));
    keys.enumerate().find(|(_, key)| *key == name).map(|(place, key)| (key, place))
}

/// Whether the value of this property is text.
pub fn is_text(key: &str) -> bool {
    let key = OF_WILL.iter().find(|(name, _)| *name == key).map_or(key, |(_, key)| key);
    ROWS.iter().any(|row| row.key == key && matches!(row.shape, Shape::Text | Shape::Pair))
}

/// The properties of a packet with their length in front.
pub fn encode(packet: &Packet, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    for Field { key, value } in &packet.fields {
        let is_will = packet.kind.name == "CONNECT" && key.starts_with("will");
        if let Some(row) = ROWS.iter().find(|row| row.key == *key).filter(|_| !is_will) {
            encode_one(row, value, &mut bytes);
        }
    }
    write_length(bytes.len(), out);
    out.extend(bytes);
}

/// The will properties of a CONNECT with their length in front.
pub fn encode_will(packet: &Packet, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    for Field { key, value } in &packet.fields {
        let Some((_, key)) = OF_WILL.iter().find(|(name, _)| name == key) else { continue };
        let row = ROWS.iter().find(|row| row.key == *key).expect("it is one of the rows");
        encode_one(row, value, &mut bytes);
    }
    write_length(bytes.len(), out);
    out.extend(bytes);
}

fn encode_one(row: &Row, value: &Value, out: &mut Vec<u8>) {
    out.push(row.id);
    match (row.shape, value) {
        (Shape::Byte, Value::Number(number)) => out.push(*number as u8),
        (Shape::Two, Value::Number(number)) => out.extend((*number as u16).to_be_bytes()),
        (Shape::Four, Value::Number(number)) => out.extend(number.to_be_bytes()),
        (Shape::Varint, Value::Number(number)) => write_length(*number as usize, out),
        (Shape::Text, Value::Bytes(bytes)) => write_string(bytes, out),
        (Shape::Pair, Value::Bytes(bytes)) => {
            let colon = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
            write_string(&bytes[..colon], out);
            write_string(bytes.get(colon + 1..).unwrap_or_default(), out);
        }
        (_, value) => panic!("{} cannot be {value}", row.key),
    }
}

/// Reads length and properties off the front of `bytes` into the fields of a packet.
pub fn decode(packet: &mut Packet, bytes: &mut &[u8]) -> Result<(), String> {
    let length = take_varint(bytes)?;
    let mut rest = take(bytes, length)?;
    let mut seen: Vec<u8> = Vec::new();
    while !rest.is_empty() {
        let id = take(&mut rest, 1)?[0];
        let row = ROWS.iter().find(|row| row.id == id);
        let row = row.ok_or_else(|| format!("no property {id:#x}"))?;
        let name = packet.kind.name;
        if !row.from_server.contains(&name) {
            return Err(format!("{name} with {} from a server", row.key));
        }
        let may_repeat = row.key == "property" || row.key == "sub_id";
        if seen.contains(&id) && !may_repeat {
            return Err(format!("{name} with {} twice", row.key));
        }
        seen.push(id);
        let value = take_value(row, &mut rest)?;
        judge(row.key, &value)?;
        packet.fields.push(Field { key: row.key, value });
    }
    Ok(())
}

fn take_value(row: &Row, bytes: &mut &[u8]) -> Result<Value, String> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    Ok(match row.shape {
        Shape::Byte => Value::Number(number(take(bytes, 1)?)),
        Shape::Two => Value::Number(number(take(bytes, 2)?)),
        Shape::Four => Value::Number(number(take(bytes, 4)?)),
        Shape::Varint => Value::Number(take_varint(bytes)? as u32),
        Shape::Text if matches!(row.key, "correlation" | "auth_data") => {
            Value::Bytes(take_string(bytes)?.to_vec())
        }
        Shape::Text => Value::Bytes(take_utf8(bytes)?.to_vec()),
        Shape::Pair => {
            let name = take_utf8(bytes)?;
            Value::Bytes([name, b":", take_utf8(bytes)?].concat())
        }
    })
}

/// Values that no server may send.
fn judge(key: &str, value: &Value) -> Result<(), String> {
    let is_wrong = match (key, value) {
        ("sub_id" | "alias" | "receive_max" | "packet_max", Value::Number(number)) => *number == 0,
        (
            "format" | "max_qos" | "retain_available" | "wildcard_available" | "sub_id_available"
            | "shared_available",
            Value::Number(number),
        ) => *number > 1,
        ("response_topic", Value::Bytes(text)) => {
            text.is_empty() || text.iter().any(|byte| b"+#".contains(byte))
        }
        _ => false,
    };
    if is_wrong { Err(format!("{key}={value} from a server")) } else { Ok(()) }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or("properties that are too short")?;
    *bytes = rest;
    Ok(taken)
}

fn take_string<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = take(bytes, 2)?;
    take(bytes, usize::from(length[0]) << 8 | usize::from(length[1]))
}

fn take_utf8<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let text = take_string(bytes)?;
    let is_good = std::str::from_utf8(text).is_ok_and(|text| !text.contains('\0'));
    if is_good { Ok(text) } else { Err("text in a property that is none".into()) }
}

fn take_varint(bytes: &mut &[u8]) -> Result<usize, String> {
    let mut value = 0;
    for place in 0..4 {
        let byte = take(bytes, 1)?[0];
        value |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let overlong = place > 0 && byte == 0;
            return if overlong { Err("overlong number".into()) } else { Ok(value) };
        }
    }
    Err("a number of more than four bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notation::parse_packet;

    fn encoded(text: &str) -> Vec<u8> {
        parse_packet(text).expect(text).encode(true)
    }

    #[test]
    fn a_connect_is_what_the_specification_draws() {
        let expected = b"\x10\x15\0\x04MQTT\x05\x02\0\x3c\x08\x11\0\0\0\x05\x21\0\x0a\0\x00";
        assert_eq!(encoded("CONNECT \"\" version=5 expiry=5 receive_max=10"), expected);
        let expected =
            b"\x10\x1e\0\x04MQTT\x05\x06\0\x3c\0\0\x01c\x0a\x18\0\0\0\x01\x03\0\x02ab\0\x01w\0\0";
        assert_eq!(
            encoded("CONNECT c version=5 will=w will_delay=1 will_content_type=ab"),
            expected
        );
    }

    #[test]
    fn the_rest_is_what_the_specification_draws() {
        let table: [(&str, &[u8]); 12] = [
            ("PUBLISH t hi", b"\x30\x06\0\x01t\0hi"),
            ("PUBLISH \"\" alias=1 q1 id=7", b"\x32\x08\0\0\0\x07\x03\x23\0\x01"),
            ("PUBLISH t property=a:b", b"\x30\x0b\0\x01t\x07\x26\0\x01a\0\x01b"),
            ("PUBACK id=1", b"\x40\x02\0\x01"),
            ("PUBACK id=1 0x10", b"\x40\x03\0\x01\x10"),
            ("PUBREC id=1 reason=x", b"\x50\x08\0\x01\0\x04\x1f\0\x01x"),
            ("SUBSCRIBE id=1 t:1 nl rap rh=2", b"\x82\x07\0\x01\0\0\x01t\x2d"),
            ("SUBSCRIBE id=1 sub_id=200 t:0", b"\x82\x0a\0\x01\x03\x0b\xc8\x01\0\x01t\0"),
            ("UNSUBSCRIBE id=1 t", b"\xa2\x06\0\x01\0\0\x01t"),
            ("DISCONNECT", b"\xe0\0"),
            ("DISCONNECT 0x8e", b"\xe0\x01\x8e"),
            ("AUTH 0x18 auth_method=m", b"\xf0\x06\x18\x04\x15\0\x01m"),
        ];
        for (text, bytes) in table {
            assert_eq!(encoded(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_a_server_sends_is_read_back() {
        for text in [
            "CONNACK 0 present receive_max=1 packet_max=100 alias_max=3 assigned=x expiry=7",
            "CONNACK 0x8c",
            "PUBLISH t q2 id=1 sub_id=2 sub_id=300 property=b:1 property=a:2 hello",
            "PUBLISH \"\" alias=4 format=1 response_topic=r correlation=\"\\xff\" x",
            "PUBACK id=1 0x10",
            "PUBREL id=1 0x92 reason=no",
            "SUBACK id=1 0 0x8f",
            "UNSUBACK id=1 0 0x11",
            "DISCONNECT 0x8e",
            "AUTH 0x18 auth_method=m auth_data=d",
        ] {
            let packet = parse_packet(text).expect(text);
            assert_eq!(Packet::decode(&packet.encode(true), true).as_ref(), Ok(&packet), "{text}");
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        for bytes in [
            b"\x20\x02\0\0".as_slice(),
            b"\x20\x06\0\0\x03\x21\0\0",
            b"\x20\x08\0\0\x05\x17\0\x17\0\0",
            b"\x20\x09\0\0\x06\x22\0\x01\x22\0\x01",
            b"\x20\x03\x01\x80\0",
            b"\x30\x04\0\0\0x",
            b"\x40\x03\0\x01\x11",
            b"\x40\x05\0\x01\x10\x01\0",
            b"\x90\x03\0\x01\0",
            b"\xb0\x02\0\x01",
            b"\xe0\x01\x04",
            b"\xe0\x01\x92",
            b"\xf0\x02\x18\0",
        ] {
            let packet = Packet::decode(bytes, true);
            assert!(packet.is_err(), "{bytes:02x?}: {packet:?}");
        }
    }
}
