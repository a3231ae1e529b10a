//! Compares what this shard has counted and charged with what it holds.

use crate::metrics::{AuditError, allocated};

use super::connection::Phase;
use super::links::{CREDIT_UNITS, published_units, returned_units};
use super::registry::Resident;
use super::{Message, Shard};

/// Follows the credit that the shard `home` has at the shard `owner`: at any time all of it is in
/// the home's hands, with publishes on their way, owed by the owner, or on its way back. The
/// messages are those in the channels between the two.
///
/// # Errors
/// Credit was lost, or made.
pub fn audit_credit<'m>(
    home: &Shard,
    owner: &Shard,
    to_owner: impl Iterator<Item = &'m Message>,
    to_home: impl Iterator<Item = &'m Message>,
) -> Result<(), AuditError> {
    let under_way =
        to_owner.map(published_units).sum::<i64>() + to_home.map(returned_units).sum::<i64>();
    let held = home.links.credit_at(owner.id) + under_way + owner.links.owed_to(home.id);
    let held = u64::try_from(held).unwrap_or(0);
    AuditError::compare("units of credit", CREDIT_UNITS.unsigned_abs(), held)
}

impl Shard {
    /// Looks at everything that the shard holds: deliveries against the ledger, bytes against
    /// what was charged for them, tables against each other. For tests, the simulator and the end
    /// of the broker in debug builds; it costs a walk over all sessions.
    ///
    /// # Errors
    /// The first figure that does not agree with what is there.
    pub fn audit(&self) -> Result<(), AuditError> {
        let (mut queued, mut in_flight, mut filters, mut shares) = (0, 0, 0, 0);
        let (mut memory, mut names) = (0, 0);
        for (slot, resident) in self.registry.iter() {
            let held = resident.session.audit()?;
            queued += held.queued;
            in_flight += held.in_flight;
            filters += resident.filters.len() as u64;
            shares += resident.share_count() as u64;
            memory += resident.session.charged_bytes() + resident.peer.memory_bytes();
            names += allocated(resident.session.client_id().len());
            if !self.registry.is_retired(slot) {
                self.audit_filters(resident)?;
            }
        }
        let ledger = &self.counters.ledger;
        let accounted = ledger.delivered + queued + in_flight + ledger.dropped_total();
        AuditError::compare("deliveries matched", ledger.matched, accounted)?;
        AuditError::compare("deliveries queued", ledger.queued, queued)?;
        AuditError::compare("deliveries in flight", ledger.in_flight, in_flight)?;
        AuditError::compare("memory of sessions", self.counters.session_bytes, memory as u64)?;
        AuditError::compare("client identifiers", self.account.names as u64, names as u64)?;
        let members = self.shares.len() as u64;
        AuditError::compare("shared subscriptions", shares, members)?;
        AuditError::compare("filters", filters, self.subscriptions.len() as u64)?;
        self.archive.audit()?;
        self.put_off.audit()?;
        self.work.audit(&self.slices)?;
        self.links.audit()?;
        self.audit_members()?;
        self.audit_connections()
    }

    /// Bytes of filters against the filters that a session has.
    fn audit_filters(&self, resident: &Resident) -> Result<(), AuditError> {
        let own = resident.filters.iter().map(|key| self.subscriptions.filter(key).len());
        let shares = resident.aside().into_iter().flat_map(|aside| aside.shares.iter());
        let shared = shares.map(|key| self.shares.filter(key).len());
        let bytes = own.chain(shared).sum::<usize>();
        AuditError::compare("bytes of filters", resident.filter_bytes.into(), bytes as u64)
    }

    /// Of the members of shared subscriptions that live here, loads are known as long as they are
    /// members of something.
    fn audit_members(&self) -> Result<(), AuditError> {
        let is_member = |session| {
            let slot = self.registry.resolve(session);
            slot.is_some_and(|slot| self.registry.get(slot).share_count() > 0)
        };
        let known = self.groups.members_of(self.id);
        let gone = known.filter(|session| !is_member(*session)).count();
        AuditError::compare("loads of members that have gone", 0, gone as u64)
    }

    /// Connections and sessions know each other.
    fn audit_connections(&self) -> Result<(), AuditError> {
        let (mut count, mut bound, mut held) = (0, 0, 0);
        for (id, connection) in self.connections.iter() {
            count += 1;
            held += connection.held_bytes();
            if let Phase::Ready { slot } = connection.phase {
                bound += 1;
                let is_its = self.registry.get(slot).connection == Some(id);
                AuditError::compare("connections of a session", 1, u64::from(is_its))?;
            }
        }
        AuditError::compare("parts of packets", self.account.held as u64, held as u64)?;
        AuditError::compare("connections", self.counters.connections, count)?;
        let online = self.registry.iter().filter(|(_, r)| r.connection.is_some()).count() as u64;
        AuditError::compare("sessions that are online", online, bound)
    }
}
