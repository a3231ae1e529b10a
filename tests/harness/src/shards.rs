//! N shards in one thread, without sockets, channels or a clock. Everything between them, and
//! between them and their clients, moves only when it is told to: each verb of [`Harness`] does one
//! thing that executors, the mesh, the network or storage do in production.

use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use ringmq::config::Limits;
use ringmq::metrics::{AuditError, Counters, Pool};
use ringmq::routing::{Partition, ShardId};
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Home, Input, Outbox, Shard, Slices, home};

use crate::desk::{Connection, Desk, Exit};
use crate::world::World;

/// As many bytes or records as there are.
pub const ALL: usize = usize::MAX;

/// A client's end of a connection.
#[derive(Default)]
pub struct End {
    /// Sent by the client and not read yet.
    pub way: Vec<u8>,
    /// Read before it could be told where the connection goes.
    unplaced: Vec<u8>,
    /// The shard of the connection, and its place there.
    home: Option<(usize, usize)>,
    /// Ends that have sent something later have a larger one.
    order: u64,
    /// What has come from the broker.
    pub inbox: Vec<u8>,
    /// The client has gone; the broker learns of it once it has read everything.
    pub is_gone: bool,
    /// The broker has closed the connection, and everything before that has come.
    pub is_closed: bool,
    /// The broker has no part in the connection any more.
    pub is_over: bool,
}

/// Shards, and everything around them.
pub struct Harness<W: World> {
    pub now: Time,
    pub world: W,
    pub partition: Partition,
    limits: Limits,
    pub shards: Vec<Shard>,
    pub desks: Vec<Desk<W::Note>>,
    pub ends: Vec<End>,
    /// Ends that have sent something.
    order: u64,
    /// Whether each shard is asked to account for everything after each input.
    pub audits: bool,
}

impl<W: World> Harness<W> {
    /// Makes shards whose hashes depend on `seed`, and channels between them that hold
    /// `channel_count_max` messages.
    pub fn new(
        shard_count: usize,
        channel_count_max: usize,
        limits: Limits,
        seed: u64,
        world: W,
    ) -> Self {
        let partition = Partition::new(shard_count, [seed, 1, 2, 3]);
        let hasher = RandomState::with_seeds(seed, 4, 5, 6);
        let shard = |id| Shard::new(id, partition.clone(), limits, hasher.clone());
        Self {
            now: Time::START,
            world,
            limits,
            shards: partition.shards().map(shard).collect(),
            desks: (0..shard_count).map(|n| Desk::new(n, shard_count, channel_count_max)).collect(),
            partition,
            ends: Vec::new(),
            order: 0,
            audits: false,
        }
    }

    /// Gives the shards slices of this size.
    #[must_use]
    pub fn with_slices(self, slices: Slices) -> Self {
        self.with(|shard| shard.with_slices(slices))
    }

    /// Has the shards share this pool of memory.
    #[must_use]
    pub fn with_pool(self, pool: &Arc<Pool>) -> Self {
        self.with(|shard| shard.with_pool(Arc::clone(pool)))
    }

    fn with(mut self, change: impl Fn(Shard) -> Shard) -> Self {
        self.shards = self.shards.into_iter().map(change).collect();
        self
    }

    /// Takes all the memory that the harness needs for this many connections, so that what is taken
    /// from then on is the shards'.
    pub fn reserve(&mut self, connection_count: usize) {
        self.ends.reserve(connection_count);
        self.desks.iter_mut().for_each(|desk| desk.reserve(connection_count));
    }

    /// Lets a shard handle one input.
    pub fn handle(&mut self, shard: usize, input: Input<'_>) {
        self.world.before(self.now, &self.shards[shard], &input);
        let exit = &mut Exit { desk: &mut self.desks[shard], world: &mut self.world };
        self.shards[shard].handle(self.now, input, exit);
        self.world.after(self.now, &mut self.shards[shard], &mut self.desks[shard]);
        if self.audits
            && let Err(error) = self.audit_one(shard)
        {
            panic!("shard {shard}: {error}");
        }
    }

    /// Opens a connection; the number names its client's end.
    pub fn open(&mut self) -> usize {
        self.ends.push(End::default());
        self.ends.len() - 1
    }

    /// Sends bytes of a client; the broker reads them later.
    pub fn send(&mut self, end: usize, bytes: &[u8]) {
        let end = &mut self.ends[end];
        if end.is_gone || end.is_over {
            return;
        }
        if end.order == 0 {
            self.order += 1;
            end.order = self.order;
        }
        end.way.extend_from_slice(bytes);
    }

    /// Returns the shard that a connection lives on and its end there, if it has one.
    pub fn connection(&self, end: usize) -> Option<(usize, &Connection)> {
        let (shard, slot) = self.place_of(end)?;
        Some((shard, self.desks[shard].connections[slot].as_ref()?))
    }

