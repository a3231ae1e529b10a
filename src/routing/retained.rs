//! The retained messages of the topics that this shard owns, ordered so that a lookup with
//! wildcards skips what cannot match.
//!
//! Keys are topics with NUL, which no topic holds [MQTT-1.5.3-2], in the place of `/`. In plain
//! string order a topic is then followed by everything below it and by nothing else before that
//! ends, so that one seek passes a whole subtree.
//!
//! A lookup walks over topics in this order. Each that it looks at tells the least key that may
//! match next ([`Pattern::judge`]), and the walk goes on at the first topic that is not less. So
//! it looks, once, at each level that a `+` may stand for, and at what matches.
//!
//! It need not walk over all topics: those that have one of the filter's names are enough, and
//! they are kept in the same order for each name ([`Names`]). A lookup takes the shortest of these
//! lists. On a part of the topics, the same walk never looks at more of them: step by step it is
//! as far as on all topics or farther. So the looks follow what is less, the levels that a `+`
//! may stand for or the topics that have the rarest name of the filter, and there are none if
//! nobody has one of the names.

use super::level::{after, has_wildcard, is_hidden, level_before};
use super::names::Names;
use super::order::Order;
use super::sorted::{Place, Sorted};
use super::trie::Texts;
use crate::arena::{Arena, Key};
use crate::index::Index;
use ahash::RandomState;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::hint::black_box;

/// Names a retained message for as long as its topic has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetainedKey(Key);

/// The last retained message `V` of each topic.
///
/// Filters and topics are taken to be valid; the wire format has checked them.
#[derive(Debug)]
pub struct Retained<V> {
    entries: Arena<Entry<V>>,
    /// All topics, by hash.
    exact: Index,
    /// All topics, in order.
    order: Order,
    names: Names,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<V> {
    key: Box<str>,
    message: V,
}

impl<V> Texts for Arena<Entry<V>> {
    fn text(&self, key: Key) -> &str {
        &self.get(key).key
    }
}

/// Keys that one call of [`Retained::matching`] may look at for each match it may visit. Each
/// costs up to two microseconds if the list is long and nothing of it is in a cache.
const LOOKS_PER_MATCH: usize = 2;

/// Keys that a call may look at in any case.
const LOOKS_MIN: usize = 64;

/// Keys that are passed one by one before a list is searched: a neighbour costs a tenth of a
/// search, and the next match of `+/name` is often that close.
const STEPS: usize = 4;

/// Keys that are fetched together when all are looked at, one after the other.
const FETCH: usize = 16;

const SEPARATOR: char = '\0';
/// Greater than the separator and not greater than anything else.
const AFTER_SEPARATOR: char = '\u{1}';
/// The least key behind all those that start with `$`.
const AFTER_HIDDEN: &str = "%";

impl<V> Retained<V> {
    /// Nothing retained, with hashes keyed at random.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }

    /// Nothing retained, with hashes keyed by `hasher`, a secret of the process.
    pub fn with_hasher(hasher: RandomState) -> Self {
        Self {
            entries: Arena::new(),
            exact: Index::default(),
            order: Order::default(),
            names: Names::new(hasher.clone()),
            hasher,
        }
    }

    /// Retains a message; the one that it replaces [MQTT-3.3.1-5].
    pub fn insert(&mut self, topic: &str, message: V) -> Option<V> {
        if let Some(held) = self.get_mut(topic) {
            return Some(std::mem::replace(held, message));
        }
        let entry = Entry { key: key_of(topic).into(), message };
        let key = self.entries.insert(entry);
        self.exact.insert(self.hasher.hash_one(topic), key.bits());
        self.order.insert(key, &self.entries);
        let is_before = |one, other| self.order.is_before(one, other, &self.entries);
        self.names.add(topic.split('/'), key, &is_before);
        None
    }

    /// Takes the message of a topic out [MQTT-3.3.1-6], 3.1.1: [MQTT-3.3.1-10].
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        let key = self.find(topic)?;
        let is_before = |one, other| self.order.is_before(one, other, &self.entries);
        self.names.remove(topic.split('/'), key, &is_before);
        self.order.remove(key, &self.entries);
        self.exact.remove(self.hasher.hash_one(topic), key.bits());
        Some(self.entries.remove(key).message)
    }

