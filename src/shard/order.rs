//! Order of one client's publishes over all of its topics.
//!
//! Publishes to one owner stay in order because every channel does. A publish to another owner
//! waits until every home that an earlier one went to has taken that in: handled it, or put it off
//! where the later one waits behind it. Being taken in is less than being accepted, which may wait
//! for a disk.
//!
//! ```text
//! IDLE --a publish--> PLAIN --one to another owner--> TRACKED --RUN_MAX to one owner--> PLAIN
//! ```
//! In `PLAIN` no home says anything, so a client with one owner pays nothing. The change to
//! `TRACKED` asks all shards once whether they have taken in what came before. From then on each
//! publish has a weight, which its owner divides between the homes that it goes to, and which all
//! of them give back to the publisher's home: in any order, and complete only when the last has.
//! Homes of which groups have chosen members get a fence behind the deliveries to all of these.

use crate::config::Order;
use crate::mqtt::Publish;
use crate::routing::{Choice, ShardId, ShardSet};

use super::message::{Origin, Source};
use super::pause::Pause;
use super::{Message, Output, SessionRef, Shard};

/// After this many publishes to one owner in a row a client is taken for one that stays there.
const RUN_MAX: u8 = 128;
/// Weight of a publish: there are at most 64 homes, and as many fences.
const WEIGHT: u16 = 256;
/// With more weight than this under way a client waits until all of it has come back.
const WEIGHT_MAX: u16 = u16::MAX - WEIGHT;

/// The client has published nothing.
const IDLE: u8 = 0;
/// Homes do not answer.
const PLAIN: u8 = 1;
/// Homes answer, and the client has changed its owner with the last publish.
const TRACKED: u8 = 2;

/// Where a client's publishes are under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// Weight that was not given back.
    outstanding: u16,
    /// The owner of the publishes that are under way.
    owner: ShardId,
    /// [`IDLE`], [`PLAIN`], or [`TRACKED`] and one more for each further publish to this owner.
    stage: u8,
}

impl Default for Course {
    fn default() -> Self {
        Self { outstanding: 0, owner: ShardId(0), stage: IDLE }
    }
}

impl Course {
    /// Whether a publish to `owner` cannot overtake an earlier one.
    #[inline]
    fn allows(&self, owner: ShardId) -> bool {
        if self.owner == owner {
            return self.outstanding <= WEIGHT_MAX;
        }
        self.stage != PLAIN && self.outstanding == 0
    }

    /// Notes a publish that goes to `owner`; returns its weight.
    #[inline]
    fn note(&mut self, owner: ShardId) -> u16 {
        if (self.owner, self.stage) == (owner, PLAIN) {
            return 0;
        }
        let is_same = std::mem::replace(&mut self.owner, owner) == owner;
        self.stage = match self.stage {
            IDLE | PLAIN => PLAIN,
            _ if !is_same => TRACKED,
            stage if stage == TRACKED + RUN_MAX => PLAIN,
            stage => stage + 1,
        };
        if self.stage == PLAIN {
            return 0;
        }
        self.outstanding += WEIGHT;
        WEIGHT
    }
}

impl Shard {
    /// Whether a publish has to wait for an earlier one of its client.
    #[inline]
    pub(super) fn must_wait_for_order(&self, slot: u32, owner: ShardId) -> bool {
        self.keeps_order() && !self.registry.get(slot).course.allows(owner)
    }

    /// Notes a publish of a client of this shard; returns its weight.
    #[inline]
    pub(super) fn note_course(&mut self, origin: Origin, owner: ShardId) -> u16 {
        if !self.keeps_order() {
            return 0;
        }
        self.registry.get_mut(origin.session.slot).course.note(owner)
    }

    /// Asks all shards whether they have taken in what a client has published, unless they answer
    /// already.
    pub(super) fn ask_for_order(&mut self, slot: u32, out: &mut impl Output) {
        let course = &mut self.registry.get_mut(slot).course;
        if course.stage != PLAIN || course.outstanding > WEIGHT_MAX {
            return; // Homes answer anyway, and then it is asked for again.
        }
        let owner = course.owner;
        course.stage = TRACKED;
        course.outstanding += self.partition.shard_count() as u16 - 1; // Each other one answers.
        let session = self.registry.name(slot);
        if owner == self.id {
            self.send_fences(session, self.id, out);
        } else {
            self.send(owner, Message::Fence { session, home: self.id, is_first: true }, out);
        }
    }

    /// At an owner, or at a home after that: all that came before this is taken in here.
    pub(super) fn handle_fence(
        &mut self,
        session: SessionRef,
        home: ShardId,
        is_first: bool,
        out: &mut impl Output,
    ) {
        if is_first {
            self.send_fences(session, home, out);
        }
        self.send(home, Message::TakenIn { session, weight: 1 }, out);
    }

