//! Packets as a person writes them, in the conformance table and in tests.
//!
//! ```text
//! CONNECT client1 clean=0 keepalive=10 will=topic will_payload="bye" will_qos=1 will_retain=1
//! PUBLISH topic q1 dup retain id=5 "payload"
//! SUBSCRIBE id=1 a/b:0 c/#:2
//! SUBACK id=1 0 0x80
//! ```
//!
//! After `CONNECT x version=5` a client speaks MQTT 5.0: properties are fields (their names are in
//! `property.rs`), acknowledgements and DISCONNECT have a reason code unless it is 0, and a filter
//! may have options behind it:
//!
//! ```text
//! CONNECT x version=5 expiry=60 receive_max=10 will=w will_delay=5
//! PUBLISH t q1 id=1 property=name:value property=name:other alias=1 "payload"
//! SUBSCRIBE id=1 sub_id=7 a/b:1 nl rap rh=2 c:0
//! PUBACK id=1 0x10
//! ```
//!
//! `CONNACK 0 ..` is what is expected and may have more fields than are named.
//!
//! A value is a bare word or `"quoted"` with the escapes `\" \\ \n \xNN \u{NNNN}`; `"x"*100` is a
//! hundred of them; `id=$name` is a variable. Numbers are decimal or `0x` hexadecimal.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use crate::packet::{Field, Kind, Packet, Value, parse_number};
use crate::property;

/// What the variables of a script stand for.
pub type Bindings = HashMap<String, Value>;

/// A word of a line: bytes, what stood before `=`, and whether any of it was quoted.
struct Word {
    key: Option<String>,
    bytes: Vec<u8>,
    quoted: bool,
}

pub fn parse_packet(text: &str) -> Result<Packet, String> {
    let mut words = words(text)?.into_iter();
    let name = words.next().ok_or("a packet is wanted")?.bytes;
    let name = String::from_utf8_lossy(&name).into_owned();
    let kind = Kind::named(&name).ok_or_else(|| format!("no packet is called {name}"))?;
    let mut packet = Packet::new(kind);
    for word in words {
        add_word(&mut packet, word)?;
    }
    if kind.name == "PUBLISH" && !has(&packet, "payload") {
        packet.push("payload", Value::Bytes(Vec::new()));
    }
    packet.sort();
    Ok(packet)
}

fn add_word(packet: &mut Packet, word: Word) -> Result<(), String> {
    if let Some(name) = &word.key {
        if packet.kind.name == "SUBSCRIBE" && name == "rh" {
            let handling = parse_number(&String::from_utf8_lossy(&word.bytes));
            add_bits(packet, handling.ok_or("rh wants a number")? << 4);
            return Ok(());
        }
        let key = field_named(packet.kind, name)?;
        let value = value_of(key, word)?;
        packet.push(key, value);
        return Ok(());
    }
    if !word.quoted && (add_flag(packet, &word.bytes) || add_option(packet, &word.bytes)) {
        return Ok(());
    }
    let key = positional(packet)?;
    let value = value_of(key, word)?;
    packet.push(key, value);
    Ok(())
}

/// Words that are whole fields: `q0 q1 q2 dup retain` of PUBLISH, `present` of CONNACK.
fn add_flag(packet: &mut Packet, word: &[u8]) -> bool {
    let (key, number) = match (packet.kind.name, word) {
        ("PUBLISH", [b'q', digit @ b'0'..=b'2']) => ("qos", u32::from(digit - b'0')),
        ("PUBLISH", b"dup") => ("dup", 1),
        ("PUBLISH", b"retain") => ("retain", 1),
        ("CONNACK", b"present") => ("present", 1),
        _ => return false,
    };
    packet.push(key, Value::Number(number));
    true
}

/// Options of the filter before, and the sign that more fields may come.
fn add_option(packet: &mut Packet, word: &[u8]) -> bool {
    match (packet.kind.name, word) {
        ("SUBSCRIBE", b"nl") => add_bits(packet, 0x04),
        ("SUBSCRIBE", b"rap") => add_bits(packet, 0x08),
        (_, b"..") => packet.open = true,
        _ => return false,
    }
    true
}

/// The options of a subscription share a byte with its QoS.
fn add_bits(packet: &mut Packet, bits: u32) {
    let last = packet.fields.iter_mut().rfind(|field| field.key == "filter");
    if let Some(Field { value: Value::Bytes(filter), .. }) = last {
        let colon = filter.iter().rposition(|byte| *byte == b':').map_or(filter.len(), |at| at + 1);
        let qos = parse_number(&String::from_utf8_lossy(&filter[colon..])).unwrap_or(0);
        filter.truncate(colon);
        filter.extend((qos | bits).to_string().into_bytes());
    }
}

