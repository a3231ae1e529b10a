//! Deliveries that wait for one session: bounded in number and in bytes.
//!
//! Policy: when a limit is reached the *new* delivery is dropped and counted; what was queued
//! before keeps its place. An older message is never given up for a newer one, unless its own time
//! is over.

use std::collections::VecDeque;

use crate::config::Limits;
use crate::metrics::{AuditError, DropCause};

use super::{Delivery, Time};

/// Room for so many is kept when the queue is empty: one that fills again and again costs the
/// allocator nothing.
const KEPT_COUNT: usize = 8;

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    deliveries: VecDeque<Delivery>,
    /// Sum of the bytes of `deliveries`, shared or not.
    bytes: usize,
    /// Before this none of them expires; without it none does.
    first_expiry: Option<Time>,
}

impl Queue {
    /// Whether there is room for one more.
    ///
    /// # Errors
    /// The limit that stands in the way.
    pub(super) fn admit(&self, delivery: &Delivery, limits: &Limits) -> Result<(), DropCause> {
        if self.deliveries.len() >= limits.queue_count_max {
            return Err(DropCause::QueueFull);
        }
        if self.bytes + delivery.publication.len() > limits.queue_bytes_max {
            return Err(DropCause::QueueBytesFull);
        }
        Ok(())
    }

    /// Adds at the end.
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.publication.len();
        self.first_expiry = earlier(self.first_expiry, delivery.publication.expiry());
        self.deliveries.push_back(delivery);
    }

    /// Takes out what has expired [MQTT-3.3.2-5]; how many.
    pub(super) fn sweep(&mut self, now: Time) -> u64 {
        if self.first_expiry.is_none_or(|first| first > now) {
            return 0;
        }
        let before = self.deliveries.len();
        self.deliveries.retain(|one| one.publication.expiry().is_none_or(|expiry| expiry > now));
        self.bytes = self.deliveries.iter().map(|one| one.publication.len()).sum();
        let expiries = self.deliveries.iter().map(|one| one.publication.expiry());
        self.first_expiry = expiries.fold(None, earlier);
        (before - self.deliveries.len()) as u64
    }

    /// Takes from the front.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        self.bytes -= delivery.publication.len();
        if self.deliveries.is_empty() {
            self.deliveries.shrink_to(KEPT_COUNT);
            self.first_expiry = None;
        }
        Some(delivery)
    }

    /// Compares the bytes that are charged with those that are there.
    pub(super) fn audit(&self) -> Result<(), AuditError> {
        let held: usize = self.deliveries.iter().map(|one| one.publication.len()).sum();
        AuditError::compare("bytes queued", self.bytes as u64, held as u64)
    }

    /// Bytes of all that waits, shared or not.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory without what is shared.
    pub(super) fn memory_bytes(&self) -> usize {
        self.deliveries.capacity() * size_of::<Delivery>()
    }

    /// Deliveries in the queue.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// True when nothing waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }
}

fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    one.into_iter().chain(other).min()
}
