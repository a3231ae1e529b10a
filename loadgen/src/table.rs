//! The report as people read it.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

use crate::report::{Percentiles, Report, Verdict};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_title(f, self)?;
        if self.publishes.planned.is_some() || self.publishes.sent > 0 {
            write_rates(f, self)?;
            write_latencies(f, self)?;
        }
        write!(f, "{}", self.findings)?;
        write_generator(f, self)?;
        write_verdict(f, self)
    }
}

fn write_title(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let settings = &report.settings;
    let broker = settings["broker"].as_str().unwrap_or_default();
    write!(f, "\n{} on {broker}: {}, QoS {}", report.scenario, report.cast, settings["qos"])?;
    if !settings["payload"].is_null() {
        let load = match settings["window"].as_u64() {
            Some(window) => format!("closed loop, {} outstanding per publisher", count(window)),
            None => format!("open loop, {} publishes/s", number(float(&settings["rate"]))),
        };
        write!(f, ", {} bytes, {load}, {} s", settings["payload"], number(report.steady_s))?;
    }
    writeln!(f, "\n")
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn write_rates(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let (publishes, deliveries) = (&report.publishes, &report.deliveries);
    writeln!(f, "{:14}{:>14}{:>16}", "", "per second", "total")?;
    let row = |f: &mut Formatter<'_>, name: &str, rate: f64, total: u64, note: &str| {
        writeln!(f, "{name:14}{:>14}{:>16}  {note}", number(rate), count(total))
    };
    let note = match publishes.planned {
        Some(planned) => format!("of {} planned", count(planned)),
        None => String::new(),
    };
    row(f, "published", publishes.per_second, publishes.sent, &note)?;
    let note = format!("of {} expected", count(deliveries.expected));
    row(f, "delivered", deliveries.per_second, deliveries.delivered, &note)?;
    row(f, "connected", report.connect.per_second, report.connect.connections, "")?;
    write_faults(f, report)
}

fn write_faults(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let (publishes, deliveries) = (&report.publishes, &report.deliveries);
    writeln!(
        f,
        "\nlost {}   duplicated {} ({} without DUP)   out of order {}",
        count(deliveries.lost),
        count(deliveries.duplicated),
        count(deliveries.duplicated_unmarked),
        count(deliveries.out_of_order),
    )?;
    if deliveries.lost > 0 {
        let drain = number(float(&report.settings["drain"]));
        writeln!(f, "(lost: not delivered within {drain} s after the last publish was due)")?;
    }
    let rare = [
        (publishes.unsent, "never sent: the broker did not take them"),
        (publishes.unacknowledged, "never acknowledged"),
        (publishes.held_back, "sent late: the broker did not take them sooner"),
        (publishes.written_off, "written off by the closed loop after --drain seconds"),
        (deliveries.too_late, "too late to tell from duplicates"),
        (deliveries.invented, "delivered, but never published"),
        (deliveries.misrouted, "delivered to a subscriber that had not asked"),
        (deliveries.wrong_qos, "delivered at another QoS than agreed"),
        (deliveries.retransmitted, "packets sent again within their QoS 2 exchange"),
        (deliveries.foreign, "foreign messages ignored"),
    ];
    for (amount, what) in rare.into_iter().filter(|&(amount, _)| amount > 0) {
        writeln!(f, "{} {what}", count(amount))?;
    }
    Ok(())
}

fn write_latencies(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    write!(f, "\n{:22}", "latency from")?;
    for name in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        write!(f, "{name:>11}")?;
    }
    writeln!(f)?;
    write_percentiles(f, "intended send time", &report.latency_ns)?;
    write_percentiles(f, "actual send time", &report.raw_latency_ns)?;
    if let Some(acknowledge) = &report.acknowledge_latency_ns {
        write_percentiles(f, "intended, until ack", acknowledge)?;
    }
    write_percentiles(f, "(schedule lateness)", &report.generator.lateness_ns)
}

pub(crate) fn write_percentiles(
    f: &mut Formatter<'_>,
    name: &str,
    of: &Percentiles,
) -> fmt::Result {
    write!(f, "{name:22}")?;
    for value in [of.p50, of.p90, of.p99, of.p99_9, of.p99_99, of.max] {
        let text = if of.count == 0 { "-".to_owned() } else { duration(value) };
        write!(f, "{text:>11}")?;
    }
    writeln!(f)
}

fn write_generator(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let generator = &report.generator;
    write!(f, "\ngenerator {:.2} s CPU; cores used", generator.cpu_s)?;
    for executor in &generator.executors {
        write!(f, " {:.0} %", executor.cpu_share * 100.0)?;
    }
    let machine = &report.machine;
    writeln!(
        f,
        "\nmachine   {}, {} cores ({} allowed), Linux {}",
        machine.cpu_model, machine.core_count, machine.allowed_core_count, machine.kernel
    )
}

fn write_verdict(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let generator = &report.generator;
    if generator.generator_bound {
        writeln!(f, "\ngenerator-bound: {}", generator.reasons.join("; "))?;
        writeln!(f, "these figures say what the generator can do, not what the broker can do")?;
    }
    match &report.verdict {
        Verdict::Ok => writeln!(f, "\nok"),
        Verdict::Violated { violations } => writeln!(f, "\nviolated: {}", violations.join("; ")),
        Verdict::Failed { failure } => writeln!(f, "\nfailed: {failure}"),
    }
}

/// 1234567 -> "1,234,567".
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds, with three digits and the unit that suits them.
pub(crate) fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// Small numbers with their decimals, large ones with thousands apart.
pub(crate) fn number(value: f64) -> String {
    if value >= 1000.0 || value.fract() == 0.0 {
        return count(value.round() as u64);
    }
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, tests::plan};
    use crate::report::tests::{machine, outcome};
    use serde_json::json;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_234), "1.23 us");
        assert_eq!(duration(12_345_000), "12.3 ms");
        assert_eq!(duration(999_999), "1000 us");
        assert_eq!(duration(1_500_000_000), "1.50 s");
        assert_eq!(number(20.0), "20");
        assert_eq!(number(20.25), "20.2");
        assert_eq!(number(123_456.7), "123,457");
    }

    #[test]
    fn the_table_says_what_matters() {
        let settings = json!({"broker": "b:1", "qos": 0,
            "payload": 64, "rate": 10.0, "window": null, "drain": 5.0});
        let plan = Plan { publisher_count: 1, settings, ..plan() };
        let mut outcome = outcome();
        outcome.settlement.lost = 1_000;
        outcome.strays.foreign = 2;
        let table = Report::new(&plan, &outcome, machine()).to_string();
        for part in [
            "test on b:1: 1 publisher -> 5 subscribers, QoS 0, 64 bytes, open loop, 10 publishes/s",
            "(lost: not delivered within 5 s",
            "lost 1,000   duplicated 0",
            "2 foreign messages ignored",
            "50.0 ms",
            "\nok\n",
        ] {
            assert!(table.contains(part), "{part} is not in {table}");
        }
        assert!(!table.contains("generator-bound") && !table.contains("never sent"));
    }
}
