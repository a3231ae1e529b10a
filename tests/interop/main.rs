//! Clients of strangers against the real broker: the oracle that our own codec cannot corrupt.
//!
//! `scripts/setup` installs what is needed. Where a client is missing its tests are skipped, which
//! is a failure in CI.

#![cfg(feature = "server")]

mod bridge;
mod mosquitto;
mod mqttjs;
mod paho;

use std::path::Path;
use std::process::{Command, Output};

use harness::broker::{Broker, is_stand_in};
use harness::program::{Program, are_here, skip};

/// Runs a test on brokers with 1, 2 and 16 cores, if the programs that it needs are here.
fn on_every_core_count(programs: &[&str], test: impl Fn(&Broker)) {
    if !are_here(programs) {
        return;
    }
    let counts: &[&str] = if is_stand_in() { &["1"] } else { &["1", "2", "16"] };
    for cores in counts {
        eprintln!("with {cores} cores");
        test(&Broker::start(&["--cores", cores]));
    }
}

/// Runs a scenario of a script in `clients/` that ends with status 0 where all is as it should be.
fn run_scenario(interpreter: &str, script: &str, scenario: &str) {
    if !root().join("target/interop/stamp").exists() {
        return skip("the clients of tests/interop are missing: scripts/setup installs them");
    }
    let script = root().join("tests/interop/clients").join(script);
    on_every_core_count(&[interpreter], |broker| {
        let mut command = Command::new(interpreter);
        command.arg(&script).args([scenario, &broker.port()]);
        Program::start(command).succeed();
    });
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs one of these tests where its programs are not found, in CI or elsewhere.
fn run_without_programs(ci: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("it runs"));
    command.args(["--exact", "--nocapture", "mosquitto::messages_pass_at_every_qos"]);
    command.env("PATH", "").env("CI", ci).env_remove("RINGMQ_NOT_RUN");
    command.output().expect("it runs already")
}

#[test]
fn a_missing_program_is_said_and_fails_in_ci() {
    let elsewhere = run_without_programs("false");
    let said = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(elsewhere.status.success(), "{said}");
    assert!(said.contains("NOT RUN: mosquitto::messages_pass"), "{said}");
    let in_ci = run_without_programs("true");
    let said = String::from_utf8_lossy(&in_ci.stderr);
    assert!(!in_ci.status.success() && said.contains("CI runs every test"), "{said}");
}
