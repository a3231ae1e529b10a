//! Topics and filters seen as levels, without allocation.
//!
//! A position is the byte where a level starts. The position behind the last level is
//! `text.len() + 1`, one past the separator that would have to follow.

/// Whether a filter has a wildcard. A `+` or `#` may not be part of a longer level, so that
/// looking for the characters is enough [MQTT-4.7.1-1], [MQTT-4.7.1-2].
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

/// Whether `filter` matches `topic`.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let starts_with_wildcard = filter.starts_with(['+', '#']);
    !(starts_with_wildcard && is_hidden(topic)) && rest_matches(filter, topic)
}

/// Whether `filter` matches `topic` as far as they are given: from the same level of each on, or
/// what follows that, empty or beginning with its separator. The rule about `$` is the caller's.
pub(super) fn rest_matches(filter: &str, topic: &str) -> bool {
    let (filter, topic) = (filter.as_bytes(), topic.as_bytes());
    let (mut at, mut topic_at) = (0, 0);
    while let Some(wanted) = filter.get(at) {
        match wanted {
            // A wildcard is a level of its own [MQTT-4.7.1-1], [MQTT-4.7.1-2].
            b'#' => return true,
            b'+' => {
                let rest = &topic[topic_at..];
                topic_at += rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            }
            _ if topic.get(topic_at) == Some(wanted) => topic_at += 1,
            // The parent level of `#`, section 4.7.1.2, or nothing.
            _ => return topic_at == topic.len() && &filter[at..] == b"/#",
        }
        at += 1;
    }
    topic_at == topic.len()
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_walked_level_by_level() {
        let (text, mut start, mut levels) = ("/a//bc/", 0, Vec::new());
        while let Some(level) = level_at(text, start) {
            levels.push(level);
            start = after(start, level);
        }
        assert_eq!(levels, ["", "a", "", "bc", ""]);
    }

    proptest! {
        #[test]
        fn a_filter_matches_as_the_specification_says(
            filter in naive::filter(), topic in naive::topic(),
        ) {
            prop_assert_eq!(matches(&filter, &topic), naive::matches(&filter, &topic));
        }

        #[test]
        fn the_rest_matches_as_the_specification_says(
            filter in naive::filter(), topic in naive::topic(), ended in any::<[bool; 2]>(),
        ) {
            // As much of them as may follow one level that matches.
            let rest = |text: &str, ended| if ended { String::new() } else { format!("/{text}") };
            let (filter, topic) = (rest(&filter, ended[0]), rest(&topic, ended[1]));
            let wanted = naive::matches(&format!("x{filter}"), &format!("x{topic}"));
            prop_assert_eq!(rest_matches(&filter, &topic), wanted);
        }
    }
}
