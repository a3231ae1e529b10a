//! One run: clients, network and shards, step by step, and what follows from each step.

use std::time::Duration;

use harness::random::Random;
use ringmq::metrics::Counters;
use ringmq::session::Time;

use crate::checker;
use crate::client::{Client, DISCONNECT, OTHER};
use crate::history::{Connection, Dropped, History, Moment, Subscription, matches, shared};
use crate::life::Life;
use crate::network::{End, Mood, Network, Report};
use crate::scenario::{MANY_TOPICS, Profile, Scenario, Step, TOPICS, Version};
use crate::storage;

/// Turns of everybody after which nobody may still wait for anything.
const ROUNDS_MAX: usize = 3000;
/// Things that the network may do before it has to come to rest.
const ACTS_MAX: usize = 300_000;
/// Timers may fire so much late.
const TIMER_SLACK: Duration = Duration::from_millis(100);

/// How a run went.
pub(crate) struct Outcome {
    /// The same for the same run, to the byte.
    pub(crate) trace: u64,
    /// Deliveries that were looked at.
    pub(crate) delivery_count: usize,
    /// Of these, those that came behind one of another topic and the same publisher.
    pub(crate) pair_count: usize,
    /// What all shards have counted.
    pub(crate) counters: Counters,
}

pub(crate) struct World {
    scenario: Scenario,
    pub(crate) network: Network,
    history: History,
    clients: Vec<Client>,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, life: Life) -> Self {
        let client = |(number, profile)| Client::new(number, profile, scenario.limits);
        let shares = |profile: &&Profile| profile.is_worker || profile.identifies;
        let workers = scenario.clients.iter().filter(shares).map(|profile| profile.name.clone());
        let network = Network::new(scenario, life);
        let homes = scenario.clients.iter().map(|profile| network.home(&profile.name)).collect();
        let topics = TOPICS.iter().chain(&MANY_TOPICS);
        let owners = topics.map(|topic| (*topic, network.owner(topic))).collect();
        let workers = workers.collect();
        Self {
            scenario: Scenario { steps: Vec::new(), ..scenario.clone() },
            network,
            history: History { workers, homes, owners, ..History::default() },
            clients: scenario.clients.iter().enumerate().map(client).collect(),
        }
    }

    /// Panics where a promise is broken.
    pub(crate) fn run(&mut self, steps: &[Step]) -> Outcome {
        for step in steps {
            self.step(step);
        }
        self.come_to_rest();
        self.look_at_retained();
        self.network.audit_credit();
        storage::judge(&self.history, &self.clients, &self.network);
        let counters = self.network.counters();
        if counters.takeovers_cut_off == 0 {
            self.expect_goodbyes_to_count();
        }
        let pair_count = checker::judge(&self.history, &self.scenario, &counters.ledger);
        let deliveries = self.history.sessions.iter().map(|session| session.deliveries.len());
        let delivery_count = deliveries.sum();
        Outcome { trace: self.network.trace(), delivery_count, pair_count, counters }
    }

    fn step(&mut self, step: &Step) {
        let (network, history) = (&mut self.network, &mut self.history);
        match step {
            Step::Work { count, seed } => return self.work(*count, *seed),
            Step::Settle { seed } => {
                self.settle(&mut Random::new(*seed));
                return self.network.audit_credit();
            }
            Step::PutOff { shards } => {
                network.held_back = *shards;
                return;
            }
            Step::Leave { share_bytes } => return network.leave(*share_bytes),
            Step::Wait { ms } => return self.wait(Duration::from_millis(*ms)),
            _ => {}
        }
        let number = step.client().expect("the others are done");
        let client = &mut self.clients[number];
        match step {
            Step::Connect { clean, will, .. } => {
                client.connect(*clean, will.as_ref(), network, history);
            }
            Step::Subscribe { wishes, .. } => client.subscribe(wishes, network, history),
            Step::Unsubscribe { filter, .. } => client.unsubscribe(filter, network, history),
            Step::Publish { letter, .. } => client.publish(*letter, network, history),
            Step::Disconnect { keeps_will, expiry_s, .. } => {
                client.disconnect(*keeps_will, *expiry_s, network, history);
            }
            Step::Lose { how, kept, .. } => client.lose(*how, *kept, network, history),
            Step::UseUnknownAlias { .. } => client.use_unknown_alias(network, history),
            Step::Ping { .. } => client.ping(network),
            Step::Authenticate { .. } => client.authenticate_again(network),
            Step::Expel { .. } => {
                // Whichever of its connections that hits.
                let its = |c: &&mut Connection| c.client == number;
                for connection in history.connections.iter_mut().filter(its) {
                    connection.is_leaving = true;
                    connection.said_goodbye = false; // It may not come so far.
                }
                network.expel(&client.profile.name);
            }
            Step::Read { answer_count, .. } => {
                client.take_in(*answer_count, network, history);
            }
            Step::PutOff { .. }
            | Step::Leave { .. }
            | Step::Work { .. }
            | Step::Settle { .. }
            | Step::Wait { .. } => {}
        }
        self.digest();
    }

    fn work(&mut self, count: usize, seed: u64) {
        let mut random = Random::new(seed);
        let mood = Mood::of(&mut random);
        for _ in 0..count {
            if !self.network.act(&mut random, &mood) {
                break;
            }
            self.digest();
        }
    }

    fn wait(&mut self, length: Duration) {
        self.network.advance(self.network.now() + length);
        self.history.ms = self.network.now().ms();
        self.digest();
        self.expect_silent_to_be_closed();
        self.expect_stuck_to_be_closed();
    }

    /// What the wire tells goes into the history.
    fn digest(&mut self) {
        for (time, report) in self.network.take_reports() {
            let now = Moment { ms: time.ms(), ..self.history.now() };
            match report {
                Report::Handed { packet: OTHER, .. } => {}
                Report::Handed { pipe, packet: DISCONNECT, closed } => {
                    self.history.connections[pipe].was_told_to_void = true;
                    self.history.connections[pipe].is_void = closed;
                }
                Report::Handed { packet, .. } => {
                    self.history.messages[packet].handed.get_or_insert(now);
                }
                Report::Dropped { shard, cause } => {
                    self.history.drops.push(Dropped { shard, cause, at: now });
                }
                Report::NotRetained { shard } => self.history.refusals.push((shard, now)),
                Report::GivenOffline { client, message } => {
                    self.expect_nobody_online(client, message, now);
                }
                Report::Ended { pipe, by_broker } => {
                    self.history.connections[pipe].ended.get_or_insert(now);
                    if by_broker {
                        self.expect_cause(pipe, time);
                    }
                }
            }
        }
    }

    /// The broker closes a connection only for a reason.
    fn expect_cause(&self, number: usize, now: Time) {
        let pipe = &self.network.pipes()[number];
        let connection = &self.history.connections[number];
        let later = number + 1..self.history.connections.len();
        let is_newer = |other: usize| {
            self.history.connections[other].client == connection.client
                && self.network.is_placed(other)
        };
        let is_taken_over = later.into_iter().any(is_newer);
        let keep_alive = Duration::from_millis(u64::from(connection.keep_alive_s) * 1500);
        // Nothing is heard of a client that is not read.
        let is_silent =
            !keep_alive.is_zero() && now.since(pipe.heard) >= keep_alive && !pipe.is_paused;
        let timeout = Duration::from_secs(self.scenario.limits.slow_consumer_timeout_s.into());
        let is_stuck = now.since(pipe.written) >= timeout;
        let timeout = u64::from(self.scenario.limits.connect_timeout_s) * 1000;
        let is_slow = connection.accepted.is_none() && now.ms() >= connection.opened.ms + timeout;
        let is_reset = pipe.ending == Some(End::Reset);
        let has_cause =
            connection.is_leaving || is_taken_over || is_silent || is_stuck || is_slow || is_reset;
        let name = &self.clients[connection.client].profile.name;
        assert!(has_cause, "the broker has closed connection {number} of {name} without a cause");
    }

    /// A DISCONNECT that was sent before the next CONNECT of its client is handled before it.
    fn expect_goodbyes_to_count(&self) {
        let connections = &self.history.connections;
        for (number, connection) in connections.iter().enumerate() {
            let newer = connections[number + 1..].iter().filter(|c| c.client == connection.client);
            let is_cut_off =
                |ended| newer.clone().any(|c| c.accepted.is_some() && c.opened < ended);
            let is_lost = connection.said_goodbye
                && !connection.was_told_to_void
                && connection.ended.is_some_and(is_cut_off);
            let name = &self.clients[connection.client].profile.name;
            assert!(!is_lost, "the DISCONNECT of {name} on connection {number} was thrown away");
        }
    }

    /// Who has been silent for one and a half times its keep-alive is closed.
    fn expect_silent_to_be_closed(&self) {
        for (connection, pipe) in self.history.connections.iter().zip(self.network.pipes()) {
            let keep_alive = Duration::from_millis(u64::from(connection.keep_alive_s) * 1500);
            let silence = self.network.now().since(pipe.heard);
            let may_be_silent = connection.keep_alive_s == 0
                || connection.ended.is_some()
                || connection.accepted.is_none()
                || pipe.was_paused;
            assert!(
                may_be_silent || silence <= keep_alive + TIMER_SLACK,
                "{} has been silent for {silence:?} and is not closed",
                self.clients[connection.client].profile.name
            );
        }
    }

    /// A client that takes nothing is closed: it has the whole time once more after the timer
    /// that found that it had taken something.
    fn expect_stuck_to_be_closed(&self) {
        let timeout = Duration::from_secs(self.scenario.limits.slow_consumer_timeout_s.into());
        for (connection, pipe) in self.history.connections.iter().zip(self.network.pipes()) {
            let Some(blocked) = pipe.blocked.filter(|_| connection.ended.is_none()) else {
                continue;
            };
            let stuck = self.network.now().since(blocked.max(pipe.written));
            assert!(
                stuck <= 2 * timeout + TIMER_SLACK,
                "{} has taken nothing for {stuck:?} and is not closed",
                self.clients[connection.client].profile.name
            );
        }
    }

    /// A shared subscription gives nothing to a member without a connection while another one has
    /// been there all the time.
    fn expect_nobody_online(&self, client: usize, message: usize, now: Moment) {
        let first = self.history.messages[message].first();
        let topic = self.history.messages[message].letter.topic;
        let Some(session) = self.clients[client].session.filter(|_| {
            self.clients[client].profile.is_worker // It has no other subscriptions.
        }) else {
            return;
        };
        let is_its = |s: &&Subscription| {
            shared(s.wish.filter).is_some_and(|(_, filter)| matches(filter, topic))
                && s.may_be_in(first, now)
        };
        let mut its = self.history.sessions[session].subscriptions.iter().filter(is_its).peekable();
        let is_wrong = its.peek().is_some()
            && its.all(|s| self.has_member_online(s.wish.filter, client, first));
        assert!(
            !is_wrong,
            "message {message} was given to {}, which is offline, although another is there",
            self.clients[client].profile.name
        );
    }

    /// Whether somebody else subscribed to a group before that moment, on a connection that is
    /// still there.
    fn has_member_online(&self, group: &str, except: usize, first: Moment) -> bool {
        // One that takes packets of some size alone may not take this one.
        let may_take = |c: &&Client| c.number != except && c.profile.packet_max.is_none();
        self.clients.iter().filter(may_take).any(|client| {
            let Some(session) = client.session else { return false };
            let mut connections = self.history.connections.iter().rev();
            let last = connections.find(|c| c.client == client.number);
            let since = last.filter(|c| c.ended.is_none() && c.dropped.is_none());
            let Some(since) = since.and_then(|connection| connection.accepted) else {
                return false;
            };
            let subscriptions = self.history.sessions[session].subscriptions.iter();
            let mut its = subscriptions.filter(|s| s.wish.filter == group && s.asked > since);
            its.any(|s| s.granted.is_some_and(|at| at < first) && s.leaving.is_none())
        })
    }

    /// Everybody comes back and goes on until nobody waits for anything.
    fn come_to_rest(&mut self) {
        self.network.widen();
        let mut random = Random::new(self.scenario.seed);
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            let moved = self.settle(&mut random);
            let (network, history) = (&mut self.network, &mut self.history);
            let mut is_idle = !moved;
            let mut all_rest = true;
            for client in &mut self.clients {
                if !client.is_open() && !client.is_waiting_for_close() {
                    client.connect(false, None, network, history);
                }
                is_idle &= !client.take_in(usize::MAX, network, history);
                all_rest &= client.is_at_rest();
            }
            self.digest();
            let rest = is_idle && all_rest;
            quiet = if rest { quiet + 1 } else { 0 };
            if quiet > 3 {
                return;
            }
            if is_idle {
                self.wait(Duration::from_millis(20));
            }
        }
        let waits: Vec<_> = self.clients.iter().map(Client::describe).collect();
        panic!("no rest:\n{}", waits.join("\n"));
    }

    /// The network does all that it can.
    fn settle(&mut self, random: &mut Random) -> bool {
        let mut count = 0;
        self.network.held_back = 0;
        while self.network.act(random, &Mood::default()) {
            self.digest();
            count += 1;
            assert!(count < ACTS_MAX, "the network never comes to rest");
        }
        count > 0
    }

    /// Somebody new asks for everything that is retained.
    fn look_at_retained(&mut self) {
        let number = self.clients.len();
        let profile = Profile {
            name: "auditor".to_owned(),
            version: Version::V5,
            keep_alive_s: 0,
            expiry_s: 0,
            receive_max: None,
            packet_max: None,
            alias_max: None,
            identifies: false,
            is_worker: false,
            refuses: false,
            authenticates: false,
        };
        self.history.homes.push(self.network.home(&profile.name));
        self.scenario.clients.push(profile.clone());
        self.clients.push(Client::new(number, &profile, self.scenario.limits));
        self.come_to_rest();
        let (network, history) = (&mut self.network, &mut self.history);
        self.clients[number].subscribe(&checker::AUDIT, network, history);
        self.come_to_rest();
    }
}
