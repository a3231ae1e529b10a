//! A client that keeps the rules of its version, and complains about what it must not be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use harness::packet::{Kind, Packet, Value};
use ringmq::config::Limits;

use crate::history::History;
use crate::life::payload_of;
use crate::network::{End, Network};
use crate::packets::{METHOD, auth_packet, new_packet, publish_packet};
use crate::scenario::{Letter, Profile, Version, Will, Wish};

/// Publishes that a client before 5.0 has outstanding at most.
const OUTSTANDING_MAX: usize = 12;
/// Few, so that they are used again.
const PACKET_ID_MAX: u32 = 40;
/// A session that outlives every run.
const LONG_S: u32 = 1000;

/// Stands for packets that are no publish where the network reports what the broker has got.
pub(crate) const OTHER: usize = usize::MAX;
/// Stands for a DISCONNECT that voids the will.
pub(crate) const DISCONNECT: usize = usize::MAX - 1;
/// A message without a payload, which nobody can tell from others.
const CLEARED: usize = usize::MAX;

/// A publish that is not complete, in the order of sending.
struct Outstanding {
    id: u32,
    message: usize,
    qos: u8,
    /// PUBREC has come.
    received: bool,
}

/// The client's end of a connection.
struct Link {
    pipe: usize,
    connection: usize,
    accepted: bool,
    unread: Vec<u8>,
    /// Aliases given to the broker.
    given: BTreeMap<u32, &'static str>,
    /// Aliases that the broker gave.
    known: BTreeMap<u32, String>,
    /// Publishes that came on this connection and whose last answer was not sent.
    window: BTreeSet<u32>,
    /// Publishes sent on this connection and not acknowledged, in order: PUBACK, PUBREC.
    unacknowledged: [VecDeque<u32>; 2],
    released: BTreeSet<u32>,
    /// Nothing more is sent on it.
    is_mute: bool,
    /// DISCONNECT has come.
    is_done: bool,
    clean: bool,
    /// How long its CONNECT has the session stay.
    expiry_s: u32,
    /// The largest packet that its CONNECT allows.
    packet_max: Option<u32>,
    /// It authenticates again.
    is_authenticating: bool,
}

impl Link {
    fn new(pipe: usize, connection: usize, clean: bool, expiry_s: u32) -> Self {
        Self {
            pipe,
            connection,
            packet_max: None,
            is_authenticating: false,
            accepted: false,
            unread: Vec::new(),
            given: BTreeMap::new(),
            known: BTreeMap::new(),
            window: BTreeSet::new(),
            unacknowledged: [VecDeque::new(), VecDeque::new()],
            released: BTreeSet::new(),
            is_mute: false,
            is_done: false,
            clean,
            expiry_s,
        }
    }
}

/// What a client does once it has time.
struct Answer {
    kind: &'static str,
    id: u32,
    code: u32,
    /// It ends the handshake.
    is_last: bool,
}

/// A request that waits for its answer.
enum Request {
    Subscribe(usize, Vec<usize>, Vec<Wish>),
    Unsubscribe(usize, &'static str, usize),
}

pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) profile: Profile,
    limits: Limits,
    link: Option<Link>,
    pub(crate) session: Option<usize>,
    /// How long the session stays, at least and at most, in seconds.
    expiry_s: (u32, u32),
    /// Nobody can tell what the broker holds: the next CONNECT has to begin anew.
    must_clean: bool,
    outstanding: VecDeque<Outstanding>,
    /// QoS 2 identifiers between PUBLISH and PUBREL, with their messages; they outlive connections.
    held: BTreeMap<u32, usize>,
    /// QoS 1 identifiers that came and whose PUBACK was not sent.
    unanswered: BTreeMap<u32, usize>,
    /// QoS 2 identifiers whose PUBREL came and whose PUBCOMP was not sent.
    completing: BTreeSet<u32>,
    answers: VecDeque<Answer>,
    requests: BTreeMap<u32, Request>,
    next_id: u32,
    next_request: u32,
    publishes_seen: usize,
}

