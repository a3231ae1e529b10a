//! Filters and topics: the tables of the broker against a matcher that was written apart from
//! them, on any sequence of subscribing, unsubscribing, retaining and publishing.

use std::collections::{BTreeMap, BTreeSet};

use ringmq::mqtt::{TopicFilter, TopicName};
use ringmq::routing::{Choice, Groups, Interest, Retained, ShardId, Standing, Subscriptions};

/// Each line is a step: what to do, for whom, and a topic or a filter.
///
/// `+3 a/b` subscribes, `-3 a/b` unsubscribes, `=3 a/b` retains, `!3 a/b` clears, anything else
/// publishes; every step with a topic looks at what matches.
pub fn topic_match(data: &[u8]) {
    let mut tables = Tables::default();
    for line in data.split(|byte| *byte == b'\n').take(200) {
        let text = String::from_utf8_lossy(line.get(3..).unwrap_or_default());
        let (what, who) = (line.first().copied(), line.get(1).copied().unwrap_or_default() % 8);
        check_validity(&text);
        tables.step(what.unwrap_or_default(), who, &text);
    }
}

/// Level by level from the front, as section 4.7 words it. `filter` and `topic` are valid.
fn matches(filter: &str, topic: &str) -> bool {
    let system = topic.as_bytes()[0] == b'$';
    let wild = matches!(filter.as_bytes()[0], b'+' | b'#');
    !(system && wild) && matches_from(Some(filter), Some(topic))
}

fn matches_from(filter: Option<&str>, topic: Option<&str>) -> bool {
    match (filter, topic) {
        (Some("#"), _) | (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(filter), Some(topic)) => {
            let (wanted, filter) = head(filter);
            let (level, topic) = head(topic);
            (wanted == "+" || wanted == level) && matches_from(filter, topic)
        }
    }
}

/// The first level and what is behind its separator.
fn head(text: &str) -> (&str, Option<&str>) {
    match text.find('/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn check_validity(text: &str) {
    let fits = !text.is_empty() && text.len() <= 65_535 && !text.contains('\0');
    assert_eq!(TopicName::parse(text).is_ok(), fits && !text.contains(['+', '#']), "{text:?}");
    let levels: Vec<&str> = text.split('/').collect();
    let placed = levels.iter().enumerate().all(|(index, level)| match *level {
        "+" => true,
        "#" => index + 1 == levels.len(),
        name => !name.contains('+') && !name.contains('#'),
    });
    assert_eq!(TopicFilter::parse(text).is_ok(), fits && placed, "{text:?}");
}

/// The tables of the broker, each with its model.
struct Tables {
    subscriptions: Subscriptions<u8, usize>,
    interest: Interest,
    groups: Groups<u8, ()>,
    retained: Retained<usize>,
    /// Filter and subscriber, with the step that made it.
    subscribed: BTreeMap<(String, u8), usize>,
    kept: BTreeMap<String, usize>,
    step: usize,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            subscriptions: Subscriptions::with_seed([1, 2, 3, 4]),
            interest: Interest::with_seed([1, 2, 3, 4]),
            groups: Groups::default(),
            retained: Retained::new(),
            subscribed: BTreeMap::new(),
            kept: BTreeMap::new(),
            step: 0,
        }
    }
}

impl Tables {
    fn step(&mut self, what: u8, who: u8, text: &str) {
        self.step += 1;
        if TopicFilter::parse(text).is_ok() {
            match what {
                b'+' => self.subscribe(who, text),
                b'-' => self.unsubscribe(who, text),
                _ => {}
            }
            self.check_retained(text);
        }
        if TopicName::parse(text).is_ok() {
            match what {
                b'=' => assert_eq!(
                    self.retained.insert(text, self.step),
                    self.kept.insert(text.to_owned(), self.step)
                ),
                b'!' => assert_eq!(self.retained.remove(text), self.kept.remove(text)),
                _ => {}
            }
            self.check_topic(text);
        }
        assert_eq!(self.subscriptions.len(), self.subscribed.len());
        assert_eq!(self.retained.len(), self.kept.len());
        assert_eq!(self.groups.len(), self.subscriptions.filter_count());
        assert_eq!(self.interest.filter_count(), self.subscriptions.filter_count());
    }

