//! Who wants what. Everything here is plain data of one shard.

mod arena;
mod filters;
mod index;
mod interest;
mod level;
#[cfg(test)]
mod naive;
mod partition;
mod subscribers;
mod subscriptions;
mod trie;

pub use interest::Interest;
pub use partition::{HomeSet, Partition, Placement, ShardId};
pub use subscriptions::{Inserted, Removed, Subscriptions};
