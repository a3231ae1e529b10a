//! What the test crates share: the broker as a process, a client of our own for it, and the
//! clients of strangers.
//!
//! `RINGMQ_TEST_PROGRAM` names a program that stands in for ringmq, so that a test can be tried
//! against a broker that is known to be right; `tests/harness/mosquitto-stand-in` is one.

// Every test crate compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

pub(crate) mod cluster;
pub(crate) mod fault;
pub(crate) mod notation;
pub(crate) mod packet;
pub(crate) mod peer;
pub(crate) mod property;

#[cfg(feature = "server")]
pub(crate) mod broker;
#[cfg(feature = "server")]
pub(crate) mod client;
#[cfg(feature = "server")]
pub(crate) mod files;
#[cfg(feature = "server")]
pub(crate) mod gate;
#[cfg(feature = "server")]
pub(crate) mod program;
