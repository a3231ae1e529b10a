//! Scripts: packets and deliveries in, recorded packets out.

use super::*;
use crate::config::Limits;
use crate::metrics::Ledger;
use crate::mqtt::{Ack, PacketId, Properties, Property, QoS, TopicName, Version};

/// Stands for the client: what it was sent, and whether it can be reached.
struct Recorder {
    now: Time,
    reach: Reach,
    payload_bytes_max: usize,
    allowance: Allowance,
    sent: Vec<String>,
    given_back: Vec<Delivery>,
    is_asked_for_room: bool,
    ledger: Ledger,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            now: Time::START,
            reach: Reach::Open,
            payload_bytes_max: usize::MAX,
            allowance: Allowance::default(),
            sent: Vec::new(),
            given_back: Vec::new(),
            is_asked_for_room: false,
            ledger: Ledger::default(),
        }
    }
}

impl Recorder {
    fn take(&mut self) -> Vec<String> {
        self.ledger.balance().expect("every matched delivery is accounted for");
        std::mem::take(&mut self.sent)
    }
}

impl Output for Recorder {
    fn now(&self) -> Time {
        self.now
    }

    fn reach(&mut self) -> Reach {
        self.reach
    }

    fn fits(&mut self, outgoing: &mut Outgoing<'_>, _: &Terms) -> bool {
        outgoing.view().payload.len() <= self.payload_bytes_max
    }

    fn ask_for_room(&mut self) {
        self.is_asked_for_room = true;
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        let reason = bytes.get(4).map_or(String::new(), |reason| format!(" {reason:#x}"));
        let name = match packet {
            Packet::Puback(_) => "PUBACK",
            Packet::Pubrec(_) => "PUBREC",
            Packet::Pubrel(_) => "PUBREL",
            Packet::Pubcomp(_) => "PUBCOMP",
            Packet::Pingresp => return self.sent.push("PINGRESP".to_owned()),
            other => panic!("a session does not send {other:?}"),
        };
        let id = u16::from_be_bytes([bytes[2], bytes[3]]);
        self.sent.push(format!("{name} {id}{reason}"));
    }

    fn deliver(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        terms: &Terms,
        packet_id: Option<PacketId>,
        dup: bool,
    ) {
        let payload = std::str::from_utf8(outgoing.view().payload).unwrap();
        let id = packet_id.map_or(0, PacketId::get);
        let dup = if dup { " dup" } else { "" };
        let retain = if terms.retain { " ret" } else { "" };
        self.sent.push(format!("PUBLISH {id} q{} {payload}{dup}{retain}", terms.qos as u8));
    }

    fn give_back(&mut self, delivery: Delivery) {
        self.given_back.push(delivery);
    }

    fn allowance(&self) -> Allowance {
        self.allowance
    }

    fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}

const WINDOW: u16 = 3;

/// What a 3.1.1 client with a session that stays agrees on.
const AGREEMENT: Agreement = Agreement {
    expiry_interval_s: NEVER,
    window: WINDOW,
    alias_count_max: 0,
    receive_count_max: None,
    may_retain: true,
};

fn session() -> Session {
    Session::new("client", &AGREEMENT)
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
    s.handle_delivery(&mut outgoing, &Terms::plain(qos, false), limits, out);
}

fn ack(id: u16) -> Ack<'static> {
    Ack::success(PacketId::new(id).unwrap())
}

fn feed(session: &mut Session, out: &mut Recorder, packet: Packet<'_>) {
    assert!(matches!(session.handle_packet(&packet, out), Ok(Ask::Nothing)));
}

