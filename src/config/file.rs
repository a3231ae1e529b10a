//! The configuration file: TOML in, with errors that name line and column; commented TOML out.

use super::{Config, OptionRow, Section, Value, options};
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a configuration file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Name of the file, as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message } = self;
        write!(f, "{file}:{line}:{column}: {message}")
    }
}

impl std::error::Error for FileError {}

/// All that is wrong with a configuration file, in its order; a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileErrors(pub Vec<FileError>);

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for FileErrors {}

/// The keys of one table with their values, in the order of the file.
type Entry<'a> = (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>);

/// A complaint about a part of the text.
struct Fault {
    span: Range<usize>,
    message: String,
}

impl Config {
    /// Changes what the TOML text `source` names. `file` is its name for error messages.
    ///
    /// # Errors
    /// [`FileErrors`]: the first syntax error, or every unknown key, wrong type and value out of
    /// range.
    pub fn apply_toml(&mut self, file: &str, source: &str) -> Result<(), FileErrors> {
        let faults = match parse(source) {
            Ok(document) => self.apply_top(&document),
            Err(fault) => vec![fault],
        };
        if faults.is_empty() {
            return Ok(());
        }
        Err(FileErrors(faults.into_iter().map(|fault| fault.locate(file, source)).collect()))
    }

    /// The configuration as TOML that [`Self::apply_toml`] takes, each key with its meaning,
    /// range and default.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = Section::Top;
        for row in options() {
            if row.section != section {
                section = row.section;
                text.push_str("[limits]\n");
            }
            text.push_str(&row_toml(row, &row.values(self)));
        }
        text
    }

    fn apply_top(&mut self, document: &DeTable<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, value) in in_file_order(document) {
            match value.get_ref() {
                DeValue::Table(limits) if *key.get_ref() == "limits" => {
                    for entry in in_file_order(limits) {
                        faults.extend(self.apply_entry(Section::Limits, entry));
                    }
                }
                _ => faults.extend(self.apply_entry(Section::Top, (key, value))),
            }
        }
        faults
    }

    /// What is wrong with one key and its values, which are set if nothing is.
    fn apply_entry(&mut self, section: Section, (key, value): Entry<'_>) -> Vec<Fault> {
        let name = key.get_ref();
        if let Some(row) = options().find(|row| row.section == section && row.name == name) {
            return match read_values(row, value) {
                Ok(values) => {
                    row.set(self, &values);
                    Vec::new()
                }
                Err(faults) => faults,
            };
        }
        let message = format!("{}: {}", name, unknown_key(section, name));
        vec![Fault { span: key.span(), message }]
    }
}

fn parse(source: &str) -> Result<DeTable<'_>, Fault> {
    DeTable::parse(source).map(Spanned::into_inner).map_err(|error| Fault {
        span: error.span().unwrap_or(0..0),
        message: format!("not TOML: {}", error.message()),
    })
}

fn in_file_order<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The values of a key: one, or a list of them if the option is repeatable.
fn read_values(row: &OptionRow, value: &Spanned<DeValue<'_>>) -> Result<Vec<Value>, Vec<Fault>> {
    let items = match value.get_ref() {
        DeValue::Array(list) if row.repeatable && !list.is_empty() => list.iter().collect(),
        _ => vec![value],
    };
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for item in items {
        match read_value(row, item) {
            Ok(value) => values.push(value),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

fn read_value(row: &OptionRow, value: &Spanned<DeValue<'_>>) -> Result<Value, Fault> {
    let parsed = word(row, value.get_ref()).map(|word| row.kind.parse(&word));
    if let Some(Ok(value)) = parsed {
        return Ok(value);
    }
    let found = describe(value.get_ref());
    let list = if row.repeatable { ", or a list of these" } else { "" };
    let message = format!("{}: {}{list}; found {found}", row.name, row.kind.error());
    Err(Fault { span: value.span(), message })
}

/// The value as a word to parse, if its TOML type suits the option.
fn word(row: &OptionRow, value: &DeValue<'_>) -> Option<String> {
    use super::Kind::{Bytes, Count, Endpoint, Level, OneOf, Pin, Seconds, Switch};
    match (row.kind, value) {
        (Count { .. } | Seconds { .. } | Bytes { .. } | Endpoint, DeValue::Integer(number)) => {
            let number = u64::from_str_radix(number.as_str(), number.radix());
            number.ok().map(|number| number.to_string())
        }
        (Switch, DeValue::Boolean(on)) => Some(on.to_string()),
        (Bytes { .. } | Level | OneOf(_) | Endpoint | Pin, DeValue::String(text)) => {
            Some(text.to_string())
        }
        _ => None,
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the float {number}"),
        DeValue::Boolean(on) => format!("the boolean {on}"),
        DeValue::Datetime(time) => format!("the date {time}"),
        DeValue::Array(list) if list.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// What to say about a key that `section` does not have.
fn unknown_key(section: Section, name: &str) -> String {
    if name == "limits" && section == Section::Top {
        return "expected a table, [limits]".to_owned();
    }
    match options().find(|row| row.name == name).map(|row| row.section) {
        Some(Section::Limits) => return "expected in the table [limits]".to_owned(),
        Some(Section::Top) => return "expected before the table [limits]".to_owned(),
        None => {}
    }
    let known = options().filter(|row| row.section == section).map(|row| row.name);
    let tables = (section == Section::Top).then_some("limits");
    let known: Vec<_> = known.chain(tables).collect();
    match nearest(name, &known) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; expected one of {}", known.join(", ")),
    }
}

/// The known name that takes the fewest edits, if that is few enough to be a slip.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let (edits, near) = known.iter().map(|known| (edit_distance(name, known), *known)).min()?;
    (edits <= (name.len() / 3).max(2)).then_some(near)
}

/// Insertions, deletions and replacements of characters that turn `from` into `to`.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, from) in from.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column].min(diagonal) + 1);
        }
    }
    row[to.len()]
}

