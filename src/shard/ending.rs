//! The end of a session: its deliveries and its filters go a few at a time.
//!
//! A session that is over has no name any more: no client finds it, and nothing is delivered to it.
//! Its slot stays in use until its last filter is out of the tables, so that no other session is
//! taken for it meanwhile.

use crate::metrics::allocated;

use super::{Output, SessionRef, Shard, work};

/// A session that is over, and what is left of it.
#[derive(Debug)]
pub(super) struct Ending {
    slot: u32,
    /// What it was called while it lived: shared groups know it by that.
    session: SessionRef,
}

impl Shard {
    /// Ends a session. Most have few deliveries and filters, and nothing is left of them when this
    /// returns.
    pub(super) fn retire(&mut self, slot: u32, out: &mut impl Output) {
        let session = self.registry.name(slot);
        self.registry.retire(slot);
        self.work.charge(work::SESSION);
        let ending = Ending { slot, session };
        if !self.end_some(&ending, out) {
            self.routes.forget_all(); // Some may name its slot.
            self.endings.push_back(ending);
        }
    }

    /// Goes on with the sessions that are over, in turn.
    pub(super) fn go_on_ending(&mut self, out: &mut impl Output) {
        while !self.is_used_up()
            && self.links.behind().is_none()
            && let Some(ending) = self.endings.pop_front()
        {
            if !self.end_some(&ending, out) {
                self.endings.push_back(ending);
            }
        }
    }

    /// Gives up deliveries, then filters, for as long as the input may take, and while other shards
    /// can be told of what concerns them; true if that was all.
    fn end_some(&mut self, ending: &Ending, out: &mut impl Output) -> bool {
        loop {
            let is_delivery = self.end_delivery(ending, out);
            if is_delivery {
                self.reassign_given_back(out);
            } else if !self.end_filter(ending, out) {
                let client_id = self.registry.get(ending.slot).session.client_id();
                self.account.names -= allocated(client_id.len());
                self.registry.release(ending.slot);
                return true;
            }
            let concerns_others = !is_delivery || self.registry.get(ending.slot).share_count() > 0;
            if self.is_used_up() || concerns_others && self.links.behind().is_some() {
                return false;
            }
        }
    }

    /// Gives up one delivery; false if there is none.
    fn end_delivery(&mut self, ending: &Ending, out: &mut impl Output) -> bool {
        self.work.charge(work::GIVE_UP);
        self.with_wire(ending.slot, out, |session, wire| session.give_up_next(wire))
    }

    /// Takes out one filter; false if there is none.
    fn end_filter(&mut self, ending: &Ending, out: &mut impl Output) -> bool {
        let Ending { slot, session, .. } = *ending;
        let resident = self.registry.get_mut(slot);
        if let Some(key) = resident.filters.pop() {
            let filter: Box<str> = self.subscriptions.filter(key).into();
            return self.remove_subscription(slot, &filter, out);
        }
        let share = resident.aside_mut().and_then(|aside| aside.shares.pop());
        let Some(key) = share else { return false };
        let group: Box<str> = self.shares.filter(key).into();
        self.part(slot, session, &group, out)
    }
}
