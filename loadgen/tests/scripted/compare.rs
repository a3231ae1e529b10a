//! Reports side by side: ratios that are known beforehand, and the exit status.

use std::process::Output;
use std::time::Duration;

use crate::fake_broker::{FakeBroker, Fate, Script};
use crate::{SHORT, loadgen, scratch};

/// Measures a broker, and returns the file with its report.
fn measured(name: &str, script: Script, options: &str) -> String {
    let file = scratch(&format!("{name}.json"));
    let address = FakeBroker::start(script).address;
    loadgen(&format!("fanout --broker {address} --json {file} {SHORT} {options}"));
    file
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn line<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let rest = table.lines().find_map(|line| line.strip_prefix(name));
    rest.unwrap_or_else(|| panic!("no {name} in {table}")).split_whitespace().collect()
}

#[test]
fn a_report_is_no_worse_than_itself() {
    let file = measured("a", Script::default(), "--qos 1 --subscribers 2");
    let output = loadgen(&format!("compare {file} {file} --fail-above 0"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(line(&text(&output), "lost"), ["0", "0", "same", "same"]);
    assert!(!text(&output).contains("differs"), "{}", text(&output));
}

#[test]
fn losses_and_delays_are_regressions_past_the_threshold_only() {
    let fast = measured("fast", Script::default(), "--qos 1 --subscribers 2");
    let fate = |_, message| if message % 10 == 0 { Fate::Drop } else { Fate::Deliver };
    let delay = Duration::from_millis(300);
    let slow = Script { fate, delay, ..Script::default() };
    let slow = measured("slow", slow, "--qos 1 --subscribers 2 --keep-alive 30");
    let worse = loadgen(&format!("compare {fast} {slow} --fail-above 20"));
    let table = text(&worse);
    assert_eq!(worse.status.code(), Some(1), "{table}");
    assert_eq!(line(&table, "lost")[..2], ["0", "10"]);
    assert_eq!(line(&table, "loss")[2..], ["10.0", "%", "0", "->", "10.0", "%", "worse"]);
    assert!(table.contains("regression above 20 %: loss"), "{table}");
    assert!(table.contains("setting differs: keep_alive 60 -> 30"), "{table}");
    let unjudged = loadgen(&format!("compare {fast} {slow}"));
    assert_eq!(unjudged.status.code(), Some(0), "nobody asked to fail");
    let better = loadgen(&format!("compare {slow} {fast} --fail-above 20"));
    assert_eq!(line(&text(&better), "lost")[..2], ["10", "0"]);
    assert!(!text(&better).contains("regression above 20 %: loss"), "{}", text(&better));
}

#[test]
fn several_runs_on_a_side_count_by_their_median() {
    let good = measured("good", Script::default(), "--qos 0 --subscribers 1");
    let drop = |_, message| if message < 5 { Fate::Drop } else { Fate::Deliver };
    let bad = Script { fate: drop, ..Script::default() };
    let bad = measured("bad", bad, "--qos 0 --subscribers 1");
    let output = loadgen(&format!("compare {good} {good},{bad},{bad}"));
    assert_eq!(line(&text(&output), "lost")[..2], ["0", "5"], "{}", text(&output));
    assert!(text(&output).contains("3 runs"), "{}", text(&output));
    let output = loadgen(&format!("compare {good} {good},{bad},{good}"));
    assert_eq!(line(&text(&output), "lost")[..2], ["0", "0"], "{}", text(&output));
}

#[test]
fn bad_input_exits_with_2_and_says_which() {
    let no_report = scratch("no-report.json");
    std::fs::write(&no_report, "{\"a\": 1}").expect("a writable folder");
    for (options, expected) in [
        ("compare".to_owned(), "Usage"),
        ("compare one.json".to_owned(), "B.json"),
        (format!("compare /no/such/a.json {no_report}"), "/no/such/a.json"),
        (format!("compare {no_report} {no_report}"), "no report of ringmq-loadgen"),
        (format!("compare {no_report} {no_report} --fail-above ten"), "fail-above"),
    ] {
        let output = loadgen(&options);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options}: {stderr}");
        assert!(stderr.contains(expected), "{options}: {stderr}");
    }
}
