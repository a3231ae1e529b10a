//! The JSON file: the report of one run, or those of several runs of the same settings with what
//! they have in common and how far they lie apart. The table and the HTML report are made from it,
//! so whatever they show is in the file, and a file can be shown again.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::report::figure::{Figure, Shown};
use crate::report::figures;
use crate::report::{FORMAT, Report};
use crate::units::{count, number};

/// At least one run.
pub(crate) struct Document {
    runs: Vec<Value>,
}

/// A figure over several runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Runs that have this figure.
    pub(crate) count: usize,
}

/// How it went, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Outcome {
    Ok,
    Violated,
    Failed,
}

impl Outcome {
    /// Returns 0, 1 or 3; see `--help`.
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Violated => 1,
            Self::Failed => 3,
        }
    }
}

impl Document {
    /// Makes a document of at least one report.
    pub(crate) fn new(reports: &[Report]) -> Self {
        let json = |report| serde_json::to_value(report).expect("a report is plain data");
        Self { runs: reports.iter().map(json).collect() }
    }

    /// # Errors
    /// What is wrong with this text.
    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let runs = match value.get("runs") {
            Some(Value::Array(runs)) => runs.clone(),
            _ => vec![value],
        };
        if runs.is_empty() {
            return Err("it holds no run".to_owned());
        }
        runs.iter().try_for_each(check_format)?;
        Ok(Self { runs })
    }

    /// Reads the runs of all files.
    ///
    /// # Errors
    /// Which file cannot be read or is no report, and why.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, String> {
        let mut runs = Vec::new();
        for file in files {
            let text = fs::read_to_string(file).map_err(|error| error.to_string());
            let document = text.and_then(|text| Self::parse(&text));
            let cannot = |error| format!("cannot read {}: {error}", file.display());
            runs.extend(document.map_err(cannot)?.runs);
        }
        Ok(Self { runs })
    }

    /// Writes one run as it is; several with their common head and spread before them.
    pub(crate) fn to_json(&self) -> String {
        let value = match self.runs.as_slice() {
            [run] => run.clone(),
            runs => {
                let common = ["format", "scenario", "cast", "settings", "machine"];
                let head = common.iter().map(|key| ((*key).to_owned(), self.first()[*key].clone()));
                let mut document: Map<String, Value> = head.collect();
                document.insert("verdict".to_owned(), self.worst()["verdict"].clone());
                document.insert("generator_bound".to_owned(), (!self.reasons().is_empty()).into());
                document.insert("spread".to_owned(), self.spread());
                document.insert("runs".to_owned(), runs.into());
                Value::Object(document)
            }
        };
        format!("{value:#}\n")
    }

    fn spread(&self) -> Value {
        let entry = |figure: Figure| {
            let Spread { median, min, max, count } = self.figure(&figure.at)?;
            let unit = figure.unit.in_json();
            let value = json!({ "name": figure.name, "unit": unit, "median": median, "min": min,
                "max": max, "runs": count });
            Some((figure.at.into_owned(), value))
        };
        Value::Object(figures::all(self.first()).into_iter().filter_map(entry).collect())
    }

    pub(crate) fn runs(&self) -> &[Value] {
        &self.runs
    }

    /// Returns the first run, for what all runs have in common.
    pub(crate) fn first(&self) -> &Value {
        &self.runs[0]
    }

    /// Says what was measured: "fanout on 127.0.0.1:1883".
    pub(crate) fn title(&self) -> String {
        let run = self.first();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} on {}", word(&run["scenario"]), word(&run["settings"]["broker"]))
    }

    /// Says how the broker was loaded.
    pub(crate) fn load(&self) -> Vec<String> {
        let settings = &self.first()["settings"];
        let pace = || match settings["window"].as_u64() {
            Some(window) => format!("closed loop, {} outstanding per publisher", count(window)),
            None => {
                let rate = settings["rate"].as_f64().unwrap_or_default();
                format!("open loop, {} publishes/s", number(rate))
            }
        };
        let payload = settings["payload"].as_u64().map(|bytes| format!("{} bytes", count(bytes)));
        let seconds = self.figure("/steady_s").map(|it| it.median).filter(|it| *it > 0.0);
        let parts = [
            self.first()["cast"].as_str().map(str::to_owned),
            Some(format!("QoS {}", settings["qos"])),
            payload.clone(),
            payload.map(|_| pace()),
            seconds.map(|seconds| format!("{} s", number(seconds))),
            (self.runs.len() > 1).then(|| format!("{} runs", self.runs.len())),
        ];
        parts.into_iter().flatten().collect()
    }

    #[cfg(test)]
    pub(crate) fn first_mut(&mut self) -> &mut Value {
        &mut self.runs[0]
    }

    /// `None` if no run has it.
    pub(crate) fn figure(&self, at: &str) -> Option<Spread> {
        let numbers = self.runs.iter().filter_map(|run| run.pointer(at)?.as_f64());
        Spread::of(numbers.collect())
    }

    /// The figure, if the runs have it and it is worth a line.
    pub(crate) fn shown(&self, figure: &Figure) -> Option<Spread> {
        let spread = self.figure(&figure.at)?;
        let shown = match figure.shown {
            Shown::Always => true,
            Shown::NotZero => spread.max > 0.0,
            Shown::WithMessages => self.has_messages(),
            Shown::WithSamples => {
                let histogram = figure.at.rsplit_once('/').map_or("", |(histogram, _)| histogram);
                self.figure(&format!("{histogram}/count")).is_some_and(|count| count.max > 0.0)
            }
        };
        shown.then_some(spread)
    }

    /// Whether anything was, or should have been, published.
    fn has_messages(&self) -> bool {
        let some = |at| self.figure(at).is_some_and(|spread| spread.max > 0.0);
        some("/publishes/sent") || some("/publishes/planned")
    }

    pub(crate) fn outcome(&self) -> Outcome {
        outcome(self.worst())
    }

    /// The first run that went worst.
    fn worst(&self) -> &Value {
        let worst = self.runs.iter().rev().max_by_key(|run| outcome(run));
        worst.expect("there is at least one run")
    }

    /// What was violated or failed, in words.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.of_each_run(|run| {
            let violations = run["verdict"]["violations"].as_array().into_iter().flatten();
            violations.chain(run["verdict"].get("failure")).collect()
        })
    }

    /// Why the generator may have been the limit; empty if it was not.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.of_each_run(|run| {
            run["generator"]["reasons"].as_array().into_iter().flatten().collect()
        })
    }

    fn of_each_run(&self, words: fn(&Value) -> Vec<&Value>) -> Vec<String> {
        let several = self.runs.len() > 1;
        let say = |number: usize, word: &str| match several {
            true => format!("run {number}: {word}"),
            false => word.to_owned(),
        };
        let runs = (1..).zip(&self.runs);
        let all = runs.flat_map(|(number, run)| words(run).into_iter().map(move |it| (number, it)));
        all.filter_map(|(number, word)| Some(say(number, word.as_str()?))).collect()
    }
}

