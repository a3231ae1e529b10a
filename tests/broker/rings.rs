//! How the broker sets up its rings, as the kernel is asked for it.

use std::process::Command;
use std::time::Duration;

use harness::broker::{Broker, program, wait_until};
use harness::program::are_here;

/// Completions wait for the next system call of the thread: `IORING_SETUP_COOP_TASKRUN`, or
/// `IORING_SETUP_DEFER_TASKRUN`, which goes further.
const WAITING: u32 = 1 << 8 | 1 << 13;

#[test]
fn completions_interrupt_no_executor() {
    if !are_here(&["strace"]) {
        return;
    }
    let file = std::env::temp_dir().join(format!("ringmq-rings-{}", std::process::id()));
    let mut command = Command::new("strace");
    // The tracer is the grandchild, so that signals reach the broker.
    command.args(["-D", "-f", "-X", "raw", "-e", "trace=io_uring_setup", "-o"]).arg(&file);
    command.arg(program());
    Broker::spawn(command, &["--cores", "2"]).stop("TERM");
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    wait_until(Duration::from_secs(10), || read().contains("exited with"));
    let calls = read();
    let _ = std::fs::remove_file(&file);
    let flags: Vec<u32> = calls.lines().filter_map(flags_of).collect();
    // One for the probe; two for each executor at least, glommio's and that of its sockets.
    assert!(flags.len() >= 5, "{calls}");
    assert!(flags.iter().all(|flags| flags & WAITING != 0), "{calls}");
}

/// The flags of a call that has made a ring.
fn flags_of(line: &str) -> Option<u32> {
    let flags = line.split_once("{flags=0x").map(|(_, rest)| rest)?;
    let end = flags.find(|digit: char| !digit.is_ascii_hexdigit())?;
    u32::from_str_radix(&flags[..end], 16).ok()
}
