//! The shape of a scenario, and the options of those that publish at a steady pace.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;

use crate::plan::Plan;
use crate::scenario::options::{LoadOptions, RunOptions, TimeOptions};

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
pub(super) struct Flow<O: Args> {
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
    /// Returns the scenario's own options, and a plan without clients that has all the others.
    pub(super) fn parse(
        name: &'static str,
        matches: &ArgMatches,
    ) -> Result<(O, Plan), clap::Error> {
        let mut options = Self::from_arg_matches(matches)?;
        options.load = options.load.completed();
        let settings = serde_json::to_value(&options).expect("options are plain data");
        let plan = Plan { scenario: name, settings, ..options.run.plan() };
        Ok((options.own, options.times.times(options.load.load(plan))))
    }
}
