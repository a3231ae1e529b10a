//! SUBSCRIBE and UNSUBSCRIBE: filters go into this home's table, and every owner of a matching
//! topic learns that this home is interested before SUBACK says that it is done.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::mqtt::{
    Packet, PacketId, Properties, QoS, ReasonCode, RetainHandling, Suback, Subscribe, Subscription,
    SubscriptionOptions, Unsuback, Unsubscribe,
};
use crate::routing::{FilterKey, ShardId, Subscriptions, shared_filter};
use crate::storage::Record;

use super::commit::Then;
use super::long::Long;
use super::wire::UNLIMITED;
use super::{ConnectionId, Message, Output, SessionRef, Shard, Ticket, work};

/// The return code of a subscription that was refused, before 5.0.
const REFUSED: u8 = 0x80;

/// What a session asked for with one filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribed {
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    /// The subscription identifier.
    pub(super) id: Option<NonZeroU32>,
}

impl Subscribed {
    fn new(options: &SubscriptionOptions, id: Option<NonZeroU32>) -> Self {
        let SubscriptionOptions { qos, no_local, retain_as_published, .. } = *options;
        Self { qos, no_local, retain_as_published, id }
    }
}

/// A SUBACK that a session waits for, and the connection that asked for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    session: SessionRef,
    connection: Option<ConnectionId>,
    packet_id: PacketId,
}

/// A SUBSCRIBE whose filters are not yet known to every owner.
#[derive(Debug)]
pub(super) struct Placing {
    asked: Asked,
    reasons: Vec<u8>,
    /// Retained messages are sent for some of its filters.
    has_replays: bool,
    /// What each owner has to know.
    wanted: BTreeMap<ShardId, Vec<Box<str>>>,
    /// The subscription identifier of all of its filters.
    id: Option<NonZeroU32>,
    /// Questions to owners that are not answered.
    outstanding: usize,
    /// All of its filters are handled.
    pub(super) is_whole: bool,
}

/// What a bridge needs and cannot say before 5.0: what was retained on one side of it has to be
/// retained on the other, and nothing may go in circles.
fn for_bridge(options: SubscriptionOptions) -> SubscriptionOptions {
    SubscriptionOptions { no_local: true, retain_as_published: true, ..options }
}

impl Shard {
    pub(super) fn handle_subscribe(
        &mut self,
        slot: u32,
        subscribe: &Subscribe<'_>,
        out: &mut impl Output,
    ) {
        let id = subscribe.properties.subscription_identifier();
        let (ticket, mut placing) = self.begin_placing(slot, subscribe.packet_id, id);
        for subscription in subscribe.subscriptions.iter() {
            self.subscribe(slot, &subscription, ticket, &mut placing, out);
        }
        placing.is_whole = true;
        self.go_on_placing(ticket, placing, out);
    }

    /// A SUBSCRIBE of which no filter is placed yet.
    pub(super) fn begin_placing(
        &mut self,
        slot: u32,
        packet_id: PacketId,
        id: Option<u32>,
    ) -> (Ticket, Placing) {
        self.next_ticket += 1;
        let connection = self.registry.get(slot).connection;
        let placing = Placing {
            asked: Asked { session: self.registry.name(slot), connection, packet_id },
            reasons: Vec::new(),
            has_replays: false,
            wanted: BTreeMap::new(),
            id: id.and_then(NonZeroU32::new),
            outstanding: 0,
            is_whole: false,
        };
        (Ticket(self.next_ticket), placing)
    }

    /// Asks the owners of the filters that came last; when all of them have answered and no filter
    /// is left, that was it.
    pub(super) fn go_on_placing(
        &mut self,
        ticket: Ticket,
        mut placing: Placing,
        out: &mut impl Output,
    ) {
        for (owner, filters) in std::mem::take(&mut placing.wanted) {
            placing.outstanding += 1;
            self.send(owner, Message::Interest { filters, ticket }, out);
        }
        if placing.outstanding == 0 && placing.is_whole {
            self.placed(placing, out);
        } else {
            self.placing.insert(ticket, placing);
        }
    }

