//! What sessions were owed, and whether what is missing was dropped for a cause that was counted.

use ringmq::metrics::DropCause;

use crate::history::{Dropped, Fate, Message, Moment, Session, Subscription};
use crate::history::{matches, shared};
use crate::scenario::SHARE_BYTES_MIN;

use super::{Case, Channel, END, is_asked, is_asked_alone, is_of};

/// More than a delivery takes beside topic and payload, and its session beside deliveries.
const DELIVERY_BYTES: usize = 250;
const SESSION_BYTES: usize = 500;

/// A delivery that did not come although it was owed.
pub(super) struct Loss {
    pub(super) text: String,
    /// Why it may have been dropped.
    pub(super) causes: Vec<DropCause>,
    /// The shards that may have dropped it.
    pub(super) homes: Vec<usize>,
    /// When it was published.
    pub(super) from: Moment,
    /// By then it was delivered or held, if that is known.
    pub(super) held: Moment,
}

impl Loss {
    /// Whether it may be what was given up there and then.
    fn may_be(&self, dropped: &Dropped) -> bool {
        // What is held may still expire, or not fit a later connection.
        let is_late = matches!(dropped.cause, DropCause::Expired | DropCause::TooLarge);
        self.causes.contains(&dropped.cause)
            && self.homes.contains(&dropped.shard)
            && dropped.at >= self.from
            && (is_late || dropped.at <= self.held)
    }
}

/// Gives a loss a dropped delivery of its own, if need be by giving others another one: whether
/// that is possible.
fn explain(
    loss: usize,
    losses: &[Loss],
    drops: &[Dropped],
    taken: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for (number, dropped) in drops.iter().enumerate() {
        if seen[number] || !losses[loss].may_be(dropped) {
            continue;
        }
        seen[number] = true;
        let other = taken[number];
        if other.is_none_or(|other| explain(other, losses, drops, taken, seen)) {
            taken[number] = Some(loss);
            return true;
        }
    }
    false
}

