//! One core's broker, without input or output.
//!
//! A [`Shard`] owns the sessions whose client identifiers hash to it and the topics whose names
//! hash to it. Everything that happens to it is an [`Input`], everything it does goes through
//! [`Output`], and time is an argument: N shards run in one thread of a test as they run on N
//! cores.

mod account;
mod audit;
mod authenticate;
mod close_reason;
mod commit;
mod connack;
mod connect;
mod connection;
mod deliver;
mod ending;
mod filters;
mod held;
mod home;
mod links;
mod long;
mod message;
mod order;
mod outbox;
mod output;
mod pause;
mod publish;
mod put_off;
mod quota;
mod registry;
mod replay;
mod retained;
mod search;
mod share;
mod shed;
mod slice;
mod subscribe;
mod take_over;
mod timer;
mod will;
mod wire;
mod work;

pub use audit::audit_credit;
pub use close_reason::CloseReason;
pub use home::{Home, home};
pub use message::{Message, Receipt, ReplayRequest, SessionRef, Ticket};
pub use outbox::{Outbox, Spares};
pub use output::{Connected, ConnectionId, Full, Output};
pub use put_off::Slices;
pub use take_over::Standing;

use std::collections::VecDeque;

use ahash::{AHashMap, RandomState};

use crate::auth::Verdict;
use crate::config::Limits;
use crate::metrics::Counters;
use crate::routing::{Chosen, Groups, Interest, Partition, Routes, ShardId, Subscriptions};
use crate::session::{Delivery, Time};
use crate::storage::Token;

use account::Account;
use commit::Commits;
use connection::Connections;
use deliver::Audience;
use ending::Ending;
use links::Links;
use put_off::Jobs;
use registry::Registry;
use retained::Archive;
use search::Lookup;
use slice::Chore;
use subscribe::{Placing, Subscribed};
use take_over::TakeOvers;
use timer::Timers;
use wire::Layouts;
use work::Work;

/// Everything that can happen to a shard.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection was given to this shard; its CONNECT is still to come as bytes.
    Opened {
        /// Not in use by another connection.
        connection: ConnectionId,
    },
    /// Bytes came from a client, any number of packets or parts of them.
    Bytes { connection: ConnectionId, bytes: &'a [u8] },
    /// The peer closed, or reading or writing failed. Not sent for what the shard closed itself.
    Closed { connection: ConnectionId },
    /// The client takes no more bytes for now.
    Blocked { connection: ConnectionId },
    /// The outbox was written out, after [`Outbox::want_drained`].
    Drained { connection: ConnectionId },
    /// A check of a connection has ended, after [`Output::settle`]: the bytes that had come before
    /// were given to the shard.
    Settled {
        connection: ConnectionId,
        /// Whether nothing is left to read, although it may be read.
        is_quiet: bool,
    },
    /// Another shard has sent a message.
    Message { from: ShardId, message: Message },
    /// The channel to a shard may have room, after a send was refused.
    Room { to: ShardId },
    /// Everything up to this token is safe.
    Persisted {
        /// The newest such token.
        token: Token,
    },
    /// The answer to an `authenticate` that was [`Verdict::Pending`].
    Authenticated {
        connection: ConnectionId,
        /// The answer; pending is not one.
        verdict: Verdict,
    },
    /// An administrator disconnects this client with [`CloseReason::Expelled`]. Its
    /// session stays until it expires.
    Expel {
        /// Its home is this shard. Nothing happens if it has no connection.
        client_id: &'a str,
    },
    /// [`Shard::next_timeout`] has come.
    Timeout,
    /// [`Shard::end_turn`] has said that there is more to do.
    Continue,
    /// The broker stops: every connection is closed.
    Shutdown,
}

/// Capacity for this many fired timers is kept when all of them were handled.
const DUE_COUNT_KEPT: usize = 64;

/// Below this many timers, stale ones are not swept.
const TIMER_SWEEP_COUNT_MIN: usize = 64 * 1024;
/// This many timers are examined with each timer that is set: there may be millions.
const TIMERS_PER_SWEEP: usize = 32;
/// This many timers that may be due are examined in one input.
const TIMERS_PER_INPUT: usize = 1024;

