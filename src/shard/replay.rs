//! Retained messages for a new subscription, as many at a time as the subscriber can take.
//!
//! Every owner of matching topics is asked in turn. A home asks for the next lot only when the
//! session has room, so a filter that matches a million retained messages costs neither shard
//! more than one lot of memory, and other work goes on between two lots.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::routing::{Placement, ShardId};
use crate::session::{Extras, Outgoing, Publication, Terms};

use super::message::ReplayRequest;
use super::put_off::Job;
use super::{Message, Output, SessionRef, Shard, Timer};

/// Retained messages in one lot.
const LOT_COUNT: usize = 64;
/// Bytes after which a lot ends.
const LOT_BYTES: usize = 32 * 1024;
/// Lots that are sent before other work has its turn.
const LOTS_PER_INPUT: usize = 8;
/// The next lot waits while more than this is in the subscriber's outbox.
const OUTBOX_BYTES_MAX: usize = 64 * 1024;

/// One filter whose retained messages are still being sent to one session.
#[derive(Debug)]
pub(super) struct Replay {
    /// Tells an answer for this replay from one for another that was given up.
    number: u32,
    filter: Box<str>,
    /// Owner that is being asked; those before it are done.
    owner: usize,
    after: Option<Box<str>>,
}

/// The replays of one session, one after the other.
#[derive(Debug, Default)]
pub(super) struct Replays {
    waiting: VecDeque<Replay>,
    next_number: u32,
    /// Another shard has been asked and has not answered.
    asked: bool,
}

impl Replay {
    pub(super) fn new(filter: &str) -> Self {
        Self { number: 0, filter: filter.into(), owner: 0, after: None }
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }
}

impl Replays {
    pub(super) fn forget(&mut self, filter: &str) {
        self.waiting.retain(|replay| *replay.filter != *filter);
    }
}

impl Shard {
    pub(super) fn add_replays(&mut self, slot: u32, replays: Vec<Replay>) {
        if !replays.is_empty() {
            let aside = self.registry.get_mut(slot).set_aside();
            let held = aside.replays.get_or_insert_default();
            for mut replay in replays {
                replay.number = held.next_number;
                held.next_number = held.next_number.wrapping_add(1);
                held.waiting.push_back(replay);
            }
        }
    }

    /// The session may have room for more.
    pub(super) fn replay_later(&mut self, slot: u32) {
        if self.registry.get(slot).is_replaying() {
            self.replaying.push_back(self.registry.name(slot));
        }
    }

    /// Goes on with all replays that may, for a while; what is left then goes on soon.
    pub(super) fn go_on_replaying(&mut self, out: &mut impl Output) {
        for _ in 0..LOTS_PER_INPUT {
            let Some(session) = self.replaying.pop_front() else { return };
            self.replay(session, out);
        }
        if !self.replaying.is_empty() {
            self.set_timer(self.now, Timer::Replays);
        }
    }

    /// Sends one lot, or asks the owner for it, if the session has room.
    fn replay(&mut self, session: SessionRef, out: &mut impl Output) {
        let Some(slot) = self.registry.resolve(session) else { return };
        if !self.has_room(slot, out) {
            return;
        }
        let resident = self.registry.get_mut(slot);
        let Some(mut replays) = resident.aside_mut().and_then(|aside| aside.replays.take()) else {
            return;
        };
        if replays.asked {
            resident.set_aside().replays = Some(replays);
            return;
        }
        let Some(replay) = replays.waiting.front_mut() else { return resident.tidy() };
        match self.next_owner(replay) {
            None => {
                replays.waiting.pop_front();
            }
            Some(owner) if owner == self.id => {
                let (filter, after) = (replay.filter.clone(), replay.after.take());
                let (publications, after) = self.retained_lot(&filter, after.as_deref());
                if self.must_put_off_retained(&publications) {
                    let replay = replay.number;
                    replays.asked = true; // Answered when the job is done.
                    self.put_off(Job::Replayed { session, replay, publications, after }, out);
                } else {
                    replay.move_on(after);
                    self.deliver_retained(slot, &publications, &filter, out);
                }
            }
            Some(owner) => {
                replays.asked = true;
                let (filter, after) = (replay.filter.clone(), replay.after.take());
                let request = ReplayRequest { session, replay: replay.number, filter, after };
                self.send(owner, Message::Replay(request), out);
            }
        }
        self.registry.get_mut(slot).set_aside().replays = Some(replays);
        self.replay_later(slot);
    }

