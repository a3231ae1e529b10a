//! The ledger: every delivery that a publish gives rise to is delivered, waiting, or dropped
//! for a named cause. A difference means that a message was lost silently, which is a bug.

use super::counters::{Kind, Row};
use std::fmt;

macro_rules! drop_causes {
    ($( $cause:ident $name:literal = $help:literal; )+) => {
        /// Why a delivery was given up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropCause {
            $( #[doc = $help] $cause, )+
        }

        impl DropCause {
            /// Every cause, in the order of [`Ledger::dropped`].
            pub const ALL: &'static [Self] = &[$( Self::$cause ),+];
        }

        const DROP_ROWS: &[Row] = &[$(
            Row { name: concat!("deliveries_dropped_", $name), help: $help, kind: Kind::Counter }
        ),+];
        const DROP_NAMES: &[&str] = &[$( $name ),+];
    };
}

drop_causes! {
    OutboxFull "outbox_full" = "A QoS 0 delivery met a connection whose outbox was full.";
    QueueFull "queue_full" = "The session had too many deliveries waiting.";
    QueueBytesFull "queue_bytes_full" = "The session had too many bytes waiting.";
    Offline "offline" = "A QoS 0 delivery met a session without a connection.";
    SessionEnded "session_ended" = "The session ended while deliveries were waiting for it.";
    TooLarge "too_large" = "The packet would exceed the client's Maximum Packet Size.";
    RefusedByClient "refused_by_client" = "The client answered with an error.";
    OverShare "over_share" = "Memory was short and the session held more than its share.";
    Expired "expired" = "The Message Expiry Interval passed while the delivery waited.";
    Reassigned "reassigned" = "Too large for a client that is back; given to others of its group.";
}

impl DropCause {
    /// How many causes there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Short name in `snake_case`, fit for a metric label.
    pub fn name(self) -> &'static str {
        DROP_NAMES[self as usize]
    }

    /// One sentence for people.
    pub fn help(self) -> &'static str {
        DROP_ROWS[self as usize].help
    }
}

/// What became of the deliveries of one shard, or of several summed.
///
/// Invariant between inputs: `matched = delivered + queued + in_flight + dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Deliveries that publishes gave rise to, ever.
    pub matched: u64,
    /// Deliveries completed: sent at QoS 0, acknowledged at QoS 1 and 2; ever.
    pub delivered: u64,
    /// Deliveries waiting in sessions, not yet sent; now.
    pub queued: u64,
    /// QoS 1 and 2 deliveries sent and not yet acknowledged; now.
    pub in_flight: u64,
    /// Deliveries given up, by [`DropCause`]; ever.
    pub dropped: [u64; DropCause::COUNT],
}

const fn row(name: &'static str, help: &'static str, kind: Kind) -> Row {
    Row { name, help, kind }
}

const ROWS: &[Row] = &[
    row("deliveries_matched", "Deliveries that publishes gave rise to.", Kind::Counter),
    row("deliveries_completed", "Deliveries sent, and acknowledged if need be.", Kind::Counter),
    row("deliveries_queued", "Deliveries waiting to be sent now.", Kind::Gauge),
    row("deliveries_in_flight", "Deliveries sent and not yet acknowledged now.", Kind::Gauge),
];

impl Ledger {
    /// Whether every delivery is accounted for.
    ///
    /// # Errors
    /// [`LedgerError`] with both sums if they differ.
    pub fn balance(&self) -> Result<(), LedgerError> {
        let accounted = self.delivered + self.queued + self.in_flight + self.dropped_total();
        if self.matched == accounted {
            return Ok(());
        }
        Err(LedgerError { matched: self.matched, accounted })
    }

    /// Counts one delivery as given up. The caller takes it off `queued` or `in_flight` if it
    /// was there.
    pub fn drop_one(&mut self, cause: DropCause) {
        self.dropped[cause as usize] += 1;
    }

    /// How many deliveries were given up for `cause`.
    pub fn dropped_for(&self, cause: DropCause) -> u64 {
        self.dropped[cause as usize]
    }

    /// How many deliveries were given up for any cause.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Every figure with its description; one row per drop cause.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Row, u64)> {
        let values = [self.matched, self.delivered, self.queued, self.in_flight];
        ROWS.iter().zip(values).chain(DROP_ROWS.iter().zip(self.dropped))
    }

    /// Adds the figures of `other`, such as another shard's, to these.
    pub fn add(&mut self, other: &Self) {
        self.matched += other.matched;
        self.delivered += other.delivered;
        self.queued += other.queued;
        self.in_flight += other.in_flight;
        for (sum, one) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += one;
        }
    }
}

/// The ledger does not balance: a delivery vanished, or was counted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerError {
    /// Deliveries that publishes gave rise to.
    pub matched: u64,
    /// Deliveries delivered, queued, in flight or dropped.
    pub accounted: u64,
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matched, accounted } = self;
        write!(f, "ledger: {matched} deliveries matched, {accounted} accounted for")
    }
}

impl std::error::Error for LedgerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_balances_only_if_every_delivery_is_somewhere() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.balance(), Ok(()));
        ledger.matched = 4;
        ledger.delivered = 1;
        ledger.queued = 1;
        ledger.in_flight = 1;
        assert_eq!(ledger.balance(), Err(LedgerError { matched: 4, accounted: 3 }));
        ledger.drop_one(DropCause::Expired);
        assert_eq!(ledger.balance(), Ok(()));
        assert_eq!((ledger.dropped_for(DropCause::Expired), ledger.dropped_total()), (1, 1));
    }

    #[test]
    fn every_cause_has_its_place_and_its_row() {
        for (index, cause) in DropCause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, index);
            let mut ledger = Ledger::default();
            ledger.drop_one(*cause);
            let shown: Vec<_> = ledger.iter().filter(|(_, n)| *n == 1).collect();
            assert_eq!(shown.len(), 1);
            assert!(shown[0].0.name.ends_with(cause.name()), "{}", shown[0].0.name);
            assert_eq!(shown[0].0.help, cause.help());
        }
    }

    #[test]
    fn sums_of_balanced_ledgers_balance() {
        let mut one = Ledger { matched: 3, delivered: 1, queued: 1, ..Ledger::default() };
        one.drop_one(DropCause::Offline);
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!(sum.balance(), Ok(()));
        assert_eq!(sum.matched, 6);
    }
}
