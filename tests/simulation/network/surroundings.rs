//! What the shards find around them: storage, authentication, and a wire that reports all it sees.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash};

use harness::desk::{Connection, Desk};
use harness::world::{Judgement, World};
use ringmq::auth::{AuthRequest, Verdict};
use ringmq::metrics::{Counters, DropCause};
use ringmq::session::Time;
use ringmq::shard::{ConnectionId, Input, Message, Shard};
use ringmq::storage::Record;

use crate::kept::{Kept, Stored};
use crate::life::{Life, number_of};
use crate::scenario::Scenario;

use super::memory::Shortage;
use super::{Pipe, Report};

pub(super) struct Surroundings {
    pub(super) scenario: Scenario,
    pub(super) shortage: Shortage,
    pub(super) pipes: Vec<Pipe>,
    pub(super) books: Vec<Book>,
    /// With their time.
    pub(super) reports: Vec<(Time, Report)>,
    pub(super) trace: DefaultHasher,
    pub(super) life: Life,
    /// What the shard had counted before the input that it handles.
    before: Counters,
}

/// What is known of one shard.
#[derive(Default)]
pub(super) struct Book {
    pub(super) kept: Kept,
    /// Clients that were given a message while they had no connection, in the last input.
    given_offline: Vec<(String, usize)>,
    judged_count: u32,
    /// What a client was asked and has not answered.
    challenges: BTreeMap<u32, Vec<u8>>,
    /// For the trace.
    judged: Vec<(ConnectionId, bool)>,
}

impl Surroundings {
    pub(super) fn new(scenario: &Scenario, life: Life) -> Self {
        Self {
            scenario: Scenario { steps: Vec::new(), ..scenario.clone() },
            shortage: Shortage::new(&scenario.limits),
            pipes: Vec::new(),
            books: (0..scenario.shard_count).map(|_| Book::default()).collect(),
            reports: Vec::new(),
            trace: DefaultHasher::new(),
            life,
            before: Counters::default(),
        }
    }

    fn note_message(&mut self, now: Time, from: usize, to: usize, message: &Message) {
        (from, to, std::mem::discriminant(message)).hash(&mut self.trace);
        self.life.note_message(now, from, to, message);
    }

    fn has_connection(&self, desk: &Desk<Stored>, name: &str) -> bool {
        let is_its = |connection: &Connection| {
            let client = self.pipes[connection.end].client;
            let client = self.scenario.clients.get(client);
            !connection.is_closing && client.map_or("", |profile| &profile.name) == name
        };
        desk.connections.iter().flatten().any(is_its)
    }

    /// Connections that the shard closed with nothing left to write are over.
    fn take_closed(&mut self, now: Time, desk: &Desk<Stored>) {
        for connection in desk.connections.iter().flatten() {
            let pipe = &mut self.pipes[connection.end];
            pipe.was_paused |= connection.is_paused;
            if connection.is_closing && !pipe.was_closed {
                pipe.was_closed = true;
                pipe.is_paused = connection.is_paused;
                let ended = Report::Ended { pipe: connection.end, by_broker: true };
                self.reports.push((now, ended));
            }
        }
    }

    /// Reports what one input made of deliveries, as far as clients cannot see it.
    fn report_deliveries(&mut self, now: Time, index: usize, after: &Counters) {
        let before = &self.before;
        for cause in DropCause::ALL {
            for _ in before.ledger.dropped_for(*cause)..after.ledger.dropped_for(*cause) {
                self.reports.push((now, Report::Dropped { shard: index, cause: *cause }));
            }
        }
        for _ in before.retained_refused..after.retained_refused {
            self.reports.push((now, Report::NotRetained { shard: index }));
        }
        let max = self.scenario.limits.retained_count_max.div_ceil(self.scenario.shard_count);
        assert!(after.retained <= max as u64, "shard {index}: {} are retained", after.retained);
        for (name, message) in std::mem::take(&mut self.books[index].given_offline) {
            let client = self.scenario.clients.iter().position(|client| client.name == name);
            if let Some(client) = client {
                self.reports.push((now, Report::GivenOffline { client, message }));
            }
        }
    }
}

impl Book {
    /// A client that names a method is asked something once, and has to repeat it.
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
}

impl World for Surroundings {
    type Note = Stored;

    fn persist(&mut self, record: &Record<'_>, desk: &Desk<Stored>) -> Stored {
        self.books[desk.shard].kept.take(record);
        if let Record::Held { client_id, publish, .. } = record
            && let Some(message) = number_of(publish.payload)
            && !self.has_connection(desk, client_id)
        {
            self.books[desk.shard].given_offline.push(((*client_id).to_owned(), message));
        }
        Stored::of(record)
    }

    /// One in four takes time.
    fn authenticate(
        &mut self,
        shard: usize,
        connection: ConnectionId,
        request: &AuthRequest<'_>,
    ) -> Judgement {
        let book = &mut self.books[shard];
        book.judged_count += 1;
        let at_once = !book.judged_count.is_multiple_of(4);
        book.judged.push((connection, at_once));
        let verdict = book.judge(connection, request);
        if at_once { Judgement::AtOnce(verdict) } else { Judgement::Later(verdict) }
    }

    fn before(&mut self, now: Time, shard: &Shard, input: &Input<'_>) {
        let index = shard.id().index();
        if let Input::Message { from, message } = input {
            self.note_message(now, from.index(), index, message);
        }
        (index, now.ms(), std::mem::discriminant(input)).hash(&mut self.trace);
        if let Input::Bytes { connection, bytes } = input {
            (connection, bytes).hash(&mut self.trace);
        }
        self.before = shard.counters();
    }

    fn after(&mut self, now: Time, shard: &mut Shard, desk: &mut Desk<Stored>) {
        self.shortage.weigh(shard);
        for (connection, at_once) in std::mem::take(&mut self.books[desk.shard].judged) {
            (connection, at_once).hash(&mut self.trace);
        }
        self.take_closed(now, desk);
        self.report_deliveries(now, desk.shard, &shard.counters());
    }
}
