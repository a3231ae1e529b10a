//! Scripts: packets and deliveries in, recorded packets out.

use super::*;
use crate::config::Limits;
use crate::metrics::Ledger;
use crate::mqtt::{Ack, PacketId, Properties, QoS, TopicName, Version};

/// Stands for the client: what it was sent, and whether it can be reached.
struct Recorder {
    reach: Reach,
    sent: Vec<String>,
    ledger: Ledger,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { reach: Reach::Open, sent: Vec::new(), ledger: Ledger::default() }
    }
}

impl Recorder {
    fn take(&mut self) -> Vec<String> {
        self.ledger.balance().expect("every matched delivery is accounted for");
        std::mem::take(&mut self.sent)
    }
}

impl Output for Recorder {
    fn reach(&mut self) -> Reach {
        self.reach
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(Version::V311, &mut bytes);
        let name = match packet {
            Packet::Puback(_) => "PUBACK",
            Packet::Pubrec(_) => "PUBREC",
            Packet::Pubrel(_) => "PUBREL",
            Packet::Pubcomp(_) => "PUBCOMP",
            Packet::Pingresp => return self.sent.push("PINGRESP".to_owned()),
            other => panic!("a session does not send {other:?}"),
        };
        self.sent.push(format!("{name} {}", u16::from_be_bytes([bytes[2], bytes[3]])));
    }

    fn deliver(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        qos: QoS,
        retain: bool,
        packet_id: Option<PacketId>,
        dup: bool,
    ) {
        let payload = std::str::from_utf8(outgoing.view().payload).unwrap();
        let id = packet_id.map_or(0, PacketId::get);
        let flags =
            format!("{}{}", if dup { " dup" } else { "" }, if retain { " ret" } else { "" });
        self.sent.push(format!("PUBLISH {id} q{} {payload}{flags}", qos as u8));
    }

    fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}

const WINDOW: u16 = 3;

fn session() -> Session {
    Session::new("client", true, WINDOW)
}

fn publish(payload: &str, qos: QoS, packet_id: u16) -> Publish<'_> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: TopicName::parse("t").unwrap(),
        packet_id: PacketId::new(packet_id),
        properties: Properties::EMPTY,
        payload: payload.as_bytes(),
    }
}

fn give(session: &mut Session, out: &mut Recorder, payload: &str, qos: QoS) {
    give_within(session, out, payload, qos, &Limits::default());
}

fn give_within(s: &mut Session, out: &mut Recorder, payload: &str, qos: QoS, limits: &Limits) {
    let mut outgoing = Outgoing::borrowed(publish(payload, QoS::AtMostOnce, 0));
    s.handle_delivery(&mut outgoing, qos, false, limits, out);
}

fn ack(id: u16) -> Ack<'static> {
    Ack::success(PacketId::new(id).unwrap())
}

fn feed(session: &mut Session, out: &mut Recorder, packet: Packet<'_>) {
    assert!(matches!(session.handle_packet(packet, out), Ok(Ask::Nothing)));
}

