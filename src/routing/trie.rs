//! The filters with wildcards, level by level.
//!
//! A node stands for the first levels that many filters share. If only a few filters continue in
//! the same way they lie in one [`Bucket`] below the node, and a single filter is a leaf. Levels
//! that few filters share therefore need no nodes: a match rejects most filters of a bucket by
//! their signatures, and compares the texts of the others. A million filters have some ten thousand
//! nodes, which fit into a cache, and a subscription visits a handful of them. Nothing here
//! recurses: a topic may have 65,535 levels.
//!
//! The trie holds keys; the text of a filter stays with its owner ([`Texts`]).

mod child;
mod label;
mod walk;

pub(super) use walk::Walk;

use super::bucket::{Bucket, Entry};
use super::level::{after, is_hidden, level_at, rest_matches};
use super::signature::{Signature, Step, Steps};
use crate::arena::{Arena, Key};
use crate::index::Index;
use ahash::RandomState;
use child::{Child, Target};
use label::Label;
use std::cell::RefCell;

/// Where the text of a filter or topic is found by its key.
pub(super) trait Texts {
    fn text(&self, key: Key) -> &str;
}

/// What one match has examined: its cost, independent of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Nodes that the topic leads to.
    pub nodes: usize,
    /// Buckets that were searched.
    pub buckets: usize,
    /// Signatures of filters that were compared in those buckets.
    pub signatures: usize,
    /// Filters whose text was compared; a long one counts several times.
    pub texts: usize,
}

impl Effort {
    /// Returns the sum of it all, in which eight signatures count as one.
    #[must_use]
    pub fn total(&self) -> usize {
        self.nodes + self.buckets + self.signatures / 8 + self.texts
    }
}

impl std::ops::AddAssign for Effort {
    fn add_assign(&mut self, more: Self) {
        self.nodes += more.nodes;
        self.buckets += more.buckets;
        self.signatures += more.signatures;
        self.texts += more.texts;
    }
}

/// A set of filters by key, found by the topics they match.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Arena<Node>,
    buckets: Arena<Bucket>,
    root: Key,
    hasher: RandomState,
    /// A bucket with more filters becomes a node.
    bucket_len_max: usize,
    /// Empty lists whose memory the next match reuses.
    spare: RefCell<Frontier>,
    /// Filters that were moved since [`Trie::take_moved`].
    moved: usize,
}

/// With fewer there are more nodes; more of them take longer to search.
const BUCKET_LEN_MAX: usize = 64;

/// The most levels that a bucket is split by at once, if all of its filters share them.
const SPLITS_MAX: usize = 16;

/// Buckets and filters that are examined together: more of them would not stay in the cache.
const HANGING_MAX: usize = 256;

/// Comparing this many bytes of a text takes as long as visiting one node.
const TEXT_BYTES: usize = 256;

/// Lists with a larger capacity are freed after a match.
const SPARE_MAX: usize = 4096;

/// The effort of moving a filter, and how many bytes of its text add one to it.
const MOVED: usize = 3;
const MOVED_BYTES: usize = 256;
/// The most effort of one insert. A bucket that is still too full is split by the next insert.
const MOVED_MAX: usize = 1024;

/// What follows the levels that all filters below have in common.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Node {
    /// The level that leads here; empty under `+` and at the root.
    label: Label,
    /// Every [`Child`] whose level is no wildcard, by that level.
    literals: Index,
    plus: Option<Child>,
    /// The filter that continues with `#`.
    hash: Option<Key>,
    /// The filter that ends here.
    here: Option<Key>,
    /// The number of filters at or below this node. When only a quarter of a full bucket is left,
    /// the node becomes a bucket again, unless it is the root.
    len: u32,
}

/// A node to visit. `filter` is the offset at which its children's level starts; it is the same in
/// every filter below the node.
#[derive(Clone, Copy, Debug)]
struct Place {
    node: Key,
    filter: usize,
}

/// A bucket or a leaf to examine. `filter` and `topic` are the offsets of the level that led to it,
/// and `signature` is that of the topic behind that level.
#[derive(Clone, Copy, Debug)]
struct Hanging {
    key: Key,
    filter: usize,
    topic: usize,
    signature: Signature,
}

/// What a match has still to examine.
#[derive(Debug, Default)]
struct Frontier {
    /// Nodes of the next level.
    nodes: Vec<Place>,
    /// An empty list: the memory of the nodes of the level that was visited last.
    now: Vec<Place>,
    /// Buckets of all levels so far.
    buckets: Vec<Hanging>,
    /// Leaves of all levels so far, and candidates from buckets.
    texts: Vec<Hanging>,
}

