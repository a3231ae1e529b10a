//! Topics and filters seen as levels, without allocation.
//!
//! A position is the byte where a level starts. The position behind the last level is
//! `text.len() + 1`, one past the separator that would have to follow.

/// Whether a filter has a wildcard. A `+` or `#` may not be part of a longer level, so that
/// looking for the characters is enough [MQTT-4.7.1-1], [MQTT-4.7.1-2].
pub(super) fn has_wildcard(filter: &str) -> bool {
    let (words, rest) = filter.as_bytes().as_chunks::<WORD>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    words.into_iter().any(|word| has_byte(word, b'+') || has_byte(word, b'#'))
        || rest.iter().any(|byte| *byte == b'+' || *byte == b'#')
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
    let end = position(rest.as_bytes(), separator as u8).unwrap_or(rest.len());
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
    loop {
        // No topic has a wildcard in it: there they differ.
        let same = same_len(&filter[at..], &topic[topic_at..]);
        (at, topic_at) = (at + same, topic_at + same);
        match filter.get(at) {
            // A wildcard is a level of its own [MQTT-4.7.1-1], [MQTT-4.7.1-2].
            Some(b'#') => return true,
            Some(b'+') => {
                at += 1;
                topic_at += level_len(&topic[topic_at..]);
            }
            None => return topic_at == topic.len(),
            // The parent level of `#`, section 4.7.1.2, or nothing.
            Some(_) => return topic_at == topic.len() && &filter[at..] == b"/#",
        }
    }
}

/// Bytes of a word: this many are examined together.
const WORD: usize = 8;

/// How many bytes are the same at the beginning of both.
fn same_len(one: &[u8], other: &[u8]) -> usize {
    let many = same_chunks::<{ 4 * WORD }>(one, other);
    let len = many + same_chunks::<WORD>(&one[many..], &other[many..]);
    len + same_chunks::<1>(&one[len..], &other[len..])
}

/// The same, in chunks of `N` bytes.
fn same_chunks<const N: usize>(one: &[u8], other: &[u8]) -> usize {
    let chunks = one.as_chunks::<N>().0.iter().zip(other.as_chunks::<N>().0);
    chunks.take_while(|(one, other)| one == other).count() * N
}

/// Bytes in front of the first separator, or all.
fn level_len(text: &[u8]) -> usize {
    position(text, b'/').unwrap_or(text.len())
}

/// Where a byte is first.
fn position(text: &[u8], wanted: u8) -> Option<usize> {
    let has_it = |word: &[u8; WORD]| has_byte(u64::from_le_bytes(*word), wanted);
    let words = text.as_chunks::<WORD>().0.iter();
    let start = words.take_while(|word| !has_it(word)).count() * WORD;
    text[start..].iter().position(|byte| *byte == wanted).map(|at| start + at)
}

/// Whether one of the bytes of a word is `wanted`.
fn has_byte(word: u64, wanted: u8) -> bool {
    let difference = word ^ (LOWEST * u64::from(wanted));
    difference.wrapping_sub(LOWEST) & !difference & (LOWEST << 7) != 0
}

/// The lowest bit of every byte.
const LOWEST: u64 = 0x0101_0101_0101_0101;

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
        fn words_are_looked_at_as_their_bytes_are(text in "[a/+\u{e9}\u{af}]{0,90}") {
            let bytes = text.as_bytes();
            for wanted in [b'/', b'+', 0xa9, b'b'] {
                let expected = bytes.iter().position(|byte| *byte == wanted);
                prop_assert_eq!(position(bytes, wanted), expected);
            }
            prop_assert_eq!(has_wildcard(&text), text.contains('+'));
            for len in 0..bytes.len() {
                let mut other = bytes.to_vec();
                other[len] = b'x';
                prop_assert_eq!(same_len(bytes, &other), len);
            }
        }

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