impl Case<'_> {
    /// What is missing must have been counted.
    pub(super) fn judge_losses(&self) {
        let mut losses = Vec::new();
        for session in self.history.sessions.iter().filter(|session| self.is_alive(session)) {
            for (number, message) in self.history.messages.iter().enumerate() {
                losses.extend(self.loss(session, number, message));
            }
            if session.client + 1 < self.scenario.clients.len() {
                losses.extend(self.lost_replays(session));
            }
        }
        losses.extend(self.lost_of_groups());
        losses.extend(self.judge_retained());
        let drops = &self.history.drops;
        let mut taken = vec![None; drops.len()];
        for (number, loss) in losses.iter().enumerate() {
            let mut seen = vec![false; drops.len()];
            let is_explained = explain(number, &losses, drops, &mut taken, &mut seen);
            let Loss { text, causes, homes, .. } = loss;
            assert!(
                is_explained,
                "{text}: lost, and no delivery of its own was dropped there as {causes:?}; \
                 shards {homes:?}, {} lost",
                losses.len()
            );
        }
    }

    /// Whether a session goes on until the end, and its client with it.
    fn is_alive(&self, session: &Session) -> bool {
        let mut connections = self.history.connections.iter().rev();
        let last = connections.find(|c| c.client == session.client && c.accepted.is_some());
        let is_its = |number: usize| std::ptr::eq(&self.history.sessions[number], session);
        session.ended.is_none() && last.is_some_and(|c| c.session.is_some_and(is_its))
    }

    /// When a message that was certainly routed was routed at the latest.
    fn routed_until(&self, message: &Message) -> Option<Moment> {
        match (&message.will, message.accepted) {
            (Some((_, Fate::Due { until, .. })), _) => Some(*until),
            (Some(_), _) => None,
            (None, Some(accepted)) => Some(accepted),
            (None, None) => self.is_routed(message).then_some(END),
        }
    }

    fn loss(&self, session: &Session, number: usize, message: &Message) -> Option<Loss> {
        if message.letter.size == 0 || message.forbidden {
            return None;
        }
        let until = self.routed_until(message)?;
        let is_own = session.client == message.client;
        let is_sure = |s: &&Subscription| {
            is_asked_alone(s, message.letter.topic)
                && s.is_all_of(message.first(), until)
                && !(is_own && s.wish.no_local)
        };
        let granted = session.subscriptions.iter().filter(is_sure).map(|s| s.wish.qos).max()?;
        let qos = granted.min(message.letter.qos);
        if qos == 0 && !self.is_there_since(session, message.first()) {
            return None;
        }
        let text = format!("message {number} to {}", self.name(session));
        assert!(!message.is_unmatched, "{text}: the publisher was told that nobody is there");
        let is_it = |d: &crate::history::Delivery| {
            d.message == number && self.channel(session, d) == Channel::Ordinary
        };
        let has_come = session.deliveries.iter().any(is_it);
        let may_be = |s: &&Subscription| {
            is_asked_alone(s, message.letter.topic) && s.may_be_in(message.first(), until)
        };
        let most = session.subscriptions.iter().filter(may_be).map(|s| s.wish.qos).max()?;
        let most = most.min(message.letter.qos);
        let causes = self.causes(session, message, qos, most);
        (!has_come).then(|| self.loss_of(session, message, text, causes))
    }

    fn loss_of(
        &self,
        session: &Session,
        message: &Message,
        text: String,
        causes: Vec<DropCause>,
    ) -> Loss {
        let homes = vec![self.history.homes[session.client]];
        let held = message.accepted.unwrap_or(END);
        Loss { text, causes, homes, from: message.first(), held }
    }

    /// Whether the client had one connection from before that moment to the end.
    fn is_there_since(&self, session: &Session, moment: Moment) -> bool {
        let mut connections = self.history.connections.iter();
        connections.any(|connection| {
            let is_before = connection.accepted.is_some_and(|at| at < moment);
            connection.client == session.client && is_before && connection.ended.is_none()
        })
    }

    /// Why a delivery of a QoS between the two may have been dropped, seen from outside.
    pub(super) fn causes(
        &self,
        session: &Session,
        message: &Message,
        least: u8,
        most: u8,
    ) -> Vec<DropCause> {
        let limits = &self.scenario.limits;
        let mut causes = Vec::new();
        if least == 0 {
            causes.push(DropCause::OutboxFull);
        }
        if most > 0 || limits.queue_qos0_offline {
            causes.extend([DropCause::QueueFull, DropCause::QueueBytesFull]);
        }
        // Topic, payload, and what properties and header may need.
        let size = message.letter.size + message.letter.topic.len() + 80;
        let packet_max = self.scenario.clients[session.client].packet_max;
        if packet_max.is_some_and(|max| size > max as usize) {
            causes.push(DropCause::TooLarge);
        }
        if self.may_have_expired(message) {
            causes.push(DropCause::Expired);
        }
        if limits.memory_max.is_some() && self.may_hold_bytes(session) > SHARE_BYTES_MIN {
            causes.push(DropCause::OverShare);
        }
        causes
    }

    /// More than a session can ever have held, with what each delivery and the tables of its
    /// session take beside the message.
    fn may_hold_bytes(&self, session: &Session) -> usize {
        let bytes_of = |message: &Message| {
            let topic = message.letter.topic;
            let ways = session.subscriptions.iter().filter(|s| is_asked(s, topic)).count();
            let copies = ways * (message.route_count() + usize::from(message.letter.retain));
            copies * (message.letter.size + topic.len() + DELIVERY_BYTES)
        };
        SESSION_BYTES + self.history.messages.iter().map(bytes_of).sum::<usize>()
    }

    /// Retained messages that a subscription should have brought.
    fn lost_replays(&self, session: &Session) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (number, message) in self.history.messages.iter().enumerate() {
            let topic = message.letter.topic;
            let accepted = message.accepted.filter(|_| message.letter.retain);
            let Some(accepted) = accepted.filter(|_| message.letter.size > 0) else { continue };
            let wants = |s: &&Subscription| {
                let is_new =
                    s.wish.retain_handling == 0 || s.wish.retain_handling == 1 && !s.may_be_old;
                is_asked_alone(s, topic) && is_new && s.asked > accepted && s.is_all_of(END, END)
            };
            let Some(wanting) = session.subscriptions.iter().find(wants) else { continue };
            let may_be_gone = self.may_have_expired(message) || self.may_be_refused(message);
            if may_be_gone || !self.is_the_only_one(number, message) {
                continue;
            }
            let is_it = |d: &crate::history::Delivery| {
                d.message == number && d.retain && d.at > wanting.asked
            };
            let qos = wanting.wish.qos.min(message.letter.qos);
            let is_owed = qos > 0 || self.is_there_since(session, wanting.asked);
            if is_owed && !session.deliveries.iter().any(is_it) {
                let text = format!("message {number}, retained, to {}", self.name(session));
                let causes = self.causes(session, message, qos, qos);
                let loss = self.loss_of(session, message, text, causes);
                losses.push(Loss { from: wanting.asked, held: END, ..loss });
            }
        }
        losses
    }

    /// Whether nothing else can have been retained of its topic since it was accepted.
    fn is_the_only_one(&self, number: usize, message: &Message) -> bool {
        let topic = message.letter.topic;
        let mut others = self.history.messages.iter().enumerate();
        others.all(|(other_number, other)| {
            let is_other =
                other_number != number && other.letter.retain && other.letter.topic == topic;
            !is_other || !self.may_be_routed(other) || self.follows(message, other)
        })
    }

    /// Messages that a shared subscription should have brought to one of its members.
    fn lost_of_groups(&self) -> Vec<Loss> {
        let mut losses = Vec::new();
        let all = self.history.sessions.iter().flat_map(|session| &session.subscriptions);
        let groups: std::collections::BTreeSet<&'static str> =
            all.map(|s| s.wish.filter).filter(|filter| shared(filter).is_some()).collect();
        for group in groups {
            for (number, message) in self.history.messages.iter().enumerate() {
                losses.extend(self.loss_of_group(group, number, message));
            }
        }
        losses
    }

    fn loss_of_group(&self, group: &'static str, number: usize, m: &Message) -> Option<Loss> {
        let (_, filter) = shared(group)?;
        let is_owed = matches(filter, m.letter.topic) && m.letter.qos > 0 && !m.forbidden;
        let until = self.routed_until(m).filter(|_| is_owed && m.letter.size > 0)?;
        let members = || {
            let of = |session| (session, self.members_of(session, group));
            self.history.sessions.iter().map(of).filter(|(_, members)| !members.is_empty())
        };
        // A member that leaves gives back what it has, and others may have left by then.
        let is_given_back = members().any(|(session, subscriptions)| {
            session.ended.is_some() || subscriptions.iter().any(|s| s.leaving.is_some())
        });
        let until = if is_given_back { END } else { until };
        let is_sure = |s: &&Subscription| s.is_all_of(m.first(), until);
        let has_one = members().any(|(session, subscriptions)| {
            self.is_alive(session) && subscriptions.iter().any(is_sure)
        });
        // What was sent at QoS 2 to a member that has ended goes to nobody else.
        let is_final = m.letter.qos == 2 && self.ended_members(group) > 0;
        let holds = |s: &&Subscription| s.wish.qos == 1 || s.wish.qos == 2 && !is_final;
        let all_hold = members().all(|(_, subscriptions)| subscriptions.iter().all(holds));
        let has_come = members().any(|(session, _)| {
            let mut deliveries = session.deliveries.iter();
            deliveries
                .any(|d| d.message == number && self.channel(session, d) == Channel::Group(group))
        });
        if !has_one || !all_hold || has_come {
            return None;
        }
        let mut causes: Vec<DropCause> =
            members().flat_map(|(session, _)| self.causes(session, m, 1, 2)).collect();
        // What one member does not take goes to another that does, unless it was sent at QoS 2.
        let is_taken = m.letter.qos == 1
            && members().any(|(session, subscriptions)| {
                let is_there = self.is_alive(session) && subscriptions.iter().any(is_sure);
                is_there && !self.causes(session, m, 1, 2).contains(&DropCause::TooLarge)
            });
        if is_taken {
            causes.retain(|cause| *cause != DropCause::TooLarge);
        }
        let homes = match causes.contains(&DropCause::TooLarge) {
            true => (0..self.scenario.shard_count).collect(), // The owner of the topic drops it.
            false => members().map(|(session, _)| self.history.homes[session.client]).collect(),
        };
        let text = format!("message {number} to {group}");
        Some(Loss { text, causes, homes, from: m.first(), held: END })
    }

    fn members_of<'s>(&self, session: &'s Session, group: &'static str) -> Vec<&'s Subscription> {
        session.subscriptions.iter().filter(|s| is_of(s, Channel::Group(group))).collect()
    }
}
