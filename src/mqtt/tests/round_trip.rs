//! `decode(encode(x))` is `x`, for every packet of every version.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

/// A packet that owns its fields, of which properties, subscriptions and filters are wire bytes.
#[derive(Clone, Debug)]
pub(super) enum Owned {
    Connect {
        version: Version,
        is_bridge: bool,
        clean_start: bool,
        keep_alive_s: u16,
        client_id: String,
        will: Option<OwnedWill>,
        username: Option<String>,
        password: Option<Vec<u8>>,
        properties: Vec<u8>,
    },
    Connack {
        session_present: bool,
        reason: ReasonCode,
        properties: Vec<u8>,
    },
    Publish {
        dup: bool,
        retain: bool,
        qos: QoS,
        topic: String,
        packet_id: u16,
        properties: Vec<u8>,
        payload: Vec<u8>,
    },
    Ack {
        kind: PacketType,
        packet_id: u16,
        reason: ReasonCode,
        properties: Vec<u8>,
    },
    Subscribe {
        packet_id: u16,
        properties: Vec<u8>,
        subscriptions: Vec<(String, SubscriptionOptions)>,
    },
    Suback {
        packet_id: u16,
        properties: Vec<u8>,
        reasons: Vec<u8>,
    },
    Unsubscribe {
        packet_id: u16,
        properties: Vec<u8>,
        filters: Vec<String>,
    },
    Unsuback {
        packet_id: u16,
        properties: Vec<u8>,
        reasons: Vec<u8>,
    },
    Bare(PacketType),
    Disconnect {
        reason: ReasonCode,
        properties: Vec<u8>,
    },
    Auth {
        reason: ReasonCode,
        properties: Vec<u8>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct OwnedWill {
    qos: QoS,
    retain: bool,
    topic: String,
    payload: Vec<u8>,
    properties: Vec<u8>,
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        40 => "[^\0]{0,12}",
        4 => "[a-z]{120,140}",
        1 => Just("é".repeat(32_767)),
    ]
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![40 => vec(any::<u8>(), 0..40), 1 => Just(vec![0xFF; 65_535])]
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => vec(any::<u8>(), 0..200),
        2 => (16_300_usize..16_500).prop_map(|len| vec![7; len]),
        1 => (2_097_000_usize..2_097_300).prop_map(|len| vec![9; len]),
    ]
}

fn any_topic() -> impl Strategy<Value = String> {
    prop_oneof!["[^\0+#]{1,20}", "[a-z]{0,3}(/[a-z$]{0,3}){1,4}"]
}

fn any_filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![Just("+".to_owned()), "[^\0+#/]{0,4}"];
    let levels = vec(level, 1..5).prop_map(|levels| levels.join("/"));
    let filter = prop_oneof![
        3 => levels.clone(),
        1 => levels.prop_map(|levels| levels + "/#"),
        1 => Just("#".to_owned()),
    ];
    let filter = filter
        .prop_filter("a filter", |filter| !filter.is_empty() && !filter.starts_with("$share/"));
    let group = option::weighted(0.3, "[a-z]{1,3}");
    (group, filter).prop_map(|(group, filter)| match group {
        Some(group) => format!("$share/{group}/{filter}"),
        None => filter,
    })
}

fn any_options(version: Version) -> impl Strategy<Value = SubscriptionOptions> {
    let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::Never];
    (any_qos(), any::<bool>(), any::<bool>(), select(handling.to_vec())).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| match version {
            Version::V5 => {
                SubscriptionOptions { qos, no_local, retain_as_published, retain_handling }
            }
            _ => SubscriptionOptions { qos, ..Default::default() },
        },
    )
}

fn any_qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn any_reason(version: Version, kind: PacketType) -> impl Strategy<Value = ReasonCode> {
    let valid = ReasonCode::ALL.iter().copied().filter(|reason| match (version, kind) {
        (Version::V5, _) => reason.is_valid_in(kind.set()),
        (_, PacketType::Connack) => {
            let code = reason.v311_connect_return_code();
            ReasonCode::from_v311_connect_return_code(code) == Some(*reason)
        }
        (_, PacketType::Suback) => [0, 1, 2, 0x80].contains(&(*reason as u8)),
        _ => *reason == ReasonCode::Success,
    });
    select(valid.collect::<Vec<_>>())
}

