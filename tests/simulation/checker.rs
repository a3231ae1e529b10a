//! Whether every promise was kept, judged from what clients and the wire saw alone.

mod owed;
mod retained;
mod wills;

use std::collections::{BTreeMap, BTreeSet};

use ringmq::config::Order;
use ringmq::metrics::Ledger;

use crate::history::{Delivery, Fate, History, Message, Moment, Session, Subscription};
use crate::history::{matches, shared};
use crate::scenario::{Scenario, Wish};

/// What the last client subscribes to.
pub(crate) const AUDIT: [Wish; 2] = [audit("#"), audit("$d/#")];

const fn audit(filter: &'static str) -> Wish {
    Wish { filter, qos: 2, no_local: false, retain_as_published: false, retain_handling: 0 }
}

/// Later than everything.
const END: Moment = Moment { seq: u64::MAX, ms: u64::MAX };

/// Panics with the first broken promise; how many deliveries came behind one of another topic and
/// the same publisher.
pub(crate) fn judge(history: &History, scenario: &Scenario, ledger: &Ledger) -> usize {
    let mut history = history.clone();
    wills::decide(&mut history);
    let case = Case { history: &history, scenario, ledger };
    let mut pair_count = 0;
    for session in &history.sessions {
        for delivery in &session.deliveries {
            case.judge_delivery(session, delivery);
        }
        case.judge_copies(session);
        pair_count += case.judge_order(session);
    }
    case.judge_groups();
    case.judge_losses();
    pair_count
}

/// By which way a delivery came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Channel {
    /// All filters that are not shared: one copy.
    Ordinary,
    /// One shared filter.
    Group(&'static str),
}

struct Case<'a> {
    history: &'a History,
    scenario: &'a Scenario,
    ledger: &'a Ledger,
}

