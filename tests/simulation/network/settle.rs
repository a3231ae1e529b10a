//! Looks into sockets that a shard has asked for before it judges a connection.

use harness::random::Random;
use ringmq::shard::ConnectionId;

use super::{Mood, Network};

impl Network {
    /// Ends a look at a connection of which the shard wants to have all that was sent: gives it
    /// that, unless it does not read.
    pub(super) fn settle(&mut self, random: &mut Random, mood: &Mood) -> bool {
        for shard in self.shards_from(random) {
            if mood.is_frozen(shard) {
                continue;
            }
            let Some((id, number)) = self.harness.desks[shard].take_settling() else { continue };
            while self.has_more_to_hand(id, number) {
                self.hand_one(number, random);
            }
            self.harness.tell_settled(shard, id);
            return true;
        }
        false
    }

    /// Whether a connection can be given bytes or its end.
    fn has_more_to_hand(&self, id: ConnectionId, number: usize) -> bool {
        let is_it = self.harness.connection(number).is_some_and(|(_, at)| at.id == id);
        let has_more = !self.harness.ends[number].way.is_empty() || self.has_end(number);
        is_it && has_more && self.harness.is_read(number)
    }
}
