//! CONNACK: the answer to CONNECT, and on which terms the client is connected.

use crate::config::Limits;
use crate::mqtt::{Connack, Packet, Properties, Property, ReasonCode, Version};

use super::connect::Opening;
use super::wire::encode_within;
use super::{ConnectionId, Output};

/// CONNACK that says yes; its properties are put into `buffer`.
pub(super) fn accepting<'a>(
    version: Version,
    opening: &Opening,
    session_present: bool,
    data: &[u8],
    limits: &Limits,
    buffer: &'a mut Vec<u8>,
) -> Connack<'a> {
    let properties = match version.is_v5() {
        true => Properties::write(connack_terms(opening, data, limits), buffer),
        false => Properties::EMPTY,
    };
    Connack { session_present, reason: ReasonCode::Success, properties }
}

/// What a 5.0 client has to know, and nothing that it assumes anyway.
fn connack_terms<'a>(opening: &'a Opening, data: &'a [u8], limits: &Limits) -> Vec<Property<'a>> {
    let agreement = &opening.agreement;
    let mut terms = vec![
        Property::ReceiveMaximum(limits.receive_count_max),
        Property::MaximumPacketSize(limits.packet_bytes_max as u32),
        Property::TopicAliasMaximum(limits.topic_alias_count_max),
    ];
    if !agreement.may_retain {
        terms.push(Property::RetainAvailable(0));
    }
    if agreement.expiry_interval_s != opening.requested_expiry_s {
        terms.push(Property::SessionExpiryIntervalS(agreement.expiry_interval_s));
    }
    if opening.assigned {
        terms.push(Property::AssignedClientIdentifier(&opening.client_id)); // [MQTT-3.2.2-16]
    }
    if limits.keep_alive_s_max > 0 {
        terms.push(Property::ServerKeepAliveS(opening.keep_alive_s)); // [MQTT-3.2.2-21]
    }
    if let Some(method) = &opening.method {
        terms.push(Property::AuthenticationMethod(method)); // [MQTT-4.12.0-5]
        if !data.is_empty() {
            terms.push(Property::AuthenticationData(data));
        }
    }
    terms
}

pub(super) fn send_connack(
    id: ConnectionId,
    connack: &Connack<'_>,
    version: Version,
    packet_bytes_max: u32,
    out: &mut impl Output,
) {
    let packet = Packet::Connack(*connack);
    // One that says yes was measured before; a client that takes no refusal sees only the close.
    out.outbox(id).push_with(|buffer| {
        encode_within(&packet, version, packet_bytes_max, buffer);
    });
}
