//! A match that goes on piece by piece, while filters come and go.
//!
//! The filters that match one topic have an order: at every level `#` comes first, then the end of
//! the filter, then `+`, then the name. A walk goes through them in that order, and keeps the
//! place that it has come to as levels, not as nodes: the nodes may be others when it goes on. Of
//! every filter it is known on which side of that place it lies.

use super::{
    Child, Effort, TEXT_BYTES, Target, Texts, Trie, after, is_hidden, level_at, rest_matches,
};
use crate::arena::Key;
use crate::routing::signature::Signature;

/// How far such a match has come.
#[derive(Debug, Default)]
pub(in crate::routing) struct Walk {
    /// The place that is next, with all below it: for each level whether it is reached by the name
    /// that the topic has there, or else by `+`.
    path: Vec<bool>,
    is_done: bool,
    /// What the topic says at each level, as far as that was needed.
    levels: Vec<Level>,
    /// The nodes above the place, one for each level of the path, while a piece goes on.
    stops: Vec<Stop>,
}

/// A level of the topic.
#[derive(Clone, Copy, Debug)]
struct Level {
    start: usize,
    end: usize,
    hash: u64,
    /// Of the levels that follow.
    signature: Option<Signature>,
}

/// A node, and where in its filters the level starts that leads on.
#[derive(Clone, Copy, Debug)]
struct Stop {
    node: Key,
    filter: usize,
}

impl Walk {
    pub(in crate::routing) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether the walk has gone by the place of a filter that matches its topic.
    pub(in crate::routing) fn has_passed(&self, filter: &str) -> bool {
        let mut levels = filter.split('/');
        for is_name in &self.path {
            match (levels.next(), is_name) {
                (None | Some("#"), _) | (Some("+"), true) => return true,
                (Some("+"), false) => {}
                (Some(_), true) => {}
                (Some(_), false) => return false,
            }
        }
        self.is_done
    }

    /// All at the place and below it was found.
    fn leave(&mut self) {
        while let Some(is_name) = self.path.pop() {
            if !is_name {
                return self.path.push(true);
            }
            self.stops.pop();
        }
        self.is_done = true;
    }
}

/// A walk and what it walks over.
struct Walker<'a, T, F> {
    trie: &'a Trie,
    topic: &'a str,
    texts: &'a T,
    walk: &'a mut Walk,
    effort: Effort,
    found: &'a mut F,
}

impl Trie {
    /// Goes on with a match, step by step until `effort_max` is spent; calls `found` with filters.
    pub(in crate::routing) fn walk(
        &self,
        topic: &str,
        walk: &mut Walk,
        effort_max: usize,
        texts: &impl Texts,
        found: &mut impl FnMut(Key),
    ) -> Effort {
        let effort = Effort::default();
        let mut walker = Walker { trie: self, topic, texts, walk, effort, found };
        walker.find_place();
        while !walker.walk.is_done {
            walker.step();
            if walker.effort.total() >= effort_max {
                break;
            }
        }
        walker.effort
    }
}

