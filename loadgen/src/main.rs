//! ringmq-loadgen: measures how fast an MQTT broker delivers, and whether it delivers everything.
//!
//! The rooms, from the bottom up (`tests/tidy.rs` has the table). `sample` reads what
//! the system says. `pace` says when a message is due, `plan` what a run consists of, `recording`
//! keeps what one executor has sent and received; these are arithmetic. `client` speaks MQTT to
//! byte buffers. `executor` runs one thread: its `pump` and `socket` alone touch sockets. `report`
//! makes figures and a JSON document from what was measured, `html` and `output` show them. `run`
//! is the main thread: it starts the executors, repeats runs and searches for a rate. A `scenario`
//! turns options into a plan, and `cli` reads the command line.

mod cli;
mod client;
mod executor;
#[cfg(test)]
mod golden;
mod html;
mod output;
mod pace;
mod plan;
mod recording;
mod report;
mod run;
mod sample;
mod scenario;
mod units;

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Error, Result};

use crate::cli::{Invocation, Measurement};
use crate::output::compare::CompareOptions;
use crate::report::document::Document;
use crate::run::{repeat, search};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BAD_INPUT: u8 = 2;
const RUN_FAILED: u8 = 3;

fn main() -> ExitCode {
    ringmq_io::end_on_panic();
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => error.exit(),
    };
    let (status, bad) = match invocation {
        Invocation::Measure(measurement) => (measure(*measurement), RUN_FAILED),
        Invocation::Compare(options) => (compare(&options), BAD_INPUT),
        Invocation::Show(options) => (options.show().map(|()| 0), BAD_INPUT),
    };
    status.map_or_else(
        |error| {
            eprintln!("ringmq-loadgen: {error:#}");
            ExitCode::from(bad)
        },
        ExitCode::from,
    )
}

fn compare(options: &CompareOptions) -> Result<u8> {
    let comparison = options.compare().map_err(Error::msg)?;
    // Standard output may be closed; the exit status says it too.
    let _ = write!(stdout(), "{comparison}");
    Ok(comparison.exit_status())
}

fn measure(Measurement { plan, output }: Measurement) -> Result<u8> {
    ringmq_io::probe()?;
    let mut watch = output.begin()?;
    let measured = match plan.search {
        Some(search) => search::find(&plan, search, &mut watch)?,
        None => repeat::measure(&plan, &mut watch)?,
    };
    let document = Document::new(&measured.reports);
    output.finish(watch, &document, &measured.sum)?;
    if let Some(failure) = &measured.failure {
        eprintln!("ringmq-loadgen: {failure}");
    }
    Ok(document.outcome().exit_status())
}
