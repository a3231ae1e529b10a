//! A second opinion on the wire format: packets as a list of named fields, to bytes and back.
//!
//! Written by hand and on purpose independent of `ringmq::mqtt`, which it checks. It will write
//! what a correct client never would (reserved flags, QoS 3, fields that contradict each other),
//! and it reads only what a server may send, strictly.

use std::fmt;

use crate::property;

/// One field of a packet, such as `topic`, `id` or `filter` (which may come several times).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    pub key: &'static str,
    pub value: Value,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Number(u32),
    Bytes(Vec<u8>),
    /// `$name`: in what is expected it is bound by the first packet that matches, then compared;
    /// in what is sent it stands for what was bound.
    Variable(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    pub kind: Kind,
    /// In the order of `Kind::place`, without those that have their default value.
    pub fields: Vec<Field>,
    /// Only of a packet that is expected: what comes may have other fields, too.
    pub open: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    pub name: &'static str,
    number: u8,
    flags: u8,
}

const KINDS: [Kind; 15] = [
    Kind { name: "CONNECT", number: 1, flags: 0 },
    Kind { name: "CONNACK", number: 2, flags: 0 },
    Kind { name: "PUBLISH", number: 3, flags: 0 },
    Kind { name: "PUBACK", number: 4, flags: 0 },
    Kind { name: "PUBREC", number: 5, flags: 0 },
    Kind { name: "PUBREL", number: 6, flags: 2 },
    Kind { name: "PUBCOMP", number: 7, flags: 0 },
    Kind { name: "SUBSCRIBE", number: 8, flags: 2 },
    Kind { name: "SUBACK", number: 9, flags: 0 },
    Kind { name: "UNSUBSCRIBE", number: 10, flags: 2 },
    Kind { name: "UNSUBACK", number: 11, flags: 0 },
    Kind { name: "PINGREQ", number: 12, flags: 0 },
    Kind { name: "PINGRESP", number: 13, flags: 0 },
    Kind { name: "DISCONNECT", number: 14, flags: 0 },
    Kind { name: "AUTH", number: 15, flags: 0 },
];

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.name == name)
    }

    fn numbered(number: u8) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.number == number)
    }

    /// The fields that the notation may name; `header` overrides the whole first byte.
    pub fn fields(self) -> &'static [&'static str] {
        match self.name {
            "CONNECT" => &[
                "client",
                "protocol",
                "level",
                "clean",
                "flags",
                "keepalive",
                "will",
                "will_payload",
                "will_qos",
                "will_retain",
                "user",
                "pass",
                "header",
            ],
            "CONNACK" => &["code", "present"],
            "PUBLISH" => &["topic", "qos", "dup", "retain", "id", "payload", "header"],
            "SUBSCRIBE" | "UNSUBSCRIBE" => &["id", "filter", "header"],
            "SUBACK" => &["id", "code"],
            "UNSUBACK" => &["id", "code"],
            "PINGREQ" | "PINGRESP" => &["header"],
            "DISCONNECT" | "AUTH" => &["code", "header"],
            _ => &["id", "code", "header"],
        }
    }

    /// Where a field stands among the fields of this kind; properties of 5.0 come last.
    fn place(self, key: &str) -> Option<usize> {
        let own = self.fields().iter().position(|name| *name == key);
        own.or_else(|| property::named(key).map(|(_, place)| self.fields().len() + place))
    }
}

impl Packet {
    pub fn new(kind: Kind) -> Self {
        Self { kind, fields: Vec::new(), open: false }
    }

    pub fn push(&mut self, key: &'static str, value: Value) {
        if value != Value::Number(0) || !defaults_to_zero(self.kind, key) {
            self.fields.push(Field { key, value });
        }
    }

    /// Brings the fields into the order in which the decoder gives them, so that two packets that
    /// say the same are equal. Subscription identifiers may come in any order.
    pub fn sort(&mut self) {
        let kind = self.kind;
        self.fields.sort_by_key(|Field { key, value }| match value {
            Value::Number(id) if *key == "sub_id" => (kind.place(key), *id),
            _ => (kind.place(key), 0),
        });
    }

    fn all<'a>(&'a self, key: &'static str) -> impl Iterator<Item = &'a Value> {
        self.fields.iter().filter(move |field| field.key == key).map(|field| &field.value)
    }