/// Sends a publish in; the number under which it waits for its acknowledgement.
fn send_in(session: &mut Session, out: &mut Recorder, qos: QoS, id: u16) -> Option<Sequence> {
    match session.handle_packet(&Packet::Publish(publish("in", qos, id)), out).unwrap() {
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
    session.handle_disconnected(&mut out);
    out.reach = Reach::Offline;
    give(&mut session, &mut out, "e", QoS::AtLeastOnce);
    assert_eq!(out.take(), [""; 0]);
    out.reach = Reach::Open;
    session.handle_resumed(&AGREEMENT, &mut out);
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
    session.handle_disconnected(&mut out);
    session.handle_resumed(&AGREEMENT, &mut out);
    // In the order of the PUBREC [MQTT-4.6.0-4].
    assert_eq!(out.take(), ["PUBREL 2", "PUBREL 1"]);
    feed(&mut session, &mut out, Packet::Pubcomp(ack(1)));
    feed(&mut session, &mut out, Packet::Pubcomp(ack(2)));
    assert_eq!(session.inflight_count(), 0);
    assert_eq!(out.ledger.delivered, 2);
}

/// [MQTT-4.6.0-3]: the first was refused while the client was away, and is routed again when it
/// comes again; the second was not refused.
#[test]
fn a_duplicate_is_answered_behind_what_came_before_it() {
    for is_late in [false, true] {
        let (mut session, mut out) = (session(), Recorder::default());
        let send = |session: &mut Session, id| {
            send_in(session, &mut Recorder::default(), QoS::ExactlyOnce, id)
        };
        let sent = [send(&mut session, 1), send(&mut session, 2)].map(Option::unwrap);
        session.handle_disconnected(&mut out);
        session.handle_counted(sent[0], 0, ReasonCode::QuotaExceeded, &mut out);
        if !is_late {
            session.handle_counted(sent[1], 0, ReasonCode::Success, &mut out);
        }
        session.handle_resumed(&AGREEMENT, &mut out);
        let again = send(&mut session, 1).expect("it is routed again");
        assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 2), None);
        if is_late {
            session.handle_counted(sent[1], 0, ReasonCode::Success, &mut out);
        }
        assert_eq!(out.take(), [""; 0]);
        session.handle_counted(again, 0, ReasonCode::Success, &mut out);
        assert_eq!(out.take(), ["PUBREC 1", "PUBREC 2"]);
    }
}

/// It was never routed, so no home would ever accept it.
#[test]
fn what_exceeds_a_share_holds_up_no_acknowledgement() {
    let (mut session, mut out) = (session(), Recorder::default());
    out.allowance.held_bytes_max = 0;
    let mut routed = Vec::new();
    let error = loop {
        let publish = publish("in", QoS::AtLeastOnce, routed.len() as u16 + 1);
        match session.handle_publish(&publish, &mut out) {
            Ok(taken) => routed.extend(taken.and_then(|(_, sequence)| sequence)),
            Err(error) => break error,
        }
    };
    assert_eq!(error, ProtocolError::OverShare);
    assert_eq!(session.pending_count(), routed.len());
    out.allowance = Allowance::default();
    session.handle_disconnected(&mut out);
    session.handle_resumed(&AGREEMENT, &mut out);
    let next = send_in(&mut session, &mut out, QoS::AtLeastOnce, 1);
    for sequence in routed.into_iter().chain(next) {
        session.handle_counted(sequence, 0, ReasonCode::Success, &mut out);
    }
    assert_eq!(out.take(), ["PUBACK 1"]);
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
    let mut session = Session::new("client", &Agreement { window: u16::MAX, ..AGREEMENT });
    let mut out = Recorder::default();
    for _ in 0..=u16::MAX {
        give(&mut session, &mut out, "x", QoS::AtLeastOnce);
    }
    assert_eq!((session.inflight_count(), session.queued_count()), (65_535, 1));
    out.sent.clear();
    feed(&mut session, &mut out, Packet::Puback(ack(77)));
    assert_eq!(out.take(), ["PUBLISH 77 q1 x"]);
}

/// Parts of what a session does when it is told that there is room, until it does not ask for more;
/// each has the length of what `taken` takes.
fn parts(
    session: &mut Session,
    out: &mut Recorder,
    mut taken: impl FnMut(&mut Recorder) -> usize,
) -> Vec<usize> {
    let mut lengths = Vec::new();
    while std::mem::take(&mut out.is_asked_for_room) {
        session.handle_room(out);
        session.audit().expect("what is charged is there");
        lengths.push(taken(out));
    }
    lengths
}

