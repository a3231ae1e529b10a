//! PUBLISH: the packet that everything else exists for, hence the one that is tuned.

use super::cursor::{len_len, write_len, write_u16, write_utf8};
use super::{DecodeError, Frame, PacketId, PacketSet, PacketType};
use super::{Properties, QoS, Reader, TopicName, Version};

/// A message under a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent again; never with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty only in 5.0 and only if a topic alias stands for it.
    pub topic: TopicName<'a>,
    /// Present exactly if the QoS is 1 or 2 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    pub properties: Properties<'a>,
    pub payload: &'a [u8],
}

/// Where in an encoded PUBLISH its changeable parts lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The offset of the two bytes of the packet identifier from the first byte of the packet;
    /// `None` at QoS 0.
    pub packet_id_at: Option<usize>,
    /// The offset of the first byte of the payload, which is the length of all before it.
    pub payload_at: usize,
}

impl Layout {
    /// Gives an encoded packet another packet identifier. `packet` starts at its first byte.
    ///
    /// # Panics
    /// If the packet is of QoS 0, or `packet` is shorter than its head.
    #[inline]
    pub fn patch_packet_id(&self, packet: &mut [u8], packet_id: PacketId) {
        let at = self.packet_id_at.expect("only QoS 1 and 2 have a packet identifier");
        packet[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
    }

    /// Sets or clears DUP in an encoded packet. `packet` starts at its first byte.
    #[inline]
    pub fn patch_dup(packet: &mut [u8], dup: bool) {
        packet[0] = if dup { packet[0] | DUP } else { packet[0] & !DUP };
    }
}

const DUP: u8 = 1 << 3;
const QOS_SHIFT: u8 = 1;
const RETAIN: u8 = 1;

impl<'a> Publish<'a> {
    /// Does [`super::Packet::decode`] for a frame that is known to hold a PUBLISH: the result is a
    /// third as large.
    ///
    /// # Errors
    /// What is wrong with the packet; the connection must be closed.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        debug_assert!(frame.kind == PacketType::Publish, "a PUBLISH, not {:?}", frame.kind);
        frame.judge(version)?;
        let mut reader = Reader::new(frame.body);
        let qos = QoS::try_from(frame.flags >> QOS_SHIFT & 0b11)?; // [MQTT-3.3.1-4]
        let topic = reader.utf8_with_nul()?;
        let packet_id = match qos {
            QoS::AtMostOnce => None, // [MQTT-2.2.1-2]
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = Properties::decode(&mut reader, version, PacketSet::PUBLISH)?;
        Ok(Self {
            dup: frame.flags & DUP != 0,
            qos,
            retain: frame.flags & RETAIN != 0,
            topic: decode_topic(topic, properties, version)?,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    /// Appends the packet to `out`.
    ///
    /// # Panics
    /// If it has more than [`super::PACKET_BYTES_MAX`] bytes, see [`Publish::encoded_len`]; if
    /// QoS and packet identifier do not agree.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        self.encode_with(version, out);
    }

    /// [`Publish::encode`] that also says where the packet identifier lies, for packets that are
    /// encoded once and sent to many.
    #[inline]
    pub fn encode_with(&self, version: Version, out: &mut Vec<u8>) -> Layout {
        let body_len = self.body_len(version);
        out.reserve(1 + len_len(body_len) + body_len);
        let layout = self.write_head(body_len, version, out);
        out.extend_from_slice(self.payload);
        layout
    }

    /// Appends all but the payload, which the caller sends behind it from wherever it lies.
    #[inline]
    pub fn encode_head(&self, version: Version, out: &mut Vec<u8>) -> Layout {
        self.write_head(self.body_len(version), version, out)
    }

    #[inline]
    fn write_head(&self, body_len: usize, version: Version, out: &mut Vec<u8>) -> Layout {
        assert!(self.packet_id.is_some() == (self.qos != QoS::AtMostOnce), "{:?}", self.qos);
        let start = out.len();
        match u8::try_from(body_len) {
            Ok(short @ 0..=0x7F) => out.extend_from_slice(&[self.first_byte(), short]),
            _ => {
                out.push(self.first_byte());
                write_len(out, body_len);
            }
        }
        write_utf8(out, self.topic.as_str());
        let packet_id_at = self.packet_id.map(|packet_id| {
            write_u16(out, packet_id.get());
            out.len() - start - 2
        });
        self.properties.encode(version, out);
        Layout { packet_id_at, payload_at: out.len() - start }
    }

    /// Bytes of the whole packet, fixed header included. What a peer that named a maximum packet
    /// size may not exceed [MQTT-3.1.2-24], and no packet [`super::PACKET_BYTES_MAX`].
    #[inline]
    pub fn encoded_len(&self, version: Version) -> usize {
        let body_len = self.body_len(version);
        1 + len_len(body_len) + body_len
    }

    /// [`Self::encoded_len`] of the packet that this publish becomes at another QoS, with an
    /// identifier if that needs one, and with `more_len` bytes of further properties.
    pub fn encoded_len_at(&self, version: Version, qos: QoS, more_len: usize) -> usize {
        let packet_id_len = if qos == QoS::AtMostOnce { 0 } else { 2 };
        let raw_len = self.properties.raw().len() + more_len;
        let properties_len = if version.is_v5() { len_len(raw_len) + raw_len } else { 0 };
        let body_len =
            2 + self.topic.as_str().len() + packet_id_len + properties_len + self.payload.len();
        1 + len_len(body_len) + body_len
    }

    #[inline]
    fn body_len(&self, version: Version) -> usize {
        let packet_id_len = if self.packet_id.is_some() { 2 } else { 0 };
        let properties_len = self.properties.encoded_len(version);
        2 + self.topic.as_str().len() + packet_id_len + properties_len + self.payload.len()
    }

    #[inline]
    const fn first_byte(&self) -> u8 {
        let dup = if self.dup { DUP } else { 0 };
        let retain = if self.retain { RETAIN } else { 0 };
        PacketType::Publish.first_byte() | dup | (self.qos as u8) << QOS_SHIFT | retain
    }
}

#[inline]
fn decode_topic<'a>(
    topic: &'a str,
    properties: Properties<'a>,
    version: Version,
) -> Result<TopicName<'a>, DecodeError> {
    if topic.is_empty() && version.is_v5() {
        // 3.3.2.1: a Protocol Error, unless a topic alias says what the topic is.
        return match properties.topic_alias() {
            Some(_) => Ok(TopicName::ALIASED),
            None => Err(DecodeError::TopicMissing),
        };
    }
    TopicName::parse(topic)
}

#[cfg(test)]
mod tests {
    use super::super::Packet;
    use super::super::tests::{ALL, V3, V5, V311, accepts, decode, packet, refuses, refuses_cut};
    use super::*;

