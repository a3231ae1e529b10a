//! What a thread has used.

use crate::sample::clock::Clock;
use crate::sample::machine;

/// What the thread of an executor used in the steady part of the run.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    /// Ready to run, but without a core.
    pub(crate) wait_s: f64,
    pub(crate) elapsed_s: f64,
}

impl Usage {
    pub(crate) fn now(clock: Clock) -> Self {
        Self {
            cpu_s: machine::thread_cpu_s(),
            wait_s: machine::thread_wait_s().unwrap_or_default(),
            elapsed_s: clock.now_ns() as f64 / 1e9,
        }
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - earlier.cpu_s,
            wait_s: self.wait_s - earlier.wait_s,
            elapsed_s: self.elapsed_s - earlier.elapsed_s,
        }
    }
}
