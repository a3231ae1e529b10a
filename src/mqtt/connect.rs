//! CONNECT: the first packet of a connection, which names its version.

use super::cursor::{write_binary, write_u16, write_utf8};
use super::frame::encode_packet;
use super::{
    DecodeError, Frame, PacketSet, PacketType, Properties, QoS, Reader, TopicName, Version,
};

/// A client asks for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// The client says that it is a bridge, which 3.1 and 3.1.1 have no word for: by the highest
    /// bit of the protocol level. It wants the retain flag as it was published, and nothing back
    /// that it has published itself.
    pub is_bridge: bool,
    /// 3.1 and 3.1.1 call it clean session.
    pub clean_start: bool,
    /// Seconds; 0 turns the keep alive off.
    pub keep_alive_s: u16,
    /// May be empty; whether that is acceptable is not judged here.
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub properties: Properties<'a>,
}

/// What the server publishes if the client goes away without DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub topic: TopicName<'a>,
    /// At most 65,535 bytes.
    pub payload: &'a [u8],
    pub properties: Properties<'a>,
}

/// In the protocol level: what mosquitto and others set as bridges.
const BRIDGE: u8 = 1 << 7;

const RESERVED: u8 = 1;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USERNAME: u8 = 1 << 7;

impl<'a> Connect<'a> {
    /// The version that the CONNECT in `frame` names, whatever is wrong with the rest of it: in
    /// the words of this version it is refused.
    ///
    /// # Errors
    /// [`DecodeError::ProtocolName`], [`DecodeError::UnsupportedVersion`], or a body that is too
    /// short for either.
    pub fn version_of(frame: Frame<'_>) -> Result<Version, DecodeError> {
        decode_version(&mut Reader::new(frame.body)).map(|(version, _)| version)
    }

    /// The version that a CONNECT names of which only the beginning is there.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if `bytes` end before the version; otherwise as for
    /// [`Self::version_of`], or no CONNECT at all.
    pub fn version_at_head(bytes: &[u8]) -> Result<Version, DecodeError> {
        let mut reader = Reader::new(bytes);
        if PacketType::from_number(reader.u8()? >> 4) != Some(PacketType::Connect) {
            return Err(DecodeError::FlagsReserved);
        }
        reader.varint()?;
        decode_version(&mut reader).map(|(version, _)| version)
    }

    pub(super) fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let (version, is_bridge) = decode_version(&mut reader)?;
        frame.judge(version)?;
        let flags = reader.u8()?;
        judge_flags(flags, version)?;
        let keep_alive_s = reader.u16()?;
        let properties = Properties::decode(&mut reader, version, PacketSet::CONNECT)?;
        let client_id = reader.utf8()?;
        let will = decode_will(&mut reader, flags, version)?;
        let username = decode_credential(&mut reader, flags & USERNAME, version, Reader::utf8)?;
        let password = decode_credential(&mut reader, flags & PASSWORD, version, Reader::binary)?;
        reader.finish()?;
        let clean_start = flags & CLEAN_START != 0;
        #[rustfmt::skip]
        let connect = Self {
            version, is_bridge, clean_start, keep_alive_s, client_id, will, username, password,
            properties,
        };
        Ok(connect)
    }

    /// Appends the packet to `out`.
    ///
    /// # Panics
    /// If a field has more than 65,535 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_packet(PacketType::Connect.first_byte(), out, |out| {
            write_binary(out, self.version.protocol_name());
            out.push(self.version.level() | if self.is_bridge { BRIDGE } else { 0 });
            out.push(self.flags());
            write_u16(out, self.keep_alive_s);
            self.properties.encode(self.version, out);
            write_utf8(out, self.client_id);
            if let Some(will) = &self.will {
                will.encode(self.version, out);
            }
            if let Some(username) = self.username {
                write_utf8(out, username);
            }
            if let Some(password) = self.password {
                write_binary(out, password);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = self.will.as_ref().map_or(0, Will::flags);
        for (is_set, flag) in [
            (self.clean_start, CLEAN_START),
            (self.username.is_some(), USERNAME),
            (self.password.is_some(), PASSWORD),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        flags
    }
}

impl Will<'_> {
    fn flags(&self) -> u8 {
        let retain = if self.retain { WILL_RETAIN } else { 0 };
        WILL | (self.qos as u8) << WILL_QOS_SHIFT | retain
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        self.properties.encode(version, out);
        write_utf8(out, self.topic.as_str());
        write_binary(out, self.payload);
    }
}

