//! How one executor tells another that a part of a message is done.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::pace::window::Completion;

/// Completions for one executor. Bounded by what may be outstanding: the windows of its
/// publishers.
#[derive(Default)]
pub(crate) struct Mailbox {
    queue: Mutex<Vec<Completion>>,
    reader: AtomicWaker,
}

impl Mailbox {
    /// Wakes the reader once per batch: waking a busy task of another thread is not cheap.
    pub(crate) fn post(&self, completion: Completion) {
        let mut queue = self.lock();
        queue.push(completion);
        let first = queue.len() == 1;
        drop(queue);
        if first {
            self.reader.wake();
        }
    }

    /// Moves everything into `batch`, which is empty; pending when there is nothing.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, batch: &mut Vec<Completion>) -> Poll<()> {
        // Registered before looking: what is posted in between wakes us.
        self.reader.register(cx.waker());
        mem::swap(&mut *self.lock(), batch);
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Completion>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_batch_wakes_once_and_nothing_is_left_behind() {
        let mailbox = Mailbox::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut batch = Vec::new();
        assert_eq!(mailbox.poll_take(&mut cx, &mut batch), Poll::Pending);
        for index in 0..3 {
            mailbox.post(Completion { publisher: 0, index, time_ns: 0 });
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(mailbox.poll_take(&mut cx, &mut batch), Poll::Ready(()));
        assert_eq!(batch.len(), 3);
    }
}
