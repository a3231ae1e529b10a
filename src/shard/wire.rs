//! `session::Output` as a shard fills it: the outbox of the session's connection, if it has one.

use crate::metrics::{Counters, Ledger};
use crate::mqtt::{Layout, Packet, PacketId, Publish, QoS, Version};
use crate::session::{Outgoing, Output, Reach};

use super::Outbox;

/// A payload from this size on is shared between outboxes instead of copied into each.
const SHARED_PAYLOAD_BYTES_MIN: usize = 16 * 1024;

/// The way from one session to its client.
pub(super) struct Wire<'a> {
    /// None while the client is offline.
    pub(super) outbox: Option<&'a mut Outbox>,
    pub(super) outbox_bytes_max: usize,
    pub(super) version: Version,
    pub(super) counters: &'a mut Counters,
    /// Shared by all deliveries of one publish; without it each is encoded by itself.
    pub(super) layouts: Option<&'a mut Layouts>,
}

impl Output for Wire<'_> {
    fn reach(&mut self) -> Reach {
        match &mut self.outbox {
            None => Reach::Offline,
            Some(outbox) if outbox.len() < self.outbox_bytes_max => Reach::Open,
            Some(outbox) => {
                outbox.want_drained();
                Reach::Full
            }
        }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let version = self.version;
        if let Some(outbox) = &mut self.outbox {
            outbox.push_with(|buffer| packet.encode(version, buffer));
        }
    }

    fn deliver(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        qos: QoS,
        retain: bool,
        packet_id: Option<PacketId>,
        dup: bool,
    ) {
        let Some(outbox) = &mut self.outbox else { return };
        *match qos {
            QoS::AtMostOnce => &mut self.counters.deliveries_sent_qos0,
            QoS::AtLeastOnce => &mut self.counters.deliveries_sent_qos1,
            QoS::ExactlyOnce => &mut self.counters.deliveries_sent_qos2,
        } += 1;
        let version = self.version;
        let packet = Publish { dup, qos, retain, packet_id, ..*outgoing.view() };
        if packet.payload.len() >= SHARED_PAYLOAD_BYTES_MIN {
            outbox.push_with(|buffer| _ = packet.encode_head(version, buffer));
            outbox.push_shared(outgoing.keep().shared_payload());
            return;
        }
        match &mut self.layouts {
            Some(layouts) if !dup && !retain => layouts.push(&packet, version, outbox),
            _ => outbox.push_with(|buffer| packet.encode(version, buffer)),
        }
    }

    fn ledger(&mut self) -> &mut Ledger {
        &mut self.counters.ledger
    }
}

/// One publish, encoded once for each way it can look on the wire; only the packet identifier
/// differs between the subscribers of a layout.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    /// By QoS; one version so far shares a layout with the next because 3.1 and 3.1.1 agree.
    encoded: [Encoded; 3],
}

#[derive(Debug, Default)]
struct Encoded {
    bytes: Vec<u8>,
    layout: Option<Layout>,
}

impl Layouts {
    /// Forgets the publish before.
    pub(super) fn clear(&mut self) {
        for encoded in &mut self.encoded {
            encoded.layout = None;
            encoded.bytes.clear();
        }
    }

    fn push(&mut self, packet: &Publish<'_>, version: Version, outbox: &mut Outbox) {
        let Encoded { bytes, layout } = &mut self.encoded[packet.qos as usize];
        let layout = *layout.get_or_insert_with(|| packet.encode_with(version, bytes));
        outbox.push_with(|buffer| {
            let start = buffer.len();
            buffer.extend_from_slice(bytes);
            if let Some(packet_id) = packet.packet_id {
                layout.patch_packet_id(&mut buffer[start..], packet_id);
            }
        });
    }
}
