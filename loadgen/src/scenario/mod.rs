//! What can be measured. To add a scenario, add a file of the shape of [`fanout`] and a row here.

mod fanout;

use clap::{ArgMatches, Command};

use crate::plan::Plan;

/// Every scenario, in the order of `--help`.
pub(crate) const SCENARIOS: &[Scenario] = &[fanout::SCENARIO];

/// A way of loading a broker: its options, and the plan that they amount to.
pub(crate) struct Scenario {
    /// The subcommand.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) arguments: fn(Command) -> Command,
    pub(crate) plan: fn(&ArgMatches) -> Result<Plan, clap::Error>,
}
