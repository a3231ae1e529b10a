//! What can be measured. To add a scenario, add a file of the shape of [`fanout`] and a row here.

mod churn;
mod connect;
mod fanin;
mod fanout;
mod find_max;
mod flow;
mod options;
mod pairs;
mod reconnect_storm;
mod retained;
mod sessions;
mod shared;
mod slow_consumer;
mod values;

use crate::scenario::flow::Scenario;

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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli;
    use crate::plan::Plan;

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
