//! Deliveries that wait for one session: bounded in number and in bytes.
//!
//! Policy: when a limit is reached the *new* delivery is dropped and counted; what was queued
//! before keeps its place. An older message is never given up for a newer one.

use std::collections::VecDeque;

use crate::config::Limits;
use crate::metrics::{AuditError, DropCause};

use super::Delivery;

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    deliveries: VecDeque<Delivery>,
    /// Sum of the bytes of `deliveries`, shared or not.
    bytes: usize,
}

impl Queue {
    /// Adds at the end.
    ///
    /// # Errors
    /// The limit that stands in the way; the delivery is dropped.
    pub(super) fn push(&mut self, delivery: Delivery, limits: &Limits) -> Result<(), DropCause> {
        if self.deliveries.len() >= limits.queue_count_max {
            return Err(DropCause::QueueFull);
        }
        let bytes = self.bytes + delivery.publication.len();
        if bytes > limits.queue_bytes_max {
            return Err(DropCause::QueueBytesFull);
        }
        self.bytes = bytes;
        self.deliveries.push_back(delivery);
        Ok(())
    }

    /// Takes from the front.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        self.bytes -= delivery.publication.len();
        if self.deliveries.is_empty() {
            *self = Self::default();
        }
        Some(delivery)
    }

    /// Compares the bytes that are charged with those that are there.
    pub(super) fn audit(&self) -> Result<(), AuditError> {
        let held: usize = self.deliveries.iter().map(|one| one.publication.len()).sum();
        AuditError::compare("bytes queued", self.bytes as u64, held as u64)
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
