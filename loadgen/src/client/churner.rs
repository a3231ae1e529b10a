//! A client that subscribes and unsubscribes all the time, at the times that a schedule says.

use std::collections::VecDeque;

use ringmq::mqtt::{
    Filters, Packet, PacketId, PacketType, Properties, Subscribe, Subscription,
    SubscriptionOptions, Subscriptions, TopicFilter, Unsubscribe,
};

use crate::client::Actor;
use crate::client::qos::{Receiver, Violation};
use crate::plan::Plan;
use crate::recording::Recording;

/// Questions that may be open at once; what is due beyond that waits, and counts from its time.
const OPEN_COUNT_MAX: usize = 1000;

pub(crate) struct Churner {
    number: u32,
    /// The number of the next question.
    index: u64,
    /// The oldest filter that it holds, and the next new one; numbers of filters.
    oldest: u64,
    newest: u64,
    questions: VecDeque<Question>,
    receiver: Receiver,
}

struct Question {
    packet_id: PacketId,
    kind: PacketType,
    intended_ns: i64,
}

impl Churner {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            index: 0,
            oldest: 0,
            newest: 0,
            questions: VecDeque::new(),
            receiver: Receiver::default(),
        }
    }

    fn ask(&mut self, intended_ns: i64, recording: &mut Recording, out: &mut Vec<u8>) {
        let packet_id = PacketId::new((self.index % 65_535) as u16 + 1).expect("it is above 0");
        let held_count = recording.plan.churn.map_or(1, |churn| u64::from(churn.held_count));
        let kind = if self.newest - self.oldest < held_count {
            self.subscribe(packet_id, &recording.plan, out);
            PacketType::Subscribe
        } else {
            self.unsubscribe(packet_id, &recording.plan, out);
            PacketType::Unsubscribe
        };
        self.questions.push_back(Question { packet_id, kind, intended_ns });
        recording.open_question_count += 1;
        self.index += 1;
    }

    fn subscribe(&mut self, packet_id: PacketId, plan: &Plan, out: &mut Vec<u8>) {
        let name = filter(plan, self.number, self.newest);
        self.newest += 1;
        let filter = TopicFilter::parse(&name).expect("our filters are valid");
        let options = SubscriptionOptions { qos: plan.qos, ..Default::default() };
        let mut bytes = Vec::new();
        let subscriptions = [Subscription { filter, options }];
        let subscribe = Subscribe {
            packet_id,
            properties: Properties::EMPTY,
            subscriptions: Subscriptions::write(plan.version, &subscriptions, &mut bytes),
        };
        subscribe.encode(plan.version, out);
    }

    fn unsubscribe(&mut self, packet_id: PacketId, plan: &Plan, out: &mut Vec<u8>) {
        let name = filter(plan, self.number, self.oldest);
        self.oldest += 1;
        let filters = [TopicFilter::parse(&name).expect("our filters are valid")];
        let mut bytes = Vec::new();
        let unsubscribe = Unsubscribe {
            packet_id,
            properties: Properties::EMPTY,
            filters: Filters::write(&filters, &mut bytes),
        };
        unsubscribe.encode(plan.version, out);
    }

    fn answer(
        &mut self,
        kind: PacketType,
        packet_id: PacketId,
        recording: &mut Recording,
        now_ns: i64,
    ) -> Result<(), Violation> {
        let asked = |question: &Question| question.packet_id == packet_id && question.kind == kind;
        let Some(at) = self.questions.iter().position(asked) else {
            return Err(Violation::UnknownPacketId { kind, packet_id: packet_id.get() });
        };
        let question = self.questions.remove(at).expect("it has just been found");
        recording.record_answer(operation(kind), question.intended_ns, now_ns);
        Ok(())
    }
}

/// Names the question of a packet in the report.
fn operation(kind: PacketType) -> &'static str {
    if kind == PacketType::Subscribe { "subscribe" } else { "unsubscribe" }
}

/// Makes filter number `filter` of a churner: a name, or one with either wildcard in turn.
fn filter(plan: &Plan, churner: u32, filter: u64) -> String {
    let share = plan.churn.map_or(0.0, |churn| churn.wildcard_share);
    let wildcards = |count: u64| (count as f64 * share).floor() as u64;
    let root = plan.topic_root();
    match (wildcards(filter + 1) > wildcards(filter), wildcards(filter) % 2) {
        (false, _) => format!("{root}/churn/{churner}/{filter}/name"),
        (true, 0) => format!("{root}/churn/{churner}/+/{filter}"),
        (true, _) => format!("{root}/churn/{churner}/{filter}/#"),
    }
}

