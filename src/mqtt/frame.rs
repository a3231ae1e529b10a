//! The fixed header: cuts a stream of bytes into frames, one per packet.

use super::cursor::{varint, varint_len, write_len};
use super::{DecodeError, VARINT_MAX, Version};

/// The largest packet that the format allows, fixed header included, in bytes.
pub const PACKET_BYTES_MAX: usize = VARINT_MAX as usize + 5;

/// The packet types, with the number that the wire has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Connack,
        Self::Publish,
        Self::Puback,
        Self::Pubrec,
        Self::Pubrel,
        Self::Pubcomp,
        Self::Subscribe,
        Self::Suback,
        Self::Unsubscribe,
        Self::Unsuback,
        Self::Pingreq,
        Self::Pingresp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// `None` for 0 and anything above 15.
    #[inline]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1..=15 => Some(Self::ALL[number as usize - 1]),
            _ => None,
        }
    }

    /// The first byte of a packet of this type with its fixed flags (PUBLISH: none set).
    #[inline]
    pub const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.fixed_flags()
    }

    /// The packet as an element of a [`PacketSet`].
    pub const fn set(self) -> PacketSet {
        PacketSet(1 << self as u8)
    }

    /// Whether a server sends the packet and a client never does.
    pub const fn is_from_server(self) -> bool {
        matches!(self, Self::Connack | Self::Suback | Self::Unsuback | Self::Pingresp)
    }

    /// Whether the packet is one of the four acknowledgements.
    #[inline]
    pub const fn is_acknowledgement(self) -> bool {
        matches!(self, Self::Puback | Self::Pubrec | Self::Pubrel | Self::Pubcomp)
    }

    const fn fixed_flags(self) -> u8 {
        match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// The flags of the fixed header as far as every version agrees on them.
    #[inline]
    const fn judge_flags(self, flags: u8) -> Result<(), DecodeError> {
        match self {
            Self::Publish if flags & 0b0110 == 0b0110 => Err(DecodeError::QosReserved),
            Self::Publish => Ok(()),
            // 3.1 has no meaning for these, and ignores them; its version stands in the body.
            Self::Connect => Ok(()),
            // 3.1 sends these again with DUP.
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe if flags == 0b1010 => Ok(()),
            _ if flags == self.fixed_flags() => Ok(()),
            _ => Err(DecodeError::FlagsReserved),
        }
    }
}

/// A set of packet types, in which the will of CONNECT counts as one of its own, because it has
/// properties of its own, and so does a client's DISCONNECT, which has fewer reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketSet(u32);

#[rustfmt::skip]
impl PacketSet {
    pub const CONNECT: Self = PacketType::Connect.set();
    pub const CONNACK: Self = PacketType::Connack.set();
    pub const PUBLISH: Self = PacketType::Publish.set();
    pub const PUBACK: Self = PacketType::Puback.set();
    pub const PUBREC: Self = PacketType::Pubrec.set();
    pub const PUBREL: Self = PacketType::Pubrel.set();
    pub const PUBCOMP: Self = PacketType::Pubcomp.set();
    pub const SUBSCRIBE: Self = PacketType::Subscribe.set();
    pub const SUBACK: Self = PacketType::Suback.set();
    pub const UNSUBSCRIBE: Self = PacketType::Unsubscribe.set();
    pub const UNSUBACK: Self = PacketType::Unsuback.set();
    pub const DISCONNECT: Self = PacketType::Disconnect.set();
    pub const AUTH: Self = PacketType::Auth.set();
    /// The will properties within CONNECT.
    pub const WILL: Self = Self(1 << 16);
    /// DISCONNECT as a client may send it: not with every reason that a server may give.
    pub const CLIENT_DISCONNECT: Self = Self(1 << 17);
    pub const NONE: Self = Self(0);
}

impl PacketSet {
    /// Either of two sets.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets share an element.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One packet's fixed header and the bytes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: PacketType,
    /// The lower four bits of the first byte.
    pub flags: u8,
    /// Everything after the remaining length.
    pub body: &'a [u8],
    length_is_minimal: bool,
}

impl Frame<'_> {
    /// What of the fixed header depends on the version.
    #[inline]
    pub(super) fn judge(&self, version: Version) -> Result<(), DecodeError> {
        match version {
            Version::V31 => self.judge_kind(),
            Version::V311 => self.judge_kind().and_then(|()| self.judge_dup()),
            // [MQTT-1.5.5-1]
            Version::V5 if !self.length_is_minimal => Err(DecodeError::VarintNotMinimal),
            Version::V5 => self.judge_dup(),
        }
    }

    #[inline]
    const fn judge_kind(&self) -> Result<(), DecodeError> {
        match self.kind {
            PacketType::Auth => Err(DecodeError::PacketTypeReserved { kind: 15 }),
            _ => Ok(()),
        }
    }

    #[inline]
    fn judge_dup(&self) -> Result<(), DecodeError> {
        match self.kind {
            // [MQTT-3.3.1-2]
            PacketType::Publish if self.flags & 0b1110 == 0b1000 => Err(DecodeError::DupWithoutQos),
            PacketType::Publish => Ok(()),
            // [MQTT-2.1.3-1], 3.1.1: [MQTT-2.2.2-2]
            kind if self.flags != kind.fixed_flags() => Err(DecodeError::FlagsReserved),
            _ => Ok(()),
        }
    }
}

