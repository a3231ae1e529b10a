//! A client that asks for everything that is retained, one that ends it, and their books.

use ringmq::mqtt::{
    Packet, PacketId, Properties, Publish, QoS, Subscribe, Subscription, SubscriptionOptions,
    Subscriptions, TopicFilter, TopicName,
};

use crate::actor::Actor;
use crate::bench::Bench;
use crate::client::{Received, Receiver, Violation};
use crate::tally::{Counts, Settlement};

/// Bytes written in one batch before the socket is tried.
const BATCH_BYTES: usize = 64 * 1024;

/// What all replays of one executor came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct ReplayBook {
    expected: u64,
    delivered: u64,
    duplicated: u64,
    /// Not the last message that was published on its topic.
    pub(crate) outdated: u64,
    /// Without the RETAIN flag [MQTT-3.3.1-8].
    pub(crate) unflagged: u64,
}

impl ReplayBook {
    pub(crate) fn counts(&self) -> Counts {
        let Self { delivered, duplicated, .. } = *self;
        Counts { delivered, duplicated, duplicated_unmarked: duplicated, ..Counts::default() }
    }

    pub(crate) fn settle(&self) -> Settlement {
        let lost = self.expected - self.delivered;
        Settlement { expected: self.expected, lost, invented: 0 }
    }

    /// Adds what `other` has counted.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.outdated += other.outdated;
        self.unflagged += other.unflagged;
    }
}

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
    pub(crate) fn new(bench: &mut Bench, filter: String) -> Self {
        let topic_count = bench.plan.topic_count();
        bench.replay.expected += u64::from(topic_count);
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

    fn subscribe(&self, bench: &Bench, out: &mut Vec<u8>) {
        let options = SubscriptionOptions { qos: bench.plan.qos, ..Default::default() };
        let filter = TopicFilter::parse(&self.filter).expect("our filters are valid");
        let mut bytes = Vec::new();
        let subscription = [Subscription { filter, options }];
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).expect("1 is not 0"),
            properties: Properties::EMPTY,
            subscriptions: Subscriptions::write(bench.plan.version, &subscription, &mut bytes),
        };
        subscribe.encode(bench.plan.version, out);
    }

    fn record(&mut self, publish: &Publish<'_>, bench: &mut Bench, now_ns: i64) {
        let Some((topic, stamp)) = bench.identify(publish) else {
            bench.strays.foreign += 1;
            return;
        };
        bench.strays.wrong_qos += u64::from(publish.qos != bench.plan.qos);
        let (word, bit) = ((topic / 64) as usize, 1 << (topic % 64));
        if self.seen[word] & bit != 0 {
            bench.replay.duplicated += 1;
            return;
        }
        self.seen[word] |= bit;
        let last = bench.plan.planned_on(topic).is_none_or(|count| stamp.sequence + 1 == count);
        bench.replay.outdated += u64::from(!last);
        bench.replay.unflagged += u64::from(!publish.retain);
        bench.replay.delivered += 1;
        if self.missing == u64::from(bench.plan.topic_count()) {
            bench.operations.record("get the first", self.asked_ns, now_ns);
        }
        self.missing -= 1;
        if self.missing == 0 {
            bench.operations.record("get all", self.asked_ns, now_ns);
        }
    }
}

impl Actor for Replayer {
    fn handle(
        &mut self,
        now_ns: i64,
        packet: &Packet<'_>,
        bench: &mut Bench,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        if let Packet::Suback(suback) = packet {
            let (granted, wanted) = (suback.reasons[0], bench.plan.qos);
            self.granted = granted == wanted as u8;
            return if self.granted {
                Ok(())
            } else {
                Err(Violation::Downgraded { granted, wanted })
            };
        }
        match (self.receiver.handle(packet, bench.plan.version, out)?, packet) {
            (Received::New, Packet::Publish(publish)) => self.record(publish, bench, now_ns),
            (Received::Again, _) => bench.strays.retransmitted += 1,
            _ => (),
        }
        Ok(())
    }

    fn produce(&mut self, now_ns: i64, bench: &mut Bench, out: &mut Vec<u8>) {
        if self.phase == Phase::Fresh {
            self.asked_ns = now_ns;
            self.subscribe(bench, out);
            self.phase = Phase::Receiving;
        }
        let complete = self.missing == 0 && self.granted && self.receiver.is_idle();
        if self.phase == Phase::Receiving && complete {
            Packet::Pingreq.encode(bench.plan.version, out);
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
        _bench: &mut Bench,
        _out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        Err(Violation::Unexpected(packet.kind()))
    }

    fn produce(&mut self, _now_ns: i64, bench: &mut Bench, out: &mut Vec<u8>) {
        let (plan, version) = (&bench.plan, bench.plan.version);
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