    /// The message of a topic.
    pub fn get(&self, topic: &str) -> Option<&V> {
        Some(&self.entries.get(self.find(topic)?).message)
    }

    /// The message of a topic, to be changed in place.
    pub fn get_mut(&mut self, topic: &str) -> Option<&mut V> {
        let key = self.find(topic)?;
        Some(&mut self.entries.get_mut(key).message)
    }

    /// The key of a topic that has a message.
    pub fn key(&self, topic: &str) -> Option<RetainedKey> {
        self.find(topic).map(RetainedKey)
    }

    /// The message that has this key.
    ///
    /// # Panics
    /// If the topic has no message any more.
    pub fn at(&self, key: RetainedKey) -> &V {
        &self.entries.get(key.0).message
    }

    /// Visits every message, in no order.
    pub fn for_each(&self, found: &mut impl FnMut(RetainedKey, &V)) {
        self.entries.iter().for_each(|(key, entry)| found(RetainedKey(key), &entry.message));
    }

    /// How many topics have a message.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no topic has a message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `found` with at most `limit` topics that match `filter`, in an order that never
    /// changes, from behind the topic `after_topic` on.
    ///
    /// Returns where to go on, to be given as `after_topic`, or `None` if nothing is left. One
    /// call looks at a number of topics that follows `limit` alone, hence it may return a topic
    /// that does not match, and may do so without having found any. Messages may come and go
    /// between calls: those there all the time are found exactly once.
    pub fn matching(
        &self,
        filter: &str,
        after_topic: Option<&str>,
        limit: usize,
        found: &mut impl FnMut(&str, &V),
    ) -> Option<String> {
        assert!(limit > 0, "a lookup that may find nothing would never end");
        if !has_wildcard(filter) {
            let is_behind = after_topic.is_none_or(|after| key_of(after) < key_of(filter));
            let message = self.get(filter).filter(|_| is_behind)?;
            found(filter, message);
            return None;
        }
        let mut scan = Scan::start(self, filter, after_topic)?;
        let mut topic = String::new();
        let mut visited = 0;
        let mut last = None;
        for _ in 0..limit.saturating_mul(LOOKS_PER_MATCH).max(LOOKS_MIN) {
            let (key, message) = scan.next()?;
            if scan.judge(key) {
                write_topic(key, &mut topic);
                found(&topic, message);
                visited += 1;
            }
            if matches!(scan.next, Next::Nothing) {
                return None;
            }
            last = Some(key);
            if visited == limit {
                break;
            }
        }
        last.map(|key| {
            write_topic(key, &mut topic);
            topic
        })
    }

    fn find(&self, topic: &str) -> Option<Key> {
        let key = |bits| Key::from_bits(bits).expect("no key is zero");
        let is_it = |bits| is_key_of(&self.entries.get(key(bits)).key, topic);
        self.exact.find(self.hasher.hash_one(topic), is_it).map(key)
    }

    /// The fewest topics known that hold all that match, and where the first stands among them
    /// that is not less than `target`.
    fn candidates(&self, pattern: &Pattern<'_>, target: &str) -> (Cow<'_, Sorted>, Place) {
        let names = pattern.names_behind_wildcard();
        let lists = names.filter_map(|(depth, name)| self.names.holders(depth, name));
        let Some(shortest) = lists.min_by_key(|list| list.len()) else {
            let place = self.order.place(target, &self.entries);
            return (Cow::Borrowed(self.order.topics()), place);
        };
        let is_before = |key| self.entries.text(key) < target;
        let place = shortest.seek(Place::default(), is_before);
        (shortest, place)
    }
}