#[test]
fn a_large_window_is_repeated_in_its_order_a_part_at_a_time() {
    // [MQTT-4.6.0-1]
    let agreement = Agreement { window: 3000, ..AGREEMENT };
    let mut session = Session::new("client", &agreement);
    let mut out = Recorder::default();
    for number in 0..3000 {
        give(&mut session, &mut out, &number.to_string(), QoS::AtLeastOnce);
    }
    for number in 0..1000_u16 {
        feed(&mut session, &mut out, Packet::Puback(ack(number * 7 % 1000 * 2 + 1)));
    }
    for number in 3000..4000 {
        give(&mut session, &mut out, &number.to_string(), QoS::AtLeastOnce);
    }
    out.take();
    session.handle_resumed(&agreement, &mut out);
    assert_eq!(out.sent, [""; 0], "CONNACK is written first");
    let mut sent = Vec::new();
    let lengths = parts(&mut session, &mut out, |out| {
        let part = out.take();
        sent.extend(part.iter().map(|it| it.split(' ').nth(3).unwrap().parse::<u16>().unwrap()));
        part.len()
    });
    assert_eq!(lengths, [AT_ONCE_MAX, AT_ONCE_MAX, 3000 - 2 * AT_ONCE_MAX]);
    let odd = (0..2000).filter(|number| number % 2 == 1);
    assert!(sent.into_iter().eq(odd.chain(2000..4000)));
}

#[test]
fn what_a_client_does_not_take_is_given_back_a_part_at_a_time() {
    let agreement = Agreement { window: 2000, ..AGREEMENT };
    let mut session = Session::new("client", &agreement);
    let mut out = Recorder::default();
    for _ in 0..2000 {
        give_to_member(&mut session, &mut out, "long", QoS::AtLeastOnce);
    }
    out.payload_bytes_max = 3;
    session.handle_resumed(&agreement, &mut out);
    let lengths = parts(&mut session, &mut out, |out| given_back(out).len());
    assert!(lengths.iter().all(|length| *length <= 64), "{lengths:?}");
    assert_eq!(lengths.iter().sum::<usize>(), 2000);
}

#[test]
fn what_has_expired_in_a_queue_is_dropped_a_part_at_a_time() {
    let (mut session, mut out) = (session(), Recorder::default());
    out.reach = Reach::Offline;
    (0..3000).for_each(|_| give_expiring(&mut session, &mut out, "a", 1));
    (out.now, out.reach) = (Time::from_ms(1000), Reach::Open);
    session.handle_resumed(&AGREEMENT, &mut out);
    let mut before = 0;
    let dropped = |out: &mut Recorder| {
        let all = out.ledger.dropped_for(DropCause::Expired);
        (all - std::mem::replace(&mut before, all)) as usize
    };
    // The first part is of the resume.
    let lengths = parts(&mut session, &mut out, dropped);
    assert_eq!(lengths, [2 * AT_ONCE_MAX, 3000 - 2 * AT_ONCE_MAX]);
    assert_eq!((out.take().len(), session.queued_count()), (0, 0));
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
    session.handle_counted(sequence, 2, ReasonCode::Success, &mut out);
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
    session.handle_counted(third, 0, ReasonCode::Success, &mut out);
    session.handle_counted(second, 0, ReasonCode::Success, &mut out);
    assert_eq!(out.take(), [""; 0]);
    session.handle_counted(first, 0, ReasonCode::Success, &mut out);
    assert_eq!(out.take(), ["PUBACK 1", "PUBREC 2", "PUBACK 3"]);
}

#[test]
fn a_duplicate_of_qos_2_is_answered_and_not_routed() {
    // [MQTT-4.3.3-2]
    let (mut session, mut out) = (session(), Recorder::default());
    let sequence = send_in(&mut session, &mut out, QoS::ExactlyOnce, 5).unwrap();
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 5), None);
    assert_eq!(out.take(), [""; 0]);
    session.handle_counted(sequence, 0, ReasonCode::Success, &mut out);
    assert_eq!(out.take(), ["PUBREC 5"]);
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 5), None);
    assert_eq!(out.take(), ["PUBREC 5"]);
    feed(&mut session, &mut out, Packet::Pubrel(ack(5)));
    feed(&mut session, &mut out, Packet::Pubrel(ack(5)));
    assert_eq!(out.take(), ["PUBCOMP 5", "PUBCOMP 5 0x92"]);
    assert!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 5).is_some());
}