    /// Returns the same to be changed.
    pub fn connection_mut(&mut self, end: usize) -> Option<(usize, &mut Connection)> {
        let (shard, slot) = self.place_of(end)?;
        Some((shard, self.desks[shard].connections[slot].as_mut()?))
    }

    fn place_of(&self, end: usize) -> Option<(usize, usize)> {
        self.ends[end].home.filter(|_| !self.ends[end].is_over)
    }

    /// Tells whether the broker has got the whole first packet.
    pub fn is_placed(&self, end: usize) -> bool {
        self.ends[end].home.is_some()
    }

    /// Tells whether a connection is not over, and its shard has neither closed nor paused it.
    pub fn is_read(&self, end: usize) -> bool {
        let reads =
            |(_, connection): (_, &Connection)| !connection.is_paused && !connection.is_closing;
        !self.ends[end].is_over && self.connection(end).is_none_or(reads)
    }

    /// Has the broker read up to `count` bytes that a client has sent, or that it has gone.
    pub fn read(&mut self, end: usize, count: usize) -> bool {
        if !self.is_read(end) {
            return false;
        }
        let has_bytes = !self.ends[end].way.is_empty();
        if has_bytes {
            self.hand(end, count, |shard_count| end % shard_count);
            return count > 0;
        }
        let is_gone = self.ends[end].is_gone;
        if is_gone {
            self.leave(end);
        }
        is_gone
    }

    /// Gives the broker up to `count` bytes that a client has sent, whether or not it reads them.
    /// Where a connection may go to any shard, `choose` gets their number and says to which.
    pub fn hand(&mut self, end: usize, count: usize, choose: impl FnOnce(usize) -> usize) {
        let client = &mut self.ends[end];
        if client.is_over {
            return;
        }
        let rest = client.way.split_off(count.min(client.way.len()));
        let bytes = std::mem::replace(&mut client.way, rest);
        if let Some((shard, connection)) = self.connection(end) {
            let connection = connection.id;
            return self.handle(shard, Input::Bytes { connection, bytes: &bytes });
        }
        self.ends[end].unplaced.extend(bytes);
        self.place(end, choose);
    }

    /// Opens a connection at its home, once its first packet says which shard that is.
    fn place(&mut self, end: usize, choose: impl FnOnce(usize) -> usize) {
        let client = &mut self.ends[end];
        let shard = match home(&client.unplaced, self.limits.packet_bytes_max, &self.partition) {
            Home::Undecided => return,
            Home::At(home) => home.index(),
            Home::Anywhere => choose(self.shards.len()),
        };
        let (slot, connection) = self.desks[shard].open(end, client.order);
        client.home = Some((shard, slot));
        let bytes = std::mem::take(&mut client.unplaced);
        self.handle(shard, Input::Opened { connection });
        self.handle(shard, Input::Bytes { connection, bytes: &bytes });
    }

    /// Tells the broker that a client has gone.
    pub fn leave(&mut self, end: usize) {
        let place = self.place_of(end);
        self.ends[end].way.clear();
        self.ends[end].is_over = true;
        if let Some((shard, slot)) = place {
            let connection = self.desks[shard].connections[slot].as_ref().expect("it is open").id;
            self.handle(shard, Input::Closed { connection });
            self.desks[shard].free(slot);
        }
    }

    /// Takes up to `count` bytes to a client; its shard is told when nothing is left.
    pub fn write(&mut self, end: usize, mut count: usize) -> bool {
        let Some((shard, slot)) = self.place_of(end) else { return false };
        let connection = self.desks[shard].connections[slot].as_mut().expect("it is open");
        let before = self.ends[end].inbox.len();
        while count > 0 && !connection.outbox.is_empty() {
            let bytes = connection.outbox.front();
            let piece = count.min(bytes.len());
            self.ends[end].inbox.extend_from_slice(&bytes[..piece]);
            connection.outbox.consume(piece);
            count -= piece;
        }
        let (id, is_drained) =
            (connection.id, !connection.is_closing && connection.outbox.take_drained());
        if is_drained {
            self.handle(shard, Input::Drained { connection: id });
        }
        is_drained || self.ends[end].inbox.len() > before
    }

    /// Closes a connection that its shard has closed, once everything is written.
    pub fn finish(&mut self, end: usize) -> bool {
        let is_finished = self
            .connection(end)
            .is_some_and(|(_, connection)| connection.is_closing && connection.outbox.is_empty());
        if is_finished {
            self.cut(end);
        }
        is_finished
    }