    #[test]
    fn valid_publishes() {
        for first_byte in [0x30, 0x31] {
            accepts(&V3, first_byte, b"\0\x03a/bpayload");
            accepts(&V3, first_byte, b"\0\x01t"); // a payload may be empty [3.3.3]
            accepts(&V5, first_byte, b"\0\x03a/b\0payload");
            accepts(&V5, first_byte, b"\0\x01t\0");
        }
        for first_byte in [0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D] {
            accepts(&V3, first_byte, b"\0\x03a/b\0\x01payload");
            accepts(&V5, first_byte, b"\0\x03a/b\xFF\xFF\0payload");
        }
        accepts(&V5, 0x30, b"\0\x01t\x03\x23\0\x01payload");
        accepts(&V5, 0x30, b"\0\0\x03\x23\0\x01payload"); // 3.3.2.1: the alias names the topic
        accepts(&V5, 0x30, b"\0\x01t\x02\x01\x01\xFF"); // the payload's format is not judged
    }

    #[test]
    fn a_cut_publish_is_malformed() {
        refuses_cut(Version::V311, 0x32, b"\0\x03a/b\0\x01", |_| false);
        refuses_cut(Version::V5, 0x32, b"\0\x03a/b\0\x01\x07\x23\0\x01\x09\0\x01x", |_| false);
        refuses(&ALL, 0x30, b"\0\x09a/b", DecodeError::Truncated, 0x81);
        refuses(&ALL, 0x30, b"", DecodeError::Truncated, 0x81);
    }

    #[test]
    fn packet_identifier_0() {
        // [MQTT-2.2.1-3], 3.1.1: [MQTT-2.3.1-1]
        for first_byte in [0x32, 0x34, 0x3A, 0x3C] {
            refuses(&ALL, first_byte, b"\0\x01t\0\0\0", DecodeError::PacketIdZero, 0x82);
        }
    }