#[test]
fn what_was_asked_on_an_old_connection_is_not_answered_on_the_new_one() {
    let (mut session, mut out) = (session(), Recorder::default());
    let qos1 = send_in(&mut session, &mut out, QoS::AtLeastOnce, 1).unwrap();
    let qos2 = send_in(&mut session, &mut out, QoS::ExactlyOnce, 2).unwrap();
    let again = send_in(&mut session, &mut out, QoS::ExactlyOnce, 3).unwrap();
    session.handle_disconnected(&mut out);
    session.handle_resumed(&AGREEMENT, &mut out);
    // Identifier 3 comes again on the new connection, 2 does not.
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 3), None);
    for sequence in [qos1, qos2, again] {
        session.handle_counted(sequence, 0, ReasonCode::Success, &mut out);
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
    session.handle_resumed(&AGREEMENT, &mut out);
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
    session.handle_resumed(&AGREEMENT, &mut out);
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
    assert_eq!(end(&mut session, &mut out), 4);
    assert_eq!(out.ledger.dropped[DropCause::SessionEnded as usize], 4);
    out.take();
}

/// Ends a session step by step; how many there were.
fn end(session: &mut Session, out: &mut Recorder) -> usize {
    session.handle_ended(out);
    let mut count = 0;
    while session.give_up_next(out) {
        count += 1;
        out.ledger.balance().expect("every matched delivery is accounted for");
        let held = session.audit().expect("what is charged is there");
        assert_eq!((held.queued, held.in_flight), (out.ledger.queued, out.ledger.in_flight));
    }
    assert_eq!(session.charged_bytes(), 0);
    count
}

#[test]
fn packets_that_no_client_sends_are_errors() {
    let (mut session, mut out) = (session(), Recorder::default());
    let result = session.handle_packet(&Packet::Pingresp, &mut out);
    assert_eq!(result.unwrap_err(), ProtocolError::ServerOnly);
}

fn give_expiring(session: &mut Session, out: &mut Recorder, payload: &str, interval_s: u32) {
    let mut bytes = Vec::new();
    let interval = Property::MessageExpiryIntervalS(interval_s);
    let properties = Properties::write([interval], &mut bytes);
    let publish = Publish { properties, ..publish(payload, QoS::AtMostOnce, 0) };
    let publication = Publication::new(&publish, out.now);
    let terms = Terms::plain(QoS::AtLeastOnce, false);
    let mut outgoing = Outgoing::kept(&publication);
    session.handle_delivery(&mut outgoing, &terms, &Limits::default(), out);
}

#[test]
fn expired_deliveries_are_not_sent_from_the_queue() {
    // [MQTT-3.3.2-5]
    let (mut session, mut out) = (session(), Recorder::default());
    out.reach = Reach::Offline;
    give_expiring(&mut session, &mut out, "a", 1);
    give_expiring(&mut session, &mut out, "b", 60);
    out.now = Time::from_ms(1000);
    out.reach = Reach::Open;
    session.handle_resumed(&AGREEMENT, &mut out);
    assert_eq!(out.take(), ["PUBLISH 1 q1 b"]);
    assert_eq!(out.ledger.dropped[DropCause::Expired as usize], 1);
}

#[test]
fn what_is_too_large_for_the_client_is_dropped_and_counted() {
    // [MQTT-3.1.2-25]
    let (mut session, mut out) = (session(), Recorder::default());
    out.payload_bytes_max = 3;
    give(&mut session, &mut out, "long", QoS::AtLeastOnce);
    give(&mut session, &mut out, "fit", QoS::AtLeastOnce);
    assert_eq!(out.take(), ["PUBLISH 1 q1 fit"]);
    assert_eq!(out.ledger.dropped[DropCause::TooLarge as usize], 1);
}

