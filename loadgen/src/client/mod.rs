//! What a connection does once it is ready: the one shape that publishers and subscribers share.

pub(crate) mod churner;
pub(crate) mod handshake;
pub(crate) mod idle;
pub(crate) mod publisher;
pub(crate) mod qos;
pub(crate) mod retained;
pub(crate) mod subscriber;

use ringmq::mqtt::{Packet, split};

use crate::client::qos::Violation;
use crate::recording::Recording;

/// Bytes that are written in one batch before the socket is tried.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;

/// A client after its handshake. Pure: bytes to be sent are appended to `out`, times come in.
pub(crate) trait Actor {
    /// Starts after the handshake; the broker takes this many messages of QoS 1 and 2 at a time.
    fn handle_opened(&mut self, _receive_count_max: u16) {}

    /// Takes one packet from the broker.
    ///
    /// # Errors
    /// The broker did what it must not.
    fn handle(
        &mut self,
        now_ns: i64,
        packet: &Packet<'_>,
        recording: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation>;

    /// Appends what is due of its own accord; called when the socket takes more, and again when
    /// [`BATCH_BYTES`] were written.
    fn produce(&mut self, _now_ns: i64, _bench: &mut Recording, _out: &mut Vec<u8>) {}

    /// Handles that the socket does not take more for now.
    fn handle_blocked(&mut self) {}

    /// Handles the answer to a PINGREQ.
    fn handle_pingresp(&mut self) {}

    /// Whether there is nothing left to do: the connection then says DISCONNECT and ends.
    fn is_done(&self) -> bool {
        false
    }

    /// Takes the whole packets at the beginning of `bytes`, all of which came at the same moment.
    ///
    /// # Errors
    /// The broker did what it must not.
    fn handle_packets(
        &mut self,
        now_ns: i64,
        bytes: &[u8],
        recording: &mut Recording,
        out: &mut Vec<u8>,
    ) -> Result<Handled, Violation> {
        let (version, packet_bytes_max) =
            (recording.plan.version, recording.plan.packet_bytes_max());
        let mut handled = Handled::default();
        while let Some((frame, used)) = split(&bytes[handled.byte_count..], packet_bytes_max)? {
            match Packet::decode(frame, version)? {
                Packet::Pingresp => {
                    handled.pong = true;
                    self.handle_pingresp();
                }
                packet => self.handle(now_ns, &packet, recording, out)?,
            }
            handled.byte_count += used;
        }
        Ok(handled)
    }
}

/// What was made of some bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Handled {
    /// All but the half packet at the end.
    pub(crate) byte_count: usize,
    /// PINGRESP was among them.
    pub(crate) pong: bool,
}