impl Client {
    pub(crate) fn new(number: usize, profile: &Profile, limits: Limits) -> Self {
        Self {
            number,
            profile: profile.clone(),
            limits,
            link: None,
            session: None,
            expiry_s: (0, 0),
            must_clean: false,
            outstanding: VecDeque::new(),
            held: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            completing: BTreeSet::new(),
            answers: VecDeque::new(),
            requests: BTreeMap::new(),
            next_id: 0,
            next_request: 1000,
            publishes_seen: 0,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.is_mute)
    }

    /// It has said its last word, or heard it.
    pub(crate) fn is_waiting_for_close(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_mute)
    }

    /// Whether its session is to outlive this connection.
    pub(crate) fn is_persistent(&self) -> bool {
        self.expiry_s.0 > 0
    }

    fn is_ready(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.accepted && !link.is_mute)
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_ready()
            && self.link.as_ref().is_some_and(|link| !link.is_authenticating)
            && self.outstanding.is_empty()
            && self.answers.is_empty()
            && self.held.is_empty()
            && self.requests.is_empty()
    }

    /// What this client still waits for.
    pub(crate) fn describe(&self) -> String {
        let outstanding: Vec<_> =
            self.outstanding.iter().map(|one| (one.id, one.message, one.received)).collect();
        let requests: Vec<_> = self.requests.keys().collect();
        format!(
            "{}: ready {}, outstanding {outstanding:?}, held {:?}, requests {requests:?}",
            self.profile.name,
            self.is_ready(),
            self.held
        )
    }

    /// Opens a connection, over an older one if there is one.
    pub(crate) fn connect(
        &mut self,
        clean: bool,
        will: Option<&Will>,
        network: &mut Network,
        history: &mut History,
    ) {
        self.abandon_link(network, history);
        // 3.1 does not say whether there is a session.
        let is_unsure = self.session.is_some() && self.expiry_s.0 < LONG_S;
        let clean = clean || self.must_clean || self.profile.version == Version::V31 && is_unsure;
        if clean {
            self.forget_session_state();
        }
        let delay_s = |will: &Will| if self.profile.version.is_v5() { will.delay_s } else { 0 };
        let will = will.map(|will| Will { delay_s: delay_s(will), ..will.clone() });
        let will = will.as_ref();
        let will_number = will.map(|will| history.add_will(self.number, will));
        let pipe = network.open(self.number);
        let keep_alive_s = self.profile.keep_alive_s;
        let connection = history.open_connection(self.number, keep_alive_s, will_number);
        let expiry_s = self.asked_expiry_s(clean);
        // A limit belongs to a connection; what waits or is in flight may be above the next one's.
        let packet_max = self.profile.packet_max.filter(|_| !connection.is_multiple_of(2));
        self.link = Some(Link { packet_max, ..Link::new(pipe, connection, clean, expiry_s) });
        let packet = self.connect_packet(clean, will.zip(will_number));
        self.send(&packet, will_number, network);
    }

    pub(crate) fn publish(&mut self, letter: Letter, network: &mut Network, history: &mut History) {
        let quota = match self.profile.version {
            Version::V5 => usize::from(self.limits.receive_count_max),
            _ => OUTSTANDING_MAX,
        };
        if !self.is_ready() || letter.qos > 0 && self.outstanding.len() >= quota.min(20) {
            return;
        }
        let is_v5 = self.profile.version.is_v5();
        let letter = Letter {
            expiry_s: letter.expiry_s.filter(|_| is_v5),
            by_alias: letter.by_alias && is_v5,
            has_properties: letter.has_properties && is_v5,
            ..letter
        };
        let connection = self.link.as_ref().expect("it is ready").connection;
        let message = history.add_message(self.number, connection, letter);
        let id = if letter.qos > 0 { self.take_id() } else { 0 };
        if letter.qos > 0 {
            let (qos, received) = (letter.qos, false);
            self.outstanding.push_back(Outstanding { id, message, qos, received });
        }
        let mut packet = publish_packet(&letter, message, id, false);
        if letter.by_alias {
            self.use_alias(&letter, &mut packet);
        }
        self.send_publish(&packet, message, id, letter.qos, network);
    }

    /// A publish by an alias that this connection does not know.
    pub(crate) fn use_unknown_alias(&mut self, network: &mut Network, history: &mut History) {
        let max = u32::from(self.limits.topic_alias_count_max);
        let Some(link) = self.link.as_ref().filter(|link| link.accepted && !link.is_mute) else {
            return;
        };
        let unknown = (1..=max).find(|alias| !link.given.contains_key(alias));
        let Some(alias) = unknown.filter(|_| self.profile.version.is_v5()) else { return };
        let letter = Letter {
            topic: "a",
            qos: 0,
            retain: false,
            size: 8,
            expiry_s: None,
            by_alias: false,
            has_properties: false,
        };
        let connection = link.connection;
        let message = history.add_message(self.number, connection, letter);
        history.messages[message].forbidden = true;
        history.connections[connection].is_leaving = true;
        let mut packet = publish_packet(&letter, message, 0, false);
        packet.fields.retain(|field| field.key != "topic");
        packet.push("alias", Value::Number(alias));
        self.send(&packet, Some(message), network);
        self.link.as_mut().expect("it was just used").is_mute = true;
    }

    pub(crate) fn subscribe(
        &mut self,
        wishes: &[Wish],
        network: &mut Network,
        history: &mut History,
    ) {
        let Some(session) = self.session.filter(|_| self.is_ready()) else { return };
        let id = self.take_request();
        let mut packet = new_packet("SUBSCRIBE", id);
        let identifier = self.profile.identifies.then_some(id);
        if let Some(identifier) = identifier {
            packet.push("sub_id", Value::Number(identifier));
        }
        for wish in wishes {
            let options = u32::from(wish.qos)
                | u32::from(wish.no_local) << 2
                | u32::from(wish.retain_as_published) << 3
                | u32::from(wish.retain_handling) << 4;
            let text = format!("{}:{options}", wish.filter);
            packet.push("filter", Value::Bytes(text.into_bytes()));
        }
        let places = history.ask(session, wishes, identifier);
        self.requests.insert(id, Request::Subscribe(session, places, wishes.to_vec()));
        self.send(&packet, None, network);
    }

    pub(crate) fn unsubscribe(
        &mut self,
        filter: &'static str,
        network: &mut Network,
        history: &mut History,
    ) {
        let Some(session) = self.session.filter(|_| self.is_ready()) else { return };
        let id = self.take_request();
        let mut packet = new_packet("UNSUBSCRIBE", id);
        packet.push("filter", Value::Bytes(filter.into()));
        let count = history.leave(session, filter);
        self.requests.insert(id, Request::Unsubscribe(session, filter, count));
        self.send(&packet, None, network);
    }

    pub(crate) fn ping(&mut self, network: &mut Network) {
        if self.is_ready() {
            let packet = Packet::new(Kind::named("PINGREQ").expect("it is one"));
            self.send(&packet, None, network);
        }
    }

    pub(crate) fn authenticate_again(&mut self, network: &mut Network) {
        let may = self.is_ready() && self.profile.authenticates;
        if let Some(link) = self.link.as_mut().filter(|link| may && !link.is_authenticating) {
            link.is_authenticating = true;
            self.send(&auth_packet(0x19, None), None, network);
        }
    }

    pub(crate) fn disconnect(
        &mut self,
        keeps_will: bool,
        expiry_s: Option<u32>,
        network: &mut Network,
        history: &mut History,
    ) {
        if !self.is_ready() {
            return;
        }
        let mut packet = Packet::new(Kind::named("DISCONNECT").expect("it is one"));
        if keeps_will {
            packet.push("code", Value::Number(4));
        }
        if let Some(asked) = expiry_s {
            packet.push("expiry", Value::Number(asked));
            self.widen_expiry(asked.min(self.limits.session_expiry_s_max));
        }
        self.send(&packet, None, network);
        let link = self.link.as_ref().expect("it is ready");
        let (pipe, connection) = (link.pipe, link.connection);
        history.connections[connection].is_leaving = true;
        history.connections[connection].said_goodbye = !keeps_will;
        self.end_link(history);
        network.end(pipe, End::Close, 1000);
    }

    /// The connection goes, as networks do.
    pub(crate) fn lose(
        &mut self,
        how: End,
        kept: usize,
        network: &mut Network,
        history: &mut History,
    ) {
        let Some(link) = &self.link else { return };
        let pipe = link.pipe;
        match network.is_placed(pipe) {
            true => network.end(pipe, how, kept),
            false => network.abandon(pipe),
        }
        self.end_link(history);
    }

    /// Reads what has come and sends up to so many answers; whether anything happened.
    pub(crate) fn take_in(
        &mut self,
        answer_count: usize,
        network: &mut Network,
        history: &mut History,
    ) -> bool {
        let Some(link) = &mut self.link else { return false };
        let before = link.unread.len();
        let is_over = network.receive(link.pipe, &mut link.unread);
        let mut moved = link.unread.len() > before;
        while let Some(packet) = self.next_packet() {
            self.handle(&packet, network, history);
        }
        if is_over {
            self.end_link(history);
            return true;
        }
        for _ in 0..answer_count {
            let Some(answer) = self.answers.pop_front() else { break };
            self.answer(&answer, network);
            moved = true;
        }
        moved
    }

    /// A new connection takes the place of an older one, whose bytes may still be on their way.
    fn abandon_link(&mut self, network: &mut Network, history: &mut History) {
        let Some(link) = &self.link else { return };
        let pipe = link.pipe;
        match network.is_placed(pipe) {
            true => network.end(pipe, End::Vanish, 1000),
            // Its CONNECT would come late and mean something else then.
            false => network.abandon(pipe),
        }
        self.end_link(history);
    }

    fn end_link(&mut self, history: &mut History) {
        let Some(link) = self.link.take() else { return };
        let now = history.now();
        history.connections[link.connection].dropped = Some(now);
        if !link.accepted {
            // Nobody can tell whether the broker has acted on its CONNECT.
            self.must_clean |= link.clean || self.session.is_none() || self.expiry_s.0 < LONG_S;
            self.widen_expiry(link.expiry_s);
        }
        self.answers.clear();
        self.requests.clear();
    }

    fn widen_expiry(&mut self, expiry_s: u32) {
        self.expiry_s = (self.expiry_s.0.min(expiry_s), self.expiry_s.1.max(expiry_s));
    }

    /// The client's part of the session is over.
    pub(crate) fn forget_session_state(&mut self) {
        self.outstanding.clear();
        self.held.clear();
        self.unanswered.clear();
        self.completing.clear();
    }

    fn asked_expiry_s(&self, clean: bool) -> u32 {
        let asked = match (self.profile.version, clean) {
            (Version::V5, _) => self.profile.expiry_s,
            (_, true) => 0,
            (_, false) => u32::MAX,
        };
        asked.min(self.limits.session_expiry_s_max)
    }

    fn take_id(&mut self) -> u32 {
        loop {
            self.next_id = self.next_id % PACKET_ID_MAX + 1;
            if self.outstanding.iter().all(|one| one.id != self.next_id) {
                return self.next_id;
            }
        }
    }

    fn take_request(&mut self) -> u32 {
        self.next_request += 1;
        self.next_request
    }

    fn connect_packet(&self, clean: bool, will: Option<(&Will, usize)>) -> Packet {
        let profile = &self.profile;
        let mut packet = Packet::new(Kind::named("CONNECT").expect("it is one"));
        packet.push("client", Value::Bytes(profile.name.clone().into_bytes()));
        packet.push("level", Value::Number(profile.version.level()));
        packet.push("clean", Value::Number(clean.into()));
        packet.push("keepalive", Value::Number(profile.keep_alive_s.into()));
        if let Some((will, number)) = will {
            packet.push("will", Value::Bytes(will.topic.into()));
            packet.push("will_payload", Value::Bytes(payload_of(number, 8)));
            packet.push("will_qos", Value::Number(will.qos.into()));
            packet.push("will_retain", Value::Number(will.retain.into()));
            if profile.version.is_v5() {
                packet.push("will_delay", Value::Number(will.delay_s));
            }
        }
        if profile.authenticates {
            packet.push("auth_method", Value::Bytes(METHOD.into()));
        }
        if profile.version.is_v5() {
            let properties = [
                ("expiry", Some(profile.expiry_s)),
                ("receive_max", profile.receive_max.map(u32::from)),
                ("packet_max", self.link.as_ref().and_then(|link| link.packet_max)),
                ("alias_max", profile.alias_max.map(u32::from)),
            ];
            for (key, value) in properties {
                if let Some(value) = value {
                    packet.push(key, Value::Number(value));
                }
            }
        }
        packet
    }

    fn use_alias(&mut self, letter: &Letter, packet: &mut Packet) {
        let max = u32::from(self.limits.topic_alias_count_max);
        let link = self.link.as_mut().expect("it is ready");
        let given = link.given.iter().find(|(_, topic)| **topic == letter.topic);
        if let Some((alias, _)) = given {
            packet.fields.retain(|field| field.key != "topic");
            return packet.push("alias", Value::Number(*alias));
        }
        // In turn, so that an alias comes to stand for another topic.
        let alias = link.given.len() as u32 % max.max(1) + 1;
        if max > 0 {
            link.given.insert(alias, letter.topic);
            packet.push("alias", Value::Number(alias));
        }
    }

    fn send_publish(
        &mut self,
        packet: &Packet,
        message: usize,
        id: u32,
        qos: u8,
        network: &mut Network,
    ) {
        if qos > 0 {
            let link = self.link.as_mut().expect("who sends has a connection");
            link.unacknowledged[usize::from(qos) - 1].push_back(id);
        }
        self.send(packet, Some(message), network);
    }

    fn send(&mut self, packet: &Packet, message: Option<usize>, network: &mut Network) {
        let link = self.link.as_ref().expect("who sends has a connection");
        let name = &self.profile.name;
        network.note(message, || format!("{name} sends {packet}"));
        let kind = match packet.kind.name {
            "PUBLISH" => message.unwrap_or(OTHER),
            "DISCONNECT" if packet.number("code").is_none() => DISCONNECT,
            _ => OTHER,
        };
        network.send(link.pipe, &packet.encode(self.profile.version.is_v5()), kind);
    }

    fn answer(&mut self, answer: &Answer, network: &mut Network) {
        let mut packet = new_packet(answer.kind, answer.id);
        packet.push("code", Value::Number(answer.code));
        let link = self.link.as_mut().expect("answers end with their connection");
        if answer.is_last {
            link.window.remove(&answer.id);
        }
        let message = match answer.kind {
            "PUBACK" => self.unanswered.remove(&answer.id),
            "PUBREL" => {
                link.released.insert(answer.id);
                self.outstanding.iter().find(|one| one.id == answer.id).map(|one| one.message)
            }
            "PUBCOMP" => {
                self.completing.remove(&answer.id);
                None
            }
            _ => self.held.get(&answer.id).copied(),
        };
        let message = message.filter(|message| *message != CLEARED);
        self.send(&packet, message, network);
    }
}

#[path = "inbox.rs"]
mod inbox;
