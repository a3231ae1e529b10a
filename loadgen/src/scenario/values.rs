//! The values of options, and what was expected in place of a bad one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::error::ErrorKind;
use serde::Serialize;

use crate::plan::payload::STAMP_BYTES;

const PAYLOAD_BYTES_MAX: usize = 16 << 20;
const SECONDS_MAX: f64 = 7.0 * 86_400.0;
const SOURCE_COUNT_MAX: u128 = 65_536;
const RATE_MAX: f64 = 10_000_000.0;

/// Refuses options that make no sense together.
pub(crate) fn refuse(message: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, message)
}

/// Addresses of this machine.
#[derive(Serialize, Clone)]
pub(super) struct SourceIps(pub(super) Vec<IpAddr>);

pub(super) fn broker(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT, as in localhost:1883 or [::1]:1883".to_owned()),
    }
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|rate| *rate > 0.0 && *rate <= RATE_MAX)
        .ok_or_else(|| format!("expected publishes per second, above 0 and up to {RATE_MAX}"))
}

pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
        .ok_or_else(|| format!("expected seconds, 0 to {SECONDS_MAX}"))
}

/// Parses a share of the whole.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let expected = || "expected a share, 0 to 1".to_owned();
    number(text).filter(|share| (0.0..=1.0).contains(share)).ok_or_else(expected)
}

pub(crate) fn seconds_above_zero(text: &str) -> Result<f64, String> {
    let expected = || format!("expected seconds, at least 0.001 and up to {SECONDS_MAX}");
    seconds(text).ok().filter(|seconds| *seconds >= 0.001).ok_or_else(expected)
}

pub(super) fn interval(text: &str) -> Result<f64, String> {
    let expected = || "expected seconds, 0.1 to 3600".to_owned();
    seconds(text).ok().filter(|seconds| (0.1..=3600.0).contains(seconds)).ok_or_else(expected)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

pub(super) fn payload_bytes(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|bytes| (STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(bytes))
        .ok_or_else(|| format!("expected {STAMP_BYTES} (the stamp) to {PAYLOAD_BYTES_MAX} bytes"))
}

pub(super) fn source_ips(text: &str) -> Result<SourceIps, String> {
    let mut ips = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => ips.extend(range(ip(first)?, ip(last)?)?),
            None => ips.push(ip(part)?),
        }
    }
    Ok(SourceIps(ips))
}

fn ip(text: &str) -> Result<IpAddr, String> {
    let expected = "expected addresses: 127.0.0.2,127.0.0.3 or 127.0.0.2-127.0.0.20";
    text.trim().parse().map_err(|_| expected.to_owned())
}

/// Lists all addresses from `first` to `last`.
fn range(first: IpAddr, last: IpAddr) -> Result<Vec<IpAddr>, String> {
    let (from, to) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits().into(), last.to_bits().into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits()),
        _ => return Err("both ends of a range must be IPv4 or IPv6".to_owned()),
    };
    if from > to || to - from >= SOURCE_COUNT_MAX {
        return Err(format!(
            "expected a range that ascends, of up to {SOURCE_COUNT_MAX} addresses"
        ));
    }
    let at = |bits: u128| match first {
        IpAddr::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    };
    Ok((from..=to).map(at).collect())
}

pub(super) fn prefix(text: &str) -> Result<String, String> {
    let sound = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if !text.is_empty() && text.len() <= 200 && text.chars().all(sound) {
        return Ok(text.to_owned());
    }
    Err("expected 1 to 200 of the characters a-z A-Z 0-9 - _ .".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_are_listed_or_ranges() {
        let ips = |text| source_ips(text).map(|ips| ips.0.len());
        assert_eq!(ips("127.0.0.2"), Ok(1));
        assert_eq!(ips("127.0.0.2,127.0.0.9"), Ok(2));
        assert_eq!(ips("127.0.0.250-127.0.1.5,::1"), Ok(13));
        assert_eq!(ips("fd00::1-fd00::ff"), Ok(255));
        for bad in ["", "localhost", "127.0.0.9-127.0.0.2", "0.0.0.0-9.9.9.9", "::1-1.2.3.4"] {
            assert!(ips(bad).is_err(), "{bad}");
        }
    }
}
