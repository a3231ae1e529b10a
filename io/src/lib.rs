//! What the broker and the load generator share below MQTT: sockets over io_uring, and what the
//! process asks the system for. Nothing here knows MQTT.
//!
//! This is the only crate with `unsafe` code outside tests and benches. A program that uses it has
//! to be linked with `--wrap=__sys_io_uring_setup`, see `ring.rs`.

mod accept;
mod cpus;
mod pages;
mod panic;
mod peer;
mod pool;
mod probe;
mod reactor;
mod resources;
mod ring;
mod sockets;
mod wakeup;

pub use accept::accept;
pub use cpus::available_cpus;
pub use pages::keep_small;
pub use panic::end_on_panic;
pub use peer::{PeerFacts, PeerState, peek};
pub use pool::Chunk;
pub use probe::{Unmet, probe};
pub use reactor::{spawn_executor, yield_to_reactor};
pub use resources::make_room;
pub use sockets::{Event, Key, Reading, Sockets, Written};
pub use wakeup::Wakeup;
