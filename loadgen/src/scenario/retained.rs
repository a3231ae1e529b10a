//! Many retained messages, and subscribers that ask for all of them with one wildcard.

use clap::{ArgMatches, Args, FromArgMatches};
use serde::Serialize;

use super::flow::Scenario;
use crate::plan::step::{Duty, SessionUse, Step, Visit};
use crate::plan::{Extras, Plan, by_wildcard, some};
use crate::scenario::options::{LoadOptions, RunOptions, VisitOptions};
use crate::scenario::values::refuse;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "retained",
    about: "Retained messages on many topics; then subscribers ask for all of them",
    // At QoS 0 a broker may drop what it was to retain.
    arguments: |command| {
        Options::augment_args(command).mut_arg("qos", |qos| qos.default_value("1"))
    },
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Clients that publish
    #[arg(long, value_name = "P", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    publishers: u32,
    /// Topics of each publisher, all of which get a retained message
    #[arg(long, value_name = "T", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    topics: u32,
    /// Messages published on each topic; the last one stays
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    versions: u64,
    /// Clients that subscribe to everything with one filter that ends in #
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Leave the retained messages behind instead of ending them
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    #[serde(flatten)]
    visits: VisitOptions,
    #[command(flatten)]
    #[serde(flatten)]
    load: LoadOptions,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunOptions,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let mut options = Options::from_arg_matches(matches)?;
    options.load = options.load.completed();
    let plan = options.load.load(options.run.plan());
    if !plan.awaits_acknowledgements() {
        return Err(refuse("nobody is subscribed yet: --window needs --qos 1 or 2"));
    }
    let Options { publishers, topics, subscribers, versions, .. } = options;
    let messages = u64::from(publishers) * u64::from(topics) * versions;
    let plan = Plan {
        scenario: SCENARIO.name,
        cast: format!(
            "{} of {} -> {}",
            some(topics, "topic"),
            some(publishers, "publisher"),
            some(subscribers, "subscriber")
        ),
        settings: serde_json::to_value(&options).expect("options are plain data"),
        publisher_count: publishers,
        topics_per_publisher: topics,
        retain: true,
        live: false,
        extras: Some(Extras {
            name: "subscriber",
            count: subscribers,
            filters: by_wildcard,
            receive_buffer_bytes: None,
        }),
        steps: steps(&options),
        ..plan
    };
    Ok(plan.with_messages(messages))
}

fn steps(options: &Options) -> Vec<Step> {
    let visit = |name, count, duty| {
        let pace = options.visits.pace();
        let session = SessionUse::Clean;
        Step::Visit(Visit { name, count, session, subscribes: false, duty, pace })
    };
    let replay = visit("replay", options.subscribers, Duty::Replay);
    let mut steps = vec![Step::Assemble, Step::Flow, replay];
    if !options.keep {
        steps.push(visit("clear", 1, Duty::Clear));
    }
    steps
}

#[cfg(test)]
mod tests {
    use crate::scenario::tests::plan_of;

    #[test]
    fn each_topic_gets_each_version() {
        let plan = plan_of("retained --publishers 2 --topics 30 --versions 3");
        assert_eq!(plan.message_count, Some(180));
        assert!((0..60).all(|topic| plan.planned_on(topic) == Some(3)));
    }
}