    /// At the owner: divides the weight of a publish between the homes that it is sent to and the
    /// fences that follow. What they do not need is given back at once.
    pub(super) fn split_weight(
        &mut self,
        source: &Source,
        home_count: usize,
        fence_count: usize,
        out: &mut impl Output,
    ) -> Source {
        let part_count = (home_count + fence_count) as u16; // There are at most 64 of each.
        let share = if part_count == 1 && fence_count == 0 { source.weight } else { 1 };
        let rest = source.weight - share * part_count;
        self.give_weight_back(&Source { weight: rest, ..*source }, out);
        Source { weight: share, ..*source }
    }

    /// Other homes of the members that groups have chosen.
    pub(super) fn far_homes(&self, choices: &[Choice<SessionRef>]) -> ShardSet {
        let mut homes = ShardSet::EMPTY;
        for choice in choices {
            if let Choice::Member(chosen) = choice
                && chosen.home != self.id
            {
                homes.insert(chosen.home);
            }
        }
        homes
    }

    /// Follows what was sent to members of groups: each of these homes gives back a part of the
    /// weight, however many of its members were chosen.
    pub(super) fn fence(&mut self, homes: ShardSet, source: &Source, out: &mut impl Output) {
        let Some(origin) = source.origin else { return };
        for home in homes.iter() {
            if home == origin.home {
                self.give_weight_back(&Source { weight: 1, ..*source }, out); // It comes behind.
            } else {
                let Origin { home: asked_by, session } = origin;
                self.send(home, Message::Fence { session, home: asked_by, is_first: false }, out);
            }
        }
    }

    /// A publish is handled here, or put off where a later one waits behind it.
    pub(super) fn give_weight_back(&mut self, source: &Source, out: &mut impl Output) {
        let Source { origin: Some(origin), weight: weight @ 1.., .. } = *source else { return };
        let session = origin.session;
        if origin.home == self.id {
            self.handle_taken_in(session, weight);
        } else {
            self.send(origin.home, Message::TakenIn { session, weight }, out);
        }
    }

    /// At the publisher's home.
    pub(super) fn handle_taken_in(&mut self, session: SessionRef, weight: u16) {
        let Some(slot) = self.registry.resolve(session) else { return };
        let resident = self.registry.get_mut(slot);
        resident.course.outstanding = resident.course.outstanding.saturating_sub(weight);
        if resident.course.outstanding == 0
            && let Some(connection) = resident.connection
        {
            self.unpause(connection, Pause::Order);
        }
    }

    /// The owner of a publish's topic, which may be named by an alias; none if that is unknown.
    pub(super) fn owner_of(&self, slot: u32, publish: &Publish<'_>) -> Option<ShardId> {
        if !publish.topic.is_empty() {
            return Some(self.partition.owner(publish.topic.as_str()));
        }
        let alias = publish.properties.topic_alias()?;
        let topic = self.registry.get(slot).session.topic_of_alias(alias)?;
        Some(self.partition.owner(topic))
    }

    fn keeps_order(&self) -> bool {
        self.partition.shard_count() > 1 && self.limits.order == Order::Client
    }

    /// Follows the deliveries that this owner has sent to other shards.
    fn send_fences(&mut self, session: SessionRef, home: ShardId, out: &mut impl Output) {
        for peer in self.partition.shards() {
            if peer != self.id && peer != home {
                self.send(peer, Message::Fence { session, home, is_first: false }, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ShardId = ShardId(1);
    const OTHER: ShardId = ShardId(2);

    #[test]
    fn a_client_with_one_owner_is_not_tracked() {
        let mut course = Course::default();
        for _ in 0..1000 {
            assert!(course.allows(ONE));
            assert_eq!(course.note(ONE), 0);
        }
        assert!(!course.allows(OTHER));
    }

    #[test]
    fn a_tracked_client_changes_owners_when_nothing_is_owed() {
        let mut course = Course { stage: TRACKED, ..Course::default() };
        assert_eq!(course.note(ONE), WEIGHT);
        assert!(course.allows(ONE) && !course.allows(OTHER));
        course.outstanding -= WEIGHT;
        assert!(course.allows(OTHER));
        assert_eq!(course.note(OTHER), WEIGHT);
    }

    #[test]
    fn a_client_that_stays_with_one_owner_is_tracked_no_more() {
        let mut course = Course { stage: TRACKED, owner: ONE, ..Course::default() };
        let tracked = (0..1000).filter(|_| course.note(ONE) > 0).count();
        assert!((1..=RUN_MAX.into()).contains(&tracked), "{tracked}");
        assert_eq!(course.stage, PLAIN);
    }

    #[test]
    fn weight_under_way_is_bounded() {
        let course = |outstanding| Course { outstanding, owner: ONE, stage: TRACKED };
        assert!(course(WEIGHT_MAX).allows(ONE));
        assert_eq!(course(WEIGHT_MAX).note(ONE), WEIGHT);
        assert!(!course(WEIGHT_MAX + 1).allows(ONE));
    }

    #[test]
    fn a_course_is_small() {
        assert_eq!(size_of::<Course>(), 4);
    }
}
