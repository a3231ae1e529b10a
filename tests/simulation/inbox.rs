//! What a client does with the packets that come, and what it finds wrong with them.

use harness::packet::{Packet, Value, split_header};

use crate::history::{Delivery, History, Moment};
use crate::kept::Stored;
use crate::life::{number_of, payload_of};
use crate::network::Network;
use crate::packets::{auth_packet, content_type, new_packet, publish_packet};
use crate::scenario::Version;

use super::{Answer, CLEARED, Client, Request};

/// Timers may fire so much late.
const TIMER_SLACK_MS: u64 = 100;

impl Client {
    pub(super) fn next_packet(&mut self) -> Option<Packet> {
        let (name, profile) = (&self.profile.name, &self.profile);
        let link = self.link.as_mut()?;
        let header = split_header(&link.unread).expect("the broker sends valid lengths");
        let (head, body) = header.filter(|(head, body)| link.unread.len() >= head + body)?;
        if let Some(max) = link.packet_max {
            assert!(head + body <= max as usize, "{name}: a packet of more than {max} bytes");
        }
        let bytes: Vec<u8> = link.unread.drain(..head + body).collect();
        let packet = Packet::decode(&bytes, profile.version.is_v5());
        Some(packet.unwrap_or_else(|error| panic!("{name} cannot read what came: {error}")))
    }

    pub(super) fn handle(&mut self, packet: &Packet, network: &mut Network, history: &mut History) {
        let id = packet.number("id").unwrap_or(0);
        let name = packet.kind.name;
        let link = self.link.as_ref().expect("it came on it");
        let who = &self.profile.name;
        let is_early = name == "CONNACK" || name == "AUTH" && self.profile.authenticates;
        assert!(link.accepted || is_early, "{who}: {name} before CONNACK");
        assert!(!link.is_done, "{who}: {name} after DISCONNECT");
        if name != "PUBLISH" {
            let about = self.outstanding.iter().find(|one| one.id == id).map(|one| one.message);
            let about = if name == "PUBREL" { self.held.get(&id).copied() } else { about };
            network.note(about, || format!("{who} gets {packet}"));
        }
        match name {
            "CONNACK" => self.handle_connack(packet, network, history),
            "PUBLISH" => self.handle_publish(packet, id, network, history),
            "PUBACK" => self.handle_ack(packet, id, 1, network, history),
            "PUBREC" => self.handle_ack(packet, id, 2, network, history),
            "PUBCOMP" => self.handle_pubcomp(id),
            "PUBREL" => self.handle_pubrel(id),
            "SUBACK" | "UNSUBACK" => self.handle_done(packet, id, network, history),
            "PINGRESP" => {}
            "AUTH" => self.handle_auth(packet, network),
            "DISCONNECT" => {
                let link = self.link.as_mut().expect("it came on it");
                (link.is_mute, link.is_done) = (true, true);
            }
            _ => panic!("{who}: {name} was not asked for"),
        }
    }

    /// A challenge is repeated; success ends what the client has begun.
    fn handle_auth(&mut self, packet: &Packet, network: &mut Network) {
        let who = &self.profile.name;
        let link = self.link.as_mut().expect("it came on it");
        assert!(!link.accepted || link.is_authenticating, "{who}: {packet} was not asked for");
        let data = packet.bytes("auth_data").unwrap_or_default();
        let is_its = data.strip_prefix(who.as_bytes()).is_some_and(|rest| rest.starts_with(b" "));
        assert!(is_its, "{who}: {packet} is meant for somebody else");
        match packet.number("code").unwrap_or(0) {
            0x18 => self.send(&auth_packet(0x18, Some(data)), None, network),
            code => {
                assert!(code == 0 && link.accepted, "{who}: {packet} ends nothing");
                link.is_authenticating = false;
            }
        }
    }

    fn handle_connack(&mut self, packet: &Packet, network: &mut Network, history: &mut History) {
        let name = &self.profile.name;
        let link = self.link.as_mut().expect("it came on it");
        assert!(!link.accepted, "{name}: a second CONNACK");
        assert_eq!(packet.number("code"), Some(0), "{name}: not let in: {packet}");
        link.accepted = true;
        let (connection, expiry_s) = (link.connection, link.expiry_s);
        history.connections[connection].accepted = Some(history.now());
        if self.profile.version.is_v5() {
            let told = packet.number("expiry").unwrap_or(self.profile.expiry_s);
            assert_eq!(told, expiry_s, "{name}: the session expiry interval in {packet}");
        }
        let told = packet.number("present") == Some(1);
        let present = match self.profile.version {
            Version::V31 => {
                assert!(!told, "{name}: 3.1 does not know of {packet}");
                !link.clean && self.session.is_some()
            }
            _ => told,
        };
        self.meet_session(present, connection, history);
        self.expiry_s = (expiry_s, expiry_s);
        self.must_clean = false;
        let unfinished: Vec<_> =
            self.outstanding.iter().map(|one| (one.id, one.message, one.received)).collect();
        for (id, message, received) in unfinished {
            self.repeat(id, message, received, network, history);
        }
    }

