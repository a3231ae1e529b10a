//! What the shards and their storage say of themselves.

use ringmq::metrics::{Counters, DropCause};
use ringmq::shard::{Outbox, audit_credit};

use crate::desk::Kept;

use super::{Network, Report};

impl Network {
    /// The shard that owns a topic.
    pub(crate) fn owner(&self, topic: &str) -> usize {
        self.partition.owner(topic).index()
    }

    /// The shard that a client's sessions live on.
    pub(crate) fn home(&self, client_id: &str) -> usize {
        self.partition.home(client_id).index()
    }

    /// What storage would give back of a client.
    pub(crate) fn kept_of(&self, client_id: &str) -> &Kept {
        &self.desks[self.home(client_id)].kept
    }

    /// The message that storage has of a topic.
    pub(crate) fn kept_retained(&self, topic: &str) -> Option<usize> {
        self.desks[self.owner(topic)].kept.retained.get(topic).copied()
    }

    /// Follows the credit of every shard at every other one.
    pub(crate) fn audit_credit(&self) {
        for (home, owner) in (0..self.shards.len()).flat_map(|one| {
            (0..self.shards.len()).filter(move |other| *other != one).map(move |other| (one, other))
        }) {
            let to_owner = self.desks[home].channels[owner].iter();
            let to_home = self.desks[owner].channels[home].iter();
            let result = audit_credit(&self.shards[home], &self.shards[owner], to_owner, to_home);
            if let Err(error) = result {
                panic!("shard {home} at shard {owner}: {error}");
            }
        }
    }

    /// What all shards have counted.
    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.counters()));
        sum
    }

    /// What one input made of deliveries, as far as clients cannot see it.
    pub(super) fn report_deliveries(&mut self, index: usize, before: &Counters) {
        let after = self.shards[index].counters();
        for cause in DropCause::ALL {
            for _ in before.ledger.dropped_for(*cause)..after.ledger.dropped_for(*cause) {
                self.reports.push((self.now, Report::Dropped { shard: index, cause: *cause }));
            }
        }
        for _ in before.retained_refused..after.retained_refused {
            self.reports.push((self.now, Report::NotRetained { shard: index }));
        }
        let max = self.scenario.limits.retained_count_max.div_ceil(self.shards.len());
        assert!(after.retained <= max as u64, "shard {index}: {} are retained", after.retained);
        for (name, message) in std::mem::take(&mut self.desks[index].given_offline) {
            let client = self.scenario.clients.iter().position(|client| client.name == name);
            if let Some(client) = client {
                self.reports.push((self.now, Report::GivenOffline { client, message }));
            }
        }
    }

    /// After every input every delivery of the shard is accounted for, and every byte.
    pub(super) fn audit(&self, index: usize) {
        if !self.audits {
            return;
        }
        let outboxes = self.desks[index].connections.iter().flatten().map(|io| &io.outbox);
        let result = outboxes.map(Outbox::audit).collect::<Result<Vec<()>, _>>();
        if let Err(error) = self.shards[index].audit().and(result) {
            panic!("shard {index}: {error}");
        }
    }
}
