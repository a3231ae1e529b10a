//! A publish in the two forms that it takes inside the broker: borrowed from the bytes that it
//! came in, and kept as plain data that queues and shards share.

use bytes::Bytes;

use crate::mqtt::{PacketId, Properties, Publish, QoS, TopicName};

/// A publish kept beyond the packet that brought it.
///
/// Topic, properties and payload lie in one shared buffer, so a clone costs a reference count
/// and every queue that holds the publish shares its payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publication {
    /// Topic, then properties, then payload.
    bytes: Bytes,
    properties_len: u32,
    topic_len: u16,
    qos: QoS,
    retain: bool,
}

impl Publication {
    /// Copies what `publish` borrows.
    #[must_use]
    pub fn new(publish: &Publish<'_>) -> Self {
        let topic = publish.topic.as_str().as_bytes();
        let properties = publish.properties.raw();
        let length = topic.len() + properties.len() + publish.payload.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(topic);
        bytes.extend_from_slice(properties);
        bytes.extend_from_slice(publish.payload);
        Self {
            bytes: bytes.into(),
            properties_len: u32::try_from(properties.len()).expect("a packet is below 2^28 bytes"),
            topic_len: u16::try_from(topic.len()).expect("a topic name is below 2^16 bytes"),
            qos: publish.qos,
            retain: publish.retain,
        }
    }

    /// The topic that it was published to.
    #[must_use]
    pub fn topic(&self) -> &str {
        let topic = &self.bytes[..usize::from(self.topic_len)];
        std::str::from_utf8(topic).expect("copied from a string")
    }

    /// The application message.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.payload_at()..]
    }

    /// The application message, sharing the memory of this publication.
    #[must_use]
    pub fn shared_payload(&self) -> Bytes {
        self.bytes.slice(self.payload_at()..)
    }

    /// The QoS that the publisher chose.
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether the publisher asked for it to be retained.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// Bytes of topic, properties and payload.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never true: a topic has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The publish as it can be encoded again; without packet identifier and not a duplicate.
    #[must_use]
    pub fn view(&self) -> Publish<'_> {
        let properties = usize::from(self.topic_len)..self.payload_at();
        Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: TopicName::from_validated(self.topic()),
            packet_id: None,
            properties: Properties::from_validated(&self.bytes[properties]),
            payload: self.payload(),
        }
    }

    fn payload_at(&self) -> usize {
        usize::from(self.topic_len) + self.properties_len as usize
    }
}

/// A publish on its way to subscribers: copied only if one of them has to keep it.
pub struct Outgoing<'a> {
    publish: Publish<'a>,
    kept: Option<Publication>,
}

impl<'a> Outgoing<'a> {
    /// From the packet as it was read.
    #[must_use]
    pub fn borrowed(publish: Publish<'a>) -> Self {
        Self { publish, kept: None }
    }

    /// From a publish that is kept already.
    #[must_use]
    pub fn kept(publication: &'a Publication) -> Self {
        Self { publish: publication.view(), kept: Some(publication.clone()) }
    }

    /// The publish as it can be encoded.
    #[must_use]
    pub fn view(&self) -> &Publish<'a> {
        &self.publish
    }

    /// The publish as it can be kept; the first call copies, later ones share.
    pub fn keep(&mut self) -> Publication {
        let publish = &self.publish;
        self.kept.get_or_insert_with(|| Publication::new(publish)).clone()
    }
}

/// One publish to one session that has to keep it: queued, or sent and not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// What was published.
    pub publication: Publication,
    /// The QoS of this delivery: the lower of publish and subscription [MQTT-3.8.4-6].
    pub qos: QoS,
    /// The retain flag as this subscriber sees it [MQTT-3.3.1-8], [MQTT-3.3.1-9].
    pub retain: bool,
}

impl Delivery {
    /// The PUBLISH packet of this delivery.
    #[must_use]
    pub fn packet(&self, packet_id: Option<PacketId>, dup: bool) -> Publish<'_> {
        Publish { dup, qos: self.qos, retain: self.retain, packet_id, ..self.publication.view() }
    }
}
