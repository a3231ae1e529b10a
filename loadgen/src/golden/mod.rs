//! Golden files: everything that the load generator writes, byte for byte, from fixed data.
//!
//! A change of an output shows as a difference of these files. To write them again:
//! `RINGMQ_UPDATE_GOLDEN=1 cargo nextest run -p ringmq-loadgen golden`.

mod data;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::{self, Invocation};
use crate::html;
use crate::output::hlog::{IntervalLog, distribution};
use crate::recording::recorder::Recorder;
use crate::report::document::Document;
use crate::report::series::Phase;
use crate::report::series::tests::interval;
use crate::scenario::scenarios;

/// Compares an output with its golden file, or writes the file if the environment says so.
#[track_caller]
fn check(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/golden").join(name);
    if std::env::var_os("RINGMQ_UPDATE_GOLDEN").is_some() {
        fs::write(&file, text).expect("the folder of the golden files can be written");
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    if golden != text {
        let same = golden.lines().zip(text.lines()).take_while(|(old, new)| old == new).count();
        let line = |text: &str| text.lines().nth(same).unwrap_or("(the end)").to_owned();
        let (old, new) = (line(&golden), line(text));
        panic!("{name}:{}: the output has changed\n- {old}\n+ {new}", same + 1);
    }
}

/// A file of this process that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("ringmq-loadgen-golden-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn parse(words: &[&str]) -> Result<Invocation, clap::Error> {
    cli::parse(["ringmq-loadgen"].iter().chain(words).map(OsString::from))
}

/// What the program says to a command line that makes no run.
fn said(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    let error = parse(&words).err().unwrap_or_else(|| panic!("{words:?} is a run"));
    format!("$ ringmq-loadgen {}\n{error}\n", words.join(" "))
}

#[test]
fn table() {
    check("one-run.txt", &data::one_run().to_string());
    check("several-runs.txt", &data::several_runs().to_string());
}

#[test]
fn json() {
    check("one-run.json", &data::one_run().to_json());
    check("several-runs.json", &data::several_runs().to_json());
}

#[test]
fn page() {
    check("one-run.html", &html::page(&data::one_run()));
    check("several-runs.html", &html::page(&data::several_runs()));
}

#[test]
fn comparison() {
    let compare = |name: &str, base: &Document, new: &Document| {
        let files = ["a", "b"].map(|side| Scratch::new(&format!("{name}-{side}.json")));
        for (file, document) in files.iter().zip([base, new]) {
            fs::write(&file.0, document.to_json()).expect("a folder for temporary files");
        }
        let [a, b] = files.each_ref().map(|file| file.0.to_str().expect("a name in UTF-8"));
        let Ok(Invocation::Compare(options)) = parse(&["compare", a, b, "--fail-above", "10"])
        else {
            panic!("these words compare");
        };
        options.compare().expect("both are reports").to_string()
    };
    let (one, several) = (data::one_run(), data::several_runs());
    check("compare-one-run.txt", &compare("one", &one, &one));
    check("compare-several-runs.txt", &compare("several", &one, &several));
}

#[test]
fn interval_log() {
    let file = Scratch::new("hlog");
    let mut log = IntervalLog::create(&file.0).expect("a folder for temporary files");
    log.write(&interval(1.0, 2.0, Phase::Steady), &data::recorder());
    log.write(&interval(2.0, 3.0, Phase::Steady), &Recorder::new());
    log.write(&interval(3.0, 3.5, Phase::Drain), &Recorder::new());
    log.finish().expect("there is room");
    let text = fs::read_to_string(&file.0).expect("it was just written");
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let timeless = |line: &str| match line.split_once("[StartTime: ") {
        Some((head, tail)) => {
            let (_, tail) = tail.split_once(' ').expect("the time has a unit");
            format!("{head}[StartTime: TIME {tail}\n")
        }
        None => format!("{line}\n"),
    };
    check("intervals.hlog", &text.lines().map(timeless).collect::<String>());
}

#[test]
fn percentile_distribution() {
    check("latency.hgrm", &distribution(&data::recorder().latency));
}

#[test]
fn help() {
    let scenarios = scenarios().map(|scenario| scenario.name.to_owned());
    let command = cli::command();
    let search = command.find_subcommand("find-max").expect("it is in the table");
    let searches = search.get_subcommands().map(|inner| format!("find-max {}", inner.get_name()));
    let others = ["compare", "show"].map(str::to_owned);
    let names = [String::new()].into_iter().chain(scenarios).chain(searches).chain(others);
    check("help.txt", &names.map(|name| said(&format!("{name} --help"))).collect::<String>());
}

/// What is refused after clap has accepted it, because options make no sense together.
#[test]
fn refusals() {
    let lines = [
        "fanout --qos 3",
        "fanout --publishers 100000 --topics 10 --subscribers 1000",
        "find-max fanout --rate 5",
        "no-such-file.toml",
        "reconnect-storm --storm-at 100",
        "retained --window 3 --qos 0",
        "sessions --window 3 --qos 0",
        "shared --groups 100000 --members 1000",
        "slow-consumer --slow 1",
        "slow-consumer --stall-at 5 --stall 9",
    ];
    check("refusals.txt", &lines.map(said).concat());
}
