//! What a run consists of: clients, subscriptions, load and duration. Plain data.
//!
//! A scenario makes a plan; everything else carries it out. Publishers, subscribers and topics
//! are numbered from 0; topic t of publisher p has the number p * topics_per_publisher + t.

pub(crate) mod objective;
pub(crate) mod payload;
pub(crate) mod step;

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ringmq::mqtt::{QoS, Version};
use serde_json::Value;

use crate::plan::objective::Search;
use crate::plan::payload::RunId;
use crate::plan::step::{Churn, Duty, Incident, SessionUse, Step};
use crate::units::count;

/// Sequence numbers kept in memory: one per subscriber and topic that it listens to.
const FLOW_COUNT_MAX: u64 = 200_000_000;

/// A subscriber may listen to all of them, with 65,535 SUBSCRIBE packets of 64 filters.
const TOPIC_COUNT_MAX: u64 = 4_000_000;

/// A closed loop with a number of messages ends with them, and in any case after this time.
const CLOSED_LOOP_S_MAX: f64 = 86_400.0;
/// Topic and headers around a payload of ours take far less.
const PACKET_OVERHEAD_BYTES: usize = 64 * 1024;

#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) scenario: &'static str,
    /// The clients that take part, in words: "1 publisher -> 100 subscribers".
    pub(crate) cast: String,
    /// All options as they took effect, for the report.
    pub(crate) settings: Value,
    pub(crate) run: RunId,
    pub(crate) broker: String,
    pub(crate) version: Version,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) qos: QoS,
    pub(crate) publisher_count: u32,
    pub(crate) topics_per_publisher: u32,
    pub(crate) subscriber_count: u32,
    /// The topics that a subscriber listens to.
    pub(crate) interest: fn(&Self, subscriber: u32) -> Range<u32>,
    /// The filters by which it asks for them.
    pub(crate) filters: fn(&Self, subscriber: u32) -> Vec<String>,
    pub(crate) load: Load,
    /// Messages published in all; `None`: as many as the time allows.
    pub(crate) message_count: Option<u64>,
    /// Whether publishes are retained.
    pub(crate) retain: bool,
    /// Whether subscribers are there when messages are published, so that their latency means
    /// something.
    pub(crate) live: bool,
    /// Clients beside publishers and subscribers.
    pub(crate) extras: Option<Extras>,
    pub(crate) steps: Vec<Step>,
    /// Subscribers that share a subscription; 1: each has its own.
    pub(crate) group_size: u32,
    /// What the extra clients ask for while messages flow.
    pub(crate) churn: Option<Churn>,
    /// What happens to the extra clients while messages flow.
    pub(crate) incident: Option<Incident>,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) drain: Duration,
    /// The resolution of the course of the run.
    pub(crate) interval: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) executor_count: u32,
    pub(crate) keep_alive_s: u16,
    pub(crate) client_prefix: String,
    /// The addresses that clients connect from, in turn; none: as the system likes.
    pub(crate) source_ips: Vec<IpAddr>,
    /// How often all of this is done.
    pub(crate) repeat_count: u32,
    /// Look for the highest rate instead of keeping to one.
    pub(crate) search: Option<Search>,
}

#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Load {
    /// This many publishes per second in all, come what may.
    Open { rate_per_s: f64 },
    /// This many messages outstanding per publisher.
    Closed { window_size: u32 },
}

/// Clients of one kind beside publishers and subscribers, numbered from 0.
#[derive(Clone, Copy)]
pub(crate) struct Extras {
    /// One of them, for people.
    pub(crate) name: &'static str,
    pub(crate) count: u32,
    pub(crate) filters: fn(&Plan, extra: u32) -> Vec<String>,
    /// How much the system may receive for one of them before it is read; `None`: as it likes.
    pub(crate) receive_buffer_bytes: Option<usize>,
}

/// One connection of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Client {
    Publisher(u32),
    Subscriber(u32),
    /// One of the extra clients.
    Extra(u32),
}

/// How a client introduces itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Greeting {
    pub(crate) client: Client,
    pub(crate) session: SessionUse,
    /// Whether it subscribes to its filters before it is ready.
    pub(crate) subscribes: bool,
}

impl Greeting {
    /// Makes the greeting of a publisher or subscriber: a clean session and all filters.
    pub(crate) fn clean(client: Client) -> Self {
        Self { client, session: SessionUse::Clean, subscribes: true }
    }
}

