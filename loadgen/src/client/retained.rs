//! A client that asks for everything that is retained, one that ends it, and their books.

use ringmq::mqtt::{
    Packet, PacketId, Properties, Publish, QoS, Subscribe, Subscription, SubscriptionOptions,
    Subscriptions, TopicFilter, TopicName,
};

use crate::client::qos::{Received, Receiver, Violation};
use crate::client::{Actor, BATCH_BYTES};
use crate::recording::Recording;

/// ```text
/// Fresh ─ SUBSCRIBE ─> Receiving ─ everything has come, PINGREQ ─> Pinged ─ PINGRESP ─> Done
/// ```
pub(crate) struct Replayer {
    filter: String,
    receiver: Receiver,
    phase: Phase,
    asked_ns: i64,
    /// Topics that have come, one bit each.
    seen: Vec<u64>,
    missing: u64,
    granted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Receiving,
    /// What the broker had to say has come before the answer.
    Pinged,
    Done,
}

impl Replayer {
    pub(crate) fn new(recording: &mut Recording, filter: String) -> Self {
        let topic_count = recording.plan.topic_count();
        recording.replay.expected += u64::from(topic_count);
        Self {
            filter,
            receiver: Receiver::default(),
            phase: Phase::Fresh,
            asked_ns: 0,
            seen: vec![0; topic_count.div_ceil(64) as usize],
            missing: topic_count.into(),
            granted: false,
        }
    }

    fn subscribe(&self, recording: &Recording, out: &mut Vec<u8>) {
        let options = SubscriptionOptions { qos: recording.plan.qos, ..Default::default() };
        let filter = TopicFilter::parse(&self.filter).expect("our filters are valid");
        let mut bytes = Vec::new();
        let subscription = [Subscription { filter, options }];
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).expect("1 is not 0"),
            properties: Properties::EMPTY,
            subscriptions: Subscriptions::write(recording.plan.version, &subscription, &mut bytes),
        };
        subscribe.encode(recording.plan.version, out);
    }

    fn record(&mut self, publish: &Publish<'_>, recording: &mut Recording, now_ns: i64) {
        let Some((topic, stamp)) = recording.identify(publish) else {
            recording.strays.foreign += 1;
            return;
        };
        recording.strays.wrong_qos += u64::from(publish.qos != recording.plan.qos);
        let (word, bit) = ((topic / 64) as usize, 1 << (topic % 64));
        if self.seen[word] & bit != 0 {
            recording.replay.duplicated += 1;
            return;
        }
        self.seen[word] |= bit;
        let last = recording.plan.planned_on(topic).is_none_or(|count| stamp.sequence + 1 == count);
        recording.replay.outdated += u64::from(!last);
        recording.replay.unflagged += u64::from(!publish.retain);
        recording.replay.delivered += 1;
        if self.missing == u64::from(recording.plan.topic_count()) {
            recording.operations.record("get the first", self.asked_ns, now_ns);
        }
        self.missing -= 1;
        if self.missing == 0 {
            recording.operations.record("get all", self.asked_ns, now_ns);
        }
    }
}

impl Actor for Replayer {
    fn handle(
        &mut self,
        now_ns: i64,
        packet: &Packet<'_>,
        recording: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        if let Packet::Suback(suback) = packet {
            let (granted, wanted) = (suback.reasons[0], recording.plan.qos);
            self.granted = granted == wanted as u8;
            return if self.granted {
                Ok(())
            } else {
                Err(Violation::Downgraded { granted, wanted })
            };
        }
        match (self.receiver.handle(packet, recording.plan.version, out)?, packet) {
            (Received::New, Packet::Publish(publish)) => self.record(publish, recording, now_ns),
            (Received::Again, _) => recording.strays.retransmitted += 1,
            _ => (),
        }
        Ok(())
    }

    fn produce(&mut self, now_ns: i64, recording: &mut Recording, out: &mut Vec<u8>) {
        if self.phase == Phase::Fresh {
            self.asked_ns = now_ns;
            self.subscribe(recording, out);
            self.phase = Phase::Receiving;
        }
        let complete = self.missing == 0 && self.granted && self.receiver.is_idle();
        if self.phase == Phase::Receiving && complete {
            Packet::Pingreq.encode(recording.plan.version, out);
            self.phase = Phase::Pinged;
        }
    }

    fn handle_pingresp(&mut self) {
        if self.phase == Phase::Pinged {
            self.phase = Phase::Done;
        }
    }

    fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }
}

/// Publishes nothing, retained, on every topic of the plan.
#[derive(Default)]
pub(crate) struct Clearer {
    next_topic: u32,
    pinged: bool,
    answered: bool,
}

impl Actor for Clearer {
    fn handle(
        &mut self,
        _now_ns: i64,
        packet: &Packet<'_>,
        _bench: &mut Recording,
        _out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        Err(Violation::Unexpected(packet.kind()))
    }

