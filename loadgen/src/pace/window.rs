//! Closed loop: a message is intended when the window of its publisher lets it go.
//!
//! A message is outstanding until all its parts are done: one part for each executor that has
//! subscribers of its topic, and one for the acknowledgement at QoS 1 and 2. Each executor counts
//! the deliveries of its own subscribers and tells the publisher's executor once.

use std::collections::VecDeque;

use crate::pace::schedule::Timeline;

/// One part of a message that is done, on its way to the executor of the publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Completion {
    pub(crate) publisher: u32,
    pub(crate) index: u64,
    pub(crate) time_ns: i64,
}

/// The closed loop as one executor sees it.
pub(crate) struct ClosedLoop {
    executor: u32,
    executor_count: u32,
    /// Of the publishers of this executor, by place.
    windows: Vec<Window>,
    /// Of all publishers.
    arrivals: Vec<Arrivals>,
    /// Places of publishers that may send more.
    released: Vec<usize>,
    /// Completions for other executors.
    outgoing: Vec<(u32, Completion)>,
}

impl ClosedLoop {
    /// Publisher p belongs to executor p mod `executor_count`.
    pub(crate) fn new(
        (executor, executor_count): (u32, u32),
        publisher_count: u32,
        window_size: u32,
        timeline: &Timeline,
    ) -> Self {
        let here = (executor..publisher_count).step_by(executor_count as usize);
        Self {
            executor,
            executor_count,
            windows: here.map(|_| Window::new(window_size, timeline)).collect(),
            arrivals: (0..publisher_count).map(|_| Arrivals::new(window_size)).collect(),
            released: Vec::new(),
            outgoing: Vec::new(),
        }
    }

    /// Returns the window of the publisher at `place` on this executor.
    pub(crate) fn window(&mut self, place: usize) -> &mut Window {
        &mut self.windows[place]
    }

    /// Counts one new delivery of a message with `receiver_count` subscribers on this executor.
    pub(crate) fn handle_delivery(&mut self, delivery: Completion, receiver_count: u32) {
        let arrivals = &mut self.arrivals[delivery.publisher as usize];
        if arrivals.record(delivery.index, receiver_count) {
            self.handle_completion(delivery);
        }
    }

    /// Counts a part that is done: here, or on another executor that says so.
    pub(crate) fn handle_completion(&mut self, completion: Completion) {
        let executor = completion.publisher % self.executor_count;
        if executor != self.executor {
            return self.outgoing.push((executor, completion));
        }
        let place = (completion.publisher / self.executor_count) as usize;
        if self.windows[place].complete_part(completion.index, completion.time_ns) {
            self.released.push(place);
        }
    }

    /// Writes off everything that has been outstanding for `age_ns`.
    pub(crate) fn expire(&mut self, now_ns: i64, age_ns: i64) {
        for (place, window) in self.windows.iter_mut().enumerate() {
            if window.expire(now_ns, age_ns) {
                self.released.push(place);
            }
        }
    }

    pub(crate) fn expired_count(&self) -> u64 {
        self.windows.iter().map(Window::expired_count).sum()
    }

    /// Takes the place of a publisher that may send more.
    pub(crate) fn pop_released(&mut self) -> Option<usize> {
        self.released.pop()
    }

    /// Takes a completion and the executor that it is to be sent to.
    pub(crate) fn pop_outgoing(&mut self) -> Option<(u32, Completion)> {
        self.outgoing.pop()
    }
}

/// The outstanding messages of one publisher.
#[derive(Debug)]
pub(crate) struct Window {
    /// The times at which further messages were allowed, oldest first.
    allowed_ns: VecDeque<i64>,
    slots: Vec<Slot>,
    next_index: u64,
    timeline: Timeline,
    expired_count: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Slot {
    index: u64,
    /// 0 when the slot is free.
    parts_left: u32,
    taken_ns: i64,
}

/// Messages of one publisher may overtake each other (on different topics); the oldest
/// outstanding one and the newest are less than this many windows apart.
const SPAN_WINDOWS: usize = 2;

/// Slots that a window of `size` messages needs: a power of two.
pub(crate) fn slot_count(size: u32) -> usize {
    (size as usize * SPAN_WINDOWS).next_power_of_two()
}

impl Window {
    pub(crate) fn new(size: u32, timeline: &Timeline) -> Self {
        Self {
            allowed_ns: VecDeque::from(vec![timeline.start_ns; size as usize]),
            slots: vec![Slot::default(); slot_count(size)],
            next_index: 0,
            timeline: *timeline,
            expired_count: 0,
        }
    }

