//! N shards in one thread, without sockets, channels or a clock: a broker in a bottle.
//!
//! What production does with executors and the mesh happens here in an order that a seed chooses:
//! which shard moves next, which channel delivers, and in what pieces the bytes of a client come.
//! Channels between shards are tiny, so that being full is part of every run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use ringmq::auth::{AuthRequest, Verdict};
use ringmq::config::Limits;
use ringmq::metrics::{AuditError, Counters, Pool};
use ringmq::mqtt::ReasonCode;
use ringmq::routing::{Partition, ShardId};
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Full, Home, Input, Message, Outbox, Output, Shard, home};
use ringmq::storage::{Record, Token};

use crate::peer::Received;

/// Messages that a channel between two shards holds.
const CHANNEL_COUNT_MAX: usize = 2;

pub struct Cluster {
    now: Time,
    limits: Limits,
    partition: Partition,
    shards: Vec<Shard>,
    outputs: Vec<Recorder>,
    clients: Vec<Client>,
    /// Bytes that clients have sent.
    sent_bytes: u64,
    random: u64,
}

/// A client's end of a connection.
#[derive(Default)]
struct Client {
    inbox: Vec<u8>,
    closed: bool,
    /// What was sent before it could be told which shard is the connection's home.
    unplaced: Option<Vec<u8>>,
    ended: bool,
}

/// A broker's end of a connection.
struct Io {
    id: ConnectionId,
    client: usize,
    outbox: Outbox,
    /// Sent by the client and not read yet.
    waiting: Vec<u8>,
    paused: bool,
    closing: bool,
}

/// Everything that leaves one shard.
struct Recorder {
    channels: Vec<VecDeque<Message>>,
    /// Channels that were found full and have not been reported to have room since.
    starved: Vec<bool>,
    connections: Vec<Option<Io>>,
    opened_count: u32,
    persisted: Option<Token>,
    /// A connection whose authentication takes time.
    judging: Option<ConnectionId>,
}

impl Cluster {
    pub fn new(shard_count: usize, limits: Limits, seed: u64) -> Self {
        let partition = Partition::new(shard_count, [seed, 1, 2, 3]);
        let pool = match limits.memory_max {
            Some(limit) => Arc::new(Pool::new(limit, 0)),
            None => Arc::new(Pool::unlimited()),
        };
        let shard = |id| {
            let hasher = RandomState::with_seeds(seed, 4, 5, 6);
            Shard::new(id, partition.clone(), limits, hasher).with_pool(Arc::clone(&pool))
        };
        Self {
            now: Time::START,
            limits,
            shards: partition.shards().map(shard).collect(),
            outputs: partition.shards().map(|_| Recorder::new(shard_count)).collect(),
            partition,
            clients: Vec::new(),
            sent_bytes: 0,
            random: seed | 1,
        }
    }

