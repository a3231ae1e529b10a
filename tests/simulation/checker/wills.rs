//! Which wills must have been published, and which must not.

use crate::history::{Connection, Fate, History, Moment};

use super::END;

/// Timers may fire so much late.
const TIMER_SLACK_MS: u64 = 100;

/// Finds out what the wire says about every will.
pub(super) fn decide(history: &mut History) {
    for number in 0..history.connections.len() {
        let Some(will) = history.connections[number].will else { continue };
        let fate = fate(history, number);
        if let Some((_, known)) = &mut history.messages[will].will {
            *known = fate;
        }
    }
}

fn fate(history: &History, number: usize) -> Fate {
    let connection = &history.connections[number];
    let will = connection.will.and_then(|will| history.messages[will].will.as_ref());
    let delay_s = will.map_or(0, |(will, _)| will.delay_s);
    let Some(ended) = connection.ended else { return Fate::Void };
    if connection.is_void {
        return Fate::Void;
    }
    if connection.accepted.is_none() || connection.was_told_to_void {
        return Fate::Unknown;
    }
    if delay_s == 0 {
        return Fate::Due { from: ended, until: END };
    }
    let due_ms = ended.ms + u64::from(delay_s) * 1000;
    let next = history.connections[number + 1..].iter().find(|c| c.client == connection.client);
    match next {
        Some(next) => fate_before(connection, next, ended, due_ms),
        None if history.ms > due_ms + TIMER_SLACK_MS => Fate::Due { from: ended, until: END },
        None => Fate::Unknown,
    }
}

/// The will of a connection that another one of its client followed.
fn fate_before(connection: &Connection, next: &Connection, ended: Moment, due_ms: u64) -> Fate {
    let due = Fate::Due { from: ended, until: END };
    match next.accepted {
        // The session has ended, and a will goes with it at the latest.
        Some(_) if next.session != connection.session => due,
        Some(accepted) if accepted.ms < due_ms => Fate::Void,
        Some(_) if next.opened.ms > due_ms + TIMER_SLACK_MS => due,
        _ => Fate::Unknown,
    }
}
