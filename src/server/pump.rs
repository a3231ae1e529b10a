//! The task of an executor: turn after turn as long as there is something to do, then sleep.
//!
//! A turn takes what the ring, the other shards and the clock have, and writes what comes of it
//! ([`Core::turn`]). The executor sleeps until one of the three has something again.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use ringmq_io::{Wakeup, yield_to_reactor};

use crate::session::Time;

use super::core::{Core, Next};
use super::signals::Watch;

/// How often it is looked whether the last connection is closed when the broker stops.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Shared by the tasks of one executor; never borrowed across an await.
pub(super) type Shared = Rc<RefCell<Core>>;

/// Runs turns until the broker stops.
pub(super) async fn run(core: &Shared, watch: &Watch, wakeup: Wakeup) {
    let mut woken = pin!(wakeup.wait());
    let (mut alarm, mut answered) = (Alarm::default(), 0);
    while !watch.stop.load(Ordering::Acquire) {
        watch.census.answer(&mut answered, || core.borrow().counters());
        match turn(core).await {
            Next::Turn => yield_to_reactor().await,
            Next::Sleep(until) => {
                let has_woken = poll_fn(|cx| poll_sleep(core, until, &mut woken, &mut alarm, cx));
                if has_woken.await {
                    woken.set(wakeup.wait());
                }
            }
        }
    }
}

async fn turn(core: &Shared) -> Next {
    poll_fn(|cx| Poll::Ready(core.borrow_mut().turn(cx.waker()))).await
}

/// Ready when there is a reason for a turn; true if it is that something has happened to a socket.
fn poll_sleep<W: Future>(
    core: &Shared,
    until: Option<Time>,
    woken: &mut Pin<&mut W>,
    alarm: &mut Alarm,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    let core = &mut *core.borrow_mut();
    if woken.as_mut().poll(cx).is_ready() {
        return Poll::Ready(true);
    }
    let is_due = until.is_some_and(|until| alarm.poll(until, core.now(), cx).is_ready());
    if is_due || core.is_wanted() {
        return Poll::Ready(false);
    }
    core.sleep(cx.waker());
    Poll::Pending
}

/// The timer that ends a sleep. It stays for the sleeps that follow unless one has to end earlier.
#[derive(Default)]
struct Alarm {
    timer: Option<(Time, Timer)>,
}

impl Alarm {
    fn poll(&mut self, until: Time, now: Time, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.as_ref().is_none_or(|(time, _)| *time > until) {
            self.timer = Some((until, Timer::new(until.since(now))));
        }
        let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
        let polled = Pin::new(timer).poll(cx).map(drop);
        if polled.is_ready() {
            self.timer = None;
        }
        polled
    }
}

/// Closes every connection once its outbox is written, or after the time that is allowed.
pub(super) async fn shut_down(core: &Shared, timeout_s: u16) {
    core.borrow_mut().stop();
    let deadline = Instant::now() + Duration::from_secs(timeout_s.into());
    while !core.borrow().effects.connections.is_empty() && Instant::now() < deadline {
        match turn(core).await {
            Next::Turn => yield_to_reactor().await,
            Next::Sleep(_) => _ = Timer::new(LOOK_EVERY).await,
        }
    }
}