    /// Closes a connection that its shard has closed, whatever is still to be written.
    pub fn cut(&mut self, end: usize) {
        let Some((shard, slot)) = self.place_of(end) else { return };
        self.desks[shard].free(slot);
        (self.ends[end].is_closed, self.ends[end].is_over) = (true, true);
    }

    /// Closes at once all connections that their shards have closed.
    pub fn cut_closed(&mut self) {
        for shard in 0..self.desks.len() {
            while let Some(end) = self.desks[shard].closed.pop() {
                self.cut(end);
            }
        }
    }

    /// Tells a shard that a client takes no more for now.
    pub fn block(&mut self, end: usize) {
        let Some((shard, connection)) = self.connection(end) else { return };
        if !connection.is_closing && !connection.outbox.is_empty() {
            self.handle(shard, Input::Blocked { connection: connection.id });
        }
    }

    /// Delivers the oldest message of a channel.
    pub fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(message) = self.desks[from].channels[to].take() else { return false };
        self.handle(to, Input::Message { from: ShardId::from_index(from), message });
        true
    }

    /// Tells a shard that a channel has room, and returns whether that was news.
    pub fn room(&mut self, from: usize, to: usize) -> bool {
        let is_news = std::mem::take(&mut self.desks[from].channels[to].has_room);
        self.handle(from, Input::Room { to: ShardId::from_index(to) });
        is_news
    }

    /// Has storage write up to `count` records that it was given, in their order.
    pub fn persist(&mut self, shard: usize, count: usize) -> bool {
        let stored = &mut self.desks[shard].stored;
        let Some((token, _)) = stored.drain(..count.min(stored.len())).next_back() else {
            return false;
        };
        self.handle(shard, Input::Persisted { token });
        true
    }

    /// Tells a shard what it was to be told of one of the connections that are judged.
    pub fn judge(&mut self, shard: usize, which: usize) -> bool {
        if which >= self.desks[shard].judging.len() {
            return false;
        }
        let (connection, verdict) = self.desks[shard].judging.swap_remove(which);
        self.handle(shard, Input::Authenticated { connection, verdict });
        true
    }

    /// Ends a turn of a shard, which goes on if there is more to do.
    pub fn turn(&mut self, shard: usize) -> bool {
        let more = self.shards[shard].end_turn();
        if more {
            self.handle(shard, Input::Continue);
        }
        more
    }

    /// Gives a shard all that was sent on a connection of which it waits for that.
    pub fn look(&mut self, shard: usize) -> bool {
        let Some((id, end)) = self.desks[shard].take_settling() else { return false };
        while self.connection(end).is_some_and(|(_, at)| at.id == id) && self.read(end, ALL) {}
        self.tell_settled(shard, id);
        true
    }

    /// Tells a shard that it was given all of a connection, unless it does not read it.
    pub fn tell_settled(&mut self, shard: usize, id: ConnectionId) {
        if let Some(connection) = self.desks[shard].find(id) {
            let is_quiet = !connection.is_paused;
            self.handle(shard, Input::Settled { connection: id, is_quiet });
        }
    }

    /// Closes the connection of a client, as an administrator does.
    pub fn expel(&mut self, client_id: &str) {
        let home = self.partition.home(client_id).index();
        self.handle(home, Input::Expel { client_id });
    }

    /// Stops every shard.
    pub fn shut_down(&mut self) {
        (0..self.shards.len()).for_each(|shard| self.handle(shard, Input::Shutdown));
    }

    /// Returns when the first timer of any shard fires.
    pub fn next_timeout(&self) -> Option<Time> {
        self.shards.iter().filter_map(Shard::next_timeout).min()
    }

    /// Goes to the next timeout of any shard, or to the deadline if that is sooner.
    pub fn step_towards(&mut self, deadline: Time) {
        self.now = self.next_timeout().unwrap_or(deadline).clamp(self.now, deadline);
        self.fire_timers();
    }

    /// Lets time pass, at the end of which all timers fire.
    pub fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.fire_timers();
    }

    fn fire_timers(&mut self) {
        for shard in 0..self.shards.len() {
            if self.shards[shard].next_timeout().is_some_and(|timeout| timeout <= self.now) {
                self.handle(shard, Input::Timeout);
            }
        }
    }

    /// Returns what all shards have counted.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.counters()));
        sum
    }

    /// Asks every shard to account for every delivery and every byte.
    ///
    /// # Errors
    /// What does not balance.
    pub fn audit(&self) -> Result<(), AuditError> {
        (0..self.shards.len()).try_for_each(|shard| self.audit_one(shard))
    }

    fn audit_one(&self, shard: usize) -> Result<(), AuditError> {
        self.shards[shard].audit()?;
        let connections = self.desks[shard].connections.iter().flatten();
        connections.map(|connection| &connection.outbox).try_for_each(Outbox::audit)
    }
}
