//! What a level of filters leads to, in as little memory as it takes.

use crate::arena::Key;

/// A [`Target`] packed into 32 bits, the kind in the two lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child(Key);

/// Where filters hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Node(Key),
    /// Two or more filters.
    Bucket(Key),
    /// One filter.
    Leaf(Key),
}

impl Child {
    pub(super) fn node(key: Key) -> Self {
        Self::pack(key, 0)
    }

    pub(super) fn bucket(key: Key) -> Self {
        Self::pack(key, 1)
    }

    pub(super) fn leaf(key: Key) -> Self {
        Self::pack(key, 2)
    }

    fn pack(key: Key, kind: u32) -> Self {
        Self(Key::from_bits(key.bits() << 2 | kind).expect("no key is zero"))
    }

    pub(super) fn key(self) -> Key {
        Key::from_bits(self.0.bits() >> 2).expect("no key is zero")
    }

    pub(super) fn target(self) -> Target {
        match self.0.bits() & 3 {
            0 => Target::Node(self.key()),
            1 => Target::Bucket(self.key()),
            _ => Target::Leaf(self.key()),
        }
    }

    pub(super) fn number(self) -> u32 {
        self.0.bits()
    }

    pub(super) fn from_number(number: u32) -> Self {
        Self(Key::from_bits(number).expect("it was a child"))
    }
}