impl<T: Texts, F: FnMut(Key)> Walker<'_, T, F> {
    /// Finds the nodes above the place again. If they are no more, what they held has moved up,
    /// and some of it lies in front of the place.
    fn find_place(&mut self) {
        self.walk.stops.clear();
        let mut stop = Stop { node: self.trie.root, filter: 0 };
        for depth in 0..self.walk.path.len() {
            self.effort.nodes += 1;
            self.walk.stops.push(stop);
            if depth + 1 == self.walk.path.len() {
                return;
            }
            match self.below(depth) {
                Some((Target::Node(node), filter)) => stop = Stop { node, filter },
                target => {
                    self.look_through(depth, target.map(|(target, _)| target), true);
                    self.walk.path.truncate(depth + 1);
                    return self.walk.leave();
                }
            }
        }
    }

    /// Finds what is at the place, and goes on to the next one.
    fn step(&mut self) {
        let depth = self.walk.path.len();
        let place = match depth.checked_sub(1) {
            None => Some((Target::Node(self.trie.root), 0)),
            Some(above) => self.below(above),
        };
        if let Some((Target::Node(node), filter)) = place {
            return self.visit(Stop { node, filter });
        }
        if let (Some((target, _)), Some(above)) = (place, depth.checked_sub(1)) {
            self.look_through(above, Some(target), false);
        }
        self.walk.leave();
    }

    fn visit(&mut self, stop: Stop) {
        let (node, depth) = (self.trie.nodes.get(stop.node), self.walk.path.len());
        self.effort.nodes += 1;
        if let Some(key) = node.hash.filter(|_| self.is_wild(depth)) {
            (self.found)(key); // also if the topic ends here: the parent level, section 4.7.1.2
        }
        if self.level(depth).is_some() {
            self.walk.stops.push(stop);
            self.walk.path.push(false);
        } else {
            node.here.into_iter().for_each(&mut *self.found);
            self.walk.leave();
        }
    }

    /// What the path leads to from its node at a depth, and where in the filters there the next
    /// level starts.
    fn below(&mut self, depth: usize) -> Option<(Target, usize)> {
        let Stop { node, filter } = self.walk.stops[depth];
        let node = self.trie.nodes.get(node);
        if !self.walk.path[depth] {
            let plus = node.plus.filter(|_| self.is_wild(depth))?;
            return Some((plus.target(), after(filter, "+")));
        }
        if node.literals.is_empty() {
            return None;
        }
        let Level { start, end, hash, .. } = self.level(depth)?;
        let (name, trie, texts) = (&self.topic[start..end], self.trie, self.texts);
        let is_it = |number| trie.is_under(Child::from_number(number), name, filter, texts);
        let number = node.literals.find(hash, is_it)?;
        Some((Child::from_number(number).target(), after(filter, name)))
    }

    /// Compares filters that hang below the node at a depth; `is_partly` leaves out those that lie
    /// in front of the place.
    fn look_through(&mut self, depth: usize, target: Option<Target>, is_partly: bool) {
        match target {
            Some(Target::Leaf(key)) => self.compare(depth, key, is_partly),
            Some(Target::Bucket(bucket)) => {
                let Some(signature) = self.signature(depth) else { return };
                let bucket = self.trie.buckets.get(bucket);
                self.effort.buckets += 1;
                self.effort.signatures += bucket.len();
                bucket.candidates(signature).for_each(|key| self.compare(depth, key, is_partly));
            }
            Some(Target::Node(_)) | None => {}
        }
    }

    fn compare(&mut self, depth: usize, key: Key, is_partly: bool) {
        let Some(Level { start, .. }) = self.level(depth) else { return };
        let (text, at) = (self.texts.text(key), self.walk.stops[depth].filter);
        self.effort.texts += 1 + text.len() / TEXT_BYTES;
        let is_in_front = is_partly && self.walk.has_passed(text);
        if !is_in_front && rest_matches(&text[at..], &self.topic[start..]) {
            (self.found)(key);
        }
    }

    /// Whether wildcards at a depth stand for what the topic has there [MQTT-4.7.2-1].
    fn is_wild(&self, depth: usize) -> bool {
        depth > 0 || !is_hidden(self.topic)
    }

    /// What the topic says at a depth; `None` behind its end.
    fn level(&mut self, depth: usize) -> Option<Level> {
        let levels = &mut self.walk.levels;
        while levels.len() <= depth {
            let start = levels.last().map_or(0, |level| level.end + 1);
            let name = level_at(self.topic, start)?;
            let (end, hash) = (start + name.len(), self.trie.hasher.hash_one(name));
            levels.push(Level { start, end, hash, signature: None });
        }
        Some(levels[depth])
    }

    /// Of the levels of the topic that follow a depth.
    fn signature(&mut self, depth: usize) -> Option<Signature> {
        let Level { end, signature, .. } = self.level(depth)?;
        let of_topic = || Signature::of_filter(self.topic, end + 1, &self.trie.hasher);
        let signature = signature.unwrap_or_else(of_topic);
        self.walk.levels[depth].signature = Some(signature);
        Some(signature)
    }
}
