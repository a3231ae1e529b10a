//! The report must say exactly what a broker did. Here it is known: the broker follows a script.

mod capacity;
mod command_line;
mod compare;
mod connections;
mod extras;
mod fake_broker;
mod faults;
mod flows;
mod options;
mod output;
mod pace;
mod series;
mod visits;

use std::process::{Command, Output};

use fake_broker::{FakeBroker, Fate, Script};
use serde_json::Value;

/// Messages of [`SHORT`]: half a second at 100 per second.
const MESSAGES: u64 = 50;
const SHORT: &str = "--rate 100 --warmup 0 --duration 0.5 --drain 3";

struct Run {
    status: i32,
    report: Value,
    stdout: String,
    stderr: String,
}

impl Run {
    fn count(&self, path: &str) -> u64 {
        self.report
            .pointer(path)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("{path} is no count in {:#}\n{}", self.report, self.stderr))
    }

    /// What the table says of a figure.
    fn row(&self, name: &str) -> &str {
        let rows = self.stdout.lines().filter_map(|line| line.trim().strip_prefix(name));
        rows.map(str::trim).next().unwrap_or_else(|| panic!("no {name} in {}", self.stdout))
    }

    /// A figure of an operation in a step.
    fn operation(&self, step: &str, name: &str, figure: &str) -> u64 {
        let row = |rows: &Value, name: &str| {
            let rows = rows.as_array().into_iter().flatten();
            rows.into_iter().find(|row| row["name"] == name).cloned()
        };
        let step = row(&self.report["steps"], step).unwrap_or_default();
        let operation = row(&step["operations"], name).unwrap_or_default();
        operation[figure].as_u64().unwrap_or_else(|| {
            panic!("no {figure} of {name} in {:#}\n{}", self.report["steps"], self.stderr)
        })
    }

    fn deliveries(&self, name: &str) -> u64 {
        self.count(&format!("/deliveries/{name}"))
    }

    fn ms(&self, path: &str) -> f64 {
        self.count(path) as f64 / 1e6
    }
}

fn loadgen(options: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmq-loadgen"))
        .args(options.split_whitespace())
        .output()
        .expect("the binary was built for this test")
}

/// Runs `fanout` with `options` against `address`, and reads the report.
fn fanout_at(address: &str, options: &str) -> Run {
    run_at(address, "fanout", options)
}

/// Runs a scenario with `options` against `address`, and reads the report.
fn run_at(address: &str, scenario: &str, options: &str) -> Run {
    let port = address.rsplit(':').next().unwrap_or_default();
    let file = scratch(&format!("{port}.json"));
    let output = loadgen(&format!("{scenario} --broker {address} --json {file} {options}"));
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    Run {
        status: output.status.code().expect("it was not killed"),
        report: serde_json::from_str(&text).unwrap_or_default(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A file of this test's own.
fn scratch(name: &str) -> String {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").replace("::", "-");
    format!("{}/{test}-{name}", env!("CARGO_TARGET_TMPDIR"))
}

fn fanout(script: Script, options: &str) -> Run {
    fanout_at(&FakeBroker::start(script).address, options)
}

fn fated(fate: fn(usize, usize) -> Fate, options: &str) -> Run {
    fanout(Script { fate, ..Script::default() }, &format!("{SHORT} {options}"))
}
