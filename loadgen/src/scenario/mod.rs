//! What can be measured. To add a scenario, add a file of the shape of [`fanout`] and a row
//! to [`loads`].

mod churn;
mod connect;
mod fanin;
mod fanout;
mod find_max;
mod flow;
mod loads;
mod options;
mod pairs;
mod reconnect_storm;
mod retained;
mod sessions;
mod shared;
mod slow_consumer;
pub(crate) mod values;

use self::flow::Scenario;
use self::loads::LOADS;

/// Lists every scenario, in the order of `--help`.
pub(crate) fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    LOADS.iter().chain([&find_max::SCENARIO])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::Plan;
    use clap::Command;

    /// What a command line amounts to.
    pub(crate) fn plan_of(words: &str) -> Plan {
        let words: Vec<&str> = words.split_whitespace().collect();
        let scenario = scenarios().find(|scenario| scenario.name == words[0]);
        let scenario = scenario.expect("the first word names a scenario");
        let matches = (scenario.arguments)(Command::new(scenario.name)).get_matches_from(words);
        (scenario.plan)(&matches).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_scenario_runs_with_its_defaults() {
        for scenario in LOADS {
            let plan = plan_of(scenario.name);
            assert_eq!(plan.scenario, scenario.name);
            assert!(!plan.cast.is_empty(), "{}", scenario.name);
        }
    }
}