/// The field that a word without `key=` belongs to.
fn positional(packet: &Packet) -> Result<&'static str, String> {
    match packet.kind.name {
        "CONNECT" if !has(packet, "client") => Ok("client"),
        "PUBLISH" if !has(packet, "topic") => Ok("topic"),
        "PUBLISH" if !has(packet, "payload") => Ok("payload"),
        "SUBSCRIBE" | "UNSUBSCRIBE" => Ok("filter"),
        "CONNACK" | "SUBACK" | "UNSUBACK" => Ok("code"),
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" | "DISCONNECT" | "AUTH"
            if !has(packet, "code") =>
        {
            Ok("code")
        }
        name => Err(format!("a word too many for {name}")),
    }
}

fn has(packet: &Packet, key: &str) -> bool {
    packet.fields.iter().any(|field| field.key == key)
}

fn field_named(kind: Kind, name: &str) -> Result<&'static str, String> {
    let name = if kind.name == "CONNECT" && name == "version" { "level" } else { name };
    let found = kind.fields().iter().find(|field| **field == name).copied();
    let found = found.or_else(|| property::named(name).map(|(key, _)| key));
    found.ok_or_else(|| format!("{} has no field {name}", kind.name))
}

/// The fields whose value is text; the others are numbers.
const TEXT_FIELDS: [&str; 9] =
    ["client", "protocol", "will", "will_payload", "user", "pass", "topic", "payload", "filter"];

fn value_of(key: &str, word: Word) -> Result<Value, String> {
    let text = String::from_utf8_lossy(&word.bytes);
    let may_vary = matches!(key, "id" | "assigned" | "client") && !word.quoted;
    if let Some(name) = text.strip_prefix('$').filter(|_| may_vary) {
        return Ok(Value::Variable(name.to_owned()));
    }
    if TEXT_FIELDS.contains(&key) || property::is_text(key) {
        return Ok(Value::Bytes(word.bytes));
    }
    parse_number(&text).map(Value::Number).ok_or_else(|| format!("{key}={text} is no number"))
}

/// Bytes as they stand: hexadecimal pairs and quoted text, `10 0c 00 04 "MQTT" 04`.
pub fn parse_raw(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for word in words(text)? {
        if word.quoted {
            bytes.extend(word.bytes);
            continue;
        }
        let digits = String::from_utf8_lossy(&word.bytes);
        let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
        bytes.push(byte.ok_or_else(|| format!("{digits} is no byte"))?);
    }
    Ok(bytes)
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut chars = text.chars().peekable();
    let mut words = Vec::new();
    while skip_blanks(&mut chars) {
        words.push(word(&mut chars)?);
    }
    Ok(words)
}

fn skip_blanks(chars: &mut Peekable<Chars<'_>>) -> bool {
    while chars.next_if(|char| char.is_whitespace()).is_some() {}
    chars.peek().is_some()
}

