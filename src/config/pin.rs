//! On which CPUs executors stay.

use std::fmt;
use std::str::FromStr;

/// Whether an executor stays on one CPU, and on which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// `auto`: each on a CPU of its own, unless other programs are to have a part of the CPUs.
    #[default]
    Auto,
    /// `off`: the system moves them as it likes.
    Off,
    /// `0-3,8`: on these, in this order.
    List(Vec<usize>),
}

/// The word is no [`Pin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPin;

/// The largest number of a CPU that Linux can be built for.
const CPU_MAX: usize = 8191;

impl FromStr for Pin {
    type Err = NoPin;

    fn from_str(word: &str) -> Result<Self, NoPin> {
        match word {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            list => cpus(list).map(Self::List).ok_or(NoPin),
        }
    }
}

/// The CPUs of a list such as `0-3,8`, each of them once.
fn cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || (first..=last).any(|cpu| cpus.contains(&cpu)) {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn number(digits: &str) -> Option<usize> {
    digits.parse().ok().filter(|cpu| *cpu <= CPU_MAX)
}

impl fmt::Display for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => out.write_str("auto"),
            Self::Off => out.write_str("off"),
            Self::List(cpus) => {
                let words: Vec<String> = cpus.iter().map(ToString::to_string).collect();
                out.write_str(&words.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_and_written_back() {
        for (word, pin) in [
            ("auto", Pin::Auto),
            ("off", Pin::Off),
            ("7", Pin::List(vec![7])),
            ("8,0-2", Pin::List(vec![8, 0, 1, 2])),
        ] {
            assert_eq!(word.parse(), Ok(pin.clone()));
            assert_eq!(pin.to_string().parse(), Ok(pin));
        }
    }

    #[test]
    fn other_words_are_none() {
        for word in ["", "on", "1-", "3-1", "1,1", "0-2,1", "9999", "1, 2", "-1"] {
            assert_eq!(word.parse::<Pin>(), Err(NoPin), "{word}");
        }
    }
}
