//! Compares what this shard has counted and charged with what it holds.

use crate::metrics::AuditError;

use super::Shard;
use super::connection::Phase;

impl Shard {
    /// Looks at everything that the shard holds: deliveries against the ledger, bytes against
    /// what was charged for them, tables against each other. For tests, the simulator and the end
    /// of the broker in debug builds; it costs a walk over all sessions.
    ///
    /// # Errors
    /// The first figure that does not agree with what is there.
    pub fn audit(&self) -> Result<(), AuditError> {
        let (mut queued, mut in_flight, mut filters, mut shares) = (0, 0, 0, 0);
        for (_, resident) in self.registry.iter() {
            let held = resident.session.audit()?;
            queued += held.queued;
            in_flight += held.in_flight;
            filters += resident.filters.len() as u64;
            shares += resident.share_count() as u64;
        }
        let ledger = &self.counters.ledger;
        let accounted = ledger.delivered + queued + in_flight + ledger.dropped_total();
        AuditError::compare("deliveries matched", ledger.matched, accounted)?;
        AuditError::compare("deliveries queued", ledger.queued, queued)?;
        AuditError::compare("deliveries in flight", ledger.in_flight, in_flight)?;
        let members = self.shares.len() as u64;
        AuditError::compare("shared subscriptions", shares, members)?;
        AuditError::compare("filters", filters, self.subscriptions.len() as u64)?;
        self.audit_connections()
    }

    /// Connections and sessions know each other.
    fn audit_connections(&self) -> Result<(), AuditError> {
        let (mut count, mut bound) = (0, 0);
        for (id, connection) in self.connections.iter() {
            count += 1;
            if let Phase::Ready { slot } = connection.phase {
                bound += 1;
                let is_its = self.registry.get(slot).connection == Some(id);
                AuditError::compare("connections of a session", 1, u64::from(is_its))?;
            }
        }
        AuditError::compare("connections", self.counters.connections, count)?;
        let online = self.registry.iter().filter(|(_, r)| r.connection.is_some()).count() as u64;
        AuditError::compare("sessions that are online", online, bound)
    }
}