impl Trie {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self::with_buckets(hasher, BUCKET_LEN_MAX)
    }

    /// `bucket_len_max` is at least 2.
    pub(super) fn with_buckets(hasher: RandomState, bucket_len_max: usize) -> Self {
        let mut nodes = Arena::new();
        let root = nodes.insert(Node::default());
        let (buckets, spare) = (Arena::new(), RefCell::default());
        Self { nodes, buckets, root, hasher, bucket_len_max, spare, moved: 0 }
    }

    /// Calls `found` with every filter that matches `topic`. Returns `None`, and leaves some of
    /// them out, if that would take much more than `effort_max`.
    ///
    /// The cost grows with the nodes and buckets whose levels match the topic. Filters with `+` and
    /// names in every combination on one path can make these a tenth of all filters: then a
    /// [`Walk`] does the work in pieces.
    pub(super) fn for_each_match(
        &self,
        topic: &str,
        effort_max: usize,
        texts: &impl Texts,
        found: &mut impl FnMut(Key),
    ) -> Option<Effort> {
        let mut effort = Effort::default();
        if self.nodes.get(self.root).len == 0 {
            return Some(effort);
        }
        // The nodes of one depth are looked at together, and what hangs at any depth at the end: a
        // level is hashed once, and the processor fetches the next place while it waits for one.
        let mut frontier = self.spare.take();
        let mut steps = Steps::new(topic, &self.hasher);
        let mut wild = !is_hidden(topic); // [MQTT-4.7.2-1]
        frontier.nodes.push(Place { node: self.root, filter: 0 });
        while !frontier.nodes.is_empty() {
            let step = steps.next();
            let mut nodes = frontier.leave();
            effort.nodes += nodes.len();
            self.fetch_nodes(&nodes, &step);
            for place in nodes.drain(..) {
                self.visit(place, &step, wild, &mut frontier, found);
            }
            frontier.now = nodes;
            if frontier.buckets.len() + frontier.texts.len() >= HANGING_MAX
                && !self.look_through(topic, effort_max, &mut frontier, texts, found, &mut effort)
                || effort.total() + frontier.count() > effort_max
            {
                return None;
            }
            wild = true;
        }
        if !self.look_through(topic, effort_max, &mut frontier, texts, found, &mut effort) {
            return None;
        }
        if frontier.capacity() <= SPARE_MAX {
            self.spare.replace(frontier);
        }
        Some(effort)
    }

    /// Returns the key of `filter` if it is in the set.
    pub(super) fn find(&self, filter: &str, texts: &impl Texts) -> Option<Key> {
        let (mut node, mut start) = (self.root, 0);
        loop {
            let target = self.follow(node, filter, start, texts)?;
            let level = level_at(filter, start);
            let below = level.map_or(start, |level| after(start, level));
            match target {
                Target::Leaf(key) => return (texts.text(key) == filter).then_some(key),
                Target::Bucket(bucket) => {
                    let signature = Signature::of_filter(filter, below, &self.hasher);
                    let mut twins = self.buckets.get(bucket).twins(signature);
                    return twins.find(|key| texts.text(*key) == filter);
                }
                Target::Node(next) => (node, start) = (next, below),
            }
        }
    }

    /// Adds `filter`, which is not in the set, under `key`.
    pub(super) fn insert(&mut self, filter: &str, key: Key, texts: &impl Texts) {
        let (mut node, mut start) = (self.root, 0);
        while let Some(Target::Node(below)) = self.put(node, filter, start, key, texts) {
            start = after(start, level_at(filter, start).expect("it led to a node"));
            node = below;
        }
        self.split(node, filter, start, texts);
    }

    /// Removes `filter`, which is in the set under `key`.
    pub(super) fn remove(&mut self, filter: &str, key: Key, texts: &impl Texts) {
        let path = self.path(filter, texts);
        for (node, _) in &path {
            self.nodes.get_mut(*node).len -= 1;
        }
        let (last, start) = *path.last().expect("a path begins at the root");
        self.take(last, filter, start, key, texts);
        let is_small = |(node, _): &(Key, usize)| self.is_small(*node);
        if let Some(place) = path[1..].iter().position(is_small) {
            let ((parent, parent_start), (node, start)) = (path[place], path[place + 1]);
            let bucket = self.merge(node, start, texts);
            self.relink(parent, filter, parent_start, Child::node(node), bucket);
        }
    }

    /// Returns the effort of moving filters between nodes and buckets since the last call.
    pub(super) fn take_moved(&mut self) -> usize {
        std::mem::take(&mut self.moved)
    }

    fn visit(
        &self,
        place: Place,
        step: &Step<'_>,
        wild: bool,
        frontier: &mut Frontier,
        found: &mut impl FnMut(Key),
    ) {
        let node = self.nodes.get(place.node);
        if let Some(key) = node.hash.filter(|_| wild) {
            found(key); // also if the topic ends here: the parent level, section 4.7.1.2
        }
        let Some(level) = step.level else {
            return node.here.into_iter().for_each(found);
        };
        let filter = place.filter;
        if let Some(child) = node.plus.filter(|_| wild) {
            frontier.enter(child, filter, "+", step);
        }
        for number in node.literals.candidates(step.hash) {
            let child = Child::from_number(number);
            // Buckets and leaves of another name with the same hash are rejected by their texts.
            if !matches!(child.target(), Target::Node(below) if !self.is_labelled(below, level)) {
                frontier.enter(child, filter, level, step);
            }
        }
    }

    /// Fetches into the cache what [`Self::visit`] will read.
    fn fetch_nodes(&self, nodes: &[Place], step: &Step<'_>) {
        fetch(nodes.iter().map(|place| self.nodes.get(place.node).len as usize));
        fetch(nodes.iter().map(|place| self.nodes.get(place.node).literals.fetch(step.hash)));
    }

    /// Fetches into the cache what [`Self::look_through`] will read.
    fn fetch_buckets(&self, buckets: &[Hanging]) {
        let bucket = |place: &Hanging| self.buckets.get(place.key);
        fetch(buckets.iter().map(|place| bucket(place).len()));
        fetch(buckets.iter().map(|place| bucket(place).fetch()));
    }

    fn is_labelled(&self, node: Key, level: &str) -> bool {
        self.nodes.get(node).label.is(level)
    }

    /// Examines the buckets and leaves of the visited nodes. Returns false if more than
    /// `effort_max` texts would have to be compared.
    fn look_through(
        &self,
        topic: &str,
        effort_max: usize,
        frontier: &mut Frontier,
        texts: &impl Texts,
        found: &mut impl FnMut(Key),
        effort: &mut Effort,
    ) -> bool {
        self.fetch_buckets(&frontier.buckets);
        effort.buckets += frontier.buckets.len();
        for place in frontier.buckets.drain(..) {
            let bucket = self.buckets.get(place.key);
            effort.signatures += bucket.len();
            if frontier.texts.len() > effort_max {
                return false;
            }
            let candidates = bucket.candidates(place.signature);
            frontier.texts.extend(candidates.map(|key| Hanging { key, ..place }));
        }
        fetch(frontier.texts.iter().map(|place| texts.text(place.key).len()));
        for Hanging { key, filter, topic: start, .. } in frontier.texts.drain(..) {
            let text = &texts.text(key)[filter..];
            effort.texts += 1 + text.len() / TEXT_BYTES;
            if rest_matches(text, &topic[start..]) {
                found(key);
            }
        }
        true
    }

    /// Returns where the level of `filter` at `start` leads from `node`. The end of the filter and
    /// `#` lead to the filter itself.
    fn follow(&self, node: Key, filter: &str, start: usize, texts: &impl Texts) -> Option<Target> {
        let node = self.nodes.get(node);
        match level_at(filter, start) {
            None => node.here.map(Target::Leaf),
            Some("#") => node.hash.map(Target::Leaf),
            Some("+") => node.plus.map(Child::target),
            Some(level) => {
                let is_it = |number| self.is_under(Child::from_number(number), level, start, texts);
                let number = node.literals.find(self.hasher.hash_one(level), is_it);
                number.map(|number| Child::from_number(number).target())
            }
        }
    }

    /// Returns whether a child belongs to `level`, and not to another name with the same hash. The
    /// level starts at `start` in the child's filters.
    fn is_under(&self, child: Child, level: &str, start: usize, texts: &impl Texts) -> bool {
        match child.target() {
            Target::Node(below) => self.is_labelled(below, level),
            Target::Bucket(bucket) => {
                let first = self.buckets.get(bucket).keys().next();
                let first = first.expect("a bucket has two filters or more");
                level_at(texts.text(first), start) == Some(level)
            }
            Target::Leaf(key) => level_at(texts.text(key), start) == Some(level),
        }
    }

    /// Counts a filter at a node and adds it there, unless it belongs to a node below. Returns what
    /// its level led to before.
    fn put(
        &mut self,
        node: Key,
        filter: &str,
        start: usize,
        key: Key,
        texts: &impl Texts,
    ) -> Option<Target> {
        self.nodes.get_mut(node).len += 1;
        let met = self.follow(node, filter, start, texts);
        let below = || after(start, level_at(filter, start).expect("they share a level"));
        match met {
            None => self.hang(node, filter, start, Child::leaf(key)),
            Some(Target::Node(_)) => {}
            Some(Target::Leaf(other)) => {
                let bucket = self.bucket_of([other, key], below(), texts);
                self.relink(node, filter, start, Child::leaf(other), bucket);
            }
            Some(Target::Bucket(bucket)) => {
                let entry = self.entry(key, below(), texts);
                self.buckets.get_mut(bucket).push(entry);
            }
        }
        met
    }

    /// Makes a bucket of filters whose next level starts at `below`.
    fn bucket_of(
        &mut self,
        keys: impl IntoIterator<Item = Key>,
        below: usize,
        texts: &impl Texts,
    ) -> Child {
        let mut bucket = Bucket::default();
        for key in keys {
            bucket.push(self.entry(key, below, texts));
        }
        Child::bucket(self.buckets.insert(bucket))
    }

    fn entry(&self, key: Key, below: usize, texts: &impl Texts) -> Entry {
        Entry { signature: Signature::of_filter(texts.text(key), below, &self.hasher), key }
    }

    /// Replaces the bucket to which the level of `filter` at `start` leads from `parent` by a node,
    /// if it is too full; repeats that below if its filters share more levels.
    fn split(&mut self, mut parent: Key, filter: &str, mut start: usize, texts: &impl Texts) {
        let before = self.moved;
        for _ in 0..SPLITS_MAX {
            if self.moved - before >= MOVED_MAX {
                return;
            }
            let Some(Target::Bucket(full)) = self.follow(parent, filter, start, texts) else {
                return;
            };
            if self.buckets.get(full).len() <= self.bucket_len_max {
                return;
            }
            let level = level_at(filter, start).expect("a level leads to every bucket");
            let label = Label::new(if level == "+" { "" } else { level });
            let node = self.nodes.insert(Node { label, ..Node::default() });
            self.relink(parent, filter, start, Child::bucket(full), Child::node(node));
            (parent, start) = (node, after(start, level));
            for key in self.buckets.remove(full).keys() {
                let text = texts.text(key);
                self.moved += MOVED + text.len() / MOVED_BYTES;
                self.put(node, text, start, key, texts);
            }
        }
    }

    /// Removes a filter from a node, where it is a leaf or lies in a bucket.
    fn take(&mut self, node: Key, filter: &str, start: usize, key: Key, texts: &impl Texts) {
        let Some(Target::Bucket(place)) = self.follow(node, filter, start, texts) else {
            return self.unhang(node, filter, start, Child::leaf(key));
        };
        let bucket = self.buckets.get_mut(place);
        bucket.remove(key);
        if bucket.len() == 1 {
            let last = bucket.keys().next().map(Child::leaf).expect("one is left");
            self.buckets.remove(place);
            self.relink(node, filter, start, Child::bucket(place), last);
        }
    }

    fn is_small(&self, node: Key) -> bool {
        self.nodes.get(node).len as usize <= (self.bucket_len_max / 4).max(1)
    }

    /// Removes a node with all that is below it. Returns a bucket or leaf with its filters; the
    /// level behind the node starts at `start`.
    fn merge(&mut self, node: Key, start: usize, texts: &impl Texts) -> Child {
        let (mut keys, mut nodes) = (Vec::new(), vec![node]);
        while let Some(node) = nodes.pop() {
            let node = self.nodes.remove(node);
            keys.extend(node.hash.into_iter().chain(node.here));
            let literals = node.literals.iter().map(Child::from_number);
            for child in node.plus.into_iter().chain(literals) {
                match child.target() {
                    Target::Node(below) => nodes.push(below),
                    Target::Leaf(key) => keys.push(key),
                    Target::Bucket(bucket) => {
                        let bucket = self.buckets.remove(bucket);
                        keys.extend(bucket.keys());
                    }
                }
            }
        }
        self.moved += keys.len();
        match keys[..] {
            [key] => Child::leaf(key),
            _ => self.bucket_of(keys, start, texts),
        }
    }

    /// Adds a leaf to `node`, where the place is free.
    fn hang(&mut self, node: Key, filter: &str, start: usize, leaf: Child) {
        let node = self.nodes.get_mut(node);
        match level_at(filter, start) {
            None => node.here = Some(leaf.key()),
            Some("#") => node.hash = Some(leaf.key()),
            Some("+") => node.plus = Some(leaf),
            Some(level) => node.literals.insert(self.hasher.hash_one(level), leaf.number()),
        }
    }

    /// Undoes [`Self::hang`].
    fn unhang(&mut self, node: Key, filter: &str, start: usize, leaf: Child) {
        let node = self.nodes.get_mut(node);
        match level_at(filter, start) {
            None => node.here = None,
            Some("#") => node.hash = None,
            Some("+") => node.plus = None,
            Some(level) => node.literals.remove(self.hasher.hash_one(level), leaf.number()),
        }
    }

    /// Replaces a child of `parent` under the level of `filter` at `start`.
    fn relink(&mut self, parent: Key, filter: &str, start: usize, old: Child, new: Child) {
        let node = self.nodes.get_mut(parent);
        match level_at(filter, start).expect("a level leads to every child") {
            "+" => node.plus = Some(new),
            level => {
                node.literals.replace(self.hasher.hash_one(level), old.number(), new.number());
            }
        }
    }

    /// Returns the nodes on the way to `filter`, root first, each with the offset of the level that
    /// leads on.
    fn path(&self, filter: &str, texts: &impl Texts) -> Vec<(Key, usize)> {
        let (mut node, mut start) = (self.root, 0);
        let mut path = vec![(node, start)];
        while let Some(Target::Node(below)) = self.follow(node, filter, start, texts) {
            start = after(start, level_at(filter, start).expect("it led to a node"));
            node = below;
            path.push((node, start));
        }
        path
    }
}

