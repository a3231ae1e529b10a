//! The course of a run: what happened in each interval, and what was used at its turning points.

use serde::Serialize;

use crate::pace::schedule::Timeline;
use crate::recording::brief::Brief;
use crate::recording::recorder::Recorder;
use crate::sample::machine::{self, MachineTimes};
use crate::sample::process::{Process, Sample};

/// A part of a run.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Connect,
    WarmUp,
    Steady,
    Drain,
}

impl Phase {
    pub(crate) fn at(time_ns: i64, timeline: Option<Timeline>) -> Self {
        match timeline {
            Some(timeline) if time_ns >= timeline.end_ns => Self::Drain,
            Some(timeline) if time_ns >= timeline.steady_ns => Self::Steady,
            Some(timeline) if time_ns >= timeline.start_ns => Self::WarmUp,
            _ => Self::Connect,
        }
    }
}

/// What happened in one interval. Seconds count from the first connection attempt.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Interval {
    /// The one that the middle of the interval lies in.
    pub(crate) phase: Phase,
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
    /// Connections at the end of the interval.
    pub(crate) connected: u64,
    pub(crate) published: u64,
    pub(crate) published_per_s: f64,
    pub(crate) delivered: u64,
    pub(crate) delivered_per_s: f64,
    /// Deliveries skipped so far: what is missing at the end is lost.
    pub(crate) missing: u64,
    /// Of what was delivered in the interval, whenever it was published; `None` for nothing.
    pub(crate) latency_ns: Option<Brief>,
    pub(crate) raw_latency_ns: Option<Brief>,
    /// Cores that this program used.
    pub(crate) generator_cores: f64,
    pub(crate) broker: Option<BrokerInterval>,
}

#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(crate) struct BrokerInterval {
    /// Cores that it used.
    pub(crate) cores: f64,
    /// At the end of the interval.
    #[serde(flatten)]
    pub(crate) sample: Sample,
}

/// What was used up to one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Mark {
    pub(crate) at_ns: i64,
    pub(crate) cpu_s: f64,
    pub(crate) broker: Option<Sample>,
    pub(crate) machine: Option<MachineTimes>,
}

impl Mark {
    pub(crate) fn take(at_ns: i64, broker: Option<&mut Process>) -> Self {
        let broker = broker.and_then(Process::sample);
        let machine = MachineTimes::read();
        Self { at_ns, cpu_s: machine::process_cpu_s(), broker, machine }
    }
}

/// Marks at the turning points of a run, as far as it came.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Marks {
    /// Before the first connection.
    pub(crate) begin: Option<Mark>,
    /// All clients are connected.
    pub(crate) connected: Option<Mark>,
    pub(crate) steady: Option<Mark>,
    /// The steady part is over.
    pub(crate) end: Option<Mark>,
    /// The last delivery has come, or is no longer waited for.
    pub(crate) drained: Option<Mark>,
}

impl Marks {
    /// Returns how much something grew in the steady part, and the seconds that this took.
    pub(crate) fn steady_part(&self, of: impl Fn(&Mark) -> f64) -> (f64, f64) {
        match (&self.steady, &self.end) {
            (Some(from), Some(to)) => (of(to) - of(from), (to.at_ns - from.at_ns) as f64 / 1e9),
            _ => (0.0, 0.0),
        }
    }