    fn has_others(&self, filter: &str, who: u8) -> bool {
        self.subscribed.keys().any(|(other, member)| other == filter && *member != who)
    }

    fn subscribe(&mut self, who: u8, filter: &str) {
        let others = self.has_others(filter, who);
        let replaced = self.subscribed.insert((filter.to_owned(), who), self.step);
        let inserted = self.subscriptions.insert(filter, who, self.step);
        assert_eq!(inserted.replaced, replaced, "{filter}");
        assert_eq!(inserted.first_for_filter, !others && replaced.is_none(), "{filter}");
        assert_eq!(self.interest.add(filter, ShardId(who)), replaced.is_none());
        let group = format!("$share/g/{filter}");
        self.groups.join(&group, ShardId(who), who, (), Standing::default());
    }

    fn unsubscribe(&mut self, who: u8, filter: &str) {
        let existed = self.subscribed.remove(&(filter.to_owned(), who)).is_some();
        let removed = self.subscriptions.remove(filter, who);
        assert_eq!(removed.existed, existed, "{filter}");
        assert_eq!(removed.last_for_filter, existed && !self.has_others(filter, who), "{filter}");
        assert_eq!(self.interest.remove(filter, ShardId(who)), existed, "{filter}");
        self.groups.leave(&format!("$share/g/{filter}"), ShardId(who), who);
    }

    /// Who gets a publish to this topic.
    fn check_topic(&mut self, topic: &str) {
        let matching = self.subscribed.iter().filter(|((filter, _), _)| {
            let wanted = matches(filter, topic);
            let filter = TopicFilter::from_validated(filter);
            assert_eq!(filter.matches(TopicName::from_validated(topic)), wanted);
            wanted
        });
        let matching: Vec<_> = matching.collect();
        let wanted: BTreeSet<_> = matching.iter().map(|((_, who), step)| (*who, **step)).collect();
        let mut found = Vec::new();
        self.subscriptions.for_each_match(topic, &mut |who, step| found.push((who, *step)));
        assert_eq!(found.len(), wanted.len(), "{topic}: {found:?}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted, "{topic}");
        for who in 0..8 {
            let is_home = wanted.iter().any(|(home, _)| *home == who);
            assert_eq!(self.interest.homes(topic).contains(ShardId(who)), is_home, "{topic}");
        }
        // One member of each group, and that one subscribes to the group's filter.
        let filters: BTreeSet<_> = matching.iter().map(|((filter, _), _)| filter.clone()).collect();
        let choices = self.groups.choose(topic, |(), _| true).choices;
        assert_eq!(choices.len(), filters.len(), "{topic}");
        for choice in choices {
            let Choice::Member(one) = choice else { panic!("{topic}: every member takes it") };
            let filter = one.group.strip_prefix("$share/g/").expect("the name of every group");
            assert!(filters.contains(filter), "{topic}: {filter}");
            assert!(self.subscribed.contains_key(&(filter.to_owned(), one.member)), "{filter}");
        }
    }

    /// What is sent to a new subscriber to this filter, a page of three at a time.
    fn check_retained(&self, filter: &str) {
        let wanted: BTreeMap<_, _> =
            self.kept.iter().filter(|(topic, _)| matches(filter, topic)).collect();
        let mut found = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            after = self.retained.matching(filter, after.as_deref(), 3, &mut |topic, step| {
                assert!(found.insert(topic.to_owned(), *step).is_none(), "{filter}: {topic} twice");
            });
            if after.is_none() {
                break;
            }
        }
        let found: BTreeMap<_, _> = found.iter().collect();
        assert_eq!(found, wanted, "{filter}");
    }
}