impl Plan {
    /// # Errors
    /// What is too large, when the books of this plan would not fit into memory.
    pub(crate) fn check(&self) -> Result<(), String> {
        let topics = u64::from(self.publisher_count) * u64::from(self.topics_per_publisher);
        if topics > TOPIC_COUNT_MAX {
            return Err(format!(
                "{topics} topics are more than {TOPIC_COUNT_MAX}: use fewer publishers or topics"
            ));
        }
        let flows: u64 = (0..self.subscriber_count)
            .map(|subscriber| (self.interest)(self, subscriber).len() as u64)
            .sum();
        if flows > FLOW_COUNT_MAX {
            return Err(format!(
                "{flows} pairs of subscriber and topic are more than {FLOW_COUNT_MAX}: use fewer \
                 publishers, topics or subscribers"
            ));
        }
        Ok(())
    }

    /// Copies the plan under another name of the run.
    pub(crate) fn renamed(&self) -> Self {
        Self { run: RunId::new(random()), ..self.clone() }
    }

    /// Limits the plan by a number of messages instead of a time.
    pub(crate) fn with_messages(self, count: u64) -> Self {
        let duration = match self.load {
            // Half a step before the message that would come next.
            Load::Open { rate_per_s } => (count as f64 - 0.5).max(0.0) / rate_per_s,
            Load::Closed { .. } => CLOSED_LOOP_S_MAX,
        };
        Self {
            message_count: Some(count),
            warmup: Duration::ZERO,
            duration: Duration::from_secs_f64(duration),
            ..self
        }
    }

    /// False for a closed loop that nothing would close when subscribers are away.
    pub(crate) fn awaits_acknowledgements(&self) -> bool {
        self.qos > QoS::AtMostOnce || !matches!(self.load, Load::Closed { .. })
    }

    pub(crate) fn topic_count(&self) -> u32 {
        self.publisher_count * self.topics_per_publisher
    }

    /// Returns the size of the largest packet that the broker has reason to send.
    pub(crate) fn packet_bytes_max(&self) -> usize {
        self.payload_bytes + PACKET_OVERHEAD_BYTES
    }

    /// Publishers and subscribers.
    pub(crate) fn flow_client_count(&self) -> u64 {
        u64::from(self.publisher_count) + u64::from(self.subscriber_count)
    }

    /// Connections that are open at once.
    pub(crate) fn connection_count(&self) -> u64 {
        let visits = self.steps.iter().filter_map(|step| match step {
            Step::Visit(visit) if visit.duty.stays() => Some(visit.count),
            Step::Visit(visit) => Some(visit.count.min(visit.pace.at_once)),
            _ => None,
        });
        self.flow_client_count() + u64::from(visits.max().unwrap_or_default())
    }

