//! The connections of one executor: their streams and what waits to be written to them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::shard::{ConnectionId, Outbox};
use crate::transport::Transport;

/// How much of what a closed connection still sends is read, so that the system does not answer
/// it with a reset that overtakes our last packet.
const LAST_READS: usize = 16;

/// Holds a place among the connections that the process may have open.
#[derive(Debug)]
pub(super) struct Permit {
    open: Arc<AtomicUsize>,
}

impl Permit {
    /// None when `limit` connections are open.
    pub(super) fn take(open: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let permit = Self { open: Arc::clone(open) };
        (open.fetch_add(1, Ordering::Relaxed) < limit).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection.
pub(super) struct Io {
    pub(super) stream: Box<dyn Transport>,
    pub(super) outbox: Outbox,
    generation: u32,
    /// In the list of those to be written.
    dirty: bool,
    /// The peer takes nothing for now; a task of its own waits until it does.
    pub(super) blocked: bool,
    /// The shard has closed it; it goes when its outbox is empty.
    pub(super) closing: bool,
    pub(super) paused: bool,
    /// Wakes the task that reads.
    pub(super) reader: Option<Waker>,
    _permit: Permit,
}

impl Io {
    /// Writes until the outbox is empty (true) or the peer takes no more for now (false).
    pub(super) fn write(&mut self, cx: &mut Context<'_>, sent: &mut u64) -> io::Result<bool> {
        while !self.outbox.is_empty() {
            match self.stream.poll_write(cx, self.outbox.front()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    *sent += count as u64;
                    self.outbox.consume(count);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// All connections of one executor.
#[derive(Default)]
pub(super) struct Connections {
    table: Slab<Io>,
    next_generation: u32,
    /// First touched, first written.
    dirty: VecDeque<ConnectionId>,
}

impl Connections {
    pub(super) fn insert(&mut self, stream: Box<dyn Transport>, permit: Permit) -> ConnectionId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let index = self.table.insert(Io {
            stream,
            outbox: Outbox::default(),
            generation,
            dirty: false,
            blocked: false,
            closing: false,
            paused: false,
            reader: None,
            _permit: permit,
        });
        ConnectionId { index: u32::try_from(index).expect("below 2^32 connections"), generation }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Io> {
        self.table.get_mut(id.index as usize).filter(|io| io.generation == id.generation)
    }

    /// The connection, which from now on is in the list of those to be written.
    pub(super) fn touch(&mut self, id: ConnectionId) -> &mut Io {
        let io = &mut self.table[id.index as usize];
        debug_assert_eq!(io.generation, id.generation, "the shard knows what is closed");
        if !io.dirty {
            io.dirty = true;
            self.dirty.push_back(id);
        }
        io
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn next_dirty(&mut self) -> Option<ConnectionId> {
        loop {
            let id = self.dirty.pop_front()?;
            if let Some(io) = self.get_mut(id) {
                io.dirty = false;
                return Some(id);
            }
        }
    }

    /// Closes a stream in good order.
    pub(super) fn remove(&mut self, id: ConnectionId, scratch: &mut [u8]) {
        if self.get_mut(id).is_none() {
            return;
        }
        let mut io = self.table.remove(id.index as usize);
        io.stream.finish();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..LAST_READS {
            match io.stream.poll_read(&mut cx, scratch) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                _ => break,
            }
        }
        if let Some(reader) = io.reader.take() {
            reader.wake();
        }
    }
}
