//! A publish on its way: publisher's home to owner, owner to every interested home, and the
//! acknowledgement back.

use std::collections::VecDeque;

use crate::mqtt::{Publish, QoS, ReasonCode};
use crate::routing::{Choice, Chosen, ShardId, ShardSet};
use crate::session::{Incoming, Outgoing, Publication, Sequence};
use crate::storage::Record;

use super::commit::Then;
use super::deliver::{Audience, Given};
use super::message::{Origin, Source};
use super::pause::Pause;
use super::put_off::{Job, PutOff};
use super::share::fits;
use super::{Message, Output, Receipt, SessionRef, Shard, work};

impl Shard {
    /// A publish from a client of this shard, unless its topic is the server's own.
    pub(super) fn handle_publish(
        &mut self,
        slot: u32,
        publish: &Publish<'_>,
        incoming: &Incoming,
        owner: ShardId,
        sequence: Option<Sequence>,
        out: &mut impl Output,
    ) {
        let resident = self.registry.get(slot);
        let session = SessionRef { slot, generation: resident.generation };
        let origin = Origin { home: self.id, session };
        let is_told = resident.peer.version.is_v5();
        let outgoing = match incoming {
            Incoming::Whole => Outgoing::borrowed(*publish).metered(self.account.meter),
            Incoming::Kept(publication) => Outgoing::kept(publication),
        };
        if outgoing.view().topic.is_of_server() {
            let receipt = sequence.map(|sequence| Receipt { origin, sequence, is_told });
            return self.refuse_sys(receipt, out);
        }
        let weight = self.note_course(origin, owner);
        let source = Source { origin: Some(origin), sequence, is_told, weight };
        self.publish(outgoing, owner, &source, out);
    }

    /// Gives a publish to the owner of its topic.
    pub(super) fn publish(
        &mut self,
        mut outgoing: Outgoing<'_>,
        owner: ShardId,
        source: &Source,
        out: &mut impl Output,
    ) {
        self.count_publish(outgoing.view());
        if owner == self.id {
            return self.route(&mut outgoing, source, out);
        }
        let publication = outgoing.into_kept();
        self.links.spend(owner, publication.len());
        self.send(owner, Message::Publish { publication, source: *source }, out);
    }

    /// A client says something under `$SYS`, where subscribers expect the words of the broker
    /// (clause 4.7.2 of 5.0). Before 5.0 it cannot be told so: it gets the acknowledgement that it
    /// waits for, and the counter says that the message went nowhere.
    pub(super) fn refuse_sys(&mut self, receipt: Option<Receipt>, out: &mut impl Output) {
        self.counters.publishes_refused_sys += 1;
        let Some(receipt) = receipt else { return };
        let is_told = receipt.is_told;
        let reason = if is_told { ReasonCode::NotAuthorized } else { ReasonCode::Success };
        self.count(receipt, 0, reason, out);
    }

    pub(super) fn handle_remote_publish(
        &mut self,
        from: ShardId,
        publication: &Publication,
        source: &Source,
        out: &mut impl Output,
    ) {
        self.route(&mut Outgoing::kept(publication), source, out);
        self.links.handle_published(from, publication.len(), out);
    }

    /// At the owner: the one place that orders the publishes of a topic.
    fn route(&mut self, outgoing: &mut Outgoing<'_>, source: &Source, out: &mut impl Output) {
        let receipt = source.receipt();
        if outgoing.view().retain
            && !self.retain(outgoing, out)
            && let Some(receipt) = receipt.filter(|receipt| receipt.is_told)
        {
            self.give_weight_back(source, out);
            return self.count(receipt, 0, ReasonCode::QuotaExceeded, out);
        }
        let topic = outgoing.view().topic.as_str();
        let audience = self.audience(topic);
        let choices = self.choose_members(outgoing);
        let fenced = if source.weight > 0 { self.far_homes(&choices) } else { ShardSet::EMPTY };
        let split = (source.weight > 0)
            .then(|| self.split_weight(source, audience.homes.len(), fenced.len(), out));
        let source = split.as_ref().unwrap_or(source);
        let mut routed = Routed::default();
        self.route_to_homes(outgoing, audience, source, &mut routed, out);
        if !choices.is_empty() {
            let unweighted = Source { weight: 0, ..*source };
            self.route_to_members(outgoing, choices, &unweighted, &mut routed, out);
            self.fence(fenced, source, out);
        }
        let Some(receipt) = receipt else { return };
        if outgoing.view().retain && self.commits.is_behind() {
            self.commits.wait(Then::Counted(receipt, routed)); // Retained: promised, too.
        } else {
            self.count(receipt, routed.awaited, routed.reason(), out);
        }
    }

