//! Many clients at random against bare shards: they publish at every QoS, lose their connections at
//! the worst moments, come back, acknowledge late. At the end everybody has got what was promised.
//!
//! A seed decides everything; a failure prints it. `RINGMQ_SIMULATION_SEEDS=1000` runs more.

#[path = "../harness/mod.rs"]
mod harness;

mod client;

use std::collections::HashMap;
use std::time::Duration;

use ringmq::config::Limits;
use ringmq::mqtt::{TopicFilter, TopicName};

use client::{Client, Delivery};
use harness::cluster::Cluster;

const SEEDS_DEFAULT: u64 = 40;
const STEPS: usize = 600;
/// Turns of everybody after which nobody may still wait for anything.
const ROUNDS_MAX: usize = 10_000;
const PUBLISHERS: usize = 4;
const SUBSCRIBERS: usize = 6;

/// Payloads that bring shards to the limit of what they may have under way to each other.
const LARGE_BYTES: usize = 400_000;

/// Topics of one publisher each, with the QoS that is used on them.
const TOPICS: [(&str, u8); 6] =
    [("a/0", 0), ("a/1", 1), ("a/2", 2), ("b/1/deep", 1), ("b/2/deep", 2), ("c", 2)];

/// What subscribers ask for; overlaps on purpose.
const FILTERS: [(&str, u8); 7] =
    [("+/#", 2), ("+/a/+", 1), ("+/b/#", 2), ("+/a/2", 2), ("+/c", 0), ("p1/#", 1), ("+/+/1/+", 0)];

/// xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

struct Simulation {
    cluster: Cluster,
    random: Random,
    /// Publishers first.
    clients: Vec<Client>,
}

impl Simulation {
    fn new(shard_count: usize, seed: u64) -> Self {
        let limits = Limits { inflight_count_max: 5, receive_count_max: 4, ..Limits::default() };
        let mut simulation = Self {
            cluster: Cluster::new(shard_count, limits, seed),
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            clients: Vec::new(),
        };
        for number in 0..PUBLISHERS {
            simulation.clients.push(Client::new(&format!("p{number}"), &[]));
        }
        for number in 0..SUBSCRIBERS {
            let filters: Vec<_> = (0..=simulation.random.below(2))
                .map(|_| FILTERS[simulation.random.below(FILTERS.len())])
                .collect();
            simulation.clients.push(Client::new(&format!("s{number}"), &filters));
        }
        simulation
    }

    fn run(&mut self) {
        for client in &mut self.clients {
            client.connect(&mut self.cluster);
            client.subscribe(&mut self.cluster);
        }
        for _ in 0..STEPS {
            self.step();
        }
        self.quiesce();
    }

    fn step(&mut self) {
        let index = self.random.below(self.clients.len());
        let action = self.random.below(100);
        let client = &mut self.clients[index];
        match action {
            0..30 if index < PUBLISHERS => {
                let topic = TOPICS[self.random.below(TOPICS.len())];
                let retain = self.random.below(4) == 0;
                let padding = if self.random.below(16) == 0 { LARGE_BYTES } else { 0 };
                client.publish(&mut self.cluster, topic, retain, padding);
            }
            30..36 => client.lose_connection(&mut self.cluster),
            36..38 => client.disconnect(&mut self.cluster),
            38..41 => client.connect(&mut self.cluster),
            41..50 if !client.is_open() => client.connect(&mut self.cluster),
            50..52 => self.cluster.advance(Duration::from_millis(self.random.below(300) as u64)),
            _ => {
                let count = self.random.below(4);
                client.take_in(&mut self.cluster, count);
            }
        }
    }