/// Reads one word of each of many places, so that the processor fetches them at the same time. If
/// what is done next depended on each of them, one fetch would wait for another.
fn fetch(words: impl Iterator<Item = usize>) {
    std::hint::black_box(words.fold(0, |sum, word| sum ^ word));
}

impl Frontier {
    /// Takes the nodes of the next level, to be visited now.
    fn leave(&mut self) -> Vec<Place> {
        std::mem::swap(&mut self.nodes, &mut self.now);
        std::mem::take(&mut self.now)
    }

    /// Returns how many nodes, buckets and leaves are left.
    fn count(&self) -> usize {
        self.nodes.len() + self.buckets.len() + self.texts.len()
    }

    fn capacity(&self) -> usize {
        let nodes = self.nodes.capacity() + self.now.capacity();
        nodes + self.buckets.capacity() + self.texts.capacity()
    }

    /// Adds a child to what is left; the level that leads to it starts at `filter`.
    fn enter(&mut self, child: Child, filter: usize, level: &str, step: &Step<'_>) {
        let (topic, signature) = (step.start, step.signature);
        match child.target() {
            Target::Node(node) => self.nodes.push(Place { node, filter: after(filter, level) }),
            Target::Bucket(key) => self.buckets.push(Hanging { key, filter, topic, signature }),
            Target::Leaf(key) => self.texts.push(Hanging { key, filter, topic, signature }),
        }
    }
}

