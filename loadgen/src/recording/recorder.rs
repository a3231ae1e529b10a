//! Histograms and rates of one executor over one interval, and their sum over the run.

use hdrhistogram::Histogram;

use crate::pace::schedule::Timeline;
use crate::recording::brief::Brief;

/// One hour: anything longer is recorded as this.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// When a message should have left, and when it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Times {
    pub(crate) intended_ns: i64,
    pub(crate) sent_ns: i64,
}

/// What is measured between two collections. Latencies, in nanoseconds, are those of messages
/// intended in the steady part of the run, whenever they arrive; rates count what happens in it.
#[derive(Clone)]
pub(crate) struct Recorder {
    /// From the intended time to the delivery.
    pub(crate) latency: Histogram<u64>,
    /// From the actual send to the delivery.
    pub(crate) raw_latency: Histogram<u64>,
    /// The same two of messages intended before the steady part: only the course shows them.
    warm_up_latency: Histogram<u64>,
    warm_up_raw_latency: Histogram<u64>,
    /// From the intended time to PUBACK or PUBCOMP.
    pub(crate) acknowledge_latency: Histogram<u64>,
    /// From the intended time to the actual send, as far as the broker had no part in it.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) steady_published: u64,
    pub(crate) steady_delivered: u64,
    /// Messages sent late because the broker did not take them: its receive window or its
    /// acknowledgements were full up.
    pub(crate) held_back: u64,
    /// In the steady part, of any subscriber.
    pub(crate) longest_gap_ns: u64,
    /// When this was handed over, 0 before; set by the executor.
    pub(crate) until_ns: i64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
                .expect("the bounds and digits are constants that it takes")
        };
        Self {
            latency: histogram(),
            raw_latency: histogram(),
            warm_up_latency: histogram(),
            warm_up_raw_latency: histogram(),
            acknowledge_latency: histogram(),
            lateness: histogram(),
            published: 0,
            delivered: 0,
            steady_published: 0,
            steady_delivered: 0,
            held_back: 0,
            longest_gap_ns: 0,
            until_ns: 0,
        }
    }

    #[inline]
    pub(crate) fn record_delivery(&mut self, timeline: &Timeline, times: Times, now_ns: i64) {
        self.delivered += 1;
        self.steady_delivered += u64::from(timeline.is_steady(now_ns));
        let (latency, raw_latency) = if timeline.is_steady(times.intended_ns) {
            (&mut self.latency, &mut self.raw_latency)
        } else {
            (&mut self.warm_up_latency, &mut self.warm_up_raw_latency)
        };
        latency.saturating_record(elapsed(times.intended_ns, now_ns));
        raw_latency.saturating_record(elapsed(times.sent_ns, now_ns));
    }

    pub(crate) fn record_publish(&mut self, timeline: &Timeline, times: Times, held_back: bool) {
        self.published += 1;
        self.steady_published += u64::from(timeline.is_steady(times.sent_ns));
        if !timeline.is_steady(times.intended_ns) {
            return;
        }
        if held_back {
            self.held_back += 1;
        } else {
            self.lateness.saturating_record(elapsed(times.intended_ns, times.sent_ns));
        }
    }

    pub(crate) fn record_acknowledged(
        &mut self,
        timeline: &Timeline,
        intended_ns: i64,
        now_ns: i64,
    ) {
        if timeline.is_steady(intended_ns) {
            self.acknowledge_latency.saturating_record(elapsed(intended_ns, now_ns));
        }
    }

    /// Adds what `other` has recorded.
    pub(crate) fn absorb(&mut self, other: &Self) {
        add(&mut self.latency, &other.latency);
        add(&mut self.raw_latency, &other.raw_latency);
        add(&mut self.warm_up_latency, &other.warm_up_latency);
        add(&mut self.warm_up_raw_latency, &other.warm_up_raw_latency);
        add(&mut self.acknowledge_latency, &other.acknowledge_latency);
        add(&mut self.lateness, &other.lateness);
        self.published += other.published;
        self.delivered += other.delivered;
        self.steady_published += other.steady_published;
        self.steady_delivered += other.steady_delivered;
        self.held_back += other.held_back;
        self.longest_gap_ns = self.longest_gap_ns.max(other.longest_gap_ns);
        self.until_ns = self.until_ns.max(other.until_ns);
    }

    /// Summarises latency and raw latency of all deliveries, warm-up or not.
    pub(crate) fn latencies(&self) -> (Option<Brief>, Option<Brief>) {
        (
            Brief::of([&self.latency, &self.warm_up_latency]),
            Brief::of([&self.raw_latency, &self.warm_up_raw_latency]),
        )
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        let histograms = [
            &mut self.latency,
            &mut self.raw_latency,
            &mut self.warm_up_latency,
            &mut self.warm_up_raw_latency,
            &mut self.acknowledge_latency,
            &mut self.lateness,
        ];
        histograms.into_iter().filter(|histogram| !histogram.is_empty()).for_each(Histogram::reset);
        let counts = [
            &mut self.published,
            &mut self.delivered,
            &mut self.steady_published,
            &mut self.steady_delivered,
            &mut self.held_back,
            &mut self.longest_gap_ns,
        ];
        counts.into_iter().for_each(|count| *count = 0);
        self.until_ns = 0;
    }
}

