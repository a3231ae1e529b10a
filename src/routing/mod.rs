//! Who wants what. Everything here is plain data of one shard.

mod level;
mod partition;

pub use partition::{HomeSet, Partition, Placement, ShardId};
