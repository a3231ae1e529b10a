//! The way out of a shard: everything that leaves it is kept until the harness moves it on. What a
//! shard may never do to its surroundings is asserted here.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use ringmq::auth::{AuthRequest, Verdict};
use ringmq::mqtt::ReasonCode;
use ringmq::routing::ShardId;
use ringmq::shard::{ConnectionId, Full, Message, Outbox, Output, Standing};
use ringmq::storage::{Record, Token};

use crate::world::{Judgement, World};

/// The broker's end of a connection.
pub struct Connection {
    pub id: ConnectionId,
    /// The client's end.
    pub end: usize,
    /// Connections whose first byte was sent later have a larger one.
    order: u64,
    pub outbox: Outbox,
    pub is_paused: bool,
    /// The shard has closed it.
    pub is_closing: bool,
    /// The peer has reset it, whether or not the shard knows.
    pub is_broken: bool,
}

/// Messages from one shard to another one.
#[derive(Default)]
pub struct Channel {
    pub messages: VecDeque<Message>,
    /// It was found full, and nothing was taken since.
    is_starved: bool,
    /// It has room again, and the shard was not told yet.
    pub has_room: bool,
}

impl Channel {
    pub(crate) fn take(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.has_room |= std::mem::take(&mut self.is_starved);
        Some(message)
    }
}

/// Everything that has left one shard; `N` is what is noted of a record.
pub struct Desk<N> {
    pub shard: usize,
    /// One to each shard.
    pub channels: Vec<Channel>,
    channel_count_max: usize,
    pub connections: Vec<Option<Connection>>,
    /// Places of `connections` that are free.
    free: BinaryHeap<Reverse<usize>>,
    opened_count: u32,
    /// Ends of connections that the shard has closed; whether they are over is not known here.
    pub(crate) closed: Vec<usize>,
    /// Places of connections of which the shard waits to be given all that was sent.
    settling: BTreeSet<usize>,
    /// What storage was given and has not confirmed, in order.
    pub stored: VecDeque<(Token, N)>,
    last_token: Token,
    /// Connections that will be told this.
    pub judging: Vec<(ConnectionId, Verdict)>,
}

impl<N> Desk<N> {
    pub(crate) fn new(shard: usize, shard_count: usize, channel_count_max: usize) -> Self {
        Self {
            shard,
            channels: (0..shard_count).map(|_| Channel::default()).collect(),
            channel_count_max,
            connections: Vec::new(),
            free: BinaryHeap::new(),
            opened_count: 0,
            closed: Vec::new(),
            settling: BTreeSet::new(),
            stored: VecDeque::new(),
            last_token: Token::default(),
            judging: Vec::new(),
        }
    }

    pub(crate) fn reserve(&mut self, connection_count: usize) {
        const WAITING_COUNT: usize = 16;
        self.connections.reserve(connection_count);
        self.free.reserve(connection_count);
        self.closed.reserve(WAITING_COUNT);
        self.stored.reserve(connection_count);
        self.judging.reserve(WAITING_COUNT);
        self.channels.iter_mut().for_each(|channel| channel.messages.reserve(WAITING_COUNT));
    }

    /// Opens a connection; a place that was free is used again, as in production.
    pub(crate) fn open(&mut self, end: usize, order: u64) -> (usize, ConnectionId) {
        let slot = self.free.pop().map_or(self.connections.len(), |Reverse(slot)| slot);
        if slot == self.connections.len() {
            self.connections.push(None);
        }
        self.opened_count += 1;
        let index = u32::try_from(slot).expect("few connections");
        let id = ConnectionId { index, generation: self.opened_count };
        let (is_paused, is_closing, is_broken) = (false, false, false);
        let outbox = Outbox::default();
        let connection = Connection { id, end, order, outbox, is_paused, is_closing, is_broken };
        self.connections[slot] = Some(connection);
        (slot, id)
    }

    /// Frees the place of a connection that is over.
    pub(crate) fn free(&mut self, slot: usize) {
        self.connections[slot] = None;
        self.settling.remove(&slot);
        self.free.push(Reverse(slot));
    }

    /// Returns a connection that the shard waits to have read, and forgets that it does.
    pub fn take_settling(&mut self) -> Option<(ConnectionId, usize)> {
        let connection = |slot: &usize| self.connections[*slot].as_ref();
        let mut waiting = self.settling.iter().filter_map(connection);
        let Connection { id, end, .. } = *waiting.find(|connection| !connection.is_closing)?;
        self.settling.remove(&(id.index as usize));
        Some((id, end))
    }

