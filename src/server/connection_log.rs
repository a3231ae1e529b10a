//! Lines of log about connections: one when a client is connected and one when it leaves.
//!
//! Refusals and ends by error are `info`, what is ordinary is `debug`. One executor writes
//! [`LINES_MAX`] lines a second at most, so that a storm of connections costs no more than that.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tracing::{Level, debug, enabled, info};

use crate::shard::Connected;

/// Lines about connections that one executor writes in [`PERIOD`] at most.
const LINES_MAX: u32 = 100;
const PERIOD: Duration = Duration::from_secs(1);
/// Characters of a text of a client that are shown.
const SHOWN_CHARS_MAX: usize = 128;

/// What a connection is called in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// Given to one connection of this process only.
    number: u64,
    /// An address of IPv4 is kept as the address of IPv6 that stands for it.
    ip: [u8; 16],
    port: u16,
}

impl Name {
    pub(super) fn new(number: u64, peer: SocketAddr) -> Self {
        let ip = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { number, ip: ip.octets(), port: peer.port() }
    }

    fn peer(self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.ip).to_canonical(), self.port)
    }
}

/// What went over a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    /// Since its CONNECT had come.
    pub(super) lasted: Duration,
    /// Bytes that its client has sent.
    pub(super) received_bytes: u64,
    /// Bytes that were sent to it.
    pub(super) sent_bytes: u64,
}

/// Writes the lines of one executor.
#[derive(Debug)]
pub(super) struct ConnectionLog {
    /// When the first line of this period was written.
    since: Instant,
    line_count: u32,
    /// Lines that were left out since the last one.
    left_out: u64,
}

impl Default for ConnectionLog {
    fn default() -> Self {
        Self { since: Instant::now(), line_count: 0, left_out: 0 }
    }
}

impl ConnectionLog {
    /// A CONNECT was accepted.
    pub(super) fn connected(&mut self, name: Name, facts: &Connected<'_>) {
        if !enabled!(Level::DEBUG) || !self.may_write(Instant::now()) {
            return;
        }
        debug!(
            connection = name.number,
            address = %name.peer(),
            client_id = %Shown(facts.client_id),
            version = facts.version.name(),
            user = facts.username.map(Shown).map(tracing::field::display),
            keep_alive_s = facts.keep_alive_s,
            session_present = facts.is_session_present,
            "connected"
        );
    }

    /// A connection has ended that its shard knew.
    pub(super) fn closed(
        &mut self,
        name: Name,
        client_id: &str,
        is_ordinary: bool,
        reason: &dyn fmt::Display,
        traffic: Traffic,
    ) {
        if !self.may_write_closed(is_ordinary) {
            return;
        }
        macro_rules! write_line {
            ($level:ident) => {
                $level!(
                    connection = name.number,
                    address = %name.peer(),
                    client_id = (!client_id.is_empty())
                        .then(|| tracing::field::display(Shown(client_id))),
                    lasted_s = %format_args!("{:.3}", traffic.lasted.as_secs_f64()),
                    received_bytes = traffic.received_bytes,
                    sent_bytes = traffic.sent_bytes,
                    "closed: {reason}"
                )
            };
        }
        if is_ordinary { write_line!(debug) } else { write_line!(info) }
    }

    /// A connection has ended before its CONNECT was whole.
    pub(super) fn closed_early(&mut self, name: Name, is_ordinary: bool, reason: &str) {
        if !self.may_write_closed(is_ordinary) {
            return;
        }
        let (connection, address) = (name.number, name.peer());
        match is_ordinary {
            true => debug!(connection, %address, "closed: {reason}"),
            false => info!(connection, %address, "closed: {reason}"),
        }
    }

    fn may_write_closed(&mut self, is_ordinary: bool) -> bool {
        let is_shown = if is_ordinary { enabled!(Level::DEBUG) } else { enabled!(Level::INFO) };
        is_shown && self.may_write(Instant::now())
    }

    /// Whether one more line may be written now. Says how many were left out before it.
    fn may_write(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= PERIOD {
            (self.since, self.line_count) = (now, 0);
        }
        if self.line_count == LINES_MAX {
            self.left_out += 1;
            return false;
        }
        self.line_count += 1;
        match std::mem::take(&mut self.left_out) {
            0 => {}
            count => info!("{count} lines about connections were left out: there were too many"),
        }
        true
    }
}

/// A text of a client: quoted, on one line, and not longer than a line may be.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(SHOWN_CHARS_MAX).map_or(self.0.len(), |(at, _)| at);
        let rest = if end < self.0.len() { "..." } else { "" };
        write!(out, "{:?}{rest}", &self.0[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_they_were_given() {
        for text in ["127.0.0.1:1883", "[::1]:4711", "[2001:db8::7]:1"] {
            let name = Name::new(1, text.parse().unwrap());
            assert_eq!(name.peer().to_string(), text);
        }
        // A listener of IPv6 that takes IPv4 as well.
        let mapped = Name::new(1, "[::ffff:10.0.0.7]:99".parse().unwrap());
        assert_eq!(mapped.peer().to_string(), "10.0.0.7:99");
    }

    #[test]
    fn a_client_can_neither_end_a_line_nor_make_it_long() {
        assert_eq!(Shown("a\n\u{1b}[31mb\"").to_string(), r#""a\n\u{1b}[31mb\"""#);
        let long = "ü".repeat(SHOWN_CHARS_MAX + 1);
        let shown = Shown(&long).to_string();
        assert_eq!(shown, format!("\"{}\"...", "ü".repeat(SHOWN_CHARS_MAX)));
        assert_eq!(Shown(&long[2..]).to_string().chars().count(), SHOWN_CHARS_MAX + 2);
    }

    #[test]
    fn a_storm_is_cut_off_and_what_was_left_out_is_counted() {
        let mut log = ConnectionLog::default();
        let begun = log.since;
        let written = (0..1000).filter(|_| log.may_write(begun)).count();
        assert_eq!(written, LINES_MAX as usize);
        assert_eq!(log.left_out, 1000 - u64::from(LINES_MAX));
        assert!(!log.may_write(begun + PERIOD - Duration::from_millis(1)));
        assert!(log.may_write(begun + PERIOD));
        assert_eq!(log.left_out, 0);
    }
}
