//! Clients of strangers against the real broker: the oracle that our own codec cannot corrupt.
//!
//! `scripts/interop-setup` installs what is needed; a client that is missing is a failure.

#![cfg(feature = "server")]

#[path = "../harness/mod.rs"]
mod harness;

mod bridge;
mod mosquitto;
mod mqttjs;
mod paho;

use std::path::Path;
use std::process::Command;

use harness::broker::{Broker, is_stand_in};
use harness::program::Program;

/// Runs a test on brokers with 1, 2 and 16 cores.
fn on_every_core_count(test: impl Fn(&Broker)) {
    let counts: &[&str] = if is_stand_in() { &["1"] } else { &["1", "2", "16"] };
    for cores in counts {
        eprintln!("with {cores} cores");
        test(&Broker::start(&["--cores", cores]));
    }
}

/// Runs a scenario of a script in `clients/` that ends with status 0 where all is as it should be.
fn run_scenario(interpreter: &Path, script: &str, scenario: &str) {
    assert!(root().join("target/interop/stamp").exists(), "first run scripts/interop-setup");
    let script = root().join("tests/interop/clients").join(script);
    on_every_core_count(|broker| {
        let mut command = Command::new(interpreter);
        command.arg(&script).args([scenario, &broker.port()]);
        Program::start(command).succeed();
    });
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
