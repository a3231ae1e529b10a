//! The filters with wildcards, level by level.
//!
//! A node stands for the first levels that two or more filters share; a filter that shares no
//! more hangs there as a leaf, and the rest of it is compared as text. Hence the nodes are fewer
//! than the filters, whatever their depth, and removing a filter leaves no node behind that
//! only one filter needs. Nothing here recurses: a topic may have 65,535 levels.
//!
//! The trie holds keys; the text of a filter stays with its owner ([`Texts`]).

use super::arena::{Arena, Key};
use super::index::Index;
use super::level::{after, is_hidden, level_at, rest_matches};
use ahash::RandomState;

/// Where the text of a filter is found by its key.
pub(super) trait Texts {
    fn text(&self, key: Key) -> &str;
}

/// A set of filters by key, found by the topics they match.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Arena<Node>,
    root: Key,
    hasher: RandomState,
}

/// What follows the levels that the filters below share.
///
/// Invariant: at least two filters lie at or below every node but the root.
#[derive(Debug, Default)]
struct Node {
    /// The level that leads here; empty under `+` and at the root.
    label: Box<str>,
    /// Every [`Child`] whose level is no wildcard, by that level.
    literals: Index,
    plus: Option<Child>,
    /// The filter that continues with `#`.
    hash: Option<Key>,
    /// The filter that ends here.
    here: Option<Key>,
}

/// A node or a leaf, packed into 32 bits with the lowest for a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Child(Key);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Node(Key),
    Leaf(Key),
}

/// A node to look at, with the positions of the level that leads on from it: in the topic, and
/// in every filter below, which are all alike up to there.
#[derive(Clone, Copy)]
struct Place {
    node: Key,
    topic: usize,
    filter: usize,
}

impl Trie {
    pub(super) fn new(hasher: RandomState) -> Self {
        let mut nodes = Arena::new();
        let root = nodes.insert(Node::default());
        Self { nodes, root, hasher }
    }

    /// Calls `found` with every filter that matches `topic`.
    ///
    /// The cost follows the nodes whose levels match the topic so far. Filters that put `+` and
    /// names in every combination on one path can make that as many as there are filters; how
    /// many one client may hold is what limits them.
    pub(super) fn for_each_match(
        &self,
        topic: &str,
        texts: &impl Texts,
        found: &mut impl FnMut(Key),
    ) {
        let mut pending = Pending::new(Place { node: self.root, topic: 0, filter: 0 });
        while let Some(place) = pending.pop() {
            self.visit(place, topic, texts, &mut pending, found);
        }
    }

    /// The key of `filter` if it is in the set.
    pub(super) fn find(&self, filter: &str, texts: &impl Texts) -> Option<Key> {
        let (mut node, mut start) = (self.root, 0);
        loop {
            match self.follow(node, filter, start, texts)? {
                Target::Leaf(key) => return (texts.text(key) == filter).then_some(key),
                Target::Node(below) => node = below,
            }
            start = after(start, level_at(filter, start).expect("it led to a node"));
        }
    }

    /// Adds `filter`, which is not in the set, under `key`.
    pub(super) fn insert(&mut self, filter: &str, key: Key, texts: &impl Texts) {
        let (mut node, mut start) = (self.root, 0);
        loop {
            let child = match self.follow(node, filter, start, texts) {
                None => return self.hang(node, filter, start, key),
                Some(Target::Node(below)) => below,
                Some(Target::Leaf(other)) => self.split(node, start, other, texts),
            };
            node = child;
            start = after(start, level_at(filter, start).expect("it led to a child"));
        }
    }

    /// Takes out `filter`, which is in the set under `key`.
    pub(super) fn remove(&mut self, filter: &str, key: Key, texts: &impl Texts) {
        let path = self.path(filter, texts);
        let (last, start) = *path.last().expect("a path begins at the root");
        self.unhang(last, filter, start, key);
        for pair in path.windows(2).rev() {
            let ((parent, start), (node, _)) = (pair[0], pair[1]);
            let Some(only) = self.nodes.get(node).only_filter() else { return };
            self.relink(parent, filter, start, Child::node(node), Child::leaf(only));
            self.nodes.remove(node);
        }
    }

    fn visit(
        &self,
        place: Place,
        topic: &str,
        texts: &impl Texts,
        pending: &mut Pending,
        found: &mut impl FnMut(Key),
    ) {
        let node = self.nodes.get(place.node);
        let wild = place.topic > 0 || !is_hidden(topic); // [MQTT-4.7.2-1]
        if let Some(key) = node.hash.filter(|_| wild) {
            found(key); // also if the topic ends here: the parent level, section 4.7.1.2
        }
        let Some(level) = level_at(topic, place.topic) else {
            return node.here.into_iter().for_each(found);
        };
        let topic_next = after(place.topic, level);
        let mut enter = |child: Child, filter_next| match child.target() {
            Target::Node(node) => {
                pending.push(Place { node, topic: topic_next, filter: filter_next });
            }
            Target::Leaf(key) => {
                if rest_matches(texts.text(key), filter_next, topic, topic_next) {
                    found(key);
                }
            }
        };
        if let Some(child) = node.plus.filter(|_| wild) {
            enter(child, after(place.filter, "+"));
        }
        if let Some(child) = self.literal(node, level, place.filter, texts) {
            enter(child, after(place.filter, level));
        }
    }

