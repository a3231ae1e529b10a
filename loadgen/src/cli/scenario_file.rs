//! A scenario in a TOML file: the words of a command line, one option a line.
//!
//! ```toml
//! scenario = "fanout"
//! subscribers = 1000
//! rate = 50
//! qos = 1
//! ```
//!
//! Options are called what they are called on the command line, with `_` or `-`; options of
//! the command line override those of the file. The file becomes words, so that options are checked
//! in one place, but errors are reported with their line.

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::path::Path;

use clap::Command;
use clap::error::ErrorKind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Options of which only one can be given: the command line's overrides the other of the file.
const EXCLUSIVE: &[(&str, &str)] = &[("rate", "window")];

/// Turns the file into words, followed by `flags`. `command` is the whole command line.
///
/// # Errors
/// What is wrong, with file and line, and what was expected.
pub(crate) fn words(
    file: &Path,
    flags: &[OsString],
    command: &Command,
) -> Result<Vec<OsString>, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    let options = options(&text, flags, command)
        .map_err(|Complaint { at, what }| format!("{name}:{}: {what}", line(&text, at)))?;
    Ok(options.into_iter().map(OsString::from).chain(flags.iter().cloned()).collect())
}

struct Complaint {
    /// Where in the file, in bytes.
    at: usize,
    what: String,
}

fn complaint(span: Range<usize>, what: impl Into<String>) -> Complaint {
    Complaint { at: span.start, what: what.into() }
}

fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn options(text: &str, flags: &[OsString], command: &Command) -> Result<Vec<String>, Complaint> {
    let table = DeTable::parse(text)
        .map_err(|error| complaint(error.span().unwrap_or(0..0), error.message().to_owned()))?;
    let table = table.into_inner();
    let (mut words, command) = scenario(&table, command)?;
    for (key, value) in &table {
        let option = key.get_ref().replace('_', "-");
        if option == "scenario" || is_replaced(&option, flags) {
            continue;
        }
        if let Some(word) = word(key, &option, value, command)? {
            check(&word, value.span(), command)?;
            words.push(word);
        }
    }
    Ok(words)
}

/// Finds the scenario and its command: `"fanout"`, or `"find-max fanout"`.
fn scenario<'a>(
    table: &DeTable<'_>,
    command: &'a Command,
) -> Result<(Vec<String>, &'a Command), Complaint> {
    let expected = |command: &Command| {
        let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        format!("expected `scenario = \"NAME\"`, NAME being one of {}", names.join(", "))
    };
    let Some(value) = table.get("scenario") else {
        return Err(complaint(0..0, expected(command)));
    };
    let DeValue::String(name) = value.get_ref() else {
        return Err(complaint(value.span(), expected(command)));
    };
    let (mut words, mut command) = (vec![command.get_name().to_owned()], command);
    for word in name.split_whitespace() {
        let found = command.find_subcommand(word);
        command = found.ok_or_else(|| complaint(value.span(), expected(command)))?;
        words.push(word.to_owned());
    }
    if words.len() == 1 || command.is_subcommand_required_set() {
        return Err(complaint(value.span(), expected(command)));
    }
    Ok((words, command))
}

/// Whether the command line has an option in place of this one.
fn is_replaced(option: &str, flags: &[OsString]) -> bool {
    let given = |name: &str| {
        let flag = format!("--{name}");
        flags.iter().filter_map(|word| word.to_str()).any(|word| {
            word == flag || word.strip_prefix(&flag).is_some_and(|rest| rest.starts_with('='))
        })
    };
    let excludes = |&(one, other): &(&str, &str)| {
        (option == one && given(other)) || (option == other && given(one))
    };
    given(option) || EXCLUSIVE.iter().any(excludes)
}