/// What a timer is for. Timers are not cancelled: the handler checks that the deadline still holds.
#[derive(Clone, Debug)]
enum Timer {
    /// CONNECT may not have come in time.
    Connect(ConnectionId),
    /// The client may have gone silent.
    Silence(ConnectionId),
    /// The client may have stopped reading; this many bytes had been written when it was set.
    Stall(ConnectionId, u64),
    /// A connection that is being settled is checked again.
    Settle(ConnectionId),
    /// An offline session may be over, or its will due.
    Session(SessionRef),
    /// A packet that has begun may not be whole in time.
    Packet(ConnectionId),
    /// Memory may still be scarce.
    Memory,
}

/// Retained messages and subscriptions, sessions and their connections: one core's share.
pub struct Shard {
    id: ShardId,
    partition: Partition,
    limits: Limits,
    counters: Counters,
    account: Account,
    /// The time of the input that is being handled.
    now: Time,

    connections: Connections,
    take_overs: TakeOvers,
    registry: Registry,
    timers: Timers<Timer>,
    /// Once there are this many timers, stale ones are swept.
    timer_sweep_count: usize,
    /// Whether a sweep is under way.
    is_sweeping: bool,
    /// Timers that have fired and are still to be handled.
    due: VecDeque<Timer>,
    commits: Commits,
    /// The number of client identifiers that were assigned so far.
    assigned_count: u64,

    links: Links,
    interest: Interest,
    groups: Groups<SessionRef, Subscribed>,
    archive: Archive,
    subscriptions: Subscriptions<u32, Subscribed>,
    /// Members here of shared subscriptions, by `$share/group/filter`.
    shares: Subscriptions<u32, Subscribed>,
    placing: AHashMap<Ticket, Placing>,
    next_ticket: u64,

    routes: Routes<Audience>,
    /// Searches for the subscribers of deferred publishes.
    lookups: Vec<Lookup>,
    /// The number of publishes that are deferred until their subscribers are found.
    search_count: usize,
    /// Whether the subscribers of the publish that is being handled have to be searched for.
    has_to_search: bool,
    layouts: Layouts,
    /// Connections that may be read again.
    ready: VecDeque<ConnectionId>,
    /// Connections that may be read again when others have had their turn.
    aside: VecDeque<ConnectionId>,
    /// Sessions with a replay of retained messages under way.
    replaying: VecDeque<SessionRef>,
    /// Deliveries of shared subscriptions that are too large for the client, or whose session is
    /// over. They go back to the owners of their topics before `handle` returns.
    given_back: Vec<Delivery>,
    /// Sessions that are over and still have deliveries or filters.
    endings: VecDeque<Ending>,

    work: Work,
    /// The number of packets of clients so far, without acknowledgements.
    ask_count: u64,
    /// The kind of work that [`Input::Continue`] begins with.
    next_chore: Chore,
    slices: Slices,
    put_off: Jobs,
    /// Whether the other shards know that too much is deferred here.
    is_busy: bool,
    /// The number of deliveries that may still be made in this turn.
    room: usize,
}

impl Shard {
    /// Makes an empty shard. `hasher` must be seeded per process, so that no client can make its
    /// tables collide.
    #[must_use]
    pub fn new(id: ShardId, partition: Partition, limits: Limits, hasher: RandomState) -> Self {
        let shard_count = partition.shard_count();
        let route_bytes_max = limits.route_cache_bytes_max.div_ceil(shard_count);
        let account = Account::new(&limits);
        Self {
            id,
            partition,
            limits,
            counters: Counters::default(),
            account,
            now: Time::START,
            connections: Connections::default(),
            take_overs: TakeOvers::default(),
            registry: Registry::new(hasher.clone()),
            timers: Timers::default(),
            timer_sweep_count: TIMER_SWEEP_COUNT_MIN,
            is_sweeping: false,
            due: VecDeque::new(),
            commits: Commits::default(),
            assigned_count: 0,
            links: Links::new(shard_count),
            interest: Interest::with_hasher(hasher.clone()),
            groups: Groups::with_hasher(hasher.clone()),
            archive: Archive::new(hasher.clone()),
            subscriptions: Subscriptions::with_hasher(hasher.clone()),
            shares: Subscriptions::with_hasher(hasher),
            placing: AHashMap::default(),
            next_ticket: 0,
            routes: Routes::new(route_bytes_max),
            lookups: Vec::new(),
            search_count: 0,
            has_to_search: false,
            layouts: Layouts::default(),
            ready: VecDeque::new(),
            given_back: Vec::new(),
            aside: VecDeque::new(),
            replaying: VecDeque::new(),
            endings: VecDeque::new(),
            work: Work::default(),
            ask_count: 0,
            next_chore: Chore::Connections,
            slices: Slices::default(),
            put_off: Jobs::default(),
            is_busy: false,
            room: Slices::default().delivery_count,
        }
    }

