//! The table against bare shards: no sockets, and time passes only where a script says so.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringmq::config::Config;
use ringmq::metrics::Counters;

use crate::runner::World;
use harness::cluster::Cluster;
use harness::peer::{End, Link, Outcome, Received};
use harness::script::Case;

pub(crate) struct ShardWorld {
    cluster: Rc<RefCell<Cluster>>,
}

pub(crate) struct ShardLink {
    cluster: Rc<RefCell<Cluster>>,
    client: usize,
}

impl ShardWorld {
    pub(crate) fn start(shard_count: usize, seed: u64, case: &Case) -> Self {
        let mut config = Config::default();
        for (name, value) in &case.options {
            let source = format!("limits.{name} = {value}");
            config.apply_toml("case", &source).expect("the case names a limit");
        }
        let cluster = Cluster::new(shard_count, config.limits, seed);
        Self { cluster: Rc::new(RefCell::new(cluster)) }
    }

    /// Expects that no delivery was lost in silence.
    pub(crate) fn expect_balance(&self) -> Outcome {
        self.cluster.borrow_mut().balance().map_err(|error| error.to_string())
    }

    /// Bytes that all clients have sent.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.cluster.borrow().sent_bytes()
    }

    /// What all shards have counted.
    pub(crate) fn counters(&self) -> Counters {
        self.cluster.borrow().counters()
    }
}

impl World for ShardWorld {
    type Link = ShardLink;

    fn connect(&mut self) -> ShardLink {
        let client = self.cluster.borrow_mut().connect();
        ShardLink { cluster: Rc::clone(&self.cluster), client }
    }

    fn wait(&mut self, duration: Duration) {
        self.cluster.borrow_mut().advance(duration);
    }

    fn expel(&mut self, client_id: &str) {
        self.cluster.borrow_mut().expel(client_id);
    }
}

impl Link for ShardLink {
    const PATIENCE: Duration = Duration::ZERO;
    const QUIET: Duration = Duration::ZERO;

    fn send(&mut self, bytes: &[u8]) {
        self.cluster.borrow_mut().send(self.client, bytes);
    }

    fn receive(&mut self, into: &mut Vec<u8>, patience: Duration) -> Received {
        self.cluster.borrow_mut().receive(self.client, into, patience)
    }

    fn end(&mut self, _: End) {
        self.cluster.borrow_mut().end(self.client);
    }
}
