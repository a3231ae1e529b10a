//! Deliveries that wait for one session: bounded in number and in bytes.
//!
//! Policy: when a limit is reached the *new* delivery is dropped and counted; what was queued
//! before keeps its place. An older message is never given up for a newer one, unless its own time
//! is over; what has expired deep in a full queue makes room only once a round has come to it.

use std::collections::VecDeque;

use crate::config::Limits;
use crate::metrics::{AuditError, DropCause};

use super::{Delivery, Time};

/// Capacity for this many is kept when the queue is empty: a queue that fills again and again needs
/// no allocation.
const KEPT_COUNT: usize = 8;
/// Deliveries that a sweep looks at, however long the queue is.
const LOOKS: usize = 8;
/// Places of its gap that it gives up with each: few in tests, whose queues are short.
const PLACES: usize = if cfg!(test) { 2 } else { 64 };

/// First in, first out.
///
/// When it is full, what has expired makes room. It is found by rounds through the queue, a few
/// deliveries with each one that is to be added; what a round has taken out leaves a gap that moves
/// towards the end:
/// ```text
/// seen and kept | gap | not seen yet, and what is added
/// ```
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// None in the gap.
    deliveries: VecDeque<Option<Delivery>>,
    /// Sum of the bytes of `deliveries`, shared or not.
    bytes: usize,
    /// Before this none of them expires; without it none does.
    first_expiry: Option<Time>,
    /// Where the gap begins.
    kept: usize,
    /// Where it ends, and the round goes on.
    seen: usize,
    /// What `first_expiry` is of those that were kept.
    kept_expiry: Option<Time>,
}

const _: () = assert!(size_of::<Option<Delivery>>() == size_of::<Delivery>());

impl Queue {
    /// Whether there is room for one more.
    ///
    /// # Errors
    /// The limit that stands in the way.
    pub(super) fn admit(&self, delivery: &Delivery, limits: &Limits) -> Result<(), DropCause> {
        if self.len() >= limits.queue_count_max {
            return Err(DropCause::QueueFull);
        }
        if self.bytes + delivery.publication.len() > limits.queue_bytes_max {
            return Err(DropCause::QueueBytesFull);
        }
        Ok(())
    }

    /// Adds at the end.
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.publication.len();
        self.first_expiry = earlier(self.first_expiry, delivery.publication.expiry());
        if self.seen > self.kept && self.seen == self.deliveries.len() {
            self.deliveries[self.kept] = Some(delivery); // Nothing is behind the gap.
            self.kept += 1;
            self.close_gap();
        } else {
            self.deliveries.push_back(Some(delivery));
        }
    }

    /// Looks for what has expired, at the front and where the round is, and takes it out
    /// [MQTT-3.3.2-5]; how many.
    pub(super) fn sweep(&mut self, now: Time) -> u64 {
        if self.first_expiry.is_none_or(|first| first > now) {
            return 0;
        }
        let (before, mut looks) = (self.len(), LOOKS);
        while looks > 0 && self.deliveries.get(self.front()).is_some_and(|one| is_over(one, now)) {
            self.pop();
            looks -= 1;
        }
        (0..looks).for_each(|_| self.go_round(now));
        (before - self.len()) as u64
    }

    /// Takes from the front.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        if self.is_empty() {
            return None;
        }
        let delivery = if self.front() == 0 {
            (self.kept, self.seen) = (self.kept.saturating_sub(1), self.seen.saturating_sub(1));
            self.deliveries.pop_front()?
        } else {
            self.seen += 1;
            self.deliveries[self.seen - 1].take()
        };
        let delivery = delivery.expect("what is first is not in the gap");
        self.bytes -= delivery.publication.len();
        self.close_gap();
        if self.is_empty() {
            self.deliveries.clear();
            self.deliveries.shrink_to(KEPT_COUNT);
            (self.first_expiry, self.kept, self.seen) = (None, 0, 0);
        }
        Some(delivery)
    }

    /// Compares what is charged and known with what is there.
    pub(super) fn audit(&self) -> Result<(), AuditError> {
        let there = || self.deliveries.iter().flatten();
        let held: usize = there().map(|one| one.publication.len()).sum();
        AuditError::compare("bytes queued", self.bytes as u64, held as u64)?;
        AuditError::compare("length of a queue", self.len() as u64, there().count() as u64)?;
        let ms = |expiry: Option<Time>| expiry.map_or(u64::MAX, Time::ms);
        let expiries = there().map(|one| ms(one.publication.expiry()));
        let first = expiries.min().unwrap_or(u64::MAX);
        AuditError::at_most("first expiry of a queue", ms(self.first_expiry), first)
    }

    /// Bytes of all that waits, shared or not.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory without what is shared.
    pub(super) fn memory_bytes(&self) -> usize {
        self.deliveries.capacity() * size_of::<Delivery>()
    }

    /// Deliveries in the queue.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.deliveries.len() - (self.seen - self.kept)
    }

    /// True when nothing waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the first delivery is.
    fn front(&self) -> usize {
        if self.kept == 0 { self.seen } else { 0 }
    }

    /// One step of a round.
    fn go_round(&mut self, now: Time) {
        let Some(next) = self.deliveries.get_mut(self.seen) else { return self.close_gap() };
        if is_over(next, now) {
            self.bytes -= next.take().map_or(0, |one| one.publication.len());
        } else {
            let expiry = next.as_ref().and_then(|one| one.publication.expiry());
            self.kept_expiry = earlier(self.kept_expiry, expiry);
            self.deliveries.swap(self.kept, self.seen);
            self.kept += 1;
        }
        self.seen += 1;
        if self.seen == self.deliveries.len() {
            self.first_expiry = self.kept_expiry.take();
        }
        self.close_gap();
    }

    /// Gives up places of the gap where nothing is before it, so that the round begins behind it,
    /// or where nothing is behind it, so that the round is over.
    fn close_gap(&mut self) {
        if self.seen == self.deliveries.len() {
            let len = self.kept.max(self.deliveries.len().saturating_sub(PLACES));
            self.deliveries.truncate(len);
            self.seen = len;
            if self.kept == self.seen {
                (self.kept, self.seen) = (0, 0);
            }
        } else if self.kept == 0 {
            self.kept_expiry = None;
            let count = self.seen.min(PLACES);
            self.deliveries.drain(..count);
            self.seen -= count;
        }
    }
}