/// A value of the right type and range for each row; only the first string is a topic.
fn any_property(row: &'static PropertyRow) -> impl Strategy<Value = Vec<u8>> {
    let number = row.min..=row.max.max(row.min);
    (number, any_text(), any_text(), any_bytes(), any_topic()).prop_map(
        move |(number, text, other, bytes, topic)| {
            let mut out = vec![row.id];
            match row.value {
                PropertyType::Byte => out.push(number as u8),
                PropertyType::TwoBytes => out.extend((number as u16).to_be_bytes()),
                PropertyType::FourBytes => out.extend(number.to_be_bytes()),
                PropertyType::Varint => cursor::write_varint(&mut out, number),
                PropertyType::Binary => cursor::write_binary(&mut out, &bytes),
                PropertyType::Utf8 if row.id == 0x08 => cursor::write_utf8(&mut out, &topic),
                PropertyType::Utf8 => cursor::write_utf8(&mut out, &text),
                PropertyType::Utf8Pair => {
                    cursor::write_utf8(&mut out, &text);
                    cursor::write_utf8(&mut out, &other);
                }
            }
            out
        },
    )
}

/// As many of them as a packet may have.
fn joined(properties: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    for property in properties.iter().filter(|property| property.len() < 70_000) {
        if all.len() + property.len() < 90_000 {
            all.extend_from_slice(property);
        }
    }
    all
}

/// Properties that `place` may carry, in any order, the repeatable ones repeated.
fn any_properties(version: Version, place: PacketSet) -> BoxedStrategy<Vec<u8>> {
    if !version.is_v5() {
        return Just(vec![]).boxed();
    }
    let allowed: Vec<_> =
        PropertyRow::ALL.iter().filter(|row| row.packets.intersects(place)).collect();
    let repeatable: Vec<_> =
        allowed.iter().copied().filter(|row| row.repeats_in.intersects(place)).collect();
    let once = subsequence(allowed.clone(), 0..=allowed.len().min(6)).prop_shuffle();
    (once, vec(select(repeatable), 0..3))
        .prop_flat_map(|(once, again)| {
            once.into_iter().chain(again).map(any_property).collect::<Vec<_>>()
        })
        .prop_map(move |properties| with_method(joined(&properties), place))
        .boxed()
}

/// Authentication data needs a method, and so does AUTH.
fn with_method(mut raw: Vec<u8>, place: PacketSet) -> Vec<u8> {
    let properties = Properties::from_validated(&raw);
    let needs_method = place == PacketSet::AUTH || properties.authentication_data().is_some();
    if needs_method && properties.authentication_method().is_none() {
        Property::AuthenticationMethod("m").encode(&mut raw);
    }
    raw
}

fn any_will(version: Version) -> impl Strategy<Value = OwnedWill> {
    let properties = any_properties(version, PacketSet::WILL);
    (any_qos(), any::<bool>(), any_topic(), any_bytes(), properties).prop_map(
        |(qos, retain, topic, payload, properties)| OwnedWill {
            qos,
            retain,
            topic,
            payload,
            properties,
        },
    )
}

fn any_connect(version: Version) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, PacketSet::CONNECT);
    let flags = (any::<bool>(), any::<bool>());
    let head = (flags, any::<u16>(), any_text(), option::of(any_will(version)));
    let credentials = (option::of(any_text()), option::of(any_bytes()));
    (head, credentials, properties).prop_map(move |(head, (username, password), properties)| {
        let ((is_bridge, clean_start), keep_alive_s, client_id, will) = head;
        let is_bridge = is_bridge && !version.is_v5();
        let may_have_password = version.is_v5() || username.is_some();
        let password = password.filter(|_| may_have_password);
        #[rustfmt::skip]
        let connect = Owned::Connect {
            version, is_bridge, clean_start, keep_alive_s, client_id, will, username, password,
            properties,
        };
        connect
    })
}

fn any_connack(version: Version) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, PacketSet::CONNACK);
    (any::<bool>(), any_reason(version, PacketType::Connack), properties).prop_map(
        move |(present, reason, properties)| {
            let may_be_present = version != Version::V31 && reason == ReasonCode::Success;
            Owned::Connack { session_present: present && may_be_present, reason, properties }
        },
    )
}

fn any_publish(version: Version) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, PacketSet::PUBLISH);
    let flags = (any::<bool>(), any::<bool>(), any_qos(), any::<bool>());
    (flags, any_topic(), 1..=u16::MAX, properties, any_payload()).prop_map(
        |((dup, retain, qos, by_alias), topic, packet_id, properties, payload)| {
            let alias = Properties::from_validated(&properties).topic_alias();
            let topic = if by_alias && alias.is_some() { String::new() } else { topic };
            let dup = dup && qos != QoS::AtMostOnce;
            Owned::Publish { dup, retain, qos, topic, packet_id, properties, payload }
        },
    )
}

