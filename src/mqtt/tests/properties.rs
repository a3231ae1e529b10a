//! Every property in every packet, allowed and not, repeated, out of range and cut, against a
//! list that is written from the specification (section 2.2.2.2 and those of the packets) and
//! not from the table.

use super::super::cursor::write_len;
use super::super::{PacketSet, Properties, Reader, ReasonCode};
use super::*;

/// One property as the specification has it.
struct Specified {
    id: u8,
    /// The places that may carry it.
    places: &'static str,
    /// Values that are in range, the first of them an ordinary one.
    valid: &'static [&'static [u8]],
    /// Values that have the right form but are out of range, and what the peer is told.
    invalid: &'static [(&'static [u8], u8)],
}

const TEXT: &[&[u8]] = &[b"\0\x01a", b"\0\0", "\0\u{2}é".as_bytes(), b"\0\x04\xF0\x9F\x98\x80"];
const TEXT_BAD: &[(&[u8], u8)] = &[
    (b"\0\x01\0", 0x81),           // [MQTT-1.5.4-2]
    (b"\0\x01\xFF", 0x81),         // [MQTT-1.5.4-1]
    (b"\0\x03\xED\xA0\x80", 0x81), // [MQTT-1.5.4-1], a surrogate
    (b"\0\x02\xC0\x80", 0x81),     // [MQTT-1.5.4-1], an overlong U+0000
];
const FLAG: &[&[u8]] = &[&[0], &[1]];
const FLAG_BAD: &[(&[u8], u8)] = &[(&[2], 0x82), (&[0xFF], 0x82)];
const TWO: &[&[u8]] = &[&[0, 7], &[0, 0], &[0xFF, 0xFF]];
const TWO_NOT_0: &[&[u8]] = &[&[0, 7], &[0, 1], &[0xFF, 0xFF]];
const FOUR: &[&[u8]] = &[&[0, 0, 0, 7], &[0; 4], &[0xFF; 4]];
const FOUR_NOT_0: &[&[u8]] = &[&[0, 0, 0, 7], &[0, 0, 0, 1], &[0xFF; 4]];
const BINARY: &[&[u8]] = &[b"\0\x02\0\xFF", b"\0\0"];

#[rustfmt::skip]
const SPECIFICATION: [Specified; 27] = [
    Specified { id: 0x01, places: "PUBLISH WILL", valid: FLAG, invalid: FLAG_BAD },
    Specified { id: 0x02, places: "PUBLISH WILL", valid: FOUR, invalid: &[] },
    Specified { id: 0x03, places: "PUBLISH WILL", valid: TEXT, invalid: TEXT_BAD },
    Specified { id: 0x08, places: "PUBLISH WILL", valid: &[b"\0\x03a/b", b"\0\x02$a"], invalid: &[
        (b"\0\x01+", 0x81), (b"\0\x03a/#", 0x81), // [MQTT-3.3.2-14]
        (b"\0\0", 0x82), // [MQTT-4.7.3-1]
        (b"\0\x01\0", 0x81), (b"\0\x01\xFF", 0x81), // [MQTT-3.3.2-13]
    ] },
    Specified { id: 0x09, places: "PUBLISH WILL", valid: BINARY, invalid: &[] },
    Specified { id: 0x0B, places: "PUBLISH SUBSCRIBE",
        valid: &[&[7], &[1], &[0x80, 1], &[0xFF, 0xFF, 0xFF, 0x7F]],
        invalid: &[
            (&[0], 0x82), // 3.8.2.1.2
            (&[0x87, 0], 0x81), (&[0x80, 0x80, 0], 0x81), // [MQTT-1.5.5-1]
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F], 0x81), // 1.5.5: at most four bytes
        ] },
    Specified { id: 0x11, places: "CONNECT CONNACK DISCONNECT", valid: FOUR, invalid: &[] },
    Specified { id: 0x12, places: "CONNACK", valid: TEXT, invalid: TEXT_BAD },
    Specified { id: 0x13, places: "CONNACK", valid: TWO, invalid: &[] },
    Specified { id: 0x15, places: "CONNECT CONNACK AUTH", valid: TEXT, invalid: TEXT_BAD },
    Specified { id: 0x16, places: "CONNECT CONNACK AUTH", valid: BINARY, invalid: &[] },
    Specified { id: 0x17, places: "CONNECT", valid: FLAG, invalid: FLAG_BAD },
    Specified { id: 0x18, places: "WILL", valid: FOUR, invalid: &[] },
    Specified { id: 0x19, places: "CONNECT", valid: FLAG, invalid: FLAG_BAD },
    Specified { id: 0x1A, places: "CONNACK", valid: TEXT, invalid: TEXT_BAD },
    Specified { id: 0x1C, places: "CONNACK DISCONNECT", valid: TEXT, invalid: TEXT_BAD },
    Specified { id: 0x1F,
        places: "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH",
        valid: TEXT, invalid: TEXT_BAD },
    Specified { id: 0x21, places: "CONNECT CONNACK", valid: TWO_NOT_0,
        invalid: &[(&[0, 0], 0x82)] },
    Specified { id: 0x22, places: "CONNECT CONNACK", valid: TWO, invalid: &[] },
    Specified { id: 0x23, places: "PUBLISH", valid: TWO_NOT_0,
        invalid: &[(&[0, 0], 0x94)] }, // [MQTT-3.3.2-8]
    Specified { id: 0x24, places: "CONNACK", valid: FLAG, invalid: FLAG_BAD },
    Specified { id: 0x25, places: "CONNACK", valid: FLAG, invalid: FLAG_BAD },
    Specified { id: 0x26,
        places: "CONNECT CONNACK PUBLISH WILL PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK \
                 UNSUBSCRIBE UNSUBACK DISCONNECT AUTH",
        valid: &[b"\0\x01k\0\x01v", b"\0\0\0\0"],
        invalid: &[
            (b"\0\x01\0\0\0", 0x81), (b"\0\0\0\x01\0", 0x81),
            (b"\0\x01\xFF\0\0", 0x81), (b"\0\0\0\x01\xFF", 0x81), // [MQTT-1.5.7-1]
        ] },
    Specified { id: 0x27, places: "CONNECT CONNACK", valid: FOUR_NOT_0,
        invalid: &[(&[0; 4], 0x82)] },
    Specified { id: 0x28, places: "CONNACK", valid: FLAG, invalid: FLAG_BAD },
    Specified { id: 0x29, places: "CONNACK", valid: FLAG, invalid: FLAG_BAD },
    Specified { id: 0x2A, places: "CONNACK", valid: FLAG, invalid: FLAG_BAD },
];

