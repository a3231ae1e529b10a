//! What stands in for the libraries under the mesh, which loom cannot look into.
//!
//! A channel promises less here than crossbeam's does, never more: what happens before a send has
//! happened for whoever receives it, and a channel that was found full or empty was so in an order
//! that all agree on with everything else that is sequentially consistent. (crossbeam moves its
//! ends with sequentially consistent exchanges and has such a fence before it calls a channel full
//! or empty; loom knows sequential consistency as fences only.) It says nothing about what happened
//! before a channel was found empty, so that the mesh cannot lean on that.
//!
//! loom's own `AtomicWaker` stands in for the crate of that name, which has the same contract.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// loom's, with the signature that the mesh uses.
#[derive(Default)]
pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub(crate) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

impl fmt::Debug for AtomicWaker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("AtomicWaker")
    }
}

pub(crate) enum TrySendError<T> {
    Full(T),
    /// Nobody is gone before the end of a model.
    #[allow(dead_code)]
    Disconnected(T),
}

/// Nothing came, for now.
pub(crate) struct Empty;

/// One producer and one consumer, with what loom sees of it in two counters.
struct Channel<T> {
    /// loom does not see this mutex: what it protects is published by the counters alone.
    items: Mutex<VecDeque<T>>,
    capacity: usize,
    /// Sent so far; written by the sender.
    tail: AtomicUsize,
    /// Received so far; written by the receiver.
    head: AtomicUsize,
}

pub(crate) struct Sender<T>(Arc<Channel<T>>);
pub(crate) struct Receiver<T>(Arc<Channel<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        items: Mutex::default(),
        capacity,
        tail: AtomicUsize::new(0),
        head: AtomicUsize::new(0),
    });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let channel = &*self.0;
        let tail = channel.tail.load(Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if tail - channel.head.load(Ordering::Acquire) >= channel.capacity {
            return Err(TrySendError::Full(item));
        }
        channel.items.lock().unwrap_or_else(PoisonError::into_inner).push_back(item);
        // Several senders share the channel of connections.
        channel.tail.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// For a channel without a limit.
    pub(crate) fn send(&self, item: T) -> Result<(), T> {
        self.try_send(item).map_err(|error| match error {
            TrySendError::Full(item) | TrySendError::Disconnected(item) => item,
        })
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, Empty> {
        let channel = &*self.0;
        let head = channel.head.load(Ordering::Relaxed);
        if head == channel.tail.load(Ordering::Acquire) {
            return Err(Empty);
        }
        let item = channel.items.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        channel.head.store(head + 1, Ordering::Release);
        fence(Ordering::SeqCst);
        item.ok_or(Empty)
    }
}
