//! Many clients lose their connections and all come back at once, while messages flow to others.

use std::time::Duration;

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::flow::{Flow, Scenario};
use crate::plan::step::{Duty, Incident, IncidentKind, Step, Visit};
use crate::plan::{Extras, Plan, some};
use crate::scenario::values::{refuse, seconds};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "reconnect-storm",
    about: "A crowd is cut off and comes back at once; what it does to everybody else",
    arguments: Flow::<Options>::augment_args,
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Clients that are cut off and come back
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    crowd: u32,
    /// Seconds into the measured part; by default a third of it
    #[arg(long, value_name = "S", value_parser = seconds)]
    storm_at: Option<f64>,
    /// How many of them may be on their way at once [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    at_once: Option<u32>,
    /// Clients that publish
    #[arg(long, value_name = "P", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    publishers: u32,
    /// Clients that subscribe to all topics of the publishers, and stay connected
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let (options, plan) = Flow::<Options>::parse(SCENARIO.name, matches)?;
    let Options { crowd, publishers, subscribers, .. } = options;
    let at = options.storm_at.map_or(plan.duration / 3, Duration::from_secs_f64);
    if at >= plan.duration {
        return Err(refuse("--storm-at lies behind the end of --duration"));
    }
    let at_once = options.at_once.unwrap_or(crowd);
    let arrival = Visit::arrival(crowd, true, Duty::Idle);
    Ok(Plan {
        cast: format!(
            "{} -> {} beside a crowd of {}",
            some(publishers, "publisher"),
            some(subscribers, "subscriber"),
            some(crowd, "client")
        ),
        publisher_count: publishers,
        subscriber_count: subscribers,
        interest: |plan, _| 0..plan.topic_count(),
        incident: Some(Incident { at, kind: IncidentKind::Storm { at_once } }),
        extras: Some(Extras {
            name: "client of the crowd",
            count: crowd,
            filters: |plan, extra| vec![format!("{}/crowd/{extra}", plan.topic_root())],
            receive_buffer_bytes: None,
        }),
        steps: vec![Step::Visit(arrival), Step::Assemble, Step::Flow],
        ..plan
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::plan_of;

    #[test]
    fn everybody_comes_back_at_once_a_third_into_the_run() {
        let plan = plan_of("reconnect-storm --crowd 50 --duration 9");
        let kind = IncidentKind::Storm { at_once: 50 };
        assert_eq!(plan.incident, Some(Incident { at: Duration::from_secs(3), kind }));
    }
}