    /// Returns the time at which the next message was allowed, if one is allowed now.
    pub(crate) fn allowed(&self, now_ns: i64) -> Option<i64> {
        let running = (self.timeline.start_ns..self.timeline.end_ns).contains(&now_ns);
        if !running || self.slot(self.next_index).parts_left > 0 {
            return None;
        }
        // Another executor may have read the clock a moment after us.
        self.allowed_ns.front().map(|&allowed_ns| allowed_ns.min(now_ns))
    }

    /// Takes the place of the message that [`Self::allowed`] told of. It has `parts` parts.
    pub(crate) fn take(&mut self, now_ns: i64, parts: u32) {
        self.allowed_ns.pop_front();
        let at = self.at(self.next_index);
        self.slots[at] = Slot { index: self.next_index, parts_left: parts, taken_ns: now_ns };
        self.next_index += 1;
    }

    /// Counts a part of message `index` as done. True when that allows another message.
    pub(crate) fn complete_part(&mut self, index: u64, now_ns: i64) -> bool {
        let at = self.at(index);
        let slot = &mut self.slots[at];
        if slot.index != index || slot.parts_left == 0 {
            return false;
        }
        slot.parts_left -= 1;
        let done = slot.parts_left == 0;
        if done {
            self.allowed_ns.push_back(now_ns);
        }
        done
    }

    /// Writes off what has been outstanding for `age_ns`: the window must not stand still for
    /// ever because messages were lost. True when that allows another message.
    pub(crate) fn expire(&mut self, now_ns: i64, age_ns: i64) -> bool {
        let mut allows = false;
        for slot in &mut self.slots {
            if slot.parts_left > 0 && now_ns - slot.taken_ns >= age_ns {
                slot.parts_left = 0;
                self.allowed_ns.push_back(now_ns);
                self.expired_count += 1;
                allows = true;
            }
        }
        allows
    }

    pub(crate) fn expired_count(&self) -> u64 {
        self.expired_count
    }

    fn at(&self, index: u64) -> usize {
        index as usize & (self.slots.len() - 1)
    }

    fn slot(&self, index: u64) -> &Slot {
        &self.slots[self.at(index)]
    }
}

/// Counts, on one executor, the deliveries that the outstanding messages of one publisher still
/// lack.
pub(crate) struct Arrivals {
    slots: Vec<(u64, u32)>,
}

impl Arrivals {
    pub(crate) fn new(window_size: u32) -> Self {
        Self { slots: vec![(u64::MAX, 0); slot_count(window_size)] }
    }

