//! A client that publishes what is due.

use std::borrow::Cow;

use ringmq::mqtt::{Packet, Properties, Publish, TopicName};

use crate::client::qos::{InFlight, Sender, Violation};
use crate::client::{Actor, BATCH_BYTES};
use crate::plan::Plan;
use crate::plan::payload::Stamp;
use crate::recording::recorder::Times;
use crate::recording::{Recording, Turn};

/// Topic names that a publisher keeps; beyond that it makes each when it is needed.
const NAME_COUNT_MAX: usize = 4096;

pub(crate) struct Publisher {
    number: u32,
    /// Its place among the publishers of its executor.
    place: usize,
    first_topic: u32,
    /// Their names, unless they are too many to be kept.
    names: Vec<String>,
    sender: Sender,
    /// The number of the next message.
    next_index: u64,
    /// The broker does not take more: the socket is full or no packet id is free.
    blocked: bool,
    /// Messages intended up to here were held back by the broker.
    held_until_ns: i64,
}

impl Publisher {
    pub(crate) fn new(plan: &Plan, number: u32) -> Self {
        let first = number * plan.topics_per_publisher;
        let topics = first..first + plan.topics_per_publisher;
        let kept = if topics.len() <= NAME_COUNT_MAX { topics } else { 0..0 };
        Self {
            number,
            place: (number / plan.executor_count) as usize,
            first_topic: first,
            names: kept.map(|topic| plan.topic_name(topic)).collect(),
            sender: Sender::new(plan.qos, plan.version),
            next_index: 0,
            blocked: false,
            held_until_ns: i64::MIN,
        }
    }

    /// Its place among the publishers of its executor.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    fn turn(&self) -> Turn {
        Turn { publisher: self.number, place: self.place, index: self.next_index }
    }

    fn publish(&mut self, times: Times, recording: &mut Recording, out: &mut Vec<u8>) {
        let turn = self.turn();
        let topic_count = u64::from(recording.plan.topics_per_publisher);
        let topic = (turn.index % topic_count) as usize;
        let stamp = Stamp {
            run: recording.plan.run,
            publisher: self.number,
            topic: topic as u32,
            sequence: turn.index / topic_count,
            intended_ns: times.intended_ns,
            sent_ns: times.sent_ns,
        };
        stamp.write(&mut recording.payload);
        self.encode(topic, times.intended_ns, recording, out);
        recording.record_publish(turn, times, times.intended_ns <= self.held_until_ns);
        self.next_index += 1;
    }

    fn encode(&mut self, topic: usize, intended_ns: i64, recording: &Recording, out: &mut Vec<u8>) {
        let packet_id = self.sender.begin(InFlight { index: self.next_index, intended_ns });
        let name = match self.names.get(topic) {
            Some(name) => Cow::Borrowed(name.as_str()),
            None => Cow::Owned(recording.plan.topic_name(self.first_topic + topic as u32)),
        };
        let publish = Publish {
            dup: false,
            qos: recording.plan.qos,
            retain: recording.plan.retain,
            topic: TopicName::parse(&name).expect("our topic names are valid"),
            packet_id,
            properties: Properties::EMPTY,
            payload: &recording.payload,
        };
        publish.encode(recording.plan.version, out);
    }
}

impl Actor for Publisher {
    fn handle_opened(&mut self, receive_count_max: u16) {
        self.sender.limit(receive_count_max);
    }

    fn handle(
        &mut self,
        now_ns: i64,
        packet: &Packet<'_>,
        recording: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        if let Some(InFlight { index, intended_ns }) = self.sender.handle_ack(packet, out)? {
            recording.record_acknowledged(self.number, index, intended_ns, now_ns);
        }
        Ok(())
    }

    fn produce(&mut self, now_ns: i64, recording: &mut Recording, out: &mut Vec<u8>) {
        if self.blocked && self.sender.has_room() {
            self.blocked = false;
            self.held_until_ns = now_ns;
        }
        while out.len() < BATCH_BYTES {
            let Some(intended_ns) = recording.due(self.turn(), now_ns) else {
                return;
            };
            if !self.sender.has_room() {
                self.blocked = true;
                return;
            }
            self.publish(Times { intended_ns, sent_ns: now_ns }, recording, out);
        }
    }

