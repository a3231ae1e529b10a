//! The records that a shard asks to be kept, and the trait of storage engines.
//!
//! A shard hands over records in order, each with a token. The engine answers with the newest
//! token whose record, and every one before it, is as safe as the engine's durability class
//! promises. What a client was promised (PUBACK, PUBREC, SUBACK) waits for that answer.

mod memory;
#[cfg(test)]
mod suite;

pub use memory::Memory;

use crate::mqtt::{Publish, QoS};

/// Numbers the records of one shard, ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Token(u64);

impl Token {
    /// The token after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One change of state that has to outlive its moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Record<'a> {
    /// A persistent session began.
    SessionBegun { client_id: &'a str },
    /// A persistent session is over, with all that it held.
    SessionEnded { client_id: &'a str },
    /// A persistent session subscribed.
    Subscribed {
        client_id: &'a str,
        /// To what.
        filter: &'a str,
        /// The QoS that was granted.
        qos: QoS,
    },
    /// A persistent session no longer subscribes.
    Unsubscribed {
        client_id: &'a str,
        /// To what.
        filter: &'a str,
    },
    /// A persistent session was given a delivery of QoS 1 or 2.
    Held {
        client_id: &'a str,
        /// The publish.
        publish: &'a Publish<'a>,
        /// The QoS of the delivery.
        qos: QoS,
    },
    /// The retained message of a topic; an empty payload clears it [MQTT-3.3.1-6].
    Retained {
        /// The publish.
        publish: &'a Publish<'a>,
    },
}

/// Keeps records.
pub trait Engine {
    /// Takes a record. Tokens are handed over in ascending order.
    fn append(&mut self, record: &Record<'_>, token: Token);

    /// The newest token that is safe since the last call, if there is a new one.
    fn committed(&mut self) -> Option<Token>;
}
