//! From CONNECT to the last SUBACK.
//!
//! ```text
//! CONNECT ─> Connecting ─ CONNACK, SUBSCRIBEs ─> Subscribing ─ SUBACKs ─> Ready
//! ```

use ringmq::mqtt::{
    Connack, Connect, Packet, PacketId, PacketType, Properties, Property, QoS, ReasonCode,
    Subscribe, Subscription, SubscriptionOptions, Subscriptions, TopicFilter, Version,
};

use crate::client::qos::Violation;
use crate::plan::step::SessionUse;
use crate::plan::{Greeting, Plan};

/// Filters in one SUBSCRIBE: some brokers limit them, and the packet stays small.
const FILTERS_PER_SUBSCRIBE: usize = 64;
/// 5.0: how long a session that is to last may be left alone.
const SESSION_EXPIRY_S: u32 = 24 * 3600;

pub(crate) struct Handshake {
    state: State,
    version: Version,
    qos: QoS,
    session: SessionUse,
    filters: Vec<String>,
    receive_count_max: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Connecting,
    /// This many SUBACKs are missing.
    Subscribing(usize),
    Ready,
}

impl Handshake {
    /// Writes CONNECT.
    pub(crate) fn start(plan: &Plan, greeting: Greeting, out: &mut Vec<u8>) -> Self {
        let credentials = plan.credentials.as_ref();
        let lasts = greeting.session != SessionUse::Clean;
        let expiry = (lasts && plan.version.is_v5())
            .then_some(Property::SessionExpiryIntervalS(SESSION_EXPIRY_S));
        let mut bytes = Vec::new();
        let connect = Connect {
            version: plan.version,
            is_bridge: false,
            clean_start: !lasts,
            keep_alive_s: plan.keep_alive_s,
            client_id: &plan.client_id(greeting.client),
            will: None,
            username: credentials.map(|credentials| credentials.username.as_str()),
            password: credentials
                .and_then(|credentials| Some(credentials.password.as_ref()?.as_bytes())),
            properties: Properties::write(expiry, &mut bytes),
        };
        connect.encode(out);
        let filters =
            if greeting.subscribes { plan.filters_of(greeting.client) } else { Vec::new() };
        Self {
            state: State::Connecting,
            version: plan.version,
            qos: plan.qos,
            session: greeting.session,
            filters,
            receive_count_max: u16::MAX,
        }
    }

    /// Returns how many messages of QoS 1 and 2 the broker takes at a time (Receive Maximum).
    pub(crate) fn receive_count_max(&self) -> u16 {
        self.receive_count_max
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether the broker has accepted the connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.state != State::Connecting
    }

    /// Whether `packet` is a delivery that may come before SUBACK: it is for
    /// the actor that takes the connection over.
    pub(crate) fn is_early(&self, packet: &Packet<'_>) -> bool {
        let delivers = matches!(packet, Packet::Publish(_) | Packet::Pubrel(_));
        delivers && matches!(self.state, State::Subscribing(_))
    }

    /// # Errors
    /// The broker refuses the connection or a subscription, or answers out of turn.
    pub(crate) fn handle(
        &mut self,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        match (self.state, packet) {
            (State::Connecting, Packet::Connack(connack)) => self.handle_connack(connack, out),
            (State::Subscribing(missing), Packet::Suback(suback)) => {
                self.check_granted(suback.packet_id, suback.reasons)?;
                self.state =
                    if missing == 1 { State::Ready } else { State::Subscribing(missing - 1) };
                Ok(())
            }
            _ => Err(Violation::Unexpected(packet.kind())),
        }
    }

    fn handle_connack(
        &mut self,
        connack: &Connack<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        if connack.reason.is_error() {
            return Err(self.refusal(connack.reason));
        }
        match (self.session, connack.session_present) {
            (SessionUse::Resume, false) => return Err(Violation::SessionLost),
            (SessionUse::Clean | SessionUse::Create, true) => {
                return Err(Violation::SessionLeft);
            }
            _ => (),
        }
        self.receive_count_max = connack.properties.receive_maximum().unwrap_or(u16::MAX);
        let mut count = 0;
        for (batch, number) in self.filters.chunks(FILTERS_PER_SUBSCRIBE).zip(1..) {
            self.subscribe(number, batch, out);
            count += 1;
        }
        self.state = if count == 0 { State::Ready } else { State::Subscribing(count) };
        Ok(())
    }

