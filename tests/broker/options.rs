//! Words on the command line and in the configuration file.

use std::process::{Command, Output};

use harness::broker::{Broker, program};
use harness::client::Client;
use harness::files::TempFile;

/// Runs the broker with words that it is expected to end of: it is ended if it does not.
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "20"]).arg(program()).args(arguments);
    let output = command.output().expect("the broker can be started");
    let is_ended = output.status.code() != Some(137);
    assert!(is_ended, "{arguments:?}: the broker did not end within 20 s: {output:?}");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn config_file(name: &str, text: &str) -> TempFile {
    TempFile::new(name, text.as_bytes())
}

/// Expects exit status 2 and all of these parts in what was said on standard error.
#[track_caller]
fn refuses(arguments: &[&str], parts: &[&str]) {
    let output = run(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: {part:?} is not in {said}");
    }
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn bad_options_end_with_status_2_and_say_what_was_expected() {
    refuses(&["--no-such-option"], &["--no-such-option"]);
    refuses(&["--cores", "0"], &["--cores", "1 to 64"]);
    refuses(&["--cores", "many"], &["--cores", "1 to 64"]);
    refuses(&["--listen", "localhost"], &["--listen", "localhost:1883"]);
    refuses(&["--log-level", "loud"], &["--log-level", "info"]);
    refuses(&["--packet-bytes-max", "1"], &["--packet-bytes-max"]);
    refuses(&["--connect-timeout-s", "0"], &["--connect-timeout-s"]);
    refuses(&["stray"], &["stray"]);
}

#[test]
fn a_bad_configuration_file_is_refused_with_line_and_column() {
    let file = config_file("unknown", "cores = 1\n\n[limits]\n  pakcet_bytes_max = 1000\n");
    refuses(&["--config", file.path()], &[&format!("{}:4:3", file.path()), "packet_bytes_max"]);
    let file = config_file("type", "cores = \"two\"\n");
    refuses(&["--config", file.path()], &[&format!("{}:1:9", file.path()), "cores"]);
    let file = config_file("syntax", "cores = 1\nlisten = [\n");
    refuses(&["--config", file.path()], &[&format!("{}:", file.path())]);
}

#[test]
fn a_configuration_file_that_is_not_there_is_refused() {
    refuses(&["--config", "/no/such/file.toml"], &["/no/such/file.toml"]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    for option in ["--listen", "--cores", "--config", "--packet-bytes-max"] {
        assert!(text(&help.stdout).contains(option), "{option}");
    }
    let version = run(&["--version"]);
    assert_eq!(text(&version.stdout), format!("ringmq {}\n", env!("RINGMQ_VERSION")));
}

#[test]
fn what_print_config_prints_is_a_configuration_file() {
    let printed = run(&["--print-config", "--cores", "1", "--packet-bytes-max", "2000"]);
    assert!(printed.status.success());
    let file = config_file("printed", &text(&printed.stdout));
    let again = run(&["--print-config", "--config", file.path()]);
    assert_eq!(text(&again.stdout), text(&printed.stdout));
}

#[test]
fn the_configuration_file_is_used_and_a_flag_goes_over_it() {
    let file = config_file(
        "used",
        "listen = \"127.0.0.1:1\"\ncores = 1\n[limits]\npacket_bytes_max = 200\n",
    );
    let broker = Broker::start(&["--config", file.path()]);
    let mut client = Client::connect(broker.address, "CONNECT a");
    client.send("PUBLISH t \"x\"*300");
    client.expect_closed();
}

#[test]
fn every_listener_is_announced_and_works() {
    let broker = Broker::start(&["--listen", "127.0.0.2:0", "--cores", "1"]);
    let mut subscriber = Client::connect(broker.address, "CONNECT s");
    subscriber.subscribe("t:0");
    let mut publisher = Client::connect(broker.next_address(), "CONNECT p");
    publisher.send("PUBLISH t hi");
    subscriber.expect("PUBLISH t hi");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = run(&["--listen", &address, "--cores", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains(&address), "{address} is not in {said}");
}
