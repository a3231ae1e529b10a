//! The conformance table: every normative statement of MQTT 3.1.1 and of MQTT 5.0 that a server can
//! be held to, as scripts of packets (`*.txt` beside this file for 3.1.1, `v5/*.txt` for 5.0; the
//! language is described in `tests/harness/src/script.rs`).
//!
//! Each file runs against 1, 2 and 16 bare shards with virtual time, in many interleavings, and
//! against a live broker over sockets with 1, 2 and 16 cores. Every case has a broker of its own.

mod counters;
mod coverage;
mod runner;
mod shards;
#[cfg(feature = "server")]
mod socket;

use std::path::PathBuf;

use harness::script::{Case, Script};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

fn read_script(file: &str) -> Script {
    let text = std::fs::read_to_string(directory().join(file)).expect(file);
    Script::parse(&text).unwrap_or_else(|error| panic!("tests/conformance/{file}:{error}"))
}

/// Runs every case of a file, and reports all that fail.
fn run_file(file: &str, run: impl Fn(&Case) -> Result<(), String> + Sync) {
    let script = read_script(file);
    let failures = in_parallel(&script.cases, |case| {
        let error = run(case).err()?;
        Some(format!("tests/conformance/{file}:{error}\n    in case: {}", case.name))
    });
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// Cases mostly wait; a few at a time keep a small machine busy without crowding it.
fn in_parallel<T: Send>(cases: &[Case], check: impl Fn(&Case) -> Option<T> + Sync) -> Vec<T> {
    const THREADS: usize = 4;
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..THREADS)
            .map(|lane| {
                let cases = cases.iter().skip(lane).step_by(THREADS);
                let check = &check;
                scope.spawn(move || cases.filter_map(check).collect::<Vec<_>>())
            })
            .collect();
        let results = lanes.into_iter().map(|lane| lane.join().expect("a case does not panic"));
        results.flatten().collect()
    })
}

#[cfg(feature = "server")]
fn over_sockets(file: &str, cores: usize) {
    run_file(file, |case| {
        if case.only_bare.is_some() || (case.only_one.is_some() && cores > 1) {
            return Ok(());
        }
        let outcome = runner::run_case(&mut socket::SocketWorld::start(cores, case), case);
        match &case.differs {
            Some(why) if harness::broker::is_stand_in() => match outcome {
                Ok(()) => Err(format!("{}: holds for mosquitto after all: {why}", case.line)),
                Err(_) => Ok(()),
            },
            _ => outcome,
        }
    });
}

/// Every seed is another order in which shards, channels and reads take their turns.
const SEEDS: u64 = 10;

fn on_bare_shards(file: &str, shard_count: usize) {
    run_file(file, |case| {
        if case.only_sockets.is_some() || (case.only_one.is_some() && shard_count > 1) {
            return Ok(());
        }
        for seed in 1..=SEEDS {
            let mut world = shards::ShardWorld::start(shard_count, seed, case);
            runner::run_case(&mut world, case)
                .and_then(|()| world.expect_balance().map_err(|e| format!("{}: {e}", case.line)))
                .map_err(|error| format!("{error} (with seed {seed})"))?;
        }
        Ok(())
    });
}

/// One module of tests for each file of the table.
macro_rules! table {
    ($($module:ident $file:literal)*) => {
        const FILES: &[&str] = &[$($file),*];

        $(mod $module {
            #[test]
            fn on_1_shard() {
                crate::on_bare_shards($file, 1);
            }

            #[test]
            fn on_2_shards() {
                crate::on_bare_shards($file, 2);
            }

            #[test]
            fn on_16_shards() {
                crate::on_bare_shards($file, 16);
            }

            #[test]
            #[cfg(feature = "server")]
            fn over_sockets_1_core() {
                crate::over_sockets($file, 1);
            }

            #[test]
            #[cfg(feature = "server")]
            fn over_sockets_2_cores() {
                crate::over_sockets($file, 2);
            }

            #[test]
            #[cfg(feature = "server")]
            fn over_sockets_16_cores() {
                crate::over_sockets($file, 16);
            }
        })*
    };
}

table! {
    connect "CONNECT.txt"
    session "SESSION.txt"
    will "WILL.txt"
    publish "PUBLISH.txt"
    qos1 "QOS1.txt"
    qos2 "QOS2.txt"
    retain "RETAIN.txt"
    subscribe "SUBSCRIBE.txt"
    unsubscribe "UNSUBSCRIBE.txt"
    ping "PING.txt"
    disconnect "DISCONNECT.txt"
    topic "TOPIC.txt"
    utf8 "UTF8.txt"
    wire "WIRE.txt"
    limits "LIMITS.txt"
    v5_connect "v5/CONNECT.txt"
    v5_session "v5/SESSION.txt"
    v5_will "v5/WILL.txt"
    v5_publish "v5/PUBLISH.txt"
    v5_qos "v5/QOS.txt"
    v5_flow "v5/FLOW.txt"
    v5_alias "v5/ALIAS.txt"
    v5_retain "v5/RETAIN.txt"
    v5_subscribe "v5/SUBSCRIBE.txt"
    v5_share "v5/SHARE.txt"
    v5_auth "v5/AUTH.txt"
    v5_topic "v5/TOPIC.txt"
    v5_wire "v5/WIRE.txt"
    v5_limits "v5/LIMITS.txt"
}
