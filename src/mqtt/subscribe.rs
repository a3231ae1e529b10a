//! SUBSCRIBE: a client asks for publishes.

use super::cursor::{write_u16, write_utf8};
use super::frame::encode_packet;
use super::{DecodeError, Frame, PacketId, PacketSet, PacketType, Properties, QoS, Reader};
use super::{TopicFilter, Version};

/// A client asks for the publishes of one or more topic filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    pub subscriptions: Subscriptions<'a>,
}

/// The payload of SUBSCRIBE: one or more subscriptions, validated, as the wire has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriptions<'a> {
    raw: &'a [u8],
}

/// A topic filter and how to subscribe to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    pub filter: TopicFilter<'a>,
    pub options: SubscriptionOptions,
}

/// Before 5.0 only the QoS, the rest being as in [`Default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS at which publishes are to come.
    pub qos: QoS,
    /// Do not send me what I published myself.
    pub no_local: bool,
    /// Keep the retain flag of what is forwarded.
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// When retained publishes are sent for a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Whenever it is made.
    #[default]
    Send = 0,
    /// If it did not exist before.
    SendIfNew = 1,
    Never = 2,
}

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING_SHIFT: u8 = 4;

impl<'a> Subscribe<'a> {
    pub(super) fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = Properties::decode(&mut reader, version, PacketSet::SUBSCRIBE)?;
        let subscriptions = Subscriptions::decode(reader.rest(), version)?;
        Ok(Self { packet_id, properties, subscriptions })
    }

    /// Decodes all but the subscriptions, which are taken as they are: very many of them are
    /// looked at a few at a time, with [`Subscriptions::check`], before any other use.
    ///
    /// # Errors
    /// What is in front of the subscriptions is not valid, or there is none.
    pub fn decode_head(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = Properties::decode(&mut reader, version, PacketSet::SUBSCRIBE)?;
        let subscriptions = Subscriptions::unchecked(reader.rest());
        if reader.is_empty() {
            return Err(DecodeError::EntriesMissing); // [MQTT-3.8.3-2], 3.1.1: [MQTT-3.8.3-3]
        }
        Ok(Self { packet_id, properties, subscriptions })
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Subscribe.first_byte(), out, |out| {
            write_u16(out, self.packet_id.get());
            self.properties.encode(version, out);
            out.extend_from_slice(self.subscriptions.raw);
        });
    }
}

impl<'a> Subscriptions<'a> {
    fn decode(raw: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        if raw.is_empty() {
            return Err(DecodeError::EntriesMissing); // [MQTT-3.8.3-2], 3.1.1: [MQTT-3.8.3-3]
        }
        let mut reader = Reader::new(raw);
        while !reader.is_empty() {
            Subscription::decode(&mut reader, version)?;
        }
        Ok(Self { raw })
    }

    /// What a packet has behind its properties, taken as it is.
    #[must_use]
    pub fn unchecked(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The subscriptions as the wire has them.
    #[must_use]
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Validates the subscription at an offset; where the next one is.
    ///
    /// # Errors
    /// It is not valid.
    pub fn check(self, offset: usize, version: Version) -> Result<usize, DecodeError> {
        let mut reader = Reader::new(&self.raw[offset..]);
        Subscription::decode(&mut reader, version)?;
        Ok(self.raw.len() - reader.rest().len())
    }

    /// The subscription at an offset, which was checked, and where the next one is; none at the
    /// end.
    #[must_use]
    pub fn at(self, offset: usize) -> Option<(Subscription<'a>, usize)> {
        let mut reader = Reader::new(self.raw.get(offset..)?);
        let subscription = Subscription::decode_validated(&mut reader).ok()?;
        Some((subscription, self.raw.len() - reader.rest().len()))
    }

    /// Writes `subscriptions` to `out` and returns them as the wire has them. What was in `out`
    /// before is no part of them. Before 5.0 only the QoS is written.
    ///
    /// # Panics
    /// If there is none.
    pub fn write(
        version: Version,
        subscriptions: &[Subscription<'_>],
        out: &'a mut Vec<u8>,
    ) -> Self {
        assert!(!subscriptions.is_empty(), "SUBSCRIBE without a subscription [MQTT-3.8.3-2]");
        let start = out.len();
        for subscription in subscriptions {
            write_utf8(out, subscription.filter.as_str());
            out.push(subscription.options.bits(version));
        }
        Self { raw: &out[start..] }
    }

    /// The subscriptions in the order of the wire, which is the order of the codes in SUBACK.
    pub fn iter(self) -> impl Iterator<Item = Subscription<'a>> + Clone {
        let mut reader = Reader::new(self.raw);
        // Every version reads what an older one has validated.
        std::iter::from_fn(move || Subscription::decode_validated(&mut reader).ok())
    }
}

impl<'a> Subscription<'a> {
    fn decode(reader: &mut Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let filter = TopicFilter::parse_for(version, reader.utf8_with_nul()?)?;
        let options = SubscriptionOptions::decode(reader.u8()?, version)?;
        if version.is_v5() && options.no_local && filter.shared().is_some() {
            return Err(DecodeError::SharedFilterNoLocal); // [MQTT-3.8.3-4]
        }
        Ok(Self { filter, options })
    }

