//! A client that keeps the rules of MQTT 3.1.1 itself and remembers what it saw.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use crate::harness::cluster::Cluster;
use crate::harness::notation::parse_packet;
use crate::harness::packet::{Packet, split_header};
use crate::harness::peer::Received;

/// Publishes that a client has outstanding at most.
const OUTSTANDING_MAX: usize = 8;

#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) number: u64,
    pub(crate) qos: u8,
    /// It came before: by a repetition of the broker, or because the publisher repeated itself.
    pub(crate) repeated: bool,
    /// It came with RETAIN.
    pub(crate) retained: bool,
}

/// A publish that is not complete, in the order of sending.
struct Outstanding {
    id: u32,
    text: String,
    qos: u8,
    /// PUBREC has come.
    received: bool,
}

pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) filters: Vec<(&'static str, u8)>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Topic, QoS and number of all that was published; QoS 0 only counts as attempted.
    pub(crate) published: Vec<(String, u8, u64)>,
    /// Number of the last retained publish of each topic above QoS 0.
    pub(crate) retained: BTreeMap<String, u64>,
    connection: Option<usize>,
    accepted: bool,
    known: bool,
    unread: Vec<u8>,
    outstanding: VecDeque<Outstanding>,
    next_id: u32,
    next_number: u64,
    seen: HashSet<(String, u64)>,
    /// Ids at QoS 2 between PUBLISH and PUBREL; they outlive connections.
    held: HashSet<u32>,
    /// Answers that were not sent yet; they end with the connection.
    answers: VecDeque<String>,
    subscribing: bool,
}

