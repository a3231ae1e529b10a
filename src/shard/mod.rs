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
    Bytes {
        /// Whose.
        connection: ConnectionId,
        /// What.
        bytes: &'a [u8],
    },
    /// The peer closed, or reading or writing failed. Not sent for what the shard closed itself.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// The client takes no more bytes for now.
    Blocked {
        /// Which.
        connection: ConnectionId,
    },
    /// The outbox was written out, after [`Outbox::want_drained`].
    Drained {
        /// Which.
        connection: ConnectionId,
    },
    /// A look at a connection has ended, after [`Output::settle`]: what had come before has been
    /// given to the shard.
    Settled {
        /// Which.
        connection: ConnectionId,
        /// Nothing is left to read, and it may be read.
        is_quiet: bool,
    },
    /// Another shard says something.
    Message {
        /// Who.
        from: ShardId,
        /// What.
        message: Message,
    },
    /// The channel to a shard may have room, after a send was refused.
    Room {
        /// To whom.
        to: ShardId,
    },
    /// Everything up to this token is safe.
    Persisted {
        /// The newest such token.
        token: Token,
    },
    /// The answer to an `authenticate` that was [`Verdict::Pending`].
    Authenticated {
        /// Who asked.
        connection: ConnectionId,
        /// The answer; pending is not one.
        verdict: Verdict,
    },
    /// Whoever runs the broker wants this client away: its connection is closed with
    /// [`ReasonCode::AdministrativeAction`]. The session stays as long as it was agreed.
    Expel {
        /// Whose home this shard is; nothing happens if it has no connection.
        client_id: &'a str,
    },
    /// [`Shard::next_timeout`] has come.
    Timeout,
    /// [`Shard::end_turn`] has said that there is more to do.
    Continue,
    /// The broker stops: every connection is closed.
    Shutdown,
}

/// Room for this many fired timers is kept when all of them were handled.
const DUE_COUNT_KEPT: usize = 64;

/// Timers that are kept without a look at whether anybody waits for them.
const TIMER_SWEEP_COUNT_MIN: usize = 64 * 1024;
/// This many of them are looked at with each timer that is set: there may be millions.
const TIMERS_PER_SWEEP: usize = 32;
/// This many timers that may be due are looked at in one input.
const TIMERS_PER_INPUT: usize = 1024;

/// What a timer is about; who is woken looks whether it is still true.
#[derive(Clone, Debug)]
enum Timer {
    /// CONNECT may not have come in time.
    Connect(ConnectionId),
    /// The client may have gone silent.
    Silence(ConnectionId),
    /// The client may have stopped reading; so many bytes had been written.
    Stall(ConnectionId, u64),
    /// A connection that is being settled is looked at again.
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
    /// With so many timers, those that nobody waits for any more are given up.
    timer_sweep_count: usize,
    /// They are being given up.
    is_sweeping: bool,
    /// Timers that have fired and are still to be looked at.
    due: VecDeque<Timer>,
    commits: Commits,
    /// Client identifiers made up so far.
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
    /// Searches for those who get a publish.
    lookups: Vec<Lookup>,
    /// Publishes that are put off until that is known.
    search_count: usize,
    /// Who gets the publish that is being handled has to be searched for.
    has_to_search: bool,
    layouts: Layouts,
    /// Connections to be read again.
    ready: VecDeque<ConnectionId>,
    /// Connections to be read again when others have had their turn.
    aside: VecDeque<ConnectionId>,
    /// Sessions whose retained messages go on.
    replaying: VecDeque<SessionRef>,
    /// Deliveries of shared subscriptions that a client does not take for their size, or whose
    /// session is over; the owners of their topics are told before `handle` returns.
    given_back: Vec<Delivery>,
    /// Sessions that are over and still have deliveries or filters.
    endings: VecDeque<Ending>,

    work: Work,
    /// Packets of clients so far, acknowledgements left out.
    ask_count: u64,
    /// What [`Input::Continue`] goes on with first.
    next_chore: Chore,
    slices: Slices,
    put_off: Jobs,
    /// The other shards know that too much is put off.
    is_busy: bool,
    /// Deliveries that there is room for until the turn ends.
    room: usize,
}

impl Shard {
    /// An empty shard. `hasher` must be seeded per process, so that nobody can make its tables
    /// collide.
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

    /// The same shard with other slices: for tests, in which a million subscribers are too many.
    #[must_use]
    pub fn with_slices(self, slices: Slices) -> Self {
        Self { slices, room: slices.delivery_count, ..self }
    }

    /// Takes one input; all that follows from it has happened when this returns, but for what is
    /// too much for one turn: see [`Self::end_turn`].
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

    /// When [`Input::Timeout`] is due next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        if self.has_timers_due() {
            return Some(self.now);
        }
        self.timers.next_timeout().into_iter().chain(self.archive.next_timeout()).min()
    }

    /// What this shard has counted.
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

    /// The counters that this shard cannot keep itself, such as accepted connections.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// This shard's number.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Which shard owns what, as every shard of this process has it.
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

    /// Whether there is something for [`Self::go_on`]; mostly there is not.
    fn may_go_on(&self) -> bool {
        !self.ready.is_empty()
            || !self.replaying.is_empty()
            || !self.given_back.is_empty()
            || self.links.may_be_ready()
            || self.take_overs.has_granted()
    }

    /// Work that other work made possible: done here so that no rule calls itself.
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

    /// Whether what is left has to wait for a later input.
    fn is_used_up(&self) -> bool {
        self.work.is_used_up(&self.slices)
    }

    /// Sets a timer; now and then those that nobody waits for any more are given up, a few with
    /// each one that is set.
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

    /// Whether timers have fired, or may have, that are still to be looked at.
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

    /// Looks at timers that have fired, for as long as the input may take.
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
            self.void_will(connection); // Put off until a restart, which never comes in memory.
            self.close(connection, CloseReason::Shutdown, out);
        }
        self.work.begin(); // It is the last input: no other one has to wait.
    }
}
