//! Retained messages for a new subscription, as many at a time as the subscriber can take.
//!
//! Every owner of matching topics is asked in turn. A home asks for the next lot only when the
//! session has room, so a filter that matches a million retained messages costs neither shard
//! more than one lot of memory, and other work goes on between two lots.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::routing::{FilterKey, Placement, ShardId};
use crate::session::{Extras, Outgoing, Publication, Terms, Time};

use super::message::ReplayRequest;
use super::put_off::Job;
use super::registry::Registry;
use super::retained::Archive;
use super::work::Work;
use super::{Message, Output, SessionRef, Shard, work};

/// Retained messages in one lot.
const LOT_COUNT: usize = 64;
/// Bytes after which a lot ends.
const LOT_BYTES: usize = 32 * 1024;
/// The next lot waits while more than this is in the subscriber's outbox.
const OUTBOX_BYTES_MAX: usize = 64 * 1024;

/// One filter whose retained messages are being sent to one session.
#[derive(Debug)]
struct Replay {
    /// Tells an answer for this replay from one for another that was given up.
    number: u32,
    filter: FilterKey,
    /// Owner that is being asked; those before it are done.
    owner: usize,
    after: Option<Box<str>>,
}

/// The replays of one session, one after the other.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// The one that has begun.
    current: Option<Replay>,
    /// Filters whose replay has not begun, each once: it will send all that a second one would.
    /// All of them are subscribed to, so that their keys are valid.
    waiting: BTreeSet<FilterKey>,
    /// SUBSCRIBE packets with such filters that some owner has not heard of: until all have, no
    /// replay begins.
    unplaced_count: usize,
    next_number: u32,
    /// When the last of these SUBSCRIBE packets was placed: what is retained later comes by itself.
    until: Time,
    /// Another shard has been asked and has not answered.
    asked: bool,
    /// The session is in the list of those to go on with.
    is_listed: bool,
}

impl Replays {
    /// Gives up what is still to be sent for a filter. To be called before its key is free.
    pub(super) fn forget(&mut self, filter: FilterKey) {
        self.waiting.remove(&filter);
        self.current.take_if(|replay| replay.filter == filter);
    }

    /// The replay to go on with; none if there is none or it may not begin.
    fn next(&mut self) -> Option<&mut Replay> {
        if self.current.is_none() && self.unplaced_count == 0 {
            let number = self.next_number;
            let begin = |filter| Replay { number, filter, owner: 0, after: None };
            self.current = self.waiting.pop_first().map(begin);
            self.next_number = number.wrapping_add(1);
        }
        self.current.as_mut()
    }

    fn is_done(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty() && self.unplaced_count == 0
    }
}

impl Shard {
    /// A session is to get what is retained for one of its filters. It begins when all of its
    /// SUBSCRIBE packets are placed that `is_first` was said for.
    pub(super) fn add_replay(&mut self, slot: u32, filter: FilterKey, is_first: bool) {
        let aside = self.registry.get_mut(slot).set_aside();
        let replays = aside.replays.get_or_insert_default();
        replays.waiting.insert(filter);
        replays.unplaced_count += usize::from(is_first);
    }

    /// A SUBSCRIBE with replays is placed.
    pub(super) fn release_replays(&mut self, slot: u32) {
        let aside = self.registry.get_mut(slot).aside_mut();
        if let Some(replays) = aside.and_then(|aside| aside.replays.as_mut()) {
            replays.unplaced_count -= 1;
            replays.until = self.now;
        }
    }

    /// The session may have room for more.
    pub(super) fn replay_later(&mut self, slot: u32) {
        let name = self.registry.name(slot);
        let aside = self.registry.get_mut(slot).aside_mut();
        if let Some(replays) = aside.and_then(|aside| aside.replays.as_mut())
            && !std::mem::replace(&mut replays.is_listed, true)
        {
            self.replaying.push_back(name);
        }
    }

    /// Goes on with all replays that may, for a while; what is left then goes on in the next turn.
    pub(super) fn go_on_replaying(&mut self, out: &mut impl Output) {
        while !self.is_used_up()
            && let Some(session) = self.replaying.pop_front()
        {
            self.work.charge(work::WAKE);
            self.replay(session, out);
        }
    }

