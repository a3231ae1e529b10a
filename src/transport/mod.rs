//! Bytes in, bytes out; nothing here knows MQTT.

mod descriptors;
mod sockets;
mod tcp;
mod wakeup;

pub use descriptors::make_room;
pub use sockets::{Chunk, Event, Key, Reading, Sockets, Written};
pub use tcp::{Patience, PeerFacts, PeerState, Tcp, TcpListener, bind};
pub use wakeup::Wakeup;
