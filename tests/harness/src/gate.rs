//! Threads of a test that wait for each other, and end when it fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::broker::wait_until;

/// How long the last of them may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Tells threads to stop when it goes out of scope, by a panic as well.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A place that threads leave together, once all of them have come.
pub struct Gate {
    name: &'static str,
    missing: AtomicUsize,
}

impl Gate {
    pub fn new(name: &'static str, count: usize) -> Self {
        Self { name, missing: AtomicUsize::new(count) }
    }

    /// Waits for all the others; panics if they do not come in time.
    #[track_caller]
    pub fn wait(&self) {
        self.missing.fetch_sub(1, Ordering::SeqCst);
        let missing = || self.missing.load(Ordering::SeqCst);
        let is_open = wait_until(PATIENCE, || missing() == 0);
        assert!(is_open, "{}: {} have not come within {PATIENCE:?}", self.name, missing());
    }
}
