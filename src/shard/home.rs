//! The shard that a connection goes to: the home of the session that its first packet names.

use crate::mqtt::{self, Packet, Version};
use crate::routing::{Partition, ShardId};

/// Where a connection goes, as far as what came first says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// The first packet is not whole yet.
    Undecided,
    /// To the home of the session that it names.
    At(ShardId),
    /// To any shard: it names no session or is not valid, and any shard knows what to answer.
    Anywhere,
}

/// Says where a connection goes whose first bytes these are. Its first packet, if it is a CONNECT,
/// has at most `packet_bytes_max` bytes.
pub fn home(bytes: &[u8], packet_bytes_max: usize, partition: &Partition) -> Home {
    let frame = match mqtt::split(bytes, packet_bytes_max) {
        Ok(Some((frame, _))) => frame,
        Ok(None) if bytes.first().is_none_or(|first| mqtt::may_begin_connect(*first)) => {
            return Home::Undecided;
        }
        Ok(None) | Err(_) => return Home::Anywhere,
    };
    match Packet::decode(frame, Version::V311) {
        Ok(Packet::Connect(connect)) if !connect.client_id.is_empty() => {
            Home::At(partition.home(connect.client_id))
        }
        _ => Home::Anywhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Connect, Properties};

    const PACKET_BYTES_MAX: usize = 100;

    fn connect(client_id: &str) -> Vec<u8> {
        let connect = Connect {
            version: Version::V5,
            is_bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            properties: Properties::EMPTY,
            client_id,
            will: None,
            username: None,
            password: None,
        };
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(Version::V5, &mut bytes);
        bytes
    }

    fn home_of(bytes: &[u8]) -> Home {
        home(bytes, PACKET_BYTES_MAX, &partition())
    }

    fn partition() -> Partition {
        Partition::new(64, [1, 2, 3, 4])
    }

    #[test]
    fn a_client_goes_to_the_home_of_its_session() {
        for client_id in ["a", "b", "sensor-7"] {
            let mut bytes = connect(client_id);
            bytes.extend(connect("another client"));
            assert_eq!(home_of(&bytes), Home::At(partition().home(client_id)));
        }
    }

    #[test]
    fn nothing_is_decided_before_the_first_packet_is_whole() {
        let bytes = connect("sensor-7");
        for length in 0..bytes.len() {
            assert_eq!(home_of(&bytes[..length]), Home::Undecided, "of {length} bytes");
        }
    }

    #[test]
    fn a_client_without_a_name_goes_anywhere() {
        assert_eq!(home_of(&connect("")), Home::Anywhere);
    }

    #[test]
    fn what_is_no_connect_goes_anywhere() {
        let mut bytes = Vec::new();
        Packet::Pingreq.encode(Version::V311, &mut bytes);
        assert_eq!(home_of(&bytes), Home::Anywhere);
        assert_eq!(home_of(&bytes[..1]), Home::Anywhere, "it is seen by its first byte");
    }

    #[test]
    fn what_is_not_valid_goes_anywhere() {
        assert_eq!(home_of(b"GET / HTTP/1.1"), Home::Anywhere);
        let mut bytes = connect("sensor-7");
        bytes[4] = b'x'; // The name of the protocol.
        assert_eq!(home_of(&bytes), Home::Anywhere);
    }

    /// It is refused before all of it has come.
    #[test]
    fn what_is_too_large_goes_anywhere() {
        let bytes = connect(&"x".repeat(PACKET_BYTES_MAX));
        assert_eq!(home_of(&bytes[..2]), Home::Anywhere);
    }
}
