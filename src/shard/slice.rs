//! What is too much for one turn goes on slice by slice, between other work: see `put_off.rs` for
//! what has to wait for what.
//!
//! The bounds: a client of this shard is not read while too many of its own publishes are put
//! off; beyond that nobody is who publishes to this shard, here or through the mesh (`links.rs`).

use crate::metrics::DropCause;
use crate::session::{Outgoing, Publication};

use super::connection::Pause;
use super::deliver::Targets;
use super::message::Origin;
use super::put_off::{FanOut, Job, PutOff, Slices};
use super::{Message, Output, SessionRef, Shard};

/// Jobs that share one slice: none has all of it while others wait.
const JOBS_PER_SLICE: usize = 4;
/// A publish counts as so many deliveries at least: what many clients send to one subscriber must
/// not fill its outbox before there was time to write.
const DELIVERIES_MIN: usize = 16;

impl Shard {
    /// The executor has written what it was given, and asks whether [`Input::Continue`] is due
    /// now: there is more to deliver, which was put off.
    ///
    /// [`Input::Continue`]: super::Input::Continue
    pub fn end_turn(&mut self) -> bool {
        self.room = self.slices.delivery_count;
        !self.put_off.is_empty() || !self.replaying.is_empty()
    }

    /// Goes on with what was put off, for the length of one slice.
    pub(super) fn handle_continue(&mut self, out: &mut impl Output) {
        let share = (self.slices.subscriber_count / JOBS_PER_SLICE).max(1);
        let (mut served, mut delivered) = (0, 0);
        while served < self.slices.subscriber_count && delivered < self.slices.delivery_count {
            let Some((number, mut job)) = self.put_off.take() else { return };
            if let Job::FanOut(fan_out) = &mut job {
                let room = (self.slices.delivery_count - delivered) / fan_out.publishes.len();
                let width = share.min(room).max(1);
                served += width;
                delivered += width * fan_out.publishes.len();
                self.fan_out(fan_out, width, out);
                if fan_out.next < fan_out.targets.len() {
                    self.put_off.give_back(number, job);
                    continue;
                }
            } else {
                served += 1;
            }
            self.finish(number, job, out);
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
        !self.put_off.is_empty() && self.put_off.count_of(origin) >= self.slices.put_off_of_one_max
    }

    /// The broker stops: nobody gets what is put off any more.
    pub(super) fn abandon_put_off(&mut self) {
        for job in self.put_off.drain() {
            let count = match job {
                Job::FanOut(fan_out) => {
                    (fan_out.targets.len() - fan_out.next) * fan_out.publishes.len()
                }
                Job::Shared(..) => 1,
                Job::Replayed { publications, .. } => publications.len(),
            };
            self.counters.ledger.matched += count as u64;
            self.counters.ledger.dropped[DropCause::SessionEnded as usize] += count as u64;
        }
    }

    /// Gives publishes to the next few of those who want them.
    fn fan_out(&mut self, fan_out: &mut FanOut, width: usize, out: &mut impl Output) {
        let end = (fan_out.next + width).min(fan_out.targets.len());
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

    /// A job is done, or is now: whoever waits for it is told.
    fn finish(&mut self, number: u64, job: Job, out: &mut impl Output) {
        match &job {
            Job::FanOut(_) => {}
            Job::Shared(publish, chosen) => {
                let mut outgoing = Outgoing::kept(&publish.publication);
                self.deliver_shared(&mut outgoing, chosen.clone(), out);
            }
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
