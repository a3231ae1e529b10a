//! The command line: one subcommand per scenario, and the options that all scenarios share.

mod scenario_file;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use ringmq::mqtt::{QoS, Version};
use serde::Serialize;

use crate::output::compare::CompareOptions;
use crate::output::{OutputOptions, ShowOptions};
use crate::plan::payload::{RunId, STAMP_BYTES};
use crate::plan::step::{Step, VisitPace};
use crate::plan::{Credentials, Load, Plan, by_name, random};
use crate::scenario::SCENARIOS;

const PAYLOAD_BYTES_MAX: usize = 16 << 20;
const SECONDS_MAX: f64 = 7.0 * 86_400.0;
const RATE_DEFAULT: f64 = 100.0;
const SOURCE_COUNT_MAX: u128 = 65_536;
const RATE_MAX: f64 = 10_000_000.0;

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

/// # Errors
/// Bad options, with what was expected; also `--help` and `--version`.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(with_file(arguments)?)?;
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    match name {
        COMPARE => return CompareOptions::from_arg_matches(matches).map(Invocation::Compare),
        SHOW => return ShowOptions::from_arg_matches(matches).map(Invocation::Show),
        _ => (),
    }
    let scenario = SCENARIOS
        .iter()
        .find(|scenario| scenario.name == name)
        .expect("clap accepts only the subcommands that come from this table");
    let plan = (scenario.plan)(matches)?;
    plan.check().map_err(|message| refuse(&message))?;
    let output = OutputOptions::from_arg_matches(innermost(matches))?;
    Ok(Invocation::Measure(Box::new(Measurement { plan, output })))
}

/// The command line with the words of a scenario file, if it begins with one.
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

/// A scenario may work on others, whose options stand behind their names.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| innermost(matches))
}

/// Options that make no sense together.
pub(crate) fn refuse(message: &str) -> clap::Error {
    command().error(clap::error::ErrorKind::ValueValidation, message)
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
        .subcommands(SCENARIOS.iter().map(|scenario| {
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

/// Options of every scenario, as they go into the report.
#[derive(Args, Serialize, Clone)]
pub(crate) struct RunOptions {
    /// The broker under test
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", value_parser = broker)]
    broker: String,
    /// Quality of service of publishes and subscriptions
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Seconds between two points of the plots, and of the live progress
    #[arg(long, value_name = "S", default_value = "1", value_parser = interval)]
    interval: f64,
    /// Executors, one thread each
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    cores: u32,
    /// Keep-alive of every client in seconds; 0 switches it off
    #[arg(long, value_name = "S", default_value_t = 60)]
    keep_alive: u16,
    /// Seconds that a client may take to connect and subscribe
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds_above_zero)]
    connect_timeout: f64,
    /// What client ids and topics begin with
    #[arg(long, value_name = "TEXT", default_value = "rlg", value_parser = prefix)]
    client_prefix: String,
    /// Connect from these addresses in turn, each of which has ports of its own: A,B,C or a range
    /// such as 127.0.0.2-127.0.0.20
    #[arg(long, value_name = "IPS", value_parser = source_ips)]
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ips: Option<SourceIps>,
    /// Measure so often; the report has all runs and how far they lie apart
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// The protocol to speak
    #[arg(long, value_name = "VERSION", value_enum, default_value_t = Protocol::V311)]
    mqtt_version: Protocol,
    /// User name of every client
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Password of every client
    #[arg(long, value_name = "TEXT", requires = "username")]
    #[serde(skip)]
    password: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    output: OutputOptions,
}

/// How fast messages are published, and how large they are.
#[derive(Args, Serialize, Clone)]
pub(crate) struct LoadOptions {
    /// Open loop: publishes per second in all, whatever the broker does [default: 100]
    #[arg(long, value_name = "R", conflicts_with = "window", value_parser = rate)]
    rate: Option<f64>,
    /// Closed loop instead: messages outstanding per publisher; one is outstanding until it has
    /// reached all subscribers (and, at QoS 1 and 2, is acknowledged)
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    window: Option<u32>,
    /// Bytes of a payload; the stamp that is measured by takes 40 of them
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = payload_bytes)]
    payload: usize,
    /// Seconds to wait for the last deliveries; what has not come by then is lost
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    drain: f64,
}

