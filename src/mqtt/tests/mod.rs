//! What concerns more than one packet, and the words in which the tests beside the code speak.

mod chaos;
mod properties;
mod reasons;
mod round_trip;

use super::*;

/// All versions.
pub(super) const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];
/// The versions without properties.
pub(super) const V3: [Version; 2] = [Version::V31, Version::V311];
pub(super) const V31: [Version; 1] = [Version::V31];
pub(super) const V311: [Version; 1] = [Version::V311];
pub(super) const V5: [Version; 1] = [Version::V5];
/// 3.1.1 and 5.0, which are stricter than 3.1.
pub(super) const STRICT: [Version; 2] = [Version::V311, Version::V5];

/// A packet of a body that is shorter than 128 bytes.
pub(super) fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(body.len()).expect("the body is short");
    assert!(len < 0x80, "the body is short");
    [&[first_byte, len], body].concat()
}

/// What becomes of `bytes`, which hold one packet to the last byte.
pub(super) fn decode(bytes: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    let (frame, used) = split(bytes, PACKET_BYTES_MAX)?.expect("a whole packet");
    assert_eq!(used, bytes.len());
    assert_eq!(wanted(bytes), Some(used));
    Packet::decode(frame, version)
}

pub(super) fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = vec![];
    packet.encode(version, &mut out);
    out
}

/// The packet is valid in each of `versions`, and encodes to the very same bytes.
#[track_caller]
pub(super) fn accepts(versions: &[Version], first_byte: u8, body: &[u8]) {
    for &version in versions {
        let bytes = packet(first_byte, body);
        let packet = decode(&bytes, version);
        let packet = packet.unwrap_or_else(|error| panic!("{version:?} {bytes:02x?}: {error}"));
        assert_eq!(encode(&packet, version), bytes, "{version:?}");
    }
}

/// The packet is valid in each of `versions`, and encodes to the shorter `canonical`.
#[track_caller]
pub(super) fn accepts_as(versions: &[Version], first_byte: u8, body: &[u8], canonical: &[u8]) {
    for &version in versions {
        let bytes = packet(first_byte, body);
        let packet = decode(&bytes, version).expect("valid");
        assert_eq!(encode(&packet, version), canonical, "{version:?}");
    }
}

/// The packet is refused in each of `versions`, for the reason that a 5.0 peer is told.
#[track_caller]
pub(super) fn refuses(
    versions: &[Version],
    first_byte: u8,
    body: &[u8],
    error: DecodeError,
    reason: u8,
) {
    for &version in versions {
        let bytes = packet(first_byte, body);
        assert_eq!(decode(&bytes, version), Err(error), "{version:?} {bytes:02x?}");
        assert_eq!(error.reason() as u8, reason, "{error}");
    }
}

/// Every proper prefix of the body is refused as malformed, or is a shorter packet that
/// `is_valid` knows of.
#[track_caller]
pub(super) fn refuses_cut(
    version: Version,
    first_byte: u8,
    body: &[u8],
    is_valid: impl Fn(usize) -> bool,
) {
    for len in (0..body.len()).filter(|&len| !is_valid(len)) {
        let bytes = packet(first_byte, &body[..len]);
        let error = decode(&bytes, version).expect_err("a cut packet");
        let is_cut = matches!(error, DecodeError::Truncated | DecodeError::EntriesMissing);
        assert!(is_cut, "{version:?} {bytes:02x?}: {error}");
    }
}

#[test]
fn what_is_hot_is_small() {
    assert!(size_of::<Packet<'_>>() <= 160, "{}", size_of::<Packet<'_>>());
    assert!(size_of::<DecodeError>() <= 8);
    assert_eq!(size_of::<Option<PacketId>>(), 2);
}

#[test]
fn versions_and_qualities_of_service_have_their_numbers() {
    assert_eq!(ALL.map(Version::level), [3, 4, 5]);
    assert_eq!(ALL.map(Version::is_v5), [false, false, true]);
    for number in 0..3 {
        assert_eq!(QoS::try_from(number).map(u8::from), Ok(number));
    }
    assert_eq!(QoS::try_from(3), Err(DecodeError::QosReserved));
    assert_eq!(PacketId::new(0), None);
    assert_eq!(PacketId::new(65_535).map(PacketId::get), Some(65_535));
}
