//! A publish in the two forms that it takes inside the broker: borrowed from the bytes that it
//! came in, and kept as plain data that queues and shards share.

use bytes::Bytes;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Meter;
use crate::mqtt::{Properties, Publish, QoS, TopicName};

use super::Time;
use super::piece::Piece;

/// A publish kept beyond the packet that brought it.
///
/// Topic, properties and payload lie in one shared buffer, so a clone costs a reference count
/// and every queue that holds the publish shares its payload. Of the properties only those are
/// kept that every subscriber gets as they came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publication {
    /// Topic, then properties, then payload.
    bytes: Piece,
    properties_len: u32,
    topic_len: u16,
    qos: QoS,
    retain: bool,
    /// The time at which it expires; the end of time if it does not.
    expiry: Time,
}

impl Publication {
    /// Copies what `publish` borrows, which came at `now`.
    #[must_use]
    pub fn new(publish: &Publish<'_>, now: Time) -> Self {
        Self::metered(publish, now, Meter::default())
    }

    /// Copies what `publish` borrows, which came at `now`, into memory that `meter` shows.
    #[must_use]
    pub fn metered(publish: &Publish<'_>, now: Time, meter: Meter) -> Self {
        let topic = publish.topic.as_str();
        let mut kept = Vec::new();
        let properties = match publish.properties.are_forwarded() {
            true => publish.properties,
            false => Properties::write(
                publish.properties.iter().filter(|it| it.is_forwarded()),
                &mut kept,
            ),
        };
        Self {
            bytes: Piece::join([topic.as_bytes(), properties.raw(), publish.payload], meter),
            properties_len: u32::try_from(properties.raw().len())
                .expect("a packet is below 2^28 bytes"),
            topic_len: u16::try_from(topic.len()).expect("a topic name is below 2^16 bytes"),
            qos: publish.qos,
            retain: publish.retain,
            expiry: expiry(publish.properties, now),
        }
    }

    /// The same publish, as if it came at `now` with this message expiry interval.
    #[must_use]
    pub fn restamped(&self, expiry_interval_s: Option<u32>, now: Time) -> Self {
        Self { expiry: deadline(expiry_interval_s, now), ..self.clone() }
    }

    /// When it must no longer be sent [MQTT-3.3.2-5].
    #[must_use]
    pub fn expiry(&self) -> Option<Time> {
        (self.expiry < Time::END).then_some(self.expiry)
    }

    /// The topic that it was published to.
    #[must_use]
    pub fn topic(&self) -> &str {
        let topic = &self.bytes.as_ref()[..usize::from(self.topic_len)];
        std::str::from_utf8(topic).expect("copied from a string")
    }

    /// The application message.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[self.payload_at()..]
    }

    /// Bytes of the application message.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.len() - self.payload_at()
    }

    /// The application message, sharing the memory of this publication.
    #[must_use]
    pub fn shared_payload(&self) -> Bytes {
        Bytes::from_owner(self.bytes.clone()).slice(self.payload_at()..)
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
        self.bytes.as_ref().len()
    }

    /// Never true: a topic has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.as_ref().is_empty()
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
            properties: Properties::from_validated(&self.bytes.as_ref()[properties]),
            payload: self.payload(),
        }
    }

    fn payload_at(&self) -> usize {
        usize::from(self.topic_len) + self.properties_len as usize
    }
}

/// Whether a payload is UTF-8 if its properties say so, of a PUBLISH or of a will.
#[must_use]
pub fn is_payload_valid(properties: Properties<'_>, payload: &[u8]) -> bool {
    let is_text = !properties.is_empty() && properties.payload_format_indicator() == Some(1);
    !is_text || std::str::from_utf8(payload).is_ok()
}

fn expiry(properties: Properties<'_>, now: Time) -> Time {
    if properties.is_empty() {
        return Time::END;
    }
    deadline(properties.message_expiry_interval_s(), now)
}

