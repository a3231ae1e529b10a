//! `compare A.json B.json`: how B lies to A, figure by figure, and whether that is a regression.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::report::document::{Document, Outcome, Spread};
use crate::report::figure::{Better, Figure};
use crate::report::figures;

/// Reports to compare.
#[derive(Args)]
pub(crate) struct CompareOptions {
    /// The reports to compare with: a JSON file, or several with commas between them
    #[arg(value_name = "A.json", num_args = 1, value_delimiter = ',', required = true)]
    base: Vec<PathBuf>,
    /// The reports that are judged, likewise. Of several runs the medians are compared
    #[arg(value_name = "B.json", num_args = 1, value_delimiter = ',', required = true)]
    new: Vec<PathBuf>,
    /// Exit with 1 if a figure of B is worse than that of A by more than this many per cent, or B
    /// breaks promises that A keeps
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_above: Option<f64>,
}

/// A and B side by side; displays as the table that `compare` prints.
pub(crate) struct Comparison {
    base: Document,
    new: Document,
    rows: Vec<Row>,
    fail_above: Option<f64>,
}

struct Row {
    figure: Figure,
    base: Spread,
    new: Spread,
}

impl CompareOptions {
    /// # Errors
    /// A file that cannot be read or is no report.
    pub(crate) fn compare(&self) -> Result<Comparison, String> {
        Ok(Comparison::new(
            Document::read(&self.base)?,
            Document::read(&self.new)?,
            self.fail_above,
        ))
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.0..=1e6).contains(percent));
    percent.ok_or_else(|| "expected a percentage, 0 or more".to_owned())
}

impl Comparison {
    fn new(base: Document, new: Document, fail_above: Option<f64>) -> Self {
        let row = |figure: Figure| {
            let (base, new) = (base.figure(&figure.at)?, new.figure(&figure.at)?);
            Some(Row { figure, base, new })
        };
        let shown = |figure: &Figure| base.shown(figure).is_some() || new.shown(figure).is_some();
        let all = figures::all(base.first()).into_iter();
        let rows = all.filter(shown).filter_map(row).collect();
        Self { base, new, rows, fail_above }
    }

    /// Says what is worse than `--fail-above` allows.
    pub(crate) fn regressions(&self) -> Vec<String> {
        let Some(allowed) = self.fail_above else {
            return Vec::new();
        };
        let worse = self.rows.iter().filter(|row| row.is_worse_by_more_than(allowed));
        let mut words: Vec<String> =
            worse.map(|row| format!("{}: {}", row.figure.name, row.change())).collect();
        if self.new.outcome() > self.base.outcome() {
            words.push(format!("B is {}, A is {}", self.new.verdict(), self.base.verdict()));
        }
        words
    }

    /// Returns 0, or 1 past the regression that is allowed.
    pub(crate) fn exit_status(&self) -> u8 {
        u8::from(!self.regressions().is_empty())
    }

    /// Says why the two may not be comparable.
    fn warnings(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (part, what) in [("settings", "setting"), ("machine", "machine")] {
            // The load of the minute before is no property of a machine.
            let unlike = differences(&self.base, &self.new, part)
                .into_iter()
                .filter(|unlike| !unlike.starts_with("load_average "));
            words.extend(unlike.map(|difference| format!("{what} differs: {difference}")));
        }
        let version = |document: &Document| document.first()["generator"]["version"].to_string();
        if version(&self.base) != version(&self.new) {
            let (base, new) = (version(&self.base), version(&self.new));
            words.push(format!("generator differs: {base} -> {new}"));
        }
        for (name, document) in [("A", &self.base), ("B", &self.new)] {
            let bound = document.reasons();
            if !bound.is_empty() {
                words.push(format!("{name} is generator-bound: {}", bound.join("; ")));
            }
            if document.outcome() != Outcome::Ok {
                words.push(format!("{name} is {}", document.verdict()));
            }
        }
        words
    }
}

/// Keys of an object in the reports that have another value, with both values.
fn differences(base: &Document, new: &Document, part: &str) -> Vec<String> {
    let (base, new) = (&base.first()[part], &new.first()[part]);
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().into_iter().flat_map(|object| object.keys().cloned()).collect()
    };
    let mut all = keys(base);
    all.extend(keys(new).into_iter().filter(|key| base.get(key).is_none()));
    let unlike = all.into_iter().filter(|key| base[key.as_str()] != new[key.as_str()]);
    unlike.map(|key| format!("{key} {} -> {}", base[&key], new[&key])).collect()
}

impl Row {
    /// Divides B by A; `None` where A is 0.
    fn ratio(&self) -> Option<f64> {
        (self.base.median != 0.0).then(|| self.new.median / self.base.median)
    }

    fn change(&self) -> String {
        match self.ratio() {
            Some(ratio) => format!("{:+.1} %", (ratio - 1.0) * 100.0),
            None if self.new.median == 0.0 => "same".to_owned(),
            None => format!("0 -> {}", self.figure.unit.show(self.new.median)),
        }
    }

