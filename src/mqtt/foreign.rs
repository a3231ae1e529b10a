//! What else is spoken to a port of MQTT by mistake.

use std::fmt;

use super::PacketType;

/// A protocol that is not MQTT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// A ClientHello of TLS, or the record of a TLS alert.
    Tls,
    /// A request of HTTP, which is how a WebSocket begins as well.
    Http,
    /// The header of the PROXY protocol, version 1 or 2.
    Proxy,
}

/// How each of them begins.
const BEGINNINGS: &[(Foreign, &[u8])] = &[
    (Foreign::Tls, b"\x16\x03"),
    (Foreign::Tls, b"\x15\x03"),
    (Foreign::Proxy, b"PROXY "),
    (Foreign::Proxy, b"\r\n\r\n\0\r\nQUIT\n"),
    (Foreign::Http, b"GET "),
    (Foreign::Http, b"HEAD "),
    (Foreign::Http, b"POST "),
    (Foreign::Http, b"PUT "),
    (Foreign::Http, b"DELETE "),
    (Foreign::Http, b"CONNECT "),
    (Foreign::Http, b"OPTIONS "),
    (Foreign::Http, b"PRI * HTTP/2"),
];

impl Foreign {
    /// Tells which protocol a connection speaks whose first bytes are not MQTT; none if it is
    /// none of these, or too little has come.
    pub fn of(first_bytes: &[u8]) -> Option<Self> {
        let mut known = BEGINNINGS.iter();
        known.find(|(_, beginning)| first_bytes.starts_with(beginning)).map(|(foreign, _)| *foreign)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Proxy => "the PROXY protocol",
        })
    }
}

/// Whether the first byte of a connection can begin a CONNECT packet [MQTT-3.1.0-1].
pub fn may_begin_connect(first_byte: u8) -> bool {
    first_byte >> 4 == PacketType::Connect as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mqtt_is_recognised_by_its_first_bytes() {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        assert_eq!(Foreign::of(hello), Some(Foreign::Tls));
        assert_eq!(Foreign::of(b"GET /mqtt HTTP/1.1\r\n"), Some(Foreign::Http));
        assert_eq!(Foreign::of(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"), Some(Foreign::Proxy));
        assert_eq!(Foreign::of(b"\r\n\r\n\0\r\nQUIT\n\x21"), Some(Foreign::Proxy));
    }

    #[test]
    fn mqtt_and_what_is_not_known_is_not_foreign() {
        for bytes in
            [&b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0"[..], b"", b"G", b"\x82\x05", b"SSH-2.0"]
        {
            assert_eq!(Foreign::of(bytes), None, "{bytes:?}");
        }
    }

    /// Those of TLS do, and are a whole packet of five bytes then, which is not valid.
    #[test]
    fn what_is_foreign_does_not_begin_like_a_connect() {
        assert!(may_begin_connect(0x10));
        for (foreign, beginning) in BEGINNINGS {
            let is_tls = *foreign == Foreign::Tls;
            assert_eq!(may_begin_connect(beginning[0]), is_tls, "{beginning:?}");
        }
        let (frame, length) = crate::mqtt::split(b"\x16\x03\x03\x01\0", 100).unwrap().unwrap();
        assert_eq!(length, 5);
        assert!(crate::mqtt::Packet::decode(frame, crate::mqtt::Version::V311).is_err());
    }
}