#[test]
fn an_error_from_the_client_ends_a_delivery() {
    // [MQTT-4.3.3-4]
    let (mut session, mut out) = (session(), Recorder::default());
    give(&mut session, &mut out, "a", QoS::AtLeastOnce);
    give(&mut session, &mut out, "b", QoS::ExactlyOnce);
    out.sent.clear();
    let refused = |id| Ack { reason: ReasonCode::QuotaExceeded, ..ack(id) };
    feed(&mut session, &mut out, Packet::Puback(refused(1)));
    feed(&mut session, &mut out, Packet::Pubrec(refused(2)));
    assert_eq!(out.take(), [""; 0]);
    assert_eq!(session.inflight_count(), 0);
    assert_eq!(out.ledger.dropped[DropCause::RefusedByClient as usize], 2);
}

#[test]
fn an_unknown_identifier_is_named_so() {
    let (mut session, mut out) = (session(), Recorder::default());
    feed(&mut session, &mut out, Packet::Pubrec(ack(7)));
    feed(&mut session, &mut out, Packet::Pubrel(ack(8)));
    assert_eq!(out.take(), ["PUBREL 7 0x92", "PUBCOMP 8 0x92"]);
}

/// What a client sends last, after deliveries at QoS 1 (identifier 1), at QoS 2 (2), and at QoS 2
/// with its PUBREC (3), and a publish of its own at QoS 1 (4).
fn answer(packet: Packet<'_>) -> Result<(), ProtocolError> {
    let (mut session, mut out) = (session(), Recorder::default());
    give(&mut session, &mut out, "a", QoS::AtLeastOnce);
    give(&mut session, &mut out, "b", QoS::ExactlyOnce);
    give(&mut session, &mut out, "c", QoS::ExactlyOnce);
    feed(&mut session, &mut out, Packet::Pubrec(ack(3)));
    send_in(&mut session, &mut out, QoS::AtLeastOnce, 4).unwrap();
    let before = (session.inflight_count(), out.sent.len());
    let result = session.handle_packet(&packet, &mut out);
    if result.is_err() {
        assert_eq!((session.inflight_count(), out.sent.len()), before, "nothing has changed");
    }
    result.map(drop)
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_is_an_error() {
    let wrong = [
        Packet::Pubrec(ack(1)),
        Packet::Pubcomp(ack(1)),
        Packet::Puback(ack(2)),
        Packet::Pubcomp(ack(2)),
        Packet::Puback(ack(3)),
        Packet::Pubrel(ack(4)),
    ];
    for packet in wrong {
        assert_eq!(answer(packet), Err(ProtocolError::Acknowledgement), "{packet:?}");
    }
    let right = [
        Packet::Puback(ack(1)),
        Packet::Pubrec(ack(2)),
        Packet::Pubrec(ack(3)),
        Packet::Pubcomp(ack(3)),
    ];
    let unknown = [Packet::Puback(ack(9)), Packet::Pubrec(ack(9)), Packet::Pubcomp(ack(9))];
    for packet in right.into_iter().chain(unknown) {
        assert_eq!(answer(packet), Ok(()), "{packet:?}");
    }
}

#[test]
fn a_pubcomp_may_be_one_too_many_on_one_connection() {
    let (mut session, mut out) = (session(), Recorder::default());
    feed(&mut session, &mut out, Packet::Pubrec(ack(1)));
    give(&mut session, &mut out, "a", QoS::AtLeastOnce);
    feed(&mut session, &mut out, Packet::Pubcomp(ack(1)));
    assert_eq!(out.take(), ["PUBREL 1 0x92", "PUBLISH 1 q1 a"]);
    session.handle_disconnected(&mut out);
    session.handle_resumed(&AGREEMENT, &mut out);
    let error = session.handle_packet(&Packet::Pubcomp(ack(1)), &mut out).unwrap_err();
    assert_eq!(error, ProtocolError::Acknowledgement);
}

#[test]
fn a_refused_publish_of_qos_2_leaves_its_identifier_free() {
    // [MQTT-4.3.3-9]
    let (mut session, mut out) = (session(), Recorder::default());
    let sequence = send_in(&mut session, &mut out, QoS::ExactlyOnce, 5).unwrap();
    session.handle_counted(sequence, 0, ReasonCode::QuotaExceeded, &mut out);
    assert_eq!(out.take(), ["PUBREC 5 0x97"]);
    assert!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 5).is_some());
}

