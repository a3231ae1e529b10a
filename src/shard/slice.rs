//! What is too much for one turn goes on slice by slice, between other work: see `put_off.rs` for
//! what has to wait for what.
//!
//! The bounds: a client of this shard is not read while too many of its own publishes are deferred.
//! Beyond a second bound no client is that publishes to this shard, here or through the mesh
//! (`links.rs`).

use std::collections::VecDeque;

use crate::metrics::DropCause;
use crate::routing::Chosen;
use crate::session::{Outgoing, Publication};

use super::deliver::Targets;
use super::message::Origin;
use super::pause::Pause;
use super::put_off::{FanOut, Job, PutOff, Slices};
use super::{Message, Output, SessionRef, Shard, work};

/// Jobs that share one slice: none has all of it while others wait.
const JOBS_PER_SLICE: usize = 4;
/// Deliveries of one slice, where publishes that wait together go to fewer subscribers.
const DELIVERIES_PER_SLICE: usize = 2048;
/// Connections that want more of a turn than they may have, from which on the turns are short.
const CROWD: usize = 4;
/// A publish counts as at least this many deliveries: what many clients send to one subscriber must
/// not fill its outbox before there was time to write.
const DELIVERIES_MIN: usize = 16;

/// What goes on in later turns, in the order in which they have their turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chore {
    /// Connections that have used what they may of a turn, or have waited for something else.
    Connections,
    /// Deliveries that were put off.
    Deliveries,
    /// Retained messages for new subscriptions.
    Replays,
    /// Deliveries and filters of sessions that are over.
    Endings,
    /// Timers that have fired.
    Timers,
    /// What had to wait for storage.
    Commits,
}

impl Chore {
    const ALL: [Self; 6] = [
        Self::Connections,
        Self::Deliveries,
        Self::Replays,
        Self::Endings,
        Self::Timers,
        Self::Commits,
    ];

    fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }
}

impl Shard {
    /// The executor has written what it was given, and asks whether [`Input::Continue`] is due
    /// now: there is more to do, which was put off.
    ///
    /// [`Input::Continue`]: super::Input::Continue
    pub fn end_turn(&mut self) -> bool {
        self.room = self.slices.delivery_count;
        self.begin_turn();
        Chore::ALL.iter().any(|chore| self.has(*chore))
    }

    /// A turn begins, whether or not everything of the last one is written.
    pub fn begin_turn(&mut self) {
        self.work.next_turn(self.is_crowded());
        self.routes.trim();
    }

    /// Whether this turn has taken as long as it may: what else has come waits for the next.
    pub fn is_turn_over(&self) -> bool {
        self.work.is_turn_used_up(&self.slices, self.is_crowded(), false)
    }

    /// Whether many connections want much, or there is little memory: then turns are short.
    pub fn is_crowded(&self) -> bool {
        self.aside.len() >= CROWD || self.account.is_short()
    }

    /// Units of work that the last input has used: for tests and benchmarks.
    pub fn input_units(&self) -> u64 {
        self.work.of_input()
    }

    /// Packets so far for which their senders want an answer or a delivery: all but
    /// acknowledgements.
    pub fn ask_count(&self) -> u64 {
        self.ask_count
    }

    /// Whether connections were put aside that may be read on in this turn, with
    /// [`Input::Continue`], so that what they cause is written together with the rest.
    ///
    /// [`Input::Continue`]: super::Input::Continue
    pub fn may_read_on(&self) -> bool {
        let is_alone = !self.is_crowded();
        !self.aside.is_empty()
            && !self.work.is_turn_used_up(&self.slices, self.is_crowded(), is_alone)
    }

    /// Goes on with what was put off, one kind after the other.
    pub(super) fn handle_continue(&mut self, out: &mut impl Output) {
        for _ in Chore::ALL {
            let chore = self.next_chore;
            self.next_chore = chore.next();
            if self.has(chore) {
                self.go_on_with(chore, out);
                if self.is_used_up() {
                    return;
                }
            }
        }
    }