fn is_over(delivery: &Option<Delivery>, now: Time) -> bool {
    let expiry = delivery.as_ref().and_then(|one| one.publication.expiry());
    expiry.is_some_and(|expiry| expiry <= now)
}

fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::{Properties, Property, Publish, QoS, TopicName};
    use crate::session::{Publication, Terms};

    fn delivery(number: u16, expiry_s: Option<u32>) -> Delivery {
        let mut buffer = Vec::new();
        let properties = expiry_s.map(Property::MessageExpiryIntervalS);
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: TopicName::parse("t").unwrap(),
            packet_id: None,
            properties: Properties::write(properties, &mut buffer),
            payload: &number.to_be_bytes(),
        };
        let publication = Publication::new(&publish, Time::START);
        Delivery { publication, terms: Terms::plain(QoS::AtLeastOnce, false) }
    }

    fn at(second: u32) -> Time {
        Time::START + Duration::from_secs(second.into())
    }

    /// Queues numbered deliveries that expire when this says.
    fn queue(count: u16, expiry_s: impl Fn(u16) -> Option<u32>) -> Queue {
        let mut queue = Queue::default();
        (0..count).for_each(|number| queue.push(delivery(number, expiry_s(number))));
        queue
    }

    fn number(delivery: &Delivery) -> u16 {
        u16::from_be_bytes(delivery.publication.payload().try_into().unwrap())
    }

    fn rest(mut queue: Queue) -> Vec<u16> {
        std::iter::from_fn(|| queue.pop()).map(|one| number(&one)).collect()
    }

    #[test]
    fn a_sweep_looks_at_a_few_however_many_there_are() {
        let mut queue = queue(1000, |_| Some(1));
        assert_eq!(queue.sweep(at(1)), LOOKS as u64);
        let mut queue = self::queue(1000, |number| (number > 0).then_some(1));
        assert_eq!(queue.sweep(at(1)), LOOKS as u64 - 1);
        assert_eq!((queue.seen, queue.len()), (LOOKS, 1000 - LOOKS + 1));
        assert_eq!(rest(queue)[..2], [0, LOOKS as u16]);
    }

    #[test]
    fn what_has_expired_is_found_wherever_it_is() {
        for expired in 0..100 {
            let mut queue = queue(100, |number| (number == expired).then_some(1));
            let found: u64 = (0..100_usize.div_ceil(LOOKS)).map(|_| queue.sweep(at(1))).sum();
            assert_eq!((found, queue.len(), queue.first_expiry), (1, 99, None));
            assert_eq!(queue.sweep(at(1)), 0);
        }
    }

    #[test]
    fn what_expires_in_the_order_of_the_queue_is_found_at_once() {
        let mut queue = queue(1000, |number| Some(u32::from(number) + 1));
        for second in 1..=1000 {
            assert_eq!(queue.sweep(at(second)), 1);
        }
        assert!(queue.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Option<u32>),
        Pop,
        Sweep,
        Wait,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop::option::of(1_u32..60).prop_map(Step::Push),
            1 => Just(Step::Pop),
            1 => Just(Step::Sweep),
            1 => Just(Step::Wait),
        ]
    }

    proptest! {
        /// Beside a list in which what has expired is looked for by its number.
        #[test]
        fn sweeps_take_what_has_expired_and_nothing_else(
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let (mut queue, mut model, mut second) = (Queue::default(), VecDeque::new(), 0);
            for (name, step) in (0..).zip(steps) {
                match step {
                    Step::Push(expiry_s) => {
                        queue.push(delivery(name, expiry_s));
                        model.push_back((name, expiry_s));
                    }
                    Step::Pop => {
                        let popped = queue.pop().map(|one| number(&one));
                        prop_assert_eq!(popped, model.pop_front().map(|(name, _)| name));
                    }
                    Step::Wait => second += 1,
                    Step::Sweep => {
                        let found = queue.sweep(at(second));
                        let left: Vec<u16> =
                            queue.deliveries.iter().flatten().map(number).collect();
                        let before = model.len();
                        model.retain(|(name, expiry_s)| {
                            let is_over = expiry_s.is_some_and(|expiry_s| expiry_s <= second);
                            !is_over || left.contains(name)
                        });
                        prop_assert_eq!(found, (before - model.len()) as u64);
                    }
                }
                let names: Vec<u16> = model.iter().map(|(name, _)| *name).collect();
                let left: Vec<u16> = queue.deliveries.iter().flatten().map(number).collect();
                prop_assert_eq!(left, names);
                prop_assert_eq!((queue.is_empty(), queue.len()), (model.is_empty(), model.len()));
                queue.audit().unwrap();
            }
            // Nothing that has expired is passed over for ever.
            let sweeps = model.len().div_ceil(LOOKS) + 1;
            (0..2 * sweeps).for_each(|_| _ = queue.sweep(at(60)));
            model.retain(|(_, expiry_s)| expiry_s.is_none());
            prop_assert_eq!(queue.len(), model.len());
        }
    }
}
