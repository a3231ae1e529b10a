//! Well-formed packets made of a few bytes each, so that a script reaches deep states soon. Names,
//! topics and filters come from short lists, so that they meet.

use ringmq::mqtt::{
    Ack, Auth, Connect, Disconnect, Packet, PacketId, PacketType, Properties, Property, Publish,
    QoS, ReasonCode, RetainHandling, Subscribe, Subscription, SubscriptionOptions, Subscriptions,
    TopicFilter, TopicName, Unsubscribe, Version, Will,
};

const CLIENTS: [&str; 6] = ["a", "b", "c", "", "dd", "client-five"];
const TOPICS: [&str; 10] = ["t", "a/b", "a", "a/b/c", "/", "$SYS/x", "u", "w", "b/b", "v/1/2/3"];
const FILTERS: [&str; 16] = [
    "t",
    "#",
    "+",
    "a/#",
    "a/+",
    "+/b",
    "$SYS/#",
    "$share/g/t",
    "$share/g/#",
    "$share/h/t",
    "$share/g/a/+",
    "u",
    "w",
    "+/+/c",
    "a/b/c/#",
    "/",
];
const SECONDS: [u32; 8] = [0, 1, 2, 5, 60, 3600, u32::MAX - 1, u32::MAX];
const SIZES: [usize; 8] = [0, 1, 7, 60, 127, 300, 1500, 20_000];
const FIRST_CODES: [ReasonCode; 4] = [
    ReasonCode::Success,
    ReasonCode::UnspecifiedError,
    ReasonCode::QuotaExceeded,
    ReasonCode::PacketIdentifierNotFound,
];

