//! Many publishers, few subscribers that ask for everything with one wildcard.

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::flow::{Flow, Scenario};
use crate::plan::{Plan, by_wildcard, some};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "fanin",
    about: "Many publishers, each with its own topic, and few subscribers with a wildcard",
    arguments: Flow::<Options>::augment_args,
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Clients that publish
    #[arg(long, value_name = "P", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    publishers: u32,
    /// Clients that subscribe to all topics with one filter that ends in #
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
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
        filters: by_wildcard,
        ..plan
    })
}

#[cfg(test)]
mod tests {
    use crate::plan::Client;
    use crate::scenario::tests::plan_of;

    #[test]
    fn a_subscriber_gets_everything_with_one_filter() {
        let plan = plan_of("fanin --publishers 20 --topics 2 --subscribers 3");
        assert_eq!(plan.receivers_everywhere().0, [3; 40]);
        let filters = plan.filters_of(Client::Subscriber(2));
        assert_eq!(filters.len(), 1);
        let root = filters[0].strip_suffix('#').expect("a wildcard");
        assert!((0..40).all(|topic| plan.topic_name(topic).starts_with(root)));
    }
}