    /// Everybody comes back and goes on until nobody waits for anything.
    fn quiesce(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "no rest:\n{}", self.describe());
            let mut rest = true;
            for client in &mut self.clients {
                if !client.is_open() {
                    client.connect(&mut self.cluster);
                }
                rest &= !client.take_in(&mut self.cluster, usize::MAX) && client.is_at_rest();
            }
            if rest {
                return;
            }
        }
    }

    /// What everybody still waits for.
    fn describe(&self) -> String {
        self.clients.iter().map(Client::describe).collect::<Vec<_>>().join("\n")
    }

    /// What each subscriber was promised against what it got.
    fn judge(&mut self) {
        let (publishers, subscribers) = self.clients.split_at(PUBLISHERS);
        for subscriber in subscribers {
            let mut got: HashMap<(&str, u64), Vec<&Delivery>> = HashMap::new();
            for delivery in &subscriber.deliveries {
                got.entry((&delivery.topic, delivery.number)).or_default().push(delivery);
            }
            for publisher in publishers {
                for (topic, qos, number) in &publisher.published {
                    let copies = got.remove(&(topic.as_str(), *number)).unwrap_or_default();
                    judge_copies(subscriber, topic, *qos, *number, &copies);
                }
            }
            assert!(got.is_empty(), "{} got what nobody published: {got:?}", subscriber.name);
            judge_order(subscriber);
        }
        self.cluster.balance().expect("every delivery is accounted for");
    }

    /// A late subscriber gets the last retained message of every topic above QoS 0, once.
    fn judge_retained(&mut self) {
        let mut expected: Vec<_> = Vec::new();
        for publisher in &self.clients[..PUBLISHERS] {
            expected.extend(publisher.retained.iter().map(|(topic, n)| (topic.clone(), *n)));
        }
        let mut late = Client::new("late", &[("#", 2)]);
        late.connect(&mut self.cluster);
        late.subscribe(&mut self.cluster);
        while late.take_in(&mut self.cluster, usize::MAX) || !late.is_at_rest() {}
        let above_qos_0 = late.deliveries.iter().filter(|delivery| !delivery.topic.ends_with("/0"));
        assert!(late.deliveries.iter().all(|delivery| delivery.retained), "RETAIN is missing");
        let mut got: Vec<_> = above_qos_0.map(|d| (d.topic.clone(), d.number)).collect();
        expected.sort();
        got.sort();
        assert_eq!(got, expected, "what is retained at the end");
    }
}

/// The QoS at which a subscriber gets a topic at most; none if it did not ask for it.
fn granted(subscriber: &Client, topic: &str) -> Option<u8> {
    let name = TopicName::parse(topic).expect("our topics are valid");
    let matching = subscriber.filters.iter().filter(|(filter, _)| {
        TopicFilter::parse(filter).expect("our filters are valid").matches(name)
    });
    matching.map(|(_, qos)| *qos).max()
}

/// The QoS that is used on a topic.
fn published_at(topic: &str) -> u8 {
    let (_, name) = topic.split_once('/').expect("a publisher's name comes first");
    let found = TOPICS.iter().find(|(topic, _)| *topic == name);
    found.expect("it is one of ours").1
}

fn judge_copies(subscriber: &Client, topic: &str, qos: u8, number: u64, copies: &[&Delivery]) {
    let what = format!("{} and {topic} number {number} at QoS {qos}", subscriber.name);
    let Some(granted) = granted(subscriber, topic) else {
        assert!(copies.is_empty(), "{what}: came without being asked for");
        return;
    };
    let effective = qos.min(granted);
    assert!(copies.iter().all(|copy| copy.qos == effective), "{what}: wrong QoS: {copies:?}");
    assert!(copies.iter().all(|copy| !copy.retained), "{what}: RETAIN to an old subscription");
    match (qos, effective) {
        (2, 2) => assert_eq!(copies.len(), 1, "{what}: not exactly once"),
        (1.., 1) => assert!(!copies.is_empty(), "{what}: lost"),
        (2, 0) => assert!(copies.len() <= 1, "{what}: twice"),
        (0, _) => assert!(copies.len() <= 1, "{what}: QoS 0 twice"),
        _ => {}
    }
}

/// The first copies of each topic come in the order in which they were published. At QoS 0 one may
/// be missed that its publisher, at QoS 1, then repeats with all that came after it.
fn judge_order(subscriber: &Client) {
    let mut last: HashMap<&str, u64> = HashMap::new();
    let in_order = |delivery: &&Delivery| {
        let may_skip = delivery.qos == 0 && published_at(&delivery.topic) == 1;
        !delivery.repeated && !may_skip
    };
    for delivery in subscriber.deliveries.iter().filter(in_order) {
        let before = last.insert(&delivery.topic, delivery.number);
        assert!(
            before.is_none_or(|before| before < delivery.number),
            "{}: {} number {} after {before:?}",
            subscriber.name,
            delivery.topic,
            delivery.number
        );
    }
}

fn simulate(shard_count: usize) {
    let seeds = std::env::var("RINGMQ_SIMULATION_SEEDS").ok().and_then(|count| count.parse().ok());
    for seed in 1..=seeds.unwrap_or(SEEDS_DEFAULT) {
        eprintln!("{shard_count} shards, seed {seed}");
        let mut simulation = Simulation::new(shard_count, seed);
        simulation.run();
        simulation.judge();
        simulation.judge_retained();
    }
}

#[test]
fn promises_are_kept_on_1_shard() {
    simulate(1);
}

#[test]
fn promises_are_kept_on_2_shards() {
    simulate(2);
}

#[test]
fn promises_are_kept_on_16_shards() {
    simulate(16);
}