    /// The SUBSCRIBE that filters are added to.
    pub(super) fn take_placing(&mut self, ticket: Ticket) -> Option<Placing> {
        self.placing.remove(&ticket)
    }

    /// The connection of a SUBSCRIBE has ended before all of its filters were handled.
    pub(super) fn abandon(&mut self, long: &Long, out: &mut impl Output) {
        if let Some(ticket) = long.ticket()
            && let Some(mut placing) = self.take_placing(ticket)
        {
            placing.is_whole = true;
            self.go_on_placing(ticket, placing, out);
        }
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        slot: u32,
        unsubscribe: &Unsubscribe<'_>,
        out: &mut impl Output,
    ) {
        let reasons: Vec<u8> = unsubscribe
            .filters
            .iter()
            .map(|filter| self.unsubscribe(slot, filter.as_str(), out) as u8)
            .collect();
        self.acknowledge_unsubscribe(slot, unsubscribe.packet_id, &reasons, out);
    }

    pub(super) fn acknowledge_unsubscribe(
        &mut self,
        slot: u32,
        packet_id: PacketId,
        reasons: &[u8],
        out: &mut impl Output,
    ) {
        let unsuback = Unsuback { packet_id, properties: Properties::EMPTY, reasons };
        self.with_wire(slot, out, |_, wire| {
            use crate::session::Output as _;
            wire.send(&Packet::Unsuback(unsuback)); // [MQTT-3.10.4-4], [MQTT-3.10.4-5]
        });
    }

    /// Whether the answer to a packet is not larger than the client takes. Only SUBACK and
    /// UNSUBACK, which have a byte for each filter, can be larger than CONNACK was. Judged before
    /// anything is done: a client must not wait for an answer that never comes.
    pub(super) fn takes_answer(&self, slot: u32, packet: &Packet<'_>) -> bool {
        if self.registry.get(slot).peer.packet_bytes_max == UNLIMITED {
            return true;
        }
        let filter_count = match packet {
            Packet::Subscribe(subscribe) => subscribe.subscriptions.iter().count(),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.iter().count(),
            _ => return true,
        };
        self.takes_acknowledgement(slot, filter_count)
    }

    /// Whether an acknowledgement of this many filters is not larger than the client takes.
    pub(super) fn takes_acknowledgement(&self, slot: u32, filter_count: usize) -> bool {
        let peer = &self.registry.get(slot).peer;
        Suback::encoded_len(peer.version, filter_count) <= peer.packet_bytes_max as usize
    }

    /// At the owner: a home wants what matches some filters.
    pub(super) fn handle_interest(
        &mut self,
        from: ShardId,
        filters: &[Box<str>],
        ticket: Ticket,
        out: &mut impl Output,
    ) {
        for filter in filters {
            self.work.charge(work::filter(filter));
            if self.interest.add(filter, from) {
                self.note_change(filter);
            }
            self.charge_moved();
        }
        self.send(from, Message::Placed { ticket }, out);
    }

    pub(super) fn handle_no_interest(&mut self, from: ShardId, filter: &str) {
        self.work.charge(work::filter(filter));
        if self.interest.remove(filter, from) {
            self.note_change(filter);
        }
        self.charge_moved();
    }

    pub(super) fn handle_placed(&mut self, ticket: Ticket, out: &mut impl Output) {
        let Some(placing) = self.placing.get_mut(&ticket) else { return };
        placing.outstanding -= 1;
        if placing.outstanding == 0
            && placing.is_whole
            && let Some(placing) = self.placing.remove(&ticket)
        {
            self.placed(placing, out);
        }
    }

    pub(super) fn acknowledge_subscribe(
        &mut self,
        asked: Asked,
        reasons: &[u8],
        out: &mut impl Output,
    ) {
        let Some(slot) = self.registry.resolve(asked.session) else { return };
        if self.registry.get(slot).connection == asked.connection {
            self.send_suback(slot, asked.packet_id, reasons, out);
        }
        self.replay_later(slot);
    }

