//! A publish on its way: publisher's home to owner, owner to every interested home, and the
//! acknowledgement back.

use crate::mqtt::Publish;
use crate::routing::ShardId;
use crate::session::{Outgoing, Publication};
use crate::storage::Record;

use super::commit::Then;
use super::connection::Pause;
use super::{Message, Output, Receipt, SessionRef, Shard};

impl Shard {
    /// A publish from a client of this shard.
    pub(super) fn handle_publish(
        &mut self,
        publish: Publish<'_>,
        receipt: Option<Receipt>,
        out: &mut impl Output,
    ) {
        self.publish(&mut Outgoing::borrowed(publish), receipt, out);
    }

    /// Gives a publish to the owner of its topic.
    pub(super) fn publish(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        receipt: Option<Receipt>,
        out: &mut impl Output,
    ) {
        let owner = self.partition.owner(outgoing.view().topic.as_str());
        if owner == self.id {
            return self.route(outgoing, receipt, out);
        }
        let publication = outgoing.keep();
        self.links.spend(owner, publication.len());
        self.send(owner, Message::Publish { publication, receipt }, out);
    }

    pub(super) fn handle_remote_publish(
        &mut self,
        from: ShardId,
        publication: &Publication,
        receipt: Option<Receipt>,
        out: &mut impl Output,
    ) {
        self.route(&mut Outgoing::kept(publication), receipt, out);
        self.links.handle_published(from, publication.len(), out);
    }

    /// At the owner: the one place that orders the publishes of a topic.
    fn route(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        receipt: Option<Receipt>,
        out: &mut impl Output,
    ) {
        if outgoing.view().retain {
            self.retain(outgoing, out);
        }
        let homes = self.interest.homes(outgoing.view().topic.as_str());
        let mut count = homes.len() as u32;
        for home in homes.iter() {
            let publication = outgoing.keep();
            self.send(home, Message::Deliver { publication, receipt }, out);
        }
        if self.deliver(outgoing, out) {
            count += 1;
            self.accept_when_safe(receipt, out);
        }
        let Some(receipt) = receipt else { return };
        if outgoing.view().retain && self.commits.is_behind() {
            self.commits.wait(Then::Counted(receipt, count)); // What is retained is promised, too.
        } else {
            self.count(receipt, count, out);
        }
    }

    /// Tells the publisher's home how many homes were matched.
    pub(super) fn count(&mut self, receipt: Receipt, homes: u32, out: &mut impl Output) {
        if receipt.home == self.id {
            self.handle_counted(receipt, homes, out);
        } else {
            self.send(receipt.home, Message::Counted { receipt, homes }, out);
        }
    }

    /// At an interested home: the publish for the sessions of this shard.
    pub(super) fn handle_deliver(
        &mut self,
        publication: &Publication,
        receipt: Option<Receipt>,
        out: &mut impl Output,
    ) {
        self.deliver(&mut Outgoing::kept(publication), out);
        self.accept_when_safe(receipt, out);
    }

    pub(super) fn handle_counted(&mut self, receipt: Receipt, homes: u32, out: &mut impl Output) {
        let Some(slot) = self.registry.resolve(receipt.session) else { return };
        self.with_wire(slot, out, |session, wire| {
            session.handle_counted(receipt.sequence, homes, wire);
        });
        self.go_on_reading(receipt.session);
    }

    pub(super) fn handle_accepted(&mut self, receipt: Receipt, out: &mut impl Output) {
        let Some(slot) = self.registry.resolve(receipt.session) else { return };
        self.with_wire(slot, out, |session, wire| {
            session.handle_accepted(receipt.sequence, wire);
        });
        self.go_on_reading(receipt.session);
    }

    /// Tells the publisher's home that this one holds the publish.
    pub(super) fn accept(&mut self, receipt: Receipt, out: &mut impl Output) {
        if receipt.home == self.id {
            self.handle_accepted(receipt, out);
        } else {
            self.send(receipt.home, Message::Accepted { receipt }, out);
        }
    }

    pub(super) fn send(&mut self, to: ShardId, message: Message, out: &mut impl Output) {
        self.counters.mesh_messages += 1;
        self.links.send(to, message, out);
    }

    fn accept_when_safe(&mut self, receipt: Option<Receipt>, out: &mut impl Output) {
        let Some(receipt) = receipt else { return };
        if self.commits.is_behind() {
            self.commits.wait(Then::Accepted(receipt));
        } else {
            self.accept(receipt, out);
        }
    }

    fn retain(&mut self, outgoing: &mut Outgoing<'_>, out: &mut impl Output) {
        let publish = outgoing.view();
        let topic = publish.topic.as_str();
        if publish.payload.is_empty() {
            self.retained.remove(topic); // [MQTT-3.3.1-10], [MQTT-3.3.1-11]
        } else {
            let full = self.retained.len() >= self.share(self.limits.retained_count_max);
            if full && self.retained.get(topic).is_none() {
                self.counters.retained_refused += 1;
                return;
            }
            let publication = outgoing.keep();
            self.retained.insert(publication.topic(), publication.clone()); // [MQTT-3.3.1-5]
        }
        self.commits.persist(&Record::Retained { publish: outgoing.view() }, out);
    }

    /// Reads a publisher again that had too many publishes under way.
    fn go_on_reading(&mut self, session: SessionRef) {
        let Some(slot) = self.registry.resolve(session) else { return };
        let resident = self.registry.get(slot);
        if resident.session.pending_count() < self.limits.receive_count_max.into()
            && let Some(connection) = resident.connection
        {
            self.unpause(connection, Pause::Receipts);
        }
    }
}
