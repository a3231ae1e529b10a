//! Many persistent sessions, few of them connected at any time.

use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches};
use serde::Serialize;

use super::flow::Scenario;
use crate::plan::step::{Duty, SessionUse, Step, Visit};
use crate::plan::{Extras, Plan, by_name, some};
use crate::scenario::options::{LoadOptions, RunOptions, VisitOptions};
use crate::scenario::values::{refuse, seconds, share};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "sessions",
    about: "Persistent sessions: create them, publish to the offline ones, resume some",
    // At QoS 0 a broker keeps nothing for sessions that are offline.
    arguments: |command| {
        Options::augment_args(command).mut_arg("qos", |qos| qos.default_value("1"))
    },
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Persistent sessions; at no time are more clients connected than --at-once allows
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    sessions: u32,
    /// Topics that each session subscribes to; nobody else does
    #[arg(long, value_name = "T", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    subscriptions: u32,
    /// Messages published on each topic while its session is offline
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    messages: u64,
    /// Part of the sessions that is resumed, evenly spread, and gets what was published
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = share)]
    resume: f64,
    /// Seconds to wait when all sessions are there and offline
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds)]
    hold: f64,
    /// Leave the sessions behind instead of ending them
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    #[serde(flatten)]
    visits: VisitOptions,
    #[command(flatten)]
    #[serde(flatten)]
    load: LoadOptions,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunOptions,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let mut options = Options::from_arg_matches(matches)?;
    options.load = options.load.completed();
    let plan = options.load.load(options.run.plan());
    if !plan.awaits_acknowledgements() {
        return Err(refuse(
            "offline sessions get nothing to wait for: --window needs --qos 1 or 2",
        ));
    }
    let topics = u64::from(options.sessions) * u64::from(options.subscriptions);
    let plan = Plan {
        scenario: SCENARIO.name,
        cast: some(options.sessions, "persistent session"),
        settings: serde_json::to_value(&options).expect("options are plain data"),
        publisher_count: 1,
        topics_per_publisher: u32::try_from(topics).unwrap_or(u32::MAX),
        interest: |plan, session| {
            let sessions = plan.extras.map_or(1, |extras| extras.count);
            let per_session = plan.topics_per_publisher / sessions;
            session * per_session..(session + 1) * per_session
        },
        live: false,
        extras: Some(Extras {
            name: "session",
            count: options.sessions,
            filters: by_name,
            receive_buffer_bytes: None,
        }),
        steps: steps(&options),
        ..plan
    };
    Ok(plan.with_messages(topics * options.messages))
}

fn steps(options: &Options) -> Vec<Step> {
    let resumed = (f64::from(options.sessions) * options.resume).round() as u32;
    let visit = |name, count, session, subscribes, duty| {
        Step::Visit(Visit { name, count, session, subscribes, duty, pace: options.visits.pace() })
    };
    let all = options.sessions;
    let mut steps = vec![visit("create", all, SessionUse::Create, true, Duty::Leave)];
    if options.hold > 0.0 {
        steps.push(Step::Idle { name: "hold", time: Duration::from_secs_f64(options.hold) });
    }
    if options.messages > 0 {
        steps.extend([Step::Assemble, Step::Flow]);
    }
    if resumed > 0 {
        steps.push(visit("resume", resumed, SessionUse::Resume, false, Duty::Receive));
    }
    if !options.keep {
        steps.push(visit("end", all, SessionUse::Clean, false, Duty::Leave));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Client;
    use crate::scenario::tests::plan_of;

    #[test]
    fn each_session_has_topics_of_its_own_and_a_share_is_resumed() {
        let plan = plan_of("sessions --sessions 40 --subscriptions 3 --messages 2 --resume 0.25");
        assert_eq!(plan.filters_of(Client::Extra(39)).len(), 3);
        assert_eq!((plan.interest)(&plan, 39), 117..120);
        assert_eq!(plan.planned_on(119), Some(2));
        let visits: Vec<_> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Visit(visit) => Some((visit.name, visit.count)),
                _ => None,
            })
            .collect();
        assert_eq!(visits, [("create", 40), ("resume", 10), ("end", 40)]);
    }

    #[test]
    fn a_million_sessions_need_few_connections() {
        let plan = plan_of("sessions --sessions 1000000 --at-once 50");
        assert_eq!(plan.connection_count(), 51);
    }
}
