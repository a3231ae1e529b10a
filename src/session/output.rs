//! The only way anything leaves a session.

use crate::metrics::{Ledger, Meter};
use crate::mqtt::{Packet, PacketId};

use super::{Delivery, Outgoing, Terms, Time};

/// Whether the session's client can take a delivery right now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Connected, and its outbox is below the limit.
    Open,
    /// Connected, but its outbox is at the limit until the client reads.
    Full,
    /// Not connected.
    Offline,
}

/// What one session may hold at this moment, and where shared memory is charged.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Bytes of the deliveries that are sent and not acknowledged; beyond it the window is closed.
    pub inflight_bytes_max: usize,
    /// Bytes in all. It shrinks as the memory of the process is used up.
    pub held_bytes_max: usize,
    /// Bytes of the topics that aliases of the client stand for.
    pub alias_bytes_max: usize,
    /// Where copies of publishes are charged.
    pub meter: Meter,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            inflight_bytes_max: usize::MAX,
            held_bytes_max: usize::MAX,
            alias_bytes_max: usize::MAX,
            meter: Meter::default(),
        }
    }
}

/// What a session can do to the world.
///
/// Production fills this with the outbox of the session's connection, tests with a recorder.
/// Packets sent while `reach` is [`Reach::Offline`] are lost; a session does not send any then.
pub trait Output {
    /// Returns whether a delivery can be sent now. After [`Reach::Full`] the session is called when
    /// there is room again.
    fn reach(&mut self) -> Reach;

    /// Has the session told once what it has just sent is written, so that it goes on.
    fn ask_for_room(&mut self) {}

    /// Sends any packet but a PUBLISH to the session's connection.
    fn send(&mut self, packet: &Packet<'_>);

    /// The time of what is being handled.
    fn now(&self) -> Time;

    /// Whether the client takes a PUBLISH of this size [MQTT-3.1.2-24].
    fn fits(&mut self, outgoing: &mut Outgoing<'_>, terms: &Terms) -> bool;

    /// Sends a PUBLISH: what `outgoing` holds, on these terms.
    fn deliver(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        terms: &Terms,
        packet_id: Option<PacketId>,
        dup: bool,
    );

    /// Returns what a shared subscription has chosen this session for and its client has not got,
    /// as it is too large for it or the session is over: another member may.
    fn give_back(&mut self, delivery: Delivery);

    /// What the session may hold.
    fn allowance(&self) -> Allowance {
        Allowance::default()
    }

    /// The session holds `_change` bytes of memory more or, if it is negative, less; shared memory
    /// is charged elsewhere.
    fn charge(&mut self, _change: isize) {}

    /// Where every matched delivery is accounted for.
    fn ledger(&mut self) -> &mut Ledger;
}