    /// Sets other slices: for tests, in which a million subscribers are too many.
    #[must_use]
    pub fn with_slices(self, slices: Slices) -> Self {
        Self { slices, room: slices.delivery_count, ..self }
    }

    /// Handles one input. What is too much for one turn is left for [`Self::end_turn`]; the rest
    /// has happened when this returns.
    pub fn handle(&mut self, now: Time, input: Input<'_>, out: &mut impl Output) {
        self.now = now;
        self.work.begin();
        match input {
            Input::Opened { connection } => self.handle_opened(connection),
            Input::Bytes { connection, bytes } => self.handle_bytes(connection, bytes, out),
            Input::Closed { connection } => self.handle_closed(connection, out),
            Input::Blocked { connection } => self.handle_blocked(connection, out),
            Input::Drained { connection } => self.handle_drained(connection, out),
            Input::Settled { connection, is_quiet } => {
                self.handle_settled(connection, is_quiet, out);
            }
            Input::Message { from, message } => self.handle_message(from, message, out),
            Input::Room { to } => self.links.handle_room(to, out),
            Input::Persisted { token } => self.handle_persisted(token, out),
            Input::Authenticated { connection, verdict } => {
                self.handle_authenticated(connection, verdict, out);
            }
            Input::Expel { client_id } => self.handle_expel(client_id, out),
            Input::Timeout => self.handle_timeout(out),
            Input::Continue => self.handle_continue(out),
            Input::Shutdown => self.handle_shutdown(out),
        }
        if self.may_go_on() {
            self.go_on(out);
        }
        self.work.end();
    }

