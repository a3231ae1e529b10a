//! All retained topics in the order of their texts, and which of two topics comes first.
//!
//! Comparing two texts means fetching both from memory, which costs more than everything else here.
//! So each topic has a note, with the number of its chunk and a digest: the four bytes behind the
//! prefix that all texts of the chunk share. Two notes mostly decide which topic comes first; texts
//! are compared only if both topics lie in one chunk and have the same digest.
//!
//! ```text
//! chunks in order     rank 0: number 4          rank 1: number 0
//! texts               "a/1/x"  "a/1/y"          "a/2/x"  "a/3/x"
//! shared prefix       "a/1/"                    "a/"
//! notes               (4, "x") (4, "y")         (0, "2/x") (0, "3/x")
//! ```
//!
//! A chunk keeps its number while chunks before it come and go; only its rank changes. In the texts
//! a NUL takes the place of `/`, so that they sort level by level.

use super::sorted::{Place, Sorted};
use super::trie::Texts;
use crate::arena::Key;
use std::cmp::Ordering;

/// All topics in the order of their texts, which stay with their owner ([`Texts`]).
#[derive(Debug, Default)]
pub(super) struct Order {
    topics: Sorted,
    /// The number of each chunk, by rank.
    numbers: Vec<u32>,
    /// Rank and prefix of each chunk, by number.
    chunks: Vec<Chunk>,
    /// Numbers that no chunk has.
    free: Vec<u32>,
    /// For each topic, by the bits of its key.
    notes: Vec<Note>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    /// The number of chunks before it.
    rank: u32,
    /// The length of the prefix that all its texts share, in bytes.
    prefix_len: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Note {
    /// The number of the chunk that the topic lies in.
    number: u32,
    /// The four bytes of its text that follow the prefix.
    digest: u32,
}

impl Order {
    /// Returns all topics.
    pub(super) fn topics(&self) -> &Sorted {
        &self.topics
    }

    /// Returns whether one topic comes before another.
    pub(super) fn is_before(&self, one: Key, other: Key, texts: &impl Texts) -> bool {
        let (note, other_note) = (self.note(one), self.note(other));
        if note.number != other_note.number {
            let rank = |number| self.chunks[number as usize].rank;
            return rank(note.number) < rank(other_note.number);
        }
        match note.digest.cmp(&other_note.digest) {
            Ordering::Less => true,
            Ordering::Equal => one != other && texts.text(one) < texts.text(other),
            Ordering::Greater => false,
        }
    }

    /// Adds a topic that is not there.
    pub(super) fn insert(&mut self, topic: Key, texts: &impl Texts) {
        let notes_len = self.notes.len().max(topic.bits() as usize + 1);
        self.notes.resize(notes_len, Note::default());
        let place = self.place(texts.text(topic), texts);
        let added = self.topics.insert(place, topic);
        if let Some(rank) = added.new_chunk {
            let number = self.free.pop().unwrap_or(self.chunks.len() as u32);
            self.numbers.insert(rank, number);
            self.rank_from(rank);
            self.note_all(rank, texts);
        }
        self.note_one(topic, added.chunk, texts);
    }

    /// Removes a topic that is there.
    pub(super) fn remove(&mut self, topic: Key, texts: &impl Texts) {
        let rank = self.chunks[self.note(topic).number as usize].rank as usize;
        let index = self.topics.chunks()[rank].iter().position(|other| *other == topic);
        let index = index.expect("the topic is in the chunk that its note names");
        let Some(gone) = self.topics.remove(Place { chunk: rank, index }) else { return };
        self.free.push(self.numbers.remove(gone));
        self.rank_from(gone);
        if let Some(before) = gone.checked_sub(1) {
            self.note_all(before, texts);
        }
    }

    /// Returns the first place whose text is not before this one.
    pub(super) fn place(&self, text: &str, texts: &impl Texts) -> Place {
        let ends_before = |topics: &Vec<Key>| topics.last().is_some_and(|t| texts.text(*t) < text);
        let chunk = self.topics.chunks().partition_point(ends_before);
        let topics = self.topics.chunks().get(chunk).map_or(&[][..], Vec::as_slice);
        let Some(first) = topics.first() else { return Place { chunk, index: 0 } };
        let prefix_len = self.chunks[self.numbers[chunk] as usize].prefix_len as usize;
        if common_len(text, texts.text(*first)) < prefix_len {
            return Place { chunk, index: 0 }; // It is not behind the last, hence before all.
        }
        let digest = digest(text, prefix_len);
        let is_before = |topic: &Key| match self.note(*topic).digest.cmp(&digest) {
            Ordering::Equal => texts.text(*topic) < text,
            unequal => unequal.is_lt(),
        };
        Place { chunk, index: topics.partition_point(is_before) }
    }

