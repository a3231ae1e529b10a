//! What the shards and their storage say of themselves.

use ringmq::metrics::Counters;
use ringmq::shard::audit_credit;

use crate::kept::{Kept, Stored};

use super::Network;

impl Network {
    /// The shard that owns a topic.
    pub(crate) fn owner(&self, topic: &str) -> usize {
        self.harness.partition.owner(topic).index()
    }

    /// The shard that a client's sessions live on.
    pub(crate) fn home(&self, client_id: &str) -> usize {
        self.harness.partition.home(client_id).index()
    }

    /// What storage would give back of a client.
    pub(crate) fn kept_of(&self, client_id: &str) -> &Kept {
        &self.harness.world.books[self.home(client_id)].kept
    }

    /// The message that storage has of a topic.
    pub(crate) fn kept_retained(&self, topic: &str) -> Option<usize> {
        self.harness.world.books[self.owner(topic)].kept.retained.get(topic).copied()
    }

    /// What of a message storage has not confirmed, for a session of one of these clients.
    pub(crate) fn unconfirmed(&self, is_it: impl Fn(&Stored) -> bool) -> Option<&Stored> {
        let stored = self.harness.desks.iter().flat_map(|desk| &desk.stored);
        stored.map(|(_, what)| what).find(|what| is_it(what))
    }

    /// Follows the credit of every shard at every other one.
    pub(crate) fn audit_credit(&self) {
        let (shards, desks) = (&self.harness.shards, &self.harness.desks);
        for (home, owner) in (0..shards.len()).flat_map(|one| {
            (0..shards.len()).filter(move |other| *other != one).map(move |other| (one, other))
        }) {
            let to_owner = desks[home].channels[owner].messages.iter();
            let to_home = desks[owner].channels[home].messages.iter();
            let result = audit_credit(&shards[home], &shards[owner], to_owner, to_home);
            if let Err(error) = result {
                panic!("shard {home} at shard {owner}: {error}");
            }
        }
    }

    /// What all shards have counted.
    pub(crate) fn counters(&self) -> Counters {
        self.harness.counters()
    }
}
