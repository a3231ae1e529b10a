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
