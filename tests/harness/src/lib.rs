//! What the tests share: bare shards that move as they are told, the broker as a process, a client
//! of our own for both, and the clients of strangers.
//!
//! `RINGMQ_TEST_PROGRAM` names a program that stands in for ringmq, so that a test can be tried
//! against a broker that is known to be right; `tests/harness/mosquitto-stand-in` is one.

pub mod choose;
pub mod desk;
pub mod direct;
pub mod fault;
pub mod notation;
pub mod packet;
pub mod peer;
pub mod property;
pub mod random;
pub mod script;
pub mod shards;
pub mod world;

#[cfg(feature = "process")]
pub mod broker;
#[cfg(feature = "process")]
pub mod client;
#[cfg(feature = "process")]
pub mod files;
#[cfg(feature = "process")]
pub mod gate;
#[cfg(feature = "process")]
pub mod program;