    fn produce(&mut self, _now_ns: i64, recording: &mut Recording, out: &mut Vec<u8>) {
        let (plan, version) = (&recording.plan, recording.plan.version);
        while out.len() < BATCH_BYTES && self.next_topic < plan.topic_count() {
            let name = plan.topic_name(self.next_topic);
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                topic: TopicName::parse(&name).expect("our topic names are valid"),
                packet_id: None,
                properties: Properties::EMPTY,
                payload: b"",
            };
            publish.encode(version, out);
            self.next_topic += 1;
        }
        if self.next_topic == plan.topic_count() && !self.pinged {
            Packet::Pingreq.encode(version, out);
            self.pinged = true;
        }
    }

    fn handle_pingresp(&mut self) {
        self.answered = self.pinged;
    }

    fn is_done(&self) -> bool {
        self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::payload::Stamp;
    use crate::plan::{Plan, tests::plan};
    use crate::recording::replay::ReplayBook;
    use ringmq::mqtt::{Suback, Version, split};
    use std::sync::Arc;

    /// Two topics with two versions each; a replayer that has asked for them.
    fn asking() -> (Replayer, Recording) {
        let plan = Plan { publisher_count: 1, retain: true, live: false, ..plan() };
        let mut recording = Recording::new(Arc::new(plan.with_messages(4)), 0);
        let mut replayer = Replayer::new(&mut recording, "rlg/#".to_owned());
        let mut out = Vec::new();
        replayer.produce(0, &mut recording, &mut out);
        let (frame, _) = split(&out, 1 << 20).expect("well formed").expect("complete");
        assert!(matches!(Packet::decode(frame, Version::V311), Ok(Packet::Subscribe(_))));
        (replayer, recording)
    }

    fn deliver(
        replayer: &mut Replayer,
        recording: &mut Recording,
        topic: u32,
        sequence: u64,
        flag: bool,
    ) {
        let mut payload = [0; 64];
        let run = recording.plan.run;
        let stamp = Stamp { run, publisher: 0, topic, sequence, intended_ns: 0, sent_ns: 0 };
        stamp.write(&mut payload);
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: flag,
            topic: TopicName::parse("t").expect("valid"),
            packet_id: None,
            properties: Properties::EMPTY,
            payload: &payload,
        };
        let packet = Packet::Publish(publish);
        replayer.handle(10, &packet, recording, &mut Vec::new()).expect("it is due");
    }

    fn grant(replayer: &mut Replayer, recording: &mut Recording) {
        let packet_id = PacketId::new(1).expect("not 0");
        let suback = Suback { packet_id, properties: Properties::EMPTY, reasons: &[0] };
        replayer
            .handle(5, &Packet::Suback(suback), recording, &mut Vec::new())
            .expect("it was asked for");
    }

    #[test]
    fn a_replay_is_done_when_everything_has_come_and_the_broker_has_no_more_to_say() {
        let (mut replayer, mut recording) = asking();
        let mut out = Vec::new();
        deliver(&mut replayer, &mut recording, 0, 1, true);
        grant(&mut replayer, &mut recording);
        replayer.produce(20, &mut recording, &mut out);
        assert!(out.is_empty(), "one is missing");
        deliver(&mut replayer, &mut recording, 1, 1, true);
        replayer.produce(20, &mut recording, &mut out);
        assert_eq!(out, [0xc0, 0], "PINGREQ");
        assert!(!replayer.is_done());
        deliver(&mut replayer, &mut recording, 1, 1, true);
        replayer.handle_pingresp();
        assert!(replayer.is_done());
        assert_eq!(
            (recording.replay.counts().delivered, recording.replay.counts().duplicated),
            (2, 1)
        );
        assert_eq!(recording.replay.settle().lost, 0);
    }

    #[test]
    fn what_is_old_or_unmarked_is_told_apart_from_what_is_missing() {
        let (mut replayer, mut recording) = asking();
        deliver(&mut replayer, &mut recording, 0, 0, false);
        let ReplayBook { outdated, unflagged, .. } = recording.replay;
        assert_eq!((outdated, unflagged), (1, 1));
        assert_eq!(recording.replay.settle().lost, 1, "the other topic");
    }

    #[test]
    fn clearing_ends_every_topic_with_an_empty_payload() {
        let (_, mut recording) = asking();
        let (mut clearer, mut out) = (Clearer::default(), Vec::new());
        clearer.produce(0, &mut recording, &mut out);
        let mut rest = out.as_slice();
        for topic in 0..2 {
            let (frame, used) = split(rest, 1 << 20).expect("well formed").expect("complete");
            let Ok(Packet::Publish(publish)) = Packet::decode(frame, Version::V311) else {
                panic!("it is PUBLISH");
            };
            assert!(publish.retain && publish.payload.is_empty());
            assert_eq!(publish.topic.as_str(), recording.plan.topic_name(topic));
            rest = &rest[used..];
        }
        assert_eq!(rest, [0xc0, 0], "PINGREQ");
        clearer.handle_pingresp();
        assert!(clearer.is_done());
    }
}