/// Cuts the first packet off `bytes`: its frame and how many bytes it takes.
///
/// `Ok(None)` means that more bytes are needed. Packet type, flags and length are judged as soon
/// as they have come: nothing waits for a body that will be refused anyway.
///
/// # Errors
/// [`DecodeError::PacketTooLarge`] if the whole packet, fixed header included, has more than
/// `packet_bytes_max` bytes; a malformed fixed header.
#[inline]
pub fn split(
    bytes: &[u8],
    packet_bytes_max: usize,
) -> Result<Option<(Frame<'_>, usize)>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let (kind, flags) = (first >> 4, first & 0x0F);
    let kind = PacketType::from_number(kind).ok_or(DecodeError::PacketTypeReserved { kind })?;
    kind.judge_flags(flags)?;
    let Some((length, length_len)) = varint(rest)? else { return Ok(None) };
    let used = 1 + length_len + length as usize;
    if used > packet_bytes_max {
        return Err(DecodeError::PacketTooLarge);
    }
    let Some(body) = bytes.get(1 + length_len..used) else { return Ok(None) };
    let length_is_minimal = length_len == varint_len(length);
    Ok(Some((Frame { kind, flags, body, length_is_minimal }, used)))
}

/// How many bytes the whole packet at the head of `bytes` takes, fixed header included; `None`
/// as long as the fixed header is not complete, or if it is malformed.
pub fn wanted(bytes: &[u8]) -> Option<usize> {
    let (length, length_len) = varint(bytes.get(1..)?).ok()??;
    Some(1 + length_len + length as usize)
}

/// Writes a whole packet whose body `write_body` appends. Meant for packets whose body is mostly
/// shorter than 128 bytes: of a longer one the body moves to make room for its length.
pub(super) fn encode_packet(
    first_byte: u8,
    out: &mut Vec<u8>,
    write_body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[first_byte, 0]);
    write_body(out);
    let body_len = out.len() - start - 2;
    match u8::try_from(body_len) {
        Ok(short @ 0..=0x7F) => out[start + 1] = short,
        _ => insert_length(out, start, body_len),
    }
}