    /// Anything at all is more than any percentage of nothing.
    fn is_worse_by_more_than(&self, percent: f64) -> bool {
        let allowed = percent / 100.0;
        match self.figure.better {
            Better::Higher => self.new.median < self.base.median * (1.0 - allowed),
            Better::Lower => self.new.median > self.base.median * (1.0 + allowed),
            Better::LowerUnjudged | Better::Neither => false,
        }
    }

    /// Judges the change in a word.
    fn remark(&self) -> &'static str {
        let better = match self.figure.better {
            Better::Neither => return "",
            Better::Higher => self.new.median > self.base.median,
            Better::Lower | Better::LowerUnjudged => self.new.median < self.base.median,
        };
        let several = self.base.count > 1 && self.new.count > 1;
        if self.new.median == self.base.median {
            "same"
        } else if several && !self.new.is_apart_from(&self.base) {
            "ranges overlap"
        } else if better {
            "better"
        } else {
            "worse"
        }
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, document) in [("A", &self.base), ("B", &self.new)] {
            writeln!(f, "{name}: {}: {}", document.title(), document.load().join(", "))?;
        }
        writeln!(f, "\n{:36}{:>14}{:>14}{:>14}", "", "A", "B", "B against A")?;
        for row in &self.rows {
            let (unit, change) = (row.figure.unit, row.change());
            let (base, new) = (unit.show(row.base.median), unit.show(row.new.median));
            let name = &row.figure.name;
            let line = format!("{name:36}{base:>14}{new:>14}{change:>14}  {}", row.remark());
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        self.warnings().iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))?;
        let allowed = self.fail_above.unwrap_or_default();
        for regression in self.regressions() {
            writeln!(f, "regression above {allowed} %: {regression}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::tests::document;

    fn compared(base: &[(u64, u64)], new: &[(u64, u64)], fail_above: Option<f64>) -> Comparison {
        Comparison::new(document(base), document(new), fail_above)
    }

    fn row<'a>(comparison: &'a Comparison, at: &str) -> &'a Row {
        comparison.rows.iter().find(|row| row.figure.at == at).expect("both have it")
    }

    #[test]
    fn ratios_are_b_over_a_and_medians_of_several() {
        let comparison = compared(&[(8, 0), (100, 0), (9, 0)], &[(18, 0)], None);
        let p99 = row(&comparison, "/latency_ns/p99");
        let ratio = p99.ratio().expect("A is not 0");
        assert!((ratio - 2.0).abs() < 0.01, "{ratio}");
        assert_eq!((p99.remark(), comparison.exit_status()), ("worse", 0), "nobody asked to fail");
        assert_eq!(row(&comparison, "/deliveries/per_second").change(), "+0.0 %");
    }

    #[test]
    fn a_regression_past_the_threshold_fails_and_one_below_does_not() {
        let status = |base, new| compared(&[(base, 0)], &[(new, 0)], Some(10.0)).exit_status();
        assert_eq!([status(100, 109), status(100, 112), status(100, 50)], [0, 1, 0]);
        let regressions = compared(&[(100, 0)], &[(112, 0)], Some(10.0)).regressions();
        assert_eq!(regressions.len(), 4, "p50, p90, p99, p99.9, but no maximum: {regressions:?}");
    }

    #[test]
    fn fewer_deliveries_are_a_regression_too() {
        let mut comparison = compared(&[(8, 0)], &[(8, 0)], Some(5.0));
        let rows = comparison.rows.iter_mut();
        let mut rows = rows.filter(|row| row.figure.at == "/deliveries/per_second");
        rows.next().expect("both have it").new.median *= 0.9;
        assert_eq!(comparison.regressions(), ["delivered: -10.0 %"]);
    }

    #[test]
    fn a_loss_where_there_was_none_fails_at_any_threshold() {
        let comparison = compared(&[(8, 0)], &[(8, 5)], Some(1000.0));
        let regressions = comparison.regressions();
        assert_eq!(regressions[0], "loss: 0 -> 5.00 %");
        assert!(regressions[1].contains("violated: 5 lost"), "{regressions:?}");
        assert_eq!(compared(&[(8, 5)], &[(8, 5)], Some(0.0)).exit_status(), 0, "no worse");
    }

    #[test]
    fn ranges_that_overlap_are_said_to() {
        let comparison = compared(&[(8, 0), (10, 0)], &[(9, 0), (20, 0)], None);
        assert_eq!(row(&comparison, "/latency_ns/p99").remark(), "ranges overlap");
        let apart = compared(&[(8, 0), (10, 0)], &[(19, 0), (20, 0)], None);
        assert_eq!(row(&apart, "/latency_ns/p99").remark(), "worse");
    }

    #[test]
    fn other_settings_and_machines_are_warned_of() {
        let mut new = document(&[(8, 0)]);
        new.first_mut()["machine"]["kernel"] = "7.0".into();
        new.first_mut()["machine"]["load_average"] = 9.into();
        new.first_mut()["settings"] = serde_json::json!({"qos": 2});
        let comparison = Comparison::new(document(&[(8, 0)]), new, None);
        let expected =
            ["setting differs: qos null -> 2", "machine differs: kernel \"6.0\" -> \"7.0\""];
        assert_eq!(comparison.warnings(), expected);
        assert!(comparison.to_string().contains("warning: setting differs"));
    }
}
