//! The model that tests compare with: matching as the specification words it, and topics and
//! filters from a small alphabet, so that they meet.

use proptest::prelude::*;

use super::Subscriptions;

/// Whether `filter` matches `topic`, one sentence of section 4.7 after the other.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let starts_with_wildcard = filter[0] == "+" || filter[0] == "#";
    if topic[0].starts_with('$') && starts_with_wildcard {
        return false; // [MQTT-4.7.2-1]
    }
    let same = |(wanted, level): (&&str, &&str)| *wanted == "+" || wanted == level;
    if let Some((&"#", parents)) = filter.split_last() {
        // The parent level and any number of child levels, section 4.7.1.2.
        return topic.len() >= parents.len() && parents.iter().zip(&topic).all(same);
    }
    filter.len() == topic.len() && filter.iter().zip(&topic).all(same)
}

/// What a table finds for a topic, in an order that does not depend on it.
pub(super) fn found(subscriptions: &Subscriptions<u8, usize>, topic: &str) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    subscriptions.for_each_match(topic, &mut |s, o| found.push((s, *o)));
    found.sort_unstable();
    found
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "a", "b", "ab", "", "!", "$SYS", "\u{1}", "\u{e9}"])
}

/// A topic of up to five levels.
pub(super) fn topic() -> impl Strategy<Value = String> {
    let topic = prop::collection::vec(name(), 1..6).prop_map(|levels| levels.join("/"));
    topic.prop_filter("a topic is not empty", |topic| !topic.is_empty())
}

/// A filter of up to six levels, mostly with wildcards.
pub(super) fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![2 => name(), 1 => Just("+")];
    let levels = (prop::collection::vec(level, 0..6), any::<bool>());
    let filter = levels.prop_map(|(mut levels, all)| {
        levels.extend(all.then_some("#"));
        levels.join("/")
    });
    filter.prop_filter("a filter is not empty", |filter| !filter.is_empty())
}
