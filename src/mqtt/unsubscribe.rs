//! UNSUBSCRIBE: a client has had enough.

use super::Version;
use super::cursor::{write_u16, write_utf8};
use super::frame::encode_packet;
use super::{DecodeError, Frame, PacketId, PacketSet, PacketType, Properties, Reader, TopicFilter};

/// A client gives up one or more subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    pub filters: Filters<'a>,
}

/// The payload of UNSUBSCRIBE: one or more topic filters, validated, as the wire has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters<'a> {
    raw: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = Properties::decode(&mut reader, version, PacketSet::UNSUBSCRIBE)?;
        let filters = Filters::decode(reader.rest(), version)?;
        Ok(Self { packet_id, properties, filters })
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Unsubscribe.first_byte(), out, |out| {
            write_u16(out, self.packet_id.get());
            self.properties.encode(version, out);
            out.extend_from_slice(self.filters.raw);
        });
    }
}

impl<'a> Filters<'a> {
    fn decode(raw: &'a [u8], version: Version) -> Result<Self, DecodeError> {
        if raw.is_empty() {
            return Err(DecodeError::EntriesMissing); // [MQTT-3.10.3-2]
        }
        let mut reader = Reader::new(raw);
        while !reader.is_empty() {
            TopicFilter::parse_for(version, reader.utf8_with_nul()?)?; // [MQTT-3.10.3-1]
        }
        Ok(Self { raw })
    }

    /// Writes `filters` to `out` and returns them as the wire has them. What was in `out` before
    /// is no part of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn write(filters: &[TopicFilter<'_>], out: &'a mut Vec<u8>) -> Self {
        assert!(!filters.is_empty(), "UNSUBSCRIBE without a topic filter [MQTT-3.10.3-2]");
        let start = out.len();
        for filter in filters {
            write_utf8(out, filter.as_str());
        }
        Self { raw: &out[start..] }
    }

    /// The filters in the order of the wire, which is the order of the codes in UNSUBACK.
    pub fn iter(self) -> impl Iterator<Item = TopicFilter<'a>> + Clone {
        let mut reader = Reader::new(self.raw);
        std::iter::from_fn(move || TopicFilter::parse(reader.utf8_with_nul().ok()?).ok())
    }
}