fn any_ack(version: Version, kind: PacketType) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, kind.set());
    (1..=u16::MAX, any_reason(version, kind), properties).prop_map(
        move |(packet_id, reason, properties)| Owned::Ack { kind, packet_id, reason, properties },
    )
}

fn any_subscribe(version: Version) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, PacketSet::SUBSCRIBE);
    let subscriptions = vec((any_filter(), any_options(version)), 1..6).prop_map(|mut all| {
        for (filter, options) in &mut all {
            options.no_local &= !filter.starts_with("$share/");
        }
        all
    });
    (1..=u16::MAX, properties, subscriptions).prop_map(|(packet_id, properties, subscriptions)| {
        Owned::Subscribe { packet_id, properties, subscriptions }
    })
}

fn any_unsubscribe(version: Version) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, PacketSet::UNSUBSCRIBE);
    (1..=u16::MAX, properties, vec(any_filter(), 1..6)).prop_map(
        |(packet_id, properties, filters)| Owned::Unsubscribe { packet_id, properties, filters },
    )
}

fn any_suback(version: Version) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, PacketSet::SUBACK);
    let reasons = vec(any_reason(version, PacketType::Suback).prop_map(u8::from), 1..200);
    (1..=u16::MAX, properties, reasons).prop_map(|(packet_id, properties, reasons)| Owned::Suback {
        packet_id,
        properties,
        reasons,
    })
}

fn any_unsuback(version: Version) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, PacketSet::UNSUBACK);
    let count = if version.is_v5() { 1..200 } else { 0..1 };
    let reasons = vec(any_reason(version, PacketType::Unsuback).prop_map(u8::from), count);
    (1..=u16::MAX, properties, reasons).prop_map(|(packet_id, properties, reasons)| {
        Owned::Unsuback { packet_id, properties, reasons }
    })
}

fn any_disconnect(version: Version) -> impl Strategy<Value = Owned> {
    let properties = any_properties(version, PacketSet::DISCONNECT);
    (any_reason(version, PacketType::Disconnect), properties)
        .prop_map(|(reason, properties)| Owned::Disconnect { reason, properties })
}

fn any_auth() -> impl Strategy<Value = Owned> {
    let properties = any_properties(Version::V5, PacketSet::AUTH);
    (any_reason(Version::V5, PacketType::Auth), properties)
        .prop_map(|(reason, properties)| Owned::Auth { reason, properties })
}

/// Any packet that `version` has.
pub(super) fn any_packet(version: Version) -> BoxedStrategy<Owned> {
    let bare = select(vec![PacketType::Pingreq, PacketType::Pingresp]).prop_map(Owned::Bare);
    let last = if version.is_v5() { any_auth().boxed() } else { bare.clone().boxed() };
    prop_oneof![
        2 => any_connect(version),
        1 => any_connack(version),
        3 => any_publish(version),
        1 => any_ack(version, PacketType::Puback),
        1 => any_ack(version, PacketType::Pubrec),
        1 => any_ack(version, PacketType::Pubrel),
        1 => any_ack(version, PacketType::Pubcomp),
        2 => any_subscribe(version),
        1 => any_suback(version),
        1 => any_unsubscribe(version),
        1 => any_unsuback(version),
        1 => bare,
        1 => any_disconnect(version),
        1 => last,
    ]
    .boxed()
}

fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).expect("not 0")
}

fn name(topic: &str) -> TopicName<'_> {
    if topic.is_empty() { TopicName::ALIASED } else { TopicName::parse(topic).expect("valid") }
}

fn ack(kind: PacketType, ack: Ack<'_>) -> Packet<'_> {
    match kind {
        PacketType::Puback => Packet::Puback(ack),
        PacketType::Pubrec => Packet::Pubrec(ack),
        PacketType::Pubrel => Packet::Pubrel(ack),
        _ => Packet::Pubcomp(ack),
    }
}

impl OwnedWill {
    fn borrow(&self) -> Will<'_> {
        Will {
            qos: self.qos,
            retain: self.retain,
            topic: name(&self.topic),
            payload: &self.payload,
            properties: Properties::from_validated(&self.properties),
        }
    }
}