impl Fault {
    fn locate(self, file: &str, source: &str) -> FileError {
        let before = source.get(..self.span.start).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        FileError {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: self.message,
        }
    }
}

fn row_toml(row: &OptionRow, values: &[Value]) -> String {
    let name = row.name;
    let line = match values {
        [] => format!("# {name} ="),
        [value] if !row.repeatable => format!("{name} = {}", value.to_toml()),
        values => {
            let items: Vec<_> = values.iter().map(Value::to_toml).collect();
            format!("{name} = [{}]", items.join(", "))
        }
    };
    let (kind, default) = (row.kind.expected(), row.default_text());
    format!("# {}\n# Takes {kind}. Default: {default}.\n{line}\n\n", row.help())
}

#[cfg(test)]
mod tests {
    use super::super::{Endpoint, Kind, LogLevel, Pin};
    use super::*;
    use proptest::prelude::*;

    fn read(source: &str) -> Result<Config, String> {
        let mut config = Config::default();
        config.apply_toml("a.toml", source).map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn in_section(row: &OptionRow, line: &str) -> String {
        let table = if row.section == Section::Limits { "[limits]\n" } else { "" };
        format!("{table}{line}\n")
    }

    /// A value that is not the default.
    fn unusual(row: &OptionRow) -> Value {
        let words = match row.kind {
            Kind::Count { min, .. } | Kind::Bytes { min, .. } | Kind::Seconds { min, .. } => {
                [min.to_string(), (min + 1).to_string()]
            }
            Kind::Switch => ["true".into(), "false".into()],
            Kind::Level => ["trace".into(), "error".into()],
            Kind::OneOf(words) => [words[0].into(), words[1].into()],
            Kind::Endpoint => ["0.0.0.0:1".into(), "0.0.0.0:2".into()],
            Kind::Pin => ["off".into(), "0,3".into()],
        };
        let values = words.map(|word| row.kind.parse(&word).unwrap());
        let default = row.values(&Config::default());
        values.into_iter().find(|value| default != [value.clone()]).unwrap()
    }

    #[test]
    fn an_empty_file_changes_nothing() {
        assert_eq!(read(""), Ok(Config::default()));
        assert_eq!(read("# nothing\n[limits]\n"), Ok(Config::default()));
    }

    #[test]
    fn every_option_can_be_set() {
        for row in options() {
            let value = unusual(row);
            let line = format!("{} = {}", row.name, value.to_toml());
            let config = read(&in_section(row, &line)).unwrap();
            assert_eq!(row.values(&config), [value], "{line}");
        }
    }

    #[test]
    fn every_option_refuses_a_wrong_type_at_its_place() {
        for row in options() {
            let line = format!("{} = 1979-05-27", row.name);
            let error = read(&in_section(row, &line)).unwrap_err();
            let at_line = if row.section == Section::Limits { 2 } else { 1 };
            let place = format!("a.toml:{at_line}:{}: {}: ", row.name.len() + 4, row.name);
            assert!(error.starts_with(&place), "{error} does not start with {place}");
            assert!(error.contains(&row.kind.expected()), "{error}");
            assert!(error.ends_with("found the date 1979-05-27"), "{error}");
        }
    }

    #[test]
    fn every_number_refuses_what_is_out_of_range() {
        for row in options() {
            let (Kind::Count { min, max } | Kind::Seconds { min, max } | Kind::Bytes { min, max }) =
                row.kind
            else {
                continue;
            };
            for number in [i128::from(min) - 1, i128::from(max) + 1] {
                let error = read(&in_section(row, &format!("{} = {number}", row.name)));
                let found = format!("found the integer {number}");
                assert!(error.unwrap_err().ends_with(&found), "{} {number}", row.name);
            }
        }
    }

    #[test]
    fn several_keys_are_read_together() {
        let config = read(
            "listen = [\"127.0.0.1:1883\", \"[::1]:1883\"]\nlog_level = 'warn'\ncores = 2\n\
             limits.queue_qos0_offline = true\nlimits.packet_bytes_max = 0x1_00\n",
        );
        let config = config.unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!((config.log_level, config.cores), (LogLevel::Warn, Some(2)));
        assert_eq!(config.limits.packet_bytes_max, 256);
        assert!(config.limits.queue_qos0_offline);
    }

    #[test]
    fn errors_name_place_and_remedy() {
        let listen = "expected an address and a port, such as 127.0.0.1:1883, [::1]:1883, \
                      localhost:1883, or :1883 for every address, or a list of these";
        for (source, expected) in [
            ("corse = 2", "1:1: corse: unknown key; did you mean cores?".to_owned()),
            (
                "\n\n[limits]\n  pakcet_bytes_max = 2",
                "4:3: pakcet_bytes_max: unknown key; did you mean packet_bytes_max?".to_owned(),
            ),
            ("[limit]", "1:2: limit: unknown key; did you mean limits?".to_owned()),
            (
                "storage = 1",
                "1:1: storage: unknown key; expected one of listen, cores, pin, log_level, limits"
                    .to_owned(),
            ),
            (
                "inflight_count_max = 1",
                "1:1: inflight_count_max: expected in the table [limits]".to_owned(),
            ),
            ("[limits]\ncores = 1", "2:1: cores: expected before the table [limits]".to_owned()),
            ("limits = 1", "1:1: limits: expected a table, [limits]".to_owned()),
            (
                "cores = 65",
                "1:9: cores: expected a whole number from 1 to 64; found the integer 65".to_owned(),
            ),
            ("listen = []", format!("1:10: listen: {listen}; found an empty list")),
            (
                "listen = ['[::1]:1', 'é', 'localhost:1']",
                format!("1:22: listen: {listen}; found the string \"é\""),
            ),
            ("listen = ['[::1]:1',\n ['a']]", format!("2:2: listen: {listen}; found a list")),
            (
                "[limits]\nqueue_bytes_max = '1 MB'",
                "2:19: queue_bytes_max: expected a size from 1 KiB to 1024 GiB, \
                 such as 65536 or \"64 KiB\"; found the string \"1 MB\""
                    .to_owned(),
            ),
        ] {
            assert_eq!(read(source), Err(format!("a.toml:{expected}")), "{source}");
        }
    }

    #[test]
    fn every_fault_in_the_file_is_named_in_its_order() {
        let source = "zebra = 1\nlisten = ['a', ':1', 'b']\n[limits]\naardvark = 2\ncores = 1\n";
        let error = read(source).unwrap_err();
        let places: Vec<&str> =
            error.lines().map(|line| line.split(": ").next().unwrap()).collect();
        let expected = ["a.toml:1:1", "a.toml:2:11", "a.toml:2:22", "a.toml:4:1", "a.toml:5:1"];
        assert_eq!(places, expected, "{error}");
    }

    #[test]
    fn text_that_is_not_toml_is_refused_with_its_place() {
        for (source, place) in
            [("cores = \n", "a.toml:1:"), ("a = 1\ncores = 1\ncores = 2", "a.toml:3:1: not TOML")]
        {
            let error = read(source).unwrap_err();
            assert!(error.starts_with(place) && error.contains("not TOML"), "{error}");
        }
    }

    #[test]
    fn the_printed_reference_names_every_option_with_its_meaning() {
        let text = Config::default().to_toml();
        for row in options() {
            assert!(text.contains(&format!("{} =", row.name)), "{}", row.name);
            assert!(text.contains(row.help()), "{}", row.name);
        }
        assert!(text.contains("# cores =\n"));
        assert!(text.contains("packet_bytes_max = \"1 MiB\"\n"));
    }

    #[test]
    fn edit_distance_counts_edits() {
        let cases = [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)];
        for (from, to, edits) in cases {
            assert_eq!(edit_distance(from, to), edits, "{from} {to}");
            assert_eq!(edit_distance(to, from), edits, "{to} {from}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(seeds in prop::collection::vec(any::<u64>(), 99)) {
            let mut config = Config::default();
            for (row, seed) in options().zip(&seeds) {
                let value = match row.kind {
                    Kind::Count { min, max } | Kind::Seconds { min, max } =>
                        Value::Number(min + seed % (max - min + 1)),
                    Kind::Bytes { min, max } => Value::Bytes(min + seed % (max - min + 1)),
                    Kind::Switch => Value::Switch(seed % 2 == 0),
                    Kind::Level => Value::Level(LogLevel::ALL[(seed % 5) as usize]),
                    Kind::OneOf(words) => Value::Word(words[*seed as usize % words.len()]),
                    Kind::Endpoint => Value::Endpoint(Endpoint::Every(*seed as u16)),
                    Kind::Pin => Value::Pin(Pin::List(vec![*seed as usize % 64])),
                };
                row.set(&mut config, &[value]);
            }
            prop_assert_eq!(read(&config.to_toml()), Ok(config));
        }

        #[test]
        fn no_text_makes_it_panic(source in "\\PC{0,40}|[a-z_]{1,9} ?= ?[\\[\\]'0-9a-z, -]{0,9}") {
            let _ = read(&source);
        }
    }
}