#[cfg(test)]
impl Trie {
    /// Returns the number of nodes, the root included, and of buckets.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.nodes.len(), self.buckets.len())
    }

    /// Panics unless all is counted, nothing is left over and every piece has its size.
    pub(super) fn audit(&self, len: usize) {
        let (mut nodes, mut buckets, mut open) = (0, 0, vec![self.root]);
        while let Some(key) = open.pop() {
            nodes += 1;
            assert!(key == self.root || !self.is_small(key), "a small node is a bucket");
            let node = self.nodes.get(key);
            let mut below = usize::from(node.hash.is_some()) + usize::from(node.here.is_some());
            for child in node.plus.into_iter().chain(node.literals.iter().map(Child::from_number)) {
                below += match child.target() {
                    Target::Leaf(_) => 1,
                    Target::Bucket(bucket) => {
                        buckets += 1;
                        self.buckets.get(bucket).len()
                    }
                    Target::Node(key) => {
                        open.push(key);
                        self.nodes.get(key).len as usize
                    }
                };
            }
            assert_eq!(node.len as usize, below, "what lies below is counted");
        }
        assert_eq!(self.counts(), (nodes, buckets), "nothing is left over");
        assert_eq!(self.nodes.get(self.root).len as usize, len);
        assert!(self.buckets.iter().all(|(_, bucket)| bucket.len() > 1), "one is a leaf");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_fits_into_a_cache_line() {
        assert!(size_of::<Node>() <= 64);
    }
}
