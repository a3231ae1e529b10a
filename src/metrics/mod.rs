//! What the broker counts about itself.
//!
//! Plain data: every shard owns one [`Counters`] and adds to its fields where things happen;
//! readers sum copies of them with [`Counters::add`]. Nothing here is shared or atomic.

mod audit;
mod counters;
mod ledger;

pub use audit::AuditError;
pub use counters::{Counters, Kind, Row};
pub use ledger::{DropCause, Ledger, LedgerError};
