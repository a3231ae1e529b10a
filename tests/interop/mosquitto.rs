//! The command line clients of mosquitto.

use std::process::Command;

use harness::broker::Broker;
use harness::files::TempFile;
use harness::program::{Program, installed};

use crate::on_every_core_count;

const CLIENTS: [&str; 2] = ["mosquitto_sub", "mosquitto_pub"];

/// How the subscriber writes a message; its debugging lines come in between.
pub(crate) const FORMAT: &str = "got %t q%q r%r %p";

pub(crate) fn client(name: &str, broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = Command::new(installed(name));
    command.args(["-h", "127.0.0.1", "-p", &broker.port()]).args(arguments);
    command
}

/// A mosquitto_sub whose subscription is in place.
fn subscribe(broker: &Broker, arguments: &[&str]) -> Program {
    let program = start_subscriber(broker, arguments);
    program.line_with("Subscribed (mid");
    program
}

fn start_subscriber(broker: &Broker, arguments: &[&str]) -> Program {
    let mut command = client("mosquitto_sub", broker, arguments);
    command.args(["-d", "-F", FORMAT]);
    Program::start(by_lines(command))
}

/// The same command with its output line by line, as it would be on a terminal.
pub(crate) fn by_lines(command: Command) -> Command {
    let mut by_lines = Command::new("stdbuf");
    by_lines.arg("-oL").arg(command.get_program()).args(command.get_args());
    by_lines
}

fn publish(broker: &Broker, arguments: &[&str]) {
    Program::start(client("mosquitto_pub", broker, arguments)).succeed();
}

/// The messages among the lines that a subscriber has written, without the word before them.
pub(crate) fn messages(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.strip_prefix("got ")).collect()
}

fn passes_at_every_qos(version: &'static str) {
    on_every_core_count(&CLIENTS, |broker| {
        for qos in ["0", "1", "2"] {
            let subscriber = subscribe(broker, &["-t", "a/+", "-q", qos, "-C", "1", "-V", version]);
            publish(broker, &["-t", "a/b", "-q", qos, "-m", "hello", "-V", version]);
            let lines = subscriber.succeed();
            assert_eq!(messages(&lines), [format!("a/b q{qos} r0 hello")]);
        }
    });
}

/// `%R` is the response topic, `%C` the content type, `%P` the user properties.
#[test]
fn properties_of_5_0_pass() {
    on_every_core_count(&CLIENTS, |broker| {
        let format = "got %t q%q %C %R %D %P %p";
        let arguments = ["-t", "a/+", "-q", "1", "-C", "1", "-V", "mqttv5", "-d", "-F", format];
        let subscriber = Program::start(by_lines(client("mosquitto_sub", broker, &arguments)));
        subscriber.line_with("Subscribed (mid");
        let properties = [
            ["-D", "publish", "user-property", "z", "1"].as_slice(),
            &["-D", "publish", "user-property", "a", "2"],
            &["-D", "publish", "response-topic", "answers"],
            &["-D", "publish", "content-type", "text"],
            &["-D", "publish", "correlation-data", "42"],
        ];
        let message = ["-t", "a/b", "-q", "1", "-m", "hello", "-V", "mqttv5"];
        publish(broker, &[&message, properties.concat().as_slice()].concat());
        let lines = subscriber.succeed();
        assert_eq!(messages(&lines), ["a/b q1 text answers 42 z:1 a:2 hello"]);
    });
}

#[test]
fn a_shared_subscription_of_5_0() {
    on_every_core_count(&CLIENTS, |broker| {
        let arguments = ["-t", "$share/g/a/+", "-q", "1", "-C", "1", "-V", "mqttv5"];
        let members = [subscribe(broker, &arguments), subscribe(broker, &arguments)];
        for message in ["one", "two"] {
            publish(broker, &["-t", "a/b", "-q", "1", "-m", message, "-V", "mqttv5"]);
        }
        let lines = members.map(Program::succeed).concat();
        let mut got = messages(&lines);
        got.sort_unstable();
        assert_eq!(got, ["a/b q1 r0 one", "a/b q1 r0 two"]);
    });
}

#[test]
fn messages_pass_at_every_qos() {
    passes_at_every_qos("mqttv311");
}

#[test]
fn messages_pass_at_every_qos_in_mqtt_3_1() {
    passes_at_every_qos("mqttv31");
}

#[test]
fn six_hundred_messages_keep_their_order_at_every_qos() {
    const COUNT: usize = 600;
    let lines: String = (0..COUNT).map(|number| format!("number {number}\n")).collect();
    let input = TempFile::new("six-hundred", lines.as_bytes());
    on_every_core_count(&CLIENTS, |broker| {
        for qos in ["0", "1", "2"] {
            let count = COUNT.to_string();
            let subscriber = subscribe(broker, &["-t", "n", "-q", qos, "-C", &count]);
            let mut publisher = client("mosquitto_pub", broker, &["-t", "n", "-q", qos, "-l"]);
            publisher.stdin(input.open());
            Program::start_with_input(publisher).succeed();
            let lines = subscriber.succeed();
            let expected: Vec<_> =
                (0..COUNT).map(|number| format!("n q{qos} r0 number {number}")).collect();
            assert_eq!(messages(&lines), expected);
        }
    });
}