/// Sends a publish in; the number under which it waits for its acknowledgement.
fn send_in(session: &mut Session, out: &mut Recorder, qos: QoS, id: u16) -> Option<Sequence> {
    match session.handle_packet(Packet::Publish(publish("in", qos, id)), out).unwrap() {
        Ask::Publish(_, sequence) => sequence,
        Ask::Nothing => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn delivers_in_order_within_the_window() {
    let (mut session, mut out) = (session(), Recorder::default());
    for payload in ["a", "b", "c", "d", "e"] {
        give(&mut session, &mut out, payload, QoS::AtLeastOnce);
    }
    assert_eq!(out.take(), ["PUBLISH 1 q1 a", "PUBLISH 2 q1 b", "PUBLISH 3 q1 c"]);
    feed(&mut session, &mut out, Packet::Puback(ack(2)));
    assert_eq!(out.take(), ["PUBLISH 2 q1 d"]);
    feed(&mut session, &mut out, Packet::Puback(ack(1)));
    assert_eq!(out.take(), ["PUBLISH 1 q1 e"]);
    assert_eq!((session.inflight_count(), session.queued_count()), (3, 0));
}

#[test]
fn repeats_in_the_original_order_with_dup() {
    // [MQTT-4.4.0-1], [MQTT-4.6.0-1]
    let (mut session, mut out) = (session(), Recorder::default());
    for payload in ["a", "b", "c", "d"] {
        give(&mut session, &mut out, payload, QoS::AtLeastOnce);
    }
    feed(&mut session, &mut out, Packet::Puback(ack(1)));
    out.take();
    session.handle_disconnected();
    out.reach = Reach::Offline;
    give(&mut session, &mut out, "e", QoS::AtLeastOnce);
    assert_eq!(out.take(), [""; 0]);
    out.reach = Reach::Open;
    session.handle_resumed(true, WINDOW, &mut out);
    // d has the free identifier 1 and is still the last.
    assert_eq!(out.take(), ["PUBLISH 2 q1 b dup", "PUBLISH 3 q1 c dup", "PUBLISH 1 q1 d dup"]);
    feed(&mut session, &mut out, Packet::Puback(ack(3)));
    assert_eq!(out.take(), ["PUBLISH 3 q1 e"]);
}

#[test]
fn qos_2_keeps_only_the_identifier_after_pubrec() {
    let (mut session, mut out) = (session(), Recorder::default());
    give(&mut session, &mut out, "a", QoS::ExactlyOnce);
    give(&mut session, &mut out, "b", QoS::ExactlyOnce);
    out.take();
    feed(&mut session, &mut out, Packet::Pubrec(ack(2)));
    feed(&mut session, &mut out, Packet::Pubrec(ack(1)));
    assert_eq!(out.take(), ["PUBREL 2", "PUBREL 1"]);
    session.handle_disconnected();
    session.handle_resumed(true, WINDOW, &mut out);
    // In the order of the PUBREC [MQTT-4.6.0-4].
    assert_eq!(out.take(), ["PUBREL 2", "PUBREL 1"]);
    feed(&mut session, &mut out, Packet::Pubcomp(ack(1)));
    feed(&mut session, &mut out, Packet::Pubcomp(ack(2)));
    assert_eq!(session.inflight_count(), 0);
    assert_eq!(out.ledger.delivered, 2);
}

#[test]
fn an_acknowledgement_of_the_other_kind_settles_nothing() {
    let (mut session, mut out) = (session(), Recorder::default());
    give(&mut session, &mut out, "a", QoS::AtLeastOnce);
    give(&mut session, &mut out, "b", QoS::ExactlyOnce);
    feed(&mut session, &mut out, Packet::Puback(ack(2)));
    feed(&mut session, &mut out, Packet::Pubcomp(ack(1)));
    feed(&mut session, &mut out, Packet::Pubcomp(ack(2)));
    feed(&mut session, &mut out, Packet::Puback(ack(9)));
    assert_eq!(session.inflight_count(), 2);
    out.take();
}

#[test]
fn an_identifier_in_use_is_not_used_again() {
    // [MQTT-2.3.1-4]: one that is never acknowledged stays taken over 70,000 others.
    let (mut session, mut out) = (session(), Recorder::default());
    give(&mut session, &mut out, "stuck", QoS::AtLeastOnce);
    for _ in 0..70_000 {
        give(&mut session, &mut out, "x", QoS::AtLeastOnce);
        let sent = out.sent.pop().unwrap();
        let id = sent.split(' ').nth(1).unwrap().parse().unwrap();
        assert_ne!(id, 1);
        feed(&mut session, &mut out, Packet::Puback(ack(id)));
    }
    assert_eq!(out.take(), ["PUBLISH 1 q1 stuck"]);
}

#[test]
fn when_all_identifiers_are_in_use_deliveries_wait() {
    let mut session = Session::new("client", true, u16::MAX);
    let mut out = Recorder::default();
    for _ in 0..=u16::MAX {
        give(&mut session, &mut out, "x", QoS::AtLeastOnce);
    }
    assert_eq!((session.inflight_count(), session.queued_count()), (65_535, 1));
    out.sent.clear();
    feed(&mut session, &mut out, Packet::Puback(ack(77)));
    assert_eq!(out.take(), ["PUBLISH 77 q1 x"]);
}

#[test]
fn an_acknowledged_identifier_is_not_the_next_to_be_used_again() {
    let (mut session, mut out) = (session(), Recorder::default());
    give(&mut session, &mut out, "a", QoS::ExactlyOnce);
    feed(&mut session, &mut out, Packet::Pubrec(ack(1)));
    give(&mut session, &mut out, "b", QoS::ExactlyOnce);
    assert_eq!(out.take(), ["PUBLISH 1 q2 a", "PUBREL 1", "PUBLISH 2 q2 b"]);
}

#[test]
fn acknowledges_when_every_matched_home_has_accepted() {
    let (mut session, mut out) = (session(), Recorder::default());
    let sequence = send_in(&mut session, &mut out, QoS::AtLeastOnce, 7).unwrap();
    session.handle_accepted(sequence, &mut out);
    session.handle_counted(sequence, 2, &mut out);
    assert_eq!(out.take(), [""; 0]);
    session.handle_accepted(sequence, &mut out);
    assert_eq!(out.take(), ["PUBACK 7"]);
    assert_eq!(session.pending_count(), 0);
}

#[test]
fn acknowledges_in_the_order_of_the_publishes() {
    // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
    let (mut session, mut out) = (session(), Recorder::default());
    let first = send_in(&mut session, &mut out, QoS::AtLeastOnce, 1).unwrap();
    let second = send_in(&mut session, &mut out, QoS::ExactlyOnce, 2).unwrap();
    let third = send_in(&mut session, &mut out, QoS::AtLeastOnce, 3).unwrap();
    session.handle_counted(third, 0, &mut out);
    session.handle_counted(second, 0, &mut out);
    assert_eq!(out.take(), [""; 0]);
    session.handle_counted(first, 0, &mut out);
    assert_eq!(out.take(), ["PUBACK 1", "PUBREC 2", "PUBACK 3"]);
}

#[test]
fn a_duplicate_of_qos_2_is_answered_and_not_routed() {
    // [MQTT-4.3.3-2]
    let (mut session, mut out) = (session(), Recorder::default());
    let sequence = send_in(&mut session, &mut out, QoS::ExactlyOnce, 5).unwrap();
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 5), None);
    assert_eq!(out.take(), [""; 0]);
    session.handle_counted(sequence, 0, &mut out);
    assert_eq!(out.take(), ["PUBREC 5"]);
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 5), None);
    assert_eq!(out.take(), ["PUBREC 5"]);
    feed(&mut session, &mut out, Packet::Pubrel(ack(5)));
    feed(&mut session, &mut out, Packet::Pubrel(ack(5)));
    assert_eq!(out.take(), ["PUBCOMP 5", "PUBCOMP 5"]);
    assert!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 5).is_some());
}

