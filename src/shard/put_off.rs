//! Deferred deliveries, and which of them are ready to run.
//!
//! Order is kept only where it is promised: a job waits for every earlier job that shares a topic
//! or a publisher with it. The jobs that are ready take turns, so a publish to a million
//! subscribers does not delay other topics. Until a job begins, publishes of the same topic to the
//! same subscribers join it: each subscriber then gets them together.

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

use ahash::AHashMap;

use crate::metrics::AuditError;
use crate::routing::Chosen;
use crate::session::Publication;

use super::deliver::Targets;
use super::message::{Origin, Source};
use super::{Receipt, SessionRef, work};

/// The most publishes in one job.
const PUBLISHES_PER_JOB: usize = 64;

/// Limits of what is delivered before other work has its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slices {
    /// Subscribers that are served before the executor writes to them. A publish with more of them
    /// is deferred, and goes on slice by slice.
    pub subscriber_count: usize,
    /// Deliveries in one turn; further ones are deferred. A publish counts as at least 16.
    pub delivery_count: usize,
    /// Once this many publishes are deferred, connections that publish to this shard are not read
    /// until half of them are done.
    pub put_off_count_max: usize,
    /// Bytes of deferred publishes that have the same effect.
    pub put_off_bytes_max: usize,
    /// Once this many of its publishes are deferred, a client of this shard is not read.
    pub put_off_of_one_max: usize,
    /// Subscriptions and places of the tables that are examined at once to find the subscribers of
    /// a publish. If that is not enough, the publish is deferred.
    pub match_count: usize,
    /// Units of work after which an input ends (see `work.rs`). A connection that has used them is
    /// read again when the others have had their turn.
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

/// A deferred piece of work.
#[derive(Debug)]
pub(super) enum Job {
    /// Publishes of one topic to the same sessions.
    FanOut(FanOut),
    /// A publish whose sessions are not known yet; none of them is newer than `newest`.
    Search { publish: PutOff, newest: u32 },
    /// A publish to the chosen members of shared subscriptions.
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
    /// The index of the first target that has not been served.
    pub(super) next: usize,
    /// The newest session of the shard when the targets were looked up.
    pub(super) newest: u32,
    pub(super) publishes: Vec<PutOff>,
}

impl FanOut {
    /// Returns the cost of giving one subscriber all publishes, in deliveries of small ones.
    pub(super) fn weight(&self) -> usize {
        self.publishes.iter().map(|put_off| work::weight(put_off.publication.payload_len())).sum()
    }
}

/// A deferred publish.
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
    /// Returns the publishes of this job; a replay has none.
    pub(super) fn publishes(&self) -> &[PutOff] {
        match self {
            Self::FanOut(fan_out) => &fan_out.publishes,
            Self::Search { publish, .. } | Self::Shared(publish, _) => {
                std::slice::from_ref(publish)
            }
            Self::Replayed { .. } => &[],
        }
    }

    /// Turns a search into a fan-out, once its targets are known.
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

/// All deferred jobs, by number.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: AHashMap<u64, Job>,
    /// Jobs that are ready to run, oldest first.
    runnable: VecDeque<u64>,
    topics: Lanes<Box<str>>,
    publishers: Lanes<Origin>,
    next_number: u64,
    count: usize,
    bytes: usize,
}

impl Jobs {
    /// Returns whether nothing is deferred.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the number of deferred publishes; retained messages for one session count as one.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns the bytes of all deferred publishes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a publish has to wait for another, to be in order.
    pub(super) fn holds_back(&self, topic: &str, origin: Option<Origin>) -> bool {
        !self.is_empty()
            && (self.topics.last(topic).is_some()
                || origin.is_some_and(|origin| self.publishers.last(&origin).is_some()))
    }

    /// Returns how many of a client's publishes are deferred.
    pub(super) fn count_of(&self, origin: Origin) -> usize {
        self.publishers.count(&origin)
    }

    /// Defers a publish to these targets; it joins a job that has not begun, if it may.
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

    /// Takes the next job that is ready. The caller gives it back or finishes it.
    pub(super) fn take(&mut self) -> Option<(u64, Job)> {
        let number = self.runnable.pop_front()?;
        let job = self.jobs.remove(&number).expect("only jobs that are there may go on");
        Some((number, job))
    }

    /// Puts a job that is not done at the end of the ready queue.
    pub(super) fn give_back(&mut self, number: u64, job: Job) {
        self.jobs.insert(number, job);
        self.runnable.push_back(number);
    }

    /// Removes a job that is done, and makes the jobs ready that waited for it alone.
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

    /// Takes all jobs out.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        std::mem::take(self).jobs.into_values().collect()
    }

    /// Compares the charges with the jobs, and the ready queue with the jobs that may run.
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

    /// Returns the job that a publish may join: it has not begun, and the publish waits for no
    /// later job.
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

/// Queues of job numbers, one for each topic or publisher.
#[derive(Debug)]
struct Lanes<K> {
    lanes: AHashMap<K, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    numbers: VecDeque<u64>,
    /// How many publishes are in the lane.
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

    /// Adds a publish of a job to the end of a lane. The job may be in it already.
    fn enter(&mut self, key: K, number: u64) {
        let lane = self.lanes.entry(key).or_default();
        lane.count += 1;
        if lane.numbers.back() != Some(&number) {
            lane.numbers.push_back(number);
        }
    }

    /// Takes a publish of the first job out of a lane; returns the job that is first then.
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
