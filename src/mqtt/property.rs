//! Properties of 5.0: THE table, and what validates, reads and writes by it.

use super::cursor::{Reader, len_len, varint_len};
use super::cursor::{write_binary, write_len, write_u16, write_u32, write_utf8, write_varint};
use super::{DecodeError, PacketSet, TopicName, Version};

/// How the value of a property is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyType {
    Byte,
    TwoBytes,
    FourBytes,
    Varint,
    Utf8,
    Binary,
    Utf8Pair,
}

/// What the table says of one property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyRow {
    pub id: u8,
    pub name: &'static str,
    pub value: PropertyType,
    /// The packets that may carry it; in any other it is malformed [2.2.2.2].
    pub packets: PacketSet,
    /// The packets that may carry it more than once.
    pub repeats_in: PacketSet,
    /// The smallest number allowed; 0 where the value is not a number.
    pub min: u32,
    /// The largest number allowed.
    pub max: u32,
}

/// A value without its meaning.
#[derive(Clone, Copy)]
enum Value<'a> {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    Varint(u32),
    Utf8(&'a str),
    Binary(&'a [u8]),
    Utf8Pair(&'a str, &'a str),
}

macro_rules! field_type {
    ($lifetime:lifetime Byte) => { u8 };
    ($lifetime:lifetime TwoBytes) => { u16 };
    ($lifetime:lifetime FourBytes) => { u32 };
    ($lifetime:lifetime Varint) => { u32 };
    ($lifetime:lifetime Utf8) => { &$lifetime str };
    ($lifetime:lifetime Binary) => { &$lifetime [u8] };
    ($lifetime:lifetime Utf8Pair) => { (&$lifetime str, &$lifetime str) };
}

macro_rules! properties {
    ($(
        $id:literal $variant:ident $getter:ident $kind:ident($($field:ident)+)
        [$($packet:ident)+] repeats [$($repeat:ident)*] $min:literal..=$max:expr;
    )+) => {
        /// One property.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Property<'a> {
            $($variant($(properties!(@field 'a $kind $field)),+),)+
        }

        impl PropertyRow {
            /// All properties, in the order of their identifiers.
            pub const ALL: &'static [Self] = &[$(Self {
                id: $id,
                name: stringify!($variant),
                value: PropertyType::$kind,
                packets: PacketSet::NONE$(.union(PacketSet::$packet))+,
                repeats_in: PacketSet::NONE$(.union(PacketSet::$repeat))*,
                min: $min,
                max: $max,
            },)+];
        }

        impl<'a> Property<'a> {
            /// The identifier.
            pub const fn id(&self) -> u8 {
                match self { $(Self::$variant(..) => $id,)+ }
            }

            fn value(self) -> Value<'a> {
                match self { $(Self::$variant($($field),+) => Value::$kind($($field),+),)+ }
            }

            fn new(id: u8, value: Value<'a>) -> Option<Self> {
                match (id, value) {
                    $(($id, Value::$kind($($field),+)) => Some(Self::$variant($($field),+)),)+
                    _ => None,
                }
            }
        }

        impl<'a> Properties<'a> {
            $(
                #[doc = concat!("The first `", stringify!($variant), "`.")]
                pub fn $getter(self) -> Option<field_type!('a $kind)> {
                    self.may_have($id).then(|| self.iter())?.find_map(|property| match property {
                        Property::$variant($($field),+) => Some(($($field),+)),
                        _ => None,
                    })
                }
            )+
        }
    };
    // The two fields of a pair are strings each.
    (@field $lifetime:lifetime Utf8Pair $field:ident) => { &$lifetime str };
    (@field $lifetime:lifetime $kind:ident $field:ident) => { field_type!($lifetime $kind) };
}

