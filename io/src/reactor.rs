//! How executors of glommio are started here, and how their tasks give way to each other.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use glommio::timer::Timer;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

/// Memory that each executor reserves for buffers of its ring, which sockets do not use.
const RING_MEMORY_BYTES: usize = 1 << 20;
/// No task runs for long, and those that have much to do let others have their turn. Preemption by
/// glommio's timer is for what was overlooked, and unsafe where threads wait long for a CPU: see
/// [`HEARTBEAT`].
const PREEMPT: Duration = Duration::from_secs(1);
/// glommio sleeps with tasks that are ready if its preemption fires just before it runs the first
/// of them. That is rare; this is how long it may last.
const HEARTBEAT: Duration = Duration::from_millis(20);

/// Starts an executor on a thread of its own, which stays on `cpu` if one is given.
///
/// # Errors
/// What the system says: no thread or no ring can be made.
pub fn spawn_executor<F: Future + 'static>(
    name: &str,
    cpu: Option<usize>,
    run: impl FnOnce() -> F + Send + 'static,
) -> io::Result<ExecutorJoinHandle<F::Output>>
where
    F::Output: Send,
{
    LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .io_memory(RING_MEMORY_BYTES)
        .preempt_timer(PREEMPT)
        .spawn(move || async move {
            glommio::spawn_local(beat()).detach();
            run().await
        })
        .map_err(io::Error::from)
}

async fn beat() {
    loop {
        Timer::new(HEARTBEAT).await;
    }
}

/// Lets every other task have its turn, and the executor look at its ring. A task that only woke
/// itself up would keep it from looking: it does so when no task is ready.
pub async fn yield_to_reactor() {
    // A timer that is over before it is looked at is not given to the executor, in a debug build or
    // when the thread was interrupted just then: a longer one takes its place until one waits.
    let mut pause = Duration::from_micros(1);
    let mut timer = Timer::new(pause);
    let mut is_waiting = false;
    poll_fn(|cx| {
        while Pin::new(&mut timer).poll(cx).is_ready() {
            if is_waiting {
                return Poll::Ready(());
            }
            pause *= 2;
            timer = Timer::new(pause);
        }
        is_waiting = true;
        Poll::Pending
    })
    .await;
}
