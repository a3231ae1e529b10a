//! A hash table of small numbers whose keys are kept elsewhere, in eight bytes a slot.
//!
//! The holder of the keys hashes them and compares them. Each slot keeps half of the hash, so
//! that growing never touches the keys and few comparisons fail. A table that has become large is
//! divided into many, each of which grows for itself: no insert moves more than one of them. These
//! are filled more, and grow in small steps, for there are large ones of millions alone.

/// A set of numbers, none of them 0, found by the hash of what each of them stands for.
#[derive(Debug)]
pub(crate) enum Index {
    Whole(Table),
    Divided(Box<Parts>),
}

/// A table with more numbers is divided, unless it is the last of [`DEPTH_MAX`].
const TABLE_LEN_MAX: usize = 6 * 1024;
/// With fewer numbers the parts are joined again.
const PARTS_LEN_MIN: usize = TABLE_LEN_MAX / 8;
const PART_BITS: u32 = 8;
const PART_COUNT: usize = 1 << PART_BITS;
/// What a part begins with: room for half as many again as it gets.
const PART_SLOTS: usize = TABLE_LEN_MAX / PART_COUNT / 2 * 3;
/// A table within this many others is not divided: all bits of a tag have told parts.
const DEPTH_MAX: u32 = u32::BITS / PART_BITS;

/// The tables into which one was divided.
#[derive(Debug)]
pub(crate) struct Parts {
    /// By some bits of a tag: the lowest ones, and the next ones where a part is divided.
    parts: [Index; PART_COUNT],
    len: usize,
}

/// One table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Empty, or with one that is free. An item lies at the first slot from its own on that was
    /// free: between its own slot and it there is no gap.
    slots: Box<[Slot]>,
    len: u32,
}

/// The upper half of a hash above a number, so that memory that is zero has free slots.
type Slot = u64;

const FREE: Slot = 0;
const SLOTS_MIN: usize = 4;

impl Default for Index {
    fn default() -> Self {
        Self::Whole(Table::default())
    }
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(table) => table.len as usize,
            Self::Divided(parts) => parts.len,
        }
    }

    /// The number with this hash for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let table = self.table(tag);
        let position = table.probe(tag, |slot| tag_of(slot) == tag && is_it(number_of(slot)))?;
        Some(number_of(table.slots[position]))
    }

    /// Reads what a search for this hash begins with, so that it lies in a cache then.
    #[inline]
    pub(crate) fn fetch(&self, hash: u64) -> usize {
        let tag = tag(hash);
        let table = self.table(tag);
        table.slots.get(table.own(tag)).map_or(0, |slot| number_of(*slot) as usize)
    }

    /// The numbers that this hash may stand for; half of it is the same.
    #[inline]
    pub(crate) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        let tag = tag(hash);
        let table = self.table(tag);
        let (before, from_own) = table.slots.split_at(table.own(tag));
        let used = from_own.iter().chain(before).copied().take_while(|slot| *slot != FREE);
        used.filter(move |slot| tag_of(*slot) == tag).map(number_of)
    }

    /// Adds a number that is not there with this hash.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        debug_assert!(number != 0);
        self.add(tag(hash), number, 0);
    }

    /// Takes out a number that is there.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        self.take(tag(hash), number, 0);
    }

    /// Puts `new` in the place of `old`, which is there and stands for the same.
    pub(crate) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        let (mut index, tag, mut depth) = (self, tag(hash), 0);
        while let Self::Divided(parts) = index {
            index = &mut parts.parts[place(tag, depth)];
            depth += 1;
        }
        if let Self::Whole(table) = index {
            let position = table.position(tag, old);
            table.slots[position] = slot(tag, new);
        }
    }

    /// Every number, in no order that matters.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::Whole(table) => Box::new(table.used().map(number_of)),
            Self::Divided(parts) => Box::new(parts.parts.iter().flat_map(Self::iter)),
        }
    }

    /// The table that has what has this tag.
    #[inline]
    fn table(&self, tag: u32) -> &Table {
        let (mut index, mut depth) = (self, 0);
        loop {
            match index {
                Self::Whole(table) => return table,
                Self::Divided(parts) => index = &parts.parts[place(tag, depth)],
            }
            depth += 1;
        }
    }

    fn add(&mut self, tag: u32, number: u32, depth: u32) {
        match self {
            Self::Whole(table) if table.len as usize == TABLE_LEN_MAX && depth < DEPTH_MAX => {
                *self = Self::Divided(Parts::of(table, depth));
                self.add(tag, number, depth);
            }
            Self::Whole(table) => table.insert(tag, number, depth > 0),
            Self::Divided(parts) => {
                parts.len += 1;
                parts.parts[place(tag, depth)].add(tag, number, depth + 1);
            }
        }
    }

    fn take(&mut self, tag: u32, number: u32, depth: u32) {
        match self {
            Self::Whole(table) => table.remove(tag, number),
            Self::Divided(parts) => {
                parts.len -= 1;
                parts.parts[place(tag, depth)].take(tag, number, depth + 1);
                if parts.len < PARTS_LEN_MIN {
                    *self = Self::Whole(parts.join(depth > 0));
                }
            }
        }
    }
}

