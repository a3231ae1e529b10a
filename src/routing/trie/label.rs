//! The names of levels at the nodes.

/// A level, in place if it is short: a match compares one at each node, where following a
/// pointer would cost as much as everything else there.
#[derive(Debug)]
pub(super) enum Label {
    Short(u8, [u8; Self::SHORT_MAX]),
    Long(Box<str>),
}

impl Label {
    const SHORT_MAX: usize = 22;

    pub(super) fn new(level: &str) -> Self {
        if level.len() > Self::SHORT_MAX {
            return Self::Long(level.into());
        }
        let mut bytes = [0; Self::SHORT_MAX];
        bytes[..level.len()].copy_from_slice(level.as_bytes());
        Self::Short(level.len() as u8, bytes)
    }

    pub(super) fn is(&self, level: &str) -> bool {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)] == level.as_bytes(),
            Self::Long(text) => **text == *level,
        }
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::new("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_any_length_are_compared_as_a_whole() {
        let levels: Vec<_> = [0, 1, 21, 22, 23, 40].map(|len| "x".repeat(len)).to_vec();
        for level in &levels {
            for other in &levels {
                assert_eq!(Label::new(level).is(other), level == other);
            }
        }
    }
}
