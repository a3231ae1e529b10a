//! The longest time for which a subscriber got nothing, in the steady part of the run.

use crate::pace::schedule::Timeline;

/// When a subscriber got something last.
#[derive(Default)]
pub(crate) struct LastDelivery {
    at_ns: Option<i64>,
}

impl LastDelivery {
    /// Returns the part of the gap before a delivery at `now_ns` that is in the steady part.
    pub(crate) fn gap_until(&mut self, timeline: &Timeline, now_ns: i64) -> u64 {
        let Some(before_ns) = self.at_ns.replace(now_ns) else { return 0 };
        let (from_ns, to_ns) = (before_ns.max(timeline.steady_ns), now_ns.min(timeline.end_ns));
        u64::try_from(to_ns - from_ns).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMELINE: Timeline = Timeline { start_ns: 0, steady_ns: 100, end_ns: 200 };

    #[test]
    fn a_gap_counts_as_far_as_it_is_in_the_steady_part() {
        let mut last = LastDelivery::default();
        let gaps = [10, 90, 130, 135, 190, 250, 300].map(|now| last.gap_until(&TIMELINE, now));
        assert_eq!(gaps, [0, 0, 30, 5, 55, 10, 0]);
    }
}
