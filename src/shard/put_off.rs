//! Deliveries that are put off, and which of them may go on.
//!
//! Order is kept only where it is promised: a job waits for every earlier one that has one of its
//! topics or one of its publishers. All jobs that wait for nobody take turns, so a publish to a
//! million subscribers holds up no other topic. Publishes of one topic with the same subscribers
//! are one job until it begins: each subscriber then gets them together.

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

use ahash::AHashMap;

use crate::metrics::AuditError;
use crate::routing::Chosen;
use crate::session::Publication;

use super::deliver::Targets;
use super::message::{Origin, Source};
use super::{Receipt, SessionRef, work};

/// Publishes in one job.
const PUBLISHES_PER_JOB: usize = 64;

/// How much is delivered before other work has its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slices {
    /// Subscribers that are served before the executor writes to them; a publish that has more is
    /// put off, and goes on slice by slice.
    pub subscriber_count: usize,
    /// Deliveries in one turn; what there is to deliver beyond that is put off. A publish counts
    /// as 16 at least.
    pub delivery_count: usize,
    /// With so many publishes put off, those who publish to this shard are not read until half of
    /// them are done.
    pub put_off_count_max: usize,
    /// Bytes of the publishes that are put off, to the same effect.
    pub put_off_bytes_max: usize,
    /// With so many of its publishes put off, a client of this shard is not read.
    pub put_off_of_one_max: usize,
    /// Subscriptions and places of the tables that are looked at together to find out who gets a
    /// publish; where that is not enough, the publish is put off.
    pub match_count: usize,
    /// Units of work after which an input is over (see `work.rs`): a connection that has used them
    /// is read on when the others have had their turn.
    pub input_units: u32,
    /// Units of work after which other tasks of the executor have their turn.
    pub turn_units: u32,
}

impl Default for Slices {
    fn default() -> Self {
        Self {
            subscriber_count: 2048,
            delivery_count: 64 * 1024,
            put_off_count_max: 1024,
            put_off_bytes_max: 16 << 20,
            put_off_of_one_max: 64,
            match_count: 1024,
            input_units: 6 * 1024,
            turn_units: 96 * 1024,
        }
    }
}

/// One thing that is put off.
#[derive(Debug)]
pub(super) enum Job {
    /// Publishes of one topic to the same sessions.
    FanOut(FanOut),
    /// A publish to sessions that are still to be found, none of them newer than `newest`.
    Search { publish: PutOff, newest: u32 },
    /// A publish to the members of shared subscriptions that were chosen.
    Shared(PutOff, VecDeque<Chosen<SessionRef>>),
    /// Retained messages of several topics for one session.
    Replayed {
        session: SessionRef,
        replay: u32,
        publications: Vec<Publication>,
        after: Option<Box<str>>,
    },
}

/// Publishes of one topic to the same sessions.
#[derive(Debug)]
pub(super) struct FanOut {
    pub(super) targets: Targets,
    /// The first target that has got none of them.
    pub(super) next: usize,
    /// The newest session of the shard when the targets were looked up.
    pub(super) newest: u32,
    pub(super) publishes: Vec<PutOff>,
}

impl FanOut {
    /// What it costs to give one subscriber all publishes, in deliveries of small ones.
    pub(super) fn weight(&self) -> usize {
        self.publishes.iter().map(|put_off| work::weight(put_off.publication.payload_len())).sum()
    }
}

/// One publish.
#[derive(Debug)]
pub(super) struct PutOff {
    pub(super) publication: Publication,
    pub(super) origin: Option<Origin>,
    pub(super) receipt: Option<Receipt>,
}

impl PutOff {
    pub(super) fn new(publication: Publication, source: &Source) -> Self {
        Self { publication, origin: source.origin, receipt: source.receipt() }
    }
}

impl Job {
    /// What somebody published; a replay has nothing of the kind.
    pub(super) fn publishes(&self) -> &[PutOff] {
        match self {
            Self::FanOut(fan_out) => &fan_out.publishes,
            Self::Search { publish, .. } | Self::Shared(publish, _) => {
                std::slice::from_ref(publish)
            }
            Self::Replayed { .. } => &[],
        }
    }

