//! Options in, report out.

use crate::fake_broker::Fate;
use crate::{MESSAGES, fated, loadgen};

#[test]
fn bad_options_exit_with_2_and_say_what_was_expected() {
    for (options, expected) in [
        ("", "Usage"),
        ("nonsense", "nonsense"),
        ("fanout --broker here", "HOST:PORT"),
        ("fanout --payload 39", "expected 40"),
        ("fanout --qos 3", "0..=2"),
        ("fanout --rate 1 --window 1", "cannot be used with"),
    ] {
        let output = loadgen(options);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options}: {stderr}");
        assert!(stderr.contains(expected), "{options}: {stderr}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_noticed_before_the_run() {
    let output = loadgen("fanout --duration 100000 --json /no/such/directory/report.json");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write /no/such"));
}

#[test]
fn the_report_names_settings_machine_and_version() {
    let run = fated(|_, _| Fate::Deliver, "--subscribers 2 --payload 99");
    assert_eq!(run.report["settings"]["payload"], 99);
    assert_eq!(run.report["settings"]["rate"], 100.0);
    assert_eq!(run.report["generator"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(run.count("/machine/core_count") >= 1);
    let kernel = run.report["machine"]["kernel"].as_str().expect("a name");
    assert!(kernel.starts_with(|first: char| first.is_ascii_digit()), "{kernel}");
    assert!(run.report["generator"]["cpu_s"].as_f64().is_some_and(|seconds| seconds > 0.0));
    let published: u64 = run.report["intervals"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|interval| interval["published"].as_u64().expect("a count"))
        .sum();
    assert_eq!(published, MESSAGES, "intervals add up to the run");
}

/// The limit of glommio, without which no executor starts.
#[test]
fn what_the_system_does_not_allow_is_said_at_once() {
    let begun = std::time::Instant::now();
    let program = env!("CARGO_BIN_EXE_ringmq-loadgen");
    let words = ["--memlock=65536:65536", program, "pairs", "--broker", "127.0.0.1:1"];
    let output = std::process::Command::new("prlimit").args(words).output();
    let output = output.expect("prlimit(1) is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("only 64 KiB") && said.contains("LimitMEMLOCK="), "{said}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// `IORING_SETUP_COOP_TASKRUN` or `IORING_SETUP_DEFER_TASKRUN`.
const COMPLETIONS_WAIT: u32 = 1 << 8 | 1 << 13;

#[test]
fn completions_interrupt_no_executor() {
    let program = env!("CARGO_BIN_EXE_ringmq-loadgen");
    let output = std::process::Command::new("strace")
        .args(["-f", "-X", "raw", "-e", "trace=io_uring_setup", program])
        .args(["pairs", "--broker", "127.0.0.1:1", "--cores", "2"])
        .output()
        .expect("strace(1) is there: scripts/setup installs it");
    let calls = String::from_utf8_lossy(&output.stderr);
    let flags = calls.split("{flags=0x").skip(1).map(|rest| {
        let end = rest.find(|digit: char| !digit.is_ascii_hexdigit()).unwrap_or(rest.len());
        u32::from_str_radix(&rest[..end], 16).expect("hexadecimal digits")
    });
    let flags: Vec<u32> = flags.collect();
    // One for the probe; two for each executor at least, glommio's and that of its sockets.
    assert!(flags.len() >= 5, "{calls}");
    assert!(flags.iter().all(|flags| flags & COMPLETIONS_WAIT != 0), "{calls}");
}