/// The bytes of a script, read from the front; behind their end everything is 0.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        head
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::from(self.next()) % count
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn qos(&mut self) -> QoS {
        self.one_of(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    fn id(&mut self) -> PacketId {
        PacketId::new(u16::from(self.next() % 16) + 1).expect("it is at least 1")
    }
}

pub(crate) fn client_id(bytes: &mut Bytes<'_>) -> &'static str {
    bytes.one_of(&CLIENTS)
}

/// The byte that names this client identifier, for those who write scripts.
pub(crate) fn number_of_client(client_id: &str) -> Option<u8> {
    CLIENTS.iter().position(|other| *other == client_id).map(|number| number as u8)
}

/// Appends one packet as a client of this version sends it. CONNECT names its own version.
pub(crate) fn write(bytes: &mut Bytes<'_>, version: Version, out: &mut Vec<u8>) {
    match bytes.next() % 12 {
        0 | 1 => write_connect(bytes, out),
        2..=4 => write_publish(bytes, version, out),
        5 | 6 => write_subscribe(bytes, version, out),
        7 => write_unsubscribe(bytes, version, out),
        8 => write_ack(bytes, version, out),
        9 => Packet::Pingreq.encode(version, out),
        10 => write_disconnect(bytes, version, out),
        _ => write_auth(bytes, version, out),
    }
}

fn write_connect(bytes: &mut Bytes<'_>, out: &mut Vec<u8>) {
    let version = bytes.one_of(&[Version::V311, Version::V5, Version::V5, Version::V31]);
    let client_id = bytes.one_of(&CLIENTS);
    let (flags, extras) = (bytes.next(), bytes.next());
    let mut properties = Vec::new();
    let mut add = |bit: u8, property| {
        if version.is_v5() && extras & bit != 0 {
            properties.push(property);
        }
    };
    add(1, Property::SessionExpiryIntervalS(bytes.one_of(&SECONDS)));
    add(2, Property::ReceiveMaximum(u16::from(bytes.next() % 4) + 1));
    add(4, Property::MaximumPacketSize(bytes.one_of(&[1, 20, 64, 1000])));
    add(8, Property::TopicAliasMaximum(u16::from(bytes.next() % 3)));
    add(16, Property::AuthenticationMethod(bytes.one_of(&["echo", "late", "none"])));
    add(16 | 32, Property::RequestProblemInformation(bytes.next() & 1));
    let (mut held, mut held_of_will) = (Vec::new(), Vec::new());
    let delay = Property::WillDelayIntervalS(bytes.one_of(&SECONDS));
    let will = (flags & 2 != 0).then(|| Will {
        qos: bytes.qos(),
        retain: flags & 4 != 0,
        topic: topic(bytes),
        payload: b"bye",
        properties: Properties::write(version.is_v5().then_some(delay), &mut held_of_will),
    });
    let connect = Connect {
        version,
        is_bridge: flags & 64 != 0 && !version.is_v5(),
        clean_start: flags & 1 != 0 || (client_id.is_empty() && !version.is_v5()),
        keep_alive_s: if flags & 8 != 0 { u16::from(bytes.next() % 4) } else { 0 },
        client_id,
        will,
        username: (flags & 16 != 0).then_some("user"),
        password: (flags & 16 != 0).then_some(b"secret"),
        properties: Properties::write(properties, &mut held),
    };
    connect.encode(out);
}

fn topic(bytes: &mut Bytes<'_>) -> TopicName<'static> {
    TopicName::parse(bytes.one_of(&TOPICS)).expect("the list has topics")
}

fn write_publish(bytes: &mut Bytes<'_>, version: Version, out: &mut Vec<u8>) {
    let (qos, flags, extras) = (bytes.qos(), bytes.next(), bytes.next());
    let mut properties = Vec::new();
    let mut add = |bit: u8, property| {
        if version.is_v5() && extras & bit != 0 {
            properties.push(property);
        }
    };
    add(1, Property::MessageExpiryIntervalS(bytes.one_of(&SECONDS)));
    add(2, Property::TopicAlias(u16::from(bytes.next() % 4) + 1));
    add(4, Property::ResponseTopic("answer"));
    add(8, Property::UserProperty("key", "value"));
    let is_aliased = version.is_v5() && extras & (2 | 16) == 2 | 16;
    let topic = if is_aliased { TopicName::ALIASED } else { topic(bytes) };
    let payload = vec![b'x'; bytes.one_of(&SIZES)];
    let mut held = Vec::new();
    let publish = Publish {
        dup: qos != QoS::AtMostOnce && flags & 1 != 0,
        qos,
        retain: flags & 2 != 0,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then(|| bytes.id()),
        properties: Properties::write(properties, &mut held),
        payload: &payload,
    };
    publish.encode(version, out);
}

fn write_subscribe(bytes: &mut Bytes<'_>, version: Version, out: &mut Vec<u8>) {
    let packet_id = bytes.id();
    let number = u32::from(bytes.next() % 4);
    let id = (version.is_v5() && number > 0).then_some(Property::SubscriptionIdentifier(number));
    let subscriptions: Vec<_> = (0..1 + bytes.below(3)).map(|_| subscription(bytes)).collect();
    let (mut properties, mut filters) = (Vec::new(), Vec::new());
    let subscribe = Subscribe {
        packet_id,
        properties: Properties::write(id, &mut properties),
        subscriptions: Subscriptions::write(version, &subscriptions, &mut filters),
    };
    subscribe.encode(version, out);
}

fn subscription(bytes: &mut Bytes<'_>) -> Subscription<'static> {
    let filter = filter(bytes);
    let flags = bytes.next();
    let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::Never];
    let options = SubscriptionOptions {
        qos: bytes.qos(),
        no_local: flags & 1 != 0 && filter.shared().is_none(),
        retain_as_published: flags & 2 != 0,
        retain_handling: handling[usize::from(flags >> 2) % 3],
    };
    Subscription { filter, options }
}

fn filter(bytes: &mut Bytes<'_>) -> TopicFilter<'static> {
    TopicFilter::parse(bytes.one_of(&FILTERS)).expect("the list has filters")
}

fn write_unsubscribe(bytes: &mut Bytes<'_>, version: Version, out: &mut Vec<u8>) {
    let packet_id = bytes.id();
    let list: Vec<_> = (0..1 + bytes.below(3)).map(|_| filter(bytes)).collect();
    let mut held = Vec::new();
    let filters = ringmq::mqtt::Filters::write(&list, &mut held);
    Unsubscribe { packet_id, properties: Properties::EMPTY, filters }.encode(version, out);
}

fn write_ack(bytes: &mut Bytes<'_>, version: Version, out: &mut Vec<u8>) {
    let kinds = [PacketType::Puback, PacketType::Pubrec, PacketType::Pubrel, PacketType::Pubcomp];
    let (kind, packet_id) = (bytes.one_of(&kinds), bytes.id());
    let reason = bytes.one_of(&FIRST_CODES);
    let is_last = matches!(kind, PacketType::Pubrel | PacketType::Pubcomp);
    let fits = is_last == (reason == ReasonCode::PacketIdentifierNotFound);
    let reason = if fits { reason } else { ReasonCode::Success };
    Ack { packet_id, reason, properties: Properties::EMPTY }.encode(kind, version, out);
}

fn write_disconnect(bytes: &mut Bytes<'_>, version: Version, out: &mut Vec<u8>) {
    let codes = [ReasonCode::Success, ReasonCode::DisconnectWithWillMessage];
    let (reason, flags) = (bytes.one_of(&codes), bytes.next());
    let expiry = Property::SessionExpiryIntervalS(bytes.one_of(&SECONDS));
    let expiry = (version.is_v5() && flags & 1 != 0).then_some(expiry);
    let mut held = Vec::new();
    let properties = Properties::write(expiry, &mut held);
    Disconnect { reason, properties }.encode(version, out);
}

fn write_auth(bytes: &mut Bytes<'_>, version: Version, out: &mut Vec<u8>) {
    if !version.is_v5() {
        return Packet::Pingreq.encode(version, out);
    }
    let reason = bytes.one_of(&[ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate]);
    let properties = [
        Property::AuthenticationMethod(bytes.one_of(&["echo", "late", "none"])),
        Property::AuthenticationData(bytes.one_of(&[b"word".as_slice(), b"wrong"])),
    ];
    let mut held = Vec::new();
    let properties = Properties::write(properties, &mut held);
    Auth { reason, properties }.encode(version, out);
}

/// What a well-behaved client says to a packet of the broker.
pub(crate) fn write_answer(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) {
    let (kind, id) = match packet {
        Packet::Publish(Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), .. }) => {
            (PacketType::Puback, *id)
        }
        Packet::Publish(Publish { qos: QoS::ExactlyOnce, packet_id: Some(id), .. }) => {
            (PacketType::Pubrec, *id)
        }
        Packet::Pubrec(ack) if (ack.reason as u8) < 0x80 => (PacketType::Pubrel, ack.packet_id),
        Packet::Pubrel(ack) => (PacketType::Pubcomp, ack.packet_id),
        _ => return,
    };
    Ack::success(id).encode(kind, version, out);
}