impl Case<'_> {
    fn name(&self, session: &Session) -> &str {
        &self.scenario.clients[session.client].name
    }

    fn tell(&self, session: &Session, delivery: &Delivery, what: &str) -> String {
        let (name, number) = (self.name(session), delivery.message);
        format!("{name}: message {number}: {what}: {delivery:?}")
    }

    fn channel(&self, session: &Session, delivery: &Delivery) -> Channel {
        let profile = &self.scenario.clients[session.client];
        let topic = self.history.messages[delivery.message].letter.topic;
        let mut groups = session.subscriptions.iter().filter(|s| shared(s.wish.filter).is_some());
        let group = match profile.identifies {
            true => groups.find(|s| s.id.is_some_and(|id| delivery.ids.contains(&id))),
            false => groups.find(|s| is_asked(s, topic)),
        };
        group.map_or(Channel::Ordinary, |group| Channel::Group(group.wish.filter))
    }

    /// The filters that can have brought a delivery.
    fn candidates<'s>(
        &self,
        session: &'s Session,
        delivery: &Delivery,
        channel: Channel,
    ) -> Vec<&'s Subscription> {
        let message = &self.history.messages[delivery.message];
        let may_be_it = |s: &&Subscription| {
            is_of(s, channel)
                && is_asked(s, message.letter.topic)
                && s.may_be_in(message.first(), delivery.at)
        };
        session.subscriptions.iter().filter(may_be_it).collect()
    }

    fn judge_delivery(&self, session: &Session, delivery: &Delivery) {
        let message = &self.history.messages[delivery.message];
        let tell = |what: &str| self.tell(session, delivery, what);
        let is_void = matches!(message.will, Some((_, Fate::Void)));
        assert!(!is_void, "{}", tell("a will that was void"));
        let channel = self.channel(session, delivery);
        let candidates = self.candidates(session, delivery, channel);
        assert!(!candidates.is_empty(), "{}", tell("it was not asked for"));
        // What one SUBSCRIBE is owed comes on the terms of a later one for the same filter.
        let is_asked = |s: &&Subscription| {
            s.asked <= delivery.at && candidates.iter().any(|c| c.wish.filter == s.wish.filter)
        };
        let mut asked = session.subscriptions.iter().filter(is_asked);
        let is_replay = delivery.retain && asked.any(may_replay);
        let qos = allowed_qos(message, &candidates, is_replay, channel, delivery.at);
        assert!(qos.contains(&delivery.qos), "{}", tell(&format!("QoS not of {qos:?}")));
        self.judge_retain_flag(session, delivery, &candidates, is_replay);
        let is_own = session.client == message.client;
        let is_local = is_own && candidates.iter().all(|s| s.wish.no_local);
        assert!(!is_local || is_replay, "{}", tell("it is the client's own"));
        self.judge_identifiers(session, delivery, channel, &candidates, is_replay);
        self.judge_expiry(session, delivery);
        assert!(!delivery.dup || self.may_be_repeated(session, delivery), "{}", tell("DUP"));
    }

    fn judge_retain_flag(
        &self,
        session: &Session,
        delivery: &Delivery,
        candidates: &[&Subscription],
        is_replay: bool,
    ) {
        let message = &self.history.messages[delivery.message];
        let asked = |s: &&&Subscription| s.wish.retain_as_published;
        if delivery.retain {
            let may_be =
                message.letter.retain && (is_replay || candidates.iter().any(|s| asked(&s)));
            assert!(may_be, "{}", self.tell(session, delivery, "RETAIN"));
        } else {
            // One of the filters that have brought it is enough.
            let is_own = session.client == message.client;
            let is_sure = |s: &&&Subscription| {
                asked(s)
                    && s.is_all_of(message.first(), delivery.at)
                    && !(is_own && s.wish.no_local)
            };
            let has_one = candidates.iter().any(|s| is_sure(&s));
            let must_be =
                message.letter.retain && (has_one || candidates.iter().all(|s| asked(&s)));
            assert!(!must_be, "{}", self.tell(session, delivery, "no RETAIN"));
        }
    }

    /// A delivery carries the identifiers of all subscriptions that brought it.
    fn judge_identifiers(
        &self,
        session: &Session,
        delivery: &Delivery,
        channel: Channel,
        candidates: &[&Subscription],
        is_replay: bool,
    ) {
        let message = &self.history.messages[delivery.message];
        let known = |id: &u32| candidates.iter().any(|s| s.id == Some(*id));
        let tell = |what: &str| self.tell(session, delivery, what);
        assert!(delivery.ids.iter().all(known), "{}", tell("a subscription identifier"));
        if is_replay {
            return;
        }
        let is_own = session.client == message.client;
        for sure in candidates.iter().filter(|s| s.is_all_of(message.first(), delivery.at)) {
            let brings = !(is_own && sure.wish.no_local);
            let is_there = sure.id.is_none_or(|id| delivery.ids.contains(&id));
            assert!(is_there || !brings, "{}", tell("a subscription identifier is missing"));
        }
        let has_one = delivery.ids.len() == 1;
        let is_group = matches!(channel, Channel::Group(_)) && !delivery.ids.is_empty();
        assert!(has_one || !is_group, "{}", tell("identifiers of a shared subscription"));
    }

    fn judge_expiry(&self, session: &Session, delivery: &Delivery) {
        let message = &self.history.messages[delivery.message];
        let tell = |what: &str| self.tell(session, delivery, what);
        let is_v5 = self.scenario.clients[session.client].version.is_v5();
        let told = delivery.expiry_s;
        let Some(given_s) = message.letter.expiry_s else {
            return assert!(told.is_none(), "{}", tell("an expiry interval"));
        };
        assert_eq!(told.is_some(), is_v5, "{}", tell("the expiry interval"));
        let length = u64::from(given_s) * 1000;
        if let Some(told_s) = told {
            let least = (message.sends[0].ms + length).saturating_sub(delivery.at.ms);
            let least_s = least.div_ceil(1000);
            let fits = (least_s..=given_s.into()).contains(&u64::from(told_s));
            assert!(fits, "{}", tell(&format!("expires in {least_s} s or later")));
        }
        let Some(accepted) = message.accepted else { return };
        let connected = self.history.connections[delivery.connection].opened;
        let left = (accepted.ms + length).saturating_sub(connected.ms);
        assert!(delivery.dup || left > 0, "{}", tell("it has expired"));
        let most_s = left.div_ceil(1000);
        let fits = told.is_none_or(|told_s| u64::from(told_s) <= most_s);
        assert!(fits, "{}", tell(&format!("expires in {most_s} s at most")));
    }

    /// Only what an earlier connection may have carried comes with DUP.
    fn may_be_repeated(&self, session: &Session, delivery: &Delivery) -> bool {
        let message = &self.history.messages[delivery.message];
        self.history.connections[..delivery.connection].iter().any(|connection| {
            connection.client == session.client
                // A will and the end of another connection may have one cause.
                && connection.ended.is_some_and(|ended| ended.ms >= message.first().ms)
        })
    }

    /// No more copies than ways to come by.
    fn judge_copies(&self, session: &Session) {
        let mut copies: BTreeMap<usize, [Vec<&Delivery>; 2]> = BTreeMap::new();
        let fresh = session.deliveries.iter().filter(|delivery| delivery.is_fresh);
        for delivery in fresh.filter(|d| self.channel(session, d) == Channel::Ordinary) {
            copies.entry(delivery.message).or_default()[usize::from(delivery.retain)]
                .push(delivery);
        }
        for (number, [live, retained]) in copies {
            let message = &self.history.messages[number];
            let routed = message.route_count();
            let is_it = |s: &&Subscription| is_asked_alone(s, message.letter.topic);
            let asked = || session.subscriptions.iter().filter(is_it);
            let replays = asked().filter(|s| may_replay(s)).count();
            let as_published = asked().any(|s| s.wish.retain_as_published);
            let most = replays + if as_published { routed } else { 0 };
            let total = live.len() + retained.len();
            let is_fine =
                live.len() <= routed && retained.len() <= most && total <= routed + replays;
            assert!(
                is_fine,
                "{}: message {number} came {total} times, routed {routed} times",
                self.name(session)
            );
        }
    }

    /// The first copies of what one client publishes to one topic come in its order, and unless
    /// that is given up, also those of what it publishes in one session; how many of these came
    /// behind one of another topic.
    fn judge_order(&self, session: &Session) -> usize {
        let mut pair_count = 0;
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        let mut by_topic: BTreeMap<(usize, &str, u8), usize> = BTreeMap::new();
        let mut by_session: BTreeMap<(usize, usize, u8), usize> = BTreeMap::new();
        for delivery in &session.deliveries {
            let number = delivery.message;
            let message = &self.history.messages[number];
            let is_first = seen.insert(number);
            let is_other = self.channel(session, delivery) != Channel::Ordinary;
            if !is_first || delivery.retain || message.is_will() || is_other {
                continue;
            }
            let (client, qos) = (message.client, delivery.qos);
            let before = by_topic.entry((client, message.letter.topic, qos)).or_insert(number);
            self.judge_place(session, delivery, before);
            let of = self.history.connections[message.connection].session;
            if let (Some(of), Order::Client) = (of, self.scenario.limits.order) {
                let before = by_session.entry((client, of, qos)).or_insert(number);
                let topic = self.history.messages[*before].letter.topic;
                pair_count += usize::from(topic != message.letter.topic);
                self.judge_place(session, delivery, before);
            }
        }
        pair_count
    }

    /// `before` is the last message that came before and is to keep order with this one.
    fn judge_place(&self, session: &Session, delivery: &Delivery, before: &mut usize) {
        let (number, earlier) = (delivery.message, *before);
        let message = &self.history.messages[number];
        let is_late = earlier > number && !self.may_be_late(session, delivery, message);
        assert!(!is_late, "{}", self.tell(session, delivery, &format!("after {earlier}")));
        *before = earlier.max(number);
    }

    /// Whether an earlier copy may have been lost with good reason, and this one was sent later.
    fn may_be_late(&self, session: &Session, delivery: &Delivery, message: &Message) -> bool {
        let candidates = self.candidates(session, delivery, Channel::Ordinary);
        let is_steady = || candidates.iter().all(|s| s.is_all_of(message.first(), delivery.at));
        let is_sure = delivery.qos > 0 && self.ledger.dropped_total() == 0;
        message.sends.len() > 1 && !(is_sure && is_steady())
    }

    /// Of a shared subscription one member gets a message.
    fn judge_groups(&self) {
        let mut copies: BTreeMap<(&'static str, usize), Vec<(&Session, &Delivery)>> =
            BTreeMap::new();
        for session in &self.history.sessions {
            for delivery in session.deliveries.iter().filter(|delivery| delivery.is_fresh) {
                if let Channel::Group(group) = self.channel(session, delivery) {
                    let key = (group, delivery.message);
                    copies.entry(key).or_default().push((session, delivery));
                }
            }
        }
        for ((group, number), copies) in copies {
            let is_exact = copies.iter().all(|(_, delivery)| delivery.qos == 2);
            let message = &self.history.messages[number];
            let most = match is_exact {
                true => 1,
                false => message.route_count() + self.ended_members(group) + self.returns_of(group),
            };
            let who: Vec<_> = copies.iter().map(|(session, _)| self.name(session)).collect();
            let count = copies.len();
            assert!(count <= most, "message {number} came to {who:?} of {group}, not to {most}");
        }
    }

    /// How often members have come back, perhaps with a lower limit than what was in flight needs.
    fn returns_of(&self, group: &str) -> usize {
        let is_limited = |client: usize| self.scenario.clients[client].packet_max.is_some();
        let sessions = self
            .history
            .sessions
            .iter()
            .filter(|session| session.subscriptions.iter().any(|s| s.wish.filter == group));
        let members: BTreeSet<usize> =
            sessions.map(|session| session.client).filter(|client| is_limited(*client)).collect();
        self.history.connections.iter().filter(|c| members.contains(&c.client)).count()
    }

    /// Members whose sessions have ended, perhaps with something in flight.
    fn ended_members(&self, group: &str) -> usize {
        let is_member = |session: &&Session| {
            session.ended.is_some() && session.subscriptions.iter().any(|s| s.wish.filter == group)
        };
        self.history.sessions.iter().filter(is_member).count()
    }
}