    fn refusal(&self, reason: ReasonCode) -> Violation {
        match self.version {
            Version::V5 => Violation::Failed(PacketType::Connack, reason),
            _ => Violation::Refused(reason.v311_connect_return_code()),
        }
    }

    fn subscribe(&self, number: u16, filters: &[String], out: &mut Vec<u8>) {
        let options = SubscriptionOptions { qos: self.qos, ..Default::default() };
        let subscriptions: Vec<Subscription<'_>> = filters
            .iter()
            .map(|filter| TopicFilter::parse(filter).expect("our topic names are valid filters"))
            .map(|filter| Subscription { filter, options })
            .collect();
        let mut bytes = Vec::new();
        let subscribe = Subscribe {
            packet_id: PacketId::new(number).expect("batches are counted from 1"),
            properties: Properties::EMPTY,
            subscriptions: Subscriptions::write(self.version, &subscriptions, &mut bytes),
        };
        subscribe.encode(self.version, out);
    }

    fn check_granted(&self, packet_id: PacketId, granted: &[u8]) -> Result<(), Violation> {
        let batch = usize::from(packet_id.get()) - 1;
        let asked = self.filters.chunks(FILTERS_PER_SUBSCRIBE).nth(batch).map_or(0, <[_]>::len);
        if asked != granted.len() {
            return Err(Violation::UnknownPacketId {
                kind: PacketType::Suback,
                packet_id: packet_id.get(),
            });
        }
        match granted.iter().find(|&&code| code != self.qos as u8) {
            Some(&granted) => Err(Violation::Downgraded { granted, wanted: self.qos }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Client;
    use crate::plan::tests::plan;
    use ringmq::mqtt::{Suback, split};

    fn connack(reason: ReasonCode) -> Packet<'static> {
        let properties = Properties::EMPTY;
        Packet::Connack(Connack { session_present: false, reason, properties })
    }

    fn suback(number: u16, reasons: &[u8]) -> Packet<'_> {
        let packet_id = PacketId::new(number).expect("not 0");
        Packet::Suback(Suback { packet_id, properties: Properties::EMPTY, reasons })
    }

    fn kinds(mut bytes: &[u8]) -> Vec<String> {
        let mut kinds = Vec::new();
        while let Some((frame, used)) = split(bytes, 1 << 20).expect("well formed") {
            kinds.push(format!("{:?}", frame.kind));
            bytes = &bytes[used..];
        }
        kinds
    }

    #[test]
    fn a_publisher_is_ready_with_connack() {
        let mut out = Vec::new();
        let mut handshake =
            Handshake::start(&plan(), Greeting::clean(Client::Publisher(0)), &mut out);
        assert_eq!(kinds(&out), ["Connect"]);
        out.clear();
        handshake.handle(&connack(ReasonCode::Success), &mut out).expect("accepted");
        assert!(handshake.is_ready() && out.is_empty());
    }

    #[test]
    fn a_subscriber_is_ready_when_all_its_filters_are_granted() {
        let many = Plan { publisher_count: 35, ..plan() };
        let mut out = Vec::new();
        let mut handshake =
            Handshake::start(&many, Greeting::clean(Client::Subscriber(0)), &mut out);
        out.clear();
        handshake.handle(&connack(ReasonCode::Success), &mut out).expect("accepted");
        assert_eq!(kinds(&out), ["Subscribe", "Subscribe"], "70 filters, 64 in a packet");
        handshake.handle(&suback(2, &[0; 6]), &mut out).expect("granted");
        assert!(!handshake.is_ready());
        handshake.handle(&suback(1, &[0; 64]), &mut out).expect("granted");
        assert!(handshake.is_ready());
    }

    fn subscribing(qos: QoS) -> Handshake {
        let plan = Plan { qos, publisher_count: 1, topics_per_publisher: 1, ..plan() };
        let mut out = Vec::new();
        let mut handshake =
            Handshake::start(&plan, Greeting::clean(Client::Subscriber(0)), &mut out);
        handshake.handle(&connack(ReasonCode::Success), &mut out).expect("accepted");
        handshake
    }

    #[test]
    fn less_than_what_was_asked_for_is_a_violation() {
        let wanted = QoS::ExactlyOnce;
        for granted in [0, 1, 0x80] {
            let result = subscribing(wanted).handle(&suback(1, &[granted]), &mut Vec::new());
            assert_eq!(result, Err(Violation::Downgraded { granted, wanted }));
        }
    }

    #[test]
    fn answers_to_questions_never_asked_are_violations() {
        let mut handshake = subscribing(QoS::AtMostOnce);
        assert!(handshake.handle(&suback(2, &[0]), &mut Vec::new()).is_err());
        assert!(handshake.handle(&suback(1, &[0, 0]), &mut Vec::new()).is_err());
        assert!(handshake.handle(&Packet::Pingresp, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_refusal_names_its_code() {
        let mut handshake =
            Handshake::start(&plan(), Greeting::clean(Client::Publisher(0)), &mut Vec::new());
        let refused = handshake.handle(&connack(ReasonCode::NotAuthorized), &mut Vec::new());
        let text = refused.expect_err("refused").to_string();
        assert!(text.contains("not authorized (5)"), "{text}");
    }

    #[test]
    fn a_session_is_there_when_it_was_left_behind_and_only_then() {
        let answer = |session, session_present| {
            let greeting = Greeting { session, ..Greeting::clean(Client::Publisher(0)) };
            let mut handshake = Handshake::start(&plan(), greeting, &mut Vec::new());
            let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
            let connack = Packet::Connack(Connack { session_present, reason, properties });
            handshake.handle(&connack, &mut Vec::new())
        };
        assert_eq!(answer(SessionUse::Resume, true), Ok(()));
        assert_eq!(answer(SessionUse::Resume, false), Err(Violation::SessionLost));
        for session in [SessionUse::Clean, SessionUse::Create] {
            assert_eq!(answer(session, false), Ok(()));
            assert_eq!(answer(session, true), Err(Violation::SessionLeft));
        }
    }

    #[test]
    fn a_session_that_is_to_last_asks_for_that_in_5_0() {
        for (session, clean, expiry) in [
            (SessionUse::Clean, true, None),
            (SessionUse::Create, false, Some(SESSION_EXPIRY_S)),
            (SessionUse::Resume, false, Some(SESSION_EXPIRY_S)),
        ] {
            let plan = Plan { version: Version::V5, ..plan() };
            let greeting = Greeting { session, ..Greeting::clean(Client::Publisher(0)) };
            let mut out = Vec::new();
            Handshake::start(&plan, greeting, &mut out);
            let (frame, _) = split(&out, 1 << 20).expect("well formed").expect("complete");
            let Ok(Packet::Connect(connect)) = Packet::decode(frame, Version::V5) else {
                panic!("it is CONNECT");
            };
            let asked = connect.properties.session_expiry_interval_s();
            assert_eq!((connect.clean_start, asked), (clean, expiry));
        }
    }

    #[test]
    fn deliveries_may_come_before_suback_but_not_before_connack() {
        let publish = Packet::Publish(ringmq::mqtt::Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: ringmq::mqtt::TopicName::parse("t").expect("valid"),
            packet_id: None,
            properties: Properties::EMPTY,
            payload: b"",
        });
        assert!(subscribing(QoS::AtMostOnce).is_early(&publish));
        let mut fresh =
            Handshake::start(&plan(), Greeting::clean(Client::Subscriber(0)), &mut Vec::new());
        assert!(!fresh.is_early(&publish));
        assert!(fresh.handle(&publish, &mut Vec::new()).is_err());
    }
}
