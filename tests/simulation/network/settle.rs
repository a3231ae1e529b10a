//! Looks into sockets that a shard has asked for before it judges a connection.

use ringmq::shard::{ConnectionId, Input};

use super::{End, Mood, Network};
use crate::desk::Io;
use harness::random::Random;

impl Network {
    /// Ends a look at a connection of which the shard wants to have all that was sent: gives it
    /// that, unless it does not read.
    pub(super) fn settle(&mut self, random: &mut Random, mood: &Mood) -> bool {
        let first = random.below(self.shards.len());
        for offset in 0..self.shards.len() {
            let shard = (first + offset) % self.shards.len();
            let is_it = |io: &&mut Io| io.settling && !io.closing;
            let mut connections = self.desks[shard].connections.iter_mut().flatten();
            if mood.is_frozen(shard) {
                continue;
            }
            let Some(io) = connections.find(is_it) else { continue };
            io.settling = false;
            let (number, id) = (io.pipe, io.id);
            while self.has_more_to_hand(shard, id, number) {
                self.hand_one(number, random);
            }
            let io = self.desks[shard].connections[id.index as usize].as_ref();
            if let Some(io) = io.filter(|io| io.id == id && !io.closing) {
                let is_quiet = !io.paused;
                self.handle(shard, Input::Settled { connection: id, is_quiet });
            }
            return true;
        }
        false
    }

    /// Whether a connection can be given bytes or its end.
    fn has_more_to_hand(&self, shard: usize, id: ConnectionId, number: usize) -> bool {
        let pipe = &self.pipes[number];
        let io = self.desks[shard].connections[id.index as usize].as_ref();
        let is_read = io.is_some_and(|io| io.id == id && !io.paused && !io.closing);
        let has_end = matches!(pipe.ending, Some(End::Close | End::Reset));
        is_read && !pipe.over && (!pipe.to_broker.is_empty() || has_end)
    }
}
