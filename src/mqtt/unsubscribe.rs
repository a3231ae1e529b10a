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

    /// Decodes all but the filters, which are taken as they are: very many of them are looked at a
    /// few at a time, with [`Filters::check`], before any other use.
    ///
    /// # Errors
    /// What is in front of the filters is not valid, or there is none.
    pub fn decode_head(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = Properties::decode(&mut reader, version, PacketSet::UNSUBSCRIBE)?;
        let filters = Filters::unchecked(reader.rest());
        if reader.is_empty() {
            return Err(DecodeError::EntriesMissing); // [MQTT-3.10.3-2]
        }
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

    /// What a packet has behind its properties, taken as it is.
    #[must_use]
    pub fn unchecked(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The filters as the wire has them.
    #[must_use]
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Validates the filter at an offset; where the next one is.
    ///
    /// # Errors
    /// It is not valid.
    pub fn check(self, offset: usize, version: Version) -> Result<usize, DecodeError> {
        let mut reader = Reader::new(&self.raw[offset..]);
        TopicFilter::parse_for(version, reader.utf8_with_nul()?)?; // [MQTT-3.10.3-1]
        Ok(self.raw.len() - reader.rest().len())
    }

    /// The filter at an offset, which was checked, and where the next one is; none at the end.
    #[must_use]
    pub fn at(self, offset: usize) -> Option<(TopicFilter<'a>, usize)> {
        let mut reader = Reader::new(self.raw.get(offset..)?);
        let filter = TopicFilter::parse(reader.utf8_with_nul().ok()?).ok()?;
        Some((filter, self.raw.len() - reader.rest().len()))
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

#[cfg(test)]
mod tests {
    use super::super::tests::{V3, V5, accepts, refuses, refuses_cut};
    use super::*;

    #[test]
    fn valid_unsubscribes() {
        accepts(&V3, 0xA2, b"\0\x01\0\x01f");
        accepts(&V3, 0xA2, b"\0\x01\0\x03a/b\0\x01#\0\x08$share/x");
        accepts(&V5, 0xA2, b"\0\x01\0\0\x01f\0\x0A$share/g/f");
        accepts(&V5, 0xA2, b"\0\x01\x05\x26\0\0\0\0\0\x01f");
    }

    #[test]
    fn unsubscribes_that_are_none() {
        // [MQTT-2.2.1-3], 3.1.1: [MQTT-2.3.1-1]
        refuses(&V3, 0xA2, b"\0\0\0\x01f", DecodeError::PacketIdZero, 0x82);
        refuses(&V5, 0xA2, b"\0\0\0\0\x01f", DecodeError::PacketIdZero, 0x82);
        // [MQTT-3.10.3-2]
        refuses(&V3, 0xA2, b"\0\x01", DecodeError::EntriesMissing, 0x82);
        refuses(&V5, 0xA2, b"\0\x01\0", DecodeError::EntriesMissing, 0x82);
        refuses_cut(Version::V311, 0xA2, b"\0\x01\0\x01f\0\x01g", |len| len == 5);
        refuses_cut(Version::V5, 0xA2, b"\0\x01\0\0\x01f", |_| false);
    }

    #[test]
    fn filters_that_are_none() {
        for (filter, error, reason) in [
            (b"\0\0" as &[u8], DecodeError::TopicEmpty, 0x82), // [MQTT-4.7.3-1]
            (b"\0\x02a#", DecodeError::TopicFilterWildcard, 0x81), // [MQTT-4.7.1-1]
            (b"\0\x02a+", DecodeError::TopicFilterWildcard, 0x81), // [MQTT-4.7.1-2]
            (b"\0\x01\0", DecodeError::Utf8Nul, 0x81),         // [MQTT-4.7.3-2]
            (b"\0\x01\xFF", DecodeError::Utf8IllFormed, 0x81), // [MQTT-3.10.3-1]
        ] {
            refuses(&V3, 0xA2, &[b"\0\x01", filter].concat(), error, reason);
            refuses(&V5, 0xA2, &[b"\0\x01\0", filter].concat(), error, reason);
            refuses(&V5, 0xA2, &[b"\0\x01\0\0\x01f", filter].concat(), error, reason);
        }
        let error = DecodeError::SharedFilterMalformed; // [MQTT-4.8.2-1]
        refuses(&V5, 0xA2, b"\0\x01\0\0\x08$share/x", error, 0x81);
    }

    #[test]
    fn filters_are_written_and_read() {
        let wanted = ["a/+", "#"].map(|text| TopicFilter::parse(text).expect("valid"));
        let mut out = b"before".to_vec();
        let filters = Filters::write(&wanted, &mut out);
        assert_eq!(filters.iter().collect::<Vec<_>>(), wanted);
    }
}
