//! What the fake broker remembers of its clients, and who gets what.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::wire::{Message, Output, matches, shared};
use super::{Fate, Script};

/// Bytes for a client, and when they are due.
pub(super) struct Delivery {
    pub(super) due: Instant,
    pub(super) output: Output,
    pub(super) bytes: Vec<u8>,
}

/// Everything that outlives a connection.
pub(super) struct Sessions {
    pub(super) script: Script,
    pub(super) deliveries: Sender<Delivery>,
    sessions: HashMap<Vec<u8>, Session>,
    subscriber_count: usize,
    message_count: usize,
    /// With the number of the message.
    retained: BTreeMap<Vec<u8>, (usize, Message)>,
}

struct Session {
    clean: bool,
    /// `None`: offline.
    output: Option<Output>,
    filters: Vec<Vec<u8>>,
    /// Counted from 0 in the order in which clients subscribe.
    number: Option<usize>,
    next_packet_id: u16,
    held_back: Option<Message>,
    /// For when it comes back.
    queue: Vec<u8>,
}

impl Sessions {
    pub(super) fn new(script: Script, deliveries: Sender<Delivery>) -> Self {
        Self {
            script,
            deliveries,
            sessions: HashMap::new(),
            subscriber_count: 0,
            message_count: 0,
            retained: BTreeMap::new(),
        }
    }

    /// Whether a session was there. What is queued for it goes out behind CONNACK.
    pub(super) fn connect(&mut self, client_id: &[u8], clean: bool, output: &Output) {
        let known = self.sessions.get(client_id).is_some_and(|session| !session.clean);
        if clean || !known || self.script.forgets {
            self.sessions.insert(client_id.to_vec(), Session::new());
        }
        let present = known && !clean && !self.script.forgets;
        let session = self.sessions.get_mut(client_id).expect("it is there or was just made");
        session.clean = clean;
        session.output = Some(output.clone());
        let mut bytes = vec![0x20, 2, u8::from(present), 0];
        bytes.append(&mut session.queue);
        output.write(&bytes);
    }

    /// The connection has ended, unless the client has another one by now.
    pub(super) fn disconnect(&mut self, client_id: &[u8], output: &Output) {
        let Some(session) = self.sessions.get_mut(client_id) else { return };
        if session.output.as_ref().is_some_and(|current| current.is(output)) {
            session.output = None;
            if session.clean {
                self.sessions.remove(client_id);
            }
        }
    }

    /// The codes of SUBACK.
    pub(super) fn subscribe(&mut self, client_id: &[u8], filters: &[(Vec<u8>, u8)]) -> Vec<u8> {
        let session = self.sessions.get_mut(client_id).expect("it is connected");
        if session.number.is_none() {
            session.number = Some(self.subscriber_count);
            self.subscriber_count += 1;
        }
        let granted = self.script.granted;
        session.filters.extend(filters.iter().map(|(filter, _)| filter.clone()));
        filters.iter().map(|&(_, qos)| granted.unwrap_or(qos)).collect()
    }

    pub(super) fn unsubscribe(&mut self, client_id: &[u8], filters: &[(Vec<u8>, u8)]) {
        let session = self.sessions.get_mut(client_id).expect("it is connected");
        session.filters.retain(|filter| filters.iter().all(|(gone, _)| gone != filter));
    }

    /// After SUBACK: what is retained for these filters.
    pub(super) fn send_retained(&mut self, client_id: &[u8], filters: &[(Vec<u8>, u8)]) {
        let due = Instant::now() + self.script.delay;
        let session = self.sessions.get_mut(client_id).expect("it is connected");
        let subscriber = session.number.expect("it has just subscribed");
        for (filter, _) in filters.iter().filter(|(filter, _)| shared(filter).is_none()) {
            for (number, message) in self.retained.values() {
                if matches(filter, &message.topic) {
                    let fate = (self.script.fate)(subscriber, *number);
                    session.deliver(fate, message, due, &self.deliveries);
                }
            }
        }
    }

