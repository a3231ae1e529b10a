//! The filters with wildcards, level by level.
//!
//! A node stands for the first levels that two or more filters share; a filter that shares no
//! more hangs there as a leaf, and the rest of it is compared as text. Hence the levels that a
//! filter has for itself cost no nodes, and removing a filter leaves none behind that only one
//! filter needs. Nothing here recurses: a topic may have 65,535 levels.
//!
//! The trie holds keys; the text of a filter stays with its owner ([`Texts`]).

use super::index::Index;
use super::level::{after, is_hidden, level_at, rest_matches};
use crate::arena::{Arena, Key};
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
    label: Label,
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

/// A node to look at, and where the level that leads on from it starts in every filter below,
/// which are all as long up to there.
#[derive(Clone, Copy)]
struct Place {
    node: Key,
    filter: usize,
}

/// What a topic says at one depth.
struct Step<'a> {
    topic: &'a str,
    /// The level with its hash; `None` if the topic has ended.
    level: Option<(&'a str, u64)>,
    /// Where the level ends in the topic.
    end: usize,
    /// Whether wildcards match here.
    wild: bool,
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
        // All nodes of one depth are looked at together: the level is hashed once for them, and
        // the processor may fetch the next ones while it waits for one.
        let (mut places, mut below) = (Vec::new(), Vec::new());
        let mut step = self.step(topic, 0);
        self.visit(Place { node: self.root, filter: 0 }, &step, texts, &mut below, found);
        while !below.is_empty() {
            std::mem::swap(&mut places, &mut below);
            step = self.step(topic, step.end + 1);
            for place in places.drain(..) {
                self.visit(place, &step, texts, &mut below, found);
            }
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

    fn step<'a>(&self, topic: &'a str, start: usize) -> Step<'a> {
        let level = level_at(topic, start).map(|level| (level, self.hasher.hash_one(level)));
        let end = start + level.map_or(0, |(level, _)| level.len());
        let wild = start > 0 || !is_hidden(topic); // [MQTT-4.7.2-1]
        Step { topic, level, end, wild }
    }

    fn visit(
        &self,
        place: Place,
        step: &Step<'_>,
        texts: &impl Texts,
        below: &mut Vec<Place>,
        found: &mut impl FnMut(Key),
    ) {
        let node = self.nodes.get(place.node);
        if let Some(key) = node.hash.filter(|_| step.wild) {
            found(key); // also if the topic ends here: the parent level, section 4.7.1.2
        }
        let Some((level, hash)) = step.level else {
            return node.here.into_iter().for_each(found);
        };
        let mut enter = |child: Child, filter_end: usize| match child.target() {
            Target::Node(node) => below.push(Place { node, filter: filter_end + 1 }),
            Target::Leaf(key) => {
                if rest_matches(&texts.text(key)[filter_end..], &step.topic[step.end..]) {
                    found(key);
                }
            }
        };
        if let Some(child) = node.plus.filter(|_| step.wild) {
            enter(child, place.filter + 1);
        }
        if let Some(child) = self.literal(node, level, hash, place.filter, texts) {
            enter(child, place.filter + level.len());
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
            Some(level) => {
                let hash = self.hasher.hash_one(level);
                self.literal(node, level, hash, start, texts).map(Child::target)
            }
        }
    }

    /// The child of `node` under `level`, which lies at `start` in every filter below.
    fn literal(
        &self,
        node: &Node,
        level: &str,
        hash: u64,
        start: usize,
        texts: &impl Texts,
    ) -> Option<Child> {
        let is_it = |number| match Child::from_number(number).target() {
            Target::Node(below) => self.nodes.get(below).label.is(level),
            Target::Leaf(key) => level_at(texts.text(key), start) == Some(level),
        };
        node.literals.find(hash, is_it).map(Child::from_number)
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
        let label = Label::new(if level == "+" { "" } else { level });
        let node = self.nodes.insert(Node { label, ..Node::default() });
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

/// A level, in place if it is short: a match compares one at each node, where following a
/// pointer would cost as much as everything else there.
#[derive(Debug)]
enum Label {
    Short(u8, [u8; Self::SHORT_MAX]),
    Long(Box<str>),
}

impl Label {
    const SHORT_MAX: usize = 22;

    fn new(level: &str) -> Self {
        if level.len() > Self::SHORT_MAX {
            return Self::Long(level.into());
        }
        let mut bytes = [0; Self::SHORT_MAX];
        bytes[..level.len()].copy_from_slice(level.as_bytes());
        Self::Short(level.len() as u8, bytes)
    }

    fn is(&self, level: &str) -> bool {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)] == level.as_bytes(),
            Self::Long(text) => **text == *level,
        }
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::new("")
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

#[cfg(test)]
impl Trie {
    /// How many nodes there are, the root included.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_fits_into_a_cache_line() {
        assert!(size_of::<Node>() <= 64);
    }

    #[test]
    fn labels_of_any_length_are_compared_as_a_whole() {
        let levels: Vec<_> = [0, 1, 21, 22, 23, 40].map(|len| "x".repeat(len)).to_vec();
        for level in &levels {
            for other in &levels {
                assert_eq!(Label::new(level).is(other), level == other);
            }
        }
    }
}
