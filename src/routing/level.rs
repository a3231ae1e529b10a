//! Topics and filters seen as levels, without allocation.
//!
//! A position is the byte where a level starts. The position behind the last level is
//! `text.len() + 1`, one past the separator that would have to follow.

/// Whether a filter has a wildcard. A `+` or `#` may not be part of a longer level, so that
/// looking for the characters is enough [MQTT-4.7.1-2] [MQTT-4.7.1-3].
pub(super) fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// Whether wildcards in the first level of a filter must not match the topic.
pub(super) fn is_hidden(topic: &str) -> bool {
    topic.starts_with('$') // [MQTT-4.7.2-1]
}

/// The level of `text` that starts at `start`; `None` behind the last one.
pub(super) fn level_at(text: &str, start: usize) -> Option<&str> {
    level_before('/', text, start)
}

/// [`level_at`] for a text whose levels are separated by another ASCII character.
pub(super) fn level_before(separator: char, text: &str, start: usize) -> Option<&str> {
    let rest = text.get(start..)?;
    let end = rest.bytes().position(|byte| char::from(byte) == separator).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// Where the level after `level`, which starts at `start`, starts itself.
pub(super) fn after(start: usize, level: &str) -> usize {
    start + level.len() + 1
}

/// Whether the levels of `filter` from `filter_start` match those of `topic` from
/// `topic_start`. The rule about `$` is the caller's.
pub(super) fn rest_matches(
    filter: &str,
    mut filter_start: usize,
    topic: &str,
    mut topic_start: usize,
) -> bool {
    loop {
        match (level_at(filter, filter_start), level_at(topic, topic_start)) {
            (Some("#"), _) => return true, // or nothing: the parent level, section 4.7.1.2
            (None, None) => return true,
            (Some(wanted), Some(level)) if wanted == "+" || wanted == level => {
                filter_start = after(filter_start, wanted);
                topic_start = after(topic_start, level);
            }
            _ => return false,
        }
    }
}