impl Actor for Churner {
    fn handle(
        &mut self,
        now_ns: i64,
        packet: &Packet<'_>,
        recording: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        match packet {
            Packet::Suback(suback) => {
                let (granted, wanted) = (suback.reasons[0], recording.plan.qos);
                if granted != wanted as u8 {
                    return Err(Violation::Downgraded { granted, wanted });
                }
                self.answer(PacketType::Subscribe, suback.packet_id, recording, now_ns)
            }
            Packet::Unsuback(unsuback) => {
                self.answer(PacketType::Unsubscribe, unsuback.packet_id, recording, now_ns)
            }
            packet => self.receiver.handle(packet, recording.plan.version, out).map(drop),
        }
    }

    fn produce(&mut self, now_ns: i64, recording: &mut Recording, out: &mut Vec<u8>) {
        while self.questions.len() < OPEN_COUNT_MAX {
            let Some(intended_ns) = recording.churn_due(self.number, self.index, now_ns) else {
                return;
            };
            self.ask(intended_ns, recording, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::schedule::Timeline;
    use crate::plan::Extras;
    use crate::plan::step::Churn;
    use crate::plan::tests::plan;
    use ringmq::mqtt::{Suback, Version, split};
    use std::sync::Arc;

    const SECOND: i64 = 1_000_000_000;

    fn recording(wildcard_share: f64) -> Recording {
        let churn = Some(Churn { rate_per_s: 10.0, held_count: 2, wildcard_share });
        let extras = Extras {
            name: "churner",
            count: 1,
            filters: |_, _| Vec::new(),
            receive_buffer_bytes: None,
        };
        let mut recording =
            Recording::new(Arc::new(Plan { churn, extras: Some(extras), ..plan() }), 0);
        recording.start(Timeline { start_ns: 0, steady_ns: 0, end_ns: SECOND });
        recording
    }

    fn asked(mut bytes: &[u8]) -> Vec<String> {
        let mut asked = Vec::new();
        while let Some((frame, used)) = split(bytes, 1 << 20).expect("well formed") {
            asked.push(match Packet::decode(frame, Version::V311).expect("well formed") {
                Packet::Subscribe(packet) => {
                    format!(
                        "+{}",
                        packet
                            .subscriptions
                            .iter()
                            .map(|s| s.filter.as_str().to_owned())
                            .collect::<String>()
                    )
                }
                Packet::Unsubscribe(packet) => {
                    format!(
                        "-{}",
                        packet.filters.iter().map(|f| f.as_str().to_owned()).collect::<String>()
                    )
                }
                other => panic!("{other:?}"),
            });
            bytes = &bytes[used..];
        }
        asked
    }

    #[test]
    fn filters_are_held_up_to_their_number_and_then_replaced() {
        let mut recording = recording(0.0);
        let (mut churner, mut out) = (Churner::new(0), Vec::new());
        churner.produce(SECOND / 2, &mut recording, &mut out);
        let names = asked(&out);
        let short: Vec<&str> = names
            .iter()
            .map(|name| name.trim_end_matches("/name"))
            .map(|name| if name.starts_with('+') { &name[name.len() - 1..] } else { "-" })
            .collect();
        assert_eq!(short, ["0", "1", "-", "2", "-", "3"]);
        assert!(names[2].ends_with("churn/0/0/name"), "the oldest goes first: {names:?}");
    }

    #[test]
    fn wildcards_have_their_share() {
        let plan = Plan {
            churn: Some(Churn { rate_per_s: 1.0, held_count: 1, wildcard_share: 0.5 }),
            ..plan()
        };
        let filters: Vec<String> = (0..8).map(|number| filter(&plan, 3, number)).collect();
        assert_eq!(filters.iter().filter(|filter| filter.contains(['+', '#'])).count(), 4);
        assert_eq!(filters.iter().filter(|filter| filter.ends_with('#')).count(), 2);
    }

    #[test]
    fn answers_count_from_the_intended_time_and_only_once() {
        let mut recording = recording(0.0);
        let (mut churner, mut out) = (Churner::new(0), Vec::new());
        churner.produce(SECOND / 10, &mut recording, &mut out);
        assert_eq!(recording.open_question_count, 2);
        let suback = Packet::Suback(Suback {
            packet_id: PacketId::new(2).expect("not 0"),
            properties: Properties::EMPTY,
            reasons: &[0],
        });
        churner.handle(SECOND / 5, &suback, &mut recording, &mut out).expect("it was asked");
        let (name, row) = recording.operations.iter().next().expect("an operation");
        let latency_ms = row.latency.max() / 1_000_000;
        assert_eq!((name, row.latency.len(), latency_ms), ("subscribe", 1, 100));
        assert!(churner.handle(SECOND / 5, &suback, &mut recording, &mut out).is_err(), "twice");
    }
}