    fn has(&self, chore: Chore) -> bool {
        match chore {
            Chore::Connections => {
                !self.aside.is_empty()
                    || !self.ready.is_empty()
                    || self.links.may_be_ready()
                    || self.take_overs.has_granted()
            }
            Chore::Deliveries => !self.put_off.is_empty(),
            Chore::Replays => !self.replaying.is_empty(),
            Chore::Endings => !self.endings.is_empty() && self.links.behind().is_none(),
            Chore::Timers => self.has_timers_due(),
            Chore::Commits => self.commits.has_due(),
        }
    }

    fn go_on_with(&mut self, chore: Chore, out: &mut impl Output) {
        match chore {
            Chore::Connections => self.read_on(out),
            Chore::Deliveries => self.deliver_put_off(out),
            Chore::Replays => self.go_on_replaying(out),
            Chore::Endings => self.go_on_ending(out),
            Chore::Timers => self.handle_due(out),
            Chore::Commits => self.keep_promises(out),
        }
    }

    /// Delivers what was put off, for the length of one slice.
    fn deliver_put_off(&mut self, out: &mut impl Output) {
        let share = (self.slices.subscriber_count / JOBS_PER_SLICE).max(1);
        let delivery_count = self.slices.delivery_count.min(DELIVERIES_PER_SLICE);
        let (mut served, mut delivered) = (0, 0);
        while served < self.slices.subscriber_count && delivered < delivery_count {
            let Some((number, mut job)) = self.put_off.take() else { return };
            if let Job::Search { publish, .. } = &job {
                served += share;
                let targets = self.go_on_searching(number, publish.publication.topic());
                self.search_count -= usize::from(targets.is_some());
                self.put_off.give_back(number, job.with_targets(targets));
                if self.is_used_up() {
                    return;
                }
                continue;
            }
            if let Job::FanOut(fan_out) = &mut job {
                let weight = fan_out.weight();
                let room = (delivery_count - delivered) / weight;
                let width = share.min(room).max(1);
                served += width;
                delivered += width * weight;
                self.fan_out(fan_out, width, out);
                if fan_out.next < fan_out.targets.len() {
                    self.put_off.give_back(number, job);
                    continue;
                }
            } else if let Job::Shared(publish, members) = &mut job {
                served += self.serve_members(publish, members, out);
                if !members.is_empty() {
                    return self.put_off.give_back(number, job);
                }
            } else {
                served += 1;
                self.work.charge(work::DELIVERY);
            }
            self.finish(number, job, out);
            if self.is_used_up() {
                return;
            }
        }
    }

    /// Whether a publish has to wait: for another, or because there are too many deliveries.
    pub(super) fn must_put_off(
        &mut self,
        topic: &str,
        origin: Option<Origin>,
        subscriber_count: usize,
    ) -> bool {
        let is_small = subscriber_count <= self.slices.subscriber_count;
        if !is_small || self.room == 0 || self.put_off.holds_back(topic, origin) {
            return true;
        }
        self.room = self.room.saturating_sub(subscriber_count.max(DELIVERIES_MIN));
        false
    }

    pub(super) fn put_off_publish(
        &mut self,
        publish: PutOff,
        targets: Targets,
        out: &mut impl Output,
    ) {
        self.counters.publishes_put_off += 1;
        self.put_off.push_publish(publish, targets, self.registry.newest());
        self.tell_busy(out);
    }

    pub(super) fn put_off(&mut self, job: Job, out: &mut impl Output) {
        self.counters.publishes_put_off += 1;
        self.put_off.push(job);
        self.tell_busy(out);
    }

    /// Whether retained messages have to wait for publishes of their topics.
    pub(super) fn must_put_off_retained(&self, publications: &[Publication]) -> bool {
        publications.iter().any(|publication| self.put_off.holds_back(publication.topic(), None))
    }

