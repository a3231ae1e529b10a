//! The command line: flags from the table of options, over a configuration file.

use crate::config::{Config, FileErrors, Kind, OptionRow, Section, Value, options};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// What the words on the command line ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the broker.
    Run(Box<Config>),
    /// Print this text and stop: help, version or the configuration.
    Print(String),
}

/// Why the words on the command line, or the file they name, cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    /// What was found and what was expected, for people.
    pub message: String,
    /// Exit status for the process.
    pub exit_code: u8,
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

const CONFIG: &str = "config";
const PRINT_CONFIG: &str = "print_config";

/// Exit status of a process that was started with wrong words.
const USAGE: u8 = 2;

/// Follows the words of a command line, of which the first is the program's name. A flag overrides
/// the configuration file, which overrides the default.
///
/// # Errors
/// [`CliError`] if a flag or the configuration file is not as expected.
pub fn parse<I, T>(words: I) -> Result<Action, CliError>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    match command().try_get_matches_from(words) {
        Ok(matches) => action(&matches),
        Err(error) if !error.use_stderr() => Ok(Action::Print(error.render().to_string())),
        Err(error) => Err(usage(error.render().to_string().trim_end().to_owned())),
    }
}

fn action(matches: &ArgMatches) -> Result<Action, CliError> {
    let mut config = Config::default();
    if let Some(path) = matches.get_one::<PathBuf>(CONFIG) {
        apply_file(&mut config, path)?;
    }
    for row in options() {
        if let Some(values) = matches.get_many::<Value>(row.name) {
            row.set(&mut config, &values.cloned().collect::<Vec<_>>());
        }
    }
    if matches.get_flag(PRINT_CONFIG) {
        return Ok(Action::Print(config.to_toml()));
    }
    Ok(Action::Run(Box::new(config)))
}

fn apply_file(config: &mut Config, path: &Path) -> Result<(), CliError> {
    let name = path.display();
    let source = fs::read_to_string(path)
        .map_err(|error| usage(format!("error: cannot read {name}: {error}")))?;
    let applied = config.apply_toml(&name.to_string(), &source);
    applied.map_err(|FileErrors(errors)| {
        let lines: Vec<String> = errors.iter().map(|error| format!("error: {error}")).collect();
        usage(lines.join("\n"))
    })
}

fn usage(message: String) -> CliError {
    CliError { message, exit_code: USAGE }
}

fn command() -> Command {
    let print_config = Arg::new(PRINT_CONFIG)
        .long("print-config")
        .action(ArgAction::SetTrue)
        .help("Print the configuration as a commented file, then exit");
    let config = Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Configuration file in TOML; flags go over it");
    Command::new("ringmq")
        .version(env!("RINGMQ_VERSION"))
        .about("An MQTT broker for Linux, one io_uring executor per core")
        .next_line_help(true)
        .args([config, print_config])
        .args(options().map(argument))
}

fn argument(row: &'static OptionRow) -> Arg {
    let kind = row.kind;
    let help = format!("{} [default: {}]", row.help(), row.default_text());
    let argument = Arg::new(row.name)
        .long(&*row.flag().leak()) // once per option and process: clap keeps names for ever
        .value_name(placeholder(kind))
        .value_parser(move |word: &str| kind.parse(word))
        .action(if row.repeatable { ArgAction::Append } else { ArgAction::Set })
        .allow_negative_numbers(true)
        .help(help);
    let argument = match row.section {
        Section::Top => argument,
        Section::Limits => argument.help_heading("Limits"),
    };
    match kind {
        Kind::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => argument,
    }
}