impl<V> Default for Retained<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// A walk over the keys that may match a filter, in order.
struct Scan<'a, V> {
    entries: &'a Arena<Entry<V>>,
    /// Some of the topics, all that match among them.
    candidates: Cow<'a, Sorted>,
    /// The first that is not yet passed.
    place: Place,
    pattern: Pattern<'a>,
    next: Next,
    /// What [`Next::AtLeast`] means; kept to be written over.
    target: String,
}

/// Which key may match next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The one that follows.
    Following,
    /// The first that is not less than the target.
    AtLeast,
    Nothing,
}

impl<'a, V> Scan<'a, V> {
    fn start(retained: &'a Retained<V>, filter: &'a str, after: Option<&str>) -> Option<Self> {
        let pattern = Pattern { levels: filter.split('/').collect() };
        let mut target = String::new();
        let next = match after.map(key_of) {
            None => pattern.push_names(0, &mut target),
            Some(key) => match pattern.judge(&key, &mut target).1 {
                Next::Nothing => return None,
                Next::Following => set(&mut target, &[&key, "\0"]), // the least behind it
                Next::AtLeast => Next::AtLeast,
            },
        };
        let (candidates, place) = retained.candidates(&pattern, &target);
        Some(Self { entries: &retained.entries, candidates, place, pattern, next, target })
    }

    /// The next key that may match.
    fn next(&mut self) -> Option<(&'a str, &'a V)> {
        if self.next == Next::AtLeast {
            self.go_to_target()?;
        } else if self.place.index.is_multiple_of(FETCH) {
            self.fetch();
        }
        let entry = self.entries.get(self.candidates.get(self.place)?);
        self.place = self.candidates.after(self.place);
        Some((&entry.key, &entry.message))
    }

    /// Reads a byte of each of the next keys, so that all lie in a cache when they are looked at:
    /// these reads do not wait for one another.
    fn fetch(&self) {
        let keys = self.candidates.chunks().get(self.place.chunk).map_or(&[][..], Vec::as_slice);
        let next = keys.iter().skip(self.place.index).take(FETCH);
        let first = |key: &Key| self.entries.text(*key).bytes().next().map_or(0, usize::from);
        black_box(next.map(first).sum::<usize>());
    }

    fn go_to_target(&mut self) -> Option<()> {
        for _ in 0..STEPS {
            let key = self.candidates.get(self.place)?;
            if *self.entries.text(key) >= *self.target {
                return Some(());
            }
            self.place = self.candidates.after(self.place);
        }
        self.seek();
        Some(())
    }

    fn seek(&mut self) {
        let target = &*self.target;
        self.place = self.candidates.seek(self.place, |key| self.entries.text(key) < target);
    }

    /// Whether the key matches; sets what comes next.
    fn judge(&mut self, key: &str) -> bool {
        let (matches, next) = self.pattern.judge(key, &mut self.target);
        self.next = next;
        matches
    }
}

/// A filter, level by level.
struct Pattern<'a> {
    levels: Vec<&'a str>,
}

impl Pattern<'_> {
    /// The names that are not found by the order of the topics alone, and at which depths.
    fn names_behind_wildcard(&self) -> impl Iterator<Item = (usize, &str)> {
        let levels = self.levels.iter().copied().enumerate();
        let levels = levels.skip_while(|(_, level)| !is_wildcard(level));
        levels.filter(|(_, level)| !is_wildcard(level))
    }

    /// Whether `key` matches, and which greater key is the first that may match; if that is
    /// [`Next::AtLeast`], `target` is its lower bound.
    fn judge(&self, key: &str, target: &mut String) -> (bool, Next) {
        let mut start = 0;
        let mut plus_end = None; // where the last level that lies under a `+` ends
        for (depth, wanted) in self.levels.iter().enumerate() {
            if depth == 0 && is_wildcard(wanted) && is_hidden(key) {
                return (false, set(target, &["", AFTER_HIDDEN])); // [MQTT-4.7.2-1]
            }
            if *wanted == "#" {
                return (true, Next::Following); // and the parent level, section 4.7.1.2
            }
            let Some(level) = level_before(SEPARATOR, key, start) else {
                set(target, &[key, "\0"]);
                return (false, self.push_names(depth, target));
            };
            match if *wanted == "+" { Ordering::Equal } else { level.cmp(wanted) } {
                Ordering::Less => {
                    set(target, &[&key[..start]]);
                    return (false, self.push_names(depth, target));
                }
                Ordering::Greater => return (false, pass(key, plus_end, target)),
                Ordering::Equal if *wanted == "+" => plus_end = Some(start + level.len()),
                Ordering::Equal => {}
            }
            start = after(start, level);
        }
        (start > key.len(), pass(key, plus_end, target))
    }

    /// Appends the levels from `depth` on up to the next wildcard: no match is less.
    fn push_names(&self, depth: usize, target: &mut String) -> Next {
        let names = self.levels[depth..].iter().take_while(|level| !is_wildcard(level));
        for (number, name) in names.enumerate() {
            if number > 0 {
                target.push(SEPARATOR);
            }
            target.push_str(name);
        }
        Next::AtLeast
    }
}

