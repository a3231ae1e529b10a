//! At the home: who of this shard's sessions gets a publish, and on which terms.

use std::rc::Rc;

use crate::metrics::allocated;
use crate::mqtt::QoS;
use crate::routing::{Chosen, Place, ShardSet};
use crate::session::{Extras, Outgoing, Terms};
use crate::storage::Record;

use super::message::{Origin, Source};
use super::put_off::{Job, PutOff};
use super::search::Gathered;
use super::subscribe::Subscribed;
use super::wire::Wire;
use super::{Output, SessionRef, Shard, work};

/// One session that gets one copy of a publish, whatever number of its filters match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    slot: u32,
    /// The highest QoS of the filters that match [MQTT-3.3.4-2].
    qos: QoS,
    retain_as_published: bool,
    /// One of the filters does not want what the session itself publishes.
    is_particular: bool,
    /// This is what the session gets of what it publishes itself, and another target what it gets
    /// of the others.
    is_own: bool,
    extras: Option<Rc<Extras>>,
}

/// Shared with the route that they are remembered in.
pub(super) type Targets = Rc<[Target]>;

/// What may be examined to find the subscribers of a publish while others are searched for.
const MATCH_COUNT_BEHIND: usize = 64;

/// The sessions and homes that get what is published to one topic.
#[derive(Clone, Debug)]
pub(super) struct Audience {
    /// Other homes that have an ordinary subscription that matches; only the owner knows them.
    pub(super) homes: ShardSet,
    /// Sessions of this shard.
    pub(super) targets: Targets,
}

/// What became of a publish at a home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Given {
    /// No session here wants it.
    ToNobody,
    /// It is held for all that want it, so that no answer follows.
    Now,
    /// It is deferred, or storage has not answered: the receipt gets an answer when it is held.
    Later,
}

impl Shard {
    /// Gives a publish to `targets`, the sessions here that want it, now or slice by slice.
    pub(super) fn deliver(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        targets: Targets,
        source: &Source,
        out: &mut impl Output,
    ) -> Given {
        if targets.is_empty() {
            return self.deliver_later_or_to_nobody(outgoing, source, out);
        }
        let count = targets.len() * work::weight(outgoing.view().payload.len());
        if self.must_put_off(outgoing.view().topic.as_str(), source.origin, count) {
            let publish = PutOff::new(outgoing.keep(), source);
            self.put_off_publish(publish, targets, out);
            return Given::Later;
        }
        let publisher = self.publisher_here(source.origin);
        let is_fan_out = targets.len() > 1;
        self.work.charge(work::times(work::DELIVERY, count));
        self.layouts.clear();
        for target in targets.iter() {
            self.deliver_one(target, publisher, outgoing, is_fan_out, out);
        }
        self.given(source.receipt())
    }

    /// Gives a publish to one target; `publisher` is the slot of its publisher, if that is here.
    pub(super) fn deliver_one(
        &mut self,
        target: &Target,
        publisher: Option<u32>,
        outgoing: &mut Outgoing<'_>,
        is_fan_out: bool,
        out: &mut impl Output,
    ) {
        let is_own = publisher == Some(target.slot);
        if !target.is_particular || is_own == target.is_own {
            self.deliver_to(target, outgoing, is_fan_out, out);
        }
    }

    /// Handles a publish without targets: no session wants it, or they are still to be found.
    #[inline(never)]
    fn deliver_later_or_to_nobody(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        source: &Source,
        out: &mut impl Output,
    ) -> Given {
        if !std::mem::take(&mut self.has_to_search) {
            return Given::ToNobody;
        }
        let publish = PutOff::new(outgoing.keep(), source);
        self.search_count += 1;
        self.put_off(Job::Search { publish, newest: self.registry.newest() }, out);
        Given::Later
    }

    pub(super) fn publisher_here(&self, origin: Option<Origin>) -> Option<u32> {
        let at_home = origin.filter(|origin| origin.home == self.id);
        at_home.and_then(|origin| self.registry.resolve(origin.session))
    }

