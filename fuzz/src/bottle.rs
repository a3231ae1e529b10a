//! Several shards in one thread: everything between them, and between them and their clients,
//! moves only when it is told to. What a shard may rely on in production is asserted here, and
//! every client reads what it is sent with a decoder that was written apart.

use std::collections::VecDeque;

use ahash::RandomState;
use ringmq::auth::{AuthRequest, Verdict};
use ringmq::config::Limits;
use ringmq::metrics::Counters;
use ringmq::mqtt::{self, Packet, ReasonCode, Version};
use ringmq::routing::{Partition, ShardId};
use ringmq::session::Time;
use ringmq::shard::{
    ConnectionId, Full, Home, Input, Message, Outbox, Output, Shard, Slices, home,
};
use ringmq::storage::{Record, Token};

use super::end::End;

/// Messages that a channel between two shards holds.
const CHANNEL_COUNT_MAX: usize = 3;
/// Few clients are too many at once.
const SLICES: Slices = Slices {
    subscriber_count: 1,
    delivery_count: 3,
    put_off_count_max: 4,
    put_off_bytes_max: 1000,
    put_off_of_one_max: 2,
    match_count: 3,
    input_units: 30,
    turn_units: 1000,
};
/// Rounds in which something still moves before it is called endless.
const ROUNDS_MAX: usize = 100_000;
/// As many bytes as there are.
pub(crate) const ALL: usize = usize::MAX;

pub(crate) struct Bottle {
    now: Time,
    limits: Limits,
    partition: Partition,
    shards: Vec<Shard>,
    hands: Vec<Hands>,
    ends: Vec<End>,
}

/// The broker's end of one connection.
struct Io {
    id: ConnectionId,
    end: usize,
    outbox: Outbox,
    paused: bool,
    closing: bool,
}

/// Everything that leaves one shard.
struct Hands {
    channels: Vec<VecDeque<Message>>,
    /// Channels that were found full and were not reported to have room since.
    starved: Vec<bool>,
    connections: Vec<Option<Io>>,
    opened_count: u32,
    persisted: Option<Token>,
    last_token: Option<Token>,
    judging: VecDeque<ConnectionId>,
}

impl Bottle {
    pub(crate) fn new(shard_count: usize, limits: Limits, seed: u64) -> Self {
        let partition = Partition::new(shard_count, [seed, 1, 2, 3]);
        let hasher = RandomState::with_seeds(seed, 4, 5, 6);
        let shard =
            |id| Shard::new(id, partition.clone(), limits, hasher.clone()).with_slices(SLICES);
        Self {
            now: Time::START,
            limits,
            shards: partition.shards().map(shard).collect(),
            hands: partition.shards().map(|_| Hands::new(shard_count)).collect(),
            partition,
            ends: Vec::new(),
        }
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn end_count(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn open(&mut self) -> usize {
        self.ends.push(End::default());
        self.ends.len() - 1
    }

    /// The version in which a client speaks.
    pub(crate) fn version(&self, end: usize) -> Version {
        self.ends[end].version()
    }

    /// Sends bytes of a client; the broker reads them later.
    pub(crate) fn send(&mut self, end: usize, bytes: &[u8]) {
        let client = &mut self.ends[end];
        if client.gone || client.closed {
            return;
        }
        client.send(bytes);
        if client.home.is_none() {
            self.place(end);
        }
    }

    /// The client is gone; the broker learns of it once it has read everything.
    pub(crate) fn hang_up(&mut self, end: usize) {
        self.ends[end].gone = true;
    }

    /// The server reads the first packet before it knows the connection's home.
    fn place(&mut self, end: usize) {
        let client = &mut self.ends[end];
        let home = match home(&client.way, self.limits.packet_bytes_max, &self.partition) {
            Home::Undecided => return,
            Home::At(home) => home.index(),
            Home::Anywhere => end % self.shards.len(),
        };
        client.packet_bytes_max = taken_bytes_max(&client.way, self.limits.packet_bytes_max);
        client.home = Some(home);
        let connection = self.hands[home].open(end);
        self.handle(home, Input::Opened { connection });
        let bytes = std::mem::take(&mut self.ends[end].way);
        self.handle(home, Input::Bytes { connection, bytes: &bytes });
    }

    /// The broker reads so many bytes of what a client has sent, or that it is gone.
    pub(crate) fn read(&mut self, end: usize, count: usize) -> bool {
        let Some((home, io)) = self.io_of(end) else { return false };
        if io.paused || io.closing {
            return false;
        }
        let connection = io.id;
        let client = &mut self.ends[end];
        if !client.way.is_empty() {
            let count = count.min(client.way.len());
            let bytes: Vec<u8> = client.way.drain(..count).collect();
            self.handle(home, Input::Bytes { connection, bytes: &bytes });
            return count > 0;
        }
        if client.gone {
            self.handle(home, Input::Closed { connection });
            self.hands[home].connections[connection.index as usize] = None;
            return true;
        }
        false
    }

    /// The client takes so many bytes, or learns that it was closed.
    pub(crate) fn write(&mut self, end: usize, mut count: usize) -> bool {
        let Some((home, io)) = self.io_of(end) else { return false };
        let connection = io.id;
        let mut taken = Vec::new();
        while count > 0 && !io.outbox.is_empty() {
            let bytes = io.outbox.front();
            let piece = count.min(bytes.len());
            taken.extend(&bytes[..piece]);
            io.outbox.consume(piece);
            count -= piece;
        }
        let (is_over, is_drained) =
            (io.closing && io.outbox.is_empty(), !io.closing && io.outbox.take_drained());
        self.ends[end].take(&taken);
        if is_over {
            self.hands[home].connections[connection.index as usize] = None;
            self.ends[end].close();
        }
        if is_drained {
            self.handle(home, Input::Drained { connection });
        }
        !taken.is_empty() || is_over || is_drained
    }

    /// The packets that came to a client since it was asked last.
    pub(crate) fn received(&mut self, end: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.ends[end].packets)
    }

    /// The peer takes no more for now.
    pub(crate) fn block(&mut self, end: usize) {
        let Some((home, io)) = self.io_of(end) else { return };
        if !io.closing && !io.outbox.is_empty() {
            let connection = io.id;
            self.handle(home, Input::Blocked { connection });
        }
    }

    /// Delivers the oldest message of one channel.
    pub(crate) fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(message) = self.hands[from].channels[to].pop_front() else { return false };
        self.handle(to, Input::Message { from: ShardId::from_index(from), message });
        true
    }

