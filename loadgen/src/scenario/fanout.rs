//! Few publishers, many subscribers: each subscriber gets every message.

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::flow::{Flow, Scenario};
use crate::plan::{Plan, some};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "fanout",
    about: "Every subscriber gets every message of every publisher",
    arguments: Flow::<Options>::augment_args,
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Clients that publish
    #[arg(long, value_name = "P", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    publishers: u32,
    /// Clients that subscribe to all topics, each by its name
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    subscribers: u32,
    /// Topics of each publisher, which uses them in turn
    #[arg(long, value_name = "T", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    topics: u32,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let (options, plan) = Flow::<Options>::parse(SCENARIO.name, matches)?;
    let Options { publishers, subscribers, topics } = options;
    Ok(Plan {
        cast: format!("{} -> {}", some(publishers, "publisher"), some(subscribers, "subscriber")),
        publisher_count: publishers,
        topics_per_publisher: topics,
        subscriber_count: subscribers,
        interest: |plan, _| 0..plan.topic_count(),
        ..plan
    })
}

#[cfg(test)]
mod tests {
    use crate::plan::Client;
    use crate::scenario::tests::plan_of;

    #[test]
    fn everybody_listens_to_everything() {
        let plan = plan_of("fanout --publishers 2 --topics 3 --subscribers 4");
        assert_eq!(plan.receivers_everywhere().0, [4; 6]);
        assert_eq!(plan.filters_of(Client::Subscriber(3)).len(), 6);
        assert_eq!(plan.settings["topics"], 3);
        assert_eq!(plan.cast, "2 publishers -> 4 subscribers");
    }
}
