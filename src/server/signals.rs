//! What the signals of the system do.
//!
//! SIGTERM and SIGINT stop the broker; a second one ends it at once. SIGUSR1 has the counters
//! logged. SIGHUP changes nothing, where it would end other programs.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use crate::metrics::Counters;
use crate::routing::ShardId;

use super::error::ServerError;
use super::mesh::Bell;

/// How long executors may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What signals tell executors, each of which looks when its bell rings.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// The broker is to stop.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) census: Arc<Census>,
}

/// Asks every executor for its counters.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// How often it was asked.
    asked: AtomicU64,
    /// What was answered to the last question.
    answers: Mutex<Vec<Counters>>,
}

impl Census {
    /// Answers for one executor if there was a question since `answered`.
    pub(super) fn answer(&self, answered: &mut u64, counters: impl FnOnce() -> Counters) {
        let asked = self.asked.load(Ordering::Acquire);
        if asked != std::mem::replace(answered, asked) {
            self.lock().push(counters());
        }
    }

    /// The sum of all counters, and how many executors have answered in time.
    fn ask(&self, bells: &[Bell]) -> (Counters, usize) {
        self.lock().clear();
        self.asked.fetch_add(1, Ordering::AcqRel);
        ring(bells);
        let begun = Instant::now();
        while self.lock().len() < bells.len() && begun.elapsed() < PATIENCE {
            thread::sleep(LOOK_EVERY);
        }
        let answers = self.lock();
        let mut sum = Counters::default();
        answers.iter().for_each(|counters| sum.add(counters));
        (sum, answers.len())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Counters>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handles signals from now on, in a thread of its own.
pub(super) fn watch(watch: Watch, bells: Arc<[Bell]>) -> Result<(), ServerError> {
    let all = [SIGTERM, SIGINT, SIGHUP, SIGUSR1];
    let mut signals = Signals::new(all).map_err(ServerError::Signals)?;
    let handle_all = move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => info!("SIGHUP: nothing is read again; a start reads the configuration"),
                SIGUSR1 => log_counters(&watch.census, &bells),
                _ => end(signal, &watch.stop, &bells),
            }
        }
    };
    let named = thread::Builder::new().name("signals".to_owned());
    named.spawn(handle_all).map(drop).map_err(ServerError::Signals)
}

fn end(signal: i32, stop: &AtomicBool, bells: &[Bell]) {
    if stop.swap(true, Ordering::AcqRel) {
        std::process::exit(128 + signal);
    }
    // Before anything else: a line of log may take as long as its reader likes.
    ring(bells);
    info!("stopping: no new connections, open ones are flushed and closed");
}

fn log_counters(census: &Census, bells: &[Bell]) {
    let (counters, answer_count) = census.ask(bells);
    if answer_count < bells.len() {
        warn!("{answer_count} of {} executors told their counters in time", bells.len());
    }
    info!("counters: {}", line(&counters));
}

fn ring(bells: &[Bell]) {
    for (index, bell) in bells.iter().enumerate() {
        bell.ring(ShardId::from_index(index));
    }
}

/// All counters that are not 0, in one line.
pub(super) fn line(counters: &Counters) -> String {
    let all = counters.iter().chain(counters.ledger.iter());
    let mut line = String::new();
    for (row, value) in all.filter(|(_, value)| *value > 0) {
        let gap = if line.is_empty() { "" } else { " " };
        let _ = write!(line, "{gap}{}={value}", row.name); // A string takes it.
    }
    line
}
