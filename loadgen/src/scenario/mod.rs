//! What can be measured. To add a scenario, add a file of the shape of [`fanout`] and a row here.

mod churn;
mod connect;
mod fanin;
mod fanout;
mod find_max;
mod pairs;
mod reconnect_storm;
mod retained;
mod sessions;
mod shared;
mod slow_consumer;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;

use crate::cli::{LoadOptions, RunOptions, TimeOptions};
use crate::plan::Plan;

/// Every scenario, in the order of `--help`.
pub(crate) const SCENARIOS: &[Scenario] = &[
    fanout::SCENARIO,
    fanin::SCENARIO,
    pairs::SCENARIO,
    connect::SCENARIO,
    sessions::SCENARIO,
    retained::SCENARIO,
    shared::SCENARIO,
    churn::SCENARIO,
    reconnect_storm::SCENARIO,
    slow_consumer::SCENARIO,
    find_max::SCENARIO,
];

/// A way of loading a broker: its options, and the plan that they amount to.
pub(crate) struct Scenario {
    /// The subcommand.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) arguments: fn(Command) -> Command,
    pub(crate) plan: fn(&ArgMatches) -> Result<Plan, clap::Error>,
}

/// The options of a scenario that publishes at a steady pace: its own, and the shared ones.
#[derive(Args, Serialize)]
struct Flow<O: Args> {
    #[command(flatten)]
    #[serde(flatten)]
    own: O,
    #[command(flatten)]
    #[serde(flatten)]
    load: LoadOptions,
    #[command(flatten)]
    #[serde(flatten)]
    times: TimeOptions,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunOptions,
}

impl<O: Args + Serialize> Flow<O> {
    /// The scenario's own options, and a plan without clients that has all the others.
    fn parse(name: &'static str, matches: &ArgMatches) -> Result<(O, Plan), clap::Error> {
        let mut options = Self::from_arg_matches(matches)?;
        options.load = options.load.completed();
        let settings = serde_json::to_value(&options).expect("options are plain data");
        let plan = Plan { scenario: name, settings, ..options.run.plan() };
        Ok((options.own, options.times.times(options.load.load(plan))))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli;

    /// What a command line amounts to.
    pub(crate) fn plan_of(words: &str) -> Plan {
        cli::tests::parse_words(words).unwrap_or_else(|error| panic!("{error}")).plan
    }

    #[test]
    fn every_scenario_runs_with_its_defaults() {
        for scenario in SCENARIOS.iter().filter(|scenario| scenario.name != "find-max") {
            let plan = plan_of(scenario.name);
            assert_eq!(plan.scenario, scenario.name);
            assert!(!plan.cast.is_empty(), "{}", scenario.name);
        }
    }
}
