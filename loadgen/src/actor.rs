//! What a connection does once it is ready: the one shape that publishers and subscribers share.

use ringmq::mqtt::Packet;

use crate::bench::Bench;
use crate::client::Violation;

/// A client after its handshake. Pure: bytes to be sent are appended to `out`, times come in.
pub(crate) trait Actor {
    /// The handshake has ended, and the broker takes this many messages of QoS 1 and 2 at a time.
    fn handle_opened(&mut self, _receive_count_max: u16) {}

    /// Takes one packet from the broker.
    ///
    /// # Errors
    /// The broker did what it must not.
    fn handle(
        &mut self,
        now_ns: i64,
        packet: &Packet<'_>,
        bench: &mut Bench,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation>;

    /// Appends what is due of its own accord; called when the socket takes more.
    fn produce(&mut self, _now_ns: i64, _bench: &mut Bench, _out: &mut Vec<u8>) {}

    /// The socket does not take more for now.
    fn handle_blocked(&mut self) {}

    /// The broker has answered a PINGREQ.
    fn handle_pingresp(&mut self) {}

    /// Whether there is nothing left to do: the connection then says DISCONNECT and ends.
    fn is_done(&self) -> bool {
        false
    }
}