#[test]
fn what_was_asked_on_an_old_connection_is_not_answered_on_the_new_one() {
    let (mut session, mut out) = (session(), Recorder::default());
    let qos1 = send_in(&mut session, &mut out, QoS::AtLeastOnce, 1).unwrap();
    let qos2 = send_in(&mut session, &mut out, QoS::ExactlyOnce, 2).unwrap();
    let again = send_in(&mut session, &mut out, QoS::ExactlyOnce, 3).unwrap();
    session.handle_disconnected();
    session.handle_resumed(true, WINDOW, &mut out);
    // Identifier 3 comes again on the new connection, 2 does not.
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 3), None);
    for sequence in [qos1, qos2, again] {
        session.handle_counted(sequence, 0, &mut out);
    }
    assert_eq!(out.take(), ["PUBREC 3"]);
    // 2 was accepted before: routed once, answered now [MQTT-4.3.3-2].
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 2), None);
    assert_eq!(out.take(), ["PUBREC 2"]);
}

#[test]
fn over_a_limit_the_newest_is_dropped_and_counted() {
    let limits = Limits { queue_count_max: 2, queue_bytes_max: 1000, ..Limits::default() };
    let (mut session, mut out) = (session(), Recorder::default());
    out.reach = Reach::Offline;
    for payload in ["a", "b", "c"] {
        give_within(&mut session, &mut out, payload, QoS::AtLeastOnce, &limits);
    }
    out.reach = Reach::Open;
    session.handle_resumed(true, WINDOW, &mut out);
    assert_eq!(out.take(), ["PUBLISH 1 q1 a", "PUBLISH 2 q1 b"]);
    assert_eq!(out.ledger.dropped[DropCause::QueueFull as usize], 1);
    let long = "x".repeat(1001);
    out.reach = Reach::Full;
    give_within(&mut session, &mut out, &long, QoS::AtLeastOnce, &limits);
    assert_eq!(out.ledger.dropped[DropCause::QueueBytesFull as usize], 1);
    out.take();
}

#[test]
fn qos_0_is_dropped_while_it_cannot_be_sent() {
    let (mut session, mut out) = (session(), Recorder::default());
    out.reach = Reach::Full;
    give(&mut session, &mut out, "a", QoS::AtMostOnce);
    out.reach = Reach::Offline;
    give(&mut session, &mut out, "b", QoS::AtMostOnce);
    assert_eq!(out.ledger.dropped[DropCause::OutboxFull as usize], 1);
    assert_eq!(out.ledger.dropped[DropCause::Offline as usize], 1);
    assert_eq!(out.take(), [""; 0]);
}

#[test]
fn qos_0_is_queued_while_offline_if_so_configured() {
    let limits = Limits { queue_qos0_offline: true, ..Limits::default() };
    let (mut session, mut out) = (session(), Recorder::default());
    out.reach = Reach::Offline;
    give_within(&mut session, &mut out, "a", QoS::AtMostOnce, &limits);
    out.reach = Reach::Open;
    session.handle_resumed(true, WINDOW, &mut out);
    assert_eq!(out.take(), ["PUBLISH 0 q0 a"]);
    assert_eq!(out.ledger.delivered, 1);
}

#[test]
fn a_full_outbox_makes_deliveries_wait_for_room() {
    let (mut session, mut out) = (session(), Recorder::default());
    out.reach = Reach::Full;
    give(&mut session, &mut out, "a", QoS::AtLeastOnce);
    assert_eq!(out.take(), [""; 0]);
    out.reach = Reach::Open;
    session.handle_room(&mut out);
    assert_eq!(out.take(), ["PUBLISH 1 q1 a"]);
}

#[test]
fn the_end_of_a_session_accounts_for_what_it_held() {
    let (mut session, mut out) = (session(), Recorder::default());
    for payload in ["a", "b", "c", "d"] {
        give(&mut session, &mut out, payload, QoS::AtLeastOnce);
    }
    session.handle_ended(&mut out);
    assert_eq!(out.ledger.dropped[DropCause::SessionEnded as usize], 4);
    out.take();
}

#[test]
fn packets_that_no_client_sends_are_errors() {
    let (mut session, mut out) = (session(), Recorder::default());
    let result = session.handle_packet(Packet::Pingresp, &mut out);
    assert_eq!(result.unwrap_err(), ProtocolError::ServerOnly);
}