    pub(super) fn send_suback(
        &mut self,
        slot: u32,
        packet_id: PacketId,
        reasons: &[u8],
        out: &mut impl Output,
    ) {
        let suback = Suback { packet_id, properties: Properties::EMPTY, reasons };
        self.with_wire(slot, out, |_, wire| {
            use crate::session::Output as _;
            wire.send(&Packet::Suback(suback)); // [MQTT-3.8.4-1]
        });
    }

    /// Removes a filter from this home's table. Its owners learn of it if no session here has the
    /// filter any more.
    pub(super) fn remove_subscription(
        &mut self,
        slot: u32,
        filter: &str,
        out: &mut impl Output,
    ) -> bool {
        if shared_filter(filter).is_some() {
            return self.part(slot, self.registry.name(slot), filter, out);
        }
        self.work.charge(work::filter(filter));
        if !self.lookups.is_empty() {
            self.find_before_removal(slot, filter);
        }
        let removed = self.subscriptions.remove(filter, slot);
        self.charge_moved();
        if removed.existed {
            self.note_change(filter);
        }
        if removed.last_for_filter {
            for owner in self.owners(filter) {
                self.send(owner, Message::NoInterest { filter: filter.into() }, out);
            }
        }
        removed.existed
    }

    pub(super) fn subscribe(
        &mut self,
        slot: u32,
        subscription: &Subscription<'_>,
        ticket: Ticket,
        placing: &mut Placing,
        out: &mut impl Output,
    ) {
        let (filter, qos) = (subscription.filter.as_str(), subscription.options.qos);
        self.work.charge(work::filter(filter));
        if let Err(reason) = self.judge_subscription(slot, filter, placing.reasons.len()) {
            self.counters.subscriptions_refused += 1;
            let is_v5 = self.registry.get(slot).peer.version.is_v5();
            placing.reasons.push(if is_v5 { reason as u8 } else { REFUSED }); // [MQTT-3.9.3-2]
            return;
        }
        placing.reasons.push(qos as u8);
        let options = match self.registry.get(slot).peer.is_bridge {
            true => for_bridge(subscription.options),
            false => subscription.options,
        };
        let subscribed = Subscribed::new(&options, placing.id);
        let is_shared = shared_filter(filter).is_some();
        let is_new = match is_shared {
            true => self.subscribe_shared(slot, filter, subscribed, ticket, placing, out),
            false => self.subscribe_alone(slot, filter, subscribed, placing),
        };
        self.charge_moved();
        let wants_retained = match subscription.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new, // [MQTT-3.3.1-10]
            RetainHandling::Never => false,      // [MQTT-3.3.1-11]
        };
        if wants_retained
            && !is_shared
            && let Some(key) = self.subscriptions.find(filter)
        {
            let is_first = !std::mem::replace(&mut placing.has_replays, true);
            self.add_replay(slot, key, is_first);
        }
        let resident = self.registry.get_mut(slot);
        if resident.session.is_persistent() {
            let client_id = resident.session.client_id();
            self.commits.persist(&Record::Subscribed { client_id, filter, qos }, out);
        }
    }

    /// A change of a table may have moved what was there before.
    pub(super) fn charge_moved(&mut self) {
        let at_home = self.subscriptions.take_moved() + self.shares.take_moved();
        let at_owner = self.interest.take_moved() + self.groups.take_moved();
        self.work.charge(work::times(work::MOVE, at_home + at_owner));
    }

    /// Puts an ordinary filter into the table of this home; whether it is new there.
    fn subscribe_alone(
        &mut self,
        slot: u32,
        filter: &str,
        subscribed: Subscribed,
        placing: &mut Placing,
    ) -> bool {
        // An existing subscription is replaced [MQTT-3.8.4-3].
        let inserted = self.subscriptions.insert(filter, slot, subscribed);
        if inserted.replaced != Some(subscribed) {
            self.note_change(filter);
        }
        let is_new = inserted.replaced.is_none();
        if is_new && let Some(key) = self.subscriptions.find(filter) {
            let resident = self.registry.get_mut(slot);
            resident.filters.insert(key);
            resident.filter_bytes += filter.len() as u32;
        }
        // Also when this home has said so before: the answer proves that it has arrived.
        for owner in self.owners(filter) {
            placing.wanted.entry(owner).or_default().push(filter.into());
        }
        is_new
    }

    /// Makes the session a member of a group; whether it was none before.
    fn subscribe_shared(
        &mut self,
        slot: u32,
        filter: &str,
        subscribed: Subscribed,
        ticket: Ticket,
        placing: &mut Placing,
        out: &mut impl Output,
    ) -> bool {
        let is_new = self.shares.insert(filter, slot, subscribed).replaced.is_none();
        if is_new && let Some(key) = self.shares.find(filter) {
            let resident = self.registry.get_mut(slot);
            resident.set_aside().shares.insert(key);
            resident.filter_bytes += filter.len() as u32;
        }
        placing.outstanding += self.join(slot, filter, subscribed, ticket, out);
        is_new
    }

    fn judge_subscription(&self, slot: u32, filter: &str, count: usize) -> Result<(), ReasonCode> {
        if !self.is_topic_allowed(filter) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let is_held = || self.table(filter).get(filter, slot).is_some();
        let room = count < self.limits.subscribe_count_max;
        if room && (self.has_room_for_filter(slot, filter) || is_held()) {
            return Ok(());
        }
        Err(ReasonCode::QuotaExceeded)
    }

    pub(super) fn unsubscribe(
        &mut self,
        slot: u32,
        filter: &str,
        out: &mut impl Output,
    ) -> ReasonCode {
        self.work.charge(work::PACKET + work::bytes(filter.len()));
        let table = self.table(filter);
        let key = table.find(filter).filter(|key| table.get_by_key(*key, slot).is_some());
        let Some(key) = key else { return ReasonCode::NoSubscriptionExisted };
        let resident = self.registry.get_mut(slot);
        if let Some(replays) = resident.aside_mut().and_then(|aside| aside.replays.as_mut())
            && shared_filter(filter).is_none()
        {
            replays.forget(key);
        }
        self.remove_subscription(slot, filter, out);
        if shared_filter(filter).is_some() {
            self.forget_share(slot, key, out);
        } else {
            self.registry.get_mut(slot).filters.remove(key);
        }
        let resident = self.registry.get_mut(slot);
        resident.filter_bytes -= filter.len() as u32;
        if resident.session.is_persistent() {
            let client_id = resident.session.client_id();
            self.commits.persist(&Record::Unsubscribed { client_id, filter }, out);
        }
        ReasonCode::Success
    }

    /// A session has one shared filter less.
    fn forget_share(&mut self, slot: u32, key: FilterKey, out: &mut impl Output) {
        let resident = self.registry.get_mut(slot);
        resident.set_aside().shares.remove(key);
        resident.tidy();
        if resident.share_count() == 0 {
            self.tell_standing(slot, None, out);
        }
    }

    /// Where the subscribers of a filter are.
    fn table(&self, filter: &str) -> &Subscriptions<u32, Subscribed> {
        if shared_filter(filter).is_some() { &self.shares } else { &self.subscriptions }
    }

    /// Every owner knows the filters: SUBACK, then the retained messages.
    fn placed(&mut self, placing: Placing, out: &mut impl Output) {
        let Placing { asked, reasons, has_replays, .. } = placing;
        let Some(slot) = self.registry.resolve(asked.session) else { return };
        if has_replays {
            self.release_replays(slot);
        }
        if self.commits.is_behind() && self.registry.get(slot).session.is_persistent() {
            self.commits.wait(Then::Subscribed(asked, reasons));
        } else {
            self.acknowledge_subscribe(asked, &reasons, out);
        }
    }
}