/// How long messages are published, for scenarios whose load has no end of its own.
#[derive(Args, Serialize, Clone)]
pub(crate) struct TimeOptions {
    /// Seconds to measure for
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds_above_zero)]
    duration: f64,
    /// Seconds of the same load before measuring
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    warmup: f64,
}

/// How fast clients come, for scenarios that measure that.
#[derive(Args, Serialize, Clone)]
pub(crate) struct VisitOptions {
    /// Open loop: clients that connect per second; without it as many as --at-once allows
    #[arg(long, value_name = "R", value_parser = rate)]
    connect_rate: Option<f64>,
    /// Clients that may be on their way at once; many brokers listen with a backlog of 100
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    at_once: u32,
}

impl VisitOptions {
    pub(crate) fn pace(&self) -> VisitPace {
        VisitPace { rate_per_s: self.connect_rate, at_once: self.at_once }
    }
}

/// Addresses of this machine.
#[derive(Serialize, Clone)]
struct SourceIps(Vec<IpAddr>);

#[derive(ValueEnum, Serialize, Clone, Copy)]
enum Protocol {
    #[value(name = "3.1")]
    #[serde(rename = "3.1")]
    V31,
    #[value(name = "3.1.1")]
    #[serde(rename = "3.1.1")]
    V311,
    #[value(name = "5", alias = "5.0")]
    #[serde(rename = "5")]
    V5,
}

impl RunOptions {
    /// A plan without clients, for a scenario to fill in.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            scenario: "",
            cast: String::new(),
            settings: serde_json::Value::Null,
            run: RunId::new(random()),
            broker: self.broker.clone(),
            version: match self.mqtt_version {
                Protocol::V31 => Version::V31,
                Protocol::V311 => Version::V311,
                Protocol::V5 => Version::V5,
            },
            credentials: self.credentials(),
            qos: QoS::try_from(self.qos).expect("clap allows 0 to 2"),
            publisher_count: 0,
            topics_per_publisher: 1,
            subscriber_count: 0,
            interest: |_, _| 0..0,
            filters: by_name,
            load: Load::Open { rate_per_s: RATE_DEFAULT },
            message_count: None,
            retain: false,
            live: true,
            crew: None,
            steps: vec![Step::Assemble, Step::Flow],
            group_size: 1,
            churn: None,
            incident: None,
            payload_bytes: STAMP_BYTES,
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            drain: Duration::ZERO,
            interval: Duration::from_secs_f64(self.interval),
            connect_timeout: Duration::from_secs_f64(self.connect_timeout),
            executor_count: self.cores,
            keep_alive_s: self.keep_alive,
            client_prefix: self.client_prefix.clone(),
            source_ips: self.source_ips.as_ref().map_or_else(Vec::new, |ips| ips.0.clone()),
            repeat_count: self.repeats,
            search: None,
        }
    }

    fn credentials(&self) -> Option<Credentials> {
        let username = self.username.clone()?;
        Some(Credentials { username, password: self.password.clone() })
    }
}

impl LoadOptions {
    /// Sets what these options say.
    pub(crate) fn load(&self, plan: Plan) -> Plan {
        Plan {
            load: match self.window {
                Some(window_size) => Load::Closed { window_size },
                None => Load::Open { rate_per_s: self.rate.unwrap_or(RATE_DEFAULT) },
            },
            payload_bytes: self.payload,
            drain: Duration::from_secs_f64(self.drain),
            ..plan
        }
    }

    /// With the default of the load, which is not one option alone.
    pub(crate) fn completed(mut self) -> Self {
        if self.window.is_none() {
            self.rate = self.rate.or(Some(RATE_DEFAULT));
        }
        self
    }
}

