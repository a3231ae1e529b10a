//! Where connections are accepted, in the words that people use for it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// One or two addresses with the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `192.0.2.1:1883` or `[2001:db8::1]:1883`. `[::]:1883` are the addresses of IPv6 alone.
    Address(SocketAddr),
    /// `localhost:1883`: this machine, by both versions of IP.
    Localhost(u16),
    /// `:1883` or `1883`: every address of this machine, by both versions of IP.
    Every(u16),
}

impl Endpoint {
    /// The addresses, that of IPv4 first.
    #[must_use]
    pub fn addresses(self) -> Vec<SocketAddr> {
        let (v4, v6, port) = match self {
            Self::Address(address) => return vec![address],
            Self::Localhost(port) => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port),
            Self::Every(port) => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port),
        };
        vec![(v4, port).into(), (v6, port).into()]
    }
}

/// The word is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEndpoint;

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(word: &str) -> Result<Self, NoEndpoint> {
        let port = |digits: &str| digits.parse().map_err(|_| NoEndpoint);
        match word.rsplit_once(':') {
            None => port(word).map(Self::Every),
            Some(("", digits)) => port(digits).map(Self::Every),
            Some(("localhost", digits)) => port(digits).map(Self::Localhost),
            Some(_) => word.parse().map(Self::Address).map_err(|_| NoEndpoint),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(out),
            Self::Localhost(port) => write!(out, "localhost:{port}"),
            Self::Every(port) => write!(out, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_means_addresses_and_is_read_back() {
        for (word, shown, addresses) in [
            ("127.0.0.1:1", "127.0.0.1:1", &["127.0.0.1:1"][..]),
            ("[::1]:65535", "[::1]:65535", &["[::1]:65535"]),
            ("localhost:1883", "localhost:1883", &["127.0.0.1:1883", "[::1]:1883"]),
            (":1883", ":1883", &["0.0.0.0:1883", "[::]:1883"]),
            ("1883", ":1883", &["0.0.0.0:1883", "[::]:1883"]),
        ] {
            let endpoint: Endpoint = word.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse(), Ok(endpoint));
            let found: Vec<String> = endpoint.addresses().iter().map(ToString::to_string).collect();
            assert_eq!(found, addresses, "{word}");
        }
    }

    #[test]
    fn other_words_are_none() {
        for word in ["", ":", "localhost", "host:1", "1.2.3.4", "::1:1883", "65536", ":-1", "é"] {
            assert_eq!(word.parse::<Endpoint>(), Err(NoEndpoint), "{word}");
        }
    }
}