    /// To the homes that have an ordinary subscription that matches.
    fn route_to_homes(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        audience: Audience,
        source: &Source,
        routed: &mut Routed,
        out: &mut impl Output,
    ) {
        for home in audience.homes.iter() {
            let publication = outgoing.keep();
            self.send(home, Message::Deliver { publication, source: *source }, out);
            routed.add(Given::Later);
        }
        routed.add(self.deliver(outgoing, audience.targets, source, out));
    }

    /// To the members that shared subscriptions have chosen.
    fn route_to_members(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        choices: Vec<Choice<SessionRef>>,
        source: &Source,
        routed: &mut Routed,
        out: &mut impl Output,
    ) {
        let mut later = VecDeque::new();
        for choice in choices {
            let Choice::Member(chosen) = choice else {
                routed.add(self.drop_for_group());
                continue;
            };
            if chosen.home != self.id {
                routed.add(self.deliver_to_chosen(outgoing, source, chosen, out));
            } else if !later.is_empty() || self.must_wait(outgoing, source) {
                later.push_back(chosen);
            } else {
                self.deliver_shared(outgoing, chosen, out);
                routed.add(self.given(source.receipt()));
            }
        }
        if !later.is_empty() {
            routed.add(self.deliver_later(outgoing, source, later, out));
        }
    }

    fn deliver_to_chosen(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        source: &Source,
        chosen: Chosen<SessionRef>,
        out: &mut impl Output,
    ) -> Given {
        if chosen.home == self.id {
            return self.deliver_to_member(outgoing, source, chosen, out);
        }
        let publication = outgoing.keep();
        let Chosen { home, member: session, group, is_online } = chosen;
        let source = *source;
        let message = Message::DeliverShared { publication, source, session, group, is_online };
        self.send(home, message, out);
        Given::Later
    }

    /// At the home of the member that was chosen.
    fn deliver_to_member(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        source: &Source,
        chosen: Chosen<SessionRef>,
        out: &mut impl Output,
    ) -> Given {
        if self.must_wait(outgoing, source) {
            return self.deliver_later(outgoing, source, VecDeque::from([chosen]), out);
        }
        self.deliver_shared(outgoing, chosen, out);
        self.given(source.receipt())
    }

    /// Whether a member gets a publish later: a topic may have very many groups.
    fn must_wait(&mut self, outgoing: &Outgoing<'_>, source: &Source) -> bool {
        self.is_used_up() || self.must_put_off(outgoing.view().topic.as_str(), source.origin, 1)
    }

    fn deliver_later(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        source: &Source,
        members: VecDeque<Chosen<SessionRef>>,
        out: &mut impl Output,
    ) -> Given {
        let publish = PutOff::new(outgoing.keep(), source);
        self.put_off(Job::Shared(publish, members), out);
        Given::Later
    }

    /// At an interested home: the publish for the sessions of this shard.
    pub(super) fn handle_deliver(
        &mut self,
        publication: &Publication,
        source: &Source,
        out: &mut impl Output,
    ) {
        let outgoing = &mut Outgoing::kept(publication);
        let targets = self.audience(outgoing.view().topic.as_str()).targets;
        let given = self.deliver(outgoing, targets, source, out);
        self.accept_unless_later(given, source.receipt(), out);
        self.give_weight_back(source, out);
    }

    /// At the home of a chosen member.
    pub(super) fn handle_deliver_shared(
        &mut self,
        publication: &Publication,
        source: &Source,
        chosen: Chosen<SessionRef>,
        out: &mut impl Output,
    ) {
        let outgoing = &mut Outgoing::kept(publication);
        let given = self.deliver_to_member(outgoing, source, chosen, out);
        self.accept_unless_later(given, source.receipt(), out);
        self.give_weight_back(source, out);
    }

    /// At the owner: a member has not got this, and another may.
    pub(super) fn handle_reassign(
        &mut self,
        publication: &Publication,
        group: &str,
        out: &mut impl Output,
    ) {
        let mut outgoing = Outgoing::kept(publication);
        let fits = |terms: &_, standing: &_| fits(&outgoing, terms, standing);
        let (choice, count) = self.groups.choose_again(group, fits);
        self.work.charge(work::members(count));
        match choice {
            Some(Choice::Member(chosen)) => {
                self.deliver_to_chosen(&mut outgoing, &Source::default(), chosen, out);
            }
            Some(Choice::TooLarge) => _ = self.drop_for_group(),
            None => {}
        }
    }

    pub(super) fn handle_counted(
        &mut self,
        receipt: Receipt,
        homes: u32,
        reason: ReasonCode,
        out: &mut impl Output,
    ) {
        let Some(slot) = self.registry.resolve(receipt.origin.session) else { return };
        let was_full = self.has_many_pending(slot);
        self.with_wire(slot, out, |session, wire| {
            session.handle_counted(receipt.sequence, homes, reason, wire);
        });
        if was_full {
            self.go_on_reading(slot);
        }
    }

