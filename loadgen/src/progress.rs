//! The line that tells how a run is going, once a second on standard error.

use std::io::{IsTerminal, Write, stderr};

use crate::run::Interval;
use crate::table::{count, duration};

/// On a terminal the line overwrites itself; elsewhere each is a line of its own.
pub(crate) struct Progress {
    in_place: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { in_place: stderr().is_terminal() }
    }

    pub(crate) fn connecting(&self, connected: u64, wanted: u64) {
        self.say(&format!("connected {} of {}", count(connected), count(wanted)));
    }

    pub(crate) fn visiting(&self, name: &str, visited: u64, wanted: u64) {
        self.say(&format!("{name}: {} of {}", count(visited), count(wanted)));
    }

    pub(crate) fn running(&self, interval: &Interval, p99_ns: u64, missing: u64, left_s: f64) {
        self.say(&running(interval, p99_ns, missing, left_s));
    }

    /// Leaves the terminal to whatever is printed next.
    pub(crate) fn end(&self) {
        if self.in_place {
            self.write("\r\x1b[K");
        }
    }

    fn say(&self, line: &str) {
        if self.in_place {
            self.write(&format!("\r\x1b[K{line}"));
        } else {
            self.write(&format!("{line}\n"));
        }
    }

    /// Nobody may be listening; that is no reason to stop.
    fn write(&self, text: &str) {
        let mut stderr = stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

fn running(interval: &Interval, p99_ns: u64, missing: u64, left_s: f64) -> String {
    let phase = if left_s > 0.0 {
        format!("{} s left", left_s.ceil())
    } else {
        "waiting for the last deliveries".to_owned()
    };
    let p99 = if p99_ns == 0 { "-".to_owned() } else { duration(p99_ns) };
    format!(
        "{} publishes/s  {} deliveries/s  p99 {p99}  missing {}  {phase}",
        count(interval.published),
        count(interval.delivered),
        count(missing),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_rate_latency_loss_and_time_left() {
        let interval =
            Interval { published: 20, delivered: 20_000, p50_ns: 1, p99_ns: 2, max_ns: 3 };
        let line = running(&interval, 1_230_000, 4, 7.2);
        assert_eq!(line, "20 publishes/s  20,000 deliveries/s  p99 1.23 ms  missing 4  8 s left");
        assert!(
            running(&interval, 0, 0, -1.0)
                .ends_with("p99 -  missing 0  waiting for the last deliveries")
        );
    }
}
