//! The clock of a run.

use std::time::Instant;

/// Nanoseconds since the program started, on the monotonic clock; the same for all executors.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[inline]
    pub(crate) fn now_ns(self) -> i64 {
        self.0.elapsed().as_nanos() as i64
    }
}
