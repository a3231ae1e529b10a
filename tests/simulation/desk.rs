//! Everything that leaves one shard, kept until the network takes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq::auth::{AuthRequest, Verdict};
use ringmq::mqtt::ReasonCode;
use ringmq::routing::ShardId;
use ringmq::shard::{ConnectionId, Full, Message, Outbox, Output, Standing};
use ringmq::storage::{Record, Token};

use crate::life::number_of;
use harness::random::Random;

/// A broker's end of a connection.
pub(crate) struct Io {
    pub(crate) id: ConnectionId,
    pub(crate) pipe: usize,
    name: String,
    pub(crate) outbox: Outbox,
    pub(crate) paused: bool,
    pub(crate) closing: bool,
    /// The end was reported.
    pub(crate) told: bool,
    /// The shard waits to hear that it was given all that has been sent.
    pub(crate) settling: bool,
    /// The peer has reset it, whether or not the shard knows.
    pub(crate) is_broken: bool,
}

/// What storage was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stored {
    /// A delivery of a message to a client.
    Held {
        client: String,
        message: usize,
    },
    Retained {
        message: usize,
    },
    Subscribed {
        client: String,
        filter: String,
    },
    Other,
}

/// What would be there after a restart: all that storage was ever told, one after the other.
#[derive(Default)]
pub(crate) struct Kept {
    /// The filters of each session that stays.
    pub(crate) sessions: BTreeMap<String, BTreeSet<String>>,
    /// The message of each topic that has one.
    pub(crate) retained: BTreeMap<String, usize>,
}

impl Kept {
    /// Takes one record, which has to fit to those before it.
    fn take(&mut self, record: &Record<'_>) {
        match record {
            Record::SessionBegun { client_id } => {
                let before = self.sessions.insert((*client_id).to_owned(), BTreeSet::new());
                assert!(before.is_none(), "storage: {client_id} begins before its session ended");
            }
            Record::SessionEnded { client_id } => {
                let before = self.sessions.remove(*client_id);
                assert!(before.is_some(), "storage: {client_id} ends and has not begun");
            }
            Record::Subscribed { client_id, filter, .. } => {
                self.filters(client_id).insert((*filter).to_owned());
            }
            Record::Unsubscribed { client_id, filter } => {
                let was_there = self.filters(client_id).remove(*filter);
                assert!(was_there, "storage: {client_id} did not subscribe to {filter}");
            }
            Record::Held { client_id, .. } => _ = self.filters(client_id),
            Record::Retained { publish } => {
                let topic = publish.topic.as_str();
                match number_of(publish.payload) {
                    Some(message) => _ = self.retained.insert(topic.to_owned(), message),
                    None => _ = self.retained.remove(topic),
                }
            }
        }
    }

    fn filters(&mut self, client_id: &str) -> &mut BTreeSet<String> {
        let filters = self.sessions.get_mut(client_id);
        filters.unwrap_or_else(|| panic!("storage: {client_id} has no session there"))
    }
}

/// Filled by a shard as production's sockets and channels are.
pub(crate) struct Desk {
    pub(crate) channels: Vec<VecDeque<Message>>,
    channel_count_max: usize,
    /// Channels that were found full and of which nothing was taken since.
    pub(crate) starved: Vec<bool>,
    /// Channels that have room again, which the shard was not told yet.
    pub(crate) room: Vec<bool>,
    pub(crate) connections: Vec<Option<Io>>,
    opened_count: u32,
    /// In order, not confirmed.
    pub(crate) stored: VecDeque<(Token, Stored)>,
    last: Token,
    pub(crate) kept: Kept,
    /// Clients that were given a message while they had no connection.
    pub(crate) given_offline: Vec<(String, usize)>,
    /// Connections that will be told this.
    judging: Vec<(ConnectionId, Verdict)>,
    judged_count: u32,
    /// What a client was asked and has not answered.
    challenges: BTreeMap<u32, Vec<u8>>,
    /// For the trace.
    pub(crate) judged: Vec<(ConnectionId, bool)>,
}

impl Desk {
    pub(crate) fn new(shard_count: usize, channel_count_max: usize) -> Self {
        Self {
            channels: (0..shard_count).map(|_| VecDeque::new()).collect(),
            channel_count_max,
            starved: vec![false; shard_count],
            room: vec![false; shard_count],
            connections: Vec::new(),
            opened_count: 0,
            stored: VecDeque::new(),
            last: Token::default(),
            kept: Kept::default(),
            given_offline: Vec::new(),
            judging: Vec::new(),
            judged_count: 0,
            challenges: BTreeMap::new(),
            judged: Vec::new(),
        }
    }

