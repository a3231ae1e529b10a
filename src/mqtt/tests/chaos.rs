//! Bytes that nobody meant, and bytes that come in pieces.

use proptest::collection::vec;
use proptest::prelude::*;

use super::round_trip::any_packet;
use super::*;

/// Decodes as much as is there; what is accepted must encode to a packet that reads the same.
fn digest(mut bytes: &[u8], version: Version) {
    while let Ok(Some((frame, used))) = split(bytes, PACKET_BYTES_MAX) {
        assert_eq!(wanted(bytes), Some(used));
        if let Ok(packet) = Packet::decode(frame, version) {
            let again = encode(&packet, version);
            assert_eq!(decode(&again, version), Ok(packet));
            walk(packet);
        }
        bytes = &bytes[used..];
    }
}

/// Reads what is only read on demand; of valid bytes all of it must be there.
fn walk(packet: Packet<'_>) {
    match packet {
        Packet::Subscribe(subscribe) => assert!(subscribe.subscriptions.iter().count() > 0),
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters.iter().count() > 0),
        Packet::Publish(publish) => {
            let len: usize = publish.properties.iter().map(Property::encoded_len).sum();
            assert_eq!(len, publish.properties.raw().len());
        }
        _ => {}
    }
}

/// Changes one byte, cuts, or inserts.
fn damage(bytes: &mut Vec<u8>, at: usize, how: u8, byte: u8) {
    let at = at % bytes.len();
    match how % 4 {
        0 => bytes[at] = byte,
        1 => bytes[at] ^= 1 << (byte % 8),
        2 => bytes.insert(at, byte),
        _ => drop(bytes.remove(at)),
    }
    // Half of the time the length is made right again, so that the damage is looked at.
    if byte & 1 == 0 && (2..130).contains(&bytes.len()) {
        bytes[1] = bytes.len() as u8 - 2;
    }
}

fn any_version() -> impl Strategy<Value = Version> {
    prop::sample::select(ALL.to_vec())
}

/// Feeds `stream` in pieces and returns every packet, encoded again.
fn feed(stream: &[u8], pieces: &[usize], version: Version) -> Vec<Vec<u8>> {
    let (mut packets, mut held, mut rest) = (vec![], vec![], stream);
    let mut pieces = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces.next().unwrap_or(1).clamp(1, rest.len()));
        held.extend_from_slice(piece);
        rest = after;
        while let Some((frame, used)) = split(&held, PACKET_BYTES_MAX).expect("valid") {
            let packet = Packet::decode(frame, version).expect("valid");
            packets.push(encode(&packet, version));
            held.drain(..used);
        }
    }
    assert!(held.is_empty(), "half a packet is left");
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..80), version in any_version()) {
        digest(&bytes, version);
    }

    #[test]
    fn no_body_panics(
        kind in 1_u8..16, flags in 0_u8..16, version in any_version(),
        body in vec(prop_oneof![3 => 0_u8..8, 1 => any::<u8>()], 0..60),
    ) {
        digest(&packet(kind << 4 | flags, &body), version);
        let first_byte = PacketType::from_number(kind).expect("a type").first_byte();
        digest(&packet(first_byte, &body), version);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_damaged_packet_panics(
        (version, owned) in any_version().prop_flat_map(|v| (Just(v), any_packet(v))),
        damages in vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..20),
    ) {
        let mut scratch = vec![];
        let whole = encode(&owned.borrow(version, &mut scratch), version);
        for (at, how, byte) in damages {
            let mut bytes = whole.clone();
            damage(&mut bytes, at % 200, how, byte);
            ALL.into_iter().for_each(|version| digest(&bytes, version));
        }
    }

    #[test]
    fn pieces_do_not_matter(
        (version, owned) in any_version().prop_flat_map(|v| (Just(v), vec(any_packet(v), 1..5))),
        pieces in vec(prop_oneof![1_usize..8, 1_usize..2000], 1..10),
    ) {
        let packets: Vec<Vec<u8>> = owned
            .iter()
            .map(|owned| encode(&owned.borrow(version, &mut vec![]), version))
            .filter(|bytes| bytes.len() < 20_000)
            .collect();
        prop_assert_eq!(feed(&packets.concat(), &pieces, version), packets);
    }
}

/// Every way to cut a stream in two, and one byte at a time.
#[test]
fn every_cut_gives_the_same_packets() {
    let packets = [
        packet(0x10, b"\0\x04MQTT\x04\x02\0\x0A\0\x01c"),
        packet(0x82, b"\0\x01\0\x03a/#\x01"),
        packet(0x32, b"\0\x01t\0\x02payload"),
        [&[0x30_u8, 0x85, 0x01] as &[u8], b"\0\x01t", &[7; 130]].concat(),
        packet(0xC0, b""),
        packet(0xE0, b""),
    ];
    let stream = packets.concat();
    for cut in 1..stream.len() {
        assert_eq!(feed(&stream, &[cut, stream.len()], Version::V311), packets);
    }
    assert_eq!(feed(&stream, &[1], Version::V311), packets);
}
