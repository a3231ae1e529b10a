//! Options that all scenarios have: files, source addresses, repeats; and the search for a rate.

use std::time::Duration;

use crate::fake_broker::{FakeBroker, Script};
use crate::{MESSAGES, SHORT, loadgen, run_at};

fn file(name: &str, text: &str) -> String {
    let path = format!("{}/{name}.toml", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, text).expect("a directory for tests");
    path
}

#[test]
fn a_scenario_can_be_a_file_and_the_command_line_goes_over_it() {
    let broker = FakeBroker::start(Script::default());
    let text = format!(
        "scenario = \"pairs\"\nbroker = \"{}\"\npairs = 3\nqos = 1\nrate = 100\nwarmup = 0\n\
         duration = 0.5\ndrain = 1\n",
        broker.address
    );
    let toml = file("pairs", &text);
    let json = format!("{toml}.json");
    for (words, pairs) in [(toml.clone(), 3), (format!("--scenario-file {toml} --pairs 5"), 5)] {
        let output = loadgen(&format!("{words} --json {json}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let text = std::fs::read_to_string(&json).expect("a report");
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(report["scenario"], "pairs");
        assert_eq!(report["settings"]["pairs"], pairs);
        assert_eq!(report["deliveries"]["delivered"], MESSAGES);
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_line() {
    let toml = file("wrong", "scenario = \"fanout\"\n\nsubscribrs = 3\n");
    let output = loadgen(&toml);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(&format!("{toml}:3: unknown option `subscribrs`")), "{stderr}");
    assert!(stderr.contains("subscribers"), "{stderr}");
    let output = loadgen("no-such-file.toml");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read no-such-file.toml"));
}

#[test]
fn clients_come_from_all_source_addresses_in_turn() {
    let broker = FakeBroker::start(Script::default());
    let options = "--connections 20 --hold 0 --cores 2 --source-ips 127.0.0.2-127.0.0.4,127.0.0.9";
    let run = run_at(&broker.address, "connect", options);
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let peers: Vec<(String, usize)> =
        broker.peers().into_iter().map(|(ip, count)| (ip.to_string(), count)).collect();
    let expected = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9"];
    assert_eq!(peers, expected.map(|ip| (ip.to_owned(), 5)));
}

#[test]
fn source_addresses_that_are_not_ours_are_refused_in_words() {
    let broker = FakeBroker::start(Script::default());
    for (ip, expected) in [("192.0.2.1", "no address of this machine"), ("::1", "one is IPv6")] {
        let options = format!("--connections 60 --hold 0 --source-ips {ip}");
        let run = run_at(&broker.address, "connect", &options);
        assert_eq!(run.status, 3, "{ip}");
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
}

#[test]
fn rounds_are_measured_apart_and_reported_together() {
    let broker = FakeBroker::start(Script { unacknowledged: Some(60), ..Script::default() });
    let options = format!("{SHORT} --qos 1 --subscribers 2 --repeats 3");
    let run = run_at(&broker.address, "fanout", &options);
    let rounds = run.report["runs"].as_array().expect("a list");
    let lacking = |round: &serde_json::Value| round["publishes"]["unacknowledged"].as_u64();
    let unacknowledged: Vec<_> = rounds.iter().filter_map(lacking).collect();
    assert_eq!(unacknowledged, [0, 1, 0], "message 60 belongs to the second round");
    for round in rounds {
        assert_eq!(round["deliveries"]["delivered"], 2 * MESSAGES);
        assert_eq!(round["deliveries"]["foreign"], 0);
    }
    assert_eq!(run.report["spread"]["/deliveries/delivered"]["runs"], 3);
    assert_eq!(run.status, 1, "the worst round counts: {}", run.stdout);
}

/// A publish costs this broker 10 ms, so above 100 per second it falls behind by 10 ms for each
/// one too many, and after a second at 150 by half a second.
#[test]
fn the_highest_rate_is_below_what_the_broker_can_do() {
    let script = Script { work: Duration::from_millis(10), ..Script::default() };
    let broker = FakeBroker::start(script);
    let options = "--subscribers 1 --warmup 0 --duration 1 --drain 5 --objective 300 --from 40 \
                   --precision 0.3 --probes 8";
    let run = run_at(&broker.address, "find-max fanout", options);
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let rate = run.report["search"]["rate_per_s"].as_f64().expect("a rate");
    assert!(rate < 150.0, "{:#}", run.report["search"]);
    assert_eq!(run.report["settings"]["rate"].as_f64(), Some(rate), "the report is that of it");
    let probes = run.report["search"]["probes"].as_array().expect("a list");
    for probe in probes.iter().filter(|probe| probe["rate_per_s"].as_f64() >= Some(150.0)) {
        assert!(probe["missed"].is_string(), "{probe}");
    }
    assert!(probes.len() >= 2 && probes.len() <= 8);
}

#[test]
fn a_search_that_finds_nothing_breaks_a_promise() {
    let script = Script { delay: Duration::from_millis(40), ..Script::default() };
    let broker = FakeBroker::start(script);
    let options = "--pairs 2 --warmup 0 --duration 0.5 --objective 20 --from 16 --probes 3";
    let run = run_at(&broker.address, "find-max pairs", options);
    assert_eq!(run.status, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.report["search"]["rate_per_s"].is_null());
    assert!(run.stdout.contains("no rate met the objective"), "{}", run.stdout);
    let fixed = run_at(&broker.address, "find-max pairs", "--rate 5");
    assert_eq!(fixed.status, 2);
    assert!(fixed.stderr.contains("chooses the rate itself"), "{}", fixed.stderr);
}
