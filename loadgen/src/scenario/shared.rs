//! Shared subscriptions: every message goes to one member of each group.

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::flow::{Flow, Scenario};
use crate::plan::{Plan, some};
use crate::scenario::values::refuse;

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "shared",
    about: "Groups with a shared subscription: exactly one member gets each message",
    arguments: Flow::<Options>::augment_args,
    plan,
};

#[derive(Args, Serialize)]
struct Options {
    /// Clients that publish
    #[arg(long, value_name = "P", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    publishers: u32,
    /// Groups, each of which gets every message
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    groups: u32,
    /// Members of each group; all of a group are served by one executor of --cores
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(2..=100_000))]
    members: u32,
    /// Topics of each publisher, which uses them in turn
    #[arg(long, value_name = "T", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    topics: u32,
}

fn plan(matches: &ArgMatches) -> Result<Plan, clap::Error> {
    let (options, plan) = Flow::<Options>::parse(SCENARIO.name, matches)?;
    let Options { publishers, groups, members, topics } = options;
    let too_many = || refuse("more than 10,000,000 subscribers: use fewer groups or members");
    let subscribers = groups.checked_mul(members).filter(|count| *count <= 10_000_000);
    Ok(Plan {
        cast: format!(
            "{} -> {} of {}",
            some(publishers, "publisher"),
            some(groups, "group"),
            some(members, "member")
        ),
        publisher_count: publishers,
        topics_per_publisher: topics,
        subscriber_count: subscribers.ok_or_else(too_many)?,
        group_size: members,
        interest: |plan, _| 0..plan.topic_count(),
        filters: |plan, subscriber| {
            let group = subscriber / plan.group_size;
            vec![format!("$share/{}{group}/{}/#", plan.client_prefix, plan.topic_root())]
        },
        ..plan
    })
}

#[cfg(test)]
mod tests {
    use crate::plan::Client;
    use crate::scenario::tests::plan_of;

    #[test]
    fn members_of_a_group_have_one_filter_in_common() {
        let plan = plan_of("shared --groups 2 --members 3");
        let filters: Vec<_> =
            (0..6).map(|number| plan.filters_of(Client::Subscriber(number))).collect();
        assert!(filters[0] == filters[2] && filters[3] == filters[5]);
        assert_ne!(filters[2], filters[3]);
        assert_eq!(plan.receivers_everywhere().0, [2; 10]);
    }
}
