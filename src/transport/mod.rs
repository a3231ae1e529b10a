//! Bytes in, bytes out; nothing here knows MQTT.

mod probe;
mod resources;
mod sockets;
mod tcp;
mod wakeup;

pub use probe::{Unmet, probe};
pub use resources::make_room;
pub use sockets::{Chunk, Event, Key, Reading, Sockets, Written};
pub use tcp::{Patience, PeerFacts, PeerState, Tcp, TcpListener, bind};
pub use wakeup::Wakeup;