// Identifier, variant, getter, type, packets that may carry it, packets that may repeat it, range.
#[rustfmt::skip]
properties! {
    0x01 PayloadFormatIndicator payload_format_indicator Byte(v) [PUBLISH WILL] repeats [] 0..=1;
    0x02 MessageExpiryIntervalS message_expiry_interval_s FourBytes(v)
        [PUBLISH WILL] repeats [] 0..=u32::MAX;
    0x03 ContentType content_type Utf8(v) [PUBLISH WILL] repeats [] 0..=0;
    0x08 ResponseTopic response_topic Utf8(v) [PUBLISH WILL] repeats [] 0..=0;
    0x09 CorrelationData correlation_data Binary(v) [PUBLISH WILL] repeats [] 0..=0;
    0x0B SubscriptionIdentifier subscription_identifier Varint(v)
        [PUBLISH SUBSCRIBE] repeats [PUBLISH] 1..=super::VARINT_MAX;
    0x11 SessionExpiryIntervalS session_expiry_interval_s FourBytes(v)
        [CONNECT CONNACK DISCONNECT] repeats [] 0..=u32::MAX;
    0x12 AssignedClientIdentifier assigned_client_identifier Utf8(v) [CONNACK] repeats [] 0..=0;
    0x13 ServerKeepAliveS server_keep_alive_s TwoBytes(v) [CONNACK] repeats [] 0..=0xFFFF;
    0x15 AuthenticationMethod authentication_method Utf8(v)
        [CONNECT CONNACK AUTH] repeats [] 0..=0;
    0x16 AuthenticationData authentication_data Binary(v) [CONNECT CONNACK AUTH] repeats [] 0..=0;
    0x17 RequestProblemInformation request_problem_information Byte(v) [CONNECT] repeats [] 0..=1;
    0x18 WillDelayIntervalS will_delay_interval_s FourBytes(v) [WILL] repeats [] 0..=u32::MAX;
    0x19 RequestResponseInformation request_response_information Byte(v)
        [CONNECT] repeats [] 0..=1;
    0x1A ResponseInformation response_information Utf8(v) [CONNACK] repeats [] 0..=0;
    0x1C ServerReference server_reference Utf8(v) [CONNACK DISCONNECT] repeats [] 0..=0;
    0x1F ReasonString reason_string Utf8(v)
        [CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH] repeats [] 0..=0;
    0x21 ReceiveMaximum receive_maximum TwoBytes(v) [CONNECT CONNACK] repeats [] 1..=0xFFFF;
    0x22 TopicAliasMaximum topic_alias_maximum TwoBytes(v)
        [CONNECT CONNACK] repeats [] 0..=0xFFFF;
    0x23 TopicAlias topic_alias TwoBytes(v) [PUBLISH] repeats [] 1..=0xFFFF;
    0x24 MaximumQos maximum_qos Byte(v) [CONNACK] repeats [] 0..=1;
    0x25 RetainAvailable retain_available Byte(v) [CONNACK] repeats [] 0..=1;
    0x26 UserProperty user_property Utf8Pair(key value)
        [CONNECT CONNACK PUBLISH WILL PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE
         UNSUBACK DISCONNECT AUTH]
        repeats
        [CONNECT CONNACK PUBLISH WILL PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE
         UNSUBACK DISCONNECT AUTH]
        0..=0;
    0x27 MaximumPacketSize maximum_packet_size FourBytes(v)
        [CONNECT CONNACK] repeats [] 1..=u32::MAX;
    0x28 WildcardSubscriptionAvailable wildcard_subscription_available Byte(v)
        [CONNACK] repeats [] 0..=1;
    0x29 SubscriptionIdentifierAvailable subscription_identifier_available Byte(v)
        [CONNACK] repeats [] 0..=1;
    0x2A SharedSubscriptionAvailable shared_subscription_available Byte(v)
        [CONNACK] repeats [] 0..=1;
}

const ID_COUNT: usize = 0x2B;

/// The rows by identifier.
const ROWS: [Option<&PropertyRow>; ID_COUNT] = {
    let mut rows = [None; ID_COUNT];
    let mut index = 0;
    while index < PropertyRow::ALL.len() {
        let row = &PropertyRow::ALL[index];
        rows[row.id as usize] = Some(row);
        index += 1;
    }
    rows
};