/// Every place that has properties: its name, the first byte of the packet, what comes before the
/// property length and what after the properties.
#[rustfmt::skip]
const PLACES: [(&str, u8, &[u8], &[u8]); 14] = [
    ("CONNECT", 0x10, b"\0\x04MQTT\x05\x02\0\x0A", b"\0\x01c"),
    ("WILL", 0x10, b"\0\x04MQTT\x05\x06\0\x0A\0\0\x01c", b"\0\x01t\0\x01w"),
    ("CONNACK", 0x20, b"\0\0", b""),
    ("PUBLISH", 0x32, b"\0\x01t\0\x07", b"payload"),
    ("PUBACK", 0x40, b"\0\x07\x10", b""),
    ("PUBREC", 0x50, b"\0\x07\x10", b""),
    ("PUBREL", 0x62, b"\0\x07\x92", b""),
    ("PUBCOMP", 0x70, b"\0\x07\x92", b""),
    ("SUBSCRIBE", 0x82, b"\0\x07", b"\0\x01f\x01"),
    ("SUBACK", 0x90, b"\0\x07", b"\x01"),
    ("UNSUBSCRIBE", 0xA2, b"\0\x07", b"\0\x01f"),
    ("UNSUBACK", 0xB0, b"\0\x07", b"\x11"),
    ("DISCONNECT", 0xE0, b"\x04", b""),
    ("AUTH", 0xF0, b"\x18", b""),
];

/// What must come with the property so that it alone is in question.
fn company(place: &str, id: u8) -> &'static [u8] {
    let needs_method = place == "AUTH" || (id == 0x16 && place.starts_with("CONN"));
    if needs_method && id != 0x15 { b"\x15\0\x01m" } else { b"" }
}

fn packet_in(place: (&str, u8, &[u8], &[u8]), properties: &[u8]) -> Vec<u8> {
    let (_, first_byte, before, after) = place;
    let len = u8::try_from(properties.len()).expect("short");
    packet(first_byte, &[before, &[len], properties, after].concat())
}

/// Calls `check` with every property in every place: the packet that has it with `values`.
fn for_each(mut check: impl FnMut(&Specified, &str, &dyn Fn(&[&[u8]]) -> Vec<u8>)) {
    for specified in &SPECIFICATION {
        for place in PLACES {
            let build = |values: &[&[u8]]| {
                let mut properties = company(place.0, specified.id).to_vec();
                for value in values {
                    properties.push(specified.id);
                    properties.extend_from_slice(value);
                }
                packet_in(place, &properties)
            };
            check(specified, place.0, &build);
        }
    }
}