fn deadline(interval_s: Option<u32>, now: Time) -> Time {
    interval_s.map_or(Time::END, |interval| now + Duration::from_secs(interval.into()))
}

/// A publish on its way to subscribers: copied only if one of them has to keep it.
pub struct Outgoing<'a> {
    publish: Publish<'a>,
    kept: Kept<'a>,
    expiry: Option<Time>,
    /// Where a copy is charged.
    meter: Meter,
}

/// Where the copy of a publish is that can be kept.
enum Kept<'a> {
    /// There is none yet.
    Nowhere,
    /// Made for the first holder that had to keep it.
    Here(Publication),
    /// Held by its sender; a holder that keeps it adds to its count.
    There(&'a Publication),
}

impl<'a> Outgoing<'a> {
    /// From the packet as it was read; its properties must be plain.
    #[must_use]
    pub fn borrowed(publish: Publish<'a>) -> Self {
        debug_assert!(
            publish.properties.are_forwarded(),
            "others are kept without what is not sent on"
        );
        Self { publish, kept: Kept::Nowhere, expiry: None, meter: Meter::default() }
    }

    /// The same publish; a copy of it is charged to `meter`.
    #[must_use]
    pub fn metered(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    /// From a publish that is kept already.
    #[must_use]
    pub fn kept(publication: &'a Publication) -> Self {
        let expiry = publication.expiry();
        let (publish, kept) = (publication.view(), Kept::There(publication));
        Self { publish, kept, expiry, meter: Meter::default() }
    }

    /// The publish as it can be encoded.
    #[must_use]
    pub fn view(&self) -> &Publish<'a> {
        &self.publish
    }

    /// The publish as it can be kept; the first call copies, later ones share.
    pub fn keep(&mut self) -> Publication {
        match &self.kept {
            Kept::There(publication) => (*publication).clone(),
            Kept::Here(publication) => publication.clone(),
            Kept::Nowhere => {
                let publication = Publication::metered(&self.publish, Time::START, self.meter);
                self.kept = Kept::Here(publication.clone());
                publication
            }
        }
    }

    /// Returns the publish as it can be kept, for its only holder.
    #[must_use]
    pub fn into_kept(self) -> Publication {
        match self.kept {
            Kept::There(publication) => publication.clone(),
            Kept::Here(publication) => publication,
            Kept::Nowhere => Publication::metered(&self.publish, Time::START, self.meter),
        }
    }

    /// When it must no longer be sent.
    #[must_use]
    pub fn expiry(&self) -> Option<Time> {
        self.expiry
    }
}

/// How one session gets a publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The lower of the QoS of publish and subscription [MQTT-3.8.4-8].
    pub qos: QoS,
    /// The retain flag as this subscriber sees it.
    pub retain: bool,
    /// What only few deliveries have.
    pub extras: Option<Rc<Extras>>,
}

impl Terms {
    /// Without extras.
    #[must_use]
    pub fn plain(qos: QoS, retain: bool) -> Self {
        Self { qos, retain, extras: None }
    }

    /// The identifiers of all subscriptions that matched [MQTT-3.3.4-3].
    #[must_use]
    pub fn subscription_ids(&self) -> &[u32] {
        self.extras.as_ref().map_or(&[], |extras| &extras.subscription_ids)
    }
}

impl Terms {
    /// The shared subscription that chose this session, if one did.
    #[must_use]
    pub fn share(&self) -> Option<&Arc<str>> {
        self.extras.as_ref()?.share.as_ref()
    }
}

/// See [`Terms::extras`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extras {
    /// See [`Terms::subscription_ids`].
    pub subscription_ids: Vec<u32>,
    /// The shared subscription, as `$share/group/filter`, that chose this session.
    pub share: Option<Arc<str>>,
}

/// One publish to one session that has to keep it: queued, or sent and not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// What was published.
    pub publication: Publication,
    /// How it is sent.
    pub terms: Terms,
}
