//! A client that acknowledges its deliveries and enters them in the books.

use std::ops::Range;

use ringmq::mqtt::Packet;

use crate::client::Actor;
use crate::client::qos::{Received, Receiver, Violation};
use crate::recording::gap::LastDelivery;
use crate::recording::{Book, Recording};

pub(crate) struct Subscriber {
    book: Book,
    topics: Range<u32>,
    receiver: Receiver,
    last: LastDelivery,
    /// Of a subscriber that leaves when it has got everything.
    leaving: Option<Leaving>,
}

/// Deliveries that are still to come, and then the answer to a last PINGREQ: what the broker had
/// for this client (a duplicate, say) has come before it.
#[derive(PartialEq, Eq)]
enum Leaving {
    Awaits(u64),
    Pinged,
    Done,
}

impl Subscriber {
    pub(crate) fn new(recording: &mut Recording, number: u32) -> Self {
        let topics = (recording.plan.interest)(&recording.plan, number);
        let book = match recording.plan.group_size {
            1 => Book::Own(recording.tally.add_subscriber(topics.clone())),
            size => Book::Share(recording.groups.add_member(number / size, topics.clone())),
        };
        Self::with_book(book, topics)
    }

    /// Makes one whose deliveries are counted apart from those of the others.
    pub(crate) fn bystander(recording: &mut Recording, number: u32) -> Self {
        let topics = (recording.plan.interest)(&recording.plan, number);
        let book = Book::Bystander(recording.bystanders.add_subscriber(topics.clone()));
        Self::with_book(book, topics)
    }

    /// Makes one that leaves when it has got all messages that were published for it.
    pub(crate) fn leaving(recording: &mut Recording, number: u32) -> Self {
        let subscriber = Self::new(recording, number);
        let topics = subscriber.topics.clone();
        let awaited = topics.filter_map(|topic| recording.plan.planned_on(topic)).sum();
        Self { leaving: Some(Leaving::Awaits(awaited)), ..subscriber }
    }

    fn with_book(book: Book, topics: Range<u32>) -> Self {
        let (receiver, last) = (Receiver::default(), LastDelivery::default());
        Self { book, topics, receiver, last, leaving: None }
    }
}

impl Actor for Subscriber {
    #[inline]
    fn handle(
        &mut self,
        now_ns: i64,
        packet: &Packet<'_>,
        recording: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        match (self.receiver.handle(packet, recording.plan.version, out)?, packet) {
            (Received::New, Packet::Publish(publish)) => {
                let first = recording.record_delivery(self.book, &self.topics, publish, now_ns);
                if first && !matches!(self.book, Book::Bystander(_)) {
                    recording.record_gap(&mut self.last, now_ns);
                }
                if let Some(Leaving::Awaits(left)) = &mut self.leaving {
                    *left = left.saturating_sub(u64::from(first));
                }
            }
            (Received::Again, _) => recording.strays.retransmitted += 1,
            _ => (),
        }
        Ok(())
    }

    fn produce(&mut self, _now_ns: i64, recording: &mut Recording, out: &mut Vec<u8>) {
        if self.leaving == Some(Leaving::Awaits(0)) && self.receiver.is_idle() {
            Packet::Pingreq.encode(recording.plan.version, out);
            self.leaving = Some(Leaving::Pinged);
        }
    }

    fn handle_pingresp(&mut self) {
        if self.leaving == Some(Leaving::Pinged) {
            self.leaving = Some(Leaving::Done);
        }
    }