impl Owned {
    /// The packet; `scratch` is where its payload goes that is written and not borrowed.
    pub(super) fn borrow<'a>(&'a self, version: Version, scratch: &'a mut Vec<u8>) -> Packet<'a> {
        match self {
            Self::Connect { .. } => self.borrow_connect(),
            Self::Connack { session_present, reason, properties } => Packet::Connack(Connack {
                session_present: *session_present,
                reason: *reason,
                properties: Properties::from_validated(properties),
            }),
            Self::Publish { .. } => self.borrow_publish(),
            Self::Ack { kind, packet_id, reason, properties } => {
                let properties = Properties::from_validated(properties);
                ack(*kind, Ack { packet_id: id(*packet_id), reason: *reason, properties })
            }
            Self::Subscribe { packet_id, properties, subscriptions } => {
                let subscriptions: Vec<_> = subscriptions
                    .iter()
                    .map(|(filter, options)| Subscription {
                        filter: TopicFilter::parse(filter).expect("valid"),
                        options: *options,
                    })
                    .collect();
                let subscriptions = Subscriptions::write(version, &subscriptions, scratch);
                let properties = Properties::from_validated(properties);
                Packet::Subscribe(Subscribe {
                    packet_id: id(*packet_id),
                    properties,
                    subscriptions,
                })
            }
            Self::Suback { packet_id, properties, reasons } => {
                let properties = Properties::from_validated(properties);
                Packet::Suback(Suback { packet_id: id(*packet_id), properties, reasons })
            }
            Self::Unsubscribe { packet_id, properties, filters } => {
                let filters: Vec<_> =
                    filters.iter().map(|text| TopicFilter::parse(text).expect("valid")).collect();
                let filters = Filters::write(&filters, scratch);
                let properties = Properties::from_validated(properties);
                Packet::Unsubscribe(Unsubscribe { packet_id: id(*packet_id), properties, filters })
            }
            Self::Unsuback { packet_id, properties, reasons } => {
                let properties = Properties::from_validated(properties);
                Packet::Unsuback(Unsuback { packet_id: id(*packet_id), properties, reasons })
            }
            Self::Bare(PacketType::Pingreq) => Packet::Pingreq,
            Self::Bare(_) => Packet::Pingresp,
            Self::Disconnect { reason, properties } => {
                let properties = Properties::from_validated(properties);
                Packet::Disconnect(Disconnect { reason: *reason, properties })
            }
            Self::Auth { reason, properties } => {
                let properties = Properties::from_validated(properties);
                Packet::Auth(Auth { reason: *reason, properties })
            }
        }
    }

    fn borrow_connect(&self) -> Packet<'_> {
        #[rustfmt::skip]
        let Self::Connect {
            version, is_bridge, clean_start, keep_alive_s, client_id, will, username, password,
            properties,
        } = self else { unreachable!("asked of CONNECT only") };
        Packet::Connect(Connect {
            version: *version,
            is_bridge: *is_bridge,
            clean_start: *clean_start,
            keep_alive_s: *keep_alive_s,
            client_id,
            will: will.as_ref().map(OwnedWill::borrow),
            username: username.as_deref(),
            password: password.as_deref(),
            properties: Properties::from_validated(properties),
        })
    }

    fn borrow_publish(&self) -> Packet<'_> {
        let Self::Publish { dup, retain, qos, topic, packet_id, properties, payload } = self else {
            unreachable!("asked of PUBLISH only")
        };
        Packet::Publish(Publish {
            dup: *dup,
            qos: *qos,
            retain: *retain,
            topic: name(topic),
            packet_id: (*qos != QoS::AtMostOnce).then(|| id(*packet_id)),
            properties: Properties::from_validated(properties),
            payload,
        })
    }
}

fn check(owned: &Owned, version: Version) -> Result<(), TestCaseError> {
    let mut scratch = vec![];
    let packet = owned.borrow(version, &mut scratch);
    let bytes = encode(&packet, version);
    prop_assert_eq!(decode(&bytes, version), Ok(packet));
    prop_assert_eq!(PacketType::from_number(bytes[0] >> 4), Some(packet.kind()));
    if let Packet::Publish(publish) = packet {
        prop_assert_eq!(publish.encoded_len(version), bytes.len());
        let mut again = vec![];
        let written = Properties::write(publish.properties.iter(), &mut again);
        prop_assert_eq!(written, publish.properties);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn decode_undoes_encode_in_3_1(owned in any_packet(Version::V31)) {
        check(&owned, Version::V31)?;
    }

    #[test]
    fn decode_undoes_encode_in_3_1_1(owned in any_packet(Version::V311)) {
        check(&owned, Version::V311)?;
    }

    #[test]
    fn decode_undoes_encode_in_5_0(owned in any_packet(Version::V5)) {
        check(&owned, Version::V5)?;
    }
}
