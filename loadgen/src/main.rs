//! ringmq-loadgen: measures how fast an MQTT broker delivers, and whether it delivers everything.
//!
//! From the pure to the impure: `payload`, `tally`, `share`, `pacer`, `closed_loop`, `recorder`,
//! `operations`, `impact` and `report` are arithmetic; `client`, `handshake` and the actors
//! (`publisher`, `subscriber`, `bystander`, `churner`, `replay`) speak MQTT to byte buffers;
//! `bench` holds what the connections of one executor share. A `connection` stands between bytes
//! and its actor; `pump` and `socket` alone touch sockets. `worker` runs one executor, `run` is the
//! main thread, `rounds` and `search` repeat it.
//! A `scenario` turns options into a `plan` of `step`s, which all of these carry out.

mod actor;
mod bench;
mod bystander;
mod churner;
mod cli;
mod client;
mod closed_loop;
mod compare;
mod connection;
mod control;
mod document;
mod door;
mod figures;
mod findings;
#[cfg(test)]
mod golden;
mod handle;
mod handshake;
mod hlog;
mod html;
mod impact;
mod machine;
mod mailbox;
mod operations;
mod output;
mod pacer;
mod payload;
mod plan;
mod process;
mod progress;
mod publisher;
mod pump;
mod recorder;
mod replay;
mod report;
mod resources;
#[cfg(not(test))]
#[path = "../../src/ring.rs"]
mod ring;
mod rounds;
mod run;
mod scenario;
mod scenario_file;
mod search;
mod series;
mod share;
mod socket;
mod stage;
mod stall;
mod step;
mod subscriber;
mod table;
mod tally;
mod transport;
mod units;
mod worker;

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Error, Result};

use crate::cli::{Invocation, Measurement};
use crate::compare::CompareOptions;
use crate::document::Document;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BAD_INPUT: u8 = 2;
const RUN_FAILED: u8 = 3;

fn main() -> ExitCode {
    end_on_panic();
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

/// A panic in any thread ends the process, after its message: the others would wait for that
/// thread.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn compare(options: &CompareOptions) -> Result<u8> {
    let comparison = options.compare().map_err(Error::msg)?;
    // Nobody may be reading; the exit status says it too.
    let _ = write!(stdout(), "{comparison}");
    Ok(comparison.exit_status())
}

fn measure(Measurement { plan, output }: Measurement) -> Result<u8> {
    transport::probe()?;
    let mut watch = output.begin()?;
    let measured = match plan.search {
        Some(search) => search::find(&plan, search, &mut watch)?,
        None => rounds::measure(&plan, &mut watch)?,
    };
    let document = Document::new(&measured.reports);
    output.finish(watch, &document, &measured.sum)?;
    if let Some(failure) = &measured.failure {
        eprintln!("ringmq-loadgen: {failure}");
    }
    Ok(document.outcome().exit_status())
}
