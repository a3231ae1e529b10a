//! The line that tells how a run is going, once a second on standard error.

use std::io::{IsTerminal, Write, stderr};

use crate::report::series::Interval;
use crate::units::{bytes, count, duration, number};

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

    pub(crate) fn running(&self, interval: &Interval, p99_ns: u64, left_s: f64) {
        self.say(&running(interval, p99_ns, left_s));
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

    /// Ignores errors: a closed standard error is no reason to stop.
    fn write(&self, text: &str) {
        let mut stderr = stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

fn running(interval: &Interval, p99_ns: u64, left_s: f64) -> String {
    let phase = if left_s > 0.0 {
        format!("{} s left", left_s.ceil())
    } else {
        "waiting for the last deliveries".to_owned()
    };
    let p99 = if p99_ns == 0 { "-".to_owned() } else { duration(p99_ns) };
    let broker = interval.broker.map_or_else(String::new, |broker| {
        let rss = bytes(broker.sample.rss_bytes as f64);
        format!("  broker {:.0} % CPU, {rss}", broker.cores * 100.0)
    });
    format!(
        "{} publishes/s  {} deliveries/s  p99 {p99}  missing {}{broker}  {phase}",
        number(interval.published_per_s),
        number(interval.delivered_per_s),
        count(interval.missing),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::series::tests::{interval, sample};
    use crate::report::series::{BrokerInterval, Phase};

    #[test]
    fn the_line_tells_rate_latency_loss_and_time_left() {
        let mut interval = interval(1.0, 2.0, Phase::Steady);
        (interval.published_per_s, interval.delivered_per_s) = (20.0, 20_000.0);
        interval.missing = 4;
        let line = running(&interval, 1_230_000, 7.2);
        assert_eq!(line, "20 publishes/s  20,000 deliveries/s  p99 1.23 ms  missing 4  8 s left");
        interval.broker = Some(BrokerInterval { cores: 0.5, sample: sample(1.0, 3 << 20) });
        let line = running(&interval, 0, -1.0);
        let end = "p99 -  missing 4  broker 50 % CPU, 3.00 MiB  waiting for the last deliveries";
        assert!(line.ends_with(end), "{line}");
    }
}