    fn decode_validated(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let filter = TopicFilter::parse(reader.utf8_with_nul()?)?;
        let options = SubscriptionOptions::decode(reader.u8()?, Version::V5)?;
        Ok(Self { filter, options })
    }
}

impl SubscriptionOptions {
    fn decode(bits: u8, version: Version) -> Result<Self, DecodeError> {
        if bits & 0b1100_0000 != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved); // [MQTT-3.8.3-5]
        }
        if !version.is_v5() {
            return Self::decode_v311(bits);
        }
        // 3.8.3.1: QoS 3 and retain handling 3 are Protocol Errors.
        let qos = QoS::from_bits(bits & 0b11).ok_or(DecodeError::SubscriptionOptionsValue)?;
        let retain_handling = match bits >> RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::Never,
            _ => return Err(DecodeError::SubscriptionOptionsValue),
        };
        let no_local = bits & NO_LOCAL != 0;
        let retain_as_published = bits & RETAIN_AS_PUBLISHED != 0;
        Ok(Self { qos, no_local, retain_as_published, retain_handling })
    }

    /// [MQTT-3-8.3-4] of 3.1.1: the upper six bits are zero and the QoS is 0, 1 or 2.
    fn decode_v311(bits: u8) -> Result<Self, DecodeError> {
        if bits & 0b1111_1100 != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved);
        }
        Ok(Self { qos: QoS::try_from(bits)?, ..Self::default() })
    }

    fn bits(self, version: Version) -> u8 {
        if !version.is_v5() {
            return self.qos as u8;
        }
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        let retain_handling = (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT;
        self.qos as u8 | no_local | retain_as_published | retain_handling
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ALL, STRICT, V3, V5, accepts, decode, packet, refuses, refuses_cut};
    use super::*;

    #[test]
    fn valid_subscribes() {
        accepts(&V3, 0x82, b"\0\x01\0\x01f\0");
        accepts(&V3, 0x82, b"\0\x01\0\x03a/b\x01\0\x03c/#\x02\0\x01+\0");
        accepts(&V3, 0x82, b"\0\x01\0\x08$share/x\0"); // an ordinary filter before 5.0
        accepts(&V5, 0x82, b"\0\x01\0\0\x01f\0");
        accepts(&V5, 0x82, b"\0\x01\x02\x0B\x01\0\x01f\x2E\0\x0A$share/g/f\x1A");
    }

    #[test]
    fn every_option_byte() {
        for bits in 0..=0xFF_u8 {
            let (v3, v5) = ([0, 1, 0, 1, b'f', bits], [0, 1, 0, 0, 1, b'f', bits]);
            let (qos, retain_handling) = (bits & 3, bits >> 4 & 3);
            if bits & 0xC0 != 0 {
                let error = DecodeError::SubscriptionOptionsReserved; // [MQTT-3.8.3-5]
                refuses(&V5, 0x82, &v5, error, 0x81);
            } else if qos == 3 || retain_handling == 3 {
                let error = DecodeError::SubscriptionOptionsValue; // 3.8.3.1
                refuses(&V5, 0x82, &v5, error, 0x82);
            } else {
                accepts(&V5, 0x82, &v5);
            }
            match bits {
                0..=2 => accepts(&V3, 0x82, &v3),
                3 => refuses(&V3, 0x82, &v3, DecodeError::QosReserved, 0x81), // [MQTT-3-8.3-4]
                _ => refuses(&V3, 0x82, &v3, DecodeError::SubscriptionOptionsReserved, 0x81),
            }
        }
    }

    #[test]
    fn subscribes_without_a_subscription() {
        // [MQTT-3.8.3-2], 3.1.1: [MQTT-3.8.3-3]
        refuses(&V3, 0x82, b"\0\x01", DecodeError::EntriesMissing, 0x82);
        refuses(&V5, 0x82, b"\0\x01\0", DecodeError::EntriesMissing, 0x82);
        refuses_cut(Version::V311, 0x82, b"\0\x01\0\x01f\0\0\x01g\0", |len| len == 6);
        refuses_cut(Version::V5, 0x82, b"\0\x01\x02\x0B\x01\0\x01f\0", |_| false);
    }

    #[test]
    fn packet_identifier_0() {
        // [MQTT-2.2.1-3], 3.1.1: [MQTT-2.3.1-1]
        refuses(&V3, 0x82, b"\0\0\0\x01f\0", DecodeError::PacketIdZero, 0x82);
        refuses(&V5, 0x82, b"\0\0\0\0\x01f\0", DecodeError::PacketIdZero, 0x82);
    }

    #[test]
    fn filters_that_are_none() {
        for (filter, error, reason) in [
            (b"\0\0" as &[u8], DecodeError::TopicEmpty, 0x82), // [MQTT-4.7.3-1]
            (b"\0\x02a#", DecodeError::TopicFilterWildcard, 0x81), // [MQTT-4.7.1-1]
            (b"\0\x03#/a", DecodeError::TopicFilterWildcard, 0x81),
            (b"\0\x02a+", DecodeError::TopicFilterWildcard, 0x81), // [MQTT-4.7.1-2]
            (b"\0\x01\0", DecodeError::Utf8Nul, 0x81),             // [MQTT-4.7.3-2]
            (b"\0\x01\xFF", DecodeError::Utf8IllFormed, 0x81),     // [MQTT-3.8.3-1]
            (b"\0\x03\xED\xBF\xBF", DecodeError::Utf8IllFormed, 0x81),
        ] {
            refuses(&V3, 0x82, &[b"\0\x01", filter, b"\0"].concat(), error, reason);
            refuses(&V5, 0x82, &[b"\0\x01\0", filter, b"\0"].concat(), error, reason);
            // The same behind a filter that is one.
            refuses(&V3, 0x82, &[b"\0\x01\0\x01f\0", filter, b"\0"].concat(), error, reason);
        }
    }

    #[test]
    fn shared_subscriptions() {
        // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        let error = DecodeError::SharedFilterMalformed;
        for filter in ["$share/", "$share/x", "$share//f", "$share/g/", "$share/+/f"] {
            let filter = [&[0, filter.len() as u8], filter.as_bytes()].concat();
            refuses(&V5, 0x82, &[b"\0\x01\0", &filter[..], b"\0"].concat(), error, 0x81);
        }
        // [MQTT-3.8.3-4]
        let error = DecodeError::SharedFilterNoLocal;
        refuses(&V5, 0x82, b"\0\x01\0\0\x0A$share/g/f\x04", error, 0x82);
    }

    #[test]
    fn subscriptions_are_written_and_read() {
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::Never,
        };
        let filter = |text| TopicFilter::parse(text).expect("valid");
        let wanted = [
            Subscription { filter: filter("a/+"), options },
            Subscription { filter: filter("$share/g/f"), options: SubscriptionOptions::default() },
        ];
        for version in ALL {
            let mut out = b"before".to_vec();
            let subscriptions = Subscriptions::write(version, &wanted, &mut out);
            let packet_id = PacketId::new(1).expect("not 0");
            let subscribe = Subscribe { packet_id, properties: Properties::EMPTY, subscriptions };
            let mut bytes = vec![];
            subscribe.encode(version, &mut bytes);
            let read = match decode(&bytes, version) {
                Ok(super::super::Packet::Subscribe(subscribe)) => subscribe.subscriptions,
                other => panic!("{other:?}"),
            };
            let mut expected = wanted;
            if !version.is_v5() {
                let qos = QoS::ExactlyOnce;
                expected[0].options = SubscriptionOptions { qos, ..Default::default() };
            }
            assert_eq!(read.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn strict_versions_want_fixed_flags() {
        for version in STRICT {
            let bytes = packet(0x8A, b"\0\x01\0\0\x01f\0");
            assert_eq!(decode(&bytes, version), Err(DecodeError::FlagsReserved)); // [MQTT-3.8.1-1]
        }
    }
}