    /// Whether extra clients have this duty in any step.
    pub(crate) fn has_duty(&self, duty: Duty) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Visit(visit) if visit.duty == duty))
    }

    /// Counts the extra clients that take all messages and whose deliveries are counted apart.
    pub(crate) fn bystander_count(&self) -> u64 {
        let count = self.extras.map_or(0, |extras| extras.count);
        if self.has_duty(Duty::Bystander) { count.into() } else { 0 }
    }

    /// Returns how many messages `publisher` sends, which takes turns with the others.
    pub(crate) fn message_limit(&self, publisher: u32) -> u64 {
        let publishers = u64::from(self.publisher_count);
        self.message_count.map_or(u64::MAX, |count| {
            count.saturating_sub(u64::from(publisher)).div_ceil(publishers)
        })
    }

    /// Returns how many messages the plan has for a topic, if that is known beforehand.
    pub(crate) fn planned_on(&self, topic: u32) -> Option<u64> {
        self.message_count?;
        let per_publisher = u64::from(self.topics_per_publisher);
        let limit = self.message_limit(topic / self.topics_per_publisher);
        Some(limit.saturating_sub(u64::from(topic) % per_publisher).div_ceil(per_publisher))
    }

    pub(crate) fn topic_name(&self, topic: u32) -> String {
        let publisher = topic / self.topics_per_publisher;
        let number = topic % self.topics_per_publisher;
        format!("{}/{publisher}/{number}", self.topic_root())
    }

    /// Returns what all topics of this run begin with.
    pub(crate) fn topic_root(&self) -> String {
        format!("{}/{}", self.client_prefix, self.run.short())
    }

    pub(crate) fn client_id(&self, client: Client) -> String {
        let (role, number) = match client {
            Client::Publisher(number) => ('p', number),
            Client::Subscriber(number) => ('s', number),
            Client::Extra(number) => ('m', number),
        };
        format!("{}{}{role}{number}", self.client_prefix, self.run.short())
    }

    /// Lists the filters of a client.
    pub(crate) fn filters_of(&self, client: Client) -> Vec<String> {
        match client {
            Client::Publisher(_) => Vec::new(),
            Client::Subscriber(number) => (self.filters)(self, number),
            Client::Extra(number) => {
                self.extras.map_or_else(Vec::new, |extras| (extras.filters)(self, number))
            }
        }
    }

    /// Names a client in words.
    pub(crate) fn name_of(&self, client: Client) -> String {
        match client {
            Client::Publisher(number) => format!("publisher {number}"),
            Client::Subscriber(number) => format!("subscriber {number}"),
            Client::Extra(number) => {
                format!("{} {number}", self.extras.map_or("extra client", |extras| extras.name))
            }
        }
    }

    /// Publisher p lives on executor p mod N.
    pub(crate) fn publishers_on(&self, executor: u32) -> impl Iterator<Item = u32> + use<> {
        (executor..self.publisher_count).step_by(self.executor_count as usize)
    }

    /// Subscribers are dealt out after the publishers, so that one executor does not get both a
    /// lone publisher and the odd subscriber. Those that share a subscription stay together.
    pub(crate) fn subscribers_on(&self, executor: u32) -> impl Iterator<Item = u32> + use<> {
        let size = self.group_size;
        self.groups_on(executor).flat_map(move |group| group * size..(group + 1) * size)
    }

    /// Groups of subscribers that share a subscription, or single ones.
    fn groups_on(&self, executor: u32) -> impl Iterator<Item = u32> + use<> {
        let shift = self.publisher_count % self.executor_count;
        let first = (executor + self.executor_count - shift) % self.executor_count;
        (first..self.subscriber_count / self.group_size).step_by(self.executor_count as usize)
    }

    /// Counts the deliveries that each topic owes to subscribers on `executor`: one to each group.
    pub(crate) fn receivers_on(&self, executor: u32) -> Vec<u32> {
        let mut steps = vec![0i64; self.topic_count() as usize + 1];
        for group in self.groups_on(executor) {
            let topics = (self.interest)(self, group * self.group_size);
            steps[topics.start as usize] += 1;
            steps[topics.end as usize] -= 1;
        }
        steps.pop();
        let sums = steps.iter().scan(0, |sum, step| {
            *sum += step;
            Some(*sum as u32)
        });
        sums.collect()
    }

    /// Counts the subscribers of each topic, and the executors that have any of them.
    pub(crate) fn receivers_everywhere(&self) -> (Vec<u32>, Vec<u32>) {
        let mut subscribers = vec![0; self.topic_count() as usize];
        let mut executors = subscribers.clone();
        for executor in 0..self.executor_count {
            for (topic, receivers) in self.receivers_on(executor).into_iter().enumerate() {
                subscribers[topic] += receivers;
                executors[topic] += u32::from(receivers > 0);
            }
        }
        (subscribers, executors)
    }
}

/// Returns a random number that is good enough to tell runs apart.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Filters for a subscriber that asks for each of its topics by name.
pub(crate) fn by_name(plan: &Plan, subscriber: u32) -> Vec<String> {
    (plan.interest)(plan, subscriber).map(|topic| plan.topic_name(topic)).collect()
}

/// Makes one filter for a subscriber that asks for everything.
pub(crate) fn by_wildcard(plan: &Plan, _subscriber: u32) -> Vec<String> {
    vec![format!("{}/#", plan.topic_root())]
}

