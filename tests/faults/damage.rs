//! The fuzz targets without a fuzzer: every seed, and seeds that were damaged at random.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use harness::random::Random;

use crate::fuzz::{Seed, TARGETS, Target, seeds};

/// Damaged seeds per target; `RINGMQ_DAMAGED_SEEDS` asks for more.
const DAMAGED_COUNT: usize = 10_000;
const BYTES_MAX: usize = 4096;

fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let all = seeds(Path::new(env!("CARGO_MANIFEST_DIR")));
    let own = all.into_iter().filter(|seed: &Seed| seed.target == target);
    let own: Vec<_> = own.map(|seed| seed.bytes).collect();
    assert!(own.len() > 10, "{target} has {} seeds", own.len());
    own
}

/// Runs one input; says which it was if it fails.
fn run(name: &str, target: Target, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{name} fails on (xxd -r -p turns this into a file): {hex}");
        resume_unwind(panic);
    }
}

/// Changes a few places, and now and then goes on as another seed does.
fn damage(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.insert(at, random.below(256) as u8),
            1 => bytes.truncate(at.max(1)),
            2 => {
                let other = &seeds[random.below(seeds.len())];
                bytes.splice(at.., other[random.below(other.len() + 1)..].iter().copied());
            }
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {}
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn damaged_seeds_pass(wanted: &str) {
    let count = std::env::var("RINGMQ_DAMAGED_SEEDS");
    let count = count.map_or(DAMAGED_COUNT, |count| count.parse().expect("it is a number"));
    let (name, target) = TARGETS.into_iter().find(|(name, _)| *name == wanted).expect("a target");
    let seeds = seeds_of(name);
    seeds.iter().for_each(|seed| run(name, target, seed));
    let mut random = Random::new(1);
    for _ in 0..count {
        run(name, target, &damage(&seeds, &mut random));
    }
}

#[test]
fn decoding_3_1_1_survives() {
    damaged_seeds_pass("decode_v311");
}

#[test]
fn decoding_5_0_survives() {
    damaged_seeds_pass("decode_v5");
}

#[test]
fn round_trips_survive() {
    damaged_seeds_pass("round_trip");
}

#[test]
fn matching_topics_survives() {
    damaged_seeds_pass("topic_match");
}

#[test]
fn whole_sessions_survive() {
    damaged_seeds_pass("session_script");
}

#[test]
fn configuration_files_survive() {
    damaged_seeds_pass("config_file");
}
