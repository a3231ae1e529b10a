//! A panic in any thread ends the process: a broker of which a part is dead would look alive.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use harness::broker::{lines_of, wait_for};

/// Far longer than the end of a process takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// The number of SIGABRT, on every architecture.
const ABORTED: i32 = 6;

/// No test of its own but the process of the next one.
#[test]
#[ignore = "run by a_panic_in_any_thread_ends_the_process"]
fn panicking_process() {
    ringmq_io::end_on_panic();
    let _ = thread::spawn(|| panic!("a bug")).join();
    thread::sleep(2 * PATIENCE);
}

#[test]
fn a_panic_in_any_thread_ends_the_process() {
    for is_read in [true, false] {
        let mut command = Command::new(std::env::current_exe().expect("this file"));
        command.args(["--exact", "panics::panicking_process", "--ignored", "--nocapture"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let mut child = command.stderr(writer).spawn().expect("this program runs");
        drop(command);
        let lines = is_read.then(|| lines_of(reader));
        let status = wait_for(&mut child, PATIENCE);
        let _ = child.kill();
        assert_eq!(status.and_then(|status| status.signal()), Some(ABORTED), "{status:?}");
        if let Some(lines) = lines {
            assert!(lines.iter().any(|line| line.contains("a bug")), "it says why");
        }
    }
}
