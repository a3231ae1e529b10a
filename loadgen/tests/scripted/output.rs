//! Files that a run writes, and what it refuses to begin with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use crate::fake_broker::Fate;
use crate::{MESSAGES, fated, loadgen, scratch};

/// All histograms of the log under `tag`, added up.
fn logged(log: &[u8], tag: Option<&str>) -> Histogram<u64> {
    let mut sum = Histogram::new(3).expect("three digits");
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(entry) = entry.expect("well formed") else {
            continue;
        };
        if entry.tag().map(|tag| tag.as_str()) == tag {
            let bytes = STANDARD.decode(entry.encoded_histogram()).expect("base64");
            let part: Histogram<u64> =
                Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram");
            sum.add(&part).expect("it resizes itself");
        }
    }
    sum
}

#[test]
fn the_histogram_log_adds_up_to_the_report() {
    let file = scratch("run.hlog");
    let options = format!("--qos 1 --subscribers 2 --interval 0.1 --hlog {file}");
    let run = fated(|_, _| Fate::Deliver, &options);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let log = std::fs::read(&file).expect("it was written");
    let figures = [
        (None, "latency_ns", 2 * MESSAGES),
        (Some("raw"), "raw_latency_ns", 2 * MESSAGES),
        (Some("acknowledge"), "acknowledge_latency_ns", MESSAGES),
    ];
    for (tag, name, count) in figures {
        let sum = logged(&log, tag);
        assert_eq!(sum.len(), count, "{name}");
        assert_eq!(sum.max(), run.count(&format!("/{name}/max")), "{name}");
        assert_eq!(sum.value_at_quantile(0.9), run.count(&format!("/{name}/p90")), "{name}");
    }
}

#[test]
fn the_percentile_distribution_is_that_of_the_report() {
    let file = scratch("run.hgrm");
    let run = fated(|_, _| Fate::Deliver, &format!("--subscribers 2 --hgrm {file}"));
    let text = std::fs::read_to_string(&file).expect("it was written");
    let rows: Vec<Vec<f64>> = text
        .lines()
        .filter_map(|line| line.split_whitespace().map(|word| word.parse().ok()).collect())
        .filter(|row: &Vec<f64>| !row.is_empty())
        .collect();
    let last = rows.last().expect("there are rows");
    assert_eq!(last[1..], [1.0, 2.0 * MESSAGES as f64]);
    assert!((last[0] - run.ms("/latency_ns/max")).abs() < 0.001, "{text}");
    assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]), "{text}");
    assert!(text.contains("#[Mean    ="), "{text}");
}

#[test]
fn the_report_holds_the_curves_that_it_quotes() {
    let run = fated(|_, _| Fate::Deliver, "--qos 1 --subscribers 2");
    for name in ["latency_ns", "raw_latency_ns", "acknowledge_latency_ns"] {
        let curve = run.report[name]["curve"].as_array().expect("a list");
        let last = curve.last().and_then(|point| point.as_array()).expect("a pair");
        assert_eq!((last[0].as_f64(), &last[1]), (Some(1.0), &run.report[name]["max"]));
    }
}

/// What the page says is what the JSON says, and what is shown later is what was shown at once.
#[test]
fn the_page_shows_the_figures_of_the_report() {
    let (html, json) = (scratch("run.html"), scratch("copy.json"));
    let fate = |_, message| if message == 7 { Fate::Drop } else { Fate::Deliver };
    let options = format!("--qos 1 --subscribers 3 --interval 0.1 --html {html}");
    let run = fated(fate, &options);
    let page = std::fs::read_to_string(&html).expect("it was written");
    let row =
        |name: &str, value: &str| format!("<tr><th>{name}</th><td class=\"value\">{value}</td>");
    for (name, value) in [("lost", "3"), ("deliveries", "147"), ("messages sent", "50")] {
        assert!(page.contains(&row(name, value)), "{name} {value} is not in {page}");
    }
    assert!(page.contains("✕ Violated") && page.contains("<p>3 lost</p>"));
    let intervals = run.report["intervals"].as_array().expect("a list").len();
    let deliveries = page.split("<h3>Deliveries</h3>").nth(1).expect("a chart");
    let chart = deliveries.split("</figure>").next().expect("it ends");
    assert_eq!(chart.matches("<title>").count(), intervals, "a hint for each interval");
    std::fs::write(&json, run.report.to_string()).expect("a writable folder");
    let again = loadgen(&format!("show {json} --html {html}"));
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(String::from_utf8_lossy(&again.stdout), run.stdout);
    assert_eq!(std::fs::read_to_string(&html).expect("it was written"), page);
}

#[test]
fn a_pid_that_is_no_broker_is_refused_at_once() {
    for (pid, expected) in
        [("4194305", "no process has the pid"), ("mosquitto", "expected the pid")]
    {
        let output = loadgen(&format!("fanout --broker-pid {pid}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains("--broker-pid"), "{stderr}");
    }
}
