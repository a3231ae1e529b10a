//! What one executor sends, receives and still waits for, and the plan and pace that say what is
//! due. No sockets, no clock: times come in as arguments.

pub(crate) mod brief;
pub(crate) mod gap;
pub(crate) mod groups;
pub(crate) mod impact;
pub(crate) mod operations;
pub(crate) mod recorder;
pub(crate) mod replay;
pub(crate) mod tally;

use std::iter::Sum;
use std::ops::Range;
use std::sync::Arc;

use ringmq::mqtt::{Publish, QoS};

use crate::pace::schedule::{Schedule, Timeline};
use crate::pace::window::{ClosedLoop, Completion};
use crate::plan::payload::Stamp;
use crate::plan::{Load, Plan};
use crate::recording::gap::LastDelivery;
use crate::recording::groups::{Groups, MemberPlace};
use crate::recording::impact::Impact;
use crate::recording::operations::Operations;
use crate::recording::recorder::{Recorder, Times};
use crate::recording::replay::ReplayBook;
use crate::recording::tally::{Arrival, Tally};

/// No run gets this far: a higher number has been damaged on its way.
const SEQUENCE_END: u64 = 1 << 48;

/// Counts and latencies of one executor, shared by its connections.
pub(crate) struct Recording {
    pub(crate) plan: Arc<Plan>,
    executor: u32,
    pub(crate) recorder: Box<Recorder>,
    pub(crate) tally: Tally,
    pub(crate) strays: Strays,
    /// Of those that share subscriptions.
    pub(crate) groups: Groups,
    /// Of extra clients that take deliveries.
    pub(crate) bystanders: Tally,
    pub(crate) replay: ReplayBook,
    /// Set when a run starts that has an incident.
    pub(crate) impact: Option<Impact>,
    /// SUBSCRIBE and UNSUBSCRIBE that were not answered so far.
    pub(crate) open_question_count: u64,
    /// Of the step that goes on.
    pub(crate) operations: Operations,
    /// Messages sent on each topic by the publishers of this executor.
    pub(crate) sent: Vec<u64>,
    /// Acknowledged to the end (PUBACK or PUBCOMP).
    pub(crate) acknowledged: u64,
    sent_count: u64,
    /// Deliveries that these messages owe to all subscribers everywhere.
    owed_count: u64,
    /// Subscribers of each topic: on this executor, everywhere, and executors that have any.
    receivers: Vec<u32>,
    receivers_everywhere: Vec<u32>,
    receiving_executors: Vec<u32>,
    /// Set when the run starts.
    course: Option<Course>,
    /// The payload of every message; the stamp is written over its head.
    pub(crate) payload: Vec<u8>,
}

/// Deliveries that prove nothing about a flow.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Strays {
    /// Not of this run.
    pub(crate) foreign: u64,
    /// Of this run, on a topic that the subscriber has not asked for.
    pub(crate) misrouted: u64,
    /// QoS 2: the same packet once more before PUBREL, which is no second delivery.
    pub(crate) retransmitted: u64,
    /// At another QoS than the one that publisher and subscriber have agreed on.
    pub(crate) wrong_qos: u64,
}

impl Sum for Strays {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |mut sum, part| {
            sum.foreign += part.foreign;
            sum.misrouted += part.misrouted;
            sum.retransmitted += part.retransmitted;
            sum.wrong_qos += part.wrong_qos;
            sum
        })
    }
}

struct Course {
    timeline: Timeline,
    pace: Pace,
    churn: Option<Schedule>,
}

/// Where the deliveries of a subscriber are entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Book {
    /// In those of the run, from this flow on.
    Own(usize),
    /// Among those that share a subscription.
    Share(MemberPlace),
    /// Apart from all others, from this flow on.
    Bystander(usize),
}

enum Pace {
    Open(Schedule),
    Closed(ClosedLoop),
}

/// Which message a publisher is about to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    pub(crate) publisher: u32,
    /// The place of the publisher on its executor.
    pub(crate) place: usize,
    /// The number of the message among those of the publisher.
    pub(crate) index: u64,
}