/// Passes everything below the level of `key` that ends at `plus_end`, since the next match has
/// another level there.
fn pass(key: &str, plus_end: Option<usize>, target: &mut String) -> Next {
    let Some(end) = plus_end else { return Next::Nothing };
    set(target, &[&key[..end]]);
    target.push(AFTER_SEPARATOR);
    Next::AtLeast
}

fn set(target: &mut String, parts: &[&str]) -> Next {
    target.clear();
    target.extend(parts.iter().copied());
    Next::AtLeast
}

fn is_wildcard(level: &str) -> bool {
    level == "+" || level == "#"
}

fn key_of(topic: &str) -> String {
    topic.replace('/', "\0")
}

fn is_key_of(key: &str, topic: &str) -> bool {
    let separated = |byte| if byte == b'/' { SEPARATOR as u8 } else { byte };
    key.len() == topic.len() && key.bytes().eq(topic.bytes().map(separated))
}

fn write_topic(key: &str, topic: &mut String) {
    topic.clear();
    for (number, level) in key.split(SEPARATOR).enumerate() {
        if number > 0 {
            topic.push('/');
        }
        topic.push_str(level);
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn retained(topics: &[&str]) -> Retained<String> {
        let mut retained = Retained::new();
        for topic in topics {
            retained.insert(topic, (*topic).to_owned());
        }
        retained
    }

    /// All that matches, in pages of `limit`, with the number of calls.
    fn pages(retained: &Retained<String>, filter: &str, limit: usize) -> (Vec<String>, usize) {
        let (mut all, mut cursor, mut calls) = (Vec::new(), None, 0);
        loop {
            let before = all.len();
            cursor = retained.matching(filter, cursor.as_deref(), limit, &mut |topic, message| {
                assert_eq!(topic, message);
                all.push(topic.to_owned());
            });
            calls += 1;
            assert!(all.len() - before <= limit);
            if cursor.is_none() {
                return (all, calls);
            }
        }
    }

    fn found(topics: &[&str], filter: &str) -> Vec<String> {
        pages(&retained(topics), filter, 100).0
    }

    #[test]
    fn messages_are_kept_by_topic() {
        let mut retained = Retained::new();
        assert_eq!(retained.insert("a/b", 1), None);
        assert_eq!(retained.insert("a/b", 2), Some(1));
        assert_eq!((retained.get("a/b"), retained.get("a"), retained.len()), (Some(&2), None, 1));
        *retained.get_mut("a/b").unwrap() = 3;
        assert_eq!(retained.remove("a/b"), Some(3));
        assert_eq!(retained.remove("a/b"), None);
        assert!(retained.is_empty());
    }

    #[test]
    fn a_topic_is_followed_by_what_lies_below_it() {
        let topics = ["a-b", "a/b", "a", "a!", "a/b/c", "ab", "a//c", "a/"];
        let ordered = ["a", "a/", "a//c", "a/b", "a/b/c", "a!", "a-b", "ab"];
        assert_eq!(found(&topics, "#"), ordered);
        assert_eq!(found(&topics, "a/#"), ordered[..5]);
        assert_eq!(found(&topics, "a/b/#"), ordered[3..5]);
    }

    #[test]
    fn wildcards_in_the_first_level_pass_over_dollar_topics() {
        let topics = ["!", "$SYS", "$SYS/a", "$a", "%", "b"];
        assert_eq!(found(&topics, "#"), ["!", "%", "b"], "[MQTT-4.7.2-1]");
        assert_eq!(found(&topics, "+"), ["!", "%", "b"], "[MQTT-4.7.2-1]");
        assert_eq!(found(&topics, "+/a"), [""; 0], "[MQTT-4.7.2-1]");
        assert_eq!(found(&topics, "$SYS/#"), ["$SYS", "$SYS/a"]);
        assert_eq!(found(&topics, "$SYS/+"), ["$SYS/a"]);
    }

    #[test]
    fn a_lookup_passes_what_cannot_match() {
        let mut retained = Retained::new();
        for site in 0..10 {
            for device in 0..1000 {
                let topic = format!("site{site}/device{device:03}/state");
                retained.insert(&topic, topic.clone());
            }
        }
        // Ten first levels, hence ten matches: few enough looks for one call.
        let (all, calls) = pages(&retained, "+/device500/state", 10);
        assert_eq!((all.len(), calls), (10, 2), "the second call finds the end");
        assert_eq!(pages(&retained, "+/device500/state", 11).1, 1);
        assert_eq!(pages(&retained, "+/nothing/+", 1).1, 1);
        assert_eq!(pages(&retained, "site3/device999/state", 1).1, 1);
        assert_eq!(pages(&retained, "site3/#", 300).0.len(), 1000);
    }

    /// How many topics a whole lookup looks at, and what it finds.
    fn looks(retained: &Retained<String>, filter: &str) -> (usize, Vec<String>) {
        looks_of(Scan::start(retained, filter, None).expect("there is no cursor"))
    }

    fn looks_of(mut scan: Scan<'_, String>) -> (usize, Vec<String>) {
        let (mut looks, mut matches) = (0, Vec::new());
        while scan.next != Next::Nothing {
            let Some((key, message)) = scan.next() else { break };
            looks += 1;
            if scan.judge(key) {
                matches.push(message.clone());
            }
        }
        (looks, matches)
    }

    fn numbered(count: usize, topic: impl Fn(usize) -> String) -> Retained<String> {
        let mut retained = Retained::new();
        for topic in (0..count).map(topic) {
            retained.insert(&topic, topic.clone());
        }
        retained
    }

    #[test]
    fn one_call_looks_at_few_keys_even_if_none_matches() {
        // Half of the topics have one of the names, half the other, and none has both.
        let retained = numbered(1000, |number| match number % 2 {
            0 => format!("{number}/a/c"),
            _ => format!("{number}/c/b"),
        });
        let (all, calls) = pages(&retained, "+/a/b", 1);
        assert_eq!(all, [""; 0]);
        assert!((500 / LOOKS_MIN..=500 / LOOKS_MIN + 1).contains(&calls), "{calls}");
    }

    #[test]
    fn a_name_that_no_topic_has_takes_no_look() {
        let mut retained = numbered(1000, |number| format!("{number}/a"));
        for filter in ["+/b", "+/+/a", "+/+/+/a/#"] {
            assert_eq!(looks(&retained, filter), (0, vec![]), "{filter}");
        }
        for filter in ["a/+", "none", "none/#"] {
            assert_eq!(pages(&retained, filter, 1), (vec![], 1), "{filter}");
        }
        retained.insert("0/a/b", "0/a/b".to_owned());
        assert_eq!(pages(&retained, "+/+/b", 1).0, ["0/a/b"]);
        assert_eq!(looks(&retained, "+/b/b"), (0, vec![]));
        retained.remove("0/a/b");
        assert_eq!(looks(&retained, "+/+/b"), (0, vec![]));
    }

    #[test]
    fn a_rare_name_behind_many_levels_takes_few_looks() {
        let mut retained = numbered(10_000, |number| format!("{number}/{}/a", number % 100));
        for rare in ["5000/rare", "x/rare/a", "x/y/rare", "x/y/z/rare/a"] {
            retained.insert(rare, rare.to_owned());
        }
        let [rare, below] = ["5000/rare", "x/rare/a"].map(ToOwned::to_owned);
        assert_eq!(looks(&retained, "+/rare"), (2, vec![rare.clone()]), "two have the name");
        assert_eq!(looks(&retained, "+/rare/#"), (2, vec![rare, below]));
        assert_eq!(looks(&retained, "+/+/rare"), (1, vec!["x/y/rare".to_owned()]));
        assert_eq!(looks(&retained, "+/+/z/+/a"), (1, vec!["x/y/z/rare/a".to_owned()]));
        assert_eq!(looks(&retained, "+/7/a").0, 100, "as many as have the name");
        // What the order of all topics tells is used as well: the end is one more look.
        assert_eq!(looks(&retained, "77/+/a"), (2, vec!["77/77/a".to_owned()]), "and the end");
    }

    #[test]
    fn a_name_grows_from_rare_to_common_and_back() {
        let mut retained = numbered(10_000, |number| format!("{number}/a"));
        for (grown, with_b) in [(1, 1), (2, 2), (1000, 1000), (10_000, 10_000)] {
            for number in 0..grown {
                let topic = format!("{number}/b");
                retained.insert(&topic, topic.clone());
            }
            let (count, found) = looks(&retained, "+/b");
            assert_eq!((count, found.len()), (with_b, with_b));
        }
        assert_eq!(looks(&retained, "+/a").0, 10_000, "those with the other name are passed");
        for left in [1000, 2, 1, 0] {
            for number in left..10_000 {
                retained.remove(&format!("{number}/b"));
            }
            assert_eq!(looks(&retained, "+/b").0, left);
        }
        assert_eq!(pages(&retained, "#", 100).0.len(), 10_000);
    }

    #[test]
    fn names_go_with_their_topics_and_deep_ones_are_not_kept() {
        let mut retained = Retained::new();
        let deep = "a/".repeat(65_000 / 2);
        retained.insert(&deep, deep.clone());
        retained.insert("a/b", "a/b".to_owned());
        assert_eq!(retained.names.len(), 17, "sixteen, and b");
        assert_eq!(pages(&retained, &deep, 1).0, [deep.as_str()]);
        retained.insert("a/b", "a/b".to_owned());
        assert!(retained.remove("a/b").is_some() && retained.remove("a/b").is_none());
        assert_eq!(retained.names.len(), 16);
        assert!(retained.remove(&deep).is_some());
        assert_eq!(retained.names.len(), 0);
    }

    #[test]
    fn a_cursor_outlives_its_topic() {
        let mut retained = retained(&["a/1", "a/2", "a/3"]);
        let cursor = retained.matching("a/+", None, 2, &mut |_, _| {});
        assert_eq!(cursor.as_deref(), Some("a/2"));
        retained.remove("a/2");
        let mut rest = Vec::new();
        let end = retained.matching("a/+", cursor.as_deref(), 2, &mut |topic, _| {
            rest.push(topic.to_owned());
        });
        assert_eq!((rest, end), (vec!["a/3".to_owned()], None));
    }

    proptest! {
        #[test]
        fn it_finds_what_the_specification_says(
            topics in prop::collection::btree_set(naive::topic(), 0..60),
            filter in naive::filter(),
            limit in 1_usize..5,
        ) {
            let refs: Vec<_> = topics.iter().map(String::as_str).collect();
            let (all, _) = pages(&retained(&refs), &filter, limit);
            prop_assert!(all.windows(2).all(|pair| key_of(&pair[0]) < key_of(&pair[1])));
            let wanted = topics.iter().filter(|topic| naive::matches(&filter, topic));
            prop_assert_eq!(BTreeSet::from_iter(all), wanted.cloned().collect());
        }

        /// Topics come and go while a lookup goes on, from few names or from many.
        #[test]
        fn what_stays_is_found_once(
            stay in prop::collection::btree_set(naive::topic(), 0..60),
            changes in prop::collection::vec((any::<bool>(), naive::topic()), 0..200),
            filter in naive::filter(),
            limit in 1_usize..3,
            pace in 1_usize..20,
        ) {
            let mut held = stay.clone();
            let mut changes = changes.iter().filter(|(_, topic)| !stay.contains(topic));
            let refs: Vec<_> = stay.iter().map(String::as_str).collect();
            let (mut retained, mut all, mut cursor) = (retained(&refs), Vec::new(), None);
            loop {
                for (add, topic) in changes.by_ref().take(pace) {
                    if *add {
                        let was_there = !held.insert(topic.clone());
                        let replaced = retained.insert(topic, topic.clone());
                        prop_assert_eq!(replaced.is_some(), was_there);
                    } else {
                        prop_assert_eq!(retained.remove(topic).is_some(), held.remove(topic));
                    }
                }
                cursor = retained.matching(&filter, cursor.as_deref(), limit, &mut |topic, _| {
                    all.push(topic.to_owned());
                });
                if cursor.is_none() {
                    break;
                }
            }
            prop_assert!(all.windows(2).all(|pair| key_of(&pair[0]) < key_of(&pair[1])));
            prop_assert!(all.iter().all(|topic| naive::matches(&filter, topic)));
            let mut wanted = stay.iter().filter(|topic| naive::matches(&filter, topic));
            prop_assert!(wanted.all(|topic| all.contains(topic)));
            let wanted = held.iter().filter(|topic| naive::matches(&filter, topic)).cloned();
            let all = BTreeSet::from_iter(pages(&retained, &filter, limit).0);
            prop_assert_eq!(all, wanted.collect());
            for topic in &held {
                prop_assert_eq!(retained.remove(topic), Some(topic.clone()));
            }
            prop_assert_eq!((retained.len(), retained.names.len()), (0, 0));
        }

        /// The walk over those that have a name never looks at more than that over all.
        #[test]
        fn a_shorter_list_never_takes_more_looks(
            topics in prop::collection::btree_set(naive::topic(), 0..60),
            filter in naive::filter(),
        ) {
            let refs: Vec<_> = topics.iter().map(String::as_str).collect();
            let retained = retained(&refs);
            let (count, found) = looks(&retained, &filter);
            let mut over_all = Scan::start(&retained, &filter, None).expect("it starts");
            over_all.candidates = Cow::Borrowed(retained.order.topics());
            over_all.place = Place::default();
            let (count_of_all, found_of_all) = looks_of(over_all);
            prop_assert!(count <= count_of_all);
            prop_assert_eq!(found, found_of_all);
        }

        #[test]
        fn any_topic_is_a_cursor(
            topics in prop::collection::btree_set(naive::topic(), 0..60),
            filter in naive::filter(),
            cursor in naive::topic(),
        ) {
            let refs: Vec<_> = topics.iter().map(String::as_str).collect();
            let mut all = BTreeSet::new();
            let end = retained(&refs).matching(&filter, Some(&cursor), 99, &mut |topic, _| {
                all.insert(topic.to_owned());
            });
            let behind = topics.iter().filter(|topic| key_of(topic) > key_of(&cursor));
            let wanted = behind.filter(|topic| naive::matches(&filter, topic));
            prop_assert_eq!((all, end), (wanted.cloned().collect(), None));
        }

        #[test]
        fn what_may_match_next_is_never_passed(
            key in naive::topic(), filter in naive::filter(), other in naive::topic(),
        ) {
            let pattern = Pattern { levels: filter.split('/').collect() };
            let (key, other_key) = (key_of(&key), key_of(&other));
            let mut target = String::new();
            let (matches, next) = pattern.judge(&key, &mut target);
            prop_assert_eq!(matches, naive::matches(&filter, &key.replace('\0', "/")));
            prop_assert!(next != Next::AtLeast || target > key);
            if other_key > key && naive::matches(&filter, &other) {
                prop_assert!(next != Next::Nothing);
                prop_assert!(next == Next::Following || other_key >= target);
            }
        }
    }
}
