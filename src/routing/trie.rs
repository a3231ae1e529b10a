//! The filters with wildcards, level by level.
//!
//! A node stands for the first levels that many filters share. Few that share no more hang there
//! in one [`Bucket`], and a single one as a leaf: the levels that they have for themselves cost
//! no nodes, a match tells most of them by their signatures, and the rest is compared as text.
//! So a million filters have some ten thousand nodes, which lie in a cache, and a subscription
//! walks over a handful of them. Nothing here recurses: a topic may have 65,535 levels.
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

/// What one match has looked at: what it costs, whatever the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Places that the topic leads to, each with the filters that hang there.
    pub nodes: usize,
    /// Pieces of filters that were looked through, and the filters in them.
    pub buckets: usize,
    /// The filters in those pieces, told by their signatures alone.
    pub signatures: usize,
    /// Filters whose text was compared; a long one counts several times.
    pub texts: usize,
}

impl Effort {
    /// Everything that was looked at, but for the signatures, eight of which are as one.
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
    /// Empty lists whose memory the next match uses.
    spare: RefCell<Frontier>,
    /// See [`Trie::take_moved`].
    moved: usize,
}

/// Fewer make more nodes, more take longer to look through.
const BUCKET_LEN_MAX: usize = 64;

/// Levels that a bucket is split by at once, if all of its filters share them.
const SPLITS_MAX: usize = 16;

/// Buckets and filters that are looked at together: more would have to leave the cache again.
const HANGING_MAX: usize = 256;

/// So many bytes of a text take as long as to look at one more place.
const TEXT_BYTES: usize = 256;

/// Lists that have room for more places are given back to the allocator.
const SPARE_MAX: usize = 4096;

/// What it takes to move a filter, and how many more of its bytes take as long as one such part.
const MOVED: usize = 3;
const MOVED_BYTES: usize = 256;
/// What is moved for one insert at most: then a bucket that is too full stays so until the next.
const MOVED_MAX: usize = 1024;

/// What follows the levels that the filters below share.
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
    /// How many filters lie at or below this node. A node with a quarter of what makes a bucket
    /// full becomes one again, unless it is the root.
    len: u32,
}

/// A node to look at, and where in every filter there the level starts that leads on from it.
/// The filters are all as long up to there.
#[derive(Clone, Copy, Debug)]
struct Place {
    node: Key,
    filter: usize,
}

/// A bucket to look through or a filter to compare, where the level that led there starts in the
/// filter and in the topic, and how the topic goes on behind that level.
#[derive(Clone, Copy, Debug)]
struct Hanging {
    key: Key,
    filter: usize,
    topic: usize,
    signature: Signature,
}

/// What a match has still to look at.
#[derive(Debug, Default)]
struct Frontier {
    /// At the next level.
    nodes: Vec<Place>,
    /// Those of this level, while it is left.
    now: Vec<Place>,
    /// At all levels that are left.
    buckets: Vec<Hanging>,
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

    /// Calls `found` with every filter that matches `topic`; `None`, and some of them are not
    /// found, if that would take much more than `effort_max`.
    ///
    /// The cost follows the nodes and buckets whose levels match the topic so far. Filters that
    /// put `+` and names in every combination on one path can make them a tenth of all filters:
    /// then a [`Walk`] goes on in pieces.
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

    /// The key of `filter` if it is in the set.
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

    /// Takes out `filter`, which is in the set under `key`.
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

    /// Filters that were moved to other places since this was asked for last, long ones counted
    /// several times: how many that are at once depends on what comes together.
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
            // What else hangs under a name that only looks like this one is told by its text.
            if !matches!(child.target(), Target::Node(below) if !self.is_labelled(below, level)) {
                frontier.enter(child, filter, level, step);
            }
        }
    }

    /// Has the processor fetch what [`Self::visit`] will read.
    fn fetch_nodes(&self, nodes: &[Place], step: &Step<'_>) {
        fetch(nodes.iter().map(|place| self.nodes.get(place.node).len as usize));
        fetch(nodes.iter().map(|place| self.nodes.get(place.node).literals.fetch(step.hash)));
    }

    /// Has the processor fetch what [`Self::look_through`] will read.
    fn fetch_buckets(&self, buckets: &[Hanging]) {
        let bucket = |place: &Hanging| self.buckets.get(place.key);
        fetch(buckets.iter().map(|place| bucket(place).len()));
        fetch(buckets.iter().map(|place| bucket(place).fetch()));
    }

    fn is_labelled(&self, node: Key, level: &str) -> bool {
        self.nodes.get(node).label.is(level)
    }

    /// Looks at the filters that hang at the nodes that were visited; false if those that have to
    /// be compared are more than `effort_max`.
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

    /// Where the level of `filter` at `start` leads from `node`. The end of the filter and `#`
    /// lead to the filter itself.
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

    /// Whether what hangs under a name that looks like this one, which starts at `start` in its
    /// filters, hangs under this one.
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

    /// Counts a filter at a node and hangs it there, unless it belongs to a node below. Returns
    /// what was met.
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

    /// Filters below one level, the next of which starts at `below` in each.
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

    /// Puts a node in the place of the bucket to which the level of `filter` at `start` leads
    /// from `parent`, if it is too full; and so on below if its filters share more levels.
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

    /// Takes a filter from a node where it hangs as a leaf or in a bucket.
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

    /// Takes a node out with all that is below it; what holds its filters in its place. `start`
    /// is where the level that leads on from it starts.
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

    /// Hangs a leaf on `node`, where nothing is in its way.
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

    /// The nodes on the way to `filter`, root first, each with where the level that leads on
    /// starts.
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

/// Reads one word of each of many places. Whether that comes from memory or from a cache, none
/// of them waits for another, as they would if what is done next depended on each.
fn fetch(words: impl Iterator<Item = usize>) {
    std::hint::black_box(words.fold(0, |sum, word| sum ^ word));
}

impl Frontier {
    /// The nodes of the next level, which is this one from now on.
    fn leave(&mut self) -> Vec<Place> {
        std::mem::swap(&mut self.nodes, &mut self.now);
        std::mem::take(&mut self.now)
    }

    /// Places that are still to be looked at.
    fn count(&self) -> usize {
        self.nodes.len() + self.buckets.len() + self.texts.len()
    }

    fn capacity(&self) -> usize {
        let nodes = self.nodes.capacity() + self.now.capacity();
        nodes + self.buckets.capacity() + self.texts.capacity()
    }

    /// Goes on below a level of the filters, which starts at `filter`.
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
    /// How many nodes there are, the root included, and how many buckets.
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