fn add(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    if !part.is_empty() {
        sum.add(part).expect("all histograms here have the same bounds");
    }
}

/// Clocks are monotonic, but two executors may read them in the other order.
#[inline]
fn elapsed(from_ns: i64, to_ns: i64) -> u64 {
    to_ns.saturating_sub(from_ns).max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMELINE: Timeline = Timeline { start_ns: 0, steady_ns: 1_000, end_ns: 2_000 };

    fn times(intended_ns: i64, sent_ns: i64) -> Times {
        Times { intended_ns, sent_ns }
    }

    #[test]
    fn latency_counts_from_the_intended_time_and_raw_from_the_send() {
        let mut recorder = Recorder::new();
        recorder.record_delivery(&TIMELINE, times(1_100, 1_400), 1_900);
        assert_eq!(recorder.latency.max(), 800);
        assert_eq!(recorder.raw_latency.max(), 500);
    }

    #[test]
    fn warm_up_is_not_measured_but_counted() {
        let mut recorder = Recorder::new();
        recorder.record_delivery(&TIMELINE, times(900, 900), 1_100);
        recorder.record_publish(&TIMELINE, times(900, 900), false);
        assert_eq!((recorder.latency.len(), recorder.lateness.len()), (0, 0));
        assert_eq!((recorder.delivered, recorder.steady_delivered), (1, 1));
        assert_eq!((recorder.published, recorder.steady_published), (1, 0));
    }

    #[test]
    fn what_arrives_after_the_end_has_a_latency_but_no_rate() {
        let mut recorder = Recorder::new();
        recorder.record_delivery(&TIMELINE, times(1_900, 1_900), 5_000);
        assert_eq!(recorder.latency.max(), 3_100 | 1, "three digits: 3,100 and 3,101 are one");
        assert_eq!((recorder.delivered, recorder.steady_delivered), (1, 0));
    }

    #[test]
    fn what_the_broker_held_back_is_no_lateness_of_ours() {
        let mut recorder = Recorder::new();
        recorder.record_publish(&TIMELINE, times(1_100, 1_700), true);
        recorder.record_publish(&TIMELINE, times(1_200, 1_201), false);
        assert_eq!((recorder.held_back, recorder.lateness.max()), (1, 1));
    }

    #[test]
    fn sums_are_those_of_the_parts() {
        let (mut sum, mut part) = (Recorder::new(), Recorder::new());
        part.record_delivery(&TIMELINE, times(1_000, 1_000), 1_010);
        sum.absorb(&part);
        sum.absorb(&part);
        assert_eq!((sum.latency.len(), sum.delivered), (2, 2));
    }

    #[test]
    fn clocks_that_disagree_cannot_underflow() {
        assert_eq!(elapsed(10, 5), 0);
        assert_eq!(elapsed(i64::MIN, 5), i64::MAX as u64);
    }
}