impl PropertyRow {
    /// The row of a property; `None` for an identifier that the specification does not have.
    pub fn of(id: u8) -> Option<&'static Self> {
        ROWS.get(usize::from(id)).copied().flatten()
    }

    fn decode(reader: &mut Reader<'_>) -> Result<&'static Self, DecodeError> {
        let id = reader.varint()?;
        let row = u8::try_from(id).ok().and_then(Self::of);
        row.ok_or(DecodeError::PropertyUnknown { id })
    }

    fn judge(&self, value: Value<'_>) -> Result<(), DecodeError> {
        if let Some(number) = value.number()
            && !(self.min..=self.max).contains(&number)
        {
            return Err(DecodeError::PropertyOutOfRange { id: self.id });
        }
        if let (0x08, Value::Utf8(topic)) = (self.id, value) {
            TopicName::parse(topic)?; // [MQTT-3.3.2-14], for a will [MQTT-3.1.3]
        }
        Ok(())
    }
}

impl<'a> Value<'a> {
    fn decode(kind: PropertyType, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match kind {
            PropertyType::Byte => Self::Byte(reader.u8()?),
            PropertyType::TwoBytes => Self::TwoBytes(reader.u16()?),
            PropertyType::FourBytes => Self::FourBytes(reader.u32()?),
            PropertyType::Varint => Self::Varint(reader.varint()?),
            PropertyType::Utf8 => Self::Utf8(reader.utf8()?),
            PropertyType::Binary => Self::Binary(reader.binary()?),
            PropertyType::Utf8Pair => Self::Utf8Pair(reader.utf8()?, reader.utf8()?),
        })
    }

    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Byte(value) => out.push(value),
            Self::TwoBytes(value) => write_u16(out, value),
            Self::FourBytes(value) => write_u32(out, value),
            Self::Varint(value) => write_varint(out, value),
            Self::Utf8(text) => write_utf8(out, text),
            Self::Binary(bytes) => write_binary(out, bytes),
            Self::Utf8Pair(key, value) => {
                write_utf8(out, key);
                write_utf8(out, value);
            }
        }
    }

    fn encoded_len(self) -> usize {
        match self {
            Self::Byte(_) => 1,
            Self::TwoBytes(_) => 2,
            Self::FourBytes(_) => 4,
            Self::Varint(value) => varint_len(value),
            Self::Utf8(text) => 2 + text.len(),
            Self::Binary(bytes) => 2 + bytes.len(),
            Self::Utf8Pair(key, value) => 4 + key.len() + value.len(),
        }
    }

    fn number(self) -> Option<u32> {
        match self {
            Self::Byte(value) => Some(u32::from(value)),
            Self::TwoBytes(value) => Some(u32::from(value)),
            Self::FourBytes(value) | Self::Varint(value) => Some(value),
            Self::Utf8(_) | Self::Binary(_) | Self::Utf8Pair(..) => None,
        }
    }
}

impl Property<'_> {
    /// Appends identifier and value.
    ///
    /// # Panics
    /// If a string or binary value has more than 65,535 bytes.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.push(self.id()); // every identifier takes one byte
        self.value().encode(out);
    }

    /// A topic alias and a subscription identifier belong to one connection, and what is left of
    /// the expiry interval to one moment.
    pub fn is_forwarded(self) -> bool {
        !matches!(
            self,
            Self::TopicAlias(_) | Self::SubscriptionIdentifier(_) | Self::MessageExpiryIntervalS(_)
        )
    }

    /// Bytes of identifier and value.
    pub fn encoded_len(self) -> usize {
        1 + self.value().encoded_len()
    }
}

/// More bytes of properties are refused as too large a packet. There is room for the longest that
/// the format has.
const PROPERTIES_BYTES_MAX: usize = 96 * 1024;
/// More properties are refused in the same way: each of them is looked at by itself.
const PROPERTY_COUNT_MAX: usize = 8 * 1024;

/// The properties of one packet, validated for it: wire bytes without their length prefix.
/// Always empty before 5.0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
    /// Bits of the identifiers that may be among them: what is not there is not searched for in a
    /// packet with very many.
    present: u64,
}

impl PartialEq for Properties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Properties<'_> {}

impl<'a> Properties<'a> {
    /// No property.
    pub const EMPTY: Properties<'static> = Properties { raw: &[], present: 0 };