    /// Returns the connection with this name, if the shard has not closed it.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<&Connection> {
        let connection = self.connections[id.index as usize].as_ref()?;
        (connection.id == id && !connection.is_closing).then_some(connection)
    }

    fn connection(&mut self, id: ConnectionId) -> &mut Connection {
        let connection = self.connections[id.index as usize].as_mut();
        let connection = connection.expect("the shard knows which connections there are");
        assert_eq!(connection.id, id, "the shard confuses connections");
        assert!(!connection.is_closing, "the shard has closed this connection");
        connection
    }
}

/// What a shard sees as its way out.
pub(crate) struct Exit<'a, W: World> {
    pub(crate) desk: &'a mut Desk<W::Note>,
    pub(crate) world: &'a mut W,
}

impl<W: World> Output for Exit<'_, W> {
    fn send(&mut self, to: ShardId, message: Message) -> Result<(), Full> {
        let channel = &mut self.desk.channels[to.index()];
        if channel.messages.len() >= self.desk.channel_count_max {
            channel.is_starved = true;
            return Err(Full(message));
        }
        channel.messages.push_back(message);
        Ok(())
    }

    fn outbox(&mut self, connection: ConnectionId) -> &mut Outbox {
        &mut self.desk.connection(connection).outbox
    }

    fn settle(&mut self, connection: ConnectionId) -> bool {
        let index = self.desk.connection(connection).id.index;
        self.desk.settling.insert(index as usize);
        false
    }

    fn standing(&mut self, claimant: ConnectionId, holder: ConnectionId) -> Standing {
        let Connection { is_broken, order, .. } = *self.desk.connection(claimant);
        match is_broken {
            true => Standing::Broken,
            false if order > self.desk.connection(holder).order => Standing::Newer,
            false => Standing::Older,
        }
    }

    fn pause(&mut self, connection: ConnectionId, paused: bool) {
        self.desk.connection(connection).is_paused = paused;
    }

    fn persist(&mut self, record: &Record<'_>, token: Token) {
        assert!(self.desk.last_token < token, "tokens do not ascend");
        self.desk.last_token = token;
        let note = self.world.persist(record, self.desk);
        self.desk.stored.push_back((token, note));
    }

    fn authenticate(&mut self, connection: ConnectionId, request: &AuthRequest<'_>) -> Verdict {
        match self.world.authenticate(self.desk.shard, connection, request) {
            Judgement::AtOnce(verdict) => verdict,
            Judgement::Later(verdict) => {
                self.desk.judging.push((connection, verdict));
                Verdict::Pending
            }
        }
    }

    fn close(&mut self, connection: ConnectionId, _: ReasonCode) {
        let connection = self.desk.connection(connection);
        connection.is_closing = true;
        let end = connection.end;
        self.desk.closed.push(end);
    }
}

/// What is asserted here can fail.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Plain;

    const RECORD: Record<'_> = Record::SessionEnded { client_id: "a" };

    fn desk() -> Desk<()> {
        Desk::new(0, 2, 1)
    }

    fn exit<'a>(desk: &'a mut Desk<()>, world: &'a mut Plain) -> Exit<'a, Plain> {
        Exit { desk, world }
    }

    #[test]
    fn a_channel_that_was_full_has_room_once_something_was_taken() {
        let (mut desk, to) = (desk(), ShardId::from_index(1));
        let send =
            |desk: &mut Desk<()>| exit(desk, &mut Plain).send(to, Message::Credit { units: 1 });
        assert!(send(&mut desk).is_ok() && send(&mut desk).is_err());
        assert!(!desk.channels[1].has_room);
        assert!(desk.channels[1].take().is_some() && desk.channels[1].has_room);
    }

    #[test]
    fn the_first_place_that_is_free_is_used_again_under_a_new_name() {
        let mut desk = desk();
        let ids: Vec<ConnectionId> = (0..3).map(|end| desk.open(end, 1).1).collect();
        desk.free(1);
        desk.free(0);
        let (slot, id) = desk.open(3, 1);
        assert_eq!((slot, id.index), (0, 0));
        assert_ne!(id, ids[0]);
        assert!(desk.find(ids[0]).is_none() && desk.find(id).is_some());
    }

    #[test]
    #[should_panic = "the shard has closed this connection"]
    fn a_connection_that_is_closed_takes_nothing() {
        let mut desk = desk();
        let (_, id) = desk.open(0, 1);
        exit(&mut desk, &mut Plain).close(id, ReasonCode::Success);
        exit(&mut desk, &mut Plain).outbox(id);
    }

    #[test]
    #[should_panic = "the shard confuses connections"]
    fn a_name_that_is_stale_is_refused() {
        let mut desk = desk();
        let (slot, id) = desk.open(0, 1);
        desk.free(slot);
        desk.open(1, 1);
        exit(&mut desk, &mut Plain).pause(id, true);
    }

    #[test]
    #[should_panic = "tokens do not ascend"]
    fn tokens_ascend() {
        let mut desk = desk();
        exit(&mut desk, &mut Plain).persist(&RECORD, Token::default());
    }
}
