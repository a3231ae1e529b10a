//! Topic names and topic filters: parsed, hence valid.

use super::{DecodeError, Version};

/// How many bytes a topic may have.
const TOPIC_BYTES_MAX: usize = 65_535;

/// A topic name: no wildcard, no U+0000, 1 to 65,535 bytes. Empty only in a 5.0 PUBLISH whose
/// topic alias stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// The topic of a PUBLISH that has only a topic alias.
    pub const ALIASED: TopicName<'static> = TopicName("");

    /// # Errors
    /// If the text is empty, too long, or holds a wildcard or U+0000.
    #[inline]
    pub fn parse(text: &'a str) -> Result<Self, DecodeError> {
        if text.is_empty() {
            return Err(DecodeError::TopicEmpty); // [MQTT-4.7.3-1]
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(DecodeError::TopicTooLong); // [MQTT-4.7.3-3]
        }
        if has_forbidden(text.as_bytes()) {
            return Err(forbidden(text));
        }
        Ok(Self(text))
    }

    /// Wraps a topic that was parsed before, such as one that was stored; saves the scan.
    #[inline]
    pub fn from_validated(text: &'a str) -> Self {
        debug_assert!(text.is_empty() || Self::parse(text).is_ok(), "not a topic name: {text:?}");
        Self(text)
    }

    #[inline]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether a topic alias stands for the topic.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the topic belongs to the server's own tree, which leading wildcards do not match
    /// [MQTT-4.7.2-1].
    #[inline]
    pub fn starts_with_dollar(&self) -> bool {
        self.0.starts_with('$')
    }

    /// Whether the topic is `$SYS` or lies below it: what a server says of itself.
    #[inline]
    pub fn is_of_server(&self) -> bool {
        match self.0.as_bytes() {
            [b'$', rest @ ..] => rest == b"SYS" || rest.starts_with(b"SYS/"),
            _ => false,
        }
    }

    /// The parts between the slashes; at least one.
    pub fn levels(&self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }
}

/// Eight bytes at a time, and the last eight once more in place of a shorter rest.
#[inline]
fn has_forbidden(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|byte| matches!(byte, 0 | b'+' | b'#'));
    };
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(forbidden_in(*last), |marks, word| marks | forbidden_in(*word)) != 0
}

/// Marks wherever U+0000, `+` or `#` stands in eight bytes. The two wildcards differ in one bit,
/// which is left aside.
#[inline]
fn forbidden_in(word: [u8; 8]) -> u64 {
    const WILDCARDS: u64 = u64::from_ne_bytes([b'+' & b'#'; 8]);
    const DIFFERENCE: u64 = u64::from_ne_bytes([b'+' ^ b'#'; 8]);
    let word = u64::from_ne_bytes(word);
    zeros_in(word) | zeros_in((word & !DIFFERENCE) ^ WILDCARDS)
}

/// Marks at least one byte if any of eight is zero, and none if none is: a borrow reaches the
/// highest bit of a byte that had it clear only from a zero.
#[inline]
const fn zeros_in(word: u64) -> u64 {
    const LOWEST: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; 8]);
    word.wrapping_sub(LOWEST) & !word & HIGHEST
}

#[cold]
fn forbidden(text: &str) -> DecodeError {
    if text.as_bytes().contains(&0) {
        return DecodeError::Utf8Nul; // [MQTT-4.7.3-2]
    }
    DecodeError::TopicNameWildcard // [MQTT-3.3.2-2], [MQTT-4.7.0-1], 3.1.1: [MQTT-4.7.1-1]
}