    /// Finds out which session this is, and whether it may be that one.
    fn meet_session(&mut self, present: bool, connection: usize, history: &mut History) {
        let name = &self.profile.name;
        let clean = self.link.as_ref().expect("it came on it").clean;
        assert!(!(present && clean), "{name}: a session after a clean start");
        if let Some(old) = self.session {
            let (may_be_over, is_over) = self.is_over(connection, history);
            assert!(!present || !is_over, "{name}: the session should have ended");
            assert!(present || clean || may_be_over, "{name}: the session is lost");
            if !present {
                history.sessions[old].ended = Some(history.connections[connection].opened);
            }
        }
        assert!(!present || self.session.is_some(), "{name}: a session out of nowhere");
        if !present {
            if !clean {
                self.forget_session_state();
            }
            self.session = Some(history.open_session(self.number));
        }
        history.connections[connection].session = self.session;
    }

    /// Whether the session may be over when this connection comes, and whether it must be.
    fn is_over(&self, connection: usize, history: &History) -> (bool, bool) {
        let this = &history.connections[connection];
        let earlier =
            || history.connections[..connection].iter().filter(|c| c.client == self.number);
        let (least_s, most_s) = self.expiry_s;
        let after = |moment: Moment, seconds: u32| moment.ms + u64::from(seconds) * 1000;
        let accepted = earlier().filter(|c| c.accepted.is_some());
        let left = accepted.filter_map(|c| c.ended.min(c.dropped).or(c.dropped)).next_back();
        let may_be_over = left.is_none_or(|left| after(left, least_s) <= history.ms);
        let known = earlier().map(|c| c.ended).collect::<Option<Vec<_>>>();
        let known = known.and_then(|ends| ends.into_iter().max());
        let is_past = |end: Moment| after(end, most_s) + TIMER_SLACK_MS < this.opened.ms;
        let is_over = most_s == 0 || most_s < u32::MAX && known.is_some_and(is_past);
        (may_be_over, is_over)
    }

    fn repeat(
        &mut self,
        id: u32,
        message: usize,
        received: bool,
        network: &mut Network,
        history: &mut History,
    ) {
        if received {
            let link = self.link.as_mut().expect("it was just opened");
            link.released.insert(id);
            return self.send(&new_packet("PUBREL", id), Some(message), network);
        }
        let now = history.now();
        let told = &mut history.messages[message];
        told.sends.push(now);
        told.connection = self.link.as_ref().expect("it was just opened").connection;
        let letter = told.letter;
        let packet = publish_packet(&letter, message, id, true);
        self.send_publish(&packet, message, id, letter.qos, network);
    }

    fn handle_publish(
        &mut self,
        packet: &Packet,
        id: u32,
        network: &mut Network,
        history: &mut History,
    ) {
        let topic = self.topic_of(packet);
        let payload = packet.bytes("payload").unwrap_or_default();
        let message = match payload {
            [] => CLEARED,
            payload => number_of(payload).expect("payloads begin with a number"),
        };
        let about = Some(message).filter(|message| *message != CLEARED);
        let who = &self.profile.name;
        network.note(about, || format!("{who} gets {packet}"));
        let qos = packet.number("qos").unwrap_or(0) as u8;
        let dup = packet.number("dup") == Some(1);
        if about.is_some() {
            self.judge_content(packet, &topic, message, history);
        }
        if qos > 0 {
            self.judge_identifier(id, dup, message);
        }
        self.publishes_seen += 1;
        // It does not refuse what it has taken on an earlier connection.
        let refuses = self.profile.refuses
            && qos > 0
            && self.publishes_seen.is_multiple_of(5)
            && !self.held.contains_key(&id);
        let is_fresh = !refuses
            && match qos {
                0 => true,
                1 => !dup,
                _ => !self.held.contains_key(&id),
            };
        self.note_delivery(packet, message, is_fresh, history);
        self.take(qos, id, message, refuses);
    }