    pub(super) fn handle_accepted(&mut self, receipt: Receipt, out: &mut impl Output) {
        let Some(slot) = self.registry.resolve(receipt.origin.session) else { return };
        let was_full = self.has_many_pending(slot);
        self.with_wire(slot, out, |session, wire| {
            session.handle_accepted(receipt.sequence, wire);
        });
        if was_full {
            self.go_on_reading(slot);
        }
    }

    /// Tells the publisher's home that this one holds the publish.
    pub(super) fn accept(&mut self, receipt: Receipt, out: &mut impl Output) {
        if receipt.origin.home == self.id {
            self.handle_accepted(receipt, out);
        } else {
            self.send(receipt.origin.home, Message::Accepted { receipt }, out);
        }
    }

    /// Tells the publisher's home how many homes are still to accept a publish.
    pub(super) fn count(
        &mut self,
        receipt: Receipt,
        homes: u32,
        reason: ReasonCode,
        out: &mut impl Output,
    ) {
        if receipt.origin.home == self.id {
            self.handle_counted(receipt, homes, reason, out);
        } else {
            self.send(receipt.origin.home, Message::Counted { receipt, homes, reason }, out);
        }
    }

    pub(super) fn send(&mut self, to: ShardId, message: Message, out: &mut impl Output) {
        self.counters.mesh_messages += 1;
        self.work.charge(work::MESSAGE);
        self.links.send(to, message, out);
    }

    /// Sends to every shard but this one.
    pub(super) fn send_to_peers(&mut self, message: impl Fn() -> Message, out: &mut impl Output) {
        for peer in self.partition.shards() {
            if peer != self.id {
                self.send(peer, message(), out);
            }
        }
    }

    /// Accepts a publish that all its targets were given, once storage has it, too.
    pub(super) fn accept_when_safe(&mut self, receipt: Option<Receipt>, out: &mut impl Output) {
        let given = self.given(receipt);
        self.accept_unless_later(given, receipt, out);
    }

    fn accept_unless_later(
        &mut self,
        given: Given,
        receipt: Option<Receipt>,
        out: &mut impl Output,
    ) {
        if given != Given::Later
            && let Some(receipt) = receipt
        {
            self.accept(receipt, out);
        }
    }

    /// Every session here that wants a publish has been given it: whether it is held now, or
    /// whoever waits is told when storage has answered.
    pub(super) fn given(&mut self, receipt: Option<Receipt>) -> Given {
        if !self.commits.is_behind() {
            return Given::Now;
        }
        if let Some(receipt) = receipt {
            self.commits.wait(Then::Accepted(receipt));
        }
        Given::Later
    }

    /// False if too many messages are retained.
    fn retain(&mut self, outgoing: &mut Outgoing<'_>, out: &mut impl Output) -> bool {
        let topic = outgoing.view().topic.as_str();
        if outgoing.view().payload.is_empty() {
            self.archive.remove(topic); // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
        } else {
            let before = self.archive.get(topic).map(Publication::len);
            let publish = outgoing.view();
            let bytes = topic.len() + publish.properties.raw().len() + publish.payload.len();
            if !self.may_retain(bytes, before) {
                self.counters.retained_refused += 1;
                return false;
            }
            let publication = outgoing.keep();
            self.archive.insert(topic, publication, self.now); // [MQTT-3.3.1-5]
        }
        self.commits.persist(&Record::Retained { publish: outgoing.view() }, out);
        true
    }

    /// Returns whether a publisher has too many publishes under way to be read.
    pub(super) fn has_many_pending(&self, slot: u32) -> bool {
        let pending_count = self.registry.get(slot).session.pending_count();
        pending_count >= self.limits.receive_count_max.into()
    }

    /// Reads a publisher again that had too many publishes under way.
    fn go_on_reading(&mut self, slot: u32) {
        if !self.has_many_pending(slot)
            && let Some(connection) = self.registry.get(slot).connection
        {
            self.unpause(connection, Pause::Receipts);
        }
    }

    fn count_publish(&mut self, publish: &Publish<'_>) {
        *match publish.qos {
            QoS::AtMostOnce => &mut self.counters.publishes_received_qos0,
            QoS::AtLeastOnce => &mut self.counters.publishes_received_qos1,
            QoS::ExactlyOnce => &mut self.counters.publishes_received_qos2,
        } += 1;
    }
}

/// Where a publish went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Routed {
    /// Homes that hold it already or will say so; one counts again for each shared subscription.
    matched: u32,
    /// Homes that will say so.
    pub(super) awaited: u32,
}

impl Routed {
    fn add(&mut self, given: Given) {
        self.matched += u32::from(given != Given::ToNobody);
        self.awaited += u32::from(given == Given::Later);
    }

    /// What the publish is acknowledged with.
    pub(super) fn reason(self) -> ReasonCode {
        match self.matched {
            0 => ReasonCode::NoMatchingSubscribers,
            _ => ReasonCode::Success,
        }
    }
}