#[test]
fn one_identifier_names_one_publish() {
    let agreement = Agreement { receive_count_max: Some(10), ..AGREEMENT };
    let (mut session, mut out) = (Session::new("client", &agreement), Recorder::default());
    let first = send_in(&mut session, &mut out, QoS::ExactlyOnce, 5).unwrap();
    assert_eq!(send_in(&mut session, &mut out, QoS::AtLeastOnce, 5), None);
    // A refusal waits for its turn, too [MQTT-4.6.0-2].
    assert_eq!(out.take(), [""; 0]);
    session.handle_counted(first, 0, ReasonCode::Success, &mut out);
    assert_eq!(out.take(), ["PUBREC 5", "PUBACK 5 0x91"]);
    assert!(send_in(&mut session, &mut out, QoS::AtLeastOnce, 6).is_some());
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 6), None);
}

#[test]
fn before_5_0_an_identifier_in_use_is_no_reason_to_lose_a_publish() {
    // A client that has lost its state and cannot be told so.
    let (mut session, mut out) = (session(), Recorder::default());
    let first = send_in(&mut session, &mut out, QoS::ExactlyOnce, 5).unwrap();
    session.handle_counted(first, 0, ReasonCode::Success, &mut out);
    let second = send_in(&mut session, &mut out, QoS::AtLeastOnce, 5).unwrap();
    session.handle_counted(second, 0, ReasonCode::Success, &mut out);
    assert_eq!(out.take(), ["PUBREC 5", "PUBACK 5"]);
}

#[test]
fn repeats_no_more_than_the_new_connection_takes() {
    // [MQTT-3.3.4-9], [MQTT-3.1.2-25]
    let (mut session, mut out) = (session(), Recorder::default());
    for payload in ["a", "long", "c"] {
        give(&mut session, &mut out, payload, QoS::AtLeastOnce);
    }
    out.sent.clear();
    session.handle_disconnected(&mut out);
    out.payload_bytes_max = 3;
    session.handle_resumed(&Agreement { window: 1, ..AGREEMENT }, &mut out);
    give(&mut session, &mut out, "d", QoS::AtLeastOnce);
    assert_eq!(out.take(), ["PUBLISH 1 q1 a dup"]);
    feed(&mut session, &mut out, Packet::Puback(ack(1)));
    assert_eq!(out.take(), ["PUBLISH 3 q1 c dup"]);
    feed(&mut session, &mut out, Packet::Puback(ack(3)));
    assert_eq!(out.take().len(), 1, "d comes last");
    assert_eq!(out.ledger.dropped[DropCause::TooLarge as usize], 1);
}

#[test]
fn a_quota_starts_anew_with_a_connection() {
    let agreement = Agreement { receive_count_max: Some(1), ..AGREEMENT };
    let (mut session, mut out) = (Session::new("client", &agreement), Recorder::default());
    send_in(&mut session, &mut out, QoS::AtLeastOnce, 1).unwrap();
    session.handle_disconnected(&mut out);
    session.handle_resumed(&agreement, &mut out);
    assert!(send_in(&mut session, &mut out, QoS::AtLeastOnce, 1).is_some());
}

#[test]
fn more_than_the_receive_maximum_is_an_error() {
    // [MQTT-3.3.4-7]; at QoS 2 the quota is given back by PUBCOMP only.
    let agreement = Agreement { receive_count_max: Some(2), ..AGREEMENT };
    let (mut session, mut out) = (Session::new("client", &agreement), Recorder::default());
    let first = send_in(&mut session, &mut out, QoS::ExactlyOnce, 1).unwrap();
    session.handle_counted(first, 0, ReasonCode::Success, &mut out);
    send_in(&mut session, &mut out, QoS::AtLeastOnce, 2).unwrap();
    assert_eq!(send_in(&mut session, &mut out, QoS::ExactlyOnce, 1), None);
    let third = Packet::Publish(publish("in", QoS::AtLeastOnce, 3));
    let error = session.handle_packet(&third, &mut out).unwrap_err();
    assert_eq!(error, ProtocolError::ReceiveMaximum);
    feed(&mut session, &mut out, Packet::Pubrel(ack(1)));
    assert!(send_in(&mut session, &mut out, QoS::AtLeastOnce, 3).is_some());
}

