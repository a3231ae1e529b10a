//! The state that the main thread and the executors share while a run lasts. Nothing here blocks:
//! executors poll it every few milliseconds.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::pace::schedule::Timeline;
use crate::recording::recorder::Recorder;

pub(crate) struct Control {
    /// Steps that were begun.
    begun: AtomicUsize,
    /// Executors for whose extra clients the incident is not over, and when it was for the last.
    afflicted: AtomicUsize,
    incident_end_ns: AtomicI64,
    timeline: OnceLock<Timeline>,
    stopping: AtomicBool,
    failure: Mutex<Option<String>>,
    pub(crate) stations: Vec<Station>,
}

/// What one executor shows of itself.
#[derive(Default)]
pub(crate) struct Station {
    /// Steps that the executor has done its part of.
    pub(crate) steps_done: AtomicUsize,
    /// Visits that are over.
    pub(crate) visited: AtomicU64,
    /// Connections that are ready.
    pub(crate) connected: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    /// Deliveries of messages not seen before.
    pub(crate) delivered: AtomicU64,
    /// Deliveries that the messages published so far owe to all subscribers.
    pub(crate) owed: AtomicU64,
    /// Deliveries skipped so far.
    pub(crate) missing: AtomicU64,
    /// Deliveries to extra clients, which are counted apart.
    pub(crate) bystanders: AtomicU64,
    /// SUBSCRIBE and UNSUBSCRIBE that were not answered so far.
    pub(crate) open_questions: AtomicU64,
    exchange: Mutex<Exchange>,
}

/// Recorders change hands here, so that an executor neither copies nor allocates one.
#[derive(Default)]
struct Exchange {
    full: Option<Box<Recorder>>,
    spare: Option<Box<Recorder>>,
}

impl Control {
    pub(crate) fn new(executor_count: u32) -> Self {
        Self {
            begun: AtomicUsize::new(0),
            afflicted: AtomicUsize::new(executor_count as usize),
            incident_end_ns: AtomicI64::new(i64::MAX),
            timeline: OnceLock::new(),
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            stations: (0..executor_count).map(|_| Station::default()).collect(),
        }
    }

    /// Executors may begin step `number`, and finish those before it.
    pub(crate) fn begin(&self, number: usize) {
        self.begun.store(number + 1, Ordering::Release);
    }

    pub(crate) fn is_begun(&self, number: usize) -> bool {
        self.begun.load(Ordering::Acquire) > number
    }

    /// Whether the main thread has gone on to the next step.
    pub(crate) fn is_ended(&self, number: usize) -> bool {
        self.is_begun(number + 1)
    }

    /// Whether all executors have done their part of step `number`.
    pub(crate) fn is_done(&self, number: usize) -> bool {
        self.stations.iter().all(|station| station.steps_done.load(Ordering::Acquire) > number)
    }

    /// Records that the incident is over for the extra clients of one executor.
    pub(crate) fn recover(&self, now_ns: i64) {
        if self.afflicted.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.incident_end_ns.store(now_ns, Ordering::Release);
        }
    }

    /// Returns when the incident was over on all executors; `i64::MAX` until then.
    pub(crate) fn incident_end_ns(&self) -> i64 {
        self.incident_end_ns.load(Ordering::Acquire)
    }

    pub(crate) fn start(&self, timeline: Timeline) {
        self.timeline.get_or_init(|| timeline);
    }

    pub(crate) fn timeline(&self) -> Option<Timeline> {
        self.timeline.get().copied()
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The run has failed. Only the first failure counts: the others follow from it.
    pub(crate) fn fail(&self, failure: String) {
        lock(&self.failure).get_or_insert(failure);
        self.stop();
    }

    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Adds up one of the figures of [`Station`] over all executors.
    pub(crate) fn sum(&self, figure: impl Fn(&Station) -> &AtomicU64) -> u64 {
        self.stations.iter().map(|station| figure(station).load(Ordering::Relaxed)).sum()
    }
}

impl Station {
    /// Hands over a full recorder and takes an empty one, unless the last one is still waiting.
    pub(crate) fn hand_over(&self, recorder: &mut Box<Recorder>, now_ns: i64) {
        let mut exchange = lock(&self.exchange);
        if exchange.full.is_some() {
            return;
        }
        let empty = exchange.spare.take().unwrap_or_else(|| Box::new(Recorder::new()));
        recorder.until_ns = now_ns;
        exchange.full = Some(std::mem::replace(recorder, empty));
    }

    /// Adds what the executor has handed over to `sum`.
    pub(crate) fn collect(&self, sum: &mut Recorder) {
        let Some(mut recorder) = lock(&self.exchange).full.take() else {
            return;
        };
        sum.absorb(&recorder);
        recorder.clear();
        lock(&self.exchange).spare = Some(recorder);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_counts_and_stops_the_run() {
        let control = Control::new(1);
        control.fail("first".to_owned());
        control.fail("second".to_owned());
        assert!(control.is_stopping());
        assert_eq!(control.failure().as_deref(), Some("first"));
    }

    #[test]
    fn recorders_are_counted_once_and_come_back_empty() {
        let station = Station::default();
        let mut recorder = Box::new(Recorder::new());
        let mut sum = Recorder::new();
        for round in 1..=3 {
            recorder.published = 1;
            station.hand_over(&mut recorder, 1);
            assert_eq!(recorder.published, 0);
            station.collect(&mut sum);
            station.collect(&mut sum);
            assert_eq!(sum.published, round);
        }
    }

    #[test]
    fn a_recorder_that_nobody_fetches_goes_on_counting() {
        let station = Station::default();
        let mut recorder = Box::new(Recorder::new());
        station.hand_over(&mut recorder, 1);
        recorder.published = 5;
        station.hand_over(&mut recorder, 1);
        assert_eq!(recorder.published, 5);
    }
}