    /// At the owner: another shard asks for a lot.
    pub(super) fn handle_replay(
        &mut self,
        from: ShardId,
        request: ReplayRequest,
        out: &mut impl Output,
    ) {
        let ReplayRequest { session, replay, filter, after } = request;
        let (publications, after) = self.retained_lot(&filter, after.as_deref());
        self.send(from, Message::Replayed { session, replay, publications, after }, out);
    }

    /// At the home: the lot that was asked for.
    pub(super) fn handle_replayed(
        &mut self,
        session: SessionRef,
        replay: u32,
        publications: Vec<Publication>,
        after: Option<Box<str>>,
        out: &mut impl Output,
    ) {
        if self.must_put_off_retained(&publications) {
            self.put_off(Job::Replayed { session, replay, publications, after }, out);
        } else {
            self.deliver_replayed(session, replay, &publications, after, out);
        }
    }

    /// Gives a session the lot that it has asked for.
    pub(super) fn deliver_replayed(
        &mut self,
        session: SessionRef,
        replay: u32,
        publications: &[Publication],
        after: Option<Box<str>>,
        out: &mut impl Output,
    ) {
        let Some(slot) = self.registry.resolve(session) else { return };
        let aside = self.registry.get_mut(slot).aside_mut();
        let Some(replays) = aside.and_then(|aside| aside.replays.as_mut()) else { return };
        replays.asked = false;
        let asked = |candidate: &&mut Replay| candidate.number == replay;
        if let Some(replay) = replays.waiting.front_mut().filter(asked) {
            replay.move_on(after);
            let filter = replay.filter.clone();
            self.deliver_retained(slot, publications, &filter, out);
        }
        self.replay_later(slot);
    }

    fn retained_lot(
        &self,
        filter: &str,
        after: Option<&str>,
    ) -> (Vec<Publication>, Option<Box<str>>) {
        let mut publications = Vec::new();
        let mut keep = |_: &str, publication: &Publication| publications.push(publication.clone());
        let after = self.retained.matching(filter, after, LOT_COUNT, &mut keep);
        let mut bytes = 0;
        let is_over = |publication: &Publication| {
            bytes += publication.len();
            bytes > LOT_BYTES
        };
        // At least one, and the rest again with the next lot.
        if let Some(end) = publications.iter().position(is_over).map(|over| over.max(1))
            && end < publications.len()
        {
            publications.truncate(end);
            return (publications.clone(), Some(publications[end - 1].topic().into()));
        }
        (publications, after.map(Into::into))
    }

    /// On the terms of now: the filter may have been given up, or others asked for, since.
    fn deliver_retained(
        &mut self,
        slot: u32,
        publications: &[Publication],
        filter: &str,
        out: &mut impl Output,
    ) {
        let Some(subscribed) = self.subscriptions.get(filter, slot) else { return };
        let (limits, now) = (self.limits, self.now);
        let extras = subscribed
            .id
            .map(|id| Rc::new(Extras { subscription_ids: vec![id.get()], share: None }));
        self.with_wire(slot, out, |session, wire| {
            for publication in publications {
                if publication.expiry().is_some_and(|expiry| expiry <= now) {
                    continue; // [MQTT-3.3.2-5]
                }
                let qos = subscribed.qos.min(publication.qos()); // [MQTT-3.8.4-8]
                let mut outgoing = Outgoing::kept(publication);
                // Retained: sent because of a new subscription [MQTT-3.3.1-8] of 3.1.1.
                let terms = Terms { qos, retain: true, extras: extras.clone() };
                session.handle_delivery(&mut outgoing, &terms, &limits, wire);
            }
        });
    }

    fn has_room(&self, slot: u32, out: &mut impl Output) -> bool {
        let resident = self.registry.get(slot);
        let Some(connection) = resident.connection else { return false };
        if out.outbox_len(connection) > OUTBOX_BYTES_MAX {
            out.outbox(connection).want_drained(OUTBOX_BYTES_MAX / 2);
            return false;
        }
        resident.session.queued_count() == 0
    }

    fn next_owner(&self, replay: &mut Replay) -> Option<ShardId> {
        match self.partition.placement(&replay.filter) {
            Placement::One(owner) => (replay.owner == 0).then_some(owner),
            Placement::Every => {
                let in_range = replay.owner < self.partition.shard_count();
                in_range.then(|| ShardId::from_index(replay.owner))
            }
        }
    }
}

impl Replay {
    fn move_on(&mut self, after: Option<Box<str>>) {
        self.owner += usize::from(after.is_none());
        self.after = after;
    }
}