    #[test]
    fn topics_that_are_none() {
        for (topic, error, reason) in [
            (b"\0\x01+" as &[u8], DecodeError::TopicNameWildcard, 0x81), // [MQTT-3.3.2-2]
            (b"\0\x03a/#", DecodeError::TopicNameWildcard, 0x81),
            (b"\0\x01\0", DecodeError::Utf8Nul, 0x81), // [MQTT-4.7.3-2]
            (b"\0\x02\xC3\x28", DecodeError::Utf8IllFormed, 0x81), // [MQTT-3.3.2-1]
            (b"\0\x03\xED\xA0\x80", DecodeError::Utf8IllFormed, 0x81),
        ] {
            refuses(&ALL, 0x30, &[topic, b"\0"].concat(), error, reason);
            refuses(&ALL, 0x34, &[topic, b"\0\x01\0"].concat(), error, reason);
        }
        refuses(&V3, 0x30, b"\0\0payload", DecodeError::TopicEmpty, 0x82); // [MQTT-4.7.3-1]
        refuses(&V5, 0x30, b"\0\0\0payload", DecodeError::TopicMissing, 0x82); // 3.3.2.1
        refuses(&V5, 0x30, b"\0\0\x05\x02\0\0\0\x01", DecodeError::TopicMissing, 0x82);
    }

    #[test]
    fn topic_alias_0() {
        // [MQTT-3.3.2-8]
        let error = DecodeError::PropertyOutOfRange { id: 0x23 };
        refuses(&V5, 0x30, b"\0\x01t\x03\x23\0\0", error, 0x94);
        refuses(&V5, 0x30, b"\0\0\x03\x23\0\0", error, 0x94);
    }

    #[test]
    fn dup_without_qos() {
        refuses(&V311, 0x38, b"\0\x01t\0", DecodeError::DupWithoutQos, 0x81); // [MQTT-3.3.1-2]
    }

    fn example(payload: &[u8]) -> Publish<'_> {
        Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: TopicName::parse("a/b").expect("valid"),
            packet_id: PacketId::new(1),
            properties: Properties::from_validated(&[0x01, 0x01]),
            payload,
        }
    }

    #[test]
    fn an_encoded_publish_can_be_patched() {
        for version in ALL {
            for payload_len in [0, 100, 200, 20_000] {
                let payload = vec![b'x'; payload_len];
                let mut out = b"before".to_vec();
                let layout = example(&payload).encode_with(version, &mut out);
                let bytes = &mut out[6..];
                assert_eq!(bytes.len(), example(&payload).encoded_len(version));
                assert_eq!(&bytes[layout.payload_at..], payload);
                let id = PacketId::new(0xABCD).expect("not 0");
                layout.patch_packet_id(bytes, id);
                Layout::patch_dup(bytes, true);
                let Ok(Packet::Publish(patched)) = decode(bytes, version) else { panic!() };
                assert_eq!((patched.packet_id, patched.dup), (Some(id), true));
                assert_eq!((patched.topic.as_str(), patched.retain), ("a/b", true));
                assert_eq!(patched.payload, payload);
                Layout::patch_dup(bytes, false);
                assert_eq!(bytes[0], 0x33);
            }
        }
    }

    #[test]
    fn the_head_is_all_but_the_payload() {
        for version in ALL {
            let publish = example(&[7; 300]);
            let (mut head, mut whole) = (vec![], vec![]);
            let layout = publish.encode_head(version, &mut head);
            assert_eq!(publish.encode_with(version, &mut whole), layout);
            assert_eq!(head, whole[..layout.payload_at]);
            assert_eq!(head.len() + 300, publish.encoded_len(version));
        }
    }

    #[test]
    fn qos_0_has_no_packet_identifier() {
        let publish = Publish { qos: QoS::AtMostOnce, packet_id: None, ..example(b"") };
        let mut out = vec![];
        assert_eq!(publish.encode_with(Version::V311, &mut out).packet_id_at, None);
        assert_eq!(out, packet(0x31, b"\0\x03a/b"));
    }

    #[test]
    #[should_panic(expected = "AtMostOnce")]
    fn qos_0_with_a_packet_identifier_is_a_bug_of_ours() {
        let publish = Publish { qos: QoS::AtMostOnce, ..example(b"") };
        publish.encode(Version::V311, &mut vec![]);
    }
}
