//! What the broker counts about itself.
//!
//! Plain data: every shard owns one [`Counters`] and adds to its fields where things happen;
//! readers sum copies of them with [`Counters::add`]. What is shared by the shards of a process are
//! the memory that it may use, [`Pool`], and what is held of it, [`Meter`].

mod audit;
mod counters;
mod ledger;
mod memory;

pub use audit::AuditError;
pub use counters::{Counters, Kind, Row};
pub use ledger::{DropCause, Ledger, LedgerError};
pub use memory::{Meter, Pool, allocated};
