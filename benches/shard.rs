//! What a publish costs the broker's own code, from the bytes that come to the bytes that go, all
//! acknowledgements included: `cargo bench --no-default-features --bench shard`.
//!
//! One bare shard, or two that send each other messages; no sockets and no threads. Prints the
//! nanoseconds of one delivery for each setting: the median over windows of rounds and the best
//! window. Words given as arguments select the settings whose names contain all of them.
//! `--worst` shows instead what the worst input of each kind takes: units of work and time.
//! `--rounds N` runs each setting for so many rounds and prints no times:
//! `scripts/count-instructions` does so under callgrind, whose counts a busy machine does not
//! change.

#[path = "shard/bare.rs"]
mod bare;
#[path = "shard/worst.rs"]
mod worst;

use std::time::Duration;

use bare::{Bare, Shape};
use ringmq::config::Order;
use ringmq::mqtt::{QoS, Version};

/// The one that the broker has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WINDOWS: usize = 31;
const DELIVERIES_PER_WINDOW: u64 = 20_000;

const SHAPES: [(&str, Shape); 3] = [
    ("fan-in 500", Shape::FanIn(500)),
    ("pairs 200", Shape::Pairs(200)),
    ("fan-out 100", Shape::FanOut(100)),
];
const VERSIONS: [(&str, Version); 2] = [("3.1.1", Version::V311), ("5.0", Version::V5)];
const LEVELS: [(&str, QoS); 3] =
    [("QoS 0", QoS::AtMostOnce), ("QoS 1", QoS::AtLeastOnce), ("QoS 2", QoS::ExactlyOnce)];

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.iter().position(|word| word == "--rounds").map(|at| {
        let rounds = words.remove(at + 1).parse().expect("--rounds is followed by a number");
        words.remove(at);
        rounds
    });
    words.retain(|word| word != "--bench");
    if let Some(at) = words.iter().position(|word| word == "--worst") {
        words.remove(at);
        return show_worst(&words, rounds);
    }
    for (name, shard_count, shape, version, qos) in settings() {
        if words.iter().all(|word| name.contains(word.as_str())) {
            let mut bare = Bare::new(shard_count, shape, version, qos);
            match rounds {
                Some(rounds) => count(&name, &mut bare, rounds),
                None => measure(&name, &mut bare),
            }
        }
    }
}

/// The worst input of each kind; with `--rounds 0` the names of the kinds alone.
fn show_worst(words: &[String], rounds: Option<u32>) {
    for (name, kind) in worst::KINDS {
        if !words.iter().all(|word| name.contains(word.as_str())) {
            continue;
        }
        if rounds == Some(0) {
            println!("{name}");
        } else {
            let worst::Worst { units, busy } = worst::run(*kind);
            println!("{name:46} {units:6} units {:8.1} us", busy.as_secs_f64() * 1e6);
        }
    }
}

/// What the shards say to each other does not depend on the version, so two of them have one.
fn settings() -> Vec<(String, usize, Shape, Version, QoS)> {
    let mut settings = Vec::new();
    for (shards_name, shard_count, versions) in
        [(", 1 shard", 1, &VERSIONS[..]), (", 2 shards", 2, &VERSIONS[..1])]
    {
        for (shape_name, shape) in SHAPES {
            for &(version_name, version) in versions {
                for (qos_name, qos) in LEVELS {
                    let name = format!("{shape_name}, {version_name}, {qos_name}{shards_name}");
                    settings.push((name, shard_count, shape, version, qos));
                }
            }
        }
    }
    for (order_name, order) in [("client", Order::Client), ("topic", Order::Topic)] {
        for (qos_name, qos) in &LEVELS[..2] {
            let name = format!("alternating 100, order {order_name}, {qos_name}, 2 shards");
            settings.push((name, 2, Shape::Alternating(100, order), Version::V311, *qos));
        }
    }
    settings
}

fn count(name: &str, bare: &mut Bare, rounds: u32) {
    (0..rounds).for_each(|_| bare.round());
    println!("{name}: {} publishes, {} deliveries", bare.published_count, bare.delivered_count);
}

fn measure(name: &str, bare: &mut Bare) {
    run(bare, DELIVERIES_PER_WINDOW);
    let mut windows: Vec<f64> = (0..WINDOWS).map(|_| run(bare, DELIVERIES_PER_WINDOW)).collect();
    windows.sort_by(f64::total_cmp);
    println!("{name:34} median {:7.1} ns  best {:7.1} ns", windows[WINDOWS / 2], windows[0]);
}

/// Nanoseconds of one delivery, over at least `count` of them.
fn run(bare: &mut Bare, count: u64) -> f64 {
    bare.busy = Duration::ZERO;
    let start = bare.delivered_count;
    while bare.delivered_count < start + count {
        bare.round();
    }
    bare.busy.as_secs_f64() * 1e9 / (bare.delivered_count - start) as f64
}
