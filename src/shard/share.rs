//! Shared subscriptions at the home of their members: who has joined, how loaded each member is,
//! and what becomes of the deliveries of one that goes for good.

use std::sync::Arc;

use crate::routing::{Load, ShardId};
use crate::session::{Delivery, Publication};

use super::{Message, Output, Shard, Ticket};

impl Shard {
    /// Tells the owners of a group that a session is a member; how many have to answer.
    pub(super) fn join(
        &mut self,
        slot: u32,
        group: &str,
        ticket: Ticket,
        out: &mut impl Output,
    ) -> usize {
        let load = self.present_load(slot);
        if self.registry.get(slot).share_count() > 1 {
            self.handle_load(slot, out); // The owners of the other groups are told, too.
        }
        self.registry.get_mut(slot).set_aside().load = load;
        let session = self.registry.name(slot);
        if self.owns(group) {
            self.groups.join(group, self.id, session, load);
        }
        let owners: Vec<ShardId> = self.owners(group).collect();
        for owner in &owners {
            self.send(*owner, Message::Join { group: group.into(), session, load, ticket }, out);
        }
        owners.len()
    }

    /// Ends a membership; false if there was none.
    pub(super) fn part(&mut self, slot: u32, group: &str, out: &mut impl Output) -> bool {
        if !self.shares.remove(group, slot).existed {
            return false;
        }
        let session = self.registry.name(slot);
        if self.owns(group) {
            self.groups.leave(group, self.id, session);
        }
        for owner in self.owners(group) {
            self.send(owner, Message::Leave { group: group.into(), session }, out);
        }
        true
    }

    /// Tells the owners if the load of a member is another one now.
    pub(super) fn handle_load(&mut self, slot: u32, out: &mut impl Output) {
        if self.registry.get(slot).share_count() == 0 {
            return;
        }
        let load = self.present_load(slot);
        let known = &mut self.registry.get_mut(slot).set_aside().load;
        if std::mem::replace(known, load) != load {
            self.tell_load(slot, Some(load), out);
        }
    }

    /// A member is gone for good.
    pub(super) fn forget_member(&mut self, slot: u32, out: &mut impl Output) {
        if self.registry.get(slot).share_count() > 0 {
            self.tell_load(slot, None, out);
        }
    }

    /// Gives what an ended session has not got to another member.
    pub(super) fn reassign(&mut self, orphan: &Delivery, out: &mut impl Output) {
        if let Some(group) = orphan.terms.share() {
            self.send_back(orphan.publication.clone(), Arc::clone(group), out);
        }
    }

    /// Has the owner of the topic choose again.
    pub(super) fn send_back(
        &mut self,
        publication: Publication,
        group: Arc<str>,
        out: &mut impl Output,
    ) {
        let owner = self.partition.owner(publication.topic());
        if owner == self.id {
            self.handle_reassign(&publication, &group, out);
        } else {
            self.send(owner, Message::Reassign { publication, group }, out);
        }
    }

    /// At an owner.
    pub(super) fn handle_loaded(
        &mut self,
        home: ShardId,
        session: super::SessionRef,
        load: Option<Load>,
    ) {
        match load {
            Some(load) => self.groups.set_load(home, session, load),
            None => self.groups.forget(home, session),
        }
    }

    pub(super) fn tell_load(&mut self, slot: u32, load: Option<Load>, out: &mut impl Output) {
        let session = self.registry.name(slot);
        self.handle_loaded(self.id, session, load);
        self.send_to_peers(|| Message::Loaded { session, load }, out);
    }

    fn present_load(&self, slot: u32) -> Load {
        let resident = self.registry.get(slot);
        match resident.connection {
            None => Load::OFFLINE,
            Some(_) => {
                Load::of(resident.session.queued_count() + resident.session.inflight_count())
            }
        }
    }
}
