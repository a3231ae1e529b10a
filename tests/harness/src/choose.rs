//! Shards that go on by themselves: what happens next is chosen by a seed, or comes in turn.

use crate::random::Random;
use crate::shards::{ALL, Harness};
use crate::world::World;

/// Rounds in which something still moves before it is called endless.
const ROUNDS_MAX: usize = 1_000_000;

/// What happens next, and how much of it.
pub trait Choose {
    /// Returns a number below `limit`.
    fn below(&mut self, limit: usize) -> usize;

    /// Returns how many of `length` to take, one at least.
    fn piece(&mut self, length: usize) -> usize;
}

/// A seed chooses.
impl Choose for Random {
    fn below(&mut self, limit: usize) -> usize {
        Self::below(self, limit)
    }

    fn piece(&mut self, length: usize) -> usize {
        Self::piece(self, length)
    }
}

/// The first comes first, and all of it.
pub struct InTurn;

impl Choose for InTurn {
    fn below(&mut self, _: usize) -> usize {
        0
    }

    fn piece(&mut self, length: usize) -> usize {
        length
    }
}

impl<W: World> Harness<W> {
    /// Moves everything until nothing moves any more. No time passes.
    pub fn rest(&mut self, choose: &mut impl Choose) {
        for _ in 0..ROUNDS_MAX {
            if !(self.move_ends(choose) | self.move_shards(choose) | self.deliver_one(choose)) {
                return;
            }
        }
        panic!("something moves for ever");
    }

    /// Moves the shards until they wait for clients or time.
    pub fn work(&mut self) {
        while self.move_shards(&mut InTurn) | self.deliver_one(&mut InTurn) {}
    }

    fn move_ends(&mut self, choose: &mut impl Choose) -> bool {
        let count = self.ends.len();
        let first = choose.below(count.max(1));
        let mut moved = false;
        for offset in 0..count {
            let end = (first + offset) % count;
            let sent = self.ends[end].way.len();
            moved |= self.read(end, if sent > 0 { choose.piece(sent) } else { 0 });
            let waiting = self.connection(end).map_or(0, |(_, at)| at.outbox.len());
            moved |= self.write(end, if waiting > 0 { choose.piece(waiting) } else { 0 });
            moved |= self.finish(end);
        }
        moved
    }

    fn move_shards(&mut self, choose: &mut impl Choose) -> bool {
        let count = self.shards.len();
        let first = choose.below(count);
        let mut moved = false;
        for offset in 0..count {
            let shard = (first + offset) % count;
            moved |= self.tell_room(shard) | self.look(shard) | self.judge(shard, 0);
            moved |= self.persist(shard, ALL) | self.turn(shard);
        }
        moved
    }

    /// Tells a shard of all channels that have room again.
    fn tell_room(&mut self, from: usize) -> bool {
        let mut moved = false;
        for to in 0..self.shards.len() {
            if self.desks[from].channels[to].has_room {
                moved |= self.room(from, to);
            }
        }
        moved
    }

    /// Delivers one message of some channel.
    fn deliver_one(&mut self, choose: &mut impl Choose) -> bool {
        let count = self.shards.len();
        let first = choose.below(count * count);
        for offset in 0..count * count {
            let pair = (first + offset) % (count * count);
            let (from, to) = (pair / count, pair % count);
            if self.deliver(from, to) {
                return true;
            }
        }
        false
    }
}
