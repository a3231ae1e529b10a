//! The highest rate at which another scenario meets a latency objective.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;

use super::flow::Scenario;
use super::loads::LOADS;
use crate::plan::Plan;
use crate::plan::objective::{Objective, Quantile, Search};
use crate::scenario::values::{rate, refuse, share};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "find-max",
    about: "The highest rate at which another scenario meets a latency objective",
    arguments,
    plan,
};

#[derive(Args, Serialize)]
struct SearchOptions {
    /// Milliseconds that the latency may take, from the intended send time; and nothing may be lost
    #[arg(long, value_name = "MS", default_value = "5", value_parser = milliseconds)]
    objective: f64,
    /// Which of the latencies
    #[arg(long, value_name = "QUANTILE", value_enum, default_value_t = Quantile::P99)]
    quantile: Quantile,
    /// Publishes per second to begin with; it is doubled or halved first
    #[arg(long, value_name = "R", default_value = "100", value_parser = rate)]
    from: f64,
    /// Go no higher than this
    #[arg(long, value_name = "R", default_value = "10000000", value_parser = rate)]
    to: f64,
    /// How exactly the rate is to be known, as a share of it
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = share)]
    precision: f64,
    /// Runs at most
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    probes: u32,
}

/// Lists all scenarios that have a rate and a time, with the options of the search.
fn arguments(command: Command) -> Command {
    let commands = LOADS.iter().filter_map(|scenario| {
        let command = (scenario.arguments)(Command::new(scenario.name));
        let has = |name: &str| command.get_arguments().any(|argument| argument.get_id() == name);
        let searchable = has("rate") && has("duration");
        searchable.then(|| SearchOptions::augment_args(command).about(scenario.about))
    });
    command.subcommand_required(true).arg_required_else_help(true).subcommands(commands)
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    let inner = LOADS.iter().find(|scenario| scenario.name == name);
    let inner = inner.expect("clap accepts only the subcommands that come from this table");
    for fixed in ["rate", "window", "repeats"] {
        if matches.value_source(fixed) == Some(ValueSource::CommandLine) {
            return Err(refuse(&format!(
                "find-max chooses the rate itself: it takes no --{fixed}"
            )));
        }
    }
    let options = SearchOptions::from_arg_matches(matches)?;
    let plan = (inner.plan)(matches)?;
    let mut settings = plan.settings;
    settings["find_max"] = serde_json::to_value(&options).expect("options are plain data");
    let objective =
        Objective { quantile: options.quantile, limit_ns: (options.objective * 1e6) as u64 };
    let search = Search {
        objective,
        from_per_s: options.from,
        to_per_s: options.to,
        precision: options.precision.max(0.001),
        probe_count_max: options.probes,
    };
    Ok(Plan {
        scenario: SCENARIO.name,
        cast: format!("{name}, {}", plan.cast),
        settings,
        search: Some(search),
        ..plan
    })
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let ms: Option<f64> = text.parse().ok();
    ms.filter(|ms| (0.001..=3_600_000.0).contains(ms))
        .ok_or_else(|| "expected milliseconds, 0.001 to 3600000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::plan_of;

    #[test]
    fn the_plan_is_that_of_the_other_scenario() {
        let plan = plan_of("find-max pairs --pairs 3 --objective 2.5 --quantile p99.9");
        assert_eq!((plan.publisher_count, plan.scenario), (3, "find-max"));
        let search = plan.search.expect("it searches");
        let objective = Objective { quantile: Quantile::P99_9, limit_ns: 2_500_000 };
        assert_eq!(search.objective, objective);
        assert_eq!(plan.settings["find_max"]["from"], 100.0);
    }

    #[test]
    fn only_scenarios_with_a_rate_can_be_searched() {
        let command = arguments(Command::new("find-max"));
        let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert!(names.contains(&"fanout") && names.contains(&"shared"), "{names:?}");
        assert!(!names.contains(&"connect") && !names.contains(&"sessions"), "{names:?}");
    }
}