impl TimeOptions {
    /// Sets what these options say.
    pub(crate) fn times(&self, plan: Plan) -> Plan {
        Plan {
            warmup: Duration::from_secs_f64(self.warmup),
            duration: Duration::from_secs_f64(self.duration),
            ..plan
        }
    }
}

fn broker(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT, as in localhost:1883 or [::1]:1883".to_owned()),
    }
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|rate| *rate > 0.0 && *rate <= RATE_MAX)
        .ok_or_else(|| format!("expected publishes per second, above 0 and up to {RATE_MAX}"))
}

pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
        .ok_or_else(|| format!("expected seconds, 0 to {SECONDS_MAX}"))
}

/// A part of the whole.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let expected = || "expected a share, 0 to 1".to_owned();
    number(text).filter(|share| (0.0..=1.0).contains(share)).ok_or_else(expected)
}

pub(crate) fn seconds_above_zero(text: &str) -> Result<f64, String> {
    let expected = || format!("expected seconds, at least 0.001 and up to {SECONDS_MAX}");
    seconds(text).ok().filter(|seconds| *seconds >= 0.001).ok_or_else(expected)
}

fn interval(text: &str) -> Result<f64, String> {
    let expected = || "expected seconds, 0.1 to 3600".to_owned();
    seconds(text).ok().filter(|seconds| (0.1..=3600.0).contains(seconds)).ok_or_else(expected)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|bytes| (STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(bytes))
        .ok_or_else(|| format!("expected {STAMP_BYTES} (the stamp) to {PAYLOAD_BYTES_MAX} bytes"))
}

fn source_ips(text: &str) -> Result<SourceIps, String> {
    let mut ips = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => ips.extend(range(ip(first)?, ip(last)?)?),
            None => ips.push(ip(part)?),
        }
    }
    Ok(SourceIps(ips))
}

fn ip(text: &str) -> Result<IpAddr, String> {
    let expected = "expected addresses: 127.0.0.2,127.0.0.3 or 127.0.0.2-127.0.0.20";
    text.trim().parse().map_err(|_| expected.to_owned())
}

/// All addresses from `first` to `last`.
fn range(first: IpAddr, last: IpAddr) -> Result<Vec<IpAddr>, String> {
    let (from, to) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits().into(), last.to_bits().into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits()),
        _ => return Err("both ends of a range must be IPv4 or IPv6".to_owned()),
    };
    if from > to || to - from >= SOURCE_COUNT_MAX {
        return Err(format!(
            "expected a range that ascends, of up to {SOURCE_COUNT_MAX} addresses"
        ));
    }
    let at = |bits: u128| match first {
        IpAddr::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    };
    Ok((from..=to).map(at).collect())
}

fn prefix(text: &str) -> Result<String, String> {
    let sound = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if !text.is_empty() && text.len() <= 200 && text.chars().all(sound) {
        return Ok(text.to_owned());
    }
    Err("expected 1 to 200 of the characters a-z A-Z 0-9 - _ .".to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn parse_words(words: &str) -> Result<Measurement, clap::Error> {
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
        for scenario in SCENARIOS {
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
    fn source_addresses_are_listed_or_ranges() {
        let ips = |text| source_ips(text).map(|ips| ips.0.len());
        assert_eq!(ips("127.0.0.2"), Ok(1));
        assert_eq!(ips("127.0.0.2,127.0.0.9"), Ok(2));
        assert_eq!(ips("127.0.0.250-127.0.1.5,::1"), Ok(13));
        assert_eq!(ips("fd00::1-fd00::ff"), Ok(255));
        for bad in ["", "localhost", "127.0.0.9-127.0.0.2", "0.0.0.0-9.9.9.9", "::1-1.2.3.4"] {
            assert!(ips(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn plans_too_large_for_memory_are_bad_options() {
        let words = "fanout --publishers 100000 --topics 10 --subscribers 1000";
        assert!(complaint(words).contains("use fewer"));
    }
}