    /// Sends one lot, or asks the owner for it, if the session has room.
    fn replay(&mut self, session: SessionRef, out: &mut impl Output) {
        let Some(slot) = self.registry.resolve(session) else { return };
        let has_room = self.has_room(slot, out);
        let aside = self.registry.get_mut(slot).aside_mut();
        let Some(replays) = aside.and_then(|aside| aside.replays.as_mut()) else { return };
        replays.is_listed = false;
        if replays.asked || !has_room {
            return;
        }
        let Some(replay) = replays.next() else {
            return self.end_replays(slot);
        };
        let (number, key, from) = (replay.number, replay.filter, replay.owner);
        match self.owner_after(key, from) {
            None => replay_of(&mut self.registry, slot).current = None,
            Some(owner) => self.fetch_lot(slot, number, owner, out),
        }
        self.replay_later(slot);
    }

    /// Takes the next lot from this shard, or asks another for it.
    fn fetch_lot(&mut self, slot: u32, number: u32, owner: ShardId, out: &mut impl Output) {
        let session = self.registry.name(slot);
        let replays = replay_of(&mut self.registry, slot);
        let replay = replays.current.as_mut().expect("it goes on");
        let (key, after, until) = (replay.filter, replay.after.take(), replays.until);
        let filter = self.subscriptions.filter(key);
        if owner != self.id {
            replays.asked = true;
            let filter = filter.into();
            let request = ReplayRequest { session, replay: number, filter, after, until };
            return self.send(owner, Message::Replay(request), out);
        }
        let (publications, after) =
            Self::retained_lot(&mut self.work, &self.archive, filter, after.as_deref(), until);
        if self.must_put_off_retained(&publications) {
            replay_of(&mut self.registry, slot).asked = true; // Answered when the job is done.
            self.put_off(Job::Replayed { session, replay: number, publications, after }, out);
        } else {
            let replays = replay_of(&mut self.registry, slot);
            replays.current.iter_mut().for_each(|replay| replay.move_on(after.clone()));
            self.deliver_retained(slot, &publications, key, out);
        }
    }

    /// There is nothing to go on with.
    fn end_replays(&mut self, slot: u32) {
        let resident = self.registry.get_mut(slot);
        if let Some(aside) = resident.aside_mut() {
            aside.replays.take_if(|replays| replays.is_done());
        }
        resident.tidy();
    }

    /// At the owner: another shard asks for a lot.
    pub(super) fn handle_replay(
        &mut self,
        from: ShardId,
        request: ReplayRequest,
        out: &mut impl Output,
    ) {
        let ReplayRequest { session, replay, filter, after, until } = request;
        let (publications, after) =
            Self::retained_lot(&mut self.work, &self.archive, &filter, after.as_deref(), until);
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
        if let Some(replay) = replays.current.as_mut().filter(asked) {
            replay.move_on(after);
            let filter = replay.filter;
            self.deliver_retained(slot, publications, filter, out);
        }
        self.replay_later(slot);
    }

    fn retained_lot(
        work: &mut Work,
        archive: &Archive,
        filter: &str,
        after: Option<&str>,
        until: Time,
    ) -> (Vec<Publication>, Option<Box<str>>) {
        let mut publications = Vec::new();
        let looks = if filter.contains(['+', '#']) { 2 * LOT_COUNT } else { 0 };
        work.charge(work::filter(filter) + work::LOT + work::times(work::LOOK, looks));
        let mut keep = |publication: &Publication| publications.push(publication.clone());
        let after = archive.matching(filter, after, LOT_COUNT, until, &mut keep);
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
        filter: FilterKey,
        out: &mut impl Output,
    ) {
        self.work.charge(work::times(work::DELIVERY, publications.len()));
        let Some(subscribed) = self.subscriptions.get_by_key(filter, slot) else { return };
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

    /// The next owner of topics that a filter matches, when those before `from` are done.
    fn owner_after(&self, filter: FilterKey, from: usize) -> Option<ShardId> {
        match self.partition.placement(self.subscriptions.filter(filter)) {
            Placement::One(owner) => (from == 0).then_some(owner),
            Placement::Every => {
                (from < self.partition.shard_count()).then(|| ShardId::from_index(from))
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

fn replay_of(registry: &mut Registry, slot: u32) -> &mut Replays {
    let replays = registry.get_mut(slot).set_aside().replays.as_mut();
    replays.expect("a session that goes on has replays")
}