    pub fn number(&self, key: &'static str) -> Option<u32> {
        self.all(key).find_map(|value| match value {
            Value::Number(number) => Some(*number),
            _ => None,
        })
    }

    /// All numbers of a field that comes several times.
    pub fn numbers(&self, key: &'static str) -> impl Iterator<Item = u32> {
        self.all(key).filter_map(|value| match value {
            Value::Number(number) => Some(*number),
            _ => None,
        })
    }

    pub fn bytes(&self, key: &'static str) -> Option<&[u8]> {
        self.all(key).find_map(|value| match value {
            Value::Bytes(bytes) => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// A text field of a packet that a test looks into.
    pub fn text(&self, key: &'static str) -> String {
        String::from_utf8_lossy(self.bytes(key).expect("the packet has this field")).into_owned()
    }

    fn or_zero(&self, key: &'static str) -> u8 {
        self.number(key).unwrap_or(0) as u8
    }

    /// Whether this is a CONNECT of MQTT 5.0.
    pub fn speaks_v5(&self) -> bool {
        self.kind.name == "CONNECT" && self.number("level") == Some(5)
    }

    /// The bytes of this packet, in those of 5.0 if `v5`; variables must have been replaced by
    /// what they stand for.
    pub fn encode(&self, v5: bool) -> Vec<u8> {
        let (flags, body) = match self.kind.name {
            "CONNECT" => (0, self.connect_body()),
            "PUBLISH" => (self.publish_flags(), self.publish_body(v5)),
            "SUBSCRIBE" => (2, self.subscribe_body(v5)),
            "CONNACK" => (0, self.connack_body(v5)),
            "PINGREQ" | "PINGRESP" => (0, Vec::new()),
            "SUBACK" | "UNSUBACK" | "UNSUBSCRIBE" => (self.kind.flags, self.id_then_rest(v5)),
            _ => (self.kind.flags, self.id_then_reason(v5)),
        };
        let first = self.number("header").map_or(self.kind.number << 4 | flags, |byte| byte as u8);
        let mut packet = vec![first];
        write_length(body.len(), &mut packet);
        packet.extend(body);
        packet
    }

    fn connect_body(&self) -> Vec<u8> {
        let level = self.number("level").unwrap_or(4) as u8;
        let name: &[u8] = if level == 3 { b"MQIsdp" } else { b"MQTT" };
        let mut body = Vec::new();
        write_string(self.bytes("protocol").unwrap_or(name), &mut body);
        body.push(level);
        body.push(self.number("flags").map_or_else(|| self.connect_flags(), |flags| flags as u8));
        body.extend((self.number("keepalive").unwrap_or(60) as u16).to_be_bytes());
        if self.speaks_v5() {
            property::encode(self, &mut body);
        }
        write_string(self.bytes("client").unwrap_or_default(), &mut body);
        if let Some(topic) = self.bytes("will") {
            if self.speaks_v5() {
                property::encode_will(self, &mut body);
            }
            write_string(topic, &mut body);
            write_string(self.bytes("will_payload").unwrap_or_default(), &mut body);
        }
        for key in ["user", "pass"] {
            if let Some(value) = self.bytes(key) {
                write_string(value, &mut body);
            }
        }
        body
    }

    fn connect_flags(&self) -> u8 {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        bit(self.number("clean") != Some(0), 0x02)
            | bit(self.bytes("will").is_some(), 0x04)
            | self.or_zero("will_qos") << 3
            | self.or_zero("will_retain") << 5
            | bit(self.bytes("pass").is_some(), 0x40)
            | bit(self.bytes("user").is_some(), 0x80)
    }

    fn publish_flags(&self) -> u8 {
        self.or_zero("dup") << 3 | self.or_zero("qos") << 1 | self.or_zero("retain")
    }

    fn connack_body(&self, v5: bool) -> Vec<u8> {
        let mut body = vec![self.or_zero("present"), self.or_zero("code")];
        if v5 {
            property::encode(self, &mut body);
        }
        body
    }

    fn publish_body(&self, v5: bool) -> Vec<u8> {
        let mut body = Vec::new();
        write_string(self.bytes("topic").unwrap_or_default(), &mut body);
        if let Some(id) = self.number("id") {
            body.extend((id as u16).to_be_bytes());
        }
        if v5 {
            property::encode(self, &mut body);
        }
        body.extend(self.bytes("payload").unwrap_or_default());
        body
    }

    /// Filters are written `filter:qos`; whatever stands after the last colon is the QoS byte, to
    /// which the notation has added the options of 5.0.
    fn subscribe_body(&self, v5: bool) -> Vec<u8> {
        let mut body = self.id_bytes();
        if v5 {
            property::encode(self, &mut body);
        }
        for value in self.all("filter") {
            let Value::Bytes(text) = value else { continue };
            let colon = text.iter().rposition(|byte| *byte == b':').unwrap_or(text.len());
            write_string(&text[..colon], &mut body);
            let qos = text.get(colon + 1..).map(String::from_utf8_lossy).unwrap_or_default();
            body.push(parse_number(&qos).unwrap_or(0) as u8);
        }
        body
    }

    /// Reason code and properties are left out where 5.0 allows it.
    fn id_then_reason(&self, v5: bool) -> Vec<u8> {
        let mut body = self.id_bytes();
        let has_properties = self.fields.iter().any(|field| property::named(field.key).is_some());
        if v5 && (has_properties || self.number("code").is_some()) {
            body.push(self.or_zero("code"));
        }
        if v5 && has_properties {
            property::encode(self, &mut body);
        }
        body
    }

    fn id_then_rest(&self, v5: bool) -> Vec<u8> {
        let mut body = self.id_bytes();
        if v5 {
            property::encode(self, &mut body);
        }
        for value in self.all("filter") {
            if let Value::Bytes(filter) = value {
                write_string(filter, &mut body);
            }
        }
        for value in self.all("code") {
            if let Value::Number(code) = value {
                body.push(*code as u8);
            }
        }
        body
    }

    fn id_bytes(&self) -> Vec<u8> {
        self.number("id").map_or_else(Vec::new, |id| (id as u16).to_be_bytes().to_vec())
    }

    /// Reads one whole packet that a server sent, of 5.0 if `v5`; anything a server must not send
    /// is an error.
    pub fn decode(bytes: &[u8], v5: bool) -> Result<Self, String> {
        let (head, body) = split_header(bytes)?.ok_or("half a packet")?;
        let kind = Kind::numbered(bytes[0] >> 4).ok_or("a packet type that does not exist")?;
        let flags = bytes[0] & 0x0F;
        if kind.name != "PUBLISH" && flags != kind.flags {
            return Err(format!("{} with flags {flags:#x}", kind.name));
        }
        if head + body != bytes.len() {
            return Err("not exactly one packet".into());
        }
        let mut packet = Self::new(kind);
        match v5 {
            _ if kind.name == "PUBLISH" => packet.decode_publish(flags, &bytes[head..], v5)?,
            true => packet.decode_v5(&bytes[head..])?,
            false => packet.decode_v3(&bytes[head..])?,
        }
        packet.sort();
        Ok(packet)
    }

    fn decode_v3(&mut self, body: &[u8]) -> Result<(), String> {
        match (self.kind.name, body) {
            ("CONNACK", [present @ 0..=1, code]) => {
                self.push("code", Value::Number(u32::from(*code)));
                self.push("present", Value::Number(u32::from(*present)));
            }
            ("PINGRESP", []) => {}
            ("SUBACK", [high, low, codes @ ..]) if !codes.is_empty() => {
                self.push_id(&[*high, *low])?;
                self.push_codes(codes);
            }
            ("PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" | "UNSUBACK", [_, _]) => {
                self.push_id(body)?;
            }
            _ => return Err(format!("{} with the body {}", self.kind.name, hex(body))),
        }
        Ok(())
    }

    fn decode_v5(&mut self, body: &[u8]) -> Result<(), String> {
        let (name, mut rest) = (self.kind.name, body);
        match (name, body) {
            ("CONNACK", [present @ 0..=1, code, properties @ ..])
                if *present == 0 || *code == 0 =>
            {
                self.push("code", Value::Number(u32::from(*code)));
                self.push("present", Value::Number(u32::from(*present)));
                rest = properties;
                property::decode(self, &mut rest)?;
            }
            ("PINGRESP", []) => {}
            ("SUBACK" | "UNSUBACK", [_, _, properties @ ..]) => {
                self.push_id(&body[..2])?;
                rest = properties;
                property::decode(self, &mut rest)?;
                self.push_codes(rest);
                rest = if rest.is_empty() { body } else { &[] };
            }
            ("PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP", [_, _, reason @ ..]) => {
                self.push_id(&body[..2])?;
                rest = self.decode_reason(reason)?;
            }
            ("DISCONNECT" | "AUTH", reason) => rest = self.decode_reason(reason)?,
            _ => return Err(format!("{name} with the body {}", hex(body))),
        }
        let codes = self.all("code").all(|code| is_code_of(name, code));
        let lacks_method = name == "AUTH" && self.bytes("auth_method").is_none();
        if !rest.is_empty() || !codes || lacks_method {
            return Err(format!("{name} with the body {}", hex(body)));
        }
        Ok(())
    }

    /// A reason code and properties, each of which may be left out; gives what is behind them.
    fn decode_reason<'a>(&mut self, reason: &'a [u8]) -> Result<&'a [u8], String> {
        let [code, properties @ ..] = reason else { return Ok(reason) };
        self.push("code", Value::Number(u32::from(*code)));
        let mut rest = properties;
        if !rest.is_empty() {
            property::decode(self, &mut rest)?;
        }
        Ok(rest)
    }

    fn push_codes(&mut self, codes: &[u8]) {
        for code in codes {
            self.push("code", Value::Number(u32::from(*code)));
        }
    }

    fn decode_publish(&mut self, flags: u8, body: &[u8], v5: bool) -> Result<(), String> {
        let (dup, qos, retain) = (flags >> 3, flags >> 1 & 3, flags & 1);
        if qos == 3 || (qos == 0 && dup == 1) {
            return Err(format!("PUBLISH with flags {flags:#x}"));
        }
        let short = "PUBLISH that is too short";
        let (length, rest) = body.split_first_chunk().ok_or(short)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (topic, rest) = rest.split_at_checked(length).ok_or(short)?;
        let (id, mut payload) = rest.split_at_checked(if qos > 0 { 2 } else { 0 }).ok_or(short)?;
        self.push("topic", Value::Bytes(topic.to_vec()));
        for (key, bits) in [("qos", qos), ("dup", dup), ("retain", retain)] {
            self.push(key, Value::Number(u32::from(bits)));
        }
        if qos > 0 {
            self.push_id(id)?;
        }
        if v5 {
            property::decode(self, &mut payload)?;
        }
        if topic.is_empty() && self.number("alias").is_none() {
            return Err("PUBLISH without a topic".into());
        }
        self.push("payload", Value::Bytes(payload.to_vec()));
        Ok(())
    }

    fn push_id(&mut self, bytes: &[u8]) -> Result<(), String> {
        let id = bytes.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
        if id == 0 {
            return Err(format!("{} with packet id 0", self.kind.name));
        }
        self.push("id", Value::Number(id));
        Ok(())
    }
}

/// Whether a server may send this code in a packet of 5.0.
fn is_code_of(name: &str, code: &Value) -> bool {
    let Value::Number(code) = code else { return false };
    match name {
        "CONNACK" => {
            matches!(code, 0 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
        }
        "PUBACK" | "PUBREC" => {
            matches!(code, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
        }
        "PUBREL" | "PUBCOMP" => matches!(code, 0 | 0x92),
        "SUBACK" => {
            matches!(code, 0..=2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
        }
        "UNSUBACK" => matches!(code, 0 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
        "DISCONNECT" => {
            let low = matches!(code, 0 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90);
            low || matches!(code, 0x93..=0xA2)
        }
        "AUTH" => matches!(code, 0 | 0x18),
        _ => true,
    }
}

fn defaults_to_zero(kind: Kind, key: &str) -> bool {
    if key == "code" {
        return !matches!(kind.name, "CONNACK" | "SUBACK" | "UNSUBACK");
    }
    matches!(
        (kind.name, key),
        ("PUBLISH", "qos" | "dup" | "retain")
            | ("CONNACK", "present")
            | ("CONNECT", "will_qos" | "will_retain")
    )
}

/// The length of the fixed header and of the body behind it; `None` while the header is not whole.
/// A remaining length that is longer than it needs to be, or than four bytes, is an error.
pub fn split_header(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0;
    for place in 0..4 {
        let Some(byte) = bytes.get(1 + place) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let overlong = place > 0 && *byte == 0;
            return if overlong {
                Err("overlong length".into())
            } else {
                Ok(Some((2 + place, length)))
            };
        }
    }
    Err("remaining length of more than four bytes".into())
}

pub fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length > 0x7F {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

pub fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

pub fn parse_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Bytes for a person to read, cut where a payload would fill the screen.
pub fn hex(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(64)];
    let mut text = shown.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    if shown.len() < bytes.len() {
        text += &format!(" .. ({} bytes)", bytes.len());
    }
    text
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name)?;
        for Field { key, value } in &self.fields {
            match (*key, value) {
                ("qos", Value::Number(qos)) => write!(f, " q{qos}")?,
                ("dup" | "retain" | "present", Value::Number(1)) => write!(f, " {key}")?,
                ("code", Value::Number(code @ 0x10..)) => write!(f, " {code:#04x}")?,
                ("code", value) => write!(f, " {value}")?,
                ("topic" | "filter" | "client", value) => write!(f, " {value}")?,
                (_, value) => write!(f, " {key}={value}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) if bytes.len() > 80 => {
                write!(f, "\"{}..\" ({} bytes)", bytes[..40].escape_ascii(), bytes.len())
            }
            Self::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Variable(name) => write!(f, "${name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notation::parse_packet;

    fn encoded(text: &str) -> Vec<u8> {
        parse_packet(text).expect(text).encode(false)
    }

    #[test]
    fn a_connect_is_what_the_specification_draws() {
        let text = "CONNECT c keepalive=10 will=w will_payload=x will_qos=1 user=u pass=p";
        let expected = b"\x10\x19\0\x04MQTT\x04\xce\0\x0a\0\x01c\0\x01w\0\x01x\0\x01u\0\x01p";
        assert_eq!(encoded(text), expected);
        assert_eq!(
            encoded("CONNECT a level=3 clean=0"),
            b"\x10\x0f\0\x06MQIsdp\x03\0\0\x3c\0\x01a"
        );
    }

    #[test]
    fn a_publish_is_what_the_specification_draws() {
        assert_eq!(encoded("PUBLISH a/b q1 id=10 hi"), b"\x32\x09\0\x03a/b\0\x0ahi");
        assert_eq!(encoded("PUBLISH a dup retain q2 id=1"), b"\x3d\x05\0\x01a\0\x01");
        assert_eq!(encoded("PUBLISH t \"x\"*200")[..3], [0x30, 0xCB, 0x01]);
    }

    #[test]
    fn the_rest_is_what_the_specification_draws() {
        let table: [(&str, &[u8]); 8] = [
            ("SUBSCRIBE id=10 a/b:1 c:2", b"\x82\x0c\0\x0a\0\x03a/b\x01\0\x01c\x02"),
            ("UNSUBSCRIBE id=10 a/b c", b"\xa2\x0a\0\x0a\0\x03a/b\0\x01c"),
            ("SUBACK id=10 0 2 0x80", b"\x90\x05\0\x0a\0\x02\x80"),
            ("CONNACK 0 present", b"\x20\x02\x01\0"),
            ("PUBREL id=258", b"\x62\x02\x01\x02"),
            ("PUBREL id=258 header=0x60", b"\x60\x02\x01\x02"),
            ("PINGREQ", b"\xc0\0"),
            ("DISCONNECT", b"\xe0\0"),
        ];
        for (text, bytes) in table {
            assert_eq!(encoded(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_a_server_sends_is_read_back() {
        for text in [
            "CONNACK 0 present",
            "CONNACK 5",
            "PUBLISH a/b q2 dup id=7 hello",
            "PUBLISH a/b retain",
            "PUBREC id=9",
            "SUBACK id=1 0 1 2 0x80",
            "UNSUBACK id=65535",
            "PINGRESP",
        ] {
            let packet = parse_packet(text).expect(text);
            assert_eq!(
                Packet::decode(&packet.encode(false), false).as_ref(),
                Ok(&packet),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        for bytes in [
            b"\x21\x02\0\0".as_slice(),
            b"\x20\x02\x02\0",
            b"\x38\x03\0\x01a",
            b"\x36\x05\0\x01a\0\x01",
            b"\x40\x02\0\0",
            b"\x60\x02\0\x01",
            b"\x90\x02\0\x01",
            b"\xd0\x80\0",
            b"\xc0\0",
        ] {
            assert!(Packet::decode(bytes, false).is_err(), "{}", hex(bytes));
        }
    }
}