    /// Returns the time at which [`Input::Timeout`] is due next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        if self.has_timers_due() {
            return Some(self.now);
        }
        self.timers.next_timeout().into_iter().chain(self.archive.next_timeout()).min()
    }

    /// Returns what this shard has counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.registry.len() as u64,
            subscriptions: self.subscriptions.len() as u64,
            retained: self.archive.len() as u64,
            put_off: self.put_off.len() as u64,
            memory_charged: self.charged_bytes() as u64,
            ..self.counters.clone()
        }
    }

    /// Returns the counters, for what this shard cannot count itself, such as accepted connections.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Returns this shard's number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Returns the rule that says which shard owns what; it is the same in every shard.
    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    fn handle_message(&mut self, from: ShardId, message: Message, out: &mut impl Output) {
        match message {
            Message::Publish { publication, source } => {
                self.handle_remote_publish(from, &publication, &source, out);
            }
            Message::Credit { units } => self.links.handle_credit(from, units),
            Message::Deliver { publication, source } => {
                self.handle_deliver(&publication, &source, out);
            }
            Message::DeliverShared { publication, source, session, group, is_online } => {
                let chosen = Chosen { home: self.id, member: session, group, is_online };
                self.handle_deliver_shared(&publication, &source, chosen, out);
            }
            Message::Reassign { publication, group } => {
                self.handle_reassign(&publication, &group, out);
            }
            Message::Counted { receipt, homes, reason } => {
                self.handle_counted(receipt, homes, reason, out);
            }
            Message::Fence { session, home, is_first } => {
                self.handle_fence(session, home, is_first, out);
            }
            Message::TakenIn { session, weight } => self.handle_taken_in(session, weight),
            Message::Accepted { receipt } => self.handle_accepted(receipt, out),
            Message::Interest { filters, ticket } => {
                self.handle_interest(from, &filters, ticket, out);
            }
            Message::NoInterest { filter } => self.handle_no_interest(from, &filter),
            Message::Join { group, session, terms, standing, ticket } => {
                self.join_group(&group, from, session, terms, standing);
                self.send(from, Message::Placed { ticket }, out);
            }
            Message::Leave { group, session } => self.leave_group(&group, from, session),
            Message::Standing { session, standing } => {
                self.handle_standing(from, session, standing);
            }
            Message::Placed { ticket } => self.handle_placed(ticket, out),
            Message::Replay(request) => self.handle_replay(from, request, out),
            Message::Replayed { session, replay, publications, after } => {
                self.handle_replayed(session, replay, publications, after, out);
            }
            Message::Busy { is_busy } => self.links.handle_busy(from, is_busy, out),
        }
    }

    /// Returns whether there is work for [`Self::go_on`]; mostly there is none.
    fn may_go_on(&self) -> bool {
        !self.ready.is_empty()
            || !self.replaying.is_empty()
            || !self.given_back.is_empty()
            || self.links.may_be_ready()
            || self.take_overs.has_granted()
    }

    /// Does the work that other work has made possible. It is done here so that no rule calls
    /// itself.
    fn go_on(&mut self, out: &mut impl Output) {
        while !self.is_used_up() {
            if let Some(claimant) = self.take_overs.next_granted() {
                self.grant(claimant, out);
            } else if let Some(id) = self.ready.pop_front().or_else(|| self.links.next_ready()) {
                self.resume(id, out);
            } else {
                break;
            }
        }
        self.reassign_given_back(out);
        self.go_on_replaying(out);
    }

    /// Returns whether the rest has to wait for a later input.
    fn is_used_up(&self) -> bool {
        self.work.is_used_up(&self.slices)
    }

    /// Sets a timer. While a sweep is under way, it also examines a few timers and drops stale
    /// ones.
    fn set_timer(&mut self, deadline: Time, timer: Timer) {
        if self.is_sweeping || self.timers.len() >= self.timer_sweep_count {
            let (connections, registry) = (&mut self.connections, &self.registry);
            let is_over = self.timers.sweep(TIMERS_PER_SWEEP, |timer| match timer {
                Timer::Connect(id)
                | Timer::Silence(id)
                | Timer::Stall(id, _)
                | Timer::Settle(id)
                | Timer::Packet(id) => connections.get_mut(*id).is_some(),
                Timer::Session(name) => registry.resolve(*name).is_some(),
                Timer::Memory => true,
            });
            self.is_sweeping = !is_over;
            self.timer_sweep_count = (self.timers.len() / 2 * 3).max(TIMER_SWEEP_COUNT_MIN);
            self.work.charge(work::times(work::WAKE, TIMERS_PER_SWEEP / 4));
        }
        self.timers.insert(deadline, timer);
    }

    /// Returns whether timers have fired, or may have, that are still to be handled.
    fn has_timers_due(&self) -> bool {
        !self.due.is_empty() || self.timers.is_moving()
    }

    fn handle_timeout(&mut self, out: &mut impl Output) {
        self.handle_retained_expiry();
        self.advance_timers();
        self.handle_due(out);
    }

    fn advance_timers(&mut self) {
        let count = self.timers.advance(self.now, TIMERS_PER_INPUT, &mut self.due);
        self.work.charge(work::times(work::WAKE, count / 8));
    }

    /// Handles timers that have fired, while the input has units of work left.
    fn handle_due(&mut self, out: &mut impl Output) {
        if self.due.is_empty() && self.timers.is_moving() {
            self.advance_timers();
        }
        while !self.is_used_up()
            && let Some(timer) = self.due.pop_front()
        {
            self.work.charge(work::WAKE);
            match timer {
                Timer::Connect(connection) => self.handle_connect_timeout(connection, out),
                Timer::Silence(connection) => self.handle_silence(connection, out),
                Timer::Stall(connection, written) => {
                    self.handle_stall(connection, written, out);
                }
                Timer::Settle(connection) => self.settle_again(connection, out),
                Timer::Session(session) => self.handle_session_timer(session, out),
                Timer::Packet(connection) => self.handle_packet_timeout(connection, out),
                Timer::Memory => self.handle_scarcity(out),
            }
        }
        if self.due.is_empty() {
            self.due.shrink_to(DUE_COUNT_KEPT);
        }
    }

    fn handle_shutdown(&mut self, out: &mut impl Output) {
        self.abandon_put_off();
        for connection in self.connections.ids() {
            // A will may wait for a restart, which never comes in memory.
            self.void_will(connection);
            self.close(connection, CloseReason::Shutdown, out);
        }
        self.work.begin(); // It is the last input, so no other one has to wait for it.
    }
}
