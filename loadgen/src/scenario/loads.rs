//! The table of scenarios that load a broker in a way of their own.

use super::flow::Scenario;
use super::{
    churn, connect, fanin, fanout, pairs, reconnect_storm, retained, sessions, shared,
    slow_consumer,
};

/// In the order of `--help`.
pub(super) const LOADS: &[Scenario] = &[
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
];