    fn handle_blocked(&mut self) {
        self.blocked = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::schedule::Timeline;
    use crate::plan::{Load, tests::plan};
    use ringmq::mqtt::{Ack, QoS, Version, split};
    use std::sync::Arc;

    const SECOND: i64 = 1_000_000_000;
    const TIMELINE: Timeline = Timeline { start_ns: 0, steady_ns: 0, end_ns: 10 * SECOND };

    /// One publisher on one executor, started.
    fn started(qos: QoS, load: Load) -> (Publisher, Recording) {
        let plan = Plan { publisher_count: 1, executor_count: 1, qos, load, ..plan() };
        let publisher = Publisher::new(&plan, 0);
        let mut recording = Recording::new(Arc::new(plan), 0);
        recording.start(TIMELINE);
        (publisher, recording)
    }

    fn stamps(mut bytes: &[u8], recording: &Recording) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        while let Some((frame, used)) = split(bytes, 1 << 20).expect("well formed") {
            match Packet::decode(frame, Version::V311).expect("well formed") {
                Packet::Publish(publish) => {
                    stamps.push(Stamp::read(publish.payload, recording.plan.run).expect("ours"));
                }
                other => panic!("{other:?}"),
            }
            bytes = &bytes[used..];
        }
        stamps
    }

    #[test]
    fn open_loop_sends_all_that_is_due_with_its_own_intended_time() {
        let (mut publisher, mut recording) =
            started(QoS::AtMostOnce, Load::Open { rate_per_s: 10.0 });
        let mut out = Vec::new();
        publisher.produce(SECOND / 5, &mut recording, &mut out);
        let stamps = stamps(&out, &recording);
        let fields: Vec<_> =
            stamps.iter().map(|stamp| (stamp.topic, stamp.sequence, stamp.intended_ns)).collect();
        assert_eq!(fields, [(0, 0, 0), (1, 0, SECOND / 10), (0, 1, SECOND / 5)]);
        assert!(stamps.iter().all(|stamp| stamp.sent_ns == SECOND / 5));
        assert_eq!(recording.sent, [2, 1]);
        assert_eq!(recording.recorder.lateness.len(), 3);
    }

    #[test]
    fn lateness_while_the_socket_is_full_is_not_ours() {
        let (mut publisher, mut recording) =
            started(QoS::AtMostOnce, Load::Open { rate_per_s: 10.0 });
        publisher.handle_blocked();
        publisher.produce(SECOND / 5, &mut recording, &mut Vec::new());
        assert_eq!((recording.recorder.held_back, recording.recorder.lateness.len()), (3, 0));
        publisher.produce(SECOND / 2, &mut recording, &mut Vec::new());
        assert_eq!((recording.recorder.held_back, recording.recorder.lateness.len()), (3, 3));
    }

    #[test]
    fn without_a_free_packet_id_messages_wait_for_the_broker() {
        let (mut publisher, mut recording) =
            started(QoS::AtLeastOnce, Load::Open { rate_per_s: 100_000.0 });
        let mut now_ns = 0;
        while recording.sent.iter().sum::<u64>() < 65_535 {
            now_ns += SECOND / 1000;
            publisher.produce(now_ns, &mut recording, &mut Vec::new());
        }
        let mut out = Vec::new();
        publisher.produce(now_ns + SECOND, &mut recording, &mut out);
        assert!(out.is_empty());
        let packet_id = ringmq::mqtt::PacketId::new(7).expect("not 0");
        let puback = Packet::Puback(Ack::success(packet_id));
        publisher.handle(now_ns + SECOND, &puback, &mut recording, &mut out).expect("it is due");
        publisher.produce(now_ns + SECOND, &mut recording, &mut out);
        assert_eq!(stamps(&out, &recording).len(), 1);
        assert_eq!(recording.recorder.held_back, 1);
        assert_eq!(recording.acknowledged, 1);
    }

    #[test]
    fn closed_loop_at_qos_1_waits_for_deliveries_and_the_acknowledgement() {
        let (mut publisher, mut recording) =
            started(QoS::AtLeastOnce, Load::Closed { window_size: 2 });
        let mut out = Vec::new();
        publisher.produce(5, &mut recording, &mut out);
        assert_eq!(stamps(&out, &recording).len(), 2);
        let packet_id = ringmq::mqtt::PacketId::new(1).expect("not 0");
        let puback = Packet::Puback(Ack::success(packet_id));
        publisher.handle(6, &puback, &mut recording, &mut Vec::new()).expect("it is due");
        out.clear();
        publisher.produce(7, &mut recording, &mut out);
        assert!(out.is_empty(), "acknowledged, but not delivered");
        let completion = crate::pace::window::Completion { publisher: 0, index: 0, time_ns: 9 };
        let closed = recording.closed_loop().expect("this is a closed loop");
        closed.handle_completion(completion);
        assert_eq!(closed.pop_released(), Some(0));
        publisher.produce(12, &mut recording, &mut out);
        let stamps = stamps(&out, &recording);
        assert_eq!(stamps.len(), 1);
        assert_eq!((stamps[0].intended_ns, stamps[0].sent_ns), (9, 12));
    }
}