/// The version, and whether the client is a bridge; 5.0 has subscription options for what that
/// means, and no such bit.
fn decode_version(reader: &mut Reader<'_>) -> Result<(Version, bool), DecodeError> {
    let (name, level) = (reader.binary()?, reader.u8()?);
    let is_bridge = level & BRIDGE != 0;
    match (name, level & !BRIDGE) {
        (b"MQTT", 5) if !is_bridge => Ok((Version::V5, false)),
        (b"MQTT", 4) => Ok((Version::V311, is_bridge)),
        (b"MQIsdp", 3) => Ok((Version::V31, is_bridge)),
        // [MQTT-3.1.2-2]
        (b"MQTT" | b"MQIsdp", _) => Err(DecodeError::UnsupportedVersion { level }),
        _ => Err(DecodeError::ProtocolName), // [MQTT-3.1.2-1]
    }
}

fn judge_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 && version != Version::V31 {
        return Err(DecodeError::ConnectFlagsReserved); // [MQTT-3.1.2-3]
    }
    let will_qos_or_retain = 0b11 << WILL_QOS_SHIFT | WILL_RETAIN;
    if flags & WILL == 0 && flags & will_qos_or_retain != 0 {
        // [MQTT-3.1.2-11], [MQTT-3.1.2-13]; 3.1.1 also [MQTT-3.1.2-15]
        return Err(DecodeError::WillFlagsWithoutWill);
    }
    if flags & PASSWORD != 0 && flags & USERNAME == 0 && !version.is_v5() {
        return Err(DecodeError::PasswordWithoutUsername); // 3.1.1: [MQTT-3.1.2-22]
    }
    Ok(())
}

fn decode_will<'a>(
    reader: &mut Reader<'a>,
    flags: u8,
    version: Version,
) -> Result<Option<Will<'a>>, DecodeError> {
    // [MQTT-3.1.2-12], 3.1.1: [MQTT-3.1.2-14]
    let qos = QoS::try_from(flags >> WILL_QOS_SHIFT & 0b11)?;
    if flags & WILL == 0 {
        return Ok(None);
    }
    let properties = Properties::decode(reader, version, PacketSet::WILL)?;
    let topic = TopicName::parse(reader.utf8_with_nul()?)?;
    let payload = reader.binary()?;
    Ok(Some(Will { qos, retain: flags & WILL_RETAIN != 0, topic, payload, properties }))
}

