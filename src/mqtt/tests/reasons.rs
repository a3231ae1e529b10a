//! Every number in every packet that carries a reason code, against a list that is written from
//! the specification and not from the table.

use super::*;

/// Section 2.4 of 5.0, with the codes that the tables of the packets themselves allow.
#[rustfmt::skip]
const SPECIFICATION: [(PacketType, &[u8]); 9] = [
    (PacketType::Connack, &[
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ]),
    (PacketType::Puback, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    (PacketType::Pubrec, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    (PacketType::Pubrel, &[0x00, 0x92]),
    (PacketType::Pubcomp, &[0x00, 0x92]),
    (PacketType::Suback, &[
        0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
    ]),
    (PacketType::Unsuback, &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
    (PacketType::Disconnect, &[
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93,
        0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ]),
    (PacketType::Auth, &[0x00, 0x18, 0x19]),
];

/// The column "sent by" of table 3-10: what a client may give.
const OF_CLIENTS: [u8; 14] =
    [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

#[test]
fn a_client_disconnects_with_its_own_reasons_and_no_others() {
    for &reason in ReasonCode::ALL {
        let is_of_clients = OF_CLIENTS.contains(&(reason as u8));
        assert_eq!(reason.is_valid_in(PacketSet::CLIENT_DISCONNECT), is_of_clients, "{reason:?}");
    }
}

fn packet_with(kind: PacketType, code: u8) -> Vec<u8> {
    let body = match kind {
        PacketType::Connack => vec![0, code, 0],
        PacketType::Suback | PacketType::Unsuback => vec![0, 1, 0, code],
        PacketType::Disconnect => vec![code],
        PacketType::Auth => [&[code, 4], b"\x15\x00\x01m" as &[u8]].concat(),
        _ => vec![0, 1, code],
    };
    packet(kind.first_byte(), &body)
}

#[test]
fn a_packet_carries_its_own_codes_and_no_others() {
    for (kind, codes) in SPECIFICATION {
        for code in 0..=0xFF {
            let bytes = packet_with(kind, code);
            let result = decode(&bytes, Version::V5);
            if codes.contains(&code) {
                assert!(result.is_ok(), "{kind:?} {code:#04x}");
                continue;
            }
            // [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
            // [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
            assert_eq!(result, Err(DecodeError::ReasonCodeInvalid { code }), "{kind:?}");
        }
    }
}

#[test]
fn the_table_has_each_code_of_the_specification_once() {
    let mut codes: Vec<u8> = SPECIFICATION.iter().flat_map(|(_, codes)| *codes).copied().collect();
    codes.sort_unstable();
    codes.dedup();
    let ours: Vec<u8> = ReasonCode::ALL.iter().map(|&reason| reason.into()).collect();
    assert_eq!(ours, codes);
    for reason in ReasonCode::ALL {
        assert_eq!(ReasonCode::from_u8(*reason as u8), Some(*reason));
        assert_eq!(reason.is_error(), *reason as u8 >= 0x80);
        assert!(!reason.name().is_empty());
    }
}

#[test]
fn connack_return_codes_of_3_1_1() {
    for (code, reason) in [(0, 0x00), (1, 0x84), (2, 0x85), (3, 0x88), (4, 0x86), (5, 0x87)] {
        let reason = ReasonCode::from_u8(reason).expect("in the table");
        assert_eq!(ReasonCode::from_v311_connect_return_code(code), Some(reason));
        assert_eq!(reason.v311_connect_return_code(), code);
        accepts(&V3, 0x20, &[0, code]);
    }
    for code in 6..=0xFF {
        refuses(&V3, 0x20, &[0, code], DecodeError::ReasonCodeInvalid { code }, 0x82);
    }
}

/// A refusal must not turn into an acceptance on its way to a client of 3.1.1.
#[test]
fn errors_stay_errors_in_3_1_1() {
    for reason in ReasonCode::ALL {
        assert!((0..=5).contains(&reason.v311_connect_return_code()));
        assert_eq!(reason.is_error(), reason.v311_connect_return_code() != 0, "{reason:?}");
    }
}
