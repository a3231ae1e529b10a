//! Few publishers, many subscribers: everybody gets everything.

use clap::{ArgMatches, Args, FromArgMatches};
use serde::Serialize;

use super::Scenario;
use crate::cli::RunOptions;
use crate::plan::Plan;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "fanout",
    about: "Every subscriber gets every message of every publisher",
    arguments: Options::augment_args,
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
    #[command(flatten)]
    #[serde(flatten)]
    run: RunOptions,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let mut options = Options::from_arg_matches(matches)?;
    options.run = options.run.completed();
    Ok(Plan {
        scenario: SCENARIO.name,
        settings: serde_json::to_value(&options).expect("options are plain data"),
        publisher_count: options.publishers,
        topics_per_publisher: options.topics,
        subscriber_count: options.subscribers,
        interest: |plan, _| 0..plan.topic_count(),
        ..options.run.plan()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Client;

    #[test]
    fn everybody_listens_to_everything() {
        let command = Options::augment_args(clap::Command::new("fanout"));
        let words = "fanout --publishers 2 --topics 3 --subscribers 4".split_whitespace();
        let plan = plan(&command.get_matches_from(words)).expect("good options");
        assert_eq!(plan.receivers_everywhere().0, [4; 6]);
        assert_eq!(plan.filters(Client::Subscriber(3)).len(), 6);
        assert_eq!(plan.settings["topics"], 3);
    }
}
