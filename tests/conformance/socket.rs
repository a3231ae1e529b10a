//! The table over real sockets: every case has a broker of its own.

use std::time::Duration;

use harness::broker::Broker;
use harness::client::SocketLink;
use harness::script::Case;

use crate::runner::World;

pub(crate) struct SocketWorld {
    broker: Broker,
}

impl SocketWorld {
    pub(crate) fn start(cores: usize, case: &Case) -> Self {
        let mut arguments = vec!["--cores".to_owned(), cores.to_string()];
        for (name, value) in &case.options {
            arguments.push(format!("--{}={value}", name.replace('_', "-")));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Self { broker: Broker::start(&arguments) }
    }
}

impl World for SocketWorld {
    type Link = SocketLink;

    fn connect(&mut self) -> SocketLink {
        SocketLink::connect(self.broker.address)
    }

    fn wait(&mut self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn expel(&mut self, _: &str) {
        unreachable!("a case that expels says that it is for bare shards");
    }
}
