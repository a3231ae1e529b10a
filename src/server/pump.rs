//! The task of an executor: turn after turn as long as there is something to do, then sleep.
//!
//! A turn takes what the ring, the other shards and the clock have, and writes what comes of it
//! ([`Core::turn`]). The executor sleeps until one of the three has something again.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use ringmq_io::{Wakeup, yield_to_reactor};

use crate::session::Time;

use super::core::{Core, Next};
use super::signals::Watch;

/// Turns after which glommio looks at its own ring: nothing but the wake-up and the alarm is there.
const TURNS_PER_YIELD: u32 = 64;
/// How often it is looked whether the last connection is closed when the broker stops.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Runs turns until the broker stops.
pub(super) async fn run(core: &mut Core, watch: &Watch, wakeup: Wakeup) {
    let mut woken = pin!(wakeup.wait());
    let (mut alarm, mut answered) = (Alarm::default(), 0);
    let mut turn_count = 0_u32;
    while !watch.stop.load(Ordering::Acquire) {
        watch.census.answer(&mut answered, || core.counters());
        match turn(core).await {
            Next::Turn => {
                turn_count = turn_count.wrapping_add(1);
                if turn_count.is_multiple_of(TURNS_PER_YIELD) {
                    yield_to_reactor().await;
                }
            }
            Next::Sleep(until) => {
                let has_woken = poll_fn(|cx| poll_sleep(core, until, &mut woken, &mut alarm, cx));
                if has_woken.await {
                    woken.set(wakeup.wait());
                }
            }
        }
    }
}

async fn turn(core: &mut Core) -> Next {
    poll_fn(|cx| Poll::Ready(core.turn(cx.waker()))).await
}

/// Ready when there is a reason for a turn; true if it is that something has happened to a socket.
fn poll_sleep<W: Future>(
    core: &Core,
    until: Option<Time>,
    woken: &mut Pin<&mut W>,
    alarm: &mut Alarm,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    if woken.as_mut().poll(cx).is_ready() {
        return Poll::Ready(true);
    }
    let is_due = until.is_some_and(|until| alarm.poll(until, core.now(), cx).is_ready());
    if is_due || core.is_wanted() {
        return Poll::Ready(false);
    }
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
pub(super) async fn shut_down(core: &mut Core, timeout_s: u16) {
    core.stop();
    let deadline = Instant::now() + Duration::from_secs(timeout_s.into());
    while !core.effects.connections.is_empty() && Instant::now() < deadline {
        match turn(core).await {
            Next::Turn => yield_to_reactor().await,
            Next::Sleep(_) => _ = Timer::new(LOOK_EVERY).await,
        }
    }
}