    /// Gives a publish to the session that a shared subscription has chosen, or back if that has
    /// ended, or has gone offline meanwhile: the owner has been told so before it can choose again.
    pub(super) fn deliver_shared(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        chosen: Chosen<SessionRef>,
        out: &mut impl Output,
    ) {
        self.work.charge(work::MEMBER);
        let Chosen { member: session, group, is_online, .. } = chosen;
        let subscribed = self.registry.resolve(session).and_then(|slot| {
            let terms = self.shares.get(&group, slot)?;
            let is_there = self.registry.get(slot).connection.is_some() || !is_online;
            is_there.then_some((slot, terms))
        });
        let Some((slot, subscribed)) = subscribed else {
            return self.send_back(outgoing.keep(), group, out);
        };
        let mut target = Target::new(slot, &subscribed);
        Rc::make_mut(target.extras.get_or_insert_default()).share = Some(group);
        self.deliver_to(&target, outgoing, false, out);
        self.handle_load(slot, out);
    }

    /// Where it is one of many, it gets a copy of what is encoded once for all of them.
    fn deliver_to(
        &mut self,
        target: &Target,
        outgoing: &mut Outgoing<'_>,
        is_fan_out: bool,
        out: &mut impl Output,
    ) {
        let resident = self.registry.get_mut(target.slot);
        let terms = Terms {
            qos: target.qos.min(outgoing.view().qos), // [MQTT-3.8.4-8]
            // Sent because of a subscription that was there before [MQTT-3.3.1-12],
            // [MQTT-3.3.1-13].
            retain: target.retain_as_published && outgoing.view().retain,
            extras: target.extras.clone(),
        };
        let mut wire = Wire {
            out,
            connection: resident.connection,
            outbox_bytes_max: self.limits.outbox_bytes_max,
            peer: &mut resident.peer,
            counters: &mut self.counters,
            allowance: &self.account.allowance,
            layouts: &mut self.layouts,
            given_back: &mut self.given_back,
            is_fan_out,
            now: self.now,
        };
        resident.session.handle_delivery(outgoing, &terms, &self.limits, &mut wire);
        if terms.qos > QoS::AtMostOnce && resident.session.is_persistent() {
            let (client_id, publish, qos) =
                (resident.session.client_id(), outgoing.view(), terms.qos);
            self.commits.persist(&Record::Held { client_id, publish, qos }, out);
        }
    }

    /// Returns the audience of a topic. It is computed at the first publish, and again when a
    /// filter that matches the topic has changed, here or at another home. If that is too much for
    /// one input, there are no targets, and `has_to_search` is set.
    pub(super) fn audience(&mut self, topic: &str) -> Audience {
        match self.routes.get(topic) {
            Some(audience) => audience,
            None => self.find_audience(topic),
        }
    }

    #[inline(never)]
    fn find_audience(&mut self, topic: &str) -> Audience {
        if let Some(audience) = self.remembered(topic) {
            return audience;
        }
        self.work.charge(work::FIND);
        let homes = self.homes_of(topic);
        // A client may publish again and again what has to be searched for.
        let max = if self.search_count == 0 { usize::MAX } else { MATCH_COUNT_BEHIND };
        let is_behind = self.search_count > 0 && self.put_off.holds_back(topic, None);
        let targets = if is_behind { None } else { self.find_targets(topic, max) };
        let Some(targets) = targets else {
            self.has_to_search = true;
            return Audience { homes, targets: Targets::default() };
        };
        let audience = Audience { homes, targets };
        let bytes = audience.targets.iter().map(Target::memory_bytes).sum();
        self.routes.insert(topic, audience.clone(), bytes);
        audience
    }

    /// What was worked out before, if no change since then concerns it.
    pub(super) fn remembered(&mut self, topic: &str) -> Option<Audience> {
        let (audience, compared) = self.routes.get_anew(topic);
        self.work.charge(work::times(work::MATCH, compared));
        audience
    }

    /// The sessions here that want what is published to a topic; `None` if there is too much to be
    /// looked at for one input.
    fn find_targets(&mut self, topic: &str, max: usize) -> Option<Targets> {
        let (mut found, max) = (Found::default(), max.min(self.slices.match_count));
        let registry = &self.registry;
        let are_all_there = !registry.has_retired();
        let effort = self.subscriptions.find_up_to(max, topic, &mut |slot, subscribed| {
            if are_all_there || !registry.is_retired(slot) {
                found.add(slot, subscribed);
            }
        });
        let spent = effort.map_or(max, |effort| effort.total()) + found.count;
        self.work.charge(work::times(work::MATCH, spent));
        effort?;
        let targets = found.into_targets();
        if targets.iter().any(|target| target.is_particular) {
            return Some(self.find_particular_targets(topic));
        }
        Some(targets.into())
    }

