//! The broker's io_uring socket layer, shared with the load generator. It knows no MQTT.
#![allow(unreachable_pub, reason = "the broker's library shows what is in these files")]

#[path = "../../src/transport/probe.rs"]
mod probe;
#[allow(dead_code, reason = "only the broker needs all of it")]
#[path = "../../src/transport/resources.rs"]
mod resources;
#[allow(dead_code, reason = "only the broker needs all of it")]
#[path = "../../src/transport/sockets.rs"]
mod sockets;
#[path = "../../src/transport/wakeup.rs"]
mod wakeup;

pub(crate) use probe::probe;
pub(crate) use sockets::{Event, Key, Reading, Sockets, Written};
pub(crate) use wakeup::Wakeup;
