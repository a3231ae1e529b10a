//! What the broker writes for people, and that nothing may read it any more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use harness::broker::{Broker, program, wait_for};
use harness::client::Client;

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

/// Starts a broker, has `use_it` use it and returns the lines about connections.
fn connection_lines(level: &str, use_it: impl FnOnce(&Broker)) -> Vec<String> {
    let broker = Broker::start(&["--cores", "2", "--log-level", level]);
    use_it(&broker);
    let (_, lines) = broker.stop("TERM");
    lines.into_iter().filter(|line| line.contains("connection=")).collect()
}

/// Whether a line has all of these parts.
fn says(line: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| line.contains(part))
}

#[test]
fn a_client_that_comes_and_goes_is_two_lines() {
    let lines = connection_lines("debug", |broker| {
        let mut client = Client::connect(broker.address, "CONNECT a keepalive=7 user=eve");
        client.send("DISCONNECT");
        client.expect_closed();
    });
    let [connected, closed] = &lines[..] else { panic!("two lines: {lines:#?}") };
    let name = ["connection=1 address=127.0.0.1:", "client_id=\"a\""];
    let facts = ["DEBUG connected", "version=\"3.1.1\"", "user=\"eve\"", "keep_alive_s=7"];
    assert!(says(connected, &name) && says(connected, &facts), "{connected}");
    assert!(says(connected, &["session_present=false"]), "{connected}");
    let facts = ["DEBUG closed: DISCONNECT", "lasted_s=", "received_bytes=22", "sent_bytes=4"];
    assert!(says(closed, &name) && says(closed, &facts), "{closed}");
}

#[test]
fn refusals_and_ends_by_error_are_shown_without_being_asked_for() {
    let lines = connection_lines("info", |broker| {
        let mut refused = Client::open(broker.address);
        refused.send("CONNECT \"\" clean=0");
        refused.expect("CONNACK 2");
        refused.expect_closed();
        let mut wrong = Client::connect(broker.address, "CONNECT wrong");
        wrong.send("CONNECT again");
        wrong.expect_closed();
        let mut left = Client::connect(broker.address, "CONNECT ordinary");
        left.send("DISCONNECT");
        left.expect_closed();
    });
    let [refused, wrong] = &lines[..] else { panic!("two lines: {lines:#?}") };
    assert!(says(refused, &["INFO closed: refused: Client Identifier not valid"]), "{refused}");
    let parts = ["INFO closed: protocol error: a second CONNECT", "client_id=\"wrong\""];
    assert!(says(wrong, &parts), "{wrong}");
}

/// Sends bytes and waits for the end of the connection; returns the own address.
fn send_and_wait(broker: &Broker, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(broker.address).expect("it listens");
    stream.write_all(bytes).expect("it takes them");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"", "there is nothing to say to it in MQTT");
    stream.local_addr().expect("it has one").to_string()
}

#[test]
fn another_protocol_on_a_port_for_mqtt_is_called_by_its_name() {
    for (bytes, name) in [
        (&b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"[..], "TLS"),
        (b"GET / HTTP/1.0\r\n\r\n", "HTTP"),
        (b"POST /mqtt HTTP/1.1\r\n", "HTTP"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", "the PROXY protocol"),
    ] {
        let mut address = String::new();
        let lines = connection_lines("info", |broker| address = send_and_wait(broker, bytes));
        let [line] = &lines[..] else { panic!("one line: {lines:#?}") };
        let closed = format!("INFO closed: {name} on a port for plain MQTT");
        assert!(says(line, &[&closed, &format!("address={address} ")]), "{line}");
    }
}
