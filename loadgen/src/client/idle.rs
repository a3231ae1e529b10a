//! A client that does nothing: it acknowledges what it gets and forgets it.

use ringmq::mqtt::Packet;

use crate::client::Actor;
use crate::client::qos::{Receiver, Violation};
use crate::recording::Recording;

#[derive(Default)]
pub(crate) struct Idle {
    receiver: Receiver,
    leaves: bool,
}

impl Idle {
    /// Makes a client that disconnects at once.
    pub(crate) fn leaving() -> Self {
        Self { leaves: true, ..Self::default() }
    }
}

impl Actor for Idle {
    fn handle(
        &mut self,
        _now_ns: i64,
        packet: &Packet<'_>,
        recording: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        self.receiver.handle(packet, recording.plan.version, out).map(drop)
    }

    fn is_done(&self) -> bool {
        self.leaves
    }
}
