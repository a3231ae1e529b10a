//! What the broker writes for people, and who may have stopped reading it.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::harness::broker::{Broker, program, wait_for};
use crate::harness::client::Client;

/// Ends in order although no line of its log can be written.
fn ends_in_order(broker: Broker, signal: &str) {
    let (status, _) = broker.stop(signal);
    assert_eq!(status.code(), Some(0), "{signal}: {status}");
}

#[test]
fn signals_end_a_broker_whose_log_nothing_reads() {
    for (cores, signal) in [("1", "TERM"), ("2", "TERM"), ("2", "INT")] {
        let broker = Broker::start_unread(&["--cores", cores]);
        let mut client = Client::connect(broker.address, "CONNECT a");
        ends_in_order(broker, signal);
        client.expect_closed();
    }
}

/// Refusing a connection is worth a line of log, and whoever has one open goes on without it.
#[test]
fn a_line_that_cannot_be_written_hurts_no_client() {
    for cores in ["1", "2"] {
        let limit = ["--cores", cores, "--connection-count-max", "1"];
        let broker = Broker::start_unread(&limit);
        let mut client = Client::connect(broker.address, "CONNECT a");
        for _ in 0..8 {
            Client::open(broker.address).expect_closed();
        }
        client.send("PINGREQ");
        client.expect("PINGRESP");
        ends_in_order(broker, "TERM");
    }
}

/// Runs the program with standard output and error that nothing reads.
fn run_unread(arguments: &[&str]) -> ExitStatus {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    for is_error in [false, true] {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        if is_error {
            command.stderr(writer)
        } else {
            command.stdout(writer)
        };
    }
    let mut child = command.spawn().expect("the program is there");
    wait_for(&mut child, Duration::from_secs(20)).expect("it ends")
}

#[test]
fn what_cannot_be_printed_gives_an_exit_status_and_no_panic() {
    assert_eq!(run_unread(&["--help"]).code(), Some(1));
    assert_eq!(run_unread(&["--print-config"]).code(), Some(1));
    assert_eq!(run_unread(&["--no-such-option"]).code(), Some(2));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    assert_eq!(run_unread(&["--cores", "1", "--listen", &address]).code(), Some(1));
}
