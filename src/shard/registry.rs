//! The sessions of this shard, by slot and by client identifier.

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use crate::mqtt::Version;
use crate::session::{Session, Time};

use super::filters::Filters;
use super::message::Load;
use super::replay::Replays;
use super::will::LastWill;
use super::wire::{Peer, UNLIMITED};
use super::{ConnectionId, SessionRef};

/// A session and what its shard knows about it.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) session: Session,
    pub(super) generation: u32,
    pub(super) connection: Option<ConnectionId>,
    pub(super) peer: Peer,
    /// Its filters as it named them.
    pub(super) filters: Filters,
    /// How many of them are shared.
    pub(super) share_count: u32,
    /// How loaded it is, as the owners of its shared filters know.
    pub(super) load: Load,
    pub(super) replays: Option<Box<Replays>>,
    /// When it ends, while it is offline and does not stay for ever.
    pub(super) expiry: Option<Time>,
    /// When the timer for it fires, if one is set.
    pub(super) expiry_timer: Option<Time>,
    /// When the timer for its will fires, if one is set.
    pub(super) will_timer: Option<Time>,
    /// Storage was told that it began.
    pub(super) is_recorded: bool,
    /// What is published when, unless its client comes back before.
    pub(super) will: Option<(Time, Box<LastWill>)>,
}

/// Slots are used again; the generation tells one session in a slot from the next.
#[derive(Debug)]
pub(super) struct Registry {
    residents: Slab<Resident>,
    /// Slots by client identifier; the identifier itself is only in the session.
    slots: HashTable<u32>,
    hasher: RandomState,
    next_generation: u32,
}

impl Registry {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { residents: Slab::new(), slots: HashTable::new(), hasher, next_generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.residents.len()
    }

    pub(super) fn find(&self, client_id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(client_id);
        let same = |slot: &u32| self.residents[*slot as usize].session.client_id() == client_id;
        self.slots.find(hash, same).copied()
    }

    /// Adds a session whose client identifier is not in use.
    pub(super) fn insert(&mut self, session: Session) -> u32 {
        debug_assert!(self.find(session.client_id()).is_none(), "one session for a client id");
        let hash = self.hasher.hash_one(session.client_id());
        self.next_generation = self.next_generation.wrapping_add(1);
        let resident = Resident {
            session,
            generation: self.next_generation,
            connection: None,
            peer: Peer::new(Version::V311, UNLIMITED, 0),
            filters: Filters::default(),
            share_count: 0,
            load: Load::OFFLINE,
            replays: None,
            expiry: None,
            expiry_timer: None,
            will_timer: None,
            is_recorded: false,
            will: None,
        };
        let slot = u32::try_from(self.residents.insert(resident)).expect("below 2^32 sessions");
        let (residents, hasher) = (&self.residents, &self.hasher);
        let rehash = |slot: &u32| hasher.hash_one(residents[*slot as usize].session.client_id());
        self.slots.insert_unique(hash, slot, rehash);
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Resident {
        let hash = self.hasher.hash_one(self.residents[slot as usize].session.client_id());
        if let Ok(entry) = self.slots.find_entry(hash, |candidate| *candidate == slot) {
            entry.remove();
        }
        self.residents.remove(slot as usize)
    }

    /// A text that nobody outside can foresee, for this number.
    pub(super) fn secret(&self, number: u64) -> u64 {
        self.hasher.hash_one(number)
    }

    pub(super) fn name(&self, slot: u32) -> SessionRef {
        SessionRef { slot, generation: self.residents[slot as usize].generation }
    }

    /// The session that `name` meant, if it is still there.
    pub(super) fn resolve(&self, name: SessionRef) -> Option<u32> {
        let resident = self.residents.get(name.slot as usize)?;
        (resident.generation == name.generation).then_some(name.slot)
    }

    /// A name for this moment: no session that is there now is newer.
    pub(super) fn newest(&self) -> u32 {
        self.next_generation
    }

    /// Whether the session in a slot has been there since the moment called `newest`.
    pub(super) fn is_there_since(&self, slot: u32, newest: u32) -> bool {
        let age = |resident: &Resident| newest.wrapping_sub(resident.generation);
        self.residents.get(slot as usize).is_some_and(|resident| age(resident) <= u32::MAX / 2)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Resident)> {
        self.residents.iter().map(|(slot, resident)| (slot as u32, resident))
    }

    pub(super) fn get(&self, slot: u32) -> &Resident {
        &self.residents[slot as usize]
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Resident {
        &mut self.residents[slot as usize]
    }
}
