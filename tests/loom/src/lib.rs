//! The channels between shards under loom, which tries every interleaving of their threads and
//! every value that the memory model lets an atomic have.
//!
//! What runs is `src/server/mesh.rs` itself, with other types under it: see `stand_ins`. Each model
//! runs on that file and, with one fault each, on copies of it: those must fail, or the models
//! would prove nothing.

#![cfg(test)]

mod models;
mod stand_ins;

/// What `src/server/mesh.rs` finds at this place in the broker.
mod routing {
    pub(crate) use ringmq::routing::{ShardId, ShardSet};
}

#[allow(dead_code)]
#[path = "../../../src/server/mesh.rs"]
mod mesh;
