//! A client that acknowledges its deliveries and enters them in the books.

use std::ops::Range;

use ringmq::mqtt::Packet;

use crate::actor::Actor;
use crate::bench::Bench;
use crate::client::{Receiver, Violation};

pub(crate) struct Subscriber {
    first_flow: usize,
    topics: Range<u32>,
    receiver: Receiver,
}

impl Subscriber {
    pub(crate) fn new(bench: &mut Bench, number: u32) -> Self {
        let topics = (bench.plan.interest)(&bench.plan, number);
        let first_flow = bench.tally.add_subscriber(topics.clone());
        Self { first_flow, topics, receiver: Receiver::default() }
    }
}

impl Actor for Subscriber {
    #[inline]
    fn handle(
        &mut self,
        now_ns: i64,
        packet: &Packet<'_>,
        bench: &mut Bench,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        match packet {
            Packet::Publish(publish) => {
                if self.receiver.handle_publish(publish, bench.plan.version, out) {
                    bench.record_delivery(self.first_flow, &self.topics, publish, now_ns);
                } else {
                    bench.strays.retransmitted += 1;
                }
                Ok(())
            }
            Packet::Pubrel(ack) => {
                self.receiver.handle_pubrel(ack.packet_id, bench.plan.version, out);
                Ok(())
            }
            _ => Err(Violation::Unexpected(packet.kind())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pacer::Timeline;
    use crate::payload::{RunId, Stamp};
    use crate::plan::{Load, Plan, tests::plan};
    use ringmq::mqtt::{PacketId, Properties, Publish, QoS, TopicName};
    use std::sync::Arc;

    const TIMELINE: Timeline = Timeline { start_ns: 0, steady_ns: 10, end_ns: 1000 };

    fn stamp(bench: &Bench, topic: u32, sequence: u64) -> Stamp {
        let run = bench.plan.run;
        Stamp { run, publisher: 0, topic, sequence, intended_ns: 20, sent_ns: 30 }
    }

    fn bench(load: Load) -> Bench {
        let plan = Plan { publisher_count: 1, executor_count: 1, load, ..plan() };
        let mut bench = Bench::new(Arc::new(plan), 0);
        bench.start(TIMELINE);
        bench
    }

    fn deliver(subscriber: &mut Subscriber, bench: &mut Bench, stamp: &Stamp, packet_id: u16) {
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
            .handle(50, &Packet::Publish(publish), bench, &mut Vec::new())
            .expect("a delivery is always due");
    }

    #[test]
    fn a_delivery_is_entered_with_its_latency() {
        let mut bench = bench(Load::Open { rate_per_s: 1.0 });
        let mut subscriber = Subscriber::new(&mut bench, 0);
        let stamp = stamp(&bench, 0, 0);
        deliver(&mut subscriber, &mut bench, &stamp, 0);
        assert_eq!(bench.tally.counts().delivered, 1);
        assert_eq!((bench.recorder.latency.max(), bench.recorder.raw_latency.max()), (30, 20));
    }

    #[test]
    fn duplicates_leave_no_latency() {
        let mut bench = bench(Load::Open { rate_per_s: 1.0 });
        let mut subscriber = Subscriber::new(&mut bench, 0);
        let stamp = stamp(&bench, 0, 0);
        deliver(&mut subscriber, &mut bench, &stamp, 0);
        deliver(&mut subscriber, &mut bench, &stamp, 0);
        assert_eq!(bench.tally.counts().duplicated, 1);
        assert_eq!(bench.recorder.latency.len(), 1);
    }

    #[test]
    fn strays_are_counted_apart() {
        let mut bench = bench(Load::Open { rate_per_s: 1.0 });
        let mut subscriber = Subscriber::new(&mut bench, 0);
        subscriber.topics = 0..1;
        let foreign = Stamp { run: RunId::new(1), ..stamp(&bench, 0, 0) };
        let impossible = Stamp { publisher: 7, ..stamp(&bench, 0, 0) };
        let misrouted = stamp(&bench, 1, 0);
        for stamp in [foreign, impossible, misrouted] {
            deliver(&mut subscriber, &mut bench, &stamp, 0);
        }
        assert_eq!((bench.strays.foreign, bench.strays.misrouted), (2, 1));
        assert_eq!(bench.tally.counts().delivered, 0);
    }

    #[test]
    fn a_retransmission_is_no_duplicate_but_a_second_packet_is() {
        let mut bench = bench(Load::Open { rate_per_s: 1.0 });
        let mut subscriber = Subscriber::new(&mut bench, 0);
        let stamp = stamp(&bench, 0, 0);
        deliver(&mut subscriber, &mut bench, &stamp, 4);
        deliver(&mut subscriber, &mut bench, &stamp, 4);
        assert_eq!((bench.strays.retransmitted, bench.tally.counts().duplicated), (1, 0));
        deliver(&mut subscriber, &mut bench, &stamp, 5);
        assert_eq!(bench.tally.counts().duplicated, 1);
    }

    #[test]
    fn the_last_subscriber_completes_a_message() {
        let mut bench = bench(Load::Closed { window_size: 1 });
        let times = crate::recorder::Times { intended_ns: 20, sent_ns: 30 };
        let turn = crate::bench::Turn { publisher: 0, place: 0, index: 0 };
        bench.record_publish(turn, times, false);
        let mut subscribers: Vec<Subscriber> =
            (0..5).map(|number| Subscriber::new(&mut bench, number)).collect();
        let stamp = stamp(&bench, 0, 0);
        for subscriber in &mut subscribers {
            let closed = bench.closed_loop().expect("this is a closed loop");
            assert_eq!(closed.pop_released(), None);
            deliver(subscriber, &mut bench, &stamp, 0);
        }
        assert_eq!(bench.closed_loop().and_then(|closed| closed.pop_released()), Some(0));
    }
}