impl Parts {
    /// Those of a table at this depth.
    fn of(table: &Table, depth: u32) -> Box<Self> {
        let parts = std::array::from_fn(|_| Index::Whole(Table::with_slots(PART_SLOTS)));
        let mut all = Box::new(Self { parts, len: table.len as usize });
        for slot in table.used() {
            let tag = tag_of(slot);
            all.parts[place(tag, depth)].add(tag, number_of(slot), DEPTH_MAX);
        }
        all
    }

    /// One table of all that there is; none of the parts is divided when there is so little.
    fn join(&self, is_part: bool) -> Table {
        let mut joined = Table::default();
        for part in &self.parts {
            let Index::Whole(table) = part else { continue };
            table.used().for_each(|slot| joined.insert(tag_of(slot), number_of(slot), is_part));
        }
        joined
    }
}

impl Table {
    fn with_slots(count: usize) -> Self {
        Self { slots: vec![FREE; count].into(), len: 0 }
    }

    fn insert(&mut self, tag: u32, number: u32, is_part: bool) {
        let (len, count) = (self.len as usize, self.slots.len());
        if is_part && len >= count / 8 * 7 {
            self.resize(count + count / 16 / 4 * 4 + SLOTS_MIN);
        } else if !is_part && len >= count / 4 * 3 {
            self.resize((count * 2).max(SLOTS_MIN));
        }
        self.len += 1;
        self.place(slot(tag, number));
    }

    fn remove(&mut self, tag: u32, number: u32) {
        let position = self.position(tag, number);
        self.close_gap(position);
        self.len -= 1;
        if (self.len as usize) < self.slots.len() / 8 && self.slots.len() > SLOTS_MIN {
            self.resize(self.slots.len() / 2);
        }
    }

    fn used(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().copied().filter(|slot| *slot != FREE)
    }

    /// Where a number is. It may be there with other tags, too.
    fn position(&self, tag: u32, number: u32) -> usize {
        let wanted = slot(tag, number);
        self.probe(tag, |slot| slot == wanted).expect("the number was inserted with this hash")
    }

    /// The first slot for which `is_it` holds, looking from the slot of `tag` to a free one.
    #[inline]
    fn probe(&self, tag: u32, is_it: impl Fn(Slot) -> bool) -> Option<usize> {
        let mut position = self.own(tag);
        loop {
            let slot = *self.slots.get(position)?; // There is none in an empty table.
            if slot == FREE {
                return None;
            }
            if is_it(slot) {
                return Some(position);
            }
            position = self.after(position);
        }
    }

    fn place(&mut self, new: Slot) {
        let mut position = self.own(tag_of(new));
        while self.slots[position] != FREE {
            position = self.after(position);
        }
        self.slots[position] = new;
    }

    /// The slot of a tag: tags and slots have the same order.
    #[inline]
    fn own(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, position: usize) -> usize {
        if position + 1 == self.slots.len() { 0 } else { position + 1 }
    }

    /// How many slots further one is.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }

    /// Frees a slot, moving items behind it back so that none is cut off from its own slot.
    fn close_gap(&mut self, mut gap: usize) {
        let mut position = gap;
        loop {
            position = self.after(position);
            let slot = self.slots[position];
            if slot == FREE {
                break;
            }
            let from_own = self.distance(self.own(tag_of(slot)), position);
            if from_own >= self.distance(gap, position) {
                self.slots[gap] = slot;
                gap = position;
            }
        }
        self.slots[gap] = FREE;
    }

    fn resize(&mut self, slot_count: usize) {
        let fresh = vec![FREE; slot_count].into_boxed_slice();
        for slot in std::mem::replace(&mut self.slots, fresh) {
            if slot != FREE {
                self.place(slot);
            }
        }
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The part that has a tag, of those into which a table at this depth was divided.
fn place(tag: u32, depth: u32) -> usize {
    (tag >> (depth * PART_BITS)) as usize % PART_COUNT
}

fn slot(tag: u32, number: u32) -> Slot {
    Slot::from(tag) << 32 | Slot::from(number)
}

fn tag_of(slot: Slot) -> u32 {
    (slot >> 32) as u32
}

fn number_of(slot: Slot) -> u32 {
    slot as u32
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

    /// A better one.
    fn spread(number: u32) -> u64 {
        u64::from(number.wrapping_mul(0x9E37_79B1)) << 32
    }

    fn holds(index: &Index, number: u32) -> bool {
        index.find(hash(number), |found| found == number).is_some()
    }

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(steps in prop::collection::vec(1_u32..40, 0..300)) {
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
                for number in 1..40 {
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
        for number in 1..1000 {
            index.insert(u64::from(number) << 32, number);
        }
        for number in 1..1000 {
            index.remove(u64::from(number) << 32, number);
        }
        assert!(index.is_empty());
        assert!(matches!(index, Index::Whole(table) if table.slots.len() == SLOTS_MIN));
    }

    #[test]
    fn a_large_one_is_divided_and_joined_again() {
        let (mut index, count) = (Index::default(), 100_000);
        for number in 1..=count {
            index.insert(spread(number), number);
        }
        assert!(matches!(index, Index::Divided(_)));
        assert_eq!(index.len(), count as usize);
        assert_eq!(index.iter().collect::<HashSet<_>>(), (1..=count).collect());
        for number in (1..=count).step_by(2) {
            index.replace(spread(number), number, number + count);
        }
        let at = |number: u32| number + if number % 2 == 1 { count } else { 0 };
        for number in 1..=count {
            let (hash, number) = (spread(number), at(number));
            assert_eq!(index.find(hash, |_| true), Some(number));
            assert_eq!(index.candidates(hash).collect::<Vec<_>>(), [number]);
            assert_ne!(index.fetch(hash), 0);
        }
        for number in 3..=count {
            index.remove(spread(number), at(number));
            assert_eq!(index.find(spread(number), |_| true), None);
        }
        assert!(matches!(index, Index::Whole(_)));
        assert_eq!(index.iter().collect::<HashSet<_>>(), HashSet::from([at(1), at(2)]));
    }

    #[test]
    fn no_insert_moves_more_than_one_table() {
        let mut index = Index::default();
        for number in 1..=4 * TABLE_LEN_MAX as u32 {
            index.insert(spread(number), number);
            if let Index::Whole(table) = &index {
                assert!(table.slots.len() <= 2 * TABLE_LEN_MAX);
            }
        }
        let Index::Divided(parts) = &index else { panic!("there are too many for one table") };
        assert!(parts.parts.iter().all(|part| matches!(part, Index::Whole(_))));
    }

    #[test]
    fn what_has_one_hash_is_not_divided_for_ever() {
        let (mut index, count) = (Index::default(), 2 * TABLE_LEN_MAX as u32);
        for number in 1..=count {
            index.insert(7 << 32, number);
        }
        assert_eq!(index.candidates(7 << 32).count(), count as usize);
        for number in (2..=count).rev() {
            index.remove(7 << 32, number);
        }
        assert_eq!(index.find(7 << 32, |_| true), Some(1));
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn it_takes_as_much_as_one_table() {
        assert_eq!(size_of::<Index>(), size_of::<Table>());
    }
}