    /// Tells a shard that a channel has room: if it had none, or in error, as it happens.
    pub(crate) fn make_room(&mut self, from: usize, to: usize) -> bool {
        let was_starved = std::mem::take(&mut self.hands[from].starved[to]);
        self.handle(from, Input::Room { to: ShardId::from_index(to) });
        was_starved
    }

    pub(crate) fn expel(&mut self, client_id: &str) {
        let home = self.partition.home(client_id).index();
        self.handle(home, Input::Expel { client_id });
    }

    /// Storage has got as far as it was given records.
    pub(crate) fn persist(&mut self, shard: usize) -> bool {
        let Some(token) = self.hands[shard].persisted.take() else { return false };
        self.handle(shard, Input::Persisted { token });
        true
    }

    /// A shard goes on with what it has put off.
    pub(crate) fn go_on(&mut self, shard: usize) -> bool {
        let more = self.shards[shard].end_turn();
        if more {
            self.handle(shard, Input::Continue);
        }
        more
    }

    /// A client is let in, or not; it may be gone by now.
    pub(crate) fn judge(&mut self, shard: usize, is_allowed: bool) -> bool {
        let Some(connection) = self.hands[shard].judging.pop_front() else { return false };
        let verdict = if is_allowed {
            Verdict::Allow(Vec::new())
        } else {
            Verdict::Refuse(ReasonCode::NotAuthorized)
        };
        self.handle(shard, Input::Authenticated { connection, verdict });
        true
    }

    /// Lets time pass from timeout to timeout, or all at once as on a machine that was asleep.
    pub(crate) fn pass(&mut self, ms: u64, is_asleep: bool) {
        let until = Time::from_ms(self.now.ms().saturating_add(ms));
        for _ in 0..1000 {
            let next = self.shards.iter().filter_map(Shard::next_timeout).min();
            match next.filter(|next| *next <= until && !is_asleep) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
            self.time_out();
        }
        self.now = until;
        self.time_out();
    }

    fn time_out(&mut self) {
        for index in 0..self.shards.len() {
            if self.shards[index].next_timeout().is_some_and(|next| next <= self.now) {
                self.handle(index, Input::Timeout);
            }
        }
    }