    /// Where the level of `filter` at `start` leads from `node`. The end of the filter and `#`
    /// lead to the filter itself.
    fn follow(&self, node: Key, filter: &str, start: usize, texts: &impl Texts) -> Option<Target> {
        let node = self.nodes.get(node);
        match level_at(filter, start) {
            None => node.here.map(Target::Leaf),
            Some("#") => node.hash.map(Target::Leaf),
            Some("+") => node.plus.map(Child::target),
            Some(level) => self.literal(node, level, start, texts).map(Child::target),
        }
    }

    /// The child of `node` under `level`, which lies at `start` in every filter below.
    fn literal(&self, node: &Node, level: &str, start: usize, texts: &impl Texts) -> Option<Child> {
        if node.literals.is_empty() {
            return None;
        }
        let is_it = |number| match Child::from_number(number).target() {
            Target::Node(below) => *self.nodes.get(below).label == *level,
            Target::Leaf(key) => level_at(texts.text(key), start) == Some(level),
        };
        node.literals.find(self.hasher.hash_one(level), is_it).map(Child::from_number)
    }

    /// Hangs a filter on `node`, where nothing is in its way.
    fn hang(&mut self, node: Key, filter: &str, start: usize, key: Key) {
        let node = self.nodes.get_mut(node);
        match level_at(filter, start) {
            None => node.here = Some(key),
            Some("#") => node.hash = Some(key),
            Some("+") => node.plus = Some(Child::leaf(key)),
            Some(level) => {
                node.literals.insert(self.hasher.hash_one(level), Child::leaf(key).number());
            }
        }
    }

    /// Undoes [`Self::hang`].
    fn unhang(&mut self, node: Key, filter: &str, start: usize, key: Key) {
        let node = self.nodes.get_mut(node);
        match level_at(filter, start) {
            None => node.here = None,
            Some("#") => node.hash = None,
            Some("+") => node.plus = None,
            Some(level) => {
                node.literals.remove(self.hasher.hash_one(level), Child::leaf(key).number());
            }
        }
    }

    /// Puts a new node in the place of the leaf `other`, which hangs on `parent` by its level
    /// at `start`, and hangs the leaf on that node.
    fn split(&mut self, parent: Key, start: usize, other: Key, texts: &impl Texts) -> Key {
        let filter = texts.text(other);
        let level = level_at(filter, start).expect("two filters that differ share this level");
        let label = if level == "+" { "" } else { level };
        let node = self.nodes.insert(Node { label: label.into(), ..Node::default() });
        self.relink(parent, filter, start, Child::leaf(other), Child::node(node));
        self.hang(node, filter, after(start, level), other);
        node
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

impl Node {
    /// The one filter at or below this node, if it needs the node no longer.
    fn only_filter(&self) -> Option<Key> {
        let child = |child: Child| match child.target() {
            Target::Leaf(key) => Some(key),
            Target::Node(_) => None,
        };
        let ends = usize::from(self.here.is_some()) + usize::from(self.hash.is_some());
        if ends + usize::from(self.plus.is_some()) + self.literals.len() != 1 {
            return None;
        }
        let literal = || self.literals.iter().next().map(Child::from_number).and_then(child);
        self.here.or(self.hash).or_else(|| self.plus.and_then(child)).or_else(literal)
    }
}

impl Child {
    fn node(key: Key) -> Self {
        Self::pack(key, 0)
    }

    fn leaf(key: Key) -> Self {
        Self::pack(key, 1)
    }

    fn pack(key: Key, mark: u32) -> Self {
        Self(Key::from_bits(key.bits() << 1 | mark).expect("no key is zero"))
    }

    fn target(self) -> Target {
        let bits = self.0.bits();
        let key = Key::from_bits(bits >> 1).expect("no key is zero");
        if bits & 1 == 0 { Target::Node(key) } else { Target::Leaf(key) }
    }

    fn number(self) -> u32 {
        self.0.bits()
    }

    fn from_number(number: u32) -> Self {
        Self(Key::from_bits(number).expect("it was a child"))
    }
}

/// The places still to look at, last in first out; usually few enough not to allocate.
struct Pending {
    first: [Place; Self::FIRST],
    first_count: usize,
    /// Used only while `first` is full.
    more: Vec<Place>,
}

impl Pending {
    const FIRST: usize = 16;

    fn new(place: Place) -> Self {
        Self { first: [place; Self::FIRST], first_count: 1, more: Vec::new() }
    }

    fn push(&mut self, place: Place) {
        if self.first_count == Self::FIRST {
            return self.more.push(place);
        }
        self.first[self.first_count] = place;
        self.first_count += 1;
    }

    fn pop(&mut self) -> Option<Place> {
        if let Some(place) = self.more.pop() {
            return Some(place);
        }
        self.first_count = self.first_count.checked_sub(1)?;
        Some(self.first[self.first_count])
    }
}

#[cfg(test)]
impl Trie {
    /// How many nodes there are, the root included.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }
}