/// Counts in words: "1 publisher", "2,000 publishers".
pub(crate) fn some(amount: u32, noun: &str) -> String {
    format!("{} {noun}{}", count(amount.into()), if amount == 1 { "" } else { "s" })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plan to be varied by tests.
    pub(crate) fn plan() -> Plan {
        Plan {
            scenario: "test",
            cast: "1 publisher -> 5 subscribers".to_owned(),
            settings: Value::Null,
            run: RunId::new(0xabc),
            broker: "127.0.0.1:1883".to_owned(),
            version: Version::V311,
            credentials: None,
            qos: QoS::AtMostOnce,
            publisher_count: 3,
            topics_per_publisher: 2,
            subscriber_count: 5,
            interest: |plan, _| 0..plan.topic_count(),
            filters: by_name,
            load: Load::Open { rate_per_s: 10.0 },
            message_count: None,
            retain: false,
            live: true,
            extras: None,
            steps: vec![Step::Assemble, Step::Flow],
            group_size: 1,
            churn: None,
            incident: None,
            payload_bytes: 64,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(1),
            drain: Duration::from_secs(1),
            interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            executor_count: 2,
            keep_alive_s: 60,
            client_prefix: "rlg".to_owned(),
            source_ips: Vec::new(),
            repeat_count: 1,
            search: None,
        }
    }

    #[test]
    fn every_client_lives_on_exactly_one_executor() {
        for executor_count in 1..=4 {
            let plan = Plan { executor_count, ..plan() };
            let mut publishers: Vec<u32> =
                (0..executor_count).flat_map(|executor| plan.publishers_on(executor)).collect();
            publishers.sort_unstable();
            assert_eq!(publishers, [0, 1, 2]);
            let mut subscribers: Vec<u32> =
                (0..executor_count).flat_map(|executor| plan.subscribers_on(executor)).collect();
            subscribers.sort_unstable();
            assert_eq!(subscribers, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn those_that_share_a_subscription_stay_together_and_owe_one_delivery() {
        let plan = Plan { subscriber_count: 9, group_size: 3, executor_count: 2, ..plan() };
        let on = |executor| plan.subscribers_on(executor).collect::<Vec<u32>>();
        assert_eq!((on(1), on(0)), (vec![0, 1, 2, 6, 7, 8], vec![3, 4, 5]));
        assert_eq!(plan.receivers_everywhere(), (vec![3; 6], vec![2; 6]));
    }

    #[test]
    fn a_lone_publisher_and_a_lone_subscriber_do_not_share_an_executor() {
        let plan = Plan { publisher_count: 1, subscriber_count: 1, ..plan() };
        assert_eq!(plan.publishers_on(0).count(), 1);
        assert_eq!(plan.subscribers_on(1).count(), 1);
    }

    #[test]
    fn receivers_are_counted_per_executor_and_topic() {
        let plan = Plan { interest: |_, subscriber| subscriber..subscriber + 1, ..plan() };
        assert_eq!(plan.receivers_everywhere(), (vec![1, 1, 1, 1, 1, 0], vec![1, 1, 1, 1, 1, 0]));
        let everybody = Plan { interest: |plan, _| 0..plan.topic_count(), ..plan };
        assert_eq!(everybody.receivers_on(0), [2; 6]);
        assert_eq!(everybody.receivers_everywhere(), (vec![5; 6], vec![2; 6]));
    }

    #[test]
    fn a_number_of_messages_is_dealt_out_in_turns() {
        for message_count in 0..20 {
            let plan = Plan { message_count: Some(message_count), ..plan() };
            let limits: Vec<u64> = (0..3).map(|number| plan.message_limit(number)).collect();
            assert_eq!(limits.iter().sum::<u64>(), message_count);
            assert!(limits.is_sorted_by(|a, b| a >= b) && limits[0] - limits[2] <= 1);
            let planned = (0..6).map(|topic| plan.planned_on(topic).expect("it is known"));
            assert_eq!(planned.sum::<u64>(), message_count);
        }
        assert_eq!((plan().message_limit(0), plan().planned_on(0)), (u64::MAX, None));
    }

    #[test]
    fn names_are_distinct_and_short_enough_for_3_1() {
        let plan = plan();
        let id = plan.client_id(Client::Subscriber(9_999_999));
        assert!(id.len() <= 23, "{id}");
        assert_ne!(id, plan.client_id(Client::Publisher(9_999_999)));
        assert_eq!(plan.topic_name(5), "rlg/00000abc/2/1");
        assert_eq!(plan.filters_of(Client::Subscriber(0)).len(), 6);
    }

    #[test]
    fn plans_that_need_too_much_memory_are_refused() {
        let plan = Plan { subscriber_count: 1000, publisher_count: 200_000, ..plan() };
        assert!(plan.check().is_err());
    }
}
