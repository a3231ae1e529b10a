//! The retained messages of the topics that this shard owns, ordered so that a lookup with
//! wildcards skips what cannot match.
//!
//! Keys are topics with NUL, which no topic holds [MQTT-1.5.3-2], in the place of `/`. In plain
//! string order a topic is then followed by everything below it and by nothing else before that
//! ends, so that one seek passes a whole subtree.
//!
//! A lookup looks at each level that a `+` may stand for, once, and at what matches. If the filter
//! has a name that no topic has at that depth it looks at nothing ([`Names`]). What is left is a
//! name that few topics have behind a `+` that many levels fit: `+/rare` takes a search for each
//! first level that there is. It is cut into small pieces, and other work goes on between them.

use super::level::{after, is_hidden, level_before};
use super::names::Names;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

/// The last retained message `V` of each topic.
///
/// Filters and topics are taken to be valid; the wire format has checked them.
#[derive(Debug)]
pub struct Retained<V> {
    messages: BTreeMap<Box<str>, V>,
    names: Names,
}

/// Keys that one call of [`Retained::matching`] may look at for each match it may visit. Each
/// costs up to two microseconds if the tree is large and nothing of it is in a cache.
const LOOKS_PER_MATCH: usize = 2;

/// Keys that a call may look at in any case.
const LOOKS_MIN: usize = 64;

/// Keys that are passed one by one before the tree is searched: a neighbour costs a tenth of a
/// search, and the next match of `+/name` is often that close.
const STEPS: usize = 4;

const SEPARATOR: char = '\0';
/// Greater than the separator and not greater than anything else.
const AFTER_SEPARATOR: char = '\u{1}';
/// The least key behind all those that start with `$`.
const AFTER_HIDDEN: &str = "%";

impl<V> Retained<V> {
    /// Nothing retained.
    pub fn new() -> Self {
        Self { messages: BTreeMap::new(), names: Names::default() }
    }

    /// Retains a message; the one that it replaces [MQTT-3.3.1-5].
    pub fn insert(&mut self, topic: &str, message: V) -> Option<V> {
        let replaced = self.messages.insert(key_of(topic).into(), message);
        if replaced.is_none() {
            self.names.add(topic.split('/'));
        }
        replaced
    }

    /// Takes the message of a topic out [MQTT-3.3.1-10].
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        let removed = self.messages.remove(key_of(topic).as_str());
        if removed.is_some() {
            self.names.remove(topic.split('/'));
        }
        removed
    }

    /// The message of a topic.
    pub fn get(&self, topic: &str) -> Option<&V> {
        self.messages.get(key_of(topic).as_str())
    }

    /// The message of a topic, to be changed in place.
    pub fn get_mut(&mut self, topic: &str) -> Option<&mut V> {
        self.messages.get_mut(key_of(topic).as_str())
    }

    /// How many topics have a message.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no topic has a message.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
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
}

impl<V> Default for Retained<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// A walk over the keys that may match a filter, in order.
struct Scan<'a, V> {
    messages: &'a BTreeMap<Box<str>, V>,
    /// The keys not yet passed.
    rest: Range<'a, Box<str>, V>,
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
        let messages = &retained.messages;
        let pattern = Pattern { levels: filter.split('/').collect() };
        if !pattern.may_match_any(&retained.names) {
            return None;
        }
        let mut target = String::new();
        let (rest, next) = match after.map(key_of) {
            None => {
                pattern.push_names(0, &mut target);
                (from(messages, Bound::Included(&target)), Next::Following)
            }
            Some(key) => {
                let (_, next) = pattern.judge(&key, &mut target);
                (from(messages, Bound::Excluded(&key)), next)
            }
        };
        (next != Next::Nothing).then_some(Self { messages, rest, pattern, next, target })
    }

    /// The next key that may match.
    fn next(&mut self) -> Option<(&'a str, &'a V)> {
        let steps = if self.next == Next::AtLeast { STEPS } else { 0 };
        for _ in 0..steps {
            let (key, message) = self.rest.next()?;
            if **key >= *self.target {
                return Some((key, message));
            }
        }
        if self.next == Next::AtLeast {
            self.rest = from(self.messages, Bound::Included(&self.target));
        }
        self.rest.next().map(|(key, message)| (&**key, message))
    }

    /// Whether the key matches; sets what comes next.
    fn judge(&mut self, key: &str) -> bool {
        let (matches, next) = self.pattern.judge(key, &mut self.target);
        self.next = next;
        matches
    }
}

fn from<'a, V>(messages: &'a BTreeMap<Box<str>, V>, bound: Bound<&str>) -> Range<'a, Box<str>, V> {
    messages.range::<str, _>((bound, Bound::Unbounded))
}

/// A filter, level by level.
struct Pattern<'a> {
    levels: Vec<&'a str>,
}

impl Pattern<'_> {
    /// Whether there is a topic for each name. If not, none matches.
    fn may_match_any(&self, names: &Names) -> bool {
        let mut levels = self.levels.iter().enumerate();
        levels.all(|(depth, level)| is_wildcard(level) || names.may_have(depth, level))
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

    #[test]
    fn one_call_looks_at_few_keys_even_if_none_matches() {
        let mut topics: Vec<_> = (0..1000).map(|number| format!("{number}/a")).collect();
        topics.push("$x/b".to_owned()); // the name is known, and nothing matches
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        let (all, calls) = pages(&retained(&topics), "+/b", 1);
        assert_eq!(all, [""; 0]);
        assert!((1000 / LOOKS_MIN..=2000 / LOOKS_MIN + 1).contains(&calls), "{calls}");
    }

    #[test]
    fn a_name_that_no_topic_has_takes_no_look() {
        let topics: Vec<_> = (0..1000).map(|number| format!("{number}/a")).collect();
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        let mut retained = retained(&topics);
        for filter in ["+/b", "+/+/a", "a/+", "+/+/+/a/#", "none", "none/#"] {
            assert_eq!(pages(&retained, filter, 1), (vec![], 1), "{filter}");
        }
        retained.insert("0/a/b", "0/a/b".to_owned());
        assert_eq!(pages(&retained, "+/+/b", 1).0, ["0/a/b"]);
        assert_eq!(pages(&retained, "+/b/b", 1), (vec![], 1));
        retained.remove("0/a/b");
        assert_eq!(pages(&retained, "+/+/b", 1), (vec![], 1));
    }

    #[test]
    fn names_go_with_their_topics_and_deep_ones_are_not_counted() {
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