    fn is_done(&self) -> bool {
        self.leaving == Some(Leaving::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::schedule::Timeline;
    use crate::plan::payload::{RunId, Stamp};
    use crate::plan::{Load, Plan, tests::plan};
    use ringmq::mqtt::{PacketId, Properties, Publish, QoS, TopicName};
    use std::sync::Arc;

    const TIMELINE: Timeline = Timeline { start_ns: 0, steady_ns: 10, end_ns: 1000 };

    fn stamp(recording: &Recording, topic: u32, sequence: u64) -> Stamp {
        let run = recording.plan.run;
        Stamp { run, publisher: 0, topic, sequence, intended_ns: 20, sent_ns: 30 }
    }

    fn recording(load: Load) -> Recording {
        let plan = Plan { publisher_count: 1, executor_count: 1, load, ..plan() };
        let mut recording = Recording::new(Arc::new(plan), 0);
        recording.start(TIMELINE);
        recording
    }

    fn deliver(
        subscriber: &mut Subscriber,
        recording: &mut Recording,
        stamp: &Stamp,
        packet_id: u16,
    ) {
        let mut payload = [0; 64];
        stamp.write(&mut payload);
        let publish = Publish {
            dup: false,
            qos: if packet_id == 0 { QoS::AtMostOnce } else { QoS::ExactlyOnce },
            retain: false,
            topic: TopicName::parse("t").expect("valid"),
            packet_id: PacketId::new(packet_id),
            properties: Properties::EMPTY,
            payload: &payload,
        };
        subscriber
            .handle(50, &Packet::Publish(publish), recording, &mut Vec::new())
            .expect("a delivery is always due");
    }

    #[test]
    fn a_delivery_is_entered_with_its_latency() {
        let mut recording = recording(Load::Open { rate_per_s: 1.0 });
        let mut subscriber = Subscriber::new(&mut recording, 0);
        let stamp = stamp(&recording, 0, 0);
        deliver(&mut subscriber, &mut recording, &stamp, 0);
        assert_eq!(recording.tally.counts().delivered, 1);
        assert_eq!(
            (recording.recorder.latency.max(), recording.recorder.raw_latency.max()),
            (30, 20)
        );
    }

    #[test]
    fn duplicates_leave_no_latency() {
        let mut recording = recording(Load::Open { rate_per_s: 1.0 });
        let mut subscriber = Subscriber::new(&mut recording, 0);
        let stamp = stamp(&recording, 0, 0);
        deliver(&mut subscriber, &mut recording, &stamp, 0);
        deliver(&mut subscriber, &mut recording, &stamp, 0);
        assert_eq!(recording.tally.counts().duplicated, 1);
        assert_eq!(recording.recorder.latency.len(), 1);
    }

    #[test]
    fn strays_are_counted_apart() {
        let mut recording = recording(Load::Open { rate_per_s: 1.0 });
        let mut subscriber = Subscriber::new(&mut recording, 0);
        subscriber.topics = 0..1;
        let foreign = Stamp { run: RunId::new(1), ..stamp(&recording, 0, 0) };
        let impossible = Stamp { publisher: 7, ..stamp(&recording, 0, 0) };
        let misrouted = stamp(&recording, 1, 0);
        for stamp in [foreign, impossible, misrouted] {
            deliver(&mut subscriber, &mut recording, &stamp, 0);
        }
        assert_eq!((recording.strays.foreign, recording.strays.misrouted), (2, 1));
        assert_eq!(recording.tally.counts().delivered, 0);
    }

    #[test]
    fn a_retransmission_is_no_duplicate_but_a_second_packet_is() {
        let mut recording = recording(Load::Open { rate_per_s: 1.0 });
        let mut subscriber = Subscriber::new(&mut recording, 0);
        let stamp = stamp(&recording, 0, 0);
        deliver(&mut subscriber, &mut recording, &stamp, 4);
        deliver(&mut subscriber, &mut recording, &stamp, 4);
        assert_eq!((recording.strays.retransmitted, recording.tally.counts().duplicated), (1, 0));
        deliver(&mut subscriber, &mut recording, &stamp, 5);
        assert_eq!(recording.tally.counts().duplicated, 1);
    }

    #[test]
    fn the_last_subscriber_completes_a_message() {
        let mut recording = recording(Load::Closed { window_size: 1 });
        let times = crate::recording::recorder::Times { intended_ns: 20, sent_ns: 30 };
        let turn = crate::recording::Turn { publisher: 0, place: 0, index: 0 };
        recording.record_publish(turn, times, false);
        let mut subscribers: Vec<Subscriber> =
            (0..5).map(|number| Subscriber::new(&mut recording, number)).collect();
        let stamp = stamp(&recording, 0, 0);
        for subscriber in &mut subscribers {
            let closed = recording.closed_loop().expect("this is a closed loop");
            assert_eq!(closed.pop_released(), None);
            deliver(subscriber, &mut recording, &stamp, 0);
        }
        assert_eq!(recording.closed_loop().and_then(|closed| closed.pop_released()), Some(0));
    }

    #[test]
    fn a_subscriber_that_leaves_waits_for_its_messages_and_one_answer() {
        let plan = Plan { publisher_count: 1, executor_count: 1, live: false, ..plan() };
        let mut recording = Recording::new(Arc::new(plan.with_messages(3)), 0);
        let mut subscriber = Subscriber::leaving(&mut recording, 0);
        let mut out = Vec::new();
        for (topic, sequence) in [(0, 0), (1, 0), (1, 0)] {
            let stamp = stamp(&recording, topic, sequence);
            deliver(&mut subscriber, &mut recording, &stamp, 0);
            subscriber.produce(60, &mut recording, &mut out);
            assert!(out.is_empty(), "a duplicate is no message");
        }
        let last = stamp(&recording, 0, 1);
        deliver(&mut subscriber, &mut recording, &last, 0);
        subscriber.produce(60, &mut recording, &mut out);
        assert_eq!(out, [0xc0, 0], "PINGREQ");
        assert!(!subscriber.is_done());
        subscriber.handle_pingresp();
        assert!(subscriber.is_done());
        assert_eq!(recording.recorder.latency.len(), 0, "it was away when they were published");
    }
}