    /// The same where sessions do not want everything that they publish themselves: few filters
    /// match, which was found out before.
    fn find_particular_targets(&mut self, topic: &str) -> Targets {
        let (mut gathered, registry) = (Gathered::default(), &self.registry);
        let effort = self.subscriptions.for_each_match(topic, &mut |slot, subscribed| {
            if !registry.is_retired(slot) {
                gathered.add(slot, subscribed, Place::Short);
            }
        });
        self.work.charge(work::times(work::MATCH, effort.total()));
        gathered.into_targets()
    }

    /// The other homes that want what is published to a topic, if this shard owns it. All of them
    /// if there is too much to be looked at for one input: they look for themselves.
    pub(super) fn homes_of(&mut self, topic: &str) -> ShardSet {
        if self.partition.owner(topic) != self.id {
            return ShardSet::EMPTY;
        }
        let max = self.slices.match_count;
        let found = self.interest.find_up_to(max, topic);
        let spent = found.map_or(max, |(_, effort)| effort.total());
        self.work.charge(work::times(work::MATCH, spent));
        let others = || self.partition.shards().filter(|home| *home != self.id).collect();
        found.map_or_else(others, |(homes, _)| homes)
    }
}

impl Target {
    /// Where the session is.
    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    /// Bytes of memory that it takes where it is remembered.
    fn memory_bytes(&self) -> usize {
        let extras_bytes = |extras: &Rc<Extras>| {
            let ids_bytes = extras.subscription_ids.capacity() * size_of::<u32>();
            allocated(size_of::<Extras>() + 2 * size_of::<usize>()) + allocated(ids_bytes)
        };
        size_of::<Self>() + self.extras.as_ref().map_or(0, extras_bytes)
    }

    pub(super) fn new(slot: u32, subscribed: &Subscribed) -> Self {
        let mut target = Self {
            slot,
            qos: subscribed.qos,
            retain_as_published: subscribed.retain_as_published,
            is_particular: subscribed.no_local,
            is_own: false,
            extras: None,
        };
        target.identify(subscribed);
        target
    }

    /// The same for what the session publishes itself.
    pub(super) fn of_own(self) -> Self {
        Self { is_particular: true, is_own: true, ..self }
    }

    /// The session has another subscription that matches.
    pub(super) fn join(&mut self, subscribed: &Subscribed) {
        let Subscribed { qos, retain_as_published, no_local, .. } = *subscribed;
        self.widen(qos, retain_as_published, no_local);
        self.identify(subscribed);
    }

    fn widen(&mut self, qos: QoS, retain_as_published: bool, is_particular: bool) {
        self.qos = self.qos.max(qos);
        self.retain_as_published |= retain_as_published;
        self.is_particular |= is_particular;
    }

    /// What was found of the same session elsewhere.
    fn absorb(&mut self, other: &mut Self) {
        self.widen(other.qos, other.retain_as_published, other.is_particular);
        if let Some(more) = other.extras.take() {
            let extras = Rc::make_mut(self.extras.get_or_insert_default());
            extras.subscription_ids.extend_from_slice(&more.subscription_ids);
        }
    }

    /// One copy carries the identifiers of all subscriptions that match [MQTT-3.3.4-3].
    fn identify(&mut self, subscribed: &Subscribed) {
        if let Some(id) = subscribed.id {
            let extras = Rc::make_mut(self.extras.get_or_insert_default());
            extras.subscription_ids.push(id.get());
        }
    }
}

/// Targets while they are looked for.
#[derive(Debug, Default)]
struct Found {
    targets: Vec<Target>,
    /// Subscriptions that were found.
    count: usize,
}

impl Found {
    /// Several subscriptions of one session that are found one after the other are one target at
    /// once: where one client has very many that overlap, the others do not pay for sorting them.
    fn add(&mut self, slot: u32, subscribed: &Subscribed) {
        self.count += 1;
        match self.targets.last_mut().filter(|target| target.slot == slot) {
            Some(target) => target.join(subscribed),
            None => self.targets.push(Target::new(slot, subscribed)),
        }
    }

    /// One target for each session.
    fn into_targets(mut self) -> Vec<Target> {
        if !self.targets.is_sorted_by(|one, next| one.slot < next.slot) {
            self.targets.sort_unstable_by_key(|target| target.slot);
            self.targets.dedup_by(|next, one| {
                let is_same = one.slot == next.slot;
                if is_same {
                    one.absorb(next);
                }
                is_same
            });
        }
        self.targets
    }
}
