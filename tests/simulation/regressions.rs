//! Scripts that the broker once failed, each in many orders.

use harness::random::Random;
use ringmq::config::Limits;
use ringmq::shard::Slices;

use crate::life::Life;
use crate::network::End;
use crate::runner;
use crate::scenario::{Letter, Profile, Scenario, Step, Version, Wish};

const SEEDS: u64 = 150;

fn profile(number: usize, version: Version) -> Profile {
    Profile {
        name: format!("c{number}"),
        version,
        keep_alive_s: 0,
        expiry_s: 1000,
        receive_max: None,
        packet_max: None,
        alias_max: None,
        identifies: false,
        is_worker: false,
        refuses: false,
        authenticates: false,
    }
}

fn wish(filter: &'static str, qos: u8) -> Wish {
    Wish { filter, qos, no_local: false, retain_as_published: false, retain_handling: 0 }
}

fn retained(topic: &'static str) -> Letter {
    let (qos, retain, size) = (1, true, 8);
    Letter { topic, qos, retain, size, expiry_s: None, by_alias: false, has_properties: false }
}

/// Runs a script on several shards in many orders.
fn keeps_promises(versions: &[Version], limits: Limits, script: &[Step]) {
    keeps_promises_in_slices(versions, limits, Slices::default(), script);
}

fn keeps_promises_in_slices(versions: &[Version], limits: Limits, slices: Slices, script: &[Step]) {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut steps = script.to_vec();
        for step in &mut steps {
            if let Step::Work { seed, .. } | Step::Settle { seed } = step {
                *seed = random.bits();
            }
        }
        let scenario = Scenario {
            kind: "script",
            seed,
            shard_count: 1 + seed as usize % 4,
            limits,
            slices,
            channel_count_max: 1 + seed as usize % 3,
            socket_bytes: 100_000,
            clients: versions.iter().enumerate().map(|(n, v)| profile(n, *v)).collect(),
            steps,
        };
        let run = |life| runner::run(&scenario, &scenario.steps, life);
        if run(Life::default()).is_err() {
            let failure = run(Life::recorded()).err().expect("it has just failed");
            panic!("order {seed}: {}\n{}", failure.text, failure.life.of(None));
        }
    }
}

/// Every client connects, and the first has retained messages.
fn opening(count: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for client in 0..count {
        steps.push(Step::Connect { client, clean: true, will: None });
        steps.push(Step::Settle { seed: 0 });
        steps.push(Step::Read { client, answer_count: 9 });
    }
    for topic in ["a", "a/b", "b"] {
        steps.push(Step::Publish { client: 0, letter: retained(topic) });
    }
    steps.push(Step::Settle { seed: 0 });
    steps.push(Step::Read { client: 0, answer_count: 9 });
    steps
}

/// The filter was given up before its owners had answered, and its retained messages came.
#[test]
fn nothing_retained_comes_after_unsubscribe() {
    let mut steps = opening(2);
    steps.extend([
        Step::Subscribe { client: 1, wishes: vec![wish("#", 1)] },
        Step::Unsubscribe { client: 1, filter: "#" },
        Step::Work { count: 6, seed: 0 },
        Step::Read { client: 1, answer_count: 9 },
        Step::Publish { client: 0, letter: retained("a") },
        Step::Settle { seed: 0 },
    ]);
    keeps_promises(&[Version::V5, Version::V311], Limits::default(), &steps);
}

/// A replay that waited for room went on on terms that another SUBSCRIBE had replaced.
#[test]
fn retained_messages_come_on_the_terms_of_now() {
    let mut steps = opening(2);
    steps.extend([
        Step::Subscribe { client: 1, wishes: vec![wish("a", 1), wish("a/b", 1)] },
        Step::Settle { seed: 0 },
        Step::Subscribe { client: 1, wishes: vec![wish("+", 0)] },
        Step::Subscribe { client: 1, wishes: vec![wish("+", 1)] },
        Step::Settle { seed: 0 },
        Step::Read { client: 1, answer_count: 0 },
        Step::Publish { client: 0, letter: retained("a") },
        Step::Settle { seed: 0 },
    ]);
    let limits = Limits { inflight_count_max: 1, ..Limits::default() };
    keeps_promises(&[Version::V5, Version::V5], limits, &steps);
}

/// SUBACK for a connection that is gone came on the next one.
#[test]
fn suback_comes_on_its_own_connection() {
    let mut steps = opening(2);
    steps.extend([
        Step::Subscribe { client: 1, wishes: vec![wish("#", 1)] },
        Step::Work { count: 4, seed: 0 },
        Step::Lose { client: 1, how: End::Vanish, kept: 1000 },
        Step::Connect { client: 1, clean: false, will: None },
        Step::Settle { seed: 0 },
    ]);
    keeps_promises(&[Version::V311, Version::V5], Limits::default(), &steps);
}

/// A publish that was put off was joined by one that others were to get, too.
#[test]
fn who_subscribes_while_a_publish_is_put_off_gets_the_next_one() {
    let mut steps = opening(4);
    for client in 1..3 {
        steps.push(Step::Subscribe { client, wishes: vec![wish("b/b", 1)] });
        steps.push(Step::Settle { seed: 0 });
        steps.push(Step::Read { client, answer_count: 9 });
    }
    let letter = Letter { retain: false, ..retained("b/b") };
    steps.extend([
        Step::PutOff { shards: u64::MAX },
        Step::Publish { client: 0, letter },
        Step::Work { count: 60, seed: 0 },
        Step::Subscribe { client: 3, wishes: vec![wish("b/b", 1)] },
        Step::Work { count: 60, seed: 0 },
        Step::Read { client: 3, answer_count: 9 },
        Step::Publish { client: 0, letter },
        Step::Work { count: 60, seed: 0 },
        Step::PutOff { shards: 0 },
    ]);
    let slices = Slices { subscriber_count: 1, ..Slices::default() };
    keeps_promises_in_slices(&[Version::V5; 4], Limits::default(), slices, &steps);
}
