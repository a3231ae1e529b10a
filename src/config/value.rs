//! The kinds of values an option may have: how each is read from a word, what is expected, and
//! how it is written back.

use super::{Endpoint, LogLevel, Pin};
use std::fmt;

/// What an option takes. Ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How many of something.
    Count { min: u64, max: u64 },
    /// A size in bytes, also written as `"64 KiB"`, `"1 MiB"` or `"2 GiB"`.
    Bytes { min: u64, max: u64 },
    /// A duration in seconds.
    Seconds { min: u64, max: u64 },
    /// Yes or no.
    Switch,
    /// A [`LogLevel`] by name.
    Level,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An [`Endpoint`].
    Endpoint,
    /// A [`Pin`].
    Pin,
}

/// A value that its [`Kind`] allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Count`] or [`Kind::Seconds`].
    Number(u64),
    /// Of [`Kind::Bytes`].
    Bytes(u64),
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of [`Kind::Level`].
    Level(LogLevel),
    /// Of [`Kind::OneOf`].
    Word(&'static str),
    /// Of [`Kind::Endpoint`].
    Endpoint(Endpoint),
    /// Of [`Kind::Pin`].
    Pin(Pin),
}

/// A word that is no value of its kind, with what was expected instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    expected: String,
}

impl Kind {
    /// Reads one value, as typed on a command line.
    ///
    /// # Errors
    /// [`ValueError`] if the word has another form or lies out of range.
    pub fn parse(self, word: &str) -> Result<Value, ValueError> {
        let value = match self {
            Self::Count { .. } | Self::Seconds { .. } => word.parse().ok().map(Value::Number),
            Self::Bytes { .. } => parse_bytes(word).map(Value::Bytes),
            Self::Switch => word.parse().ok().map(Value::Switch),
            Self::Level => LogLevel::ALL.into_iter().find(|l| l.name() == word).map(Value::Level),
            Self::OneOf(words) => words.iter().find(|w| **w == word).map(|w| Value::Word(w)),
            Self::Endpoint => word.parse().ok().map(Value::Endpoint),
            Self::Pin => word.parse().ok().map(Value::Pin),
        };
        value.filter(|value| self.allows(value)).ok_or_else(|| self.error())
    }

    /// What a value of this kind looks like, to follow the word "expected".
    pub fn expected(self) -> String {
        match self {
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Bytes { min, max } => format!(
                "a size from {} to {}, such as 65536 or \"64 KiB\"",
                with_unit(min),
                with_unit(max)
            ),
            Self::Seconds { min, max } => {
                format!("a whole number of seconds from {min} to {max}")
            }
            Self::Switch => "true or false".to_owned(),
            Self::Level => format!("one of {}", LogLevel::ALL.map(LogLevel::name).join(", ")),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Endpoint => "an address and a port, such as 127.0.0.1:1883, [::1]:1883, \
                               localhost:1883, or :1883 for every address"
                .to_owned(),
            Self::Pin => "auto, off, or a list of CPUs such as 0-3,8".to_owned(),
        }
    }

    pub(super) fn error(self) -> ValueError {
        ValueError { expected: self.expected() }
    }

    fn allows(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Count { min, max } | Self::Seconds { min, max }, Value::Number(n))
            | (Self::Bytes { min, max }, Value::Bytes(n)) => (min..=max).contains(n),
            _ => true,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => f.write_str(&with_unit(*bytes)),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Level(level) => write!(f, "{level}"),
            Self::Word(word) => f.write_str(word),
            Self::Endpoint(endpoint) => write!(f, "{endpoint}"),
            Self::Pin(pin) => write!(f, "{pin}"),
        }
    }
}

impl Value {
    /// The value as TOML.
    pub(super) fn to_toml(&self) -> String {
        match self {
            Self::Number(_) | Self::Switch(_) => self.to_string(),
            Self::Bytes(_) | Self::Level(_) | Self::Word(_) | Self::Endpoint(_) | Self::Pin(_) => {
                format!("\"{self}\"")
            }
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for ValueError {}

/// Units of a size, largest first. Powers of 1024 only, since "MB" means two things.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

fn parse_bytes(word: &str) -> Option<u64> {
    let digits_end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at(digits_end);
    let number: u64 = digits.parse().ok()?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(factor)
}

/// The size with the largest unit that leaves a whole number.
fn with_unit(bytes: u64) -> String {
    let fits = |factor: u64| bytes >= factor && bytes.is_multiple_of(factor);
    match UNITS.into_iter().find(|(_, factor)| fits(*factor)) {
        Some((unit, factor)) => format!("{} {unit}", bytes / factor),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: Kind = Kind::Bytes { min: 0, max: u64::MAX };

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (word, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("7 B", 7),
            ("64KiB", 65_536),
            ("64  KiB", 65_536),
            ("1 MiB", 1 << 20),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(BYTES.parse(word), Ok(Value::Bytes(bytes)), "{word}");
        }
    }

    #[test]
    fn words_that_are_no_sizes_are_refused() {
        for word in ["", "MiB", "-1", "1.5 MiB", "1 MB", "1 mib", "1 MiB ", "99999999999 GiB"] {
            assert_eq!(BYTES.parse(word), Err(BYTES.error()), "{word}");
        }
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for bytes in [0, 1, 1023, 1024, 1025, 1 << 20, 3 << 29, 1 << 30, 5 << 30] {
            assert_eq!(BYTES.parse(&with_unit(bytes)), Ok(Value::Bytes(bytes)));
        }
        assert_eq!([with_unit(1 << 20), with_unit(1025)], ["1 MiB", "1025 B"]);
    }

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        let kind = Kind::Count { min: 2, max: 4 };
        let taken = |word| kind.parse(word).is_ok();
        assert_eq!(["1", "2", "4", "5"].map(taken), [false, true, true, false]);
    }

    #[test]
    fn an_error_says_what_was_expected() {
        let error = |kind: Kind| kind.parse("?").unwrap_err().to_string();
        assert_eq!(error(Kind::Switch), "expected true or false");
        assert_eq!(error(Kind::Level), "expected one of error, warn, info, debug, trace");
        assert_eq!(error(Kind::Count { min: 1, max: 64 }), "expected a whole number from 1 to 64");
        assert_eq!(
            error(Kind::Bytes { min: 16, max: 1 << 20 }),
            "expected a size from 16 B to 1 MiB, such as 65536 or \"64 KiB\""
        );
        assert!(error(Kind::Endpoint).contains("127.0.0.1:1883"));
        assert!(error(Kind::Seconds { min: 0, max: 9 }).contains("seconds from 0 to 9"));
    }
}
