//! A broker of strangers as a client of ours: a bridge of mosquitto with its default settings.

use std::path::PathBuf;
use std::process::Command;

use harness::broker::Broker;
use harness::files::TempFile;
use harness::program::{Program, installed};

use crate::mosquitto::{FORMAT, by_lines, client, messages};
use crate::on_every_core_count;

/// A mosquitto that passes everything to a broker of ours and back. Its own clients reach it by a
/// socket in the file system, so that no port has to be chosen.
struct Bridge {
    socket: PathBuf,
    _program: Program,
    _settings: TempFile,
}

impl Bridge {
    /// Starts it and waits until its subscription at `broker` is in place.
    fn start(broker: &Broker) -> Self {
        let name = format!("ringmq-{}-bridge.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let text = format!(
            "user root\nlistener 0 {}\nallow_anonymous true\nlog_type all\nlog_dest stderr\n\
             connection up\naddress {}\ntopic # both 1\n",
            socket.display(),
            broker.address,
        );
        let settings = TempFile::new("bridge.conf", text.as_bytes());
        let mut command = Command::new(installed("mosquitto"));
        command.args(["-c", settings.path()]);
        let program = Program::start(command);
        let lines = program.lines_with(&["Received SUBACK"]);
        let refused = lines.iter().any(|line| line.contains("efused"));
        assert!(!refused, "not at the first attempt: {lines:#?}");
        Self { socket, _program: program, _settings: settings }
    }

    /// One of mosquitto's clients, for the mosquitto.
    fn client(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(installed(name));
        command.arg("--unix").arg(&self.socket).args(arguments);
        command
    }
}

fn subscriber(mut command: Command) -> Program {
    command.args(["-q", "1", "-d", "-F", FORMAT]);
    Program::start(by_lines(command))
}

fn publish(mut command: Command, topic: &str, message: &str) {
    command.args(["-q", "1", "-r", "-t", topic, "-m", message]);
    Program::start(command).succeed();
}

/// The level of the protocol says that it is a bridge, and the broker treats it as one.
#[test]
fn what_is_retained_passes_over_a_bridge_and_nothing_goes_in_circles() {
    on_every_core_count(&["mosquitto", "mosquitto_sub", "mosquitto_pub"], |broker| {
        let bridge = Bridge::start(broker);
        let near = |name, arguments: &[&str]| client(name, broker, arguments);
        let far = |name, arguments: &[&str]| bridge.client(name, arguments);
        let all = ["-t", "x/#", "-C", "3"];
        let watchers = [near("mosquitto_sub", &all), far("mosquitto_sub", &all)].map(|command| {
            let watcher = subscriber(command);
            watcher.line_with("Subscribed (mid");
            watcher
        });
        let mut seen = [Vec::new(), Vec::new()];
        let commands = [near("mosquitto_pub", &[]), far("mosquitto_pub", &[])];
        for (command, topic) in commands.into_iter().zip(["x/near", "x/far"]) {
            publish(command, topic, "one");
            for (lines, watcher) in seen.iter_mut().zip(&watchers) {
                lines.extend(watcher.lines_with(&[&format!("got {topic}")]));
            }
        }
        // What had come back would have come before this.
        publish(near("mosquitto_pub", &[]), "x/end", "two");
        for (mut lines, watcher) in seen.into_iter().zip(watchers) {
            lines.extend(watcher.succeed());
            let expected = ["x/near q1 r0 one", "x/far q1 r0 one", "x/end q1 r0 two"];
            assert_eq!(messages(&lines), expected);
        }
        for topic in ["x/near", "x/far"] {
            let late = ["-t", topic, "-C", "1"];
            for command in [near("mosquitto_sub", &late), far("mosquitto_sub", &late)] {
                let lines = subscriber(command).succeed();
                assert_eq!(messages(&lines), [format!("{topic} q1 r1 one")]);
            }
        }
    });
}