    /// The same when it is known who gets it.
    pub(super) fn with_targets(self, targets: Option<Targets>) -> Self {
        match (self, targets) {
            (Self::Search { publish, newest }, Some(targets)) => {
                let publishes = vec![publish];
                Self::FanOut(FanOut { targets, next: 0, newest, publishes })
            }
            (job, _) => job,
        }
    }

    pub(super) fn publishers(&self) -> impl Iterator<Item = Origin> {
        self.publishes().iter().filter_map(|publish| publish.origin)
    }

    fn publications(&self) -> impl Iterator<Item = &Publication> {
        let retained = match self {
            Self::Replayed { publications, .. } => publications.as_slice(),
            Self::FanOut(_) | Self::Search { .. } | Self::Shared(..) => &[],
        };
        self.publishes().iter().map(|publish| &publish.publication).chain(retained)
    }

    fn topics(&self) -> BTreeSet<&str> {
        self.publications().map(Publication::topic).collect()
    }

    fn bytes(&self) -> usize {
        self.publications().map(Publication::len).sum()
    }
}

/// All that is put off, by the number of its job.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: AHashMap<u64, Job>,
    /// Who waits for nobody, in turn.
    runnable: VecDeque<u64>,
    topics: Lanes<Box<str>>,
    publishers: Lanes<Origin>,
    next_number: u64,
    count: usize,
    bytes: usize,
}

impl Jobs {
    /// Whether nothing is put off.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Publishes that are put off; retained messages for one session count as one.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of all that is put off.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a publish has to wait for another, to be in order.
    pub(super) fn holds_back(&self, topic: &str, origin: Option<Origin>) -> bool {
        !self.is_empty()
            && (self.topics.last(topic).is_some()
                || origin.is_some_and(|origin| self.publishers.last(&origin).is_some()))
    }

    /// How many of a client's publishes are put off.
    pub(super) fn count_of(&self, origin: Origin) -> usize {
        self.publishers.count(&origin)
    }

    /// Adds a publish to all sessions that want it.
    pub(super) fn push_publish(&mut self, publish: PutOff, targets: Targets, newest: u32) {
        let Some(number) = self.joinable(&publish, &targets) else {
            let publishes = vec![publish];
            return self.push(Job::FanOut(FanOut { targets, next: 0, newest, publishes }));
        };
        self.charge(&publish.publication);
        if let Some(origin) = publish.origin {
            self.publishers.enter(origin, number);
        }
        let Some(Job::FanOut(fan_out)) = self.jobs.get_mut(&number) else { return };
        fan_out.publishes.push(publish);
    }

    /// Adds a job behind those that it has to wait for.
    pub(super) fn push(&mut self, job: Job) {
        let number = self.next_number;
        self.next_number += 1;
        self.count += units(&job);
        self.bytes += job.bytes();
        job.topics().iter().for_each(|topic| self.topics.enter((*topic).into(), number));
        job.publishers().for_each(|origin| self.publishers.enter(origin, number));
        let is_free = self.is_free(&job, number);
        self.jobs.insert(number, job);
        if is_free {
            self.runnable.push_back(number);
        }
    }

    /// The next job that may go on; to be given back, or finished.
    pub(super) fn take(&mut self) -> Option<(u64, Job)> {
        let number = self.runnable.pop_front()?;
        let job = self.jobs.remove(&number).expect("only jobs that are there may go on");
        Some((number, job))
    }

    /// A job that is not done has its turn again after the others.
    pub(super) fn give_back(&mut self, number: u64, job: Job) {
        self.jobs.insert(number, job);
        self.runnable.push_back(number);
    }

    /// A job is done: those that waited for it and for nobody else may go on.
    pub(super) fn finish(&mut self, number: u64, job: &Job) {
        self.count -= units(job);
        self.bytes -= job.bytes();
        let mut next: BTreeSet<u64> = BTreeSet::new();
        for topic in job.topics() {
            next.extend(self.topics.leave(topic, number));
        }
        for origin in job.publishers() {
            next.extend(self.publishers.leave(&origin, number));
        }
        next.retain(|number| self.jobs.get(number).is_some_and(|job| self.is_free(job, *number)));
        self.runnable.extend(next);
    }

