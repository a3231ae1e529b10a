//! The real binary under clients that do not behave, while others must be served all the same.

mod churn;
mod descriptors;
mod half_open;
mod line;
mod probe;
mod slow_readers;
mod storm;

use std::time::Duration;

/// How long a large run takes by default.
const MINUTES: f64 = 1.0;

/// What `scripts/live-faults --minutes` asks for.
fn large_run() -> Duration {
    let minutes = std::env::var("RINGMQ_FAULT_MINUTES");
    let minutes = minutes.map_or(MINUTES, |minutes| minutes.parse().expect("it is a number"));
    Duration::from_secs_f64(60.0 * minutes)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// xorshift.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}