/// Replaces the one byte that was left for the remaining length by the real one.
#[cold]
fn insert_length(out: &mut Vec<u8>, start: usize, body_len: usize) {
    let end = out.len();
    write_len(out, body_len);
    let length_len = out.len() - end;
    out[start + 2..].rotate_right(length_len);
    out.remove(start + 1);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ALL, STRICT, V31, V311, accepts_as, packet, refuses};
    use super::*;

    fn header_error(bytes: &[u8]) -> DecodeError {
        split(bytes, PACKET_BYTES_MAX).expect_err("a malformed fixed header")
    }

    #[test]
    fn reserved_packet_types_are_refused_at_the_first_byte() {
        for flags in 0..=0x0F {
            assert_eq!(header_error(&[flags]), DecodeError::PacketTypeReserved { kind: 0 });
        }
        let auth = packet(0xF0, b"\x18\x04\x15\0\x01m");
        let (frame, _) = split(&auth, 100).expect("well formed").expect("whole");
        for version in [Version::V31, Version::V311] {
            let error = DecodeError::PacketTypeReserved { kind: 15 }; // 3.1.1: table 2.1
            assert_eq!(frame.judge(version), Err(error));
            assert_eq!(error.reason() as u8, 0x81);
        }
    }

    // [MQTT-2.1.3-1], 3.1.1: [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.8.1-1]
    // [MQTT-3.10.1-1] [MQTT-3.14.1-1]; 5.0: [MQTT-3.14.1-1] [MQTT-3.15.1-1]
    #[test]
    fn reserved_flags_are_refused_at_the_first_byte() {
        let late = [PacketType::Publish, PacketType::Connect];
        for kind in PacketType::ALL.into_iter().filter(|kind| !late.contains(kind)) {
            let fixed = match kind {
                PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 2,
                _ => 0,
            };
            for flags in (0..=0x0F).filter(|&flags| flags != fixed) {
                if fixed == 2 && flags == 0x0A {
                    continue; // 3.1 has DUP there, so that it takes the version to judge
                }
                let error = header_error(&[(kind as u8) << 4 | flags]);
                assert_eq!(error, DecodeError::FlagsReserved, "{kind:?} {flags:#06b}");
                assert_eq!(error.reason() as u8, 0x81);
            }
        }
    }

    #[test]
    fn dup_on_anything_but_publish_exists_in_3_1_only() {
        for (dup, first_byte, body) in [
            (0x6A, 0x62, b"\0\x01" as &[u8]),
            (0x8A, 0x82, b"\0\x01\0\x01f\0"),
            (0xAA, 0xA2, b"\0\x01\0\x01f"),
        ] {
            accepts_as(&V31, dup, body, &packet(first_byte, body));
            refuses(&STRICT, dup, body, DecodeError::FlagsReserved, 0x81);
        }
    }

    #[test]
    fn qos_3_is_refused_at_the_first_byte() {
        for first_byte in [0x36, 0x37, 0x3E, 0x3F] {
            assert_eq!(header_error(&[first_byte]), DecodeError::QosReserved); // [MQTT-3.3.1-4]
        }
        assert_eq!(DecodeError::QosReserved.reason() as u8, 0x81);
    }

    #[test]
    fn a_length_of_five_bytes_is_refused_at_the_fourth() {
        let error = header_error(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(error, DecodeError::VarintTooLong);
        assert_eq!(error.reason() as u8, 0x81);
        assert_eq!(header_error(&[0x30, 0x80, 0x80, 0x80, 0x80, 0x00]), error);
        assert_eq!(wanted(&[0x30, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
    }

    /// [MQTT-1.5.5-1] is of 5.0; 3.1.1 does not ask for the shortest length, and clients that
    /// reserve four bytes for it exist.
    #[test]
    fn a_length_must_be_the_shortest_in_5_0() {
        for length in [&[0x80_u8, 0x00] as &[u8], &[0x80, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x00]] {
            let bytes = [&[0xC0], length].concat();
            let (frame, used) = split(&bytes, 100).expect("well formed").expect("whole");
            assert_eq!(used, bytes.len());
            assert_eq!(frame.judge(Version::V31), Ok(()));
            assert_eq!(frame.judge(Version::V311), Ok(()));
            assert_eq!(frame.judge(Version::V5), Err(DecodeError::VarintNotMinimal));
        }
        assert_eq!(DecodeError::VarintNotMinimal.reason() as u8, 0x81);
    }

    #[test]
    fn a_connect_of_5_0_with_an_overlong_length_is_refused() {
        let body = b"\0\x04MQTT\x05\x02\0\0\0\0\0";
        let bytes = [&[0x10, 0x80 | body.len() as u8, 0], body as &[u8]].concat();
        let (frame, _) = split(&bytes, 100).expect("well formed").expect("whole");
        assert_eq!(super::super::Packet::decode(frame, Version::V311), {
            Err(DecodeError::VarintNotMinimal)
        });
    }

    #[test]
    fn lengths_at_the_edges() {
        for (length, bytes) in [
            (0, &[0x00_u8] as &[u8]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let head = [&[0x30], bytes].concat();
            assert_eq!(wanted(&head), Some(head.len() + length));
            for cut in 0..head.len() {
                assert_eq!(wanted(&head[..cut]), None);
                assert_eq!(split(&head[..cut], PACKET_BYTES_MAX), Ok(None));
            }
            let mut out = vec![];
            write_len(&mut out, length);
            assert_eq!(out, bytes);
        }
        assert_eq!(PACKET_BYTES_MAX, 268_435_460);
    }

    #[test]
    fn too_large_is_judged_before_the_body_has_come() {
        assert_eq!(split(&[0x30, 0x7F], 128), Err(DecodeError::PacketTooLarge));
        assert_eq!(split(&[0x30, 0x7F], 129), Ok(None));
        assert_eq!(DecodeError::PacketTooLarge.reason() as u8, 0x95);
        let largest = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
        assert_eq!(split(&largest, PACKET_BYTES_MAX), Ok(None));
        assert_eq!(split(&largest, PACKET_BYTES_MAX - 1), Err(DecodeError::PacketTooLarge));
    }

    #[test]
    fn what_follows_the_packet_is_left_alone() {
        let (frame, used) = split(b"\xC0\0\xD0", 2).expect("well formed").expect("whole");
        assert_eq!(
            (frame.kind, frame.flags, frame.body, used),
            (PacketType::Pingreq, 0, &[][..], 2)
        );
    }

    #[test]
    fn a_packet_type_has_its_number() {
        for (index, kind) in PacketType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index + 1);
            assert_eq!(PacketType::from_number(kind as u8), Some(kind));
        }
        assert_eq!(PacketType::from_number(0), None);
        assert_eq!(PacketType::from_number(16), None);
    }

    #[test]
    fn long_bodies_move_to_make_room_for_their_length() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let mut out = b"before".to_vec();
            encode_packet(0xB0, &mut out, |out| out.resize(out.len() + len, 7));
            let (frame, used) = split(&out[6..], PACKET_BYTES_MAX).expect("valid").expect("whole");
            assert_eq!(used, out.len() - 6);
            assert_eq!(frame.body, vec![7; len]);
            assert!(ALL.iter().all(|&version| frame.judge(version).is_ok()));
        }
    }

    #[test]
    fn dup_without_qos() {
        // [MQTT-3.3.1-2]; 3.1 does not say so.
        accepts_as(&V31, 0x38, b"\0\x01t", &packet(0x38, b"\0\x01t"));
        refuses(&V311, 0x38, b"\0\x01t", DecodeError::DupWithoutQos, 0x81);
        refuses(&[Version::V5], 0x38, b"\0\x01t\0", DecodeError::DupWithoutQos, 0x81);
    }
}
