//! How fast a broker takes connections, and whether it keeps them.

use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches};
use serde::Serialize;

use super::flow::Scenario;
use crate::plan::step::{Duty, SessionUse, Step, Visit};
use crate::plan::{Extras, Plan, some};
use crate::scenario::options::{RunOptions, VisitOptions};
use crate::scenario::values::seconds;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "connect",
    about: "Connections per second; then all of them stay idle",
    arguments: Options::augment_args,
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Clients that connect and stay
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    connections: u32,
    /// Each subscribes to a topic of its own
    #[arg(long)]
    subscribe: bool,
    /// Seconds that all of them stay connected and idle
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    hold: f64,
    #[command(flatten)]
    #[serde(flatten)]
    visits: VisitOptions,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunOptions,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let options = Options::from_arg_matches(matches)?;
    let arrive = Visit {
        name: "connect",
        count: options.connections,
        session: SessionUse::Clean,
        subscribes: options.subscribe,
        duty: Duty::Idle,
        pace: options.visits.pace(),
    };
    let hold = Step::Idle { name: "hold", time: Duration::from_secs_f64(options.hold) };
    Ok(Plan {
        scenario: SCENARIO.name,
        cast: some(options.connections, "connection"),
        settings: serde_json::to_value(&options).expect("options are plain data"),
        extras: Some(Extras {
            name: "connection",
            count: options.connections,
            filters: |plan, extra| vec![format!("{}/m/{extra}", plan.topic_root())],
            receive_buffer_bytes: None,
        }),
        steps: vec![Step::Visit(arrive), hold],
        ..options.run.plan()
    })
}

#[cfg(test)]
mod tests {
    use crate::plan::Client;
    use crate::scenario::tests::plan_of;

    #[test]
    fn nobody_publishes_and_all_are_connected_at_once() {
        let plan = plan_of("connect --connections 70 --at-once 7 --subscribe");
        assert_eq!((plan.flow_client_count(), plan.connection_count()), (0, 70));
        assert_ne!(plan.filters_of(Client::Extra(1)), plan.filters_of(Client::Extra(2)));
    }
}
