//! A hash table of small numbers whose keys are kept elsewhere, in eight bytes a slot.
//!
//! The holder of the keys hashes them and compares them. Each slot keeps half of the hash, so
//! that growing never touches the keys and few comparisons fail.

/// A set of `u32` numbers found by the hash of what each of them stands for.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Empty, or a power of two, at most three quarters used. An item lies at the first slot
    /// from its own on that was free: between its own slot and it there is no gap.
    slots: Box<[Slot]>,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the hash.
    tag: u32,
    number: u32,
}

/// The number that nothing may have.
const FREE: u32 = u32::MAX;
const EMPTY: Slot = Slot { tag: 0, number: FREE };
const SLOTS_MIN: usize = 4;

impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The number with this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let position = self.probe(tag, |slot| slot.tag == tag && is_it(slot.number))?;
        Some(self.slots[position].number)
    }

    /// Reads what a search for this hash begins with, so that it lies in a cache then.
    pub(super) fn fetch(&self, hash: u64) -> usize {
        let mask = self.slots.len().wrapping_sub(1);
        self.slots.get(tag(hash) as usize & mask).map_or(0, |slot| slot.number as usize)
    }

    /// The numbers that this hash may stand for; half of it is the same.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        let (tag, mask) = (tag(hash), self.slots.len().wrapping_sub(1));
        let from_own = (0..self.slots.len()).map(move |step| (tag as usize + step) & mask);
        let used = from_own.map(|position| self.slots[position]);
        let used = used.take_while(|slot| slot.number != FREE);
        used.filter(move |slot| slot.tag == tag).map(|slot| slot.number)
    }

    /// Adds a number that is not there with this hash.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        debug_assert!(number != FREE);
        if self.len() >= self.slots.len() / 4 * 3 {
            self.resize((self.slots.len() * 2).max(SLOTS_MIN));
        }
        self.len += 1;
        self.place(Slot { tag: tag(hash), number });
    }

    /// Takes out a number that is there.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let position = self.position(hash, number);
        self.close_gap(position);
        self.len -= 1;
        if self.len() < self.slots.len() / 8 && self.slots.len() > SLOTS_MIN {
            self.resize(self.slots.len() / 2);
        }
    }

    /// Puts `new` in the place of `old`, which is there and stands for the same.
    pub(super) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        let position = self.position(hash, old);
        self.slots[position].number = new;
    }

    /// Every number, in no order that matters.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().map(|slot| slot.number).filter(|number| *number != FREE)
    }

    /// Where a number is. It may be there with other hashes, too.
    fn position(&self, hash: u64, number: u32) -> usize {
        let tag = tag(hash);
        let position = self.probe(tag, |slot| slot.tag == tag && slot.number == number);
        position.expect("the number was inserted with this hash")
    }

    /// The first slot for which `is_it` holds, looking from the slot of `tag` to a free one.
    fn probe(&self, tag: u32, is_it: impl Fn(Slot) -> bool) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut position = tag as usize & mask;
        loop {
            let slot = self.slots[position];
            if slot.number == FREE {
                return None;
            }
            if is_it(slot) {
                return Some(position);
            }
            position = (position + 1) & mask;
        }
    }

    fn place(&mut self, new: Slot) {
        let mask = self.slots.len() - 1;
        let mut position = new.tag as usize & mask;
        while self.slots[position].number != FREE {
            position = (position + 1) & mask;
        }
        self.slots[position] = new;
    }

    /// Frees a slot, moving items behind it back so that none is cut off from its own slot.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut position = gap;
        loop {
            position = (position + 1) & mask;
            let slot = self.slots[position];
            if slot.number == FREE {
                break;
            }
            let from_own = position.wrapping_sub(slot.tag as usize) & mask;
            let from_gap = position.wrapping_sub(gap) & mask;
            if from_own >= from_gap {
                self.slots[gap] = slot;
                gap = position;
            }
        }
        self.slots[gap] = EMPTY;
    }

    fn resize(&mut self, slot_count: usize) {
        let fresh = vec![EMPTY; slot_count].into_boxed_slice();
        for slot in std::mem::replace(&mut self.slots, fresh) {
            if slot.number != FREE {
                self.place(slot);
            }
        }
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// A poor hash on purpose: neighbours collide and clusters wrap around.
    fn hash(number: u32) -> u64 {
        u64::from(u32::MAX - number / 3) << 32
    }

    fn holds(index: &Index, number: u32) -> bool {
        index.find(hash(number), |found| found == number).is_some()
    }

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(steps in prop::collection::vec(0_u32..40, 0..300)) {
            let mut index = Index::default();
            let mut model = HashSet::new();
            for number in steps {
                if model.remove(&number) {
                    index.remove(hash(number), number);
                } else {
                    model.insert(number);
                    index.insert(hash(number), number);
                }
                prop_assert_eq!(index.len(), model.len());
                prop_assert_eq!(index.iter().collect::<HashSet<_>>(), model.clone());
                for number in 0..40 {
                    let mut candidates = index.candidates(hash(number));
                    let is_candidate = candidates.any(|found| found == number);
                    prop_assert_eq!(is_candidate, model.contains(&number));
                    prop_assert_eq!(holds(&index, number), model.contains(&number));
                }
            }
        }
    }

    #[test]
    fn replacing_keeps_the_place() {
        let mut index = Index::default();
        index.insert(7 << 32, 1);
        index.insert(7 << 32, 2);
        index.replace(7 << 32, 1, 3);
        assert_eq!(index.find(7 << 32, |number| number != 2), Some(3));
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn a_number_may_have_several_hashes() {
        let mut index = Index::default();
        index.insert(3 << 32, 1);
        index.insert(7 << 32, 1); // in the same slot at first
        index.replace(7 << 32, 1, 2);
        assert_eq!(index.find(3 << 32, |_| true), Some(1));
        index.insert(7 << 32, 1);
        index.remove(7 << 32, 1);
        assert_eq!(index.find(3 << 32, |_| true), Some(1));
        assert_eq!(index.find(7 << 32, |_| true), Some(2));
    }

    #[test]
    fn it_shrinks_when_it_empties() {
        let mut index = Index::default();
        for number in 0..1000 {
            index.insert(u64::from(number) << 32, number);
        }
        for number in 0..1000 {
            index.remove(u64::from(number) << 32, number);
        }
        assert!(index.is_empty());
        assert_eq!(index.slots.len(), SLOTS_MIN);
    }
}
