//! Filters, subscriptions and retained topics. Everything here is plain data of one shard.
//!
//! [`Partition`] says which shard owns a session or a topic. At the owner of a topic,
//! [`Interest`] says which homes want it, [`Groups`] which members of shared subscriptions are
//! next, and [`Retained`] what was last retained; at a home,
//! [`Subscriptions`] says which of its sessions want it. The first and the last share one map of
//! filters: exact ones in a hash table, those with wildcards in a trie. [`Routes`] remembers what
//! was found for a topic, and a [`Search`] goes on in pieces where very many filters match.
//!
//! Topics and filters are taken to be valid: the wire format has checked them.

mod bucket;
mod filters;
mod interest;
mod level;
#[cfg(test)]
mod naive;
mod names;
mod order;
mod partition;
mod retained;
mod routes;
mod search;
mod shared;
mod signature;
mod sorted;
mod subscribers;
mod subscriptions;
mod trie;

pub use interest::Interest;
pub use partition::{Partition, Placement, ShardId, ShardSet};
pub use retained::{Retained, RetainedKey};
pub use routes::Routes;
pub use search::{Place, Search};
pub use shared::{Choice, Choices, Chosen, Groups, Load, Standing, shared_filter};
pub use subscriptions::{FilterKey, Inserted, Removed, Subscriptions};
pub use trie::Effort;
