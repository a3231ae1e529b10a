//! ringmq: an MQTT broker for Linux, one io_uring executor per core.
//!
//! The modules in layer order; an arrow only ever points down this list.

pub mod config;
pub mod metrics;
pub mod mqtt;
pub mod routing;
