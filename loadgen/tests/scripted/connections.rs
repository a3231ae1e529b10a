//! Getting connected, staying connected, and what is said when that fails.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::fake_broker::{FakeBroker, Script};
use crate::{MESSAGES, SHORT, fanout, fanout_at};

#[test]
fn deliveries_may_come_in_pieces_of_any_size() {
    for piece_bytes in [1, 3, 70, 1000] {
        let script = Script { piece_bytes, ..Script::default() };
        let run = fanout(script, &format!("{SHORT} --qos 1 --subscribers 2 --payload 50"));
        assert_eq!(run.deliveries("delivered"), 2 * MESSAGES, "pieces of {piece_bytes}");
        assert_eq!(run.status, 0, "{}", run.stdout);
    }
}

#[test]
fn payloads_may_be_larger_than_any_buffer() {
    let run = fanout(
        Script::default(),
        "--rate 10 --warmup 0 --duration 0.5 --payload 3000000 --subscribers 2 --qos 1",
    );
    assert_eq!(run.deliveries("delivered"), 10, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.status, 0);
}

#[test]
fn a_connection_cut_off_fails_the_run() {
    let script = Script { cut_off: Some(9), ..Script::default() };
    let run = fanout(script, &format!("{SHORT} --subscribers 2"));
    assert_eq!(run.status, 3);
    assert_eq!(run.report["verdict"]["outcome"], "failed");
    assert!(run.stderr.contains("publisher 0: "), "{}", run.stderr);
}

#[test]
fn refusals_and_silence_fail_the_run_and_say_why() {
    let refused = Script { connack: Some(5), ..Script::default() };
    let silent = Script { connack: None, ..Script::default() };
    let downgraded = Script { granted: Some(0), ..Script::default() };
    let denied = Script { granted: Some(0x80), ..Script::default() };
    // Only the silent one is timed: the others must have all the time that a busy machine takes.
    for (script, timeout_s, reason) in [
        (refused, 30.0, "not authorized (5)"),
        (silent, 0.3, "no answer from the broker within 300ms"),
        (downgraded, 30.0, "granted QoS 0 instead of 1"),
        (denied, 30.0, "refused to subscribe"),
    ] {
        let options = format!("--qos 1 --subscribers 2 --connect-timeout {timeout_s}");
        let run = fanout(script, &options);
        assert_eq!(run.status, 3, "{reason}");
        assert!(run.stderr.contains(reason), "{reason}: {}", run.stderr);
    }
}

#[test]
fn a_broker_that_is_not_there_fails_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let run = fanout_at(&address, SHORT);
    assert_eq!(run.status, 3);
    assert!(run.stderr.contains("refused"), "{}", run.stderr);
    let unknown = fanout_at("no-such-host.invalid:1883", SHORT);
    assert_eq!(unknown.status, 3);
    assert!(unknown.stderr.contains("cannot resolve no-such-host.invalid"), "{}", unknown.stderr);
}

#[test]
fn names_are_resolved_and_every_address_is_tried() {
    let broker = FakeBroker::start(Script::default());
    let port = broker.address.rsplit(':').next().expect("a port").to_owned();
    let run = fanout_at(&format!("localhost:{port}"), SHORT);
    assert_eq!(run.status, 0, "{}", run.stderr);
}

#[test]
fn too_few_descriptors_are_refused_with_the_command_that_helps() {
    let broker = FakeBroker::start(Script::default());
    let program = env!("CARGO_BIN_EXE_ringmq-loadgen");
    let options = format!("fanout --broker {} --subscribers 500", broker.address);
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -n 100; exec {program} {options}")])
        .output()
        .expect("a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("the limit is 100") && stderr.contains("ulimit -n 565"), "{stderr}");
}

#[test]
fn idle_clients_ping_and_everybody_says_goodbye() {
    let broker = FakeBroker::start(Script::default());
    let options = "--keep-alive 1 --rate 1 --warmup 0 --duration 2 --subscribers 3";
    let run = fanout_at(&broker.address, options);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(broker.pings.load(Ordering::SeqCst) >= 6);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(broker.disconnects.load(Ordering::SeqCst), 4);
}

#[test]
fn a_broker_that_does_not_answer_pings_fails_the_run() {
    let script = Script { answers_pings: false, ..Script::default() };
    let run = fanout(script, "--keep-alive 1 --rate 1 --warmup 0 --duration 4 --subscribers 1");
    assert_eq!(run.status, 3);
    assert!(run.stderr.contains("did not answer PINGREQ"), "{}", run.stderr);
}
