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

    /// The parts between the slashes; at least one.
    pub fn levels(&self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }
}

#[inline]
fn has_forbidden(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, &byte| found | matches!(byte, 0 | b'+' | b'#'))
}

#[cold]
fn forbidden(text: &str) -> DecodeError {
    if text.as_bytes().contains(&0) {
        return DecodeError::Utf8Nul; // [MQTT-4.7.3-2]
    }
    DecodeError::TopicNameWildcard // [MQTT-3.3.2-2], [MQTT-4.7.1-1]
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
        if text.as_bytes().contains(&0) {
            return Err(DecodeError::Utf8Nul); // [MQTT-4.7.3-2]
        }
        if !wildcards_are_placed_well(text) {
            return Err(DecodeError::TopicFilterWildcard); // [MQTT-4.7.1-1], [MQTT-4.7.1-2]
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

    #[inline]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether more than one topic can match.
    pub fn has_wildcard(&self) -> bool {
        self.0.bytes().any(|byte| matches!(byte, b'+' | b'#'))
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

fn wildcards_are_placed_well(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let well_placed = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            other => !other.contains(['+', '#']),
        };
        if !well_placed {
            return false;
        }
    }
    true
}

/// A shared subscription: one member of `group` gets each publish that matches `filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedFilter<'a> {
    /// The share name: not empty, no `/`, no wildcard.
    pub group: &'a str,
    pub filter: TopicFilter<'a>,
}
