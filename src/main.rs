//! The broker's process: words in, exit status out.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use ringmq::config::{Config, LogLevel};
use ringmq::{cli, server};
use tracing::level_filters::LevelFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringmq_io::end_on_panic();
    ringmq_io::keep_small();
    match cli::parse(std::env::args_os()) {
        Ok(cli::Action::Run(config)) => run(&config),
        Ok(cli::Action::Print(text)) => print(&text),
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code)
        }
    }
}

fn run(config: &Config) -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(filter(config.log_level))
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Otherwise a line that cannot be written is reported by a macro that panics.
        .log_internal_errors(false)
        .init();
    match server::run(config, announce) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format_args!("ringmq: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; fails if that takes nothing.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes a line to standard error. The exit status says the same, so that it is no matter if the
/// line cannot be written; the macro of the standard library would panic.
fn complain(message: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// On standard output, for people and for scripts that asked for port 0.
fn announce(address: SocketAddr) {
    let mut out = std::io::stdout();
    // Perhaps no program reads this; the broker runs all the same.
    let _ = writeln!(out, "listening on {address}").and_then(|()| out.flush());
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
