//! The command line: one subcommand per scenario, and those that look at reports.

mod scenario_file;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::output::compare::CompareOptions;
use crate::output::{OutputOptions, ShowOptions};
use crate::plan::Plan;
use crate::scenario::scenarios;
use crate::scenario::values::refuse;

/// In place of a scenario; a file whose name ends in .toml needs no flag.
const SCENARIO_FILE: &str = "--scenario-file";

/// The subcommands that measure nothing.
const COMPARE: &str = "compare";
const SHOW: &str = "show";

/// What the command line asks for.
pub(crate) enum Invocation {
    Measure(Box<Measurement>),
    Compare(CompareOptions),
    Show(ShowOptions),
}

/// A run, and what becomes of its report.
pub(crate) struct Measurement {
    pub(crate) plan: Plan,
    pub(crate) output: OutputOptions,
}

/// Reads the command line.
///
/// # Errors
/// Bad options, with what was expected; also `--help` and `--version`.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Invocation, clap::Error> {
    // What a scenario refuses does not know the command that it is part of.
    judge(arguments).map_err(|error| error.format(&mut command()))
}

fn judge(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(with_file(arguments)?)?;
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    match name {
        COMPARE => return CompareOptions::from_arg_matches(matches).map(Invocation::Compare),
        SHOW => return ShowOptions::from_arg_matches(matches).map(Invocation::Show),
        _ => (),
    }
    let scenario = scenarios()
        .find(|scenario| scenario.name == name)
        .expect("clap accepts only the subcommands that come from this table");
    let plan = (scenario.plan)(matches)?;
    plan.check().map_err(|message| refuse(&message))?;
    let output = OutputOptions::from_arg_matches(innermost(matches))?;
    Ok(Invocation::Measure(Box::new(Measurement { plan, output })))
}

/// Returns the command line with the words of a scenario file, if it begins with one.
fn with_file(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let Some(first) = arguments.get(1).and_then(|word| word.to_str()) else {
        return Ok(arguments);
    };
    let (file, flags) = match first.strip_prefix(SCENARIO_FILE) {
        Some("") => (arguments.get(2).map(PathBuf::from), arguments.get(3..)),
        Some(rest) => (rest.strip_prefix('=').map(PathBuf::from), arguments.get(2..)),
        None if first.ends_with(".toml") => (Some(PathBuf::from(first)), arguments.get(2..)),
        None => (None, None),
    };
    let Some(file) = file else {
        return Ok(arguments);
    };
    scenario_file::words(&file, flags.unwrap_or_default(), &command())
        .map_err(|message| refuse(&message))
}

/// Finds the options of the scenario that another, as find-max, works on.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| innermost(matches))
}

pub(crate) fn command() -> Command {
    Command::new("ringmq-loadgen")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Measures how fast any MQTT broker delivers, and whether it delivers everything")
        .after_help(
            "A scenario can be a TOML file: ringmq-loadgen FILE.toml [OPTIONS], or --scenario-file \
             FILE. It holds `scenario = \"NAME\"` and options by their names; those on the command \
             line go over them.\n\n\
             Exit status: 0 all well; 1 the broker broke a promise (lost at QoS 1 or 2, \
             duplicated at QoS 2, out of order, ...), or compare found a regression; 2 bad \
             options or input; 3 the run failed",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(scenarios().map(|scenario| {
            // Last, because options that are flattened in bring a description of their own.
            (scenario.arguments)(Command::new(scenario.name)).about(scenario.about)
        }))
        .subcommand(
            CompareOptions::augment_args(Command::new(COMPARE))
                .about("Compares the reports of two brokers, versions or settings"),
        )
        .subcommand(
            ShowOptions::augment_args(Command::new(SHOW))
                .about("Shows a report again, as a table or as HTML"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Load;
    use ringmq::mqtt::{QoS, Version};
    use std::time::Duration;

    fn parse_words(words: &str) -> Result<Measurement, clap::Error> {
        let words = std::iter::once("ringmq-loadgen").chain(words.split_whitespace());
        match parse(words.map(OsString::from))? {
            Invocation::Measure(measurement) => Ok(*measurement),
            Invocation::Compare(_) | Invocation::Show(_) => panic!("it measures nothing"),
        }
    }

    fn complaint(words: &str) -> String {
        match parse_words(words) {
            Ok(_) => panic!("{words} was accepted"),
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "{words}");
                error.to_string()
            }
        }
    }

    #[test]
    fn defaults_make_a_run() {
        let invocation = parse_words("fanout").expect("everything has a default");
        assert_eq!(invocation.plan.load, Load::Open { rate_per_s: 100.0 });
        assert_eq!(invocation.plan.payload_bytes, 64);
        assert_eq!(invocation.plan.settings["rate"], 100.0);
    }

    #[test]
    fn help_describes_each_scenario() {
        for scenario in scenarios() {
            let command = command();
            let subcommand = command.find_subcommand(scenario.name).expect("it is in the table");
            assert_eq!(
                subcommand.get_about().map(ToString::to_string),
                Some(scenario.about.into())
            );
            assert!(subcommand.get_long_about().is_none());
        }
    }

    #[test]
    fn options_reach_the_plan_and_the_report() {
        let words = "fanout --broker localhost:1 --qos 2 --window 8 --payload 40 --duration 0.5 \
                     --json r.json --mqtt-version 3.1 --cores 2 --username u --password secret";
        let Measurement { plan, .. } = parse_words(words).expect("all good");
        assert_eq!(plan.load, Load::Closed { window_size: 8 });
        assert_eq!((plan.qos, plan.version), (QoS::ExactlyOnce, Version::V31));
        assert_eq!(plan.duration, Duration::from_millis(500));
        assert_eq!(plan.settings["mqtt_version"], "3.1");
        assert!(!plan.settings.to_string().contains("secret"));
    }

    #[test]
    fn bad_options_say_what_was_expected() {
        assert!(complaint("fanout --broker localhost").contains("HOST:PORT"));
        assert!(complaint("fanout --broker :1883").contains("HOST:PORT"));
        assert!(complaint("fanout --payload 39").contains("expected 40"));
        assert!(complaint("fanout --rate 0").contains("above 0"));
        assert!(complaint("fanout --rate nan").contains("above 0"));
        assert!(complaint("fanout --rate 5 --window 5").contains("cannot be used with"));
        assert!(complaint("fanout --window 0").contains("1..=65535"));
        assert!(complaint("fanout --qos 3").contains("0..=2"));
        assert!(complaint("fanout --duration 0").contains("at least"));
        assert!(complaint("fanout --client-prefix a/b").contains("a-z"));
        assert!(complaint("fanout --mqtt-version 4").contains("3.1.1"));
        assert!(complaint("nonsense").contains("nonsense"));
    }

    #[test]
    fn plans_too_large_for_memory_are_bad_options() {
        let words = "fanout --publishers 100000 --topics 10 --subscribers 1000";
        assert!(complaint(words).contains("use fewer"));
    }
}
