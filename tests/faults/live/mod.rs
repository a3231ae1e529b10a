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
