//! ringmq-loadgen: measures how fast an MQTT broker delivers, and whether it delivers everything.
//!
//! From the pure to the impure: `payload`, `tally`, `pacer`, `closed_loop`, `recorder` and
//! `report` are arithmetic; `client`, `handshake`, `publisher` and `subscriber` speak MQTT to
//! byte buffers; `bench` holds what the connections of one executor share. `connection` alone
//! touches sockets, `worker` runs one executor, `run` is the main thread. A `scenario` turns
//! options into a `plan`, which all of these carry out.

mod actor;
mod bench;
mod bystander;
mod churner;
mod cli;
mod client;
mod closed_loop;
mod connection;
mod control;
mod findings;
mod handshake;
mod impact;
mod machine;
mod mailbox;
mod operations;
mod pacer;
mod payload;
mod plan;
mod progress;
mod publisher;
mod recorder;
mod replay;
mod report;
mod run;
mod scenario;
mod share;
mod socket;
mod step;
mod subscriber;
mod table;
mod tally;
mod worker;

use std::fs::{self, File};
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::cli::Invocation;
use crate::machine::Machine;
use crate::report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUN_FAILED: u8 = 3;

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => error.exit(),
    };
    match measure(invocation) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("ringmq-loadgen: {error:#}");
            ExitCode::from(RUN_FAILED)
        }
    }
}

fn measure(Invocation { plan, json }: Invocation) -> Result<u8> {
    if let Some(file) = &json {
        begin_file(file)?;
    }
    let plan = Arc::new(plan);
    let outcome = run::run(&plan)?;
    let report = Report::new(&plan, &outcome, Machine::detect());
    if outcome.failure.is_none() || outcome.timeline.is_some() {
        // Nobody may be reading; the exit status and the file say it too.
        let _ = write!(stdout(), "{report}");
    }
    if let Some(file) = &json {
        write_json(file, &report)?;
    }
    if let Some(failure) = &outcome.failure {
        eprintln!("ringmq-loadgen: {failure}");
    }
    Ok(report.verdict.exit_status())
}

/// A file that cannot be written is better noticed before the run, and an old report must not
/// pass for that of a run that failed.
fn begin_file(file: &Path) -> Result<()> {
    File::create(file).map(drop).with_context(|| format!("cannot write {}", file.display()))
}

fn write_json(file: &Path, report: &Report) -> Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
