//! The only clock that the pure layers know: a number that is handed to them.

use std::ops::Add;
use std::time::Duration;

/// Milliseconds since the process (or the simulation) began. Always an argument, never read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// The instant at which everything began.
    pub const START: Self = Self(0);

    /// Later than everything.
    pub const END: Self = Self(u64::MAX);

    /// The instant `ms` milliseconds after the start.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// The instant that lies this much earlier; the start at the earliest.
    #[must_use]
    pub fn before(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
    }
}
