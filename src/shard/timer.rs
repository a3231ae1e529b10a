//! A hierarchical timer wheel: setting and firing a timer cost the same however many there are.
//!
//! Six levels of 64 slots; a slot of level `n` is 64^n ticks wide. A timer sits at the level of the
//! highest group of six bits in which its tick differs from the present one, and moves down as that
//! tick comes near. There is no cancel: the handler checks whether the deadline still holds, which
//! is cheaper than finding the timer when a deadline moves with every packet.

use std::time::Duration;

use crate::session::Time;

const TICK_MS: u64 = 16;
const SLOT_BITS: u32 = 6;
const SLOT_COUNT: usize = 1 << SLOT_BITS;
const LEVEL_COUNT: u32 = 6;
/// The longest reach; a timer beyond it fires early, and its handler sets it again.
const TICK_COUNT_MAX: u64 = (1 << (SLOT_BITS * LEVEL_COUNT)) - 1;

/// Timers that carry a `T` each.
#[derive(Debug)]
pub(super) struct Timers<T> {
    /// Everything up to this tick has fired.
    elapsed: u64,
    levels: Vec<Level<T>>,
    /// What was in the slot that `elapsed` has come to, and has neither fired nor moved down yet.
    moving: Vec<(u64, T)>,
    len: usize,
    /// The slot, counted over all levels, that [`Self::sweep`] has come to, and how far.
    swept: (usize, usize),
}

#[derive(Debug)]
struct Level<T> {
    /// One bit for each slot that is not empty.
    occupied: u64,
    slots: Vec<Vec<(u64, T)>>,
}

struct Slot {
    level: u32,
    index: usize,
    /// The tick at which the slot begins.
    tick: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        let level = || Level { occupied: 0, slots: (0..SLOT_COUNT).map(|_| Vec::new()).collect() };
        Self {
            elapsed: 0,
            levels: (0..LEVEL_COUNT).map(|_| level()).collect(),
            moving: Vec::new(),
            len: 0,
            swept: (0, 0),
        }
    }
}

impl<T> Timers<T> {
    /// Fires `value` at `deadline` or up to 16 ms later, never before.
    pub(super) fn insert(&mut self, deadline: Time, value: T) {
        let tick = deadline.ms().div_ceil(TICK_MS);
        let tick = tick.clamp(self.elapsed + 1, self.elapsed + TICK_COUNT_MAX);
        self.place(tick, value);
        self.len += 1;
    }

    /// Timers that have not fired.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Looks at the next `count` timers, and gives up those that `keep` is false for; whether that
    /// were the last ones, so that the next call begins again.
    pub(super) fn sweep(&mut self, mut count: usize, mut keep: impl FnMut(&T) -> bool) -> bool {
        let (mut number, mut place) = self.swept;
        while count > 0 && number < LEVEL_COUNT as usize * SLOT_COUNT {
            let level = &mut self.levels[number / SLOT_COUNT];
            let (index, slot) = (number % SLOT_COUNT, &mut level.slots[number % SLOT_COUNT]);
            if place < slot.len() {
                count -= 1;
                if keep(&slot[place].1) {
                    place += 1;
                } else {
                    slot.swap_remove(place);
                    self.len -= 1;
                }
                continue;
            }
            if slot.is_empty() {
                level.occupied &= !(1 << index);
            }
            slot.shrink_to(2 * slot.len());
            (number, place) = (number + 1, 0);
        }
        let is_over = number == LEVEL_COUNT as usize * SLOT_COUNT;
        self.swept = if is_over { (0, 0) } else { (number, place) };
        is_over
    }

    /// When to call [`Self::advance`] next; at or before the first deadline.
    #[must_use]
    pub(super) fn next_timeout(&self) -> Option<Time> {
        if self.is_moving() {
            return Some(Time::START);
        }
        self.next_slot().map(|slot| Time::START + Duration::from_millis(slot.tick * TICK_MS))
    }

    /// Moves on to `now` and adds what is due to `fired`, earliest first; looks at `count` timers
    /// at most, and has to be called again if that is not all: see [`Self::is_moving`]. Returns how
    /// many were looked at.
    pub(super) fn advance(
        &mut self,
        now: Time,
        count_max: usize,
        fired: &mut impl Extend<T>,
    ) -> usize {
        let (target, mut count) = (now.ms() / TICK_MS, 0);
        loop {
            while let Some((tick, value)) = self.moving.pop() {
                if tick <= self.elapsed {
                    self.len -= 1;
                    fired.extend([value]);
                } else {
                    self.place(tick, value);
                }
                count += 1;
                if count >= count_max && self.is_moving() {
                    return count;
                }
            }
            let Some(slot) = self.next_slot().filter(|slot| slot.tick <= target) else { break };
            self.elapsed = slot.tick;
            let level = &mut self.levels[slot.level as usize];
            level.occupied &= !(1 << slot.index);
            self.moving = std::mem::take(&mut level.slots[slot.index]);
            if count >= count_max {
                return count;
            }
        }
        self.elapsed = self.elapsed.max(target);
        count
    }