fn placeholder(kind: Kind) -> &'static str {
    match kind {
        Kind::Count { .. } => "N",
        Kind::Bytes { .. } => "SIZE",
        Kind::Seconds { .. } => "SECONDS",
        Kind::Switch => "BOOL",
        Kind::Level => "LEVEL",
        Kind::OneOf(_) => "WORD",
        Kind::Endpoint => "ADDR:PORT",
        Kind::Pin => "CPUS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;

    fn run(words: &[&str]) -> Config {
        match parse(std::iter::once(&"ringmq").chain(words)) {
            Ok(Action::Run(config)) => *config,
            other => panic!("{words:?} gave {other:?}"),
        }
    }

    fn print(words: &[&str]) -> String {
        match parse(std::iter::once(&"ringmq").chain(words)) {
            Ok(Action::Print(text)) => text,
            other => panic!("{words:?} gave {other:?}"),
        }
    }

    fn refuse(words: &[&str]) -> String {
        let error = parse(std::iter::once(&"ringmq").chain(words)).unwrap_err();
        assert_eq!(error.exit_code, 2);
        error.message
    }

    /// A file that is removed when the test ends.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
            fs::write(&path, text).unwrap();
            Self(path)
        }

        fn flag(&self) -> String {
            format!("--config={}", self.0.display())
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// Returns two values of a kind, at least one of which is not the default.
    fn words(kind: Kind) -> [String; 2] {
        match kind {
            Kind::Count { min, .. } | Kind::Bytes { min, .. } | Kind::Seconds { min, .. } => {
                [min.to_string(), (min + 1).to_string()]
            }
            Kind::Switch => ["true".into(), "false".into()],
            Kind::Level => ["trace".into(), "error".into()],
            Kind::OneOf(words) => [words[0].into(), words[1].into()],
            Kind::Endpoint => ["0.0.0.0:1".into(), "0.0.0.0:2".into()],
            Kind::Pin => ["off".into(), "0,3".into()],
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn no_words_give_the_defaults() {
        assert_eq!(run(&[]), Config::default());
    }

    #[test]
    fn every_option_can_be_set_by_flag() {
        for row in options() {
            for word in words(row.kind) {
                let config = run(&[&format!("--{}={word}", row.flag())]);
                assert_eq!(row.values(&config), [row.kind.parse(&word).unwrap()], "{}", row.name);
            }
        }
    }

    #[test]
    fn every_option_says_what_it_expected() {
        for row in options() {
            let message = refuse(&[&format!("--{}=?", row.flag())]);
            assert!(message.contains(&row.kind.expected()), "{message}");
            assert!(message.contains(&row.flag()), "{message}");
        }
    }

    #[test]
    fn every_option_is_in_the_help_with_its_default() {
        let help = print(&["--help"]);
        for row in options() {
            assert!(help.contains(&format!("--{}", row.flag())), "{}", row.name);
            assert!(help.contains(&format!("[default: {}]", row.default_text())), "{}", row.name);
        }
    }

    #[test]
    fn a_flag_goes_over_the_file_and_the_file_over_the_default() {
        let text = "cores = 3\nlog_level = 'warn'\nlisten = ['127.0.0.1:1', '127.0.0.1:2']\n";
        let file = File::new("precedence.toml", text);
        let config = run(&["--cores", "2", &file.flag(), "--listen", "[::1]:3"]);
        assert_eq!((config.cores, config.log_level), (Some(2), LogLevel::Warn));
        assert_eq!(config.listen, ["[::1]:3".parse().unwrap()]);
        assert_eq!(config.limits, Config::default().limits);
    }

    #[test]
    fn listen_may_be_repeated_and_others_may_not() {
        let config = run(&["--listen", "127.0.0.1:1", "--listen", "127.0.0.1:2"]);
        assert_eq!(config.listen.len(), 2);
        assert!(refuse(&["--cores", "1", "--cores", "2"]).contains("cannot be used multiple"));
    }

    #[test]
    fn a_switch_needs_no_value() {
        assert!(run(&["--queue-qos0-offline"]).limits.queue_qos0_offline);
        assert!(!run(&["--queue-qos0-offline=false"]).limits.queue_qos0_offline);
    }

    #[test]
    fn the_printed_configuration_is_a_file_that_gives_it_again() {
        let words = ["--cores=5", "--packet-bytes-max=64 KiB", "--print-config"];
        let file = File::new("printed.toml", &print(&words));
        assert_eq!(run(&[&file.flag()]), run(&words[..2]));
    }

    #[test]
    fn a_bad_file_is_named_with_line_and_column() {
        let file = File::new("bad.toml", "\ncores = 0\n");
        let expected = format!("{}:2:9: cores: expected a whole number", file.0.display());
        assert!(refuse(&[&file.flag()]).contains(&expected));
        assert!(refuse(&["--config=/nowhere/a.toml"]).contains("cannot read /nowhere/a.toml"));
    }

    #[test]
    fn slips_in_flags_get_a_suggestion() {
        assert!(refuse(&["--packet-byte-max=1"]).contains("--packet-bytes-max"));
        assert!(refuse(&["surplus"]).contains("unexpected argument 'surplus'"));
        assert!(refuse(&["--cores", "-1"]).contains("expected a whole number from 1 to 64"));
    }

    #[test]
    fn help_and_version_are_printed() {
        assert!(print(&["--help"]).contains("Usage: ringmq"));
        assert_eq!(print(&["--version"]), concat!("ringmq ", env!("RINGMQ_VERSION"), "\n"));
    }
}