    /// Gives all of it up.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        std::mem::take(self).jobs.into_values().collect()
    }

    /// Compares what is charged with what is there, and who may go on with who waits for nobody.
    pub(super) fn audit(&self) -> Result<(), AuditError> {
        let count: usize = self.jobs.values().map(units).sum();
        let bytes: usize = self.jobs.values().map(Job::bytes).sum();
        AuditError::compare("publishes put off", self.count as u64, count as u64)?;
        AuditError::compare("bytes put off", self.bytes as u64, bytes as u64)?;
        let is_free = |(number, job): &(&u64, &Job)| self.is_free(job, **number);
        let free: BTreeSet<u64> = self.jobs.iter().filter(is_free).map(|(n, _)| *n).collect();
        let runnable: BTreeSet<u64> = self.runnable.iter().copied().collect();
        let is_one = free == runnable && runnable.len() == self.runnable.len();
        AuditError::compare("jobs that may go on", 1, u64::from(is_one))
    }

    /// The job that has not begun and that a publish may be part of: nothing that it has to wait
    /// for comes after.
    fn joinable(&self, publish: &PutOff, targets: &Targets) -> Option<u64> {
        let number = self.topics.last(publish.publication.topic())?;
        let before = publish.origin.and_then(|origin| self.publishers.last(&origin));
        let Job::FanOut(fan_out) = self.jobs.get(&number)? else { return None };
        let is_open = fan_out.next == 0 && fan_out.publishes.len() < PUBLISHES_PER_JOB;
        let is_alike = std::rc::Rc::ptr_eq(&fan_out.targets, targets);
        (is_open && is_alike && before.is_none_or(|before| before == number)).then_some(number)
    }

    fn charge(&mut self, publication: &Publication) {
        self.count += 1;
        self.bytes += publication.len();
    }

    fn is_free(&self, job: &Job, number: u64) -> bool {
        job.topics().iter().all(|topic| self.topics.first(*topic) == Some(number))
            && job.publishers().all(|origin| self.publishers.first(&origin) == Some(number))
    }
}

fn units(job: &Job) -> usize {
    match job {
        Job::FanOut(fan_out) => fan_out.publishes.len(),
        Job::Search { .. } | Job::Shared(..) | Job::Replayed { .. } => 1,
    }
}

/// Jobs that have one thing in common, each lane in order.
#[derive(Debug)]
struct Lanes<K> {
    lanes: AHashMap<K, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    numbers: VecDeque<u64>,
    /// How often it was entered and not left.
    count: usize,
}

impl<K> Default for Lanes<K> {
    fn default() -> Self {
        Self { lanes: AHashMap::default() }
    }
}

impl<K: Eq + Hash> Lanes<K> {
    fn first<Q>(&self, key: &Q) -> Option<u64>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.lanes.get(key)?.numbers.front().copied()
    }

    fn last<Q>(&self, key: &Q) -> Option<u64>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.lanes.get(key)?.numbers.back().copied()
    }

    fn count(&self, key: &K) -> usize {
        self.lanes.get(key).map_or(0, |lane| lane.count)
    }

    /// Adds a job, which may be in the lane already, at its end.
    fn enter(&mut self, key: K, number: u64) {
        let lane = self.lanes.entry(key).or_default();
        lane.count += 1;
        if lane.numbers.back() != Some(&number) {
            lane.numbers.push_back(number);
        }
    }

    /// The first job of a lane is done, or one of the publishes in it; the one behind it.
    fn leave<Q>(&mut self, key: &Q, number: u64) -> Option<u64>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let lane = self.lanes.get_mut(key)?;
        lane.count -= 1;
        if lane.numbers.front() == Some(&number) {
            lane.numbers.pop_front();
        }
        if lane.numbers.is_empty() {
            self.lanes.remove(key);
            return None;
        }
        lane.numbers.front().copied()
    }
}