    /// Returns how much it grew in the whole run.
    pub(crate) fn whole(&self, of: impl Fn(&Mark) -> f64) -> f64 {
        match (&self.begin, &self.drained) {
            (Some(from), Some(to)) => of(to) - of(from),
            _ => 0.0,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mark> {
        [&self.begin, &self.connected, &self.steady, &self.end, &self.drained].into_iter().flatten()
    }
}

/// What the stations of the executors show.
#[derive(Clone, Copy, Default)]
pub(crate) struct Shown {
    pub(crate) connected: u64,
    pub(crate) missing: u64,
}

/// Intervals that follow each other without a gap.
pub(crate) struct Series {
    intervals: Vec<Interval>,
    /// Where the next interval begins.
    from_ns: i64,
    last: Mark,
}

impl Series {
    pub(crate) fn begin(mark: Mark) -> Self {
        Self { intervals: Vec::new(), from_ns: mark.at_ns, last: mark }
    }

    /// The interval ends when the executors handed over what they had recorded; if they had
    /// nothing to hand over, now.
    pub(crate) fn end_interval(
        &mut self,
        mark: Mark,
        timeline: Option<Timeline>,
        recorder: &Recorder,
        shown: Shown,
    ) -> &Interval {
        let handed_over = recorder.until_ns > self.from_ns;
        let to_ns = if handed_over { recorder.until_ns } else { mark.at_ns.max(self.from_ns) };
        let seconds = (to_ns - self.from_ns) as f64 / 1e9;
        let (latency, raw_latency) = recorder.latencies();
        self.intervals.push(Interval {
            phase: Phase::at(self.from_ns.midpoint(to_ns), timeline),
            from_s: self.from_ns as f64 / 1e9,
            to_s: to_ns as f64 / 1e9,
            connected: shown.connected,
            published: recorder.published,
            published_per_s: per(recorder.published as f64, seconds),
            delivered: recorder.delivered,
            delivered_per_s: per(recorder.delivered as f64, seconds),
            missing: shown.missing,
            latency_ns: latency,
            raw_latency_ns: raw_latency,
            generator_cores: self.cores(&mark, |mark| Some(mark.cpu_s)).unwrap_or_default(),
            broker: self.broker(&mark),
        });
        self.from_ns = to_ns;
        self.last = mark;
        self.intervals.last().expect("it has just been pushed")
    }

    fn broker(&self, mark: &Mark) -> Option<BrokerInterval> {
        let cores = self.cores(mark, |mark| mark.broker.map(|sample| sample.cpu_s))?;
        Some(BrokerInterval { cores, sample: mark.broker? })
    }

    /// CPU time is sampled at the marks, so it is divided by the time between them.
    fn cores(&self, mark: &Mark, cpu_s: impl Fn(&Mark) -> Option<f64>) -> Option<f64> {
        let seconds = (mark.at_ns - self.last.at_ns) as f64 / 1e9;
        Some(per(cpu_s(mark)? - cpu_s(&self.last)?, seconds))
    }

    pub(crate) fn last(&self) -> Option<&Interval> {
        self.intervals.last()
    }

    pub(crate) fn into_intervals(self) -> Vec<Interval> {
        self.intervals
    }
}

/// Divides by a time; the rate of no time at all is 0.
pub(crate) fn per(amount: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { amount / seconds } else { 0.0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::recording::recorder::Times;

    const SECOND: i64 = 1_000_000_000;
    const TIMELINE: Timeline =
        Timeline { start_ns: SECOND, steady_ns: 2 * SECOND, end_ns: 4 * SECOND };

    pub(crate) fn sample(cpu_s: f64, rss_bytes: u64) -> Sample {
        let (pss_bytes, descriptors) = (Some(rss_bytes / 2), Some(10));
        Sample { cpu_s, threads: 3, rss_bytes, pss_bytes, descriptors }
    }

    pub(crate) fn mark(at_s: f64, cpu_s: f64, broker: Option<Sample>) -> Mark {
        Mark { at_ns: (at_s * 1e9) as i64, cpu_s, broker, machine: None }
    }

    /// An interval in which nothing happened.
    pub(crate) fn interval(from_s: f64, to_s: f64, phase: Phase) -> Interval {
        let mut series = Series::begin(mark(from_s, 0.0, None));
        let empty = Recorder::new();
        series.end_interval(mark(to_s, 0.0, None), None, &empty, Shown::default());
        Interval { phase, ..series.into_intervals().remove(0) }
    }

    #[test]
    fn phases_follow_the_timeline() {
        let phase = |seconds: i64| Phase::at(seconds * SECOND, Some(TIMELINE));
        let phases = [0, 1, 2, 3, 4].map(phase);
        let (connect, warm_up, steady) = (Phase::Connect, Phase::WarmUp, Phase::Steady);
        assert_eq!(phases, [connect, warm_up, steady, steady, Phase::Drain]);
        assert_eq!(Phase::at(SECOND, None), Phase::Connect);
    }

    #[test]
    fn rates_are_those_of_the_time_that_the_interval_took() {
        let mut series = Series::begin(mark(0.0, 1.0, Some(sample(5.0, 100))));
        let mut recorder = Recorder::new();
        let times = Times { intended_ns: SECOND, sent_ns: SECOND + 1_000 };
        (0..30).for_each(|_| recorder.record_delivery(&TIMELINE, times, SECOND + 3_000));
        recorder.published = 15;
        recorder.until_ns = 3 * SECOND / 2;
        let shown = Shown { connected: 7, missing: 2 };
        let end = mark(2.0, 2.0, Some(sample(8.0, 200)));
        let row = series.end_interval(end, Some(TIMELINE), &recorder, shown);
        assert_eq!((row.from_s, row.to_s, row.phase), (0.0, 1.5, Phase::Connect));
        assert_eq!((row.delivered, row.delivered_per_s, row.published_per_s), (30, 20.0, 10.0));
        let max = |brief: Option<Brief>| brief.map(|brief| brief.max);
        assert_eq!((max(row.latency_ns), max(row.raw_latency_ns)), (Some(3_001), Some(2_000)));
        assert_eq!((row.connected, row.missing, row.generator_cores), (7, 2, 0.5));
        let broker = row.broker.expect("it was sampled twice");
        assert_eq!((broker.cores, broker.sample.rss_bytes), (1.5, 200));
    }

    #[test]
    fn an_interval_without_a_hand_over_ends_now_and_the_next_follows_it() {
        let mut series = Series::begin(mark(0.0, 0.0, None));
        let empty = Recorder::new();
        series.end_interval(mark(1.0, 0.0, None), None, &empty, Shown::default());
        let row = series.end_interval(mark(2.5, 0.0, None), None, &empty, Shown::default());
        assert_eq!((row.from_s, row.to_s, row.delivered_per_s), (1.0, 2.5, 0.0));
        assert_eq!(row.broker, None);
        assert_eq!(series.into_intervals().len(), 2);
    }

    #[test]
    fn a_broker_that_ends_leaves_a_gap() {
        let mut series = Series::begin(mark(0.0, 0.0, Some(sample(1.0, 1))));
        let recorder = Recorder::new();
        let gone = series.end_interval(mark(1.0, 0.0, None), None, &recorder, Shown::default());
        assert_eq!(gone.broker, None);
    }
}
