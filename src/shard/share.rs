//! Shared subscriptions at the home of their members: the members, the load of each, and what
//! becomes of the deliveries of a member that ends.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::metrics::DropCause;
use crate::routing::{Choice, Load, ShardId, Standing};
use crate::session::{Delivery, Outgoing, Publication};

use super::deliver::Given;
use super::subscribe::Subscribed;
use super::wire::takes;
use super::{Message, Output, SessionRef, Shard, Ticket, work};

impl Shard {
    /// Tells the owners of a group that a session is a member; how many have to answer.
    pub(super) fn join(
        &mut self,
        slot: u32,
        group: &str,
        terms: Subscribed,
        ticket: Ticket,
        out: &mut impl Output,
    ) -> usize {
        let standing = self.present_standing(slot);
        if self.registry.get(slot).share_count() > 1 {
            self.handle_load(slot, out); // The owners of the other groups get it, too.
        }
        self.registry.get_mut(slot).set_aside().standing = standing;
        let session = self.registry.name(slot);
        if self.owns(group) {
            self.join_group(group, self.id, session, terms, standing);
        }
        let owners: Vec<ShardId> = self.owners(group).collect();
        for owner in &owners {
            let group = group.into();
            self.send(*owner, Message::Join { group, session, terms, standing, ticket }, out);
        }
        owners.len()
    }

    /// Ends a membership; false if there was none.
    pub(super) fn part(
        &mut self,
        slot: u32,
        session: SessionRef,
        group: &str,
        out: &mut impl Output,
    ) -> bool {
        self.work.charge(work::filter(group));
        if !self.shares.remove(group, slot).existed {
            return false;
        }
        if self.owns(group) {
            self.leave_group(group, self.id, session);
        }
        for owner in self.owners(group) {
            self.send(owner, Message::Leave { group: group.into(), session }, out);
        }
        self.charge_moved();
        true
    }

    /// Tells the owners if the load of a member is another one now, or what it takes.
    pub(super) fn handle_load(&mut self, slot: u32, out: &mut impl Output) {
        if self.registry.get(slot).share_count() == 0 {
            return;
        }
        let standing = self.present_standing(slot);
        let known = &mut self.registry.get_mut(slot).set_aside().standing;
        if std::mem::replace(known, standing) != standing {
            self.tell_standing(slot, Some(standing), out);
        }
    }

    /// A member is gone for good.
    pub(super) fn forget_member(&mut self, slot: u32, out: &mut impl Output) {
        if self.registry.get(slot).share_count() > 0 {
            self.tell_standing(slot, None, out);
        }
    }

    /// Gives what an ended session has not got to another member.
    pub(super) fn reassign(&mut self, orphan: &Delivery, out: &mut impl Output) {
        if let Some(group) = orphan.terms.share() {
            self.send_back(orphan.publication.clone(), Arc::clone(group), out);
        }
    }

    /// Has the owners choose again for what clients do not take. It ends: an owner that chooses
    /// again knows what this home knows of its members, see [`fits`].
    pub(super) fn reassign_given_back(&mut self, out: &mut impl Output) {
        while !self.given_back.is_empty() {
            for orphan in std::mem::take(&mut self.given_back) {
                self.reassign(&orphan, out);
            }
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
    pub(super) fn join_group(
        &mut self,
        group: &str,
        home: ShardId,
        session: SessionRef,
        terms: Subscribed,
        standing: Standing,
    ) {
        let looks = self.groups.join(group, home, session, terms, standing);
        self.work.charge(work::filter(group) + work::members(looks));
        self.charge_moved();
    }

    /// At an owner.
    pub(super) fn leave_group(&mut self, group: &str, home: ShardId, session: SessionRef) {
        let looks = self.groups.leave(group, home, session);
        self.work.charge(work::filter(group) + work::members(looks));
        self.charge_moved();
    }

    /// At an owner.
    pub(super) fn handle_standing(
        &mut self,
        home: ShardId,
        session: SessionRef,
        standing: Option<Standing>,
    ) {
        match standing {
            Some(standing) => self.groups.set_standing(home, session, standing),
            None => self.groups.forget(home, session),
        }
    }

    /// Chooses the members that get a publish, one of each group of its topic. At an owner.
    #[inline]
    pub(super) fn choose_members(&mut self, outgoing: &Outgoing<'_>) -> Vec<Choice<SessionRef>> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let fits = |terms: &_, standing: &_| fits(outgoing, terms, standing);
        let chosen = self.groups.choose(outgoing.view().topic.as_str(), fits);
        self.work.charge(work::times(work::MATCH, chosen.effort) + work::members(chosen.members));
        chosen.choices
    }

    /// At an owner: no member of a group takes a publish, which ends here.
    pub(super) fn drop_for_group(&mut self) -> Given {
        self.counters.ledger.matched += 1;
        self.counters.ledger.drop_one(DropCause::TooLarge);
        Given::Now
    }

    pub(super) fn tell_standing(
        &mut self,
        slot: u32,
        standing: Option<Standing>,
        out: &mut impl Output,
    ) {
        let session = self.registry.name(slot);
        self.handle_standing(self.id, session, standing);
        self.send_to_peers(|| Message::Standing { session, standing }, out);
    }

    fn present_standing(&self, slot: u32) -> Standing {
        let resident = self.registry.get(slot);
        let load = match resident.connection {
            None => Load::OFFLINE,
            Some(_) => {
                Load::of(resident.session.queued_count() + resident.session.inflight_count())
            }
        };
        let (version, packet_bytes_max) = (resident.peer.version, resident.peer.packet_bytes_max);
        Standing { load, version, packet_bytes_max }
    }
}

/// Whether a member takes a publish: what its home will find when the publish is there, unless the
/// client has come back with other limits meanwhile. Of one that is offline they are not known.
pub(super) fn fits(outgoing: &Outgoing<'_>, terms: &Subscribed, standing: &Standing) -> bool {
    let Standing { load, version, packet_bytes_max } = *standing;
    let qos = terms.qos.min(outgoing.view().qos); // [MQTT-3.8.4-8]
    let id = terms.id.map(NonZeroU32::get);
    load == Load::OFFLINE || takes(version, packet_bytes_max, outgoing, qos, id.as_slice())
}
