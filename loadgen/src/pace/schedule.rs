//! Open loop: when each message is due. No clocks and no timers here.
//!
//! Messages of one publisher are numbered 0, 1, 2, ... (its *index*). The index alone decides when
//! a message is intended, whatever the broker does.

/// The shortest sleep between two looks at the schedule: what is due meanwhile leaves as one
/// batch, each message with its own intended time.
pub(crate) const TICK_NS: i64 = 100_000;

/// The three moments of a run, in nanoseconds since the base of the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timeline {
    /// The first message is intended now.
    pub(crate) start_ns: i64,
    /// Warm-up ends: from here on messages are measured.
    pub(crate) steady_ns: i64,
    /// No message is intended from here on.
    pub(crate) end_ns: i64,
}

impl Timeline {
    pub(crate) fn is_steady(&self, time_ns: i64) -> bool {
        (self.steady_ns..self.end_ns).contains(&time_ns)
    }

    /// Returns the length of the measured part in seconds.
    pub(crate) fn steady_s(&self) -> f64 {
        (self.end_ns - self.steady_ns) as f64 / 1e9
    }
}

/// Open loop: all publishers together send at one rate and take turns.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Schedule {
    start_ns: i64,
    end_ns: i64,
    /// Between two messages of the whole run.
    interval_ns: f64,
    publisher_count: u64,
}

impl Schedule {
    pub(crate) fn new(timeline: &Timeline, rate_per_s: f64, publisher_count: u32) -> Self {
        Self {
            start_ns: timeline.start_ns,
            end_ns: timeline.end_ns,
            interval_ns: 1e9 / rate_per_s,
            publisher_count: u64::from(publisher_count),
        }
    }

    /// Returns when message `index` of `publisher` is intended.
    pub(crate) fn intended_ns(&self, publisher: u32, index: u64) -> i64 {
        let place = index * self.publisher_count + u64::from(publisher);
        self.start_ns + (place as f64 * self.interval_ns) as i64
    }

    /// Returns the intended time of that message if it is due by `now_ns` and within the run.
    pub(crate) fn due(&self, publisher: u32, index: u64, now_ns: i64) -> Option<i64> {
        let intended_ns = self.intended_ns(publisher, index);
        (intended_ns <= now_ns && intended_ns < self.end_ns).then_some(intended_ns)
    }

    /// Counts the messages of `publisher` in the whole run.
    pub(crate) fn message_count(&self, publisher: u32) -> u64 {
        let per_publisher_ns = self.interval_ns * self.publisher_count as f64;
        let mut count = ((self.end_ns - self.start_ns) as f64 / per_publisher_ns) as u64 + 2;
        while count > 0 && self.intended_ns(publisher, count - 1) >= self.end_ns {
            count -= 1;
        }
        count
    }

    /// Returns the first index that is intended after `now_ns`, or one close below it.
    fn index_near(&self, now_ns: i64) -> u64 {
        let per_publisher_ns = self.interval_ns * self.publisher_count as f64;
        (((now_ns - self.start_ns) as f64 / per_publisher_ns) as u64).saturating_sub(1)
    }
}

/// Walks the schedule for the publishers of one executor and says which to wake, and when next.
pub(crate) struct Pacer {
    schedule: Schedule,
    /// Ascending publisher numbers.
    publishers: Vec<u32>,
    /// The next message to come due: this index of that publisher (a place in `publishers`).
    index: u64,
    at: usize,
}

impl Pacer {
    pub(crate) fn new(schedule: Schedule, publishers: Vec<u32>) -> Self {
        Self { schedule, publishers, index: 0, at: 0 }
    }

    /// Calls `wake` with the place of every publisher that has had a message come due since the
    /// last call, once each, and returns the time of the next call: `None` at the end of the run.
    pub(crate) fn tick(&mut self, now_ns: i64, mut wake: impl FnMut(usize)) -> Option<i64> {
        for _ in 0..self.publishers.len() {
            if self.next_ns()? > now_ns {
                break;
            }
            wake(self.at);
            self.step();
        }
        self.skip_to(now_ns);
        Some(self.next_ns()?.max(now_ns + TICK_NS))
    }