impl Specified {
    fn is_allowed_in(&self, place: &str) -> bool {
        self.places.split_whitespace().any(|name| name == place)
    }

    fn may_repeat_in(&self, place: &str) -> bool {
        self.id == 0x26 || (self.id == 0x0B && place == "PUBLISH")
    }
}

#[test]
fn what_is_allowed_comes_through_unchanged() {
    let mut count = 0;
    for_each(|specified, place, build| {
        for value in specified.valid.iter().filter(|_| specified.is_allowed_in(place)) {
            let bytes = build(&[value]);
            let packet = decode(&bytes, Version::V5);
            let packet = packet.unwrap_or_else(|error| panic!("{place} {bytes:02x?}: {error}"));
            assert_eq!(encode(&packet, Version::V5), bytes);
            count += 1;
        }
    });
    assert!(count > 150, "{count}");
}

/// 2.2.2.2: an identifier that is not valid for its packet type is a Malformed Packet.
#[test]
fn what_is_not_allowed_is_malformed() {
    for_each(|specified, place, build| {
        if !specified.is_allowed_in(place) {
            let error = DecodeError::PropertyNotAllowed { id: specified.id };
            assert_eq!(decode(&build(&specified.valid[..1]), Version::V5), Err(error), "{place}");
            assert_eq!(error.reason() as u8, 0x81);
        }
    });
}

#[test]
fn what_is_repeated_is_a_protocol_error() {
    for_each(|specified, place, build| {
        if !specified.is_allowed_in(place) {
            return;
        }
        for second in &specified.valid[..2] {
            let bytes = build(&[specified.valid[0], second]);
            let result = decode(&bytes, Version::V5);
            if specified.may_repeat_in(place) {
                let packet = result.expect("valid");
                assert_eq!(encode(&packet, Version::V5), bytes);
                continue;
            }
            let error = DecodeError::PropertyRepeated { id: specified.id };
            assert_eq!(result, Err(error), "{place}");
            assert_eq!(error.reason() as u8, 0x82);
        }
    });
}

#[test]
fn what_is_out_of_range_is_refused() {
    for_each(|specified, place, build| {
        for (value, reason) in specified.invalid.iter().filter(|_| specified.is_allowed_in(place)) {
            let bytes = build(&[value]);
            let error = decode(&bytes, Version::V5).expect_err("out of range");
            assert_eq!(error.reason() as u8, *reason, "{place} {bytes:02x?}: {error}");
        }
    });
}

#[test]
fn a_value_that_is_cut_is_malformed() {
    for_each(|specified, place, build| {
        let value = specified.valid[0];
        for len in (0..value.len()).filter(|_| specified.is_allowed_in(place)) {
            let bytes = build(&[&value[..len]]);
            let error = decode(&bytes, Version::V5).expect_err("cut");
            assert_eq!(error, DecodeError::Truncated, "{place} {bytes:02x?}");
            assert_eq!(error.reason() as u8, 0x81);
        }
    });
}

#[test]
fn an_unknown_identifier_is_malformed() {
    for place in PLACES {
        for id in (0..0x80).filter(|id| SPECIFICATION.iter().all(|known| known.id != *id)) {
            let error = DecodeError::PropertyUnknown { id: u32::from(id) };
            assert_eq!(decode(&packet_in(place, &[id, 1]), Version::V5), Err(error), "{}", place.0);
            assert_eq!(error.reason() as u8, 0x81);
        }
        for (id, error) in [
            (&[0x81_u8, 0x01] as &[u8], DecodeError::PropertyUnknown { id: 0x81 }),
            (&[0xFF, 0xFF, 0xFF, 0x7F], DecodeError::PropertyUnknown { id: 268_435_455 }),
            (&[0xA6, 0x00], DecodeError::VarintNotMinimal), // [MQTT-1.5.5-1]
            (&[0xA6, 0x80, 0x80, 0x80, 0x00], DecodeError::VarintTooLong),
            (&[0x80], DecodeError::Truncated),
        ] {
            assert_eq!(decode(&packet_in(place, id), Version::V5), Err(error), "{}", place.0);
            assert_eq!(error.reason() as u8, 0x81);
        }
    }
}

