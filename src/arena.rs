//! Items in chunks with small keys. Growing moves nothing and leaves no more than one chunk
//! unused, which a doubling vector of a million sessions or subscriptions would not do.

use std::num::NonZeroU32;

/// Names one item of an [`Arena`] until that item is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(NonZeroU32);

impl Key {
    /// Two bits less than a `u32`, so that a holder may add a mark of its own.
    const MAX: u32 = u32::MAX >> 2;

    #[inline]
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        NonZeroU32::new(bits).map(Self)
    }

    pub(crate) fn bits(self) -> u32 {
        self.0.get()
    }

    fn at(position: usize) -> Self {
        let number = u32::try_from(position + 1).ok().filter(|number| *number <= Self::MAX);
        Self::from_bits(number.expect("memory ends before the keys do")).expect("one was added")
    }

    #[inline]
    fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

const CHUNK: usize = 1024;

#[derive(Debug)]
enum Slot<T> {
    Used(T),
    Free { next: Option<Key> },
}

/// A growing store of items that gives each a [`Key`].
#[derive(Debug)]
pub(crate) struct Arena<T> {
    /// Every chunk but the last holds exactly [`CHUNK`] slots.
    chunks: Vec<Vec<Slot<T>>>,
    /// The slot freed last; each free slot names the one freed before it.
    free: Option<Key>,
    len: usize,
}

impl<T> Arena<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: None, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, item: T) -> Key {
        self.len += 1;
        let Some(key) = self.free else { return self.push(item) };
        let slot = self.slot_mut(key);
        let Slot::Free { next } = std::mem::replace(slot, Slot::Used(item)) else {
            unreachable!("the free list names only free slots");
        };
        self.free = next;
        key
    }

    /// Takes an item out; its key is given to another item later.
    pub(crate) fn remove(&mut self, key: Key) -> T {
        let next = self.free;
        let Slot::Used(item) = std::mem::replace(self.slot_mut(key), Slot::Free { next }) else {
            unreachable!("a key is removed once");
        };
        self.free = Some(key);
        self.len -= 1;
        item
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> &T {
        let position = key.position();
        match &self.chunks[position / CHUNK][position % CHUNK] {
            Slot::Used(item) => item,
            Slot::Free { .. } => unreachable!("nobody keeps the key of a removed item"),
        }
    }

    /// The item that has this key now, if one has.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<&T> {
        let position = key.position();
        match self.chunks.get(position / CHUNK)?.get(position % CHUNK)? {
            Slot::Used(item) => Some(item),
            Slot::Free { .. } => None,
        }
    }

    /// Every item with its key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.chunks.iter().flatten().enumerate().filter_map(|(position, slot)| match slot {
            Slot::Used(item) => Some((Key::at(position), item)),
            Slot::Free { .. } => None,
        })
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> &mut T {
        match self.slot_mut(key) {
            Slot::Used(item) => item,
            Slot::Free { .. } => unreachable!("nobody keeps the key of a removed item"),
        }
    }

    fn push(&mut self, item: T) -> Key {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(Slot::Used(item)),
            _ => {
                // The first chunk starts small; a table that fills it will likely fill the next.
                let room = if self.chunks.is_empty() { 1 } else { CHUNK };
                let mut chunk = Vec::with_capacity(room);
                chunk.push(Slot::Used(item));
                self.chunks.push(chunk);
            }
        }
        Key::at(self.len - 1) // every slot was used, hence the count is the position
    }

    #[inline]
    fn slot_mut(&mut self, key: Key) -> &mut Slot<T> {
        let position = key.position();
        &mut self.chunks[position / CHUNK][position % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn slots_cost_no_more_than_their_items() {
        assert_eq!(size_of::<Slot<Box<str>>>(), size_of::<Box<str>>());
        assert_eq!(size_of::<Option<Key>>(), 4);
    }

    #[test]
    fn keys_survive_growth_over_many_chunks() {
        let mut arena = Arena::new();
        let keys: Vec<_> = (0..5 * CHUNK).map(|number| arena.insert(number)).collect();
        for (number, key) in keys.into_iter().enumerate() {
            assert_eq!(*arena.get(key), number);
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec(any::<(bool, u8)>(), 0..99)) {
            let mut arena = Arena::new();
            let mut model: HashMap<u8, Key> = HashMap::new();
            for (add, number) in steps {
                match model.remove(&number) {
                    Some(key) => prop_assert_eq!(arena.remove(key), number),
                    None if add => drop(model.insert(number, arena.insert(number))),
                    None => {}
                }
                prop_assert_eq!(arena.len(), model.len());
                for (number, key) in &model {
                    prop_assert_eq!(arena.get(*key), number);
                    prop_assert_eq!(arena.find(*key), Some(number));
                }
                let held: HashMap<u8, Key> = arena.iter().map(|(key, one)| (*one, key)).collect();
                prop_assert_eq!(&held, &model);
            }
        }
    }
}