impl Recording {
    pub(crate) fn new(plan: Arc<Plan>, executor: u32) -> Self {
        let (receivers_everywhere, receiving_executors) = plan.receivers_everywhere();
        Self {
            recorder: Box::new(Recorder::new()),
            tally: Tally::default(),
            strays: Strays::default(),
            groups: Groups::default(),
            bystanders: Tally::default(),
            replay: ReplayBook::default(),
            impact: None,
            open_question_count: 0,
            operations: Operations::default(),
            sent: vec![0; plan.topic_count() as usize],
            acknowledged: 0,
            receivers: plan.receivers_on(executor),
            receivers_everywhere,
            receiving_executors,
            sent_count: 0,
            owed_count: 0,
            course: None,
            payload: vec![0; plan.payload_bytes],
            executor,
            plan,
        }
    }

    /// Starts the schedule: from now on publishers send what is due.
    pub(crate) fn start(&mut self, timeline: Timeline) {
        let plan = &self.plan;
        let pace = match plan.load {
            Load::Open { rate_per_s } => {
                Pace::Open(Schedule::new(&timeline, rate_per_s, plan.publisher_count))
            }
            Load::Closed { window_size } => Pace::Closed(ClosedLoop::new(
                (self.executor, plan.executor_count),
                plan.publisher_count,
                window_size,
                &timeline,
            )),
        };
        let extras = plan.extras.map_or(0, |extras| extras.count);
        let churn = plan.churn.map(|churn| Schedule::new(&timeline, churn.rate_per_s, extras));
        self.impact = plan
            .incident
            .map(|incident| Impact::new(timeline.steady_ns + incident.at.as_nanos() as i64));
        self.course = Some(Course { timeline, pace, churn });
    }

    /// Returns when an extra client is to change its subscriptions, if that is due.
    pub(crate) fn churn_due(&self, extra: u32, index: u64, now_ns: i64) -> Option<i64> {
        self.churn_schedule()?.due(extra, index, now_ns)
    }

    pub(crate) fn churn_schedule(&self) -> Option<Schedule> {
        self.course.as_ref()?.churn
    }

    /// Records the answer to SUBSCRIBE or UNSUBSCRIBE. Those of the warm-up are not measured.
    pub(crate) fn record_answer(&mut self, name: &'static str, intended_ns: i64, now_ns: i64) {
        self.open_question_count -= 1;
        if self.course.as_ref().is_some_and(|course| course.timeline.is_steady(intended_ns)) {
            self.operations.record(name, intended_ns, now_ns);
        }
    }

    /// Returns the intended time of a message, if it may be sent now.
    pub(crate) fn due(&mut self, turn: Turn, now_ns: i64) -> Option<i64> {
        if turn.index >= self.plan.message_limit(turn.publisher) {
            return None;
        }
        match &mut self.course.as_mut()?.pace {
            Pace::Open(schedule) => schedule.due(turn.publisher, turn.index, now_ns),
            Pace::Closed(closed) => closed.window(turn.place).allowed(now_ns),
        }
    }

    /// Records that the message that was [`Self::due`] has been written.
    pub(crate) fn record_publish(&mut self, turn: Turn, times: Times, held_back: bool) {
        let topic = self.topic_of(turn);
        self.sent[topic] += 1;
        self.sent_count += 1;
        self.owed_count += u64::from(self.receivers_everywhere[topic]);
        let acknowledged = u32::from(self.plan.qos > QoS::AtMostOnce);
        let parts = self.receiving_executors[topic] + acknowledged;
        let Some(course) = &mut self.course else {
            return;
        };
        self.recorder.record_publish(&course.timeline, times, held_back);
        if let Pace::Closed(closed) = &mut course.pace {
            closed.window(turn.place).take(times.sent_ns, parts);
        }
    }

    /// Records that the broker has acknowledged a message to the end.
    pub(crate) fn record_acknowledged(
        &mut self,
        publisher: u32,
        index: u64,
        intended_ns: i64,
        now_ns: i64,
    ) {
        self.acknowledged += 1;
        let Some(course) = &mut self.course else {
            return;
        };
        self.recorder.record_acknowledged(&course.timeline, intended_ns, now_ns);
        if let Pace::Closed(closed) = &mut course.pace {
            closed.handle_completion(Completion { publisher, index, time_ns: now_ns });
        }
    }

