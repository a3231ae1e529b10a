//! All retained topics in order, and which of two comes first.
//!
//! To compare two texts means to read both, wherever they are. So each topic has the number of the
//! chunk it lies in, and each chunk has its rank: two numbers tell which topic comes first, and
//! texts are compared only of those that share a chunk.

use super::sorted::{Place, Sorted};
use super::trie::Texts;
use crate::arena::Key;

/// All topics in the order of their texts, which stay with their owner ([`Texts`]).
#[derive(Debug, Default)]
pub(super) struct Order {
    topics: Sorted,
    /// The number of each chunk, which it keeps while its rank changes.
    chunks: Vec<u32>,
    /// The rank of each number: where in `chunks` it stands.
    ranks: Vec<u32>,
    /// Numbers that no chunk has.
    free: Vec<u32>,
    /// For each topic, by the bits of its key, the number of its chunk.
    homes: Vec<u32>,
}

impl Order {
    /// All topics.
    pub(super) fn topics(&self) -> &Sorted {
        &self.topics
    }

    /// Whether one topic comes before another.
    pub(super) fn is_before(&self, one: Key, other: Key, texts: &impl Texts) -> bool {
        let (rank, other_rank) = (self.rank(one), self.rank(other));
        if rank != other_rank {
            return rank < other_rank;
        }
        one != other && texts.text(one) < texts.text(other)
    }

    /// Adds a topic that is not there.
    pub(super) fn insert(&mut self, topic: Key, texts: &impl Texts) {
        let home = topic.bits() as usize;
        self.homes.resize(self.homes.len().max(home + 1), 0);
        let text = texts.text(topic);
        let place = self.topics.seek(Place::default(), |other| texts.text(other) < text);
        let added = self.topics.insert(place, topic);
        if let Some(chunk) = added.new_chunk {
            let number = self.free.pop().unwrap_or(self.ranks.len() as u32);
            self.chunks.insert(chunk, number);
            self.rank_from(chunk);
            self.adopt(chunk);
        }
        self.homes[home] = self.chunks[added.chunk];
    }

    /// Takes out a topic that is there.
    pub(super) fn remove(&mut self, topic: Key) {
        let chunk = self.rank(topic) as usize;
        let index = self.topics.chunk(chunk).iter().position(|other| *other == topic);
        let index = index.expect("the topic is in the chunk that it notes");
        let Some(gone) = self.topics.remove(Place { chunk, index }) else { return };
        self.free.push(self.chunks.remove(gone));
        self.rank_from(gone);
        if let Some(before) = gone.checked_sub(1) {
            self.adopt(before);
        }
    }

    fn rank(&self, topic: Key) -> u32 {
        self.ranks[self.homes[topic.bits() as usize] as usize]
    }

    /// Ranks this chunk and those that follow anew.
    fn rank_from(&mut self, chunk: usize) {
        self.ranks.resize(self.chunks.len() + self.free.len(), 0);
        for (rank, number) in self.chunks.iter().enumerate().skip(chunk) {
            self.ranks[*number as usize] = rank as u32;
        }
    }

    /// Notes of each topic in a chunk that it is there.
    fn adopt(&mut self, chunk: usize) {
        for topic in self.topics.chunk(chunk) {
            self.homes[topic.bits() as usize] = self.chunks[chunk];
        }
    }
}
