//! The only way anything leaves a session.

use crate::metrics::Ledger;
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

/// What a session can do to the world.
///
/// Production fills this with the outbox of the session's connection, tests with a recorder.
/// Packets sent while `reach` is [`Reach::Offline`] are lost; a session does not send any then.
pub trait Output {
    /// Whether a delivery can be sent now. After [`Reach::Full`] the session is told when there
    /// is room again.
    fn reach(&mut self) -> Reach;

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

    /// Returns what a shared subscription has chosen this session for and its client does not take
    /// for its size: another member may.
    fn give_back(&mut self, delivery: Delivery);

    /// Where every matched delivery is accounted for.
    fn ledger(&mut self) -> &mut Ledger;
}
