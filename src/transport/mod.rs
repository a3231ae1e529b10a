//! What the broker listens on; nothing here knows MQTT.

mod listener;

pub use listener::{Patience, bind};
