//! The retained messages of the topics that this shard owns, and when each of them expires.
//!
//! The index of expiries holds what is retained and nothing else: an entry goes with its message,
//! however far away its expiry is. The shard looks at the first entry only, so no timer is set.

use std::collections::BTreeSet;
use std::time::Duration;

use ahash::RandomState;

use crate::metrics::{AuditError, allocated};
use crate::routing::{Retained, RetainedKey};
use crate::session::{Publication, Time};

use super::Shard;

/// Messages that are given up before other work has its turn.
const EXPIRED_PER_INPUT: usize = 256;
/// When the rest has its turn.
const EXPIRED_PAUSE: Duration = Duration::from_millis(1);

/// Memory of an entry of the index of expiries.
const EXPIRY_BYTES: usize = 24;
/// Memory of a retained message beside its topic as a key, and the message itself.
const ENTRY_BYTES: usize = 76;
/// Memory of a level of a topic among the names by which topics are found.
const LEVEL_BYTES: usize = 12;
/// As many levels are found by name.
const LEVEL_COUNT_MAX: usize = 17;

/// Bytes of memory of a topic as a key.
fn key_bytes(topic: &str) -> usize {
    let level_count = topic.split('/').count().min(LEVEL_COUNT_MAX);
    allocated(topic.len()) + ENTRY_BYTES + level_count * LEVEL_BYTES
}

/// A retained message.
#[derive(Debug)]
struct Kept {
    publication: Publication,
    /// When this shard retained it.
    since: Time,
}

/// Retained messages by topic and by expiry.
#[derive(Debug)]
pub(super) struct Archive {
    messages: Retained<Kept>,
    expiries: BTreeSet<(Time, RetainedKey)>,
    /// Bytes of the messages, topics and properties included.
    bytes: usize,
    /// Bytes of memory of the topics as keys.
    key_bytes: usize,
    /// Nothing is looked at before this, though it may have expired.
    pause: Time,
}

impl Archive {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            messages: Retained::with_hasher(hasher),
            expiries: BTreeSet::new(),
            bytes: 0,
            key_bytes: 0,
            pause: Time::START,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn get(&self, topic: &str) -> Option<&Publication> {
        self.messages.get(topic).map(|kept| &kept.publication)
    }

    /// Retains a message in the place of the one before [MQTT-3.3.1-5].
    pub(super) fn insert(&mut self, topic: &str, publication: Publication, since: Time) {
        let expiry = publication.expiry();
        self.bytes += publication.len();
        let before = self.messages.insert(topic, Kept { publication, since });
        let before = before.map(|kept| kept.publication);
        match &before {
            Some(before) => self.bytes -= before.len(),
            None => self.key_bytes += key_bytes(topic),
        }
        let expiry_before = before.as_ref().and_then(Publication::expiry);
        if expiry == expiry_before {
            return;
        }
        let key = self.messages.key(topic).expect("it was just retained");
        if let Some(expiry) = expiry_before {
            self.expiries.remove(&(expiry, key));
        }
        if let Some(expiry) = expiry {
            self.expiries.insert((expiry, key));
        }
    }

    /// Takes out what is retained for a topic [MQTT-3.3.1-6].
    pub(super) fn remove(&mut self, topic: &str) {
        let Some(key) = self.messages.key(topic) else { return };
        let Some(Kept { publication: before, .. }) = self.messages.remove(topic) else { return };
        self.bytes -= before.len();
        self.key_bytes -= key_bytes(topic);
        if let Some(expiry) = before.expiry() {
            self.expiries.remove(&(expiry, key));
        }
    }

    /// Visits the messages that a filter matches, as [`Retained::matching`] does, without those
    /// that were retained after `until`.
    pub(super) fn matching(
        &self,
        filter: &str,
        after: Option<&str>,
        limit: usize,
        until: Time,
        found: &mut impl FnMut(&Publication),
    ) -> Option<String> {
        self.messages.matching(filter, after, limit, &mut |_, kept| {
            if kept.since <= until {
                found(&kept.publication);
            }
        })
    }

    /// Bytes of the messages, topics and properties included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory without the messages themselves.
    pub(super) fn memory_bytes(&self) -> usize {
        self.key_bytes + self.expiries.len() * EXPIRY_BYTES
    }

    /// When the next message is to be given up.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.expiries.first().map(|(expiry, _)| (*expiry).max(self.pause))
    }

    /// Gives up what has expired [MQTT-3.3.2-5], a lot at a time.
    fn expire(&mut self, now: Time) {
        for _ in 0..EXPIRED_PER_INPUT {
            let Some(&(expiry, key)) = self.expiries.first() else { return };
            if expiry > now {
                return;
            }
            let topic = self.messages.at(key).publication.topic().to_owned();
            self.remove(&topic);
        }
        self.pause = now + EXPIRED_PAUSE;
    }

    /// Compares the index of expiries with what is retained.
    pub(super) fn audit(&self) -> Result<(), AuditError> {
        let (mut count, mut indexed, mut bytes, mut key_bytes_held) = (0, 0, 0, 0);
        self.messages.for_each(&mut |key, kept| {
            let publication = &kept.publication;
            bytes += publication.len() as u64;
            key_bytes_held += key_bytes(publication.topic()) as u64;
            if let Some(expiry) = publication.expiry() {
                count += 1;
                indexed += u64::from(self.expiries.contains(&(expiry, key)));
            }
        });
        AuditError::compare("bytes retained", self.bytes as u64, bytes)?;
        AuditError::compare("memory of retained topics", self.key_bytes as u64, key_bytes_held)?;
        AuditError::compare("expiries of retained messages", self.expiries.len() as u64, count)?;
        AuditError::compare("expiries that are indexed", indexed, count)
    }
}

impl Shard {
    pub(super) fn handle_retained_expiry(&mut self) {
        if self.archive.next_timeout().is_some_and(|due| due <= self.now) {
            self.archive.expire(self.now);
        }
    }
}