#[test]
fn the_property_length_must_be_right() {
    for (place, first_byte, before, after) in PLACES {
        let body = |len: &[u8]| packet(first_byte, &[before, len, after].concat());
        // [MQTT-1.5.5-1]
        assert_eq!(decode(&body(&[0x80, 0]), Version::V5), Err(DecodeError::VarintNotMinimal));
        let endless = body(&[0x80, 0x80, 0x80, 0x80, 0]);
        assert_eq!(decode(&endless, Version::V5), Err(DecodeError::VarintTooLong));
        let beyond = body(&[0x7F]);
        assert_eq!(decode(&beyond, Version::V5), Err(DecodeError::Truncated), "{place}");
        let far_beyond = body(&[0xFF, 0xFF, 0xFF, 0x7F]);
        assert_eq!(decode(&far_beyond, Version::V5), Err(DecodeError::Truncated), "{place}");
    }
}

/// 3.1.2.11.10, 3.15.2.2.2 and the like: data without a method, and AUTH without a method.
#[test]
fn authentication_needs_a_method() {
    for place in PLACES.into_iter().filter(|place| ["CONNECT", "CONNACK"].contains(&place.0)) {
        let bytes = packet_in(place, b"\x16\0\x01d");
        let error = DecodeError::AuthenticationMethodMissing;
        assert_eq!(decode(&bytes, Version::V5), Err(error));
        assert_eq!(error.reason() as u8, 0x82);
        let bytes = packet_in(place, b"\x16\0\x01d\x15\0\x01m");
        assert!(decode(&bytes, Version::V5).is_ok(), "the order is free");
    }
}

#[test]
fn the_list_and_the_table_name_the_same_properties() {
    let ids: Vec<u8> = SPECIFICATION.iter().map(|specified| specified.id).collect();
    let ours: Vec<u8> = PropertyRow::ALL.iter().map(|row| row.id).collect();
    assert_eq!(ids, ours);
    for row in PropertyRow::ALL {
        assert_eq!(PropertyRow::of(row.id), Some(row));
    }
    assert_eq!(PropertyRow::of(0x2B), None);
    assert_eq!(PropertyRow::of(0xFF), None);
}

#[test]
fn properties_can_be_asked_for_by_name() {
    let mut raw = vec![];
    let properties = Properties::write(
        [
            Property::UserProperty("a", "1"),
            Property::SubscriptionIdentifier(9),
            Property::TopicAlias(3),
            Property::UserProperty("b", "2"),
            Property::SubscriptionIdentifier(8),
            Property::CorrelationData(b"x"),
        ],
        &mut raw,
    );
    assert_eq!(Properties::parse(properties.raw(), PacketSet::PUBLISH), Ok(properties));
    assert_eq!(Properties::from_validated(properties.raw()), properties);
    assert_eq!(properties.topic_alias(), Some(3));
    assert_eq!(properties.correlation_data(), Some(b"x" as &[u8]));
    assert_eq!(properties.user_property(), Some(("a", "1")));
    assert_eq!(properties.content_type(), None);
    assert_eq!(properties.subscription_identifiers().collect::<Vec<_>>(), [9, 8]);
    let user_properties: Vec<_> = properties.user_properties().collect();
    assert_eq!(user_properties, [("a", "1"), ("b", "2")]);
    let len: usize = properties.iter().map(Property::encoded_len).sum();
    assert_eq!(len, properties.raw().len());
}

#[test]
fn bytes_that_were_never_validated_end_the_walk() {
    assert_eq!(Properties::from_validated(b"\x01\x01\x00garbage").iter().count(), 1);
    assert_eq!(Properties::from_validated(b"\x26\xFF").iter().count(), 0);
}

/// Each of very many would be looked at: more than there is room for a long one is too much.
#[test]
fn a_packet_has_so_many_properties() {
    let decoded = |count: usize, key_len: u8| {
        let key = [7_u8].repeat(key_len.into());
        let property = [b"\x26\0", &[key_len][..], &key, b"\0\0"].concat();
        let mut bytes = Vec::new();
        write_len(&mut bytes, property.len() * count);
        bytes.extend(property.repeat(count));
        let properties =
            Properties::decode(&mut Reader::new(&bytes), Version::V5, PacketSet::PUBLISH);
        properties.map(|properties| properties.user_properties().count())
    };
    assert_eq!(decoded(8192, 0), Ok(8192));
    assert_eq!(decoded(8193, 0), Err(DecodeError::PacketTooLarge));
    assert_eq!(decoded(983, 95), Ok(983));
    assert_eq!(decoded(984, 95), Err(DecodeError::PacketTooLarge));
    assert_eq!(DecodeError::PacketTooLarge.reason(), ReasonCode::PacketTooLarge);
}