    fn note_delivery(
        &self,
        packet: &Packet,
        message: usize,
        is_fresh: bool,
        history: &mut History,
    ) {
        if message == CLEARED {
            return;
        }
        let ids = packet.fields.iter().filter(|field| field.key == "sub_id");
        let ids = ids.filter_map(|field| match field.value {
            Value::Number(id) => Some(id),
            _ => None,
        });
        let delivery = Delivery {
            message,
            qos: packet.number("qos").unwrap_or(0) as u8,
            dup: packet.number("dup") == Some(1),
            retain: packet.number("retain") == Some(1),
            ids: ids.collect(),
            expiry_s: packet.number("message_expiry"),
            at: history.now(),
            connection: self.link.as_ref().expect("it came on it").connection,
            is_fresh,
        };
        let session = self.session.expect("CONNACK came before");
        history.sessions[session].deliveries.push(delivery);
    }

    /// What is to be answered, and what has to be remembered until then.
    fn take(&mut self, qos: u8, id: u32, message: usize, refuses: bool) {
        let code = if refuses { 0x83 } else { 0 };
        match qos {
            0 => {}
            1 => {
                self.unanswered.insert(id, message);
                self.answers.push_back(Answer { kind: "PUBACK", id, code, is_last: true });
            }
            _ => {
                match refuses {
                    true => self.held.remove(&id),
                    false => self.held.insert(id, message),
                };
                self.answers.push_back(Answer { kind: "PUBREC", id, code, is_last: refuses });
            }
        }
    }

    fn topic_of(&mut self, packet: &Packet) -> String {
        let who = &self.profile.name;
        let link = self.link.as_mut().expect("it came on it");
        let topic = packet.text("topic");
        let Some(alias) = packet.number("alias") else { return topic };
        let max = self.profile.alias_max.unwrap_or(0);
        assert!((1..=max.into()).contains(&alias), "{who}: alias {alias} of at most {max}");
        if topic.is_empty() {
            let known = link.known.get(&alias);
            return known.unwrap_or_else(|| panic!("{who}: alias {alias} is unknown")).clone();
        }
        link.known.insert(alias, topic.clone());
        topic
    }

    fn judge_content(&self, packet: &Packet, topic: &str, message: usize, history: &History) {
        let who = &self.profile.name;
        let sent = history.messages.get(message);
        let sent = sent.unwrap_or_else(|| panic!("{who}: message {message} was never sent"));
        assert!(!sent.forbidden, "{who}: message {message} broke the protocol and was delivered");
        assert_eq!(topic, sent.letter.topic, "{who}: message {message} has another topic");
        let payload = packet.bytes("payload").unwrap_or_default();
        let is_whole = payload == payload_of(message, sent.letter.size);
        assert!(is_whole, "{who}: message {message} has another payload");
        let is_v5 = self.profile.version.is_v5();
        let wanted = (is_v5 && sent.letter.has_properties).then(|| content_type(message));
        let content_type = packet.bytes("content_type").map(<[u8]>::to_vec);
        assert_eq!(content_type, wanted, "{who}: message {message} has other properties");
        let has_property = packet.bytes("property").is_some();
        assert_eq!(has_property, wanted.is_some(), "{who}: message {message} has other properties");
    }

    /// A packet identifier names one publish until its handshake has ended, and no more of them
    /// are in use than the client allows.
    fn judge_identifier(&mut self, id: u32, dup: bool, message: usize) {
        let who = &self.profile.name;
        let link = self.link.as_mut().expect("it came on it");
        let is_new = link.window.insert(id);
        assert!(is_new, "{who}: message {message} under identifier {id}, which is in use");
        let is_completing = self.completing.contains(&id);
        assert!(!is_completing, "{who}: message {message} under identifier {id} before PUBCOMP");
        // What is above a lower limit is not sent again, and at QoS 1 its identifier is free then.
        let is_limited = self.profile.packet_max.is_some();
        let unanswered = self.unanswered.get(&id).filter(|_| !is_limited);
        if let Some(known) = self.held.get(&id).or(unanswered) {
            assert_eq!(*known, message, "{who}: message {message} under identifier {id}");
            assert!(dup, "{who}: message {message} is repeated without DUP");
        }
        let max = self.profile.receive_max.unwrap_or(u16::MAX).min(self.limits.inflight_count_max);
        let count = link.window.len();
        assert!(count <= max.into(), "{who}: message {message} is one of {count}, not {max}");
    }