/// User name or password, present if its flag is set. In 3.1 the end of the packet takes
/// precedence over the flag: a server must allow for either to be missing.
fn decode_credential<'a, T>(
    reader: &mut Reader<'a>,
    flag: u8,
    version: Version,
    decode: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if flag == 0 || (version == Version::V31 && reader.is_empty()) {
        return Ok(None);
    }
    decode(reader).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        ALL, STRICT, V3, V5, V31, V311, accepts, accepts_as, decode, packet, refuses, refuses_cut,
    };
    use super::*;

    /// The body of a CONNECT with keep alive 10 and no properties.
    fn body(version: Version, flags: u8, payload: &[u8]) -> Vec<u8> {
        let name = version.protocol_name();
        let properties: &[u8] = if version.is_v5() { &[0] } else { &[] };
        let level = [version.level(), flags, 0, 10];
        [&[0, name.len() as u8], name, &level, properties, payload].concat()
    }

    #[track_caller]
    fn accepts_flags(versions: &[Version], flags: u8, payload: &[u8]) {
        for &version in versions {
            accepts(&ALL, 0x10, &body(version, flags, payload));
        }
    }

    #[track_caller]
    fn refuses_flags(versions: &[Version], flags: u8, payload: &[u8], error: DecodeError) {
        for &version in versions {
            refuses(&ALL, 0x10, &body(version, flags, payload), error, 0x81);
        }
    }

    #[test]
    fn fields_of_a_full_connect() {
        let body = b"\0\x04MQTT\x05\xEE\x01\x02\x05\x11\0\0\0\x09\0\x02id\
            \x05\x18\0\0\0\x03\0\x03w/t\0\x02\0\xFF\0\x04user\0\x03\xFFpw";
        let bytes = packet(0x10, body);
        let connect = match decode(&bytes, Version::V31) {
            Ok(super::super::Packet::Connect(connect)) => connect,
            other => panic!("{other:?}"),
        };
        let will = connect.will.expect("a will");
        assert_eq!(connect.version, Version::V5);
        assert!(connect.clean_start && will.retain);
        assert_eq!((connect.keep_alive_s, will.qos), (0x0102, QoS::AtLeastOnce));
        assert_eq!((connect.client_id, will.topic.as_str()), ("id", "w/t"));
        assert_eq!(will.payload, b"\0\xFF");
        assert_eq!((connect.username, connect.password), (Some("user"), Some(b"\xFFpw" as &[u8])));
        assert_eq!(connect.properties.session_expiry_interval_s(), Some(9));
        assert_eq!(will.properties.will_delay_interval_s(), Some(3));
        accepts(&ALL, 0x10, body);
    }

    #[test]
    fn valid_connects() {
        accepts_flags(&ALL, 0x02, b"\0\x01c");
        accepts_flags(&ALL, 0x00, b"\0\x01c");
        accepts_flags(&ALL, 0x02, b"\0\0"); // whether it may be empty is the session's to say
        accepts_flags(&ALL, 0x02, "\0\u{3}\u{feff}".as_bytes()); // [MQTT-1.5.4-3]
        for will in [0x04, 0x0C, 0x14, 0x24, 0x2C, 0x34] {
            accepts_flags(&V3, will, b"\0\x01c\0\x01t\0\x01p");
            accepts_flags(&V5, will, b"\0\x01c\0\0\x01t\0\x01p");
        }
        accepts_flags(&ALL, 0x82, b"\0\x01c\0\x01u");
        accepts_flags(&ALL, 0x82, b"\0\x01c\0\0");
        accepts_flags(&ALL, 0xC2, b"\0\x01c\0\x01u\0\x01p");
        accepts_flags(&ALL, 0xC2, b"\0\x01c\0\x01u\0\x02\0\xFF"); // a password is any bytes
    }

    #[test]
    fn a_cut_connect_is_malformed() {
        for version in STRICT {
            let will: &[u8] = if version.is_v5() { b"\0" } else { b"" };
            let payload = [b"\0\x01c", will, b"\0\x01t\0\x01p\0\x01u\0\x01p"].concat();
            refuses_cut(version, 0x10, &body(version, 0xC6, &payload), |_| false);
        }
        // 3.1 allows for user name and password to be missing.
        let whole = body(Version::V31, 0xC2, b"\0\x01c\0\x01u\0\x01p");
        let (no_password, no_username) = (whole.len() - 3, whole.len() - 6);
        refuses_cut(Version::V31, 0x10, &whole, |len| len == no_password || len == no_username);
        let missing = body(Version::V31, 0xC2, b"\0\x01c");
        let canonical = packet(0x10, &body(Version::V31, 0x02, b"\0\x01c"));
        accepts_as(&V31, 0x10, &missing, &canonical);
    }

    #[test]
    fn bytes_after_the_last_field_are_malformed() {
        refuses_flags(&ALL, 0x02, b"\0\x01c\0", DecodeError::TrailingBytes);
        refuses_flags(&ALL, 0x02, b"\0\x01c\0\x01u", DecodeError::TrailingBytes); // [MQTT-3.1.2-16]
        refuses_flags(&ALL, 0x82, b"\0\x01c\0\x01u\0\x01p", DecodeError::TrailingBytes);
    }

    #[test]
    fn protocol_names_that_are_none() {
        // [MQTT-3.1.2-1]
        for name in [b"\0\x04mqtt" as &[u8], b"\0\x04MQTX", b"\0\x03MQT", b"\0\0", b"\0\x06MQIsdP"]
        {
            let body = [name, b"\x04\x02\0\x0A\0\x01c"].concat();
            refuses(&ALL, 0x10, &body, DecodeError::ProtocolName, 0x84);
        }
        assert_eq!(DecodeError::ProtocolName.v311_connect_return_code(), None);
    }

    #[test]
    fn an_unsupported_level_is_said_before_anything_else_is_judged() {
        // [MQTT-3.1.2-2]
        for level in (0..=0xFF).filter(|level| ![4, 5, 0x84].contains(level)) {
            let body = [b"\0\x04MQTT" as &[u8], &[level]].concat();
            refuses(&ALL, 0x10, &body, DecodeError::UnsupportedVersion { level }, 0x84);
            let body = [b"\0\x04MQTT" as &[u8], &[level], b"\xFF\xFF\xFF nonsense"].concat();
            refuses(&ALL, 0x10, &body, DecodeError::UnsupportedVersion { level }, 0x84);
        }
        for level in (0..=0xFF).filter(|level| ![3, 0x83].contains(level)) {
            let body = [b"\0\x06MQIsdp" as &[u8], &[level], b"\x02\0\0\0\x01c"].concat();
            refuses(&ALL, 0x10, &body, DecodeError::UnsupportedVersion { level }, 0x84);
        }
        let error = DecodeError::UnsupportedVersion { level: 6 };
        assert_eq!(error.v311_connect_return_code(), Some(1));
    }

    #[test]
    fn a_bridge_says_so_by_a_bit_of_the_level() {
        for (name, level, version) in
            [("\0\u{6}MQIsdp", 3, Version::V31), ("\0\u{4}MQTT", 4, Version::V311)]
        {
            for (is_bridge, bit) in [(false, 0), (true, 0x80)] {
                let body = [name.as_bytes(), &[level | bit], b"\x02\0\0\0\x01c"].concat();
                let bytes = packet(0x10, &body);
                let connect = match decode(&bytes, Version::V5) {
                    Ok(super::super::Packet::Connect(connect)) => connect,
                    other => panic!("{other:?}"),
                };
                assert_eq!((connect.version, connect.is_bridge), (version, is_bridge));
                accepts(&ALL, 0x10, &body);
            }
        }
    }

    #[test]
    fn header_flags_are_ignored_in_3_1() {
        for flags in 1..=0x0F {
            let old = body(Version::V31, 0x02, b"\0\x01c");
            accepts_as(&V31, 0x10 | flags, &old, &packet(0x10, &old));
            for version in STRICT {
                let body = body(version, 0x02, b"\0\x01c");
                refuses(&ALL, 0x10 | flags, &body, DecodeError::FlagsReserved, 0x81);
            }
        }
    }

    #[test]
    fn the_version_is_known_even_of_a_connect_that_is_refused() {
        for version in ALL {
            let bytes = packet(0x10, &body(version, 0xFF, b"nonsense"));
            let (frame, _) = super::super::split(&bytes, 100).expect("valid").expect("whole");
            assert_eq!(Connect::version_of(frame), Ok(version));
        }
    }

    #[test]
    fn reserved_flag() {
        // [MQTT-3.1.2-3]; 3.1 does not use the bit.
        refuses_flags(&STRICT, 0x03, b"\0\x01c", DecodeError::ConnectFlagsReserved);
        let canonical = packet(0x10, &body(Version::V31, 0x02, b"\0\x01c"));
        accepts_as(&V31, 0x10, &body(Version::V31, 0x03, b"\0\x01c"), &canonical);
    }

    #[test]
    fn will_flags() {
        // [MQTT-3.1.2-11] [MQTT-3.1.2-13], 3.1.1: [MQTT-3.1.2-13] [MQTT-3.1.2-15]
        for flags in [0x08, 0x10, 0x18, 0x20, 0x28, 0x30] {
            refuses_flags(&ALL, flags, b"\0\x01c", DecodeError::WillFlagsWithoutWill);
        }
        // [MQTT-3.1.2-12], 3.1.1: [MQTT-3.1.2-14]
        for flags in [0x1C, 0x3C] {
            refuses_flags(&V3, flags, b"\0\x01c\0\x01t\0\x01p", DecodeError::QosReserved);
            refuses_flags(&V5, flags, b"\0\x01c\0\0\x01t\0\x01p", DecodeError::QosReserved);
        }
    }

    #[test]
    fn password_without_a_user_name() {
        // 3.1.1: [MQTT-3.1.2-22]
        refuses_flags(&V3, 0x42, b"\0\x01c\0\x01p", DecodeError::PasswordWithoutUsername);
        accepts_flags(&V5, 0x42, b"\0\x01c\0\x01p"); // 3.1.2.9 of 5.0
    }

    #[test]
    fn strings_that_are_none() {
        // [MQTT-3.1.3-4], 3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2]
        refuses_flags(&ALL, 0x02, b"\0\x01\xFF", DecodeError::Utf8IllFormed);
        refuses_flags(&ALL, 0x02, b"\0\x03\xED\xA0\x80", DecodeError::Utf8IllFormed);
        refuses_flags(&ALL, 0x02, b"\0\x01\0", DecodeError::Utf8Nul);
        // [MQTT-3.1.3-12], 3.1.1: [MQTT-3.1.3-11]
        refuses_flags(&ALL, 0x82, b"\0\x01c\0\x01\xFF", DecodeError::Utf8IllFormed);
        refuses_flags(&ALL, 0x82, b"\0\x01c\0\x01\0", DecodeError::Utf8Nul);
        // [MQTT-3.1.3-11], 3.1.1: [MQTT-3.1.3-10]
        refuses_flags(&V311, 0x04, b"\0\x01c\0\x01\xFF\0\x01p", DecodeError::Utf8IllFormed);
        refuses_flags(&V5, 0x04, b"\0\x01c\0\0\x01\0\0\x01p", DecodeError::Utf8Nul);
    }

    #[test]
    fn will_topics_that_are_none() {
        for (topic, error, reason) in [
            (b"\0\x01+" as &[u8], DecodeError::TopicNameWildcard, 0x81),
            (b"\0\x01#", DecodeError::TopicNameWildcard, 0x81),
            (b"\0\0", DecodeError::TopicEmpty, 0x82), // [MQTT-4.7.3-1]
        ] {
            let payload = [b"\0\x01c", topic, b"\0\x01p"].concat();
            refuses(&ALL, 0x10, &body(Version::V311, 0x04, &payload), error, reason);
            let payload = [b"\0\x01c\0", topic, b"\0\x01p"].concat();
            refuses(&ALL, 0x10, &body(Version::V5, 0x04, &payload), error, reason);
        }
    }
}
