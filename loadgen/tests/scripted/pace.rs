//! When messages are sent, and what is measured of it.

use std::time::Duration;

use crate::fake_broker::{Fate, Script};
use crate::{SHORT, fanout};

#[test]
fn a_delay_shows_in_every_percentile() {
    let delay = Duration::from_millis(80);
    let script = Script { delay, ..Script::default() };
    let run = fanout(script, &format!("{SHORT} --qos 1 --subscribers 3"));
    for percentile in ["min", "p50", "p90", "p99", "max"] {
        let ms = run.ms(&format!("/latency_ns/{percentile}"));
        assert!((79.9..8_000.0).contains(&ms), "{percentile} is {ms} ms");
        assert!(run.ms(&format!("/raw_latency_ns/{percentile}")) >= 79.9);
    }
    let acknowledged = run.ms("/acknowledge_latency_ns/p50");
    assert!(acknowledged < run.ms("/latency_ns/p50"), "PUBACK was not delayed");
}

/// The broker stands still for a second in a run of two. Open loop sees what everybody suffers
/// who has something to say meanwhile; closed loop politely waits and hides it.
#[test]
fn a_stall_shows_in_open_loop_and_hides_in_closed_loop() {
    let stall = Some((50, Duration::from_secs(1)));
    let options = "--warmup 0 --duration 2 --subscribers 2";
    let open = fanout(Script { stall, ..Script::default() }, &format!("{options} --rate 100"));
    assert!(open.ms("/latency_ns/p99") > 900.0, "{}", open.stdout);
    assert!(open.ms("/latency_ns/p90") > 600.0, "{}", open.stdout);
    let delay = Duration::from_millis(2);
    let script = Script { stall, delay, ..Script::default() };
    let closed = fanout(script, &format!("{options} --window 1"));
    assert!(closed.ms("/latency_ns/max") > 900.0, "{}", closed.stdout);
    let (open, hidden) = (open.ms("/latency_ns/p90"), closed.ms("/latency_ns/p90"));
    assert!(hidden < open, "{hidden} ms in closed loop, {open} ms in open loop");
}

/// What does not fit into the sockets is sent when the broker reads again: late, through the
/// broker's fault, and counted from when it should have been sent.
#[test]
fn a_publisher_that_is_held_back_counts_from_the_intended_time() {
    let script = Script { stall: Some((10, Duration::from_secs(1))), ..Script::default() };
    let options = "--rate 400 --payload 100000 --warmup 0 --duration 1 --subscribers 1";
    let run = fanout(script, options);
    assert_eq!(run.count("/publishes/sent"), 400, "{}", run.stdout);
    assert_eq!(run.deliveries("lost"), 0);
    assert!(run.count("/publishes/held_back") > 50, "{}", run.stdout);
    assert!(run.ms("/latency_ns/max") > 900.0, "{}", run.stdout);
    assert!(run.ms("/raw_latency_ns/p50") < run.ms("/latency_ns/p50"), "{}", run.stdout);
}

#[test]
fn a_closed_loop_never_has_more_outstanding_than_its_window() {
    for qos in 0..=2 {
        // Each message takes 20 ms, so a window of 2 allows 100 per second.
        let delay = Duration::from_millis(20);
        let script = Script { delay, ..Script::default() };
        let options = format!("--window 2 --qos {qos} --warmup 0 --duration 1 --subscribers 3");
        let run = fanout(script, &options);
        let sent = run.count("/publishes/sent");
        assert!((20..=101).contains(&sent), "{sent} at QoS {qos}");
        assert_eq!(run.deliveries("delivered"), 3 * sent);
        assert!(run.ms("/latency_ns/min") >= 19.9);
        assert_eq!(run.status, 0, "{}", run.stdout);
    }
}

#[test]
fn a_closed_loop_goes_on_after_losses() {
    let fate = |_, message| if message < 4 { Fate::Drop } else { Fate::Deliver };
    let script = Script { fate, delay: Duration::from_millis(5), ..Script::default() };
    let run = fanout(script, "--window 2 --warmup 0 --duration 4 --drain 1 --subscribers 2");
    assert_eq!(run.count("/publishes/written_off"), 4, "{}", run.stdout);
    assert_eq!(run.deliveries("lost"), 2 * 4);
    assert!(run.deliveries("delivered") > 50, "{}", run.stdout);
}

#[test]
fn several_executors_report_as_one() {
    for load in ["--rate 100", "--window 3"] {
        let script = Script { delay: Duration::from_millis(10), ..Script::default() };
        let options = format!(
            "{load} --cores 3 --publishers 4 --subscribers 7 --topics 2 --qos 2 --warmup 0 \
             --duration 0.5 --drain 2"
        );
        let run = fanout(script, &options);
        let sent = run.count("/publishes/sent");
        // What four windows of three let go at once; how many follow is up to the machine.
        assert!(sent >= 12, "{load}: {}", run.stdout);
        assert_eq!(run.deliveries("delivered"), 7 * sent, "{load}");
        assert_eq!(run.report["generator"]["executors"].as_array().map(Vec::len), Some(3));
        assert_eq!(run.status, 0, "{load}: {}", run.stdout);
    }
}

#[test]
fn warm_up_is_counted_but_not_measured() {
    let options = "--rate 100 --warmup 2 --duration 0.5 --subscribers 1";
    let run = fanout(Script::default(), options);
    assert_eq!(run.deliveries("delivered"), 250);
    assert_eq!(run.count("/latency_ns/count"), 50, "those intended after the warm-up");
    // What was sent late counts where it was sent, so only the sum is known for certain.
    let rate = run.report["publishes"]["per_second"].as_f64().expect("a rate");
    assert!(rate > 0.0 && rate < 250.0 / 0.5, "{rate}");
}