    /// PUBACK or PUBREC.
    fn handle_ack(
        &mut self,
        packet: &Packet,
        id: u32,
        qos: u8,
        network: &mut Network,
        history: &mut History,
    ) {
        let who = &self.profile.name;
        let link = self.link.as_mut().expect("it came on it");
        let first = link.unacknowledged[usize::from(qos) - 1].pop_front();
        assert_eq!(first, Some(id), "{who}: {packet} is not the one that is due");
        let place = self.outstanding.iter().position(|one| one.id == id && one.qos == qos);
        let place = place.unwrap_or_else(|| panic!("{who}: {packet} was not asked for"));
        let message = self.outstanding[place].message;
        let code = packet.number("code").unwrap_or(0);
        let now = history.now();
        let told = &mut history.messages[message];
        if code == 0x97 && told.letter.retain {
            told.forbidden = told.sends.len() == 1; // An earlier copy may have been taken.
            history.refusals_told += 1;
            let happened = history.refusals.len();
            assert!(history.refusals_told <= happened, "{who}: {packet}, and there was room");
            self.outstanding.remove(place);
            return;
        }
        assert!(matches!(code, 0 | 0x10), "{who}: message {message} was refused: {packet}");
        told.accepted.get_or_insert(now);
        told.is_unmatched |= code == 0x10;
        let workers = &history.workers;
        let lacks = network.unconfirmed(|stored| match stored {
            Stored::Held { client, message: held } => *held == message && !workers.contains(client),
            Stored::Retained { message: retained } => *retained == message,
            _ => false,
        });
        assert!(lacks.is_none(), "{who}: message {message}: {packet} before storage has {lacks:?}");
        if qos == 1 {
            self.outstanding.remove(place);
        } else {
            self.outstanding[place].received = true;
            self.answers.push_back(Answer { kind: "PUBREL", id, code: 0, is_last: false });
        }
    }

    fn handle_pubcomp(&mut self, id: u32) {
        let who = &self.profile.name;
        let link = self.link.as_mut().expect("it came on it");
        assert!(link.released.remove(&id), "{who}: PUBCOMP for {id} was not asked for");
        self.outstanding.retain(|one| one.id != id);
    }

    fn handle_pubrel(&mut self, id: u32) {
        let is_known = self.held.remove(&id).is_some();
        let code = if is_known || !self.profile.version.is_v5() { 0 } else { 0x92 };
        self.completing.insert(id);
        self.answers.push_back(Answer { kind: "PUBCOMP", id, code, is_last: true });
    }

    /// SUBACK or UNSUBACK.
    fn handle_done(
        &mut self,
        packet: &Packet,
        id: u32,
        network: &mut Network,
        history: &mut History,
    ) {
        let who = &self.profile.name;
        match (packet.kind.name, self.requests.remove(&id)) {
            ("SUBACK", Some(Request::Subscribe(session, places, wishes))) => {
                let codes: Vec<u32> = packet.numbers("code").collect();
                assert_eq!(codes.len(), wishes.len(), "{who}: {packet}");
                let refused = if self.profile.version.is_v5() { 0x97 } else { 0x80 };
                let max = self.limits.subscription_count_max;
                let shared_max = self.limits.shared_subscription_count_max;
                let is_shared = |filter: &str| filter.starts_with("$share/");
                let mut granted = Vec::new();
                for ((place, wish), code) in places.iter().zip(&wishes).zip(codes) {
                    let (least, most) = history.count_beside(session, *place, &|_| true);
                    let shared = history.count_beside(session, *place, &is_shared);
                    if code == refused {
                        let may_be = most >= max
                            || is_shared(wish.filter) && shared.1 >= shared_max
                            || self.limits.memory_max.is_some();
                        assert!(may_be, "{who}: {packet}: {most} filters are not {max}");
                        history.refuse(session, *place);
                        continue;
                    }
                    assert_eq!(code, u32::from(wish.qos), "{who}: {packet}");
                    assert!(least < max, "{who}: {packet}: there are {least} filters already");
                    let is_one_more = !is_shared(wish.filter) || shared.0 < shared_max;
                    assert!(is_one_more, "{who}: {packet}: there are {} shared already", shared.0);
                    granted.push(*place);
                }
                let later = places.last().map_or(0, |last| last + 1);
                let later = &history.sessions[session].subscriptions[later..];
                let is_again = |filter: &str| later.iter().any(|s| s.wish.filter == filter);
                let is_its = |filter: &str| wishes.iter().any(|wish| wish.filter == filter);
                let lacks = network.unconfirmed(|stored| match stored {
                    Stored::Subscribed { client, filter } => {
                        client == who && is_its(filter) && !is_again(filter)
                    }
                    _ => false,
                });
                assert!(lacks.is_none(), "{who}: {packet} before storage has {lacks:?}");
                history.grant(session, &granted);
            }
            ("UNSUBACK", Some(Request::Unsubscribe(session, filter, count))) => {
                history.has_left(session, filter, count);
            }
            (name, _) => panic!("{who}: {name} {id} was not asked for"),
        }
    }
}
