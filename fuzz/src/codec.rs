//! The wire format: cutting and decoding never panic, do not depend on how bytes are cut into
//! pieces, and what was accepted is encoded to a packet that reads the same.

use harness::packet::{Packet as SecondOpinion, split_header};
use ringmq::mqtt::{
    DecodeError, Layout, PACKET_BYTES_MAX, Packet, PacketId, PacketType, Property, Publish, QoS,
    Version, split, wanted,
};

/// No bytes of a 3.1 or 3.1.1 client make the decoder panic or contradict itself.
pub fn decode_v311(data: &[u8]) {
    decode_stream(data, Version::V31);
    decode_stream(data, Version::V311);
}

/// The same of a 5.0 client.
pub fn decode_v5(data: &[u8]) {
    decode_stream(data, Version::V5);
}

/// Decoded, encoded, decoded again: the same packet, and the second encoding is the first. The
/// first byte chooses the version.
pub fn round_trip(data: &[u8]) {
    let Some((&first, mut bytes)) = data.split_first() else { return };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(first) % 3];
    while let Ok(Some((frame, used))) = split(bytes, PACKET_BYTES_MAX) {
        if let Ok(packet) = Packet::decode(frame, version) {
            check_round_trip(packet, version, &bytes[..used]);
        }
        bytes = &bytes[used..];
    }
}

fn decode_stream(mut bytes: &[u8], version: Version) {
    loop {
        check_pieces(bytes);
        let Ok(Some((frame, used))) = split(bytes, PACKET_BYTES_MAX) else { return };
        assert_eq!(wanted(bytes), Some(used), "{bytes:02x?}");
        let decoded = Packet::decode(frame, version);
        check_second_opinion(&bytes[..used], &decoded, version);
        if let Ok(packet) = decoded {
            read_on_demand(packet);
        }
        bytes = &bytes[used..];
    }
}

/// Fewer bytes give the same answer, or none yet: a stream may be cut anywhere.
fn check_pieces(bytes: &[u8]) {
    let whole = split(bytes, PACKET_BYTES_MAX);
    let end = whole.as_ref().ok().and_then(|found| found.map(|(_, used)| used));
    let end = end.unwrap_or(bytes.len()).min(bytes.len());
    for cut in (0..end).take(8) {
        match (split(&bytes[..cut], PACKET_BYTES_MAX), &whole) {
            (Ok(None), _) => {}
            (Err(early), Err(late)) => assert_eq!(early, *late, "{cut} of {bytes:02x?}"),
            (found, _) => panic!("{found:?} in {cut} bytes of {bytes:02x?}"),
        }
    }
}

/// A decoder that was written apart takes what a server may send, and must agree about PUBLISH,
/// the only packet that both sides send and that it reads whole.
fn check_second_opinion(bytes: &[u8], decoded: &Result<Packet<'_>, DecodeError>, version: Version) {
    let is_publish = bytes[0] >> 4 == PacketType::Publish as u8;
    if !is_publish || version == Version::V31 || split_header(bytes).is_err() {
        return; // An overlong length is well formed before 5.0; the other decoder refuses it.
    }
    let other = SecondOpinion::decode(bytes, version.is_v5());
    match (decoded, &other) {
        (Ok(_), Err(error)) => panic!("accepted, but {error}: {bytes:02x?}"),
        // It does not look into topics and strings, and takes a subscription identifier.
        (Err(error), Ok(_)) if !is_about_text(*error) => panic!("refused, {error}: {bytes:02x?}"),
        _ => {}
    }
}

fn is_about_text(error: DecodeError) -> bool {
    use DecodeError as E;
    matches!(
        error,
        E::Utf8IllFormed | E::Utf8Nul | E::TopicEmpty | E::TopicNameWildcard | E::TopicTooLong
    )
}

/// Reads what is only read on demand; of a packet that was accepted all of it must be there.
fn read_on_demand(packet: Packet<'_>) {
    match packet {
        Packet::Subscribe(subscribe) => assert!(subscribe.subscriptions.iter().count() > 0),
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters.iter().count() > 0),
        Packet::Publish(publish) => {
            let len: usize = publish.properties.iter().map(Property::encoded_len).sum();
            assert_eq!(len, publish.properties.raw().len());
        }
        Packet::Connect(connect) => {
            let will = connect.will.map_or(0, |will| will.properties.user_properties().count());
            assert!(connect.properties.user_properties().count() + will < PACKET_BYTES_MAX);
        }
        _ => {}
    }
}

fn check_round_trip(packet: Packet<'_>, version: Version, bytes: &[u8]) {
    let once = encode(&packet, version);
    assert!(once.len() <= bytes.len(), "{bytes:02x?} grew to {once:02x?}");
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let again = decode(&once, version);
    assert_eq!(again, packet, "{bytes:02x?} became {once:02x?}");
    assert_eq!(encode(&again, version), once);
    if let Packet::Publish(publish) = packet {
        check_publish(publish, version);
    }
}

fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

fn decode(bytes: &[u8], version: Version) -> Packet<'_> {
    let (frame, used) = split(bytes, PACKET_BYTES_MAX).expect("it was encoded").expect("whole");
    assert_eq!(used, bytes.len());
    Packet::decode(frame, version).expect("it was encoded")
}

/// What is patched into an encoded PUBLISH, and what another version gets of it.
fn check_publish(publish: Publish<'_>, version: Version) {
    let mut out = Vec::new();
    let layout = publish.encode_with(version, &mut out);
    assert_eq!(out.len(), publish.encoded_len(version));
    assert_eq!(&out[layout.payload_at..], publish.payload);
    if publish.qos != QoS::AtMostOnce {
        let id = PacketId::new(0xABCD).expect("it is not 0");
        layout.patch_packet_id(&mut out, id);
        Layout::patch_dup(&mut out, !publish.dup);
        let patched = Publish { dup: !publish.dup, packet_id: Some(id), ..publish };
        assert_eq!(decode(&out, version), Packet::Publish(patched));
    }
    if version.is_v5() && !publish.topic.is_empty() {
        let older = encode(&Packet::Publish(publish), Version::V311);
        let Packet::Publish(older) = decode(&older, Version::V311) else { panic!("a publish") };
        assert_eq!((older.topic, older.payload), (publish.topic, publish.payload));
    }
}