#[test]
fn a_payload_of_a_megabyte_passes_at_every_qos() {
    let payload: String = (0..100_000).map(|number| format!("{number:09},")).collect();
    assert_eq!(payload.len(), 1_000_000);
    let input = TempFile::new("megabyte", payload.as_bytes());
    on_every_core_count(&CLIENTS, |broker| {
        for qos in ["0", "1", "2"] {
            let subscriber = subscribe(broker, &["-t", "big", "-q", qos, "-C", "1"]);
            publish(broker, &["-t", "big", "-q", qos, "-f", input.path()]);
            let lines = subscriber.succeed();
            assert!(messages(&lines) == [format!("big q{qos} r0 {payload}")], "at QoS {qos}");
        }
    });
}

#[test]
fn a_retained_message_is_replaced_and_cleared() {
    on_every_core_count(&CLIENTS, |broker| {
        publish(broker, &["-t", "r", "-q", "1", "-r", "-m", "first"]);
        publish(broker, &["-t", "r", "-q", "1", "-r", "-m", "second"]);
        let lines = start_subscriber(broker, &["-t", "r", "-q", "2", "-C", "1"]).succeed();
        assert_eq!(messages(&lines), ["r q1 r1 second"]);
        publish(broker, &["-t", "r", "-q", "1", "-r", "-n"]);
        let subscriber = subscribe(broker, &["-t", "r", "-t", "end", "-q", "1", "-C", "1"]);
        publish(broker, &["-t", "end", "-q", "1", "-m", "nothing before"]);
        assert_eq!(messages(&subscriber.succeed()), ["end q1 r0 nothing before"]);
    });
}

#[test]
fn a_will_is_published_when_its_client_is_killed() {
    on_every_core_count(&CLIENTS, |broker| {
        for qos in ["0", "1", "2"] {
            let watcher = subscribe(broker, &["-t", "gone", "-q", "2", "-C", "1"]);
            let will = ["--will-topic", "gone", "--will-payload", "bye", "--will-qos", qos];
            let mut victim = subscribe(broker, &[&["-t", "x"], will.as_slice()].concat());
            victim.kill();
            assert_eq!(messages(&watcher.succeed()), [format!("gone q{qos} r0 bye")]);
        }
    });
}

#[test]
fn a_will_is_not_published_when_its_client_leaves_in_order() {
    on_every_core_count(&CLIENTS, |broker| {
        let watcher = subscribe(broker, &["-t", "gone", "-t", "end", "-q", "1", "-C", "1"]);
        let will = ["--will-topic", "gone", "--will-payload", "bye", "--will-qos", "1"];
        let leaver = subscribe(broker, &[&["-t", "x", "-C", "1"], will.as_slice()].concat());
        publish(broker, &["-t", "x", "-m", "leave"]);
        leaver.succeed();
        publish(broker, &["-t", "end", "-q", "1", "-m", "nothing before"]);
        assert_eq!(messages(&watcher.succeed()), ["end q1 r0 nothing before"]);
    });
}

#[test]
fn a_stored_session_gets_what_came_while_it_was_away() {
    on_every_core_count(&CLIENTS, |broker| {
        for qos in ["1", "2"] {
            let arguments = ["-t", "p", "-q", qos, "-c", "-i", "stored"];
            subscribe(broker, &arguments).kill();
            for payload in ["one", "two", "three"] {
                publish(broker, &["-t", "p", "-q", qos, "-m", payload]);
            }
            let resumed = start_subscriber(broker, &[&arguments[..], &["-C", "3"]].concat());
            let expected = ["one", "two", "three"].map(|payload| format!("p q{qos} r0 {payload}"));
            assert_eq!(messages(&resumed.succeed()), expected);
        }
    });
}

#[test]
fn a_subscriber_that_is_killed_comes_back_to_its_session() {
    on_every_core_count(&CLIENTS, |broker| {
        let arguments = ["-t", "k/#", "-q", "1", "-c", "-i", "killed"];
        for round in 0..5 {
            let payload = round.to_string();
            subscribe(broker, &arguments).kill();
            publish(broker, &["-t", "k/x", "-q", "1", "-m", &payload]);
            let mut resumed = start_subscriber(broker, &arguments);
            let lines = resumed.lines_with(&["got ", "Subscribed (mid"]);
            assert_eq!(messages(&lines), [format!("k/x q1 r0 {round}")]);
            resumed.kill();
        }
    });
}