    /// Number of the message, counted from 0.
    pub(super) fn publish(&mut self, message: &Message) -> usize {
        let number = self.message_count;
        self.message_count += 1;
        self.stall(number);
        self.retain(number, message);
        let message = Message { retain: false, ..message.clone() };
        let due = Instant::now() + self.script.delay;
        let chosen = self.choose(number, &message);
        for session in self.sessions.values_mut() {
            let Some(subscriber) = session.number else { continue };
            let shares = chosen.iter().filter(|&&member| member == subscriber).count();
            let plain = session.filters.iter().filter(|filter| shared(filter).is_none());
            let wants = plain.into_iter().any(|filter| matches(filter, &message.topic));
            for _ in 0..shares + usize::from(wants) {
                let fate = (self.script.fate)(subscriber, number);
                session.deliver(fate, &message, due, &self.deliveries);
            }
        }
        number
    }

    fn stall(&self, number: usize) {
        if let Some((at, pause)) = self.script.stall
            && at == number
        {
            std::thread::sleep(pause);
        }
    }

    fn retain(&mut self, number: usize, message: &Message) {
        if !message.retain {
            return;
        }
        if message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if !self.script.keeps_first_retained || !self.retained.contains_key(&message.topic) {
            self.retained.insert(message.topic.clone(), (number, message.clone()));
        }
    }

    /// The members of all groups that get this message, by subscriber number.
    fn choose(&mut self, number: usize, message: &Message) -> Vec<usize> {
        let mut groups: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for session in self.sessions.values() {
            for filter in &session.filters {
                if let Some((_, plain)) = shared(filter)
                    && matches(plain, &message.topic)
                {
                    groups.entry(filter.clone()).or_default().extend(session.number);
                }
            }
        }
        let mut chosen = Vec::new();
        for (_, mut members) in groups {
            members.sort_unstable();
            for place in (self.script.members)(number, members.len()) {
                chosen.push(members[place]);
            }
        }
        chosen
    }

    pub(super) fn retained_count(&self) -> usize {
        self.retained.len()
    }

    pub(super) fn session_count(&self) -> usize {
        self.sessions.values().filter(|session| !session.clean).count()
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = &Output> {
        let subscribers = self.sessions.values().filter(|session| session.number.is_some());
        subscribers.filter_map(|session| session.output.as_ref())
    }
}

impl Session {
    fn new() -> Self {
        Self {
            clean: false,
            output: None,
            filters: Vec::new(),
            number: None,
            next_packet_id: 1,
            held_back: None,
            queue: Vec::new(),
        }
    }

    fn deliver(&mut self, fate: Fate, message: &Message, due: Instant, to: &Sender<Delivery>) {
        let bytes = self.encode(fate, message);
        match &self.output {
            Some(output) => {
                let delivery = Delivery { due, output: output.clone(), bytes };
                to.send(delivery).expect("the other end lives on");
            }
            None => self.queue.extend_from_slice(&bytes),
        }
    }

    fn encode(&mut self, fate: Fate, message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        let held_back = self.held_back.take();
        match fate {
            Fate::Drop => (),
            Fate::HoldBack => self.held_back = Some(message.clone()),
            Fate::Deliver => self.write(message, false, &mut bytes),
            Fate::Duplicate | Fate::DuplicateMarked => {
                self.write(message, false, &mut bytes);
                self.write(message, fate == Fate::DuplicateMarked, &mut bytes);
            }
            Fate::Retransmit => {
                self.write(message, false, &mut bytes);
                self.next_packet_id -= 1;
                self.write(message, true, &mut bytes);
            }
            Fate::Downgrade => {
                self.write(&Message { qos: 0, ..message.clone() }, false, &mut bytes);
            }
            Fate::Replace => {
                let payload = b"something that another program says to its friends".to_vec();
                self.write(&Message { payload, ..message.clone() }, false, &mut bytes);
            }
        }
        if let Some(late) = held_back {
            self.write(&late, false, &mut bytes);
        }
        bytes
    }

    fn write(&mut self, message: &Message, dup: bool, bytes: &mut Vec<u8>) {
        message.encode(dup, self.next_packet_id, bytes);
        if message.qos > 0 {
            self.next_packet_id = self.next_packet_id % u16::MAX + 1;
        }
    }
}
