//! Some subscribers stop reading for a while; what that does to the others, and what they miss.

use std::time::Duration;

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::flow::{Flow, Scenario};
use crate::plan::step::{Duty, Incident, IncidentKind, Step, Visit};
use crate::plan::{Extras, Plan, by_name, some};
use crate::scenario::values::{refuse, seconds, share};

/// What the system takes in for a slow consumer: with its default of megabytes a broker would
/// hardly notice.
const RECEIVE_BUFFER_BYTES: usize = 4096;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "slow-consumer",
    about: "Some subscribers stop reading for a while; the others are measured",
    arguments: Flow::<Options>::augment_args,
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Clients that publish
    #[arg(long, value_name = "P", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    publishers: u32,
    /// Clients that subscribe to all topics
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    subscribers: u32,
    /// Part of the subscribers that stops reading
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = share)]
    slow: f64,
    /// Seconds into the measured part at which they stop; by default a third of it
    #[arg(long, value_name = "S", value_parser = seconds)]
    stall_at: Option<f64>,
    /// Seconds that they do not read; by default a third of the measured part
    #[arg(long, value_name = "S", value_parser = seconds)]
    stall: Option<f64>,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let (options, plan) = Flow::<Options>::parse(SCENARIO.name, matches)?;
    let slow = (f64::from(options.subscribers) * options.slow).ceil() as u32;
    if slow == 0 || slow == options.subscribers {
        return Err(refuse("--slow must leave subscribers of both kinds"));
    }
    let third = plan.duration / 3;
    let at = options.stall_at.map_or(third, Duration::from_secs_f64);
    let time = options.stall.map_or(third, Duration::from_secs_f64);
    if at + time > plan.duration {
        return Err(refuse("--stall-at and --stall lead behind the end of --duration"));
    }
    let arrival = Visit::arrival(slow, true, Duty::Bystander);
    Ok(Plan {
        cast: format!(
            "{} -> {} beside {}",
            some(options.publishers, "publisher"),
            some(options.subscribers - slow, "subscriber"),
            some(slow, "slow consumer")
        ),
        publisher_count: options.publishers,
        subscriber_count: options.subscribers - slow,
        interest: |plan, _| 0..plan.topic_count(),
        incident: Some(Incident { at, kind: IncidentKind::Stall { time } }),
        extras: Some(Extras {
            name: "slow subscriber",
            count: slow,
            filters: by_name,
            receive_buffer_bytes: Some(RECEIVE_BUFFER_BYTES),
        }),
        steps: vec![Step::Visit(arrival), Step::Assemble, Step::Flow],
        ..plan
    })
}

#[cfg(test)]
mod tests {
    use crate::scenario::tests::plan_of;

    #[test]
    fn slow_subscribers_are_not_among_the_others() {
        let plan = plan_of("slow-consumer --subscribers 30 --slow 0.1");
        assert_eq!((plan.subscriber_count, plan.connection_count()), (27, 31));
        assert_eq!(plan.receivers_everywhere().0, [27]);
    }
}