/// A topic filter: `+` alone in a level, `#` alone and last, no U+0000, 1 to 65,535 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Parses what every version calls a filter; `$share/...` is not looked into.
    ///
    /// # Errors
    /// If the text is empty, too long, holds U+0000, or a wildcard stands where none may.
    pub fn parse(text: &'a str) -> Result<Self, DecodeError> {
        if text.is_empty() {
            return Err(DecodeError::TopicEmpty); // [MQTT-4.7.3-1]
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(DecodeError::TopicTooLong); // [MQTT-4.7.3-3]
        }
        if has_forbidden(text.as_bytes()) && !wildcards_are_placed_well(text.as_bytes()) {
            return Err(forbidden_in_filter(text));
        }
        Ok(Self(text))
    }

    /// Like [`TopicFilter::parse`]; 5.0 also wants `$share/` to be followed by a share name and
    /// a filter, which older versions take as ordinary levels.
    pub fn parse_for(version: Version, text: &'a str) -> Result<Self, DecodeError> {
        let filter = Self::parse(text)?;
        if version.is_v5() && text.starts_with(SHARE_PREFIX) && filter.shared().is_none() {
            return Err(DecodeError::SharedFilterMalformed); // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        }
        Ok(filter)
    }

    /// Wraps a filter that was parsed before, such as one that was stored; saves the scan.
    #[inline]
    pub fn from_validated(text: &'a str) -> Self {
        debug_assert!(Self::parse(text).is_ok(), "not a topic filter: {text:?}");
        Self(text)
    }

    #[inline]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether more than one topic can match.
    pub fn has_wildcard(&self) -> bool {
        has_forbidden(self.0.as_bytes())
    }

    /// The parts between the slashes; at least one.
    pub fn levels(&self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }

    /// Whether `topic` matches, level by level. Of a shared subscription ask
    /// [`SharedFilter::filter`].
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        if topic.starts_with_dollar() && self.0.starts_with(['+', '#']) {
            return false; // [MQTT-4.7.2-1]
        }
        let mut names = topic.levels();
        for level in self.levels() {
            match (level, names.next()) {
                ("#", _) => return true, // the parent level matches too
                ("+", Some(_)) => {}
                (level, Some(name)) if level == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// The parts of `$share/{group}/{filter}`, whatever the version; `None` for any other filter.
    pub fn shared(&self) -> Option<SharedFilter<'a>> {
        let (group, filter) = self.0.strip_prefix(SHARE_PREFIX)?.split_once('/')?;
        if group.is_empty() || group.contains(['+', '#']) || filter.is_empty() {
            return None; // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        }
        Some(SharedFilter { group, filter: Self(filter) })
    }
}

const SHARE_PREFIX: &str = "$share/";

#[cold]
fn forbidden_in_filter(text: &str) -> DecodeError {
    if text.as_bytes().contains(&0) {
        return DecodeError::Utf8Nul; // [MQTT-4.7.3-2]
    }
    DecodeError::TopicFilterWildcard // [MQTT-4.7.1-1], [MQTT-4.7.1-2]
}

/// Whether every wildcard is a level of its own, and there is no U+0000. Many bytes at a time,
/// where there is none of either.
fn wildcards_are_placed_well(bytes: &[u8]) -> bool {
    const CHUNK: usize = 64;
    bytes.chunks(CHUNK).enumerate().all(|(number, chunk)| {
        let start = number * CHUNK;
        !has_forbidden(chunk) || (start..start + chunk.len()).all(|at| is_placed_well(bytes, at))
    })
}

fn is_placed_well(bytes: &[u8], at: usize) -> bool {
    let is_first = || at == 0 || bytes[at - 1] == b'/';
    match bytes[at] {
        0 => false,
        b'+' => is_first() && bytes.get(at + 1).is_none_or(|next| *next == b'/'),
        b'#' => is_first() && at + 1 == bytes.len(),
        _ => true,
    }
}

/// A shared subscription: one member of `group` gets each publish that matches `filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedFilter<'a> {
    /// The share name: not empty, no `/`, no wildcard.
    pub group: &'a str,
    pub filter: TopicFilter<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).expect("a valid topic name")
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).expect("a valid topic filter")
    }

    #[test]
    fn names_that_are_valid() {
        for text in ["a", "/", "//", " ", "a b/c", "/finance", "$SYS/x", "é/\u{2a6d4}", "ACCOUNTS"]
        {
            assert_eq!(TopicName::parse(text).map(|name| name.as_str()), Ok(text)); // 4.7.3
        }
        assert!(name("$SYS").starts_with_dollar());
        for text in ["$SYS", "$SYS/", "$SYS/a/b"] {
            assert!(name(text).is_of_server(), "{text}");
        }
        for text in ["$", "$SY", "$SYSTEM", "$SYS2/a", "$sys/a", "SYS/a", "a/$SYS", "/$SYS"] {
            assert!(!name(text).is_of_server(), "{text}");
        }
        assert!(!name("a$").starts_with_dollar());
        assert!(TopicName::ALIASED.is_empty());
        assert_eq!(name("a//b").levels().collect::<Vec<_>>(), ["a", "", "b"]);
    }

    /// Eight bytes are looked at together: no neighbour may hide a byte, or be taken for another.
    #[test]
    fn every_byte_is_told_at_every_place() {
        for len in 1..=25 {
            for place in 0..len {
                for byte in 0..0x80 {
                    let mut text = vec![b'*'; len];
                    text[place] = byte;
                    let text = String::from_utf8(text).expect("ASCII");
                    let is_valid = !matches!(byte, 0 | b'+' | b'#');
                    assert_eq!(TopicName::parse(&text).is_ok(), is_valid, "{text:?}");
                }
            }
        }
        assert!(TopicName::parse("\u{ab}\u{a3}\u{80}\u{c0}\u{1f680}").is_ok());
    }

    #[test]
    fn names_that_are_not() {
        assert_eq!(TopicName::parse(""), Err(DecodeError::TopicEmpty)); // [MQTT-4.7.3-1]
        // [MQTT-3.3.2-2], [MQTT-4.7.1-1] of 3.1.1
        for text in ["+", "#", "a/+", "a/#", "a+", "#a", "sport/tennis#", "aaaaaaaaaaaaaaaaaaa+"] {
            assert_eq!(TopicName::parse(text), Err(DecodeError::TopicNameWildcard), "{text}");
        }
        for text in ["\0", "a\0", "+\0"] {
            assert_eq!(TopicName::parse(text), Err(DecodeError::Utf8Nul)); // [MQTT-4.7.3-2]
        }
        assert_eq!(DecodeError::TopicNameWildcard.reason() as u8, 0x81);
        // [MQTT-4.7.3-3]
        assert!(TopicName::parse(&"a".repeat(65_535)).is_ok());
        assert_eq!(TopicName::parse(&"a".repeat(65_536)), Err(DecodeError::TopicTooLong));
    }

    #[test]
    fn filters_that_are_valid() {
        for text in [
            "a",
            "/",
            "#",
            "+",
            "/+",
            "+/+",
            "+/#",
            "/#",
            "a/+/b",
            "a/#",
            "+/tennis/#",
            "//",
            " ",
            "$SYS/#",
            "$share",
            "$share/g/f",
            "$share/x",
            "$share/+/x",
        ] {
            assert_eq!(TopicFilter::parse(text).map(|filter| filter.as_str()), Ok(text));
        }
        assert!(filter("a/+").has_wildcard());
        assert!(filter("#").has_wildcard());
        assert!(!filter("a/b").has_wildcard());
        assert_eq!(filter("a/+/").levels().collect::<Vec<_>>(), ["a", "+", ""]);
    }

    #[test]
    fn wildcards_are_looked_at_wherever_they_stand() {
        for len in 0..150 {
            let name = "x".repeat(len);
            for valid in [format!("{name}/+"), format!("{name}/+/{name}"), format!("{name}/#")] {
                assert!(TopicFilter::parse(&valid).is_ok(), "{valid}");
            }
            for wrong in ["y+", "/+y", "/#/", "y#", "/#y", "/\0"] {
                let text = format!("+/{name}{wrong}");
                assert!(TopicFilter::parse(&text).is_err(), "{text:?}");
            }
        }
    }

    #[test]
    fn filters_that_are_not() {
        assert_eq!(TopicFilter::parse(""), Err(DecodeError::TopicEmpty)); // [MQTT-4.7.3-1]
        assert_eq!(TopicFilter::parse("a\0"), Err(DecodeError::Utf8Nul)); // [MQTT-4.7.3-2]
        // [MQTT-4.7.1-1], [MQTT-4.7.1-2], 3.1.1: [MQTT-4.7.1-2], [MQTT-4.7.1-3]
        for text in ["sport/tennis#", "sport/tennis/#/ranking", "#/", "##", "+#", "#+"] {
            assert_eq!(TopicFilter::parse(text), Err(DecodeError::TopicFilterWildcard), "{text}");
        }
        for text in ["sport+", "+sport", "a/b+/c", "++", "a/++"] {
            assert_eq!(TopicFilter::parse(text), Err(DecodeError::TopicFilterWildcard), "{text}");
        }
        assert_eq!(DecodeError::TopicFilterWildcard.reason() as u8, 0x81);
        // [MQTT-4.7.3-3]
        assert!(TopicFilter::parse(&"a".repeat(65_535)).is_ok());
        assert_eq!(TopicFilter::parse(&"a".repeat(65_536)), Err(DecodeError::TopicTooLong));
    }

    #[test]
    fn shared_subscriptions_are_taken_apart() {
        for (text, group, inner) in [
            ("$share/g/f", "g", "f"),
            ("$share/g/a/b", "g", "a/b"),
            ("$share/g/#", "g", "#"),
            ("$share/g//", "g", "/"),
            ("$share/g/$share/h/f", "g", "$share/h/f"),
        ] {
            let shared = filter(text).shared().expect("shared");
            assert_eq!((shared.group, shared.filter.as_str()), (group, inner));
            assert!(TopicFilter::parse_for(Version::V5, text).is_ok());
        }
        for text in ["f", "$share", "$SHARE/g/f", "/$share/g/f", "$shared/g/f", "+/g/f"] {
            assert_eq!(filter(text).shared(), None, "{text}");
            assert!(TopicFilter::parse_for(Version::V5, text).is_ok());
        }
    }

    #[test]
    fn shared_subscriptions_that_are_none() {
        // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        for text in [
            "$share/",
            "$share/x",
            "$share//",
            "$share//f",
            "$share/g/",
            "$share/+/f",
            "$share/#",
            "$share/+",
            "$share/+/+",
        ] {
            assert_eq!(filter(text).shared(), None, "{text}");
            let error = DecodeError::SharedFilterMalformed;
            assert_eq!(TopicFilter::parse_for(Version::V5, text), Err(error), "{text}");
            assert!(TopicFilter::parse_for(Version::V311, text).is_ok(), "{text}");
            assert!(TopicFilter::parse_for(Version::V31, text).is_ok(), "{text}");
        }
        for text in ["$share/g+/f", "$share/#/f", "$share/g#/f"] {
            let error = DecodeError::TopicFilterWildcard;
            assert_eq!(TopicFilter::parse_for(Version::V5, text), Err(error), "{text}");
        }
        assert_eq!(DecodeError::SharedFilterMalformed.reason() as u8, 0x81);
    }

    /// The examples of section 4.7, and some more.
    #[test]
    fn filters_match() {
        for (text, yes, no) in [
            (
                "sport/#",
                &["sport", "sport/", "sport/a/b"] as &[&str],
                &["sports", "a/sport"] as &[&str],
            ),
            (
                "sport/tennis/player1/#",
                &["sport/tennis/player1", "sport/tennis/player1/score/x"],
                &["sport/tennis/player2"],
            ),
            ("#", &["a", "/", "a/b", "/a"], &["$SYS", "$SYS/a"]), // [MQTT-4.7.2-1]
            ("sport/tennis/+", &["sport/tennis/player1"], &["sport/tennis/player1/ranking"]),
            ("sport/+", &["sport/"], &["sport", "sport/a/b"]),
            ("+/+", &["/finance", "a/b", "/"], &["finance", "$SYS/x"]), // [MQTT-4.7.2-1]
            ("/+", &["/finance"], &["finance", "/a/b"]),
            ("+", &["finance", " "], &["/finance", "$SYS"]),
            ("+/monitor/Clients", &["a/monitor/Clients"], &["$SYS/monitor/Clients"]),
            ("$SYS/#", &["$SYS", "$SYS/", "$SYS/a"], &["a/$SYS"]),
            ("$SYS/monitor/+", &["$SYS/monitor/Clients"], &["$SYS/monitor"]),
            ("a//b", &["a//b"], &["a/b", "a/x/b"]),
            ("a/+/b", &["a//b", "a/x/b"], &["a/b", "a/x/y/b"]),
            ("ACCOUNTS", &["ACCOUNTS"], &["Accounts"]), // 4.7.3: case matters
            ("a/b", &["a/b"], &["a", "a/b/", "a/b/c", "/a/b"]),
        ] {
            for topic in yes {
                assert!(filter(text).matches(name(topic)), "{text} {topic}");
            }
            for topic in no {
                assert!(!filter(text).matches(name(topic)), "{text} {topic}");
            }
        }
    }
}
