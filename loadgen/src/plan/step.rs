//! The steps of a run, and what clients beside publishers and subscribers do in them.
//!
//! All executors finish a step before any begins the next. What is published and delivered
//! follows from the plan; what the *extra clients* do follows from the *visits* here. A visit is
//! the way of one of them through connecting, perhaps subscribing, and its duty. Visits run side
//! by side, but no more at once than allowed, so that a million clients need no more memory and
//! descriptors than those that are there at the same time.

use std::time::Duration;

/// Handshakes in flight, over all executors, where that is not what is measured: many brokers
/// listen with a backlog of 100, and a connection attempt past it costs a second.
pub(crate) const HANDSHAKE_COUNT_MAX: u32 = 100;

#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// Publishers and subscribers connect.
    Assemble,
    /// Messages are published as the load of the plan says; what is on its way is waited for.
    Flow,
    /// Extra clients come.
    Visit(Visit),
    /// All connections stay as they are.
    Idle { name: &'static str, time: Duration },
}

impl Step {
    /// Names the step in the report.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Assemble => "assemble",
            Self::Flow => "flow",
            Self::Visit(visit) => visit.name,
            Self::Idle { name, .. } => name,
        }
    }

    /// Whether it leaves sessions behind.
    pub(crate) fn creates_sessions(&self) -> bool {
        matches!(self, Self::Visit(visit) if visit.session == SessionUse::Create)
    }

    /// Whether it adds connections that stay.
    pub(crate) fn connects(&self) -> bool {
        match self {
            Self::Assemble => true,
            Self::Visit(visit) => visit.duty.stays(),
            Self::Flow | Self::Idle { .. } => false,
        }
    }
}

/// What extra clients do in one step.
#[derive(Clone, Copy)]
pub(crate) struct Visit {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    /// How many of them take part, evenly spread over all.
    pub(crate) count: u32,
    pub(crate) session: SessionUse,
    /// Whether a client subscribes to its filters when it connects.
    pub(crate) subscribes: bool,
    pub(crate) duty: Duty,
    pub(crate) pace: VisitPace,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SessionUse {
    /// The session ends with the connection; none of that name is wanted.
    Clean,
    /// The session is to last. There must be none of that name.
    Create,
    /// The session must be there.
    Resume,
}

/// How fast extra clients come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct VisitPace {
    /// `None`: the next one comes as soon as one of those that are under way is done.
    pub(crate) rate_per_s: Option<f64>,
    /// How many may be under way at once, over all executors.
    pub(crate) at_once: u32,
}

/// What an extra client does once it is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Duty {
    /// Says goodbye at once.
    Leave,
    /// Stays, and ignores what it gets.
    Idle,
    /// Leaves when it has got all messages published on its topics.
    Receive,
    /// Asks for everything that is retained, and leaves when it has got it.
    Replay,
    /// Ends the retained message of every topic, and leaves.
    Clear,
    /// Stays, and subscribes and unsubscribes as [`Churn`] says.
    Churn,
    /// Stays and takes deliveries, which are counted apart from those of the subscribers.
    Bystander,
}

impl Duty {
    /// Whether the client stays connected when its visit is over.
    pub(crate) fn stays(self) -> bool {
        matches!(self, Self::Idle | Self::Churn | Self::Bystander)
    }
}

/// Extra clients change their subscriptions all the time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Churn {
    /// SUBSCRIBE and UNSUBSCRIBE packets per second, of all of them together.
    pub(crate) rate_per_s: f64,
    /// Filters that each of them holds; from then on each new one takes the place of the oldest.
    pub(crate) held_count: u32,
    /// Which part of the filters has wildcards.
    pub(crate) wildcard_share: f64,
}

/// Something that happens to all extra clients at once in the steady part of the flow.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Incident {
    /// After the beginning of the steady part.
    pub(crate) at: Duration,
    pub(crate) kind: IncidentKind,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum IncidentKind {
    /// All connections are cut, and all clients reconnect at once, with at most `at_once`
    /// handshakes under way. It is over when all are back.
    Storm { at_once: u32 },
    /// The clients do not read for this time.
    Stall { time: Duration },
}

impl Visit {
    /// Has all of `count` extra clients connect and stay.
    pub(crate) fn arrival(count: u32, subscribes: bool, duty: Duty) -> Self {
        let pace = VisitPace { rate_per_s: None, at_once: HANDSHAKE_COUNT_MAX };
        Self { name: "arrive", count, session: SessionUse::Clean, subscribes, duty, pace }
    }

    /// Returns the extra client, out of `count`, that comes as number `place`.
    pub(crate) fn extra(&self, place: u32, count: u32) -> u32 {
        (u64::from(place) * u64::from(count) / u64::from(self.count)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_take_part_are_spread_over_all() {
        let pace = VisitPace { rate_per_s: None, at_once: 1 };
        let visit = Visit {
            name: "test",
            count: 4,
            session: SessionUse::Clean,
            subscribes: false,
            duty: Duty::Leave,
            pace,
        };
        let extras = |count| (0..visit.count).map(|place| visit.extra(place, count)).collect();
        let (quarter, all): (Vec<u32>, Vec<u32>) = (extras(16), extras(4));
        assert_eq!(quarter, [0, 4, 8, 12]);
        assert_eq!(all, [0, 1, 2, 3]);
        assert_eq!(visit.extra(3, u32::MAX), (u64::from(u32::MAX) * 3 / 4) as u32);
    }
}
