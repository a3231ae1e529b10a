//! The settings of the broker: validated values, and the one table of options that the command
//! line, the configuration file and the printed reference are derived from.
//!
//! Reading the file from disk is the caller's business; this module sees its text.

mod endpoint;
mod file;
mod options;
mod pin;
mod value;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

pub use endpoint::Endpoint;
pub use file::{FileError, FileErrors};
pub use options::{Limits, OptionRow, Section, options};
pub use pin::Pin;
pub use value::{Kind, Value, ValueError};

/// All settings of the broker. Each field has its row in [`options()`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where plain TCP connections are accepted; at least one.
    pub listen: Vec<Endpoint>,
    /// Executors, 1..=64; `None` is one per CPU that `pin` names, or that is available.
    pub cores: Option<usize>,
    /// The CPUs that executors stay on.
    pub pin: Pin,
    /// The least severe log lines shown.
    pub log_level: LogLevel,
    /// How much of everything is allowed.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Endpoint::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)))],
            cores: None,
            pin: Pin::default(),
            log_level: LogLevel::Info,
            limits: Limits::default(),
        }
    }
}

/// What keeps its order on its way to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All publishes of one client, whatever their topics.
    Client,
    /// The publishes of one client to one topic [MQTT-4.6.0-6].
    Topic,
}

impl Order {
    /// Every order.
    pub const ALL: [Self; 2] = [Self::Client, Self::Topic];
    /// The words for them in options and files.
    pub const NAMES: [&'static str; 2] = ["client", "topic"];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The severities of log lines, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// The broker or one of its parts does not work.
    Error,
    /// Something to look at: a limit reached, a client that breaks the protocol.
    Warn,
    /// What the broker does as a whole.
    Info,
    /// What it does for each connection.
    Debug,
    /// What it does for each packet.
    Trace,
}

impl LogLevel {
    /// Every level, worst first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