    /// Whether a client of this shard has to wait before it publishes more.
    pub(super) fn has_put_off_too_many(&self, session: SessionRef) -> bool {
        let origin = Origin { home: self.id, session };
        self.put_off.count_of(origin) >= self.slices.put_off_of_one_max
    }

    /// Drops all deferred publishes, because the broker stops.
    pub(super) fn abandon_put_off(&mut self) {
        self.lookups.clear();
        self.search_count = 0;
        for job in self.put_off.drain() {
            let count = match job {
                Job::FanOut(fan_out) => {
                    (fan_out.targets.len() - fan_out.next) * fan_out.publishes.len()
                }
                Job::Search { .. } => 0,
                Job::Shared(_, members) => members.len(),
                Job::Replayed { publications, .. } => publications.len(),
            };
            self.counters.ledger.matched += count as u64;
            self.counters.ledger.dropped[DropCause::SessionEnded as usize] += count as u64;
        }
    }

    /// Gives publishes to the next few targets.
    fn fan_out(&mut self, fan_out: &mut FanOut, width: usize, out: &mut impl Output) {
        let end = (fan_out.next + width).min(fan_out.targets.len());
        let delivery_count = (end - fan_out.next) * fan_out.weight();
        self.work.charge(work::times(work::DELIVERY, delivery_count));
        for publish in &fan_out.publishes {
            let mut outgoing = Outgoing::kept(&publish.publication);
            let publisher = self.publisher_here(publish.origin);
            let is_fan_out = fan_out.targets.len() > 1;
            self.layouts.clear();
            for target in &fan_out.targets[fan_out.next..end] {
                if self.registry.is_there_since(target.slot(), fan_out.newest) {
                    self.deliver_one(target, publisher, &mut outgoing, is_fan_out, out);
                }
            }
        }
        fan_out.next = end;
    }

    /// Gives a publish to members of groups, as many as the input may serve; how many.
    fn serve_members(
        &mut self,
        publish: &PutOff,
        members: &mut VecDeque<Chosen<SessionRef>>,
        out: &mut impl Output,
    ) -> usize {
        let mut outgoing = Outgoing::kept(&publish.publication);
        let before = members.len();
        while let Some(chosen) = members.pop_front() {
            self.deliver_shared(&mut outgoing, chosen, out);
            if self.is_used_up() {
                break;
            }
        }
        before - members.len()
    }

    /// Removes a job that is done, and answers the receipts that wait for it.
    fn finish(&mut self, number: u64, job: Job, out: &mut impl Output) {
        match &job {
            Job::FanOut(_) | Job::Search { .. } | Job::Shared(..) => {}
            Job::Replayed { session, replay, publications, after } => {
                self.deliver_replayed(*session, *replay, publications, after.clone(), out);
            }
        }
        for publish in job.publishes() {
            self.accept_when_safe(publish.receipt, out);
        }
        self.put_off.finish(number, &job);
        job.publishers().for_each(|origin| self.read_again(origin));
        self.tell_busy(out);
    }

    /// A client of this shard may publish more.
    fn read_again(&mut self, origin: Origin) {
        if origin.home == self.id
            && !self.has_put_off_too_many(origin.session)
            && let Some(slot) = self.registry.resolve(origin.session)
            && let Some(connection) = self.registry.get(slot).connection
        {
            self.unpause(connection, Pause::PutOff);
        }
    }

    /// Tells all that this shard has put off too much, and when it has done half of it.
    fn tell_busy(&mut self, out: &mut impl Output) {
        let Slices { put_off_count_max, put_off_bytes_max, .. } = self.slices;
        let part = if self.is_busy { 2 } else { 1 };
        let is_busy = self.put_off.len() * part >= put_off_count_max
            || self.put_off.bytes() * part >= put_off_bytes_max;
        if is_busy == self.is_busy {
            return;
        }
        self.is_busy = is_busy;
        self.links.handle_busy(self.id, is_busy, out);
        self.send_to_peers(|| Message::Busy { is_busy }, out);
    }
}