    /// Opens a connection; the number names it from now on.
    pub fn connect(&mut self) -> usize {
        self.clients.push(Client { unplaced: Some(Vec::new()), ..Client::default() });
        self.clients.len() - 1
    }

    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        self.sent_bytes += bytes.len() as u64;
        if self.clients[client].unplaced.is_some() {
            self.send_unplaced(client, bytes);
        } else if let Some(io) = self.outputs.iter_mut().find_map(|output| output.io_of(client)) {
            io.waiting.extend(bytes);
        }
    }

    /// Ends a connection as a client or the network does. Its shard learns of it some time later,
    /// perhaps after the client's next connection.
    pub fn end(&mut self, client: usize) {
        self.clients[client].ended = true;
    }

    /// An administrator wants a client away.
    pub fn expel(&mut self, client_id: &str) {
        self.settle();
        self.handle(self.partition.home(client_id).index(), Input::Expel { client_id });
    }

    /// Lets the shards work, and time pass if need be, until there is something for the client.
    pub fn receive(&mut self, client: usize, into: &mut Vec<u8>, patience: Duration) -> Received {
        let deadline = self.now + patience;
        loop {
            self.settle();
            let end = &mut self.clients[client];
            if !end.inbox.is_empty() {
                into.append(&mut end.inbox);
                return Received::Bytes;
            }
            if end.closed {
                return Received::Closed;
            }
            if self.now >= deadline {
                return Received::Nothing;
            }
            self.step_towards(deadline);
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, duration: Duration) {
        let deadline = self.now + duration;
        self.settle();
        while self.now < deadline {
            self.step_towards(deadline);
            self.settle();
        }
    }

    /// Whether every shard can account for every delivery and every byte.
    pub fn balance(&mut self) -> Result<(), AuditError> {
        self.settle();
        self.shards.iter().try_for_each(Shard::audit)?;
        let connections =
            self.outputs.iter().flat_map(|output| output.connections.iter().flatten());
        connections.map(|io| &io.outbox).try_for_each(Outbox::audit)
    }

    /// Bytes that all clients have sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// What all shards have counted.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.counters()));
        sum
    }

    /// Goes to the next timeout of any shard, or to the deadline if that is sooner.
    fn step_towards(&mut self, deadline: Time) {
        let timeouts = self.shards.iter().filter_map(Shard::next_timeout);
        self.now = timeouts.min().unwrap_or(deadline).clamp(self.now, deadline);
        for index in 0..self.shards.len() {
            if self.shards[index].next_timeout().is_some_and(|timeout| timeout <= self.now) {
                self.handle(index, Input::Timeout);
            }
        }
    }

    fn handle(&mut self, index: usize, input: Input<'_>) {
        self.shards[index].handle(self.now, input, &mut self.outputs[index]);
    }

    /// Goes on until nothing moves any more.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            let first = self.choose(self.shards.len());
            for offset in 0..self.shards.len() {
                let index = (first + offset) % self.shards.len();
                moved |= self.read(index);
                moved |= self.write(index);
                moved |= self.answer(index);
                moved |= self.go_on(index);
            }
            moved |= self.deliver_one();
            if !moved {
                return;
            }
        }
    }

    /// The server reads a connection's first packet before it knows its home.
    fn send_unplaced(&mut self, client: usize, bytes: &[u8]) {
        let unplaced = self.clients[client].unplaced.as_mut().expect("it has no home yet");
        unplaced.extend(bytes);
        let index = match home(unplaced, self.limits.packet_bytes_max, &self.partition) {
            Home::Undecided => return,
            Home::At(home) => home.index(),
            Home::Anywhere => client % self.shards.len(),
        };
        let waiting = self.clients[client].unplaced.take().expect("it has no home yet");
        let connection = self.outputs[index].open(client, waiting);
        self.handle(index, Input::Opened { connection });
    }

    /// Hands over what clients have sent, in pieces, and that they have gone.
    fn read(&mut self, index: usize) -> bool {
        let mut moved = false;
        for slot in 0..self.outputs[index].connections.len() {
            let cut = self.choose(usize::MAX);
            let Some(io) = &mut self.outputs[index].connections[slot] else { continue };
            if io.paused || io.closing {
                continue;
            }
            let connection = io.id;
            if !io.waiting.is_empty() {
                let count = piece(cut, io.waiting.len());
                let bytes: Vec<u8> = io.waiting.drain(..count).collect();
                self.handle(index, Input::Bytes { connection, bytes: &bytes });
                moved = true;
            } else if self.clients[io.client].ended {
                self.handle(index, Input::Closed { connection });
                self.outputs[index].connections[slot] = None;
                moved = true;
            }
        }
        moved
    }

    /// Takes to the clients what waits in outboxes, perhaps not all at once, and that they were
    /// closed.
    fn write(&mut self, index: usize) -> bool {
        let mut moved = false;
        for slot in 0..self.outputs[index].connections.len() {
            let cut = self.choose(usize::MAX);
            let Some(io) = &mut self.outputs[index].connections[slot] else { continue };
            let (connection, client) = (io.id, &mut self.clients[io.client]);
            if !io.outbox.is_empty() {
                let bytes = io.outbox.front();
                let count = piece(cut, bytes.len());
                client.inbox.extend(&bytes[..count]);
                io.outbox.consume(count);
                moved = true;
            } else if io.closing {
                client.closed = true;
                self.outputs[index].connections[slot] = None;
                moved = true;
            } else if io.outbox.take_drained() {
                self.handle(index, Input::Drained { connection });
                moved = true;
            }
        }
        moved
    }

    /// What takes time is done: storage holds what it was given, a client is let in.
    fn answer(&mut self, index: usize) -> bool {
        if let Some(connection) = self.outputs[index].judging.take() {
            let verdict = Verdict::Allow(Vec::new());
            self.handle(index, Input::Authenticated { connection, verdict });
            return true;
        }
        let Some(token) = self.outputs[index].persisted.take() else { return false };
        self.handle(index, Input::Persisted { token });
        true
    }

    /// More of what was too much for one turn.
    fn go_on(&mut self, index: usize) -> bool {
        let more = self.shards[index].end_turn();
        if more {
            self.handle(index, Input::Continue);
        }
        more
    }

    /// Delivers one message of one channel, wherever the seed says.
    fn deliver_one(&mut self) -> bool {
        let count = self.shards.len();
        let first = self.choose(count * count);
        for offset in 0..count * count {
            let pair = (first + offset) % (count * count);
            let (from, to) = (pair / count, pair % count);
            let Some(message) = self.outputs[from].channels[to].pop_front() else { continue };
            self.handle(to, Input::Message { from: ShardId::from_index(from), message });
            if std::mem::take(&mut self.outputs[from].starved[to]) {
                self.handle(from, Input::Room { to: ShardId::from_index(to) });
            }
            return true;
        }
        false
    }

    /// xorshift: a number below this one.
    fn choose(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % below
    }
}

