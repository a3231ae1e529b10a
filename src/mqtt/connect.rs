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
        decode_version(&mut Reader::new(frame.body))
    }

    pub(super) fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let version = decode_version(&mut reader)?;
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
            version, clean_start, keep_alive_s, client_id, will, username, password, properties,
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
            out.push(self.version.level());
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

fn decode_version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let (name, level) = (reader.binary()?, reader.u8()?);
    match (name, level) {
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQIsdp", 3) => Ok(Version::V31),
        // [MQTT-3.1.2-2]
        (b"MQTT" | b"MQIsdp", level) => Err(DecodeError::UnsupportedVersion { level }),
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
