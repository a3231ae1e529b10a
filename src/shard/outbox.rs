//! Bytes that wait for one connection.
//!
//! Small packets are copied one after the other, so that one system call carries many; a large
//! payload is not copied but shared with every other outbox that waits to send it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::metrics::AuditError;

/// A first allocation that holds a handful of small packets.
const FIRST_CAPACITY: usize = 512;

/// A tail is sealed before it grows beyond this, and another one begun: a long outbox is not moved
/// as it grows, and has little memory that holds nothing or what was written.
const TAIL_BYTES: usize = 64 * 1024;
/// A tail that is sealed is moved to memory of its size if more than this is left over.
const LEFT_OVER_BYTES_MAX: usize = 8 * 1024;

/// First in, first out. Empty, it owns no memory.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Written before everything in `tail`, with the memory that each is charged for here: what is
    /// shared is charged elsewhere.
    sealed: VecDeque<(Bytes, usize)>,
    /// Sum of that memory.
    sealed_bytes: usize,
    tail: Vec<u8>,
    /// Bytes of `tail` that have been written.
    tail_written: usize,
    len: usize,
    /// All bytes that were ever written from here.
    written: u64,
    /// The shard waits until no more than this is left.
    low_water: Option<usize>,
}

impl Outbox {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that have left since the connection began: it stands still while a client does not
    /// read.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds a copy of `bytes` at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.push_with(|tail| tail.extend_from_slice(bytes));
    }

    /// Adds at the end whatever `encode` appends to the buffer that it is given.
    pub fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.tail.capacity() == 0 {
            self.tail.reserve(self.first_capacity());
        }
        let before = self.tail.len();
        encode(&mut self.tail);
        let added = self.tail.len() - before;
        self.len += added;
        if self.tail.len() + added > TAIL_BYTES {
            self.seal(); // One more of this size would have it grow.
        }
    }

    /// Adds `bytes` at the end without copying them.
    pub fn push_shared(&mut self, bytes: Bytes) {
        self.seal();
        self.len += bytes.len();
        self.sealed.push_back((bytes, 0));
    }

    /// Bytes of memory that are taken, room that is not used included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let list_bytes = self.sealed.capacity() * size_of::<(Bytes, usize)>();
        self.tail.capacity() + self.sealed_bytes + list_bytes
    }

    /// Takes memory to write to, if there is some to spare.
    pub fn lend(&mut self, spares: &mut Spares) {
        if self.tail.capacity() == 0
            && let Some(buffer) = spares.take()
        {
            self.tail = buffer;
        }
    }

    /// Gives back what was lent if nothing was written to it.
    pub fn give_back(&mut self, spares: &mut Spares) {
        if self.is_empty() {
            spares.put(std::mem::take(&mut self.tail));
        }
    }

    /// Bytes to write next; empty when nothing waits.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        match self.sealed.front() {
            Some((bytes, _)) => bytes,
            None => &self.tail[self.tail_written..],
        }
    }

    /// `count` bytes of [`Self::front`] were written.
    pub fn consume(&mut self, count: usize) {
        drop(self.advance(count));
    }

    /// [`Self::consume`] that keeps the memory for others.
    pub fn consume_into(&mut self, count: usize, spares: &mut Spares) {
        if let Some(buffer) = self.advance(count) {
            spares.put(buffer);
        }
    }

    /// The memory that is not needed any more, if there is any.
    fn advance(&mut self, count: usize) -> Option<Vec<u8>> {
        self.len -= count;
        self.written += count as u64;
        if let Some((front, memory_bytes)) = self.sealed.front_mut() {
            front.advance(count);
            if front.is_empty() {
                self.sealed_bytes -= *memory_bytes;
                self.sealed.pop_front();
                if self.sealed.is_empty() {
                    self.sealed = VecDeque::new();
                }
            }
            return None;
        }
        self.tail_written += count;
        if self.tail_written == self.tail.len() {
            self.tail_written = 0;
            return Some(std::mem::take(&mut self.tail));
        }
        None
    }

    /// Asks to be told, once, when no more than `low_water` bytes are left.
    pub fn want_drained(&mut self, low_water: usize) {
        self.low_water = Some(self.low_water.map_or(low_water, |other| other.max(low_water)));
    }

    /// Returns true, once, if the shard waits and little enough is left.
    pub fn take_drained(&mut self) -> bool {
        self.low_water.take_if(|low_water| self.len <= *low_water).is_some()
    }

    /// Compares the bytes that are charged to the limit with those that are there.
    ///
    /// # Errors
    /// Both, if they differ.
    pub fn audit(&self) -> Result<(), AuditError> {
        let sealed: usize = self.sealed.iter().map(|(bytes, _)| bytes.len()).sum();
        let charged: usize = self.sealed.iter().map(|(_, memory_bytes)| memory_bytes).sum();
        let compare = |what, charged: usize, held: usize| {
            AuditError::compare(what, charged as u64, held as u64)
        };
        compare("memory of an outbox", self.sealed_bytes, charged)?;
        let held = sealed + self.tail.len() - self.tail_written;
        AuditError::compare("bytes in an outbox", self.len as u64, held as u64)
    }

    /// The room of a new tail: all that it may have if the last one needed it.
    fn first_capacity(&self) -> usize {
        let needed = self.sealed.back().map_or(0, |(_, memory_bytes)| *memory_bytes);
        if needed > TAIL_BYTES / 2 { TAIL_BYTES } else { FIRST_CAPACITY }
    }

    fn seal(&mut self) {
        if self.tail.capacity() - self.tail.len() > LEFT_OVER_BYTES_MAX {
            self.tail = self.tail.as_slice().into();
        }
        let memory_bytes = self.tail.capacity();
        let mut tail = Bytes::from(std::mem::take(&mut self.tail));
        tail.advance(std::mem::take(&mut self.tail_written));
        if !tail.is_empty() {
            self.sealed_bytes += memory_bytes;
            self.sealed.push_back((tail, memory_bytes));
        }
    }
}

