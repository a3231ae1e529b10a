//! The buffers that all sockets of an executor receive into.
#![allow(unsafe_code, reason = "the kernel writes to memory that is named by address")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Buffers of the pool; a power of two.
pub(crate) const BUFFER_COUNT: u16 = 1024;
/// Bytes of one buffer: many small packets, or a part of a large one.
const BUFFER_BYTES: usize = 2048;
/// The kernel's alignment of a ring of buffers.
const PAGE_BYTES: usize = 4096;

/// A buffer with received bytes in it.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to the pool"]
pub struct Chunk {
    pub(crate) buffer: u16,
    pub(crate) len: u32,
}

/// The buffers, and the ring in which the kernel is given them.
pub(crate) struct Pool {
    pub(crate) entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

impl Pool {
    const ENTRIES: Layout = layout(BUFFER_COUNT as usize * size_of::<BufRingEntry>());
    const MEMORY: Layout = layout(BUFFER_COUNT as usize * BUFFER_BYTES);

    pub(crate) fn new() -> Self {
        Self { entries: allocate(Self::ENTRIES).cast(), memory: allocate(Self::MEMORY), tail: 0 }
    }

    /// The kernel may receive into the buffer.
    pub(crate) fn give(&mut self, buffer: u16) {
        debug_assert!(buffer < BUFFER_COUNT);
        let slot = usize::from(self.tail % BUFFER_COUNT);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: both are in bounds; the kernel reads an entry only after the tail has passed it,
        // and has as many entries as there are buffers.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            let address = self.memory.as_ptr().add(usize::from(buffer) * BUFFER_BYTES);
            entry.set_addr(address as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    pub(crate) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        // SAFETY: the kernel has given the buffer back with that many bytes in it, and writes to
        // it no more before it is given the buffer again, for which the chunk is taken.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(chunk.buffer) * BUFFER_BYTES);
            std::slice::from_raw_parts(start, chunk.len as usize)
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: allocated with these layouts, and the ring that knew them is closed.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::ENTRIES);
            dealloc(self.memory.as_ptr(), Self::MEMORY);
        }
    }
}

const fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("a page is a power of two"),
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
