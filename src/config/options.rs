//! THE table of options. A row here is a flag, a key of the configuration file, a line of the
//! printed reference and, for a limit, the field of [`Limits`] with its default.

use super::{Config, Endpoint, Kind, Order, Value};

/// One option.
#[derive(Debug)]
pub struct OptionRow {
    /// Key in the file; the flag is the same with `-` for `_`.
    pub name: &'static str,
    /// Where in the file it stands.
    pub section: Section,
    /// What it takes.
    pub kind: Kind,
    /// Whether it may be given several times, as a list.
    pub repeatable: bool,
    /// What it means, in a few sentences with units. Starts with a space per line.
    help: &'static str,
    /// What happens without a value, if there is none by default.
    unset: &'static str,
    values: fn(&Config) -> Vec<Value>,
    set: fn(&mut Config, &[Value]),
}

/// A table of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Keys before any table.
    Top,
    /// The table `[limits]`.
    Limits,
}

/// Every option, in the order of the reference.
pub fn options() -> impl Iterator<Item = &'static OptionRow> {
    TOP_ROWS.iter().chain(LIMIT_ROWS)
}

impl OptionRow {
    /// What it means, without spaces around.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// The flag without its dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The values that `config` holds; none if it is unset.
    pub fn values(&self, config: &Config) -> Vec<Value> {
        (self.values)(config)
    }

    /// Puts values of [`Self::kind`] into `config`: one, or several if it is repeatable.
    pub fn set(&self, config: &mut Config, values: &[Value]) {
        assert!(!values.is_empty(), "{} needs a value", self.name);
        assert!(self.repeatable || values.len() == 1, "{} takes one value", self.name);
        (self.set)(config, values);
    }

