//! As many conversations as there are pairs: each publisher has one subscriber of its own.

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::flow::{Flow, Scenario};
use crate::plan::{Plan, some};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "pairs",
    about: "Each publisher has one subscriber, which gets all of its messages and no others",
    arguments: Flow::<Options>::augment_args,
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Pairs of a publisher and a subscriber
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pairs: u32,
    /// Topics of each pair, used in turn
    #[arg(long, value_name = "T", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    topics: u32,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let (options, plan) = Flow::<Options>::parse(SCENARIO.name, matches)?;
    let Options { pairs, topics } = options;
    Ok(Plan {
        cast: some(pairs, "pair"),
        publisher_count: pairs,
        topics_per_publisher: topics,
        subscriber_count: pairs,
        interest: |plan, subscriber| {
            let first = subscriber * plan.topics_per_publisher;
            first..first + plan.topics_per_publisher
        },
        ..plan
    })
}

#[cfg(test)]
mod tests {
    use crate::plan::Client;
    use crate::scenario::tests::plan_of;

    #[test]
    fn each_topic_has_one_subscriber() {
        let plan = plan_of("pairs --pairs 4 --topics 2 --cores 3");
        assert_eq!(plan.receivers_everywhere(), (vec![1; 8], vec![1; 8]));
        let filters = plan.filters_of(Client::Subscriber(3));
        assert_eq!(filters, [plan.topic_name(6), plan.topic_name(7)]);
    }
}