impl Client {
    pub(crate) fn new(name: &str, filters: &[(&'static str, u8)]) -> Self {
        Self {
            name: name.to_owned(),
            filters: filters.to_vec(),
            deliveries: Vec::new(),
            published: Vec::new(),
            retained: BTreeMap::new(),
            connection: None,
            accepted: false,
            known: false,
            unread: Vec::new(),
            outstanding: VecDeque::new(),
            next_id: 1,
            next_number: 1,
            seen: HashSet::new(),
            held: HashSet::new(),
            answers: VecDeque::new(),
            subscribing: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.accepted
            && self.outstanding.is_empty()
            && self.answers.is_empty()
            && self.held.is_empty()
            && !self.subscribing
    }

    /// What this client still waits for.
    pub(crate) fn describe(&self) -> String {
        let outstanding: Vec<_> =
            self.outstanding.iter().map(|one| (one.id, one.qos, one.received)).collect();
        format!(
            "{}: connection {:?} accepted {}, outstanding {outstanding:?}, held {:?}, answers {:?}",
            self.name, self.connection, self.accepted, self.held, self.answers
        )
    }

    /// Opens a connection, over an older one if there is one.
    pub(crate) fn connect(&mut self, cluster: &mut Cluster) {
        self.forget_connection();
        self.connection = Some(cluster.connect());
        self.send(cluster, &format!("CONNECT {} clean=0 keepalive=0", self.name));
    }

    /// Subscribes to everything in one packet and waits until that is in place.
    pub(crate) fn subscribe(&mut self, cluster: &mut Cluster) {
        if self.filters.is_empty() {
            return;
        }
        let filters: Vec<_> = self.filters.iter().map(|(f, qos)| format!("{f}:{qos}")).collect();
        self.send(cluster, &format!("SUBSCRIBE id=60000 {}", filters.join(" ")));
        self.subscribing = true;
        while self.subscribing {
            assert!(self.take_in(cluster, 0), "{}: SUBSCRIBE is not answered", self.name);
        }
    }

    /// The payload is the number of the publish and `padding` bytes.
    pub(crate) fn publish(
        &mut self,
        cluster: &mut Cluster,
        (topic, qos): (&str, u8),
        retain: bool,
        padding: usize,
    ) {
        if !self.accepted || self.outstanding.len() >= OUTSTANDING_MAX {
            return;
        }
        let topic = format!("{}/{topic}", self.name);
        let number = self.next_number;
        self.next_number += 1;
        self.published.push((topic.clone(), qos, number));
        let flag = if retain { "retain" } else { "" };
        let payload = format!("\"{number} \"\"x\"*{padding}");
        if qos == 0 {
            return self.send(cluster, &format!("PUBLISH {topic} q0 {flag} {payload}"));
        }
        if retain {
            self.retained.insert(topic.clone(), number);
        }
        let id = self.next_id;
        self.next_id = self.next_id % 50_000 + 1;
        let text = format!("PUBLISH {topic} q{qos} {flag} id={id} {payload}");
        self.send(cluster, &text);
        self.outstanding.push_back(Outstanding { id, text, qos, received: false });
    }

    pub(crate) fn lose_connection(&mut self, cluster: &mut Cluster) {
        if let Some(connection) = self.connection {
            cluster.end(connection);
            self.forget_connection();
        }
    }

    pub(crate) fn disconnect(&mut self, cluster: &mut Cluster) {
        if self.connection.is_some() {
            self.send(cluster, "DISCONNECT");
            self.forget_connection();
        }
    }

    /// Reads what has come and sends up to so many answers; whether anything happened.
    pub(crate) fn take_in(&mut self, cluster: &mut Cluster, answer_count: usize) -> bool {
        let Some(connection) = self.connection else { return false };
        let received = cluster.receive(connection, &mut self.unread, Duration::ZERO);
        if received == Received::Closed {
            // An older connection of ours was heard later, and so has taken over.
            self.forget_connection();
            return true;
        }
        let mut moved = received == Received::Bytes;
        while let Some(packet) = self.next_packet() {
            self.handle(cluster, &packet);
        }
        for _ in 0..answer_count {
            let Some(answer) = self.answers.pop_front() else { break };
            self.send(cluster, &answer);
            moved = true;
        }
        moved
    }

    fn forget_connection(&mut self) {
        self.connection = None;
        self.accepted = false;
        self.unread.clear();
        self.answers.clear();
    }

    fn send(&self, cluster: &mut Cluster, text: &str) {
        let connection = self.connection.expect("who sends has a connection");
        cluster.send(connection, &parse_packet(text).expect("it is well formed").encode(false));
    }

    fn next_packet(&mut self) -> Option<Packet> {
        let header = split_header(&self.unread).expect("the broker sends valid lengths");
        let (head, body) = header.filter(|(head, body)| self.unread.len() >= head + body)?;
        let bytes: Vec<u8> = self.unread.drain(..head + body).collect();
        Some(Packet::decode(&bytes, false).unwrap_or_else(|error| panic!("{}: {error}", self.name)))
    }

    fn handle(&mut self, cluster: &mut Cluster, packet: &Packet) {
        let id = packet.number("id").unwrap_or(0);
        match packet.kind.name {
            "CONNACK" => self.handle_connack(cluster, packet),
            "SUBACK" => self.subscribing = false,
            "PUBLISH" => self.handle_publish(packet, id),
            "PUBACK" => self.complete(id, 1),
            "PUBREC" => self.handle_pubrec(cluster, id),
            "PUBCOMP" => self.complete(id, 2),
            "PUBREL" => {
                self.held.remove(&id);
                self.answers.push_back(format!("PUBCOMP id={id}"));
            }
            name => panic!("{}: {name} was not asked for", self.name),
        }
    }

    /// On a session that goes on, what is not complete is sent again in its order.
    fn handle_connack(&mut self, cluster: &mut Cluster, packet: &Packet) {
        let present = packet.number("present") == Some(1);
        assert!(present || !self.known, "{}: the session is lost", self.name);
        self.accepted = true;
        self.known = true;
        for outstanding in &self.outstanding {
            match outstanding.received {
                true => self.send(cluster, &format!("PUBREL id={}", outstanding.id)),
                false => self.send(cluster, &format!("{} dup", outstanding.text)),
            }
        }
    }

    fn handle_publish(&mut self, packet: &Packet, id: u32) {
        let qos = packet.number("qos").unwrap_or(0) as u8;
        let answer = match qos {
            0 => None,
            1 => Some(format!("PUBACK id={id}")),
            _ => Some(format!("PUBREC id={id}")),
        };
        self.answers.extend(answer);
        if qos == 2 && !self.held.insert(id) {
            assert_eq!(packet.number("dup"), Some(1), "{}: id {id} is in use", self.name);
            return;
        }
        let topic = packet.text("topic");
        let payload = packet.text("payload");
        let number = payload.split(' ').next().and_then(|number| number.parse().ok());
        let number = number.expect("payloads begin with a number");
        let retained = packet.number("retain") == Some(1);
        let repeated = !self.seen.insert((topic.clone(), number));
        self.deliveries.push(Delivery { topic, number, qos, repeated, retained });
    }

    fn handle_pubrec(&mut self, cluster: &mut Cluster, id: u32) {
        let outstanding = self.outstanding.iter_mut().find(|outstanding| outstanding.id == id);
        let outstanding = outstanding.unwrap_or_else(|| panic!("PUBREC for {id}, which is over"));
        outstanding.received = true;
        self.send(cluster, &format!("PUBREL id={id}"));
    }

    fn complete(&mut self, id: u32, qos: u8) {
        let place = self.outstanding.iter().position(|one| one.id == id && one.qos == qos);
        // PUBCOMP may come twice where PUBREL was sent on two connections.
        if let Some(place) = place {
            self.outstanding.remove(place);
        }
    }
}
