//! What concerns more than one packet.

use super::*;

fn first(bytes: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    let (frame, used) = split(bytes, PACKET_BYTES_MAX)?.expect("a whole packet");
    assert_eq!(used, bytes.len());
    Packet::decode(frame, version)
}

#[test]
fn smoke() {
    let bytes = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01a";
    let connect = first(bytes, Version::V5).expect("valid");
    let mut out = vec![];
    connect.encode(Version::V311, &mut out);
    assert_eq!(out, bytes);
    let bytes = b"\x32\x07\x00\x01t\x00\x07hi";
    for version in [Version::V31, Version::V311] {
        let publish = first(bytes, version).expect("valid");
        let mut out = vec![];
        publish.encode(version, &mut out);
        assert_eq!(out, bytes);
    }
}
