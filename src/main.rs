//! The broker's process: words in, exit status out.

mod pages;
#[cfg(not(test))]
mod ring;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use ringmq::config::{Config, LogLevel};
use ringmq::{cli, server};
use tracing::level_filters::LevelFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pages::keep_small();
    match cli::parse(std::env::args_os()) {
        Ok(cli::Action::Run(config)) => run(&config),
        Ok(cli::Action::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
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
        .init();
    match server::run(config, announce) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On standard output, for people and for scripts that asked for port 0.
fn announce(address: SocketAddr) {
    let mut out = std::io::stdout();
    // Nobody may be reading; the broker runs all the same.
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