    /// Records a delivery to a subscriber; returns whether it is the first of this message.
    #[inline]
    pub(crate) fn record_delivery(
        &mut self,
        book: Book,
        topics: &Range<u32>,
        publish: &Publish<'_>,
        now_ns: i64,
    ) -> bool {
        let Some((topic, stamp)) = self.identify(publish) else {
            self.strays.foreign += 1;
            return false;
        };
        if !topics.contains(&topic) {
            self.strays.misrouted += 1;
            return false;
        }
        self.strays.wrong_qos += u64::from(publish.qos != self.plan.qos);
        let place = (topic - topics.start) as usize;
        let arrival = match book {
            Book::Own(first) => self.tally.record(first + place, stamp.sequence, publish.dup),
            Book::Share(at) => self.groups.record(at, place, stamp.sequence, publish.dup),
            Book::Bystander(first) => {
                self.bystanders.record(first + place, stamp.sequence, publish.dup)
            }
        };
        let first = matches!(arrival, Arrival::InOrder | Arrival::OutOfOrder);
        if first && self.plan.live && !matches!(book, Book::Bystander(_)) {
            self.record_first(topic, &stamp, now_ns);
        }
        first
    }

    /// Records the gap before a delivery to a subscriber.
    #[inline]
    pub(crate) fn record_gap(&mut self, last: &mut LastDelivery, now_ns: i64) {
        if let Some(course) = &self.course {
            let gap_ns = last.gap_until(&course.timeline, now_ns);
            self.recorder.longest_gap_ns = self.recorder.longest_gap_ns.max(gap_ns);
        }
    }

    /// Reads the number of the topic and the stamp; `None` for what is not of this run.
    pub(crate) fn identify(&self, publish: &Publish<'_>) -> Option<(u32, Stamp)> {
        let stamp = Stamp::read(publish.payload, self.plan.run)?;
        let sound = stamp.publisher < self.plan.publisher_count
            && stamp.topic < self.plan.topics_per_publisher
            && stamp.sequence < SEQUENCE_END;
        let topic = || stamp.publisher * self.plan.topics_per_publisher + stamp.topic;
        sound.then(|| (topic(), stamp))
    }

    fn record_first(&mut self, topic: u32, stamp: &Stamp, now_ns: i64) {
        let Some(course) = &mut self.course else {
            return;
        };
        let times = Times { intended_ns: stamp.intended_ns, sent_ns: stamp.sent_ns };
        self.recorder.record_delivery(&course.timeline, times, now_ns);
        if let Some(impact) = &mut self.impact
            && course.timeline.is_steady(stamp.intended_ns)
        {
            impact.record(stamp.intended_ns, now_ns);
        }
        if let Pace::Closed(closed) = &mut course.pace {
            let per_publisher = u64::from(self.plan.topics_per_publisher);
            let index = stamp.sequence * per_publisher + u64::from(stamp.topic);
            let delivery = Completion { publisher: stamp.publisher, index, time_ns: now_ns };
            closed.handle_delivery(delivery, self.receivers[topic as usize]);
        }
    }

    fn topic_of(&self, turn: Turn) -> usize {
        let per_publisher = u64::from(self.plan.topics_per_publisher);
        (u64::from(turn.publisher) * per_publisher + turn.index % per_publisher) as usize
    }

    /// Messages sent by the publishers of this executor.
    pub(crate) fn sent_count(&self) -> u64 {
        self.sent_count
    }

    /// Deliveries that they owe.
    pub(crate) fn owed_count(&self) -> u64 {
        self.owed_count
    }

    pub(crate) fn closed_loop(&mut self) -> Option<&mut ClosedLoop> {
        match &mut self.course.as_mut()?.pace {
            Pace::Open(_) => None,
            Pace::Closed(closed) => Some(closed),
        }
    }

    pub(crate) fn schedule(&self) -> Option<Schedule> {
        match self.course.as_ref()?.pace {
            Pace::Open(schedule) => Some(schedule),
            Pace::Closed(_) => None,
        }
    }
}