    /// Everybody reads, writes, delivers and answers until nothing moves any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for end in 0..self.ends.len() {
                moved |= self.read(end, ALL);
                moved |= self.write(end, ALL);
            }
            for from in 0..self.shards.len() {
                moved |= self.persist(from) | self.judge(from, true) | self.go_on(from);
                for to in 0..self.shards.len() {
                    moved |= self.deliver(from, to);
                    if self.hands[from].starved[to] && self.hands[from].channels[to].is_empty() {
                        moved |= self.make_room(from, to);
                    }
                }
            }
            if !moved {
                return;
            }
        }
        panic!("something moves for ever");
    }

    pub(crate) fn shut_down(&mut self) {
        for index in 0..self.shards.len() {
            self.handle(index, Input::Shutdown);
        }
    }

    /// Whether every delivery and every byte is accounted for, in every shard.
    pub(crate) fn audit(&self) {
        for shard in &self.shards {
            if let Err(error) = shard.audit() {
                panic!("shard {}: {error}: {:?}", shard.id(), shard.counters().ledger);
            }
        }
        for io in self.hands.iter().flat_map(|hands| hands.connections.iter().flatten()) {
            io.outbox.audit().expect("bytes that wait are bytes that were charged");
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.counters()));
        sum
    }

    fn io_of(&mut self, end: usize) -> Option<(usize, &mut Io)> {
        let home = self.ends[end].home?;
        let io = self.hands[home].connections.iter_mut().flatten().find(|io| io.end == end)?;
        Some((home, io))
    }

    fn handle(&mut self, index: usize, input: Input<'_>) {
        self.shards[index].handle(self.now, input, &mut self.hands[index]);
    }
}

/// Returns the size of the largest packet that a client takes, as its CONNECT says if that is read.
fn taken_bytes_max(bytes: &[u8], packet_bytes_max: usize) -> usize {
    let Ok(Some((frame, _))) = mqtt::split(bytes, packet_bytes_max) else { return ALL };
    let Ok(Packet::Connect(connect)) = Packet::decode(frame, Version::V311) else { return ALL };
    connect.properties.maximum_packet_size().map_or(ALL, |max| max as usize)
}

impl Hands {
    fn new(shard_count: usize) -> Self {
        Self {
            channels: (0..shard_count).map(|_| VecDeque::new()).collect(),
            starved: vec![false; shard_count],
            connections: Vec::new(),
            opened_count: 0,
            persisted: None,
            last_token: None,
            judging: VecDeque::new(),
        }
    }

    /// A place that was free is used again, as in production.
    fn open(&mut self, end: usize) -> ConnectionId {
        let free = self.connections.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.opened_count += 1;
        let id = ConnectionId { index: index as u32, generation: self.opened_count };
        let io = Io { id, end, outbox: Outbox::default(), paused: false, closing: false };
        self.connections[index] = Some(io);
        id
    }

    fn io(&mut self, id: ConnectionId) -> &mut Io {
        let io = self.connections[id.index as usize].as_mut();
        let io = io.expect("the shard knows which connections there are");
        assert_eq!(io.id, id, "the shard confuses connections");
        assert!(!io.closing, "the shard has closed this connection");
        io
    }
}

impl Output for Hands {
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
        &mut self.io(connection).outbox
    }

    fn pause(&mut self, connection: ConnectionId, paused: bool) {
        self.io(connection).paused = paused;
    }

    fn persist(&mut self, _: &Record<'_>, token: Token) {
        assert!(self.last_token < Some(token), "tokens do not ascend");
        self.last_token = Some(token);
        self.persisted = Some(token);
    }

    /// Knows two methods: `echo` asks for a word, `late` takes its time.
    fn authenticate(&mut self, connection: ConnectionId, request: &AuthRequest<'_>) -> Verdict {
        match (request.method, request.data) {
            (None, _) => Verdict::Allow(Vec::new()),
            (Some("echo"), None) => Verdict::Challenge(b"word".to_vec()),
            (Some("echo"), Some(b"word")) => Verdict::Allow(b"thanks".to_vec()),
            (Some("late"), _) => {
                self.judging.push_back(connection);
                Verdict::Pending
            }
            (Some(_), _) => Verdict::Refuse(ReasonCode::BadAuthenticationMethod),
        }
    }

    fn close(&mut self, connection: ConnectionId, _: ReasonCode) {
        self.io(connection).closing = true;
    }
}
