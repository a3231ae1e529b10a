//! The table against bare shards: no sockets, and time passes only where a script says so. What
//! production does with executors and the mesh happens in an order that a seed chooses. Channels
//! between shards are tiny, so that being full is part of every run.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use harness::peer::{End, Link, Outcome, Received};
use harness::random::Random;
use harness::script::Case;
use harness::shards::Harness;
use harness::world::Plain;
use ringmq::config::Config;
use ringmq::metrics::{Counters, Pool};
use ringmq::session::Time;

use crate::runner::World;

/// Messages that a channel between two shards holds.
const CHANNEL_COUNT_MAX: usize = 2;

struct Cluster {
    harness: Harness<Plain>,
    random: Random,
    /// Bytes that all clients have sent.
    sent_bytes: u64,
}

impl Cluster {
    /// Everything goes on at once until nothing moves any more.
    fn rest(&mut self) {
        self.harness.rest(&mut self.random);
    }

    /// Lets the shards work, and time pass if need be, until there is something for the client.
    fn receive(&mut self, client: usize, into: &mut Vec<u8>, patience: Duration) -> Received {
        let deadline = self.harness.now + patience;
        loop {
            self.rest();
            let end = &mut self.harness.ends[client];
            if !end.inbox.is_empty() {
                into.append(&mut end.inbox);
                return Received::Bytes;
            }
            if end.is_closed {
                return Received::Closed;
            }
            if self.harness.now >= deadline {
                return Received::Nothing;
            }
            self.harness.step_towards(deadline);
        }
    }

    /// Lets time pass.
    fn advance(&mut self, deadline: Time) {
        self.rest();
        while self.harness.now < deadline {
            self.harness.step_towards(deadline);
            self.rest();
        }
    }
}

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
        let limits = config.limits;
        let pool = limits.memory_max.map_or_else(Pool::unlimited, |limit| Pool::new(limit, 0));
        let harness = Harness::new(shard_count, CHANNEL_COUNT_MAX, limits, seed, Plain);
        let harness = harness.with_pool(&Arc::new(pool));
        let cluster = Cluster { harness, random: Random::new(seed), sent_bytes: 0 };
        Self { cluster: Rc::new(RefCell::new(cluster)) }
    }

    /// Expects that no delivery was lost in silence.
    pub(crate) fn expect_balance(&self) -> Outcome {
        let cluster = &mut *self.cluster.borrow_mut();
        cluster.rest();
        cluster.harness.audit().map_err(|error| error.to_string())
    }

    /// Bytes that all clients have sent.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.cluster.borrow().sent_bytes
    }

    /// What all shards have counted.
    pub(crate) fn counters(&self) -> Counters {
        self.cluster.borrow().harness.counters()
    }
}

impl World for ShardWorld {
    type Link = ShardLink;

    fn connect(&mut self) -> ShardLink {
        let client = self.cluster.borrow_mut().harness.open();
        ShardLink { cluster: Rc::clone(&self.cluster), client }
    }

    fn wait(&mut self, duration: Duration) {
        let cluster = &mut *self.cluster.borrow_mut();
        cluster.advance(cluster.harness.now + duration);
    }

    fn expel(&mut self, client_id: &str) {
        let cluster = &mut *self.cluster.borrow_mut();
        cluster.rest();
        cluster.harness.expel(client_id);
    }
}

impl Link for ShardLink {
    const PATIENCE: Duration = Duration::ZERO;
    const QUIET: Duration = Duration::ZERO;

    fn send(&mut self, bytes: &[u8]) {
        let cluster = &mut *self.cluster.borrow_mut();
        cluster.sent_bytes += bytes.len() as u64;
        cluster.harness.send(self.client, bytes);
    }

    fn receive(&mut self, into: &mut Vec<u8>, patience: Duration) -> Received {
        self.cluster.borrow_mut().receive(self.client, into, patience)
    }

    fn end(&mut self, _: End) {
        self.cluster.borrow_mut().harness.ends[self.client].is_gone = true;
    }
}