/// Memory of outboxes that were written out, for those that are written to next: a connection for
/// which nothing waits owns none, and yet a packet does not cost an allocation.
#[derive(Debug, Default)]
pub struct Spares {
    buffers: Vec<Vec<u8>>,
    /// Sum of their capacities.
    bytes: usize,
}

impl Spares {
    /// Bytes that are kept in all.
    const BYTES_MAX: usize = 1024 * 1024;
    /// A larger one was needed for a burst, and is freed: sooner or later it would be lent to a
    /// connection that needs little, and leave no room for others.
    const BUFFER_BYTES_MAX: usize = 2 * 1024;

    /// Bytes of memory that are kept.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        let bytes = self.bytes + buffer.capacity();
        let is_kept = (1..=Self::BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if is_kept && bytes <= Self::BYTES_MAX {
            self.bytes = bytes;
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !outbox.is_empty() {
            let front = outbox.front();
            let count = front.len().min(step);
            bytes.extend_from_slice(&front[..count]);
            outbox.consume(count);
        }
        bytes
    }

    #[test]
    fn keeps_order_across_copied_and_shared_bytes() {
        for step in [1, 3, 100] {
            let mut outbox = Outbox::default();
            outbox.push(b"ab");
            outbox.push_shared(Bytes::from_static(b"cdef"));
            outbox.push(b"gh");
            outbox.consume(1);
            outbox.push_shared(Bytes::from_static(b"i"));
            outbox.push(b"j");
            assert_eq!(outbox.len(), 9);
            assert_eq!(written(&mut outbox, step), b"bcdefghij");
            assert_eq!(outbox.written(), 10);
        }
    }

    #[test]
    fn tells_once_that_it_is_drained() {
        let mut outbox = Outbox::default();
        outbox.push(b"abc");
        outbox.want_drained(1);
        outbox.consume(1);
        assert!(!outbox.take_drained());
        outbox.consume(1);
        assert!(outbox.take_drained());
        assert!(!outbox.take_drained());
    }

    #[test]
    fn a_reader_that_is_always_behind_costs_what_it_is_behind() {
        let mut outbox = Outbox::default();
        outbox.push(&[0; 100_000]);
        for _ in 0..10_000 {
            outbox.push(&[0; 1000]);
            outbox.consume(1000);
        }
        assert_eq!(outbox.len(), 100_000);
        let bytes = outbox.memory_bytes();
        assert!(bytes <= 100_000 + 2 * TAIL_BYTES, "{bytes} bytes");
    }

    /// What waits is not moved, however much it is.
    #[test]
    fn a_long_one_grows_without_moving_what_it_has() {
        let mut outbox = Outbox::default();
        while outbox.len() < 1 << 20 {
            let room = outbox.tail.capacity();
            outbox.push(&[0; 1000]);
            let has_moved = outbox.len() > 2 * TAIL_BYTES && outbox.tail.capacity() > room;
            assert!(!has_moved || outbox.tail.len() <= 1000, "{} bytes moved", outbox.tail.len());
        }
    }

    /// Of which a part was written, too.
    #[test]
    fn a_long_one_takes_little_more_than_what_waits() {
        for packet_bytes in [20, 1007, 5000] {
            let mut outbox = Outbox::default();
            while outbox.len() < 1 << 20 {
                outbox.push(&vec![0; packet_bytes]);
            }
            outbox.consume(60_000);
            while outbox.len() < 1 << 20 {
                outbox.push(&vec![0; packet_bytes]);
            }
            let bytes = outbox.memory_bytes();
            assert!(bytes <= outbox.len() / 10 * 12, "{bytes} bytes for {}", outbox.len());
            assert_eq!(outbox.audit(), Ok(()));
            let len = outbox.len();
            assert_eq!(written(&mut outbox, 70_000).len(), len);
        }
    }

    #[test]
    fn memory_goes_from_one_to_the_next() {
        let mut spares = Spares::default();
        let (mut one, mut other) = (Outbox::default(), Outbox::default());
        one.push(b"abc");
        let memory = one.front().as_ptr();
        one.consume_into(3, &mut spares);
        assert_eq!(one.tail.capacity(), 0);
        other.lend(&mut spares);
        other.push(b"de");
        assert_eq!((other.front(), other.front().as_ptr()), (b"de" as &[u8], memory));
        assert_eq!(spares.bytes, 0);
    }

    #[test]
    fn what_is_not_written_to_goes_back() {
        let mut spares = Spares::default();
        let (mut one, mut other) = (Outbox::default(), Outbox::default());
        one.push(b"abc");
        one.consume_into(3, &mut spares);
        let spared = spares.bytes;
        other.lend(&mut spares);
        other.give_back(&mut spares);
        assert_eq!((other.tail.capacity(), spares.bytes), (0, spared));
        other.give_back(&mut spares);
        assert_eq!(spares.buffers.len(), 1, "what is no memory is not kept");
        one.push(b"de");
        one.give_back(&mut spares);
        assert_eq!(one.front(), b"de");
    }

    #[test]
    fn what_is_spared_is_bounded() {
        let mut spares = Spares::default();
        let mut outboxes: Vec<Outbox> = (0..10_000).map(|_| Outbox::default()).collect();
        for (number, outbox) in outboxes.iter_mut().enumerate() {
            outbox.push(&vec![0; number]);
            outbox.consume_into(number, &mut spares);
        }
        assert!(spares.bytes <= Spares::BYTES_MAX);
        assert_eq!(spares.bytes, spares.buffers.iter().map(Vec::capacity).sum::<usize>());
        let mut large = Outbox::default();
        large.push(&[0; 2 * Spares::BUFFER_BYTES_MAX]);
        large.consume_into(2 * Spares::BUFFER_BYTES_MAX, &mut spares);
        assert!(spares.buffers.iter().all(|b| b.capacity() <= Spares::BUFFER_BYTES_MAX));
    }

    #[test]
    fn owns_no_memory_when_empty() {
        let mut outbox = Outbox::default();
        outbox.push(&[0; 4096]);
        outbox.consume(4096);
        assert_eq!(outbox.tail.capacity(), 0);
    }
}