/// Turns an option into a word; none for a flag that is off.
fn word(
    key: &Spanned<std::borrow::Cow<'_, str>>,
    option: &str,
    value: &Spanned<DeValue<'_>>,
    command: &Command,
) -> Result<Option<String>, Complaint> {
    let known: Vec<&str> = command.get_arguments().filter_map(|it| it.get_long()).collect();
    if !known.contains(&option) {
        let names = known.iter().map(|name| name.replace('-', "_")).collect::<Vec<_>>();
        return Err(complaint(
            key.span(),
            format!("unknown option `{}`, expected one of {}", key.get_ref(), names.join(", ")),
        ));
    }
    match value.get_ref() {
        DeValue::Boolean(on) => Ok(on.then(|| format!("--{option}"))),
        value_ref => match scalar(value_ref) {
            Some(text) => Ok(Some(format!("--{option}={text}"))),
            None => Err(complaint(
                value.span(),
                format!("`{}` takes a string, a number, true or a list of these", key.get_ref()),
            )),
        },
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Array(list) => {
            let items: Option<Vec<String>> = list.iter().map(|it| scalar(it.get_ref())).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}

/// Judges one option alone, as the command line would.
fn check(word: &str, span: Range<usize>, command: &Command) -> Result<(), Complaint> {
    let words = [command.get_name(), word];
    let Err(error) = command.clone().try_get_matches_from(words) else {
        return Ok(());
    };
    match error.kind() {
        // It wants others beside it, which may be there.
        ErrorKind::MissingRequiredArgument | ErrorKind::MissingSubcommand => Ok(()),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let hint = text.lines().find(|line| line.contains("possible values"));
            let what = first.trim_start_matches("error: ");
            Err(complaint(span, format!("{what}{}", hint.unwrap_or_default())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    fn parse(text: &str, flags: &str) -> Result<String, (usize, String)> {
        let flags: Vec<OsString> = flags.split_whitespace().map(OsString::from).collect();
        options(text, &flags, &command())
            .map(|words| words[1..].join(" "))
            .map_err(|Complaint { at, what }| (line(text, at), what))
    }

    #[test]
    fn a_file_becomes_words() {
        let text = "# a comment\nscenario = \"fanout\"\nsubscribers = 7\nrate = 2.5\n\
                    connect_timeout = 3\nclient-prefix = \"x\"\n\
                    source_ips = [\"127.0.0.2\", \"::1\"]\n";
        let words = parse(text, "").expect("all good");
        for word in [
            "fanout",
            "--subscribers=7",
            "--rate=2.5",
            "--connect-timeout=3",
            "--client-prefix=x",
            "--source-ips=127.0.0.2,::1",
        ] {
            assert!(words.split(' ').any(|it| it == word), "{word} is not in {words}");
        }
    }

    #[test]
    fn flags_are_on_or_off_and_scenarios_may_work_on_others() {
        let on = parse("scenario = \"sessions\"\nkeep = true\n", "");
        assert_eq!(on.as_deref(), Ok("sessions --keep"));
        let off = parse("scenario = \"sessions\"\nkeep = false\n", "");
        assert_eq!(off.as_deref(), Ok("sessions"));
        let search = parse("scenario = \"find-max pairs\"\nobjective = 2\npairs = 3\n", "");
        assert_eq!(search.as_deref(), Ok("find-max pairs --objective=2 --pairs=3"));
    }

    #[test]
    fn the_command_line_goes_over_the_file() {
        let text = "scenario = \"fanout\"\nrate = 5\nqos = 1\n";
        assert_eq!(parse(text, "--qos 2").as_deref(), Ok("fanout --rate=5"));
        assert_eq!(parse(text, "--window=3").as_deref(), Ok("fanout --qos=1"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_was_expected() {
        for (text, line, expected) in [
            ("subscribers = 1\n", 1, "expected `scenario = \"NAME\"`"),
            ("scenario = \"nonsense\"\n", 1, "one of fanout"),
            ("scenario = \"find-max\"\n", 1, "one of fanout"),
            ("scenario = \"fanout\"\n\nsubscriber = 5\n", 3, "expected one of publishers"),
            ("scenario = \"fanout\"\nqos = 3\n", 2, "0..=2"),
            ("scenario = \"fanout\"\nrate = true\n", 2, "value is required"),
            ("scenario = \"fanout\"\nrate = \"fast\"\n", 2, "publishes per second"),
            ("scenario = \"fanout\"\nmqtt_version = 4\n", 2, "3.1.1"),
            ("scenario = \"sessions\"\nkeep = \"yes\"\n", 2, "unexpected value"),
            ("scenario = \"fanout\"\n[limits]\nqos = 1\n", 2, "unknown option `limits`"),
            ("scenario = \"fanout\"\nqos = = 1\n", 2, ""),
        ] {
            let (at, what) = parse(text, "").expect_err(text);
            assert!(at == line && what.contains(expected), "{text}: line {at}: {what}");
        }
    }
}
