//! Programs of strangers that talk to the broker: their output line by line, and their end.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::broker::{lines_of, wait_for};

/// How long a program may stay silent, and how long it may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the next line of a program that has ended may take.
const REST_PATIENCE: Duration = Duration::from_secs(5);

/// A running program with its standard output and error as one stream of lines.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    name: String,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::start_with_input(command)
    }

    /// Starts a command that has its standard input set.
    pub(crate) fn start_with_input(mut command: Command) -> Self {
        let name = format!("{command:?}");
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let errors = writer.try_clone().expect("a descriptor can be duplicated");
        command.stdout(writer).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {name}: {error}; scripts/interop-setup says how to get it")
        });
        // The command holds the writing end too; only the child's may stay open.
        drop(command);
        Self { child, lines: lines_of(reader), name }
    }

    /// Reads until there is a line with this in it.
    #[track_caller]
    pub(crate) fn line_with(&self, part: &str) {
        self.lines_with(&[part]);
    }

    /// Reads until each of these is in a line, in whatever order, and gives all lines.
    #[track_caller]
    pub(crate) fn lines_with(&self, parts: &[&str]) -> Vec<String> {
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
    pub(crate) fn finish(mut self) -> (ExitStatus, Vec<String>) {
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
    pub(crate) fn succeed(self) -> Vec<String> {
        let name = self.name.clone();
        let (status, lines) = self.finish();
        assert!(status.success(), "{name} ended with {status}:\n{}", lines.join("\n"));
        lines
    }

    /// Ends the program as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("a killed process ends");
    }
}

/// The path of a program, which must be there.
pub(crate) fn installed(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: scripts/interop-setup says how to get it"))
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