    fn next_ns(&self) -> Option<i64> {
        let publisher = *self.publishers.get(self.at)?;
        let next_ns = self.schedule.intended_ns(publisher, self.index);
        (next_ns < self.schedule.end_ns).then_some(next_ns)
    }

    fn step(&mut self) {
        self.at += 1;
        if self.at == self.publishers.len() {
            self.at = 0;
            self.index += 1;
        }
    }

    /// All were woken and more has come due: a publisher that wakes sends all that is due, so the
    /// walk may jump ahead.
    fn skip_to(&mut self, now_ns: i64) {
        let index = self.schedule.index_near(now_ns);
        if index > self.index {
            self.index = index;
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn timeline() -> Timeline {
        Timeline { start_ns: SECOND, steady_ns: 2 * SECOND, end_ns: 3 * SECOND }
    }

    #[test]
    fn the_steady_part_excludes_warm_up_and_end() {
        let timeline = timeline();
        assert!(!timeline.is_steady(2 * SECOND - 1));
        assert!(timeline.is_steady(2 * SECOND));
        assert!(!timeline.is_steady(3 * SECOND));
        assert_eq!(timeline.steady_s(), 1.0);
    }

    #[test]
    fn publishers_take_turns_at_the_total_rate() {
        let schedule = Schedule::new(&timeline(), 10.0, 2);
        let times: Vec<i64> = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .map(|(publisher, index)| schedule.intended_ns(publisher, index) - SECOND)
            .to_vec();
        assert_eq!(times, [0, SECOND / 10, SECOND / 5, 3 * SECOND / 10]);
        assert_eq!(schedule.message_count(0), 10);
        assert_eq!(schedule.message_count(1), 10);
    }

    #[test]
    fn nothing_is_due_early_or_after_the_end() {
        let schedule = Schedule::new(&timeline(), 10.0, 1);
        assert_eq!(schedule.due(0, 1, SECOND + SECOND / 10 - 1), None);
        assert_eq!(schedule.due(0, 1, SECOND + SECOND / 10), Some(SECOND + SECOND / 10));
        assert_eq!(schedule.due(0, 19, 9 * SECOND), Some(3 * SECOND - SECOND / 10));
        assert_eq!(schedule.due(0, 20, 9 * SECOND), None);
    }

    #[test]
    fn counts_agree_with_the_times_at_awkward_rates() {
        for rate in [0.3, 3.0, 7.0, 333.3, 123_456.7] {
            let schedule = Schedule::new(&timeline(), rate, 3);
            for publisher in 0..3 {
                let count = schedule.message_count(publisher);
                assert!(count == 0 || schedule.due(publisher, count - 1, 9 * SECOND).is_some());
                assert_eq!(schedule.due(publisher, count, 9 * SECOND), None, "rate {rate}");
            }
        }
    }

    /// A publisher that the pacer wakes sends all that is due for it; none may be left behind.
    #[test]
    fn the_pacer_forgets_nobody_however_late_it_is_called() {
        for late_ns in [0, 1, 50_000, SECOND / 7, SECOND] {
            let schedule = Schedule::new(&timeline(), 1000.0, 5);
            let publishers = vec![1, 3, 4];
            let mut pacer = Pacer::new(schedule, publishers.clone());
            let mut sent = [0u64; 3];
            let mut now_ns = SECOND;
            while let Some(next_ns) = pacer.tick(now_ns, |at| {
                while schedule.due(publishers[at], sent[at], now_ns).is_some() {
                    sent[at] += 1;
                }
            }) {
                assert!(next_ns >= now_ns + TICK_NS);
                now_ns = next_ns + late_ns;
            }
            let planned: Vec<u64> =
                publishers.iter().map(|&publisher| schedule.message_count(publisher)).collect();
            assert_eq!(sent.to_vec(), planned, "called {late_ns} ns late");
        }
    }

    #[test]
    fn the_pacer_sleeps_until_the_next_message_at_low_rates() {
        let mut pacer = Pacer::new(Schedule::new(&timeline(), 2.0, 1), vec![0]);
        assert_eq!(pacer.tick(SECOND, |_| ()), Some(SECOND + SECOND / 2));
        assert_eq!(Pacer::new(pacer.schedule, vec![]).tick(SECOND, |_| ()), None);
    }
}
