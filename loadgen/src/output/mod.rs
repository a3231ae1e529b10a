//! Where a report goes: the terminal and files. What cannot be written is noticed before the run.

pub(crate) mod compare;
pub(crate) mod hlog;
mod table;

use std::fs::{self, File};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use clap::Args;

use crate::html;
use crate::output::hlog::{IntervalLog, distribution};
use crate::recording::recorder::Recorder;
use crate::report::document::{Document, Outcome};
use crate::sample::process::Process;

/// What looks on while a run goes.
#[derive(Default)]
pub(crate) struct Watch {
    /// The broker, if it runs on this machine.
    pub(crate) broker: Option<Process>,
    pub(crate) log: Option<IntervalLog>,
}

/// What to look at besides the run itself, and where to write what was seen.
#[derive(Args, Clone, Default)]
pub(crate) struct OutputOptions {
    /// Sample the broker with this pid, on this machine: CPU, memory, descriptors
    #[arg(long, value_name = "PID", help_heading = "Output", value_parser = pid)]
    broker_pid: Option<u32>,
    /// Write the report here as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Write the report here as one self-contained HTML file, with plots
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    html: Option<PathBuf>,
    /// Write an HdrHistogram interval log here
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    hlog: Option<PathBuf>,
    /// Write a percentile distribution here, as the HdrHistogram plotter reads it
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    hgrm: Option<PathBuf>,
}

/// A report that was written before.
#[derive(Args)]
pub(crate) struct ShowOptions {
    /// What `--json` has written; several files are shown as runs of the same settings
    #[arg(value_name = "FILE.json", required = true)]
    files: Vec<PathBuf>,
    /// Write the report here as HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl ShowOptions {
    /// Prints the table, and writes what is asked for.
    ///
    /// # Errors
    /// Which file cannot be read or written, and why.
    pub(crate) fn show(&self) -> Result<()> {
        let document = Document::read(&self.files).map_err(Error::msg)?;
        let _ = write!(stdout(), "{document}");
        self.html.as_ref().map_or(Ok(()), |file| write_file(file, &html::page(&document)))
    }
}

impl OutputOptions {
    /// Checks, before anything is measured, that files can be written and the broker sampled.
    ///
    /// # Errors
    /// Which one cannot, and why.
    pub(crate) fn begin(&self) -> Result<Watch> {
        // An old report must not pass for that of a run that failed.
        [&self.json, &self.html, &self.hgrm]
            .into_iter()
            .flatten()
            .try_for_each(|file| begin_file(file))?;
        let log = self.hlog.as_deref().map(begin_log).transpose()?;
        let broker = self.broker_pid.map(Process::open).transpose().map_err(Error::msg)?;
        Ok(Watch { broker, log })
    }

    /// Writes the report. `sum` holds the latencies of all runs.
    ///
    /// # Errors
    /// Which file could not be written, and why.
    pub(crate) fn finish(&self, watch: Watch, document: &Document, sum: &Recorder) -> Result<()> {
        let has_begun = document.figure("/moments/start_s").is_some();
        if has_begun || document.outcome() != Outcome::Failed {
            // Standard output may be closed; the exit status and the file say it too.
            let _ = write!(stdout(), "{document}");
        }
        if let Some(file) = &self.json {
            write_file(file, &document.to_json())?;
        }
        if let Some(file) = &self.html {
            write_file(file, &html::page(document))?;
        }
        if let Some(file) = &self.hgrm {
            write_file(file, &distribution(&sum.latency))?;
        }
        if let (Some(log), Some(file)) = (watch.log, &self.hlog) {
            log.finish().with_context(|| cannot_write(file))?;
        }
        Ok(())
    }
}

fn pid(text: &str) -> Result<u32, String> {
    let pid = text.parse().map_err(|_| "expected the pid of a process".to_owned())?;
    Process::open(pid).map(|process| process.pid())
}

fn begin_file(file: &Path) -> Result<()> {
    File::create(file).map(drop).with_context(|| cannot_write(file))
}

fn begin_log(file: &Path) -> Result<IntervalLog> {
    IntervalLog::create(file).with_context(|| cannot_write(file))
}

fn write_file(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| cannot_write(file))
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write {}", file.display())
}
