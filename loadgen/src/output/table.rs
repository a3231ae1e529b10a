//! The report as people read it on a terminal.

use std::fmt::{self, Display, Formatter};

use crate::report::document::{Document, Outcome, Spread};
use crate::report::figure::{Figure, Group, Latency, QUANTILES};
use crate::report::figures;
use crate::units::{Unit, count, digits};

const NAME_WIDTH: usize = 36;
const VALUE_WIDTH: usize = 14;

impl Display for Document {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}", self.title(), self.load().join(", "))?;
        if self.runs().len() > 1 {
            let name = "figures of all runs";
            writeln!(f, "\n{name:NAME_WIDTH$}{:>14}{:>14}{:>14}", "median", "lowest", "highest")?;
        }
        for group in figures::groups(self.first()) {
            if group.name == "broker" {
                write_latencies(f, self)?;
            }
            write_group(f, self, &group)?;
        }
        write_executors(f, self)?;
        write_machine(f, self)?;
        write_verdict(f, self)
    }
}

fn write_group(f: &mut Formatter<'_>, document: &Document, group: &Group) -> fmt::Result {
    let figures = group.figures.iter();
    let rows: Vec<(&Figure, Spread)> =
        figures.filter_map(|figure| Some((figure, document.shown(figure)?))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{}", group.name)?;
    rows.into_iter().try_for_each(|(figure, spread)| write_row(f, figure, &spread))
}

fn write_row(f: &mut Formatter<'_>, figure: &Figure, spread: &Spread) -> fmt::Result {
    let (name, width) = (&figure.name, NAME_WIDTH - 2);
    write!(f, "  {name:width$}{:>VALUE_WIDTH$}", figure.unit.show(spread.median))?;
    if spread.count > 1 {
        for value in [spread.min, spread.max] {
            write!(f, "{:>VALUE_WIDTH$}", figure.unit.show(value))?;
        }
    }
    writeln!(f)
}

fn write_latencies(f: &mut Formatter<'_>, document: &Document) -> fmt::Result {
    write!(f, "\n{:24}", "latency")?;
    QUANTILES.iter().try_for_each(|(_, name, _)| write!(f, "{name:>11}"))?;
    writeln!(f)?;
    let latencies = figures::latencies(document.first());
    latencies.iter().try_for_each(|latency| write_latency(f, document, latency))
}

fn write_latency(f: &mut Formatter<'_>, document: &Document, latency: &Latency) -> fmt::Result {
    let samples = document.figure(&format!("{}/count", latency.at));
    let Some(samples) = samples.filter(|samples| samples.max > 0.0) else {
        return Ok(());
    };
    let spreads: Vec<Option<Spread>> =
        latency.figures().map(|figure| document.figure(&figure.at)).collect();
    write_values(f, &latency.span, &spreads, |spread| spread.median)?;
    if samples.count > 1 {
        write_values(f, "  lowest", &spreads, |spread| spread.min)?;
        write_values(f, "  highest", &spreads, |spread| spread.max)?;
    }
    Ok(())
}

fn write_values(
    f: &mut Formatter<'_>,
    name: &str,
    spreads: &[Option<Spread>],
    value: impl Fn(&Spread) -> f64,
) -> fmt::Result {
    write!(f, "  {name:22}")?;
    for spread in spreads {
        let shown = spread.as_ref().map(|spread| Unit::Nanoseconds.show(value(spread)));
        write!(f, "{:>11}", shown.as_deref().unwrap_or("-"))?;
    }
    writeln!(f)
}

fn write_executors(f: &mut Formatter<'_>, document: &Document) -> fmt::Result {
    if document.figure("/generator/steady_cores").is_none() {
        return Ok(());
    }
    let executors = document.first()["generator"]["executors"].as_array();
    let shares = executors.into_iter().flatten().filter_map(|it| it["cpu_share"].as_f64());
    let shares: Vec<String> = shares.map(|share| Unit::Share.show(share)).collect();
    let name = "  executors, each of a core";
    writeln!(f, "{name:NAME_WIDTH$}{:>VALUE_WIDTH$}", shares.join(", "))
}

fn write_machine(f: &mut Formatter<'_>, document: &Document) -> fmt::Result {
    writeln!(f, "\nmachine: {}", document.machine())?;
    if document.first()["generator"]["build"] == "debug" {
        writeln!(f, "this is a debug build: measure with a release build")?;
    }
    Ok(())
}

impl Document {
    /// Says where it was measured.
    pub(crate) fn machine(&self) -> String {
        let machine = &self.first()["machine"];
        let word = |key: &str| machine[key].as_str().unwrap_or("unknown").to_owned();
        let some = |key: &str| count(machine[key].as_u64().unwrap_or_default());
        let memory = machine["memory_bytes"].as_f64();
        format!(
            "{}, {} cores ({} allowed), {}, Linux {}",
            word("cpu_model"),
            some("core_count"),
            some("allowed_core_count"),
            memory.map_or_else(|| "memory unknown".to_owned(), |it| Unit::Bytes.show(it)),
            word("kernel"),
        )
    }

    /// Says in one line how it went.
    pub(crate) fn verdict(&self) -> String {
        match self.outcome() {
            Outcome::Ok => "ok".to_owned(),
            Outcome::Violated => format!("violated: {}", self.complaints().join("; ")),
            Outcome::Failed => format!("failed: {}", self.complaints().join("; ")),
        }
    }
}

fn write_verdict(f: &mut Formatter<'_>, document: &Document) -> fmt::Result {
    let reasons = document.reasons();
    if !reasons.is_empty() {
        writeln!(f, "\ngenerator-bound: {}", reasons.join("; "))?;
        writeln!(f, "these figures say what the generator can do, not what the broker can do")?;
    }
    if document.figure("/deliveries/lost").is_some_and(|lost| lost.max > 0.0) {
        let drain = document.first()["settings"]["drain"].as_f64().unwrap_or_default();
        let drain = digits(drain);
        writeln!(f, "\nlost: not delivered within {drain} s after the last publish was due")?;
    }
    writeln!(f, "\n{}", document.verdict())
}

#[cfg(test)]
mod tests {
    use crate::report::document::tests::document;

    #[test]
    fn the_table_says_what_matters() {
        let table = document(&[(50, 1_000)]).to_string();
        let lines: Vec<String> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "delivered 50 /s",
            "lost 1,000",
            "broker CPU 1.50 cores",
            "from intended send 50.0 ms 50.0 ms 50.0 ms 50.0 ms 50.0 ms 50.0 ms",
            "machine: CPU, 2 cores (1 allowed), 4.00 GiB, Linux 6.0",
            "violated: 1000 lost",
        ] {
            assert!(lines.iter().any(|it| it == line), "{line} is not in {table}");
        }
        for absent in ["generator-bound", "never sent", "median"] {
            assert!(!table.contains(absent), "{absent} is in {table}");
        }
    }

    #[test]
    fn several_runs_show_their_median_and_range() {
        let table = document(&[(5, 0), (30, 0), (7, 0)]).to_string();
        let row = |name: &str| table.lines().find(|line| line.trim_start().starts_with(name));
        assert!(row("from intended send").is_some_and(|row| row.contains("7.00 ms")), "{table}");
        assert!(row("lowest").is_some_and(|row| row.contains("5.00 ms")), "{table}");
        assert!(row("highest").is_some_and(|row| row.contains("30.0 ms")), "{table}");
        assert!(table.contains("3 runs") && table.ends_with("\nok\n"), "{table}");
    }
}