fn check_format(run: &Value) -> Result<(), String> {
    match run["format"].as_u64() {
        None => Err("it is no report of ringmq-loadgen".to_owned()),
        Some(format) if format == u64::from(FORMAT) => Ok(()),
        Some(format) => Err(format!("its format is {format}, this version reads {FORMAT}")),
    }
}

fn outcome(run: &Value) -> Outcome {
    match run["verdict"]["outcome"].as_str() {
        Some("ok") => Outcome::Ok,
        Some("violated") => Outcome::Violated,
        _ => Outcome::Failed,
    }
}

impl Spread {
    fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (min, max) = (*numbers.first()?, *numbers.last()?);
        let (low, high) = (numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
        Some(Self { median: low.midpoint(high), min, max, count: numbers.len() })
    }

    /// The ranges have no value in common.
    pub(crate) fn is_apart_from(&self, other: &Self) -> bool {
        self.max < other.min || other.max < self.min
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::tests::plan;
    use crate::report::tests::{machine, outcome};

    /// One run for each p99, given in milliseconds, with this many losses.
    pub(crate) fn document(runs: &[(u64, u64)]) -> Document {
        let report = |&(p99_ms, lost): &(u64, u64)| {
            let mut outcome = outcome();
            outcome.recorder.latency.reset();
            outcome.recorder.latency.saturating_record(p99_ms * 1_000_000);
            outcome.settlement.lost = lost;
            let plan = crate::plan::Plan { qos: ringmq::mqtt::QoS::AtLeastOnce, ..plan() };
            Report::new(&plan, &outcome, machine())
        };
        Document::new(&runs.iter().map(report).collect::<Vec<_>>())
    }

    #[test]
    fn medians_and_ranges_are_exact() {
        let spread = |numbers: &[f64]| Spread::of(numbers.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0, count: 1 }));
        let of_three = spread(&[9.0, 1.0, 4.0]).expect("three");
        assert_eq!(of_three, Spread { median: 4.0, min: 1.0, max: 9.0, count: 3 });
        assert_eq!(spread(&[1.0, 2.0, 4.0, 100.0]).expect("four").median, 3.0);
        assert!(!of_three.is_apart_from(&spread(&[9.0, 12.0]).expect("two")));
        assert!(of_three.is_apart_from(&spread(&[9.5, 12.0]).expect("two")));
    }

    #[test]
    fn one_run_is_its_own_document() {
        let document = document(&[(5, 0)]);
        let value: Value = serde_json::from_str(&document.to_json()).expect("it is JSON");
        assert_eq!(value["deliveries"]["lost"], 0);
        assert!(value.get("runs").is_none() && value.get("spread").is_none());
    }

    #[test]
    fn several_runs_have_a_spread_and_come_back_from_the_file() {
        let text = document(&[(5, 0), (30, 2), (7, 0)]).to_json();
        let value: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(value["verdict"]["outcome"], "violated", "the worst run counts");
        assert_eq!(value["spread"]["/deliveries/lost"]["max"], 2.0);
        let read = Document::parse(&text).expect("it was just written");
        assert_eq!((read.runs().len(), read.outcome()), (3, Outcome::Violated));
        let ms = read.figure("/latency_ns/p99").expect("all have it").median / 1e6;
        assert!((ms - 7.0).abs() < 0.01, "{ms}");
        assert_eq!(read.complaints(), ["run 2: 2 lost"]);
        assert_eq!(read.figure("/nothing/of/that/name"), None);
    }

    #[test]
    fn what_is_no_report_is_refused_in_words() {
        let refusal = |text: &str| Document::parse(text).err().expect("it is refused");
        assert!(refusal("{").contains("EOF"));
        assert!(refusal("{}").contains("no report"));
        assert!(refusal(r#"{"runs": []}"#).contains("no run"));
        assert!(refusal(r#"{"format": 1}"#).contains("format is 1"));
    }
}