/// Everything or, as often, some of it.
fn piece(cut: usize, length: usize) -> usize {
    if cut & 1 == 0 { length } else { cut % length + 1 }
}

impl Recorder {
    fn new(shard_count: usize) -> Self {
        Self {
            channels: (0..shard_count).map(|_| VecDeque::new()).collect(),
            starved: vec![false; shard_count],
            connections: Vec::new(),
            opened_count: 0,
            persisted: None,
            judging: None,
        }
    }

    /// A place that was free is used again, as in production.
    fn open(&mut self, client: usize, waiting: Vec<u8>) -> ConnectionId {
        let free = self.connections.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.opened_count += 1;
        let id = ConnectionId { index: index as u32, generation: self.opened_count };
        let outbox = Outbox::default();
        let io = Io { id, client, outbox, waiting, paused: false, closing: false };
        self.connections[index] = Some(io);
        id
    }

    fn io_of(&mut self, client: usize) -> Option<&mut Io> {
        self.connections.iter_mut().flatten().find(|io| io.client == client)
    }

    fn io(&mut self, id: ConnectionId) -> &mut Io {
        let io =
            self.connections[id.index as usize].as_mut().expect("the shard knows who is there");
        assert_eq!(io.id, id, "the shard confuses connections");
        io
    }
}

impl Output for Recorder {
    fn send(&mut self, to: ShardId, message: Message) -> Result<(), Full> {
        let channel = &mut self.channels[to.index()];
        if channel.len() >= CHANNEL_COUNT_MAX {
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

    fn pause(&mut self, connection: ConnectionId, paused: bool) {
        self.io(connection).paused = paused;
    }

    fn persist(&mut self, _: &Record<'_>, token: Token) {
        assert!(self.persisted < Some(token), "tokens do not ascend");
        self.persisted = Some(token);
    }

    /// Knows two methods. `echo` asks for a word, unless CONNECT has said it, and takes none but
    /// the one it said itself; `late` takes its time and then allows.
    fn authenticate(&mut self, connection: ConnectionId, request: &AuthRequest<'_>) -> Verdict {
        match (request.method, request.data) {
            (None, _) => Verdict::Allow(Vec::new()),
            (Some("echo"), None) => Verdict::Challenge(b"word".to_vec()),
            (Some("echo"), Some(b"word")) => Verdict::Allow(b"thanks".to_vec()),
            (Some("echo"), Some(_)) => Verdict::Refuse(ReasonCode::NotAuthorized),
            (Some("late"), _) => {
                self.judging = Some(connection);
                Verdict::Pending
            }
            (Some(_), _) => Verdict::Refuse(ReasonCode::BadAuthenticationMethod),
        }
    }

    fn close(&mut self, connection: ConnectionId, _: ReasonCode) {
        self.io(connection).closing = true;
    }
}
