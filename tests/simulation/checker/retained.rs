//! What is retained at the end: of every topic the last message that was accepted.

use std::collections::BTreeMap;

use crate::history::{Fate, Message, Moment};
use crate::scenario::{MANY_TOPICS, TOPICS};

use super::owed::Loss;
use super::{Case, END};

impl Case<'_> {
    /// The last client has got what is retained, and nothing else.
    pub(super) fn judge_retained(&self) -> Vec<Loss> {
        let number = self.scenario.clients.len() - 1;
        let mut sessions = self.history.sessions.iter().rev();
        let session = sessions.find(|s| s.client == number).expect("the last client has one");
        // A will may come after what is retained, and be retained then.
        let mut got: BTreeMap<&str, usize> = BTreeMap::new();
        for delivery in &session.deliveries {
            let letter = &self.history.messages[delivery.message].letter;
            if letter.retain {
                let before = got.insert(letter.topic, delivery.message);
                let is_one = before.is_none() || !delivery.retain;
                assert!(is_one, "message {}: two are retained", delivery.message);
            }
        }
        let mut refusals: BTreeMap<usize, usize> = BTreeMap::new();
        for (owner, _) in &self.history.refusals {
            *refusals.entry(*owner).or_default() += 1;
        }
        let topics = TOPICS.iter().chain(&MANY_TOPICS);
        let missing = topics.filter_map(|topic| {
            let candidates = self.judge_topic(topic, got.get(topic).copied())?;
            let may_be = |number: &usize| self.may_be_refused(&self.history.messages[*number]);
            let left = refusals.get_mut(&self.history.owners[topic]).filter(|left| **left > 0);
            match left.filter(|_| candidates.iter().any(may_be)) {
                Some(left) => {
                    *left -= 1; // Each explains one topic.
                    None
                }
                None => Some(candidates),
            }
        });
        let lost = |candidates: Vec<usize>| Loss {
            text: format!("message {}, one of {candidates:?} that are retained", candidates[0]),
            causes: candidates
                .iter()
                .map(|number| &self.history.messages[*number])
                .flat_map(|message| self.causes(session, message, message.letter.qos, 2))
                .collect(),
            homes: vec![self.history.homes[session.client]],
            from: self.history.messages[candidates[0]].first(),
            held: END,
        };
        missing.map(lost).collect()
    }

    /// Of which messages one should have come, if none has.
    fn judge_topic(&self, topic: &str, got: Option<usize>) -> Option<Vec<usize>> {
        let candidates = self.may_be_retained(topic);
        if let Some(number) = got {
            let is_one = candidates.contains(&number);
            assert!(is_one, "message {number} is retained of {topic}, not of {candidates:?}");
            return None;
        }
        let messages = || candidates.iter().map(|number| &self.history.messages[*number]);
        let may_be_none = messages().any(|m| m.letter.size == 0 || self.may_have_expired(m))
            || !messages().any(|m| self.is_routed(m));
        (!may_be_none).then_some(candidates)
    }

    /// Whether the owner of its topic had too much retained, once it had come.
    pub(super) fn may_be_refused(&self, message: &Message) -> bool {
        let owner = self.history.owners[message.letter.topic];
        let mut refusals = self.history.refusals.iter();
        refusals.any(|(shard, at)| *shard == owner && *at >= message.first())
    }

    /// Messages of a topic that none is known to have followed.
    pub(super) fn may_be_retained(&self, topic: &str) -> Vec<usize> {
        let is_of = |m: &Message| m.letter.retain && m.letter.topic == topic && !m.forbidden;
        let of_topic: Vec<(usize, &Message)> =
            self.history.messages.iter().enumerate().filter(|(_, m)| is_of(m)).collect();
        let is_last = |one: &Message| {
            let follows = |(_, other): &(usize, &Message)| self.follows(other, one);
            self.may_be_routed(one) && !of_topic.iter().any(follows)
        };
        of_topic.iter().filter(|(_, one)| is_last(one)).map(|(number, _)| *number).collect()
    }

    /// Whether one message was certainly routed after all copies of the other.
    pub(super) fn follows(&self, later: &Message, earlier: &Message) -> bool {
        if !self.is_routed(later) {
            return false;
        }
        let in_order = later.client == earlier.client
            && earlier.sends.len() == 1
            && !later.is_will()
            && !earlier.is_will()
            && later.sends[0] > earlier.sends[0];
        in_order || later.first() > self.last_route(earlier)
    }

    /// The last moment at which a message may have been routed.
    fn last_route(&self, message: &Message) -> Moment {
        match (&message.will, message.accepted) {
            (Some((_, Fate::Due { until, .. })), _) => *until,
            (None, Some(accepted)) => accepted,
            _ => END,
        }
    }

    pub(super) fn may_be_routed(&self, message: &Message) -> bool {
        match &message.will {
            Some((_, fate)) => *fate != Fate::Void,
            None => message.handed.is_some(),
        }
    }

    /// Whether a message has certainly been routed.
    pub(super) fn is_routed(&self, message: &Message) -> bool {
        match &message.will {
            Some((_, fate)) => matches!(fate, Fate::Due { .. }),
            None => message.accepted.is_some() || self.is_processed(message),
        }
    }

    /// Whether the broker had a publish of QoS 0 in time to route it.
    fn is_processed(&self, message: &Message) -> bool {
        let connection = &self.history.connections[message.connection];
        let is_whole = connection.ended.is_none() || connection.is_void;
        message.letter.qos == 0 && message.handed.is_some() && is_whole
    }

    pub(super) fn may_have_expired(&self, message: &Message) -> bool {
        let length = |seconds: u32| u64::from(seconds) * 1000;
        let expiry = message.letter.expiry_s;
        expiry.is_some_and(|s| message.sends[0].ms + length(s) <= self.history.ms)
    }
}