#[test]
fn aliases_stand_for_topics_until_the_connection_ends() {
    let agreement = Agreement { alias_count_max: 2, ..AGREEMENT };
    let (mut session, mut out) = (Session::new("client", &agreement), Recorder::default());
    let mut send = |session: &mut Session, topic: Option<&str>, alias: u16| {
        let mut bytes = Vec::new();
        let properties = Properties::write([Property::TopicAlias(alias)], &mut bytes);
        let topic = topic.map_or(TopicName::ALIASED, |topic| TopicName::parse(topic).unwrap());
        let publish = Publish { topic, properties, ..publish("x", QoS::AtMostOnce, 0) };
        match session.handle_packet(&Packet::Publish(publish), &mut out)? {
            Ask::Publish(Incoming::Kept(publication), None) => Ok(publication.topic().to_owned()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(send(&mut session, None, 1), Err(ProtocolError::TopicAliasUnknown));
    assert_eq!(send(&mut session, Some("a"), 1).as_deref(), Ok("a"));
    assert_eq!(send(&mut session, None, 1).as_deref(), Ok("a"));
    assert_eq!(send(&mut session, Some("b"), 1).as_deref(), Ok("b"));
    assert_eq!(send(&mut session, None, 1).as_deref(), Ok("b"));
    assert_eq!(send(&mut session, Some("c"), 3), Err(ProtocolError::TopicAlias));
    session.handle_disconnected(&mut Recorder::default());
    session.handle_resumed(&agreement, &mut Recorder::default());
    assert_eq!(send(&mut session, None, 1), Err(ProtocolError::TopicAliasUnknown));
}

#[test]
fn a_payload_that_is_not_what_it_says_is_refused() {
    let (mut session, mut out) = (session(), Recorder::default());
    let mut bytes = Vec::new();
    let properties = Properties::write([Property::PayloadFormatIndicator(1)], &mut bytes);
    let wrong = |qos, id| Publish { properties, payload: &[0xFF], ..publish("", qos, id) };
    feed(&mut session, &mut out, Packet::Publish(wrong(QoS::AtLeastOnce, 1)));
    feed(&mut session, &mut out, Packet::Publish(wrong(QoS::ExactlyOnce, 2)));
    assert_eq!(out.take(), ["PUBACK 1 0x99", "PUBREC 2 0x99"]);
    let packet = Packet::Publish(wrong(QoS::AtMostOnce, 0));
    assert_eq!(session.handle_packet(&packet, &mut out).unwrap_err(), ProtocolError::PayloadFormat);
}

fn give_shared(session: &mut Session, out: &mut Recorder, payload: &str, share: Option<&str>) {
    let mut outgoing = Outgoing::borrowed(publish(payload, QoS::AtMostOnce, 0));
    let extras = std::rc::Rc::new(Extras { share: share.map(Into::into), ..Extras::default() });
    let terms = Terms { extras: Some(extras), ..Terms::plain(QoS::AtLeastOnce, false) };
    session.handle_delivery(&mut outgoing, &terms, &Limits::default(), out);
}

/// Terms at this QoS of what a shared subscription has chosen the session for.
fn shared(qos: QoS) -> Terms {
    let extras = Extras { share: Some("$share/g/t".into()), ..Extras::default() };
    Terms { extras: Some(std::rc::Rc::new(extras)), ..Terms::plain(qos, false) }
}

fn give_to_member(session: &mut Session, out: &mut Recorder, payload: &str, qos: QoS) {
    let mut outgoing = Outgoing::borrowed(publish(payload, QoS::AtMostOnce, 0));
    session.handle_delivery(&mut outgoing, &shared(qos), &Limits::default(), out);
}

fn given_back(out: &mut Recorder) -> Vec<String> {
    let all = std::mem::take(&mut out.given_back);
    let text = |one: &Delivery| String::from_utf8_lossy(one.publication.payload()).into_owned();
    all.iter().map(text).collect()
}

#[test]
fn what_is_shared_and_too_large_is_given_back_and_not_counted() {
    let (mut session, mut out) = (session(), Recorder::default());
    out.payload_bytes_max = 3;
    for (payload, qos) in
        [("long 0", QoS::AtMostOnce), ("long 1", QoS::AtLeastOnce), ("long 2", QoS::ExactlyOnce)]
    {
        give_to_member(&mut session, &mut out, payload, qos);
    }
    give_to_member(&mut session, &mut out, "fit", QoS::AtLeastOnce);
    assert_eq!(out.take(), ["PUBLISH 1 q1 fit"]);
    assert_eq!(given_back(&mut out), ["long 0", "long 1", "long 2"]);
    assert_eq!((out.ledger.matched, out.ledger.dropped_total()), (1, 0));
}

#[test]
fn what_a_lower_limit_keeps_from_the_client_is_given_back_once() {
    // [MQTT-4.8.2-5]
    let (mut session, mut out) = (session(), Recorder::default());
    give_to_member(&mut session, &mut out, "sent 1", QoS::AtLeastOnce);
    give_to_member(&mut session, &mut out, "sent 2", QoS::ExactlyOnce);
    give(&mut session, &mut out, "not shared", QoS::AtLeastOnce);
    out.reach = Reach::Offline;
    give_to_member(&mut session, &mut out, "queued 1", QoS::AtLeastOnce);
    give_to_member(&mut session, &mut out, "queued 2", QoS::ExactlyOnce);
    give_to_member(&mut session, &mut out, "fit", QoS::ExactlyOnce);
    out.take();
    session.handle_disconnected(&mut out);
    (out.reach, out.payload_bytes_max) = (Reach::Open, 3);
    session.handle_resumed(&AGREEMENT, &mut out);
    // The client may hold the identifier of what was sent at QoS 2.
    assert_eq!(out.take(), ["PUBREL 2", "PUBLISH 3 q2 fit"]);
    assert_eq!(given_back(&mut out), ["sent 1", "queued 1", "queued 2"]);
    assert_eq!(out.ledger.dropped_for(DropCause::Reassigned), 3);
    assert_eq!(out.ledger.dropped_for(DropCause::TooLarge), 1);
    feed(&mut session, &mut out, Packet::Pubcomp(ack(2)));
    assert_eq!(out.ledger.dropped_for(DropCause::TooLarge), 2);
    assert_eq!((session.inflight_count(), session.queued_count()), (1, 0));
    assert_eq!((out.take().len(), out.ledger.delivered), (0, 0));
}

#[test]
fn a_session_that_ends_gives_back_what_was_shared() {
    let (mut session, mut out) = (session(), Recorder::default());
    give_shared(&mut session, &mut out, "a", None);
    give_shared(&mut session, &mut out, "b", Some("$share/g/t"));
    end(&mut session, &mut out);
    assert_eq!(given_back(&mut out), ["b"]);
}

/// Identifiers that were free are used again, so that their order is not that of the deliveries.
#[test]
fn what_was_shared_is_given_back_in_its_order_whatever_the_identifiers() {
    let (mut session, mut out) = (session(), Recorder::default());
    for payload in ["a", "b", "c", "d", "e", "f"] {
        give_shared(&mut session, &mut out, payload, Some("$share/g/t"));
    }
    for id in [2, 1] {
        feed(&mut session, &mut out, Packet::Puback(ack(id)));
    }
    let sent = out.take();
    assert_eq!(sent[2..], ["PUBLISH 3 q1 c", "PUBLISH 2 q1 d", "PUBLISH 1 q1 e"]);
    end(&mut session, &mut out);
    assert_eq!(given_back(&mut out), ["c", "d", "e", "f"]);
}
