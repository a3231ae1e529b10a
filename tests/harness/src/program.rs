//! Programs of strangers that talk to the broker: whether they are here, their output line by line,
//! and their end.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::broker::{lines_of, wait_for};

/// How long a program may stay silent, and how long it may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the next line of a program that has ended may take.
const REST_PATIENCE: Duration = Duration::from_secs(5);

/// A running program with its standard output and error as one stream of lines.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    name: String,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::start_with_input(command)
    }

    /// Starts a command that has its standard input set.
    pub fn start_with_input(mut command: Command) -> Self {
        let name = format!("{command:?}");
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let errors = writer.try_clone().expect("a descriptor can be duplicated");
        command.stdout(writer).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {name}: {error}; scripts/setup installs it")
        });
        // The command holds the writing end too; only the child's may stay open.
        drop(command);
        Self { child, lines: lines_of(reader), name }
    }

    /// Reads until there is a line with this in it.
    #[track_caller]
    pub fn line_with(&self, part: &str) {
        self.lines_with(&[part]);
    }

    /// Reads until each of these is in a line, in whatever order, and gives all lines.
    #[track_caller]
    pub fn lines_with(&self, parts: &[&str]) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        while !parts.iter().all(|part| lines.iter().any(|line| line.contains(part))) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(error) => panic!("{}: {error} before {parts:?} came: {lines:#?}", self.name),
            }
        }
        lines
    }

    /// Waits for the end and gives the exit status and the lines that were not read yet.
    pub fn finish(mut self) -> (ExitStatus, Vec<String>) {
        let status = wait_for(&mut self.child, PATIENCE);
        let status = status.unwrap_or_else(|| {
            panic!("{} did not end within {PATIENCE:?}; it said {:#?}", self.name, self.rest())
        });
        (status, self.rest())
    }

    /// The lines that were not read yet. What the program has started may still hold its output.
    fn rest(&self) -> Vec<String> {
        let next = || self.lines.recv_timeout(REST_PATIENCE).ok();
        std::iter::from_fn(next).collect()
    }

    /// Expects the program to end with status 0 and gives the rest of its lines.
    #[track_caller]
    pub fn succeed(self) -> Vec<String> {
        let name = self.name.clone();
        let (status, lines) = self.finish();
        assert!(status.success(), "{name} ended with {status}:\n{}", lines.join("\n"));
        lines
    }

    /// Ends the program as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("a killed process ends");
    }
}

/// Returns whether these programs are installed, and skips the running test if they are not: see
/// [`skip`]. The test has to return then.
pub fn are_here(names: &[&str]) -> bool {
    let missing: Vec<&str> = names.iter().copied().filter(|name| find(name).is_none()).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {} (scripts/setup installs it)", missing.join(", ")));
    }
    missing.is_empty()
}

/// Says that the running test tests nothing here, and why. CI has to run every test, so there it
/// fails instead. `RINGMQ_NOT_RUN` names a file that collects these lines, because nextest hides
/// the output of tests that pass.
pub fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs every test, but {reason}");
    let thread = std::thread::current();
    let line = format!("NOT RUN: {}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("{line}");
    if let Some(list) = std::env::var_os("RINGMQ_NOT_RUN") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(list);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.expect("the list of what is not run can be written");
    }
}

/// Returns the path of a program that is installed.
pub fn installed(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is missing: scripts/setup installs it"))
}

/// Finds a program. Some packages install it where only administrators look for programs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