/// Whether a filter, shared or not, matches.
fn is_asked(subscription: &Subscription, topic: &str) -> bool {
    let filter = subscription.wish.filter;
    matches(shared(filter).map_or(filter, |(_, filter)| filter), topic)
}

fn is_asked_alone(subscription: &Subscription, topic: &str) -> bool {
    is_of(subscription, Channel::Ordinary) && is_asked(subscription, topic)
}

fn is_of(subscription: &Subscription, channel: Channel) -> bool {
    match channel {
        Channel::Ordinary => shared(subscription.wish.filter).is_none(),
        Channel::Group(group) => subscription.wish.filter == group,
    }
}

/// Whether retained messages may be sent because of it.
fn may_replay(subscription: &Subscription) -> bool {
    match subscription.wish.retain_handling {
        _ if shared(subscription.wish.filter).is_some() => false,
        0 => true,
        1 => !subscription.is_old,
        _ => false,
    }
}

/// The QoS at which a delivery may come: the highest of the filters that were in place, and which
/// those were is not always known.
fn allowed_qos(
    message: &Message,
    candidates: &[&Subscription],
    is_replay: bool,
    channel: Channel,
    at: Moment,
) -> BTreeSet<u8> {
    let published = message.letter.qos;
    let granted = |s: &&Subscription| s.wish.qos.min(published);
    let mut allowed: BTreeSet<u8> = BTreeSet::new();
    if is_replay || channel != Channel::Ordinary {
        allowed.extend(candidates.iter().map(granted));
    }
    if channel == Channel::Ordinary {
        let mut highest: BTreeSet<Option<u8>> = BTreeSet::from([None]);
        let filters: BTreeSet<&str> = candidates.iter().map(|s| s.wish.filter).collect();
        for filter in filters {
            let of_filter = || candidates.iter().filter(|s| s.wish.filter == filter);
            let sure = of_filter().find(|s| s.is_all_of(message.first(), at));
            let options: Vec<Option<u8>> = match sure {
                Some(sure) if !sure.wish.no_local => vec![Some(granted(sure))],
                _ => of_filter().map(|s| Some(granted(s))).chain([None]).collect(),
            };
            let with = |before: &Option<u8>| options.iter().map(|q| (*q).max(*before)).collect();
            highest =
                highest.iter().flat_map(|before| -> Vec<Option<u8>> { with(before) }).collect();
        }
        allowed.extend(highest.into_iter().flatten());
    }
    allowed
}