    /// Validates wire bytes (without their length prefix) for the one packet in `packet`.
    pub fn parse(raw: &'a [u8], packet: PacketSet) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(raw);
        let (mut seen, mut count) = (0_u64, 0);
        while !reader.is_empty() {
            if count == PROPERTY_COUNT_MAX {
                return Err(DecodeError::PacketTooLarge);
            }
            count += 1;
            let row = PropertyRow::decode(&mut reader)?;
            if !row.packets.intersects(packet) {
                return Err(DecodeError::PropertyNotAllowed { id: row.id });
            }
            row.judge(Value::decode(row.value, &mut reader)?)?;
            let bit = 1 << row.id;
            if seen & bit != 0 && !row.repeats_in.intersects(packet) {
                return Err(DecodeError::PropertyRepeated { id: row.id });
            }
            seen |= bit;
        }
        judge_authentication(seen)?;
        Ok(Self { raw, present: seen })
    }

    #[inline]
    const fn may_have(self, id: u8) -> bool {
        self.present & 1 << id != 0
    }

    /// Wraps bytes that were validated before, such as those of a stored publish. If they were
    /// not, reading stops at the first that makes no sense, and the peer is sent nonsense.
    pub const fn from_validated(raw: &'a [u8]) -> Self {
        Self { raw, present: u64::MAX }
    }

    /// Whether all of them go on to subscribers: none is for the receiver of this packet alone.
    #[must_use]
    pub fn are_forwarded(self) -> bool {
        const OWN: u64 = 1 << 0x23 | 1 << 0x0B | 1 << 0x02;
        self.present & OWN == 0 || self.iter().all(|property| property.is_forwarded())
    }

    /// Writes `properties` to `out` and returns them as the wire has them. What was in `out`
    /// before is no part of them.
    ///
    /// # Panics
    /// If a string or binary value has more than 65,535 bytes.
    pub fn write<'p>(
        properties: impl IntoIterator<Item = Property<'p>>,
        out: &'a mut Vec<u8>,
    ) -> Self {
        let start = out.len();
        for property in properties {
            property.encode(out);
        }
        Self::from_validated(&out[start..])
    }

    /// The wire bytes without their length prefix.
    #[inline]
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    #[inline]
    pub const fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// The properties in the order of the wire.
    pub fn iter(self) -> impl Iterator<Item = Property<'a>> + Clone {
        let mut reader = Reader::new(self.raw);
        std::iter::from_fn(move || {
            let row = PropertyRow::decode(&mut reader).ok()?;
            Property::new(row.id, Value::decode(row.value, &mut reader).ok()?)
        })
    }

    /// The subscription identifiers in the order of the wire.
    pub fn subscription_identifiers(self) -> impl Iterator<Item = u32> + Clone {
        let all = self.may_have(0x0B).then(|| self.iter());
        all.into_iter().flatten().filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    /// The user properties in the order of the wire, which is to be kept [MQTT-3.3.2-18].
    pub fn user_properties(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(key, value) => Some((key, value)),
            _ => None,
        })
    }

    /// Reads the length prefix and what it covers, if the version has properties.
    #[inline]
    pub(super) fn decode(
        reader: &mut Reader<'a>,
        version: Version,
        packet: PacketSet,
    ) -> Result<Self, DecodeError> {
        if !version.is_v5() {
            return Ok(Properties::EMPTY);
        }
        let len = reader.varint()?;
        if len == 0 {
            return Ok(Properties::EMPTY);
        }
        let raw = reader.take(len as usize)?;
        if raw.len() > PROPERTIES_BYTES_MAX {
            return Err(DecodeError::PacketTooLarge);
        }
        Self::parse(raw, packet)
    }

    /// Writes length prefix and properties, if the version has them.
    #[inline]
    pub(super) fn encode(self, version: Version, out: &mut Vec<u8>) {
        if version.is_v5() {
            write_len(out, self.raw.len());
            out.extend_from_slice(self.raw);
        }
    }

    /// Bytes of length prefix and properties.
    #[inline]
    pub(super) fn encoded_len(self, version: Version) -> usize {
        if version.is_v5() { len_len(self.raw.len()) + self.raw.len() } else { 0 }
    }
}

/// Authentication data belongs to an authentication method, in whichever packet [3.1.2.11.10].
fn judge_authentication(seen: u64) -> Result<(), DecodeError> {
    let (method, data) = (seen & 1 << 0x15 != 0, seen & 1 << 0x16 != 0);
    if data && !method { Err(DecodeError::AuthenticationMethodMissing) } else { Ok(()) }
}
