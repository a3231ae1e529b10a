//! ringmq: an MQTT broker for Linux, one io_uring executor per core.
//!
//! The modules in layer order; an arrow only ever points down this list.

mod arena;
pub mod config;
mod index;
pub mod metrics;

pub mod mqtt;

pub mod auth;
pub mod routing;
pub mod session;
pub mod storage;

pub mod shard;

// Everything below this line is pure; everything after it touches the operating system.

#[cfg(feature = "server")]
pub mod transport;

#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "server")]
pub mod cli;
