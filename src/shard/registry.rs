//! The sessions of this shard, by slot and by client identifier.

use ahash::{AHashSet, RandomState};

use crate::arena::{Arena, Key};
use crate::index::Index;
use crate::mqtt::Version;
use crate::routing::Standing;
use crate::session::{Session, Time};

use super::filters::Filters;
use super::order::Course;
use super::replay::Replays;
use super::will::LastWill;
use super::wire::{Peer, UNLIMITED};
use super::{ConnectionId, SessionRef};

/// A session and what its shard keeps beside it.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) session: Session,
    pub(super) generation: u32,
    pub(super) connection: Option<ConnectionId>,
    pub(super) peer: Peer,
    /// Its filters, without the shared ones.
    pub(super) filters: Filters,
    /// Bytes of all its filters, shared ones included.
    pub(super) filter_bytes: u32,
    /// The time at which it ends while it is offline; [`Time::END`] if it never does.
    pub(super) expiry: Time,
    /// The time at which its timer fires; [`Time::END`] if none is set.
    pub(super) wake: Time,
    /// The owner that its publishes are under way to, and how they keep their order.
    pub(super) course: Course,
    aside: Option<Box<Aside>>,
}

/// State that few sessions have, or most of them only for a moment. It lies in a box of its own.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// The will and the time at which it is published, unless the client comes back before.
    pub(super) will: Option<(Time, Box<LastWill>)>,
    pub(super) replays: Option<Replays>,
    /// Its shared filters.
    pub(super) shares: Filters,
    /// Its standing, as it was sent last to the owners of its shared filters.
    pub(super) standing: Standing,
}

impl Resident {
    /// Returns the rare part, if there is one.
    pub(super) fn aside(&self) -> Option<&Aside> {
        self.aside.as_deref()
    }

    pub(super) fn aside_mut(&mut self) -> Option<&mut Aside> {
        self.aside.as_deref_mut()
    }

    /// Returns the rare part, and allocates it if it is absent.
    pub(super) fn set_aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_default()
    }

    /// Frees the rare part if it holds nothing.
    pub(super) fn tidy(&mut self) {
        let is_empty = |aside: &mut Box<Aside>| {
            aside.will.is_none() && aside.replays.is_none() && aside.shares.len() == 0
        };
        self.aside.take_if(is_empty);
    }

    /// Returns the time at which its will or its end is due; [`Time::END`] if neither is.
    pub(super) fn due(&self) -> Time {
        let will = self.aside().and_then(|aside| aside.will.as_ref());
        will.map_or(self.expiry, |(due, _)| self.expiry.min(*due))
    }

    pub(super) fn take_will(&mut self) -> Option<(Time, Box<LastWill>)> {
        let will = self.aside_mut()?.will.take();
        self.tidy();
        will
    }

    /// Returns how many shared filters it has.
    pub(super) fn share_count(&self) -> usize {
        self.aside().map_or(0, |aside| aside.shares.len())
    }
}

/// The sessions of a shard. Slots are reused; the generation distinguishes the sessions that a slot
/// has held.
#[derive(Debug)]
pub(super) struct Registry {
    residents: Arena<Resident>,
    /// Slots by client identifier; the identifier itself is only in the session.
    slots: Index,
    hasher: RandomState,
    next_generation: u32,
    /// Slots of sessions that are over. A slot stays in use until the session's deliveries and
    /// filters are removed.
    retired: AHashSet<u32>,
}

impl Registry {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            residents: Arena::new(),
            slots: Index::default(),
            hasher,
            next_generation: 0,
            retired: AHashSet::default(),
        }
    }

    /// Returns the number of sessions, without those that are over.
    pub(super) fn len(&self) -> usize {
        self.residents.len() - self.retired.len()
    }

    pub(super) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Returns whether the session in a slot is over.
    pub(super) fn is_retired(&self, slot: u32) -> bool {
        self.retired.contains(&slot)
    }

    pub(super) fn find(&self, client_id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(client_id);
        self.slots.find(hash, |slot| self.get(slot).session.client_id() == client_id)
    }

    /// Adds a session whose client identifier is not in use.
    pub(super) fn insert(&mut self, session: Session) -> u32 {
        debug_assert!(self.find(session.client_id()).is_none(), "one session for a client id");
        let hash = self.hasher.hash_one(session.client_id());
        let slot = self.insert_aside(session);
        self.slots.insert(hash, slot);
        slot
    }

    /// Adds a session that cannot be found by its client identifier.
    pub(super) fn insert_aside(&mut self, session: Session) -> u32 {
        self.next_generation = self.next_generation.wrapping_add(1);
        let resident = Resident {
            session,
            generation: self.next_generation,
            connection: None,
            peer: Peer::new(Version::V311, UNLIMITED),
            filters: Filters::default(),
            filter_bytes: 0,
            expiry: Time::END,
            wake: Time::END,
            course: Course::default(),
            aside: None,
        };
        self.residents.insert(resident).bits()
    }

    /// Ends a session: it can no longer be found, and its client may begin another one. Its slot
    /// stays in use until [`Self::release`].
    pub(super) fn retire(&mut self, slot: u32) {
        let hash = self.hasher.hash_one(self.get(slot).session.client_id());
        if self.slots.find(hash, |candidate| candidate == slot).is_some() {
            self.slots.remove(hash, slot);
        }
        self.next_generation = self.next_generation.wrapping_add(1);
        let resident = self.residents.get_mut(key(slot));
        resident.generation = self.next_generation; // Deferred deliveries no longer reach it.
        self.retired.insert(slot);
    }

    /// Frees the slot of a session that is over.
    pub(super) fn release(&mut self, slot: u32) {
        let is_over = self.retired.remove(&slot);
        debug_assert!(is_over, "a session that is not over keeps its slot");
        self.residents.remove(key(slot));
    }

    /// Returns a number that no client can predict, for use in a text that must be unguessable.
    pub(super) fn secret(&self, number: u64) -> u64 {
        self.hasher.hash_one(number)
    }

    pub(super) fn name(&self, slot: u32) -> SessionRef {
        SessionRef { slot, generation: self.get(slot).generation }
    }

    /// Returns the slot of the session that `name` refers to, if that session is still there.
    pub(super) fn resolve(&self, name: SessionRef) -> Option<u32> {
        let resident = self.residents.find(Key::from_bits(name.slot)?)?;
        (resident.generation == name.generation).then_some(name.slot)
    }

    /// Returns the generation of the newest session: a mark for this moment.
    pub(super) fn newest(&self) -> u32 {
        self.next_generation
    }

    /// Returns whether the session in a slot was there already when `newest` was taken.
    pub(super) fn is_there_since(&self, slot: u32, newest: u32) -> bool {
        let age = |resident: &Resident| newest.wrapping_sub(resident.generation);
        let resident = Key::from_bits(slot).and_then(|key| self.residents.find(key));
        resident.is_some_and(|resident| age(resident) <= u32::MAX / 2)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Resident)> {
        self.residents.iter().map(|(key, resident)| (key.bits(), resident))
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Resident {
        self.residents.get(key(slot))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Resident {
        self.residents.get_mut(key(slot))
    }
}

#[inline]
fn key(slot: u32) -> Key {
    Key::from_bits(slot).expect("slots are keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resident_lies_in_two_cache_lines() {
        assert!(size_of::<Option<Resident>>() <= 128);
    }
}