fn word(chars: &mut Peekable<Chars<'_>>) -> Result<Word, String> {
    let mut word = Word { key: None, bytes: Vec::new(), quoted: false };
    while let Some(char) = chars.next_if(|char| !char.is_whitespace()) {
        match char {
            '"' => {
                word.quoted = true;
                let piece = quoted(chars)?;
                let times = repetition(chars)?;
                word.bytes.extend(piece.repeat(times));
            }
            '=' if word.key.is_none() && is_key(&word) => {
                word.key = Some(String::from_utf8_lossy(&word.bytes).into_owned());
                word.bytes.clear();
            }
            char => word.bytes.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(word)
}

fn is_key(word: &Word) -> bool {
    let letters = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_';
    !word.quoted && !word.bytes.is_empty() && word.bytes.iter().all(letters)
}

fn quoted(chars: &mut Peekable<Chars<'_>>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    loop {
        match chars.next().ok_or("a quote is not closed")? {
            '"' => return Ok(bytes),
            '\\' => escape(chars, &mut bytes)?,
            char => bytes.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn escape(chars: &mut Peekable<Chars<'_>>, bytes: &mut Vec<u8>) -> Result<(), String> {
    match chars.next() {
        Some('n') => bytes.push(b'\n'),
        Some(char @ ('"' | '\\')) => bytes.push(char as u8),
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            bytes.push(u8::from_str_radix(&digits, 16).map_err(|_| "\\x wants two digits")?);
        }
        Some('u') => {
            let digits: String = chars.by_ref().skip(1).take_while(|char| *char != '}').collect();
            let code = u32::from_str_radix(&digits, 16).map_err(|_| "\\u{..} wants digits")?;
            let char = char::from_u32(code).ok_or("\\u{..} is no character")?;
            bytes.extend(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
        other => return Err(format!("unknown escape {other:?}")),
    }
    Ok(())
}

fn repetition(chars: &mut Peekable<Chars<'_>>) -> Result<usize, String> {
    if chars.next_if_eq(&'*').is_none() {
        return Ok(1);
    }
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    digits.parse().map_err(|_| "* wants a number".into())
}

/// Puts in place of every variable what it is bound to.
pub fn substitute(packet: &mut Packet, bindings: &Bindings) -> Result<(), String> {
    for Field { value, .. } in &mut packet.fields {
        if let Value::Variable(name) = value {
            *value = bindings.get(name).ok_or_else(|| format!("${name} is not bound"))?.clone();
        }
    }
    Ok(())
}

/// Whether a received packet is the expected one; binds variables that are still free, and only
/// when all of it matches.
pub fn matches(expected: &Packet, received: &Packet, bindings: &mut Bindings) -> bool {
    if expected.kind != received.kind {
        return false;
    }
    let mut bound = bindings.clone();
    let mut rest = received.fields.iter();
    for wanted in &expected.fields {
        // Both are in the same order.
        let mut found = rest.by_ref().filter(|got| !expected.open || wanted.key == got.key);
        let Some(got) = found.next() else { return false };
        let value = match &wanted.value {
            Value::Variable(name) => bound.entry(name.clone()).or_insert_with(|| got.value.clone()),
            value => value,
        };
        if wanted.key != got.key || *value != got.value {
            return false;
        }
    }
    if !expected.open && rest.next().is_some() {
        return false;
    }
    *bindings = bound;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_quoted_repeated_and_escaped() {
        let packet = parse_packet(r#"PUBLISH "a b" q2 "x\x00\u{e9}\"\\"*2"#).unwrap();
        assert_eq!(
            packet.to_string(),
            r#"PUBLISH "a b" q2 payload="x\x00\xc3\xa9\"\\x\x00\xc3\xa9\"\\""#
        );
        let packet = parse_packet(r#"SUBSCRIBE id=1 "a b":1"#).unwrap();
        assert_eq!(packet.to_string(), r#"SUBSCRIBE id=1 "a b:1""#);
        assert_eq!(
            parse_packet(r#"PUBLISH t "q1""#).unwrap().to_string(),
            r#"PUBLISH "t" payload="q1""#
        );
    }

    #[test]
    fn mistakes_in_a_script_are_named() {
        for (text, part) in [
            ("", "packet is wanted"),
            ("HELLO", "no packet is called HELLO"),
            ("PINGREQ x", "word too many"),
            ("PUBACK id=1 0 0x10 0x10", "word too many"),
            ("PUBACK id=x", "no number"),
            ("PUBLISH t nose=1", "no field nose"),
            ("PUBLISH \"t", "not closed"),
            ("CONNACK zero", "no number"),
        ] {
            let error = parse_packet(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse_raw("10 1").is_err() && parse_raw("zz").is_err());
    }

    #[test]
    fn raw_is_bytes_and_text() {
        assert_eq!(parse_raw(r#"10 0c 00 04 "MQTT" ff"#).unwrap(), b"\x10\x0c\0\x04MQTT\xff");
    }

    #[test]
    fn an_open_packet_names_some_of_the_fields() {
        let packet = parse_packet("CONNACK 0 receive_max=1 packet_max=9 alias_max=3").unwrap();
        for (text, is_match) in [
            ("CONNACK 0 ..", true),
            ("CONNACK 0 alias_max=3 ..", true),
            ("CONNACK 0 alias_max=3", false),
            ("CONNACK 0 alias_max=4 ..", false),
            ("CONNACK 0 expiry=4 ..", false),
            ("CONNACK 1 ..", false),
        ] {
            let expected = parse_packet(text).unwrap();
            assert_eq!(matches(&expected, &packet, &mut Bindings::new()), is_match, "{text}");
        }
    }

    #[test]
    fn a_variable_is_bound_once_then_compared() {
        let mut bindings = Bindings::new();
        let expected = parse_packet("PUBLISH t q1 id=$p x").unwrap();
        let seven = parse_packet("PUBLISH t q1 id=7 x").unwrap();
        let eight = parse_packet("PUBLISH t q1 id=8 x").unwrap();
        let other = parse_packet("PUBLISH t q1 id=8 y").unwrap();
        assert!(!matches(&expected, &other, &mut bindings));
        assert!(bindings.is_empty(), "a packet that does not match binds nothing");
        assert!(matches(&expected, &seven, &mut bindings));
        assert!(!matches(&expected, &eight, &mut bindings));
        let mut ack = parse_packet("PUBACK id=$p").unwrap();
        substitute(&mut ack, &bindings).unwrap();
        assert_eq!(ack.encode(false), b"\x40\x02\0\x07");
        assert!(substitute(&mut parse_packet("PUBACK id=$q").unwrap(), &bindings).is_err());
    }
}