    /// The default for people.
    pub fn default_text(&self) -> String {
        let values = self.values(&Config::default());
        if values.is_empty() {
            return self.unset.to_owned();
        }
        values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// A field that one [`Value`] fits into.
trait Field: Sized {
    fn from_value(value: &Value) -> Self;
    /// None if it is unset.
    fn to_value(&self, kind: Kind) -> Option<Value>;
}

macro_rules! number_fields {
    ($( $number:ty ),+) => {$(
        impl Field for $number {
            fn from_value(value: &Value) -> Self {
                let (Value::Number(number) | Value::Bytes(number)) = value else {
                    panic!("a number was parsed for this option, not {value:?}");
                };
                Self::try_from(*number).expect("the range of the kind fits the field")
            }

            fn to_value(&self, kind: Kind) -> Option<Value> {
                let number = u64::try_from(*self).expect("no field is wider than 64 bits");
                Some(match kind {
                    Kind::Bytes { .. } => Value::Bytes(number),
                    _ => Value::Number(number),
                })
            }
        }
    )+};
}

number_fields!(u16, u32, usize);

impl Field for bool {
    fn from_value(value: &Value) -> Self {
        *value == Value::Switch(true)
    }

    fn to_value(&self, _: Kind) -> Option<Value> {
        Some(Value::Switch(*self))
    }
}

impl Field for Order {
    fn from_value(value: &Value) -> Self {
        let is_it = |order: &Self| *value == Value::Word(order.name());
        Self::ALL.into_iter().find(is_it).expect("its name was parsed for this option")
    }

    fn to_value(&self, _: Kind) -> Option<Value> {
        Some(Value::Word(self.name()))
    }
}

impl<T: Field> Field for Option<T> {
    fn from_value(value: &Value) -> Self {
        Some(T::from_value(value))
    }

    fn to_value(&self, kind: Kind) -> Option<Value> {
        self.as_ref()?.to_value(kind)
    }
}

const TOP_ROWS: &[OptionRow] = &[
    OptionRow {
        name: "listen",
        section: Section::Top,
        kind: Kind::Endpoint,
        repeatable: true,
        help: "Address and port where MQTT clients connect over TCP. `localhost:1883` is this \
               machine, and `:1883` every address, by IPv4 and by IPv6.",
        unset: "",
        values: |config| config.listen.iter().copied().map(Value::Endpoint).collect(),
        set: |config, values| config.listen = values.iter().map(endpoint).collect(),
    },
    OptionRow {
        name: "cores",
        section: Section::Top,
        kind: Kind::Count { min: 1, max: 64 },
        repeatable: false,
        help: "Executors. Without a number there are no more than a CPU quota of the process's \
               control group allows.",
        unset: "one per available CPU, at most 64",
        values: |config| {
            config.cores.to_value(Kind::Count { min: 1, max: 64 }).into_iter().collect()
        },
        set: |config, values| config.cores = Field::from_value(&values[0]),
    },
    OptionRow {
        name: "pin",
        section: Section::Top,
        kind: Kind::Pin,
        repeatable: false,
        help: "The CPUs that executors stay on, such as `0-3,8`: one for each. With `auto` each \
               has one of its own, unless other programs are to have a part of the CPUs: a quota \
               of CPU time, or fewer executors than CPUs, say so. With `off` none stays on a CPU.",
        unset: "",
        values: |config| vec![Value::Pin(config.pin.clone())],
        set: |config, values| {
            if let Value::Pin(pin) = &values[0] {
                config.pin = pin.clone();
            }
        },
    },
    OptionRow {
        name: "log_level",
        section: Section::Top,
        kind: Kind::Level,
        repeatable: false,
        help: "The least severe log lines shown.",
        unset: "",
        values: |config| vec![Value::Level(config.log_level)],
        set: |config, values| {
            if let Value::Level(level) = values[0] {
                config.log_level = level;
            }
        },
    },
];

fn endpoint(value: &Value) -> Endpoint {
    let Value::Endpoint(endpoint) = value else {
        panic!("an endpoint was parsed for this option, not {value:?}");
    };
    *endpoint
}

macro_rules! limits {
    ($(
        $( #[doc = $help:literal] )+
        $name:ident: $type:ty = $default:expr,
            $kind:ident $( ( $min:expr, $max:expr ) )? $( [ $words:expr ] )?
            $( , unset $unset:literal )?;
    )+) => {
        /// How much of everything is allowed. Every queue and every table has its row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits {
            $( $( #[doc = $help] )+ pub $name: $type, )+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $name: $default, )+ }
            }
        }

        const LIMIT_ROWS: &[OptionRow] = &[$({
            const KIND: Kind = Kind::$kind $( { min: $min, max: $max } )? $( ( $words ) )?;
            OptionRow {
                name: stringify!($name),
                section: Section::Limits,
                kind: KIND,
                repeatable: false,
                help: concat!($( $help ),+),
                unset: concat!($( $unset )?),
                values: |config| config.limits.$name.to_value(KIND).into_iter().collect(),
                set: |config, values| config.limits.$name = <$type>::from_value(&values[0]),
            }
        }),+];
    };
}

/// Slots of all the channels to one shard, unless it is said how many each has: more shards
/// take memory in proportion to their number and not to its square.
const MESH_SLOT_COUNT: usize = 16 * 1024;
/// Slots of one channel that are enough for the bursts of one turn.
const MESH_CHANNEL_COUNT_MAX: usize = 4096;

impl Limits {
    /// Messages that one channel holds between two of `shard_count` shards.
    #[must_use]
    pub fn mesh_channel_count(&self, shard_count: usize) -> usize {
        let share = MESH_SLOT_COUNT / shard_count.saturating_sub(1).max(1);
        let share = share.min(MESH_CHANNEL_COUNT_MAX);
        self.mesh_channel_count_max.unwrap_or(share)
    }
}

const GIB: u64 = 1 << 30;
const U16_MAX: u64 = u16::MAX as u64;
const U32_MAX: u64 = u32::MAX as u64;

// A doc comment here is also the help of the flag and the comment in the file.
limits! {
    /// Largest MQTT packet taken from a client, fixed header included.
    packet_bytes_max: usize = 1 << 20, Bytes(16, 268_435_460);
    /// Connections open at once in the whole process.
    connection_count_max: usize = 100_000, Count(1, U32_MAX);
    /// Bytes waiting to be sent on one connection.
    /// A QoS 0 delivery that would exceed it is dropped and counted.
    outbox_bytes_max: usize = 1 << 20, Bytes(1024, 4 * GIB);
    /// QoS 1 and 2 deliveries waiting in one session, with or without a connection.
    queue_count_max: usize = 10_000, Count(1, U32_MAX);
    /// Bytes of the deliveries waiting in one session.
    queue_bytes_max: usize = 16 << 20, Bytes(1024, 1024 * GIB);
    /// Whether QoS 0 deliveries wait in a session that has no connection.
    queue_qos0_offline: bool = false, Switch;
    /// QoS 1 and 2 deliveries of one session sent and not yet acknowledged.
    /// A lower Receive Maximum of the client goes first.
    inflight_count_max: u16 = 1024, Count(1, U16_MAX);
    /// Bytes of these deliveries of one session. Beyond it further ones wait in the queue; one is
    /// sent whatever its size.
    inflight_bytes_max: usize = 8 << 20, Bytes(1024, 1024 * GIB);
    /// QoS 1 and 2 publishes of one client that the broker has not yet acknowledged.
    receive_count_max: u16 = 1024, Count(1, U16_MAX);
    /// Topic aliases that a 5.0 client may use on a connection; 0 for none.
    topic_alias_count_max: u16 = 64, Count(0, U16_MAX);
    /// Bytes of the topics that aliases of one connection stand for, each way. A client that goes
    /// beyond it is closed with 0x97; towards clients further topics have no alias.
    topic_alias_bytes_max: usize = 256 << 10, Bytes(0, 4 * GIB);
    /// Longest keep-alive that a 5.0 client may have, in seconds; it is told this one if it asks
    /// for a longer one or for none. 0 leaves the choice to the client.
    keep_alive_s_max: u16 = 0, Seconds(0, U16_MAX);
    /// Whether a client before 5.0, which cannot be told one, is refused with code 3 if it asks for
    /// a longer keep-alive than that or for none. Otherwise TCP's keep-alive finds out whether it
    /// is still there.
    keep_alive_v3_enforced: bool = false, Switch;
    /// Seconds of silence after which TCP asks whether a peer is still there; 0 for never.
    tcp_keep_alive_s: u16 = 300, Seconds(0, 32_767);
    /// Seconds after which a connection is given up whose peer does not confirm what it was sent,
    /// TCP's questions included; 0 leaves it to the system, which takes a quarter of an hour.
    tcp_user_timeout_s: u16 = 120, Seconds(0, 32_767);
    /// Longest that a session may outlive its connection, in seconds.
    /// 4294967295 is for ever.
    session_expiry_s_max: u32 = u32::MAX, Seconds(0, U32_MAX);
    /// How long the session of a client before 5.0 without a clean session outlives its connection,
    /// in seconds, for its version has no word for it: a week. 4294967295 is for ever.
    session_expiry_v3_s: u32 = 7 * 24 * 3600, Seconds(0, U32_MAX);
    /// Sessions in the whole process, with and without a connection.
    session_count_max: usize = 10_000_000, Count(1, U32_MAX);
    /// Subscriptions of one session.
    subscription_count_max: usize = 100_000, Count(1, U32_MAX);
    /// Shared subscriptions of one session: a publish chooses a member for each that it matches.
    /// One beyond it is refused with 0x97, before 5.0 with 0x80.
    shared_subscription_count_max: usize = 1024, Count(1, U32_MAX);
    /// What keeps its order on several cores: with "client" all publishes of one client, with
    /// "topic" those to one topic. The first costs clients that alternate between topics a round
    /// trip between cores for each change.
    order: Order = Order::Client, OneOf[&Order::NAMES];
    /// Bytes of the filters of one session, names of shared subscriptions included.
    /// A filter beyond it is refused with 0x97, before 5.0 with 0x80.
    subscription_bytes_max: usize = 8 << 20, Bytes(1024, U32_MAX);
    /// Filters of one SUBSCRIBE; those behind them are refused as above.
    subscribe_count_max: usize = 65_536, Count(1, U32_MAX);
    /// Levels of a topic or of a topic filter.
    /// A filter that has more is refused with 0x8F; a publish with 0x90, before 5.0 it is dropped.
    topic_level_count_max: usize = 128, Count(1, 65_536);
    /// Bytes of a topic or of a topic filter; what is longer is refused in the same way.
    topic_bytes_max: usize = 65_535, Bytes(1, 65_535);
    /// Bytes of a client identifier. A longer one is refused with 0x85, before 5.0 with code 2.
    client_id_bytes_max: usize = 65_535, Bytes(23, 65_535);
    /// Bytes of topic, properties and payload of a will. A CONNECT with a larger one is refused
    /// with 0x97, before 5.0 with code 3.
    will_bytes_max: usize = 256 << 10, Bytes(0, 268_435_460);
    /// Retained messages in the whole process.
    retained_count_max: usize = 10_000_000, Count(0, U32_MAX);
    /// Bytes of the retained messages in the whole process, topics and properties included.
    /// What exceeds it is not retained, counted, and in 5.0 refused with 0x97.
    retained_bytes_max: usize = 4 << 30, Bytes(0, 1024 * GIB);
    /// Bytes in the whole process of what is remembered of topics: which sessions get what is
    /// published to them. When it is full, all of it is forgotten.
    route_cache_bytes_max: usize = 32 << 20, Bytes(0, 1024 * GIB);
    /// Bytes that the process may take for all that clients cause. As it is used up, caches are
    /// given up, outboxes of slow readers are cut to a sixteenth for new deliveries, and each
    /// session may hold no more than an eighth of what is free, a sixteenth of all set aside for
    /// those who hold little. Above seven eighths, connections are closed with 0x97 that hold more
    /// than their share of what is not whole or not read. 0 is without a limit. Leave room for the
    /// kernel's socket buffers: 4 KiB for a connection that is idle, 3.8 MiB for one whose
    /// client does not read, and no more in all than net.ipv4.tcp_mem, 9 % of the machine's memory.
    memory_max: Option<usize> = None, Bytes(0, 1 << 62),
        unset "70 % of the least of the machine's memory, the cgroup's limit and RLIMIT_AS";
    /// Longest time in seconds from accepting a connection to having its whole CONNECT.
    connect_timeout_s: u16 = 10, Seconds(1, U16_MAX);
    /// Largest packet taken from a connection whose client is not accepted yet.
    connect_bytes_max: usize = 256 << 10, Bytes(16, 268_435_460);
    /// Longest time in seconds from the first byte of a packet to its last; a connection is closed
    /// beyond it. 0 is for ever.
    packet_timeout_s: u16 = 600, Seconds(0, 32_767);
    /// Messages waiting in one channel between two cores.
    /// There is a channel for each ordered pair of cores, and its memory is taken at the start.
    mesh_channel_count_max: Option<usize> = None, Count(1, 16_384),
        unset "4096, with more than 5 cores 16384 divided by the number of other cores";
    /// Seconds after which a connection is closed whose outbox is full and has sent nothing.
    slow_consumer_timeout_s: u16 = 30, Seconds(1, U16_MAX);
    /// Longest time in seconds that sending what waits may take when the broker stops.
    shutdown_timeout_s: u16 = 5, Seconds(0, U16_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The least and the greatest value of a kind, as words.
    fn ends(kind: Kind) -> [String; 2] {
        match kind {
            Kind::Count { min, max } | Kind::Bytes { min, max } | Kind::Seconds { min, max } => {
                [min.to_string(), max.to_string()]
            }
            Kind::Switch => ["true".into(), "false".into()],
            Kind::Level => ["error".into(), "trace".into()],
            Kind::OneOf(words) => [words[0].into(), words[words.len() - 1].into()],
            Kind::Endpoint => [":0".into(), "[::1]:65535".into()],
            Kind::Pin => ["auto".into(), "0-63".into()],
        }
    }

    #[test]
    fn every_option_takes_both_ends_of_its_range_and_gives_them_back() {
        for row in options() {
            for word in ends(row.kind) {
                let value = row.kind.parse(&word).unwrap();
                let mut config = Config::default();
                row.set(&mut config, std::slice::from_ref(&value));
                assert_eq!(row.values(&config), [value], "{} {word}", row.name);
            }
        }
    }

    #[test]
    fn setting_one_option_changes_no_other() {
        for row in options() {
            let [low, high] = ends(row.kind).map(|word| row.kind.parse(&word).unwrap());
            let mut config = Config::default();
            let other = if row.values(&config) == [low.clone()] { high } else { low };
            row.set(&mut config, &[other]);
            let changed = |r: &&OptionRow| r.values(&config) != r.values(&Config::default());
            let changed: Vec<_> = options().filter(changed).map(|r| r.name).collect();
            assert_eq!(changed, [row.name]);
        }
    }

    #[test]
    fn defaults_lie_in_range_and_say_so() {
        for row in options() {
            for value in row.values(&Config::default()) {
                assert_eq!(row.kind.parse(&value.to_string()), Ok(value), "{}", row.name);
            }
            assert!(!row.default_text().is_empty(), "{}", row.name);
            assert!(row.help().ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn names_are_unique_and_end_in_their_unit() {
        let mut seen = HashSet::new();
        for row in options() {
            assert!(seen.insert(row.name), "{}", row.name);
            match row.kind {
                Kind::Bytes { .. } => {
                    let says_so = row.name.contains("_bytes") || row.name == "memory_max";
                    assert!(says_so, "{}", row.name);
                }
                Kind::Seconds { .. } => assert!(row.name.contains("_s"), "{}", row.name),
                _ => {}
            }
        }
    }

    #[test]
    fn limits_default_to_what_the_reference_says() {
        let limits = Limits::default();
        assert_eq!(limits.packet_bytes_max, 1_048_576);
        assert_eq!(limits.session_expiry_s_max, u32::MAX);
        assert!(!limits.queue_qos0_offline);
        let row = options().find(|row| row.name == "cores").unwrap();
        assert_eq!(row.default_text(), "one per available CPU, at most 64");
        let channels = [1, 2, 5, 6, 16, 64].map(|cores| limits.mesh_channel_count(cores));
        assert_eq!(channels, [4096, 4096, 4096, 3276, 1092, 260]);
    }

    #[test]
    fn a_channel_holds_what_it_was_told_to() {
        let limits = Limits { mesh_channel_count_max: Some(9), ..Limits::default() };
        assert_eq!([2, 64].map(|cores| limits.mesh_channel_count(cores)), [9, 9]);
    }
}