    fn note(&self, topic: Key) -> Note {
        self.notes[topic.bits() as usize]
    }

    /// Updates the ranks of this chunk and of those behind it.
    fn rank_from(&mut self, rank: usize) {
        self.chunks.resize(self.numbers.len() + self.free.len(), Chunk::default());
        for (rank, number) in self.numbers.iter().enumerate().skip(rank) {
            self.chunks[*number as usize].rank = rank as u32;
        }
    }

    /// Sets the note of a topic that was added to a chunk; of all its topics if the shared prefix
    /// became shorter.
    fn note_one(&mut self, topic: Key, rank: usize, texts: &impl Texts) {
        let (text, topics) = (texts.text(topic), &self.topics.chunks()[rank]);
        let ends = [topics.first(), topics.last()].into_iter().flatten();
        let common = ends.map(|end| common_len(text, texts.text(*end))).min();
        let number = self.numbers[rank];
        let prefix_len = self.chunks[number as usize].prefix_len as usize;
        if common < Some(prefix_len) {
            self.note_all(rank, texts);
        } else {
            self.notes[topic.bits() as usize] = Note { number, digest: digest(text, prefix_len) };
        }
    }

    /// Sets the shared prefix of a chunk and the notes of all its topics.
    fn note_all(&mut self, rank: usize, texts: &impl Texts) {
        let (number, topics) = (self.numbers[rank], &self.topics.chunks()[rank]);
        let [first, .., last] = &topics[..] else {
            let all = topics.iter().map(|only| texts.text(*only).len());
            self.chunks[number as usize].prefix_len = all.sum::<usize>() as u32;
            return topics.iter().for_each(|only| {
                self.notes[only.bits() as usize] = Note { number, digest: 0 };
            });
        };
        let prefix_len = common_len(texts.text(*first), texts.text(*last));
        self.chunks[number as usize].prefix_len = prefix_len as u32;
        for topic in topics {
            let digest = digest(texts.text(*topic), prefix_len);
            self.notes[topic.bits() as usize] = Note { number, digest };
        }
    }
}

/// Returns the four bytes that follow the first `start`, as a number that compares as they do. A
/// text that ends earlier is filled up with zeros, so it is less or equal.
fn digest(text: &str, start: usize) -> u32 {
    let mut bytes = [0; 4];
    let rest = &text.as_bytes()[start..];
    let len = rest.len().min(bytes.len());
    bytes[..len].copy_from_slice(&rest[..len]);
    u32::from_be_bytes(bytes)
}

/// Returns the length of the prefix that two texts share, in bytes.
fn common_len(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(byte, other)| byte == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Texts for Arena<String> {
        fn text(&self, key: Key) -> &str {
            self.get(key)
        }
    }

    /// That all are there in order, and that of any two that is known.
    fn check(order: &Order, arena: &Arena<String>, model: &BTreeMap<String, Key>) {
        let held: Vec<_> = order.topics.chunks().iter().flatten().copied().collect();
        assert_eq!(held, model.values().copied().collect::<Vec<_>>());
        for stride in [1, 2, 300, 1100] {
            for (one, other) in held.iter().zip(held.iter().skip(stride)) {
                assert!(order.is_before(*one, *other, arena));
                assert!(!order.is_before(*other, *one, arena));
            }
        }
        assert!(held.iter().all(|topic| !order.is_before(*topic, *topic, arena)));
        assert_eq!(order.numbers.len(), order.topics.chunks().len());
    }

    /// Texts of which few, many or most begin with the same, and may differ by an end alone.
    fn text(number: usize) -> String {
        let deep = "same\0".repeat(number % 3);
        format!(
            "{deep}{}\0{}",
            number % 7,
            "x".repeat(number / 21 % 19) + &(number / 400).to_string()
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn two_topics_are_in_the_order_of_their_texts(
            steps in prop::collection::vec(
                (any::<bool>(), 0_usize..4000, 0_usize..4000, 1_usize..9), 1..12,
            ),
        ) {
            let (mut order, mut arena) = (Order::default(), Arena::new());
            let mut model = BTreeMap::new();
            for (add, one, other, step) in steps {
                for text in (one.min(other)..one.max(other)).step_by(step).map(text) {
                    if let (false, Some(key)) = (add, model.get(&text).copied()) {
                        model.remove(&text);
                        order.remove(key, &arena);
                        arena.remove(key);
                    } else if add && !model.contains_key(&text) {
                        let key = arena.insert(text.clone());
                        order.insert(key, &arena);
                        model.insert(text, key);
                    }
                }
                check(&order, &arena, &model);
            }
        }
    }
}
