//! What must hold for any bytes: one function per fuzz target, and the seeds that they start from.
//!
//! The targets in `fuzz_targets/` only call these functions. The test crate `tests/faults` compiles
//! this file, too, and runs the seeds and damaged seeds through every function: so a bounded share
//! needs neither the nightly toolchain nor libFuzzer.

mod bottle;
mod codec;
mod config;
mod packets;
mod reader;
mod seeds;
mod session;
mod topics;

pub use codec::{decode_v5, decode_v311, round_trip};
pub use config::config_file;
pub use seeds::{Seed, seeds};
pub use session::session_script;
pub use topics::topic_match;

/// A fuzz target: panics if something does not hold for these bytes.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 6] = [
    ("decode_v311", decode_v311),
    ("decode_v5", decode_v5),
    ("round_trip", round_trip),
    ("topic_match", topic_match),
    ("session_script", session_script),
    ("config_file", config_file),
];