    /// One new delivery of message `index`, which has `receiver_count` subscribers here. True
    /// when it was the last.
    pub(crate) fn record(&mut self, index: u64, receiver_count: u32) -> bool {
        let at = index as usize & (self.slots.len() - 1);
        let (tag, left) = &mut self.slots[at];
        if *tag != index {
            if *tag != u64::MAX && *tag > index {
                return false; // written off long ago, its slot belongs to a later message
            }
            (*tag, *left) = (index, receiver_count);
        }
        *left = left.saturating_sub(1);
        *left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn timeline() -> Timeline {
        Timeline { start_ns: SECOND, steady_ns: 2 * SECOND, end_ns: 3 * SECOND }
    }

    #[test]
    fn a_window_allows_its_size_and_one_more_per_completion() {
        let mut window = Window::new(2, &timeline());
        for _ in 0..2 {
            assert_eq!(window.allowed(SECOND), Some(SECOND));
            window.take(SECOND, 1);
        }
        assert_eq!(window.allowed(2 * SECOND), None);
        assert!(window.complete_part(1, SECOND + 5));
        assert_eq!(window.allowed(2 * SECOND), Some(SECOND + 5), "allowed when 1 was done");
        assert!(!window.complete_part(1, SECOND + 6), "a part counts once");
    }

    #[test]
    fn a_message_is_outstanding_until_its_last_part_is_done() {
        let mut window = Window::new(1, &timeline());
        window.take(SECOND, 2);
        assert!(!window.complete_part(0, SECOND + 1));
        assert_eq!(window.allowed(2 * SECOND), None);
        assert!(window.complete_part(0, SECOND + 2));
        assert_eq!(window.allowed(2 * SECOND), Some(SECOND + 2));
    }

    #[test]
    fn a_window_is_open_only_during_the_run() {
        let window = Window::new(1, &timeline());
        assert_eq!(window.allowed(SECOND - 1), None);
        assert_eq!(window.allowed(3 * SECOND), None);
    }

    #[test]
    fn lost_messages_are_written_off_and_their_late_arrival_changes_nothing() {
        let mut window = Window::new(1, &timeline());
        window.take(SECOND, 1);
        assert!(!window.expire(SECOND + 9, 10));
        assert!(window.expire(SECOND + 10, 10));
        assert_eq!(window.allowed(2 * SECOND), Some(SECOND + 10));
        assert!(!window.complete_part(0, SECOND + 11));
        assert_eq!(window.expired_count(), 1);
        window.take(SECOND + 12, 1);
        assert_eq!(window.allowed(2 * SECOND), None, "no more than one is outstanding");
    }

    #[test]
    fn overtaking_is_bounded_by_the_span() {
        let mut window = Window::new(2, &timeline());
        window.take(SECOND, 1);
        for index in 1..slot_count(2) as u64 {
            assert!(window.allowed(SECOND).is_some(), "message {index}");
            window.take(SECOND, 1);
            window.complete_part(index, SECOND);
        }
        assert_eq!(window.allowed(SECOND), None, "message 0 still holds the next slot");
    }

    #[test]
    fn arrivals_complete_with_the_last_receiver() {
        let mut arrivals = Arrivals::new(2);
        assert!(!arrivals.record(0, 2));
        assert!(!arrivals.record(1, 2));
        assert!(arrivals.record(0, 2));
        assert!(arrivals.record(1, 2));
        assert!(arrivals.record(4, 1), "takes the slot of 0 over");
        assert!(!arrivals.record(0, 2), "late: the slot has gone to another message");
    }

    fn completion(publisher: u32, index: u64) -> Completion {
        Completion { publisher, index, time_ns: SECOND + 7 }
    }

    #[test]
    fn the_last_delivery_here_releases_a_publisher_here() {
        let mut closed = ClosedLoop::new((1, 2), 4, 1, &timeline());
        closed.window(1).take(SECOND, 1);
        closed.handle_delivery(completion(3, 0), 2);
        assert_eq!(closed.pop_released(), None);
        closed.handle_delivery(completion(3, 0), 2);
        assert_eq!(closed.pop_released(), Some(1), "publisher 3 is the second of executor 1");
        assert_eq!(closed.window(1).allowed(2 * SECOND), Some(SECOND + 7));
    }

    #[test]
    fn the_last_delivery_of_a_distant_publisher_is_reported_to_its_executor() {
        let mut closed = ClosedLoop::new((1, 2), 4, 1, &timeline());
        closed.handle_delivery(completion(2, 0), 1);
        assert_eq!(closed.pop_outgoing(), Some((0, completion(2, 0))));
        assert_eq!(closed.pop_released(), None);
    }

    #[test]
    fn expiry_releases() {
        let mut closed = ClosedLoop::new((0, 1), 2, 1, &timeline());
        closed.window(1).take(SECOND, 1);
        closed.expire(SECOND + 10, 10);
        assert_eq!((closed.pop_released(), closed.pop_released()), (Some(1), None));
        assert_eq!(closed.expired_count(), 1);
    }
}
