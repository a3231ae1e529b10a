//! Subscriptions that change all the time, beside messages that are measured.

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::flow::{Flow, Scenario};
use crate::plan::step::{Churn, Duty, Step, Visit};
use crate::plan::{Extras, Plan, some};
use crate::scenario::values::{rate, share};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "churn",
    about: "Clients subscribe and unsubscribe all the time while messages flow",
    arguments: Flow::<Options>::augment_args,
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Clients that change their subscriptions
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    churners: u32,
    /// SUBSCRIBE and UNSUBSCRIBE packets per second of all of them together
    #[arg(long, value_name = "R", default_value = "1000", value_parser = rate)]
    churn_rate: f64,
    /// Filters that each of them holds; each new one takes the place of the oldest
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    filters: u32,
    /// Part of the filters that have a wildcard, + and # in turn
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = share)]
    wildcards: f64,
    /// Clients that publish
    #[arg(long, value_name = "P", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    publishers: u32,
    /// Clients that subscribe to all topics of the publishers, and stay so
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let (options, plan) = Flow::<Options>::parse(SCENARIO.name, matches)?;
    let Options { churners, publishers, subscribers, .. } = options;
    let arrival = Visit::arrival(churners, false, Duty::Churn);
    Ok(Plan {
        cast: format!(
            "{} -> {} beside {}",
            some(publishers, "publisher"),
            some(subscribers, "subscriber"),
            some(churners, "churner")
        ),
        publisher_count: publishers,
        subscriber_count: subscribers,
        interest: |plan, _| 0..plan.topic_count(),
        churn: Some(Churn {
            rate_per_s: options.churn_rate,
            held_count: options.filters,
            wildcard_share: options.wildcards,
        }),
        extras: Some(Extras {
            name: "churner",
            count: churners,
            filters: |_, _| Vec::new(),
            receive_buffer_bytes: None,
        }),
        steps: vec![Step::Visit(arrival), Step::Assemble, Step::Flow],
        ..plan
    })
}

#[cfg(test)]
mod tests {
    use crate::scenario::tests::plan_of;

    #[test]
    fn churners_are_no_subscribers_of_the_flow() {
        let plan = plan_of("churn --churners 7 --subscribers 3");
        assert_eq!(plan.receivers_everywhere().0, [3]);
        assert_eq!((plan.flow_client_count(), plan.connection_count()), (4, 11));
    }
}