    /// Whether timers are still to be looked at that are due, or may be.
    pub(super) fn is_moving(&self) -> bool {
        !self.moving.is_empty()
    }

    fn place(&mut self, tick: u64, value: T) {
        let differing = (self.elapsed ^ tick) | (SLOT_COUNT as u64 - 1);
        let level = ((63 - differing.leading_zeros()) / SLOT_BITS).min(LEVEL_COUNT - 1);
        let index = (tick >> (level * SLOT_BITS)) as usize % SLOT_COUNT;
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << index;
        level.slots[index].push((tick, value));
    }

    /// The first slot that holds anything: lower levels come before higher ones.
    fn next_slot(&self) -> Option<Slot> {
        let level = (0..LEVEL_COUNT).find(|level| self.levels[*level as usize].occupied != 0)?;
        let shift = level * SLOT_BITS;
        let present = (self.elapsed >> shift) % SLOT_COUNT as u64;
        let occupied = self.levels[level as usize].occupied;
        let ahead = u64::from(occupied.rotate_right(present as u32).trailing_zeros());
        let tick = ((self.elapsed >> shift) + ahead) << shift;
        // A slot of the top level may come round again, a whole turn ahead.
        let tick = if tick <= self.elapsed { tick + (1 << (shift + SLOT_BITS)) } else { tick };
        Some(Slot { level, index: (present + ahead) as usize % SLOT_COUNT, tick })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fires_everything_once_in_order_and_never_early(
            deadlines in prop::collection::vec(0u64..5_000_000, 1..200),
            steps in prop::collection::vec(1u64..200_000, 1..200),
            count in 1_usize..20,
        ) {
            let mut timers = Timers::default();
            for deadline in &deadlines {
                timers.insert(Time::from_ms(*deadline), *deadline);
            }
            let mut seen = Vec::new();
            let mut now = 0;
            for step in steps.iter().chain([&6_000_000]) {
                now += step;
                let mut fired = Vec::new();
                loop {
                    let before = fired.len();
                    let looked_at = timers.advance(Time::from_ms(now), count, &mut fired);
                    prop_assert!(fired.len() - before <= looked_at);
                    prop_assert!(looked_at <= count);
                    if !timers.is_moving() {
                        break;
                    }
                }
                for deadline in &fired {
                    prop_assert!(*deadline <= now, "{deadline} fired early, at {now}");
                }
                seen.extend(fired);
                for deadline in &deadlines {
                    let late = deadline + 2 * TICK_MS < now && !seen.contains(deadline);
                    prop_assert!(!late, "{} has not fired at {}", deadline, now);
                }
                let ticks: Vec<u64> = seen.iter().map(|ms| ms.div_ceil(TICK_MS).max(1)).collect();
                prop_assert!(ticks.is_sorted());
            }
            prop_assert_eq!(seen.len(), deadlines.len());
            prop_assert_eq!(timers.next_timeout(), None);
        }

        #[test]
        fn gives_up_what_is_not_kept(deadlines in prop::collection::vec(0u64..5_000_000, 1..200)) {
            let mut timers = Timers::default();
            for deadline in &deadlines {
                timers.insert(Time::from_ms(*deadline), *deadline);
            }
            while !timers.sweep(7, |deadline| deadline.is_multiple_of(2)) {}
            let kept = deadlines.iter().filter(|deadline| deadline.is_multiple_of(2)).count();
            prop_assert_eq!(timers.len(), kept);
            let slots = timers.levels.iter().flat_map(|level| &level.slots);
            prop_assert!(slots.map(Vec::capacity).sum::<usize>() <= 2 * kept);
            let mut fired = Vec::new();
            timers.advance(Time::from_ms(6_000_000), usize::MAX, &mut fired);
            prop_assert_eq!(fired.len(), kept);
            prop_assert_eq!(timers.next_timeout(), None);
        }

        #[test]
        fn wakes_at_or_before_each_deadline(deadline in 1u64..100_000_000_000) {
            let mut timers = Timers::default();
            timers.insert(Time::from_ms(deadline), ());
            let mut fired = Vec::new();
            let mut wakes = 0;
            while let Some(at) = timers.next_timeout() {
                prop_assert!(at.ms() < deadline + TICK_MS);
                timers.advance(at, usize::MAX, &mut fired);
                wakes += 1;
                prop_assert!(wakes <= LEVEL_COUNT);
            }
            prop_assert_eq!(fired.len(), 1);
        }
    }
}