    /// A place that was free is used again, as in production.
    pub(crate) fn open(&mut self, pipe: usize, name: &str) -> (usize, ConnectionId) {
        let free = self.connections.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.opened_count += 1;
        let index = u32::try_from(slot).expect("few connections");
        let id = ConnectionId { index, generation: self.opened_count };
        let outbox = Outbox::default();
        let name = name.to_owned();
        let io = Io {
            id,
            pipe,
            name,
            outbox,
            paused: false,
            closing: false,
            told: false,
            settling: false,
            is_broken: false,
        };
        self.connections[slot] = Some(io);
        (slot, id)
    }

    /// The peer of a connection resets it.
    pub(crate) fn break_off(&mut self, slot: usize) {
        self.connections[slot].as_mut().expect("it is not over").is_broken = true;
    }

    /// A connection that waits to be judged, with what it is told; whichever it is.
    pub(crate) fn take_judging(&mut self, random: &mut Random) -> Option<(ConnectionId, Verdict)> {
        let count = self.judging.len();
        (count > 0).then(|| self.judging.swap_remove(random.below(count)))
    }

    /// Who names a method is asked something once, and has to repeat it.
    fn judge(&mut self, connection: ConnectionId, request: &AuthRequest<'_>) -> Verdict {
        if request.method.is_none() {
            return Verdict::Allow(Vec::new());
        }
        let key = connection.generation; // No other connection of this shard has it.
        if let Some(challenge) = self.challenges.remove(&key) {
            assert_eq!(request.data, Some(&*challenge), "{} is confused", request.client_id);
            return Verdict::Allow(challenge);
        }
        let challenge = format!("{} {}", request.client_id, self.judged_count).into_bytes();
        self.challenges.insert(key, challenge.clone());
        Verdict::Challenge(challenge)
    }

    fn has_connection(&self, name: &str) -> bool {
        self.connections.iter().flatten().any(|io| io.name == name && !io.closing)
    }

    fn io(&mut self, id: ConnectionId) -> &mut Io {
        let io = self.connections[id.index as usize].as_mut();
        let io = io.expect("the shard knows which connections there are");
        assert_eq!(io.id, id, "the shard confuses connections");
        io
    }
}

impl Output for Desk {
    fn send(&mut self, to: ShardId, message: Message) -> Result<(), Full> {
        let channel = &mut self.channels[to.index()];
        if channel.len() >= self.channel_count_max {
            self.starved[to.index()] = true;
            return Err(Full(message));
        }
        channel.push_back(message);
        Ok(())
    }

    fn outbox(&mut self, connection: ConnectionId) -> &mut Outbox {
        let io = self.io(connection);
        assert!(!io.closing, "the shard writes to a connection that it has closed");
        &mut io.outbox
    }

    fn settle(&mut self, connection: ConnectionId) -> bool {
        self.io(connection).settling = true;
        false
    }

    /// Connections are numbered as they are opened, whoever is let in first.
    fn standing(&mut self, claimant: ConnectionId, holder: ConnectionId) -> Standing {
        let io = self.io(claimant);
        match (io.is_broken, io.pipe) {
            (true, _) => Standing::Broken,
            (false, pipe) if pipe > self.io(holder).pipe => Standing::Newer,
            _ => Standing::Older,
        }
    }

    fn pause(&mut self, connection: ConnectionId, paused: bool) {
        self.io(connection).paused = paused;
    }

    fn persist(&mut self, record: &Record<'_>, token: Token) {
        assert!(self.last < token, "tokens do not ascend");
        self.last = token;
        self.kept.take(record);
        if let Record::Held { client_id, publish, .. } = record
            && let Some(message) = number_of(publish.payload)
            && !self.has_connection(client_id)
        {
            self.given_offline.push(((*client_id).to_owned(), message));
        }
        let what = match record {
            Record::Held { client_id, publish, .. } => match number_of(publish.payload) {
                Some(message) => Stored::Held { client: (*client_id).to_owned(), message },
                None => Stored::Other,
            },
            Record::Retained { publish } => match number_of(publish.payload) {
                Some(message) => Stored::Retained { message },
                None => Stored::Other,
            },
            Record::Subscribed { client_id, filter, .. } => {
                Stored::Subscribed { client: (*client_id).to_owned(), filter: (*filter).to_owned() }
            }
            _ => Stored::Other,
        };
        self.stored.push_back((token, what));
    }

    /// One in four takes time.
    fn authenticate(&mut self, connection: ConnectionId, request: &AuthRequest<'_>) -> Verdict {
        self.judged_count += 1;
        let at_once = !self.judged_count.is_multiple_of(4);
        self.judged.push((connection, at_once));
        let verdict = self.judge(connection, request);
        if at_once {
            return verdict;
        }
        self.judging.push((connection, verdict));
        Verdict::Pending
    }

    fn close(&mut self, connection: ConnectionId, _: ReasonCode) {
        self.io(connection).closing = true;
    }
}
