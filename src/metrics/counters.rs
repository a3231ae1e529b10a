//! THE table of counters: a row here is a field of [`Counters`], its documentation, and what
//! every reader (Prometheus, `$SYS`, tests) shows of it.

use super::Ledger;

/// How a value behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the process lives.
    Counter,
    /// Goes up and down: how many there are now.
    Gauge,
}

/// What is known about a counter apart from its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name without prefix, in `snake_case`; unique over counters and ledger.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// Whether it can go down.
    pub kind: Kind,
}

macro_rules! counters {
    ($( $name:ident: $kind:ident = $help:literal; )+) => {
        /// The counters of one shard, or the sum over several.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $( #[doc = $help] pub $name: u64, )+
            /// What became of every delivery.
            pub ledger: Ledger,
        }

        const ROWS: &[Row] =
            &[$( Row { name: stringify!($name), help: $help, kind: Kind::$kind } ),+];

        impl Counters {
            fn values(&self) -> [u64; ROWS.len()] {
                [$( self.$name ),+]
            }

            /// Adds the values of `other`, such as another shard's, to these.
            pub fn add(&mut self, other: &Self) {
                $( self.$name += other.$name; )+
                self.ledger.add(&other.ledger);
            }
        }
    };
}

counters! {
    connections: Gauge = "Connections open now.";
    connections_accepted: Counter = "Connections accepted by a listener.";
    connections_refused_limit: Counter = "Connections closed at once: too many were open.";
    connections_refused_quota: Counter = "CONNECT refused: it asks for more than a limit allows.";
    connections_closed: Counter = "Connections closed, for whatever reason.";
    closed_over_quota: Counter = "Connections closed because the client held too much.";
    closed_half_packet: Counter = "Connections closed because a packet was not whole in time.";
    sessions: Gauge = "Sessions held now, with and without a connection.";
    subscriptions: Gauge = "Subscriptions held now.";
    retained: Gauge = "Retained messages held now.";
    retained_refused: Counter = "Messages not retained: too many were, or too large.";
    subscriptions_refused: Counter = "Filters of SUBSCRIBE refused: over a limit of the session.";
    publishes_refused: Counter = "Publishes not routed: the topic is beyond a limit.";
    memory_charged: Gauge = "Bytes held because of clients, as charged to memory_max.";
    session_bytes: Gauge = "Bytes of what sessions hold beside themselves, without payloads.";
    bytes_received: Counter = "Bytes read from clients.";
    bytes_sent: Counter = "Bytes written to clients.";
    publishes_received_qos0: Counter = "Publishes taken from clients at QoS 0.";
    publishes_received_qos1: Counter = "Publishes taken from clients at QoS 1.";
    publishes_received_qos2: Counter = "Publishes taken from clients at QoS 2, once each.";
    publishes_refused_sys: Counter = "Publishes and wills of clients to `$SYS`, not routed.";
    deliveries_sent_qos0: Counter = "Deliveries sent to clients at QoS 0.";
    deliveries_sent_qos1: Counter = "Deliveries sent to clients at QoS 1, repeats included.";
    deliveries_sent_qos2: Counter = "Deliveries sent to clients at QoS 2, repeats included.";
    protocol_errors: Counter = "Connections closed because the client broke the protocol.";
    keep_alive_timeouts: Counter = "Connections closed because the client went silent.";
    takeovers: Counter = "Connections closed because their client id connected again.";
    takeovers_cut_off: Counter = "Connections taken over before all that they had sent was read.";
    connections_broken_early: Counter = "Connections that broke before their CONNECT was handled.";
    wills_published: Counter = "Will messages published.";
    slow_consumers_closed: Counter = "Connections closed because their client stopped reading.";
    publishes_put_off: Counter = "Publishes delivered later, for there was too much at once.";
    put_off: Gauge = "Publishes put off now.";
    publishers_paused: Counter = "Times a publishing connection was not read for lack of room.";
    mesh_messages: Counter = "Messages sent to another shard.";
    mesh_wakes: Counter = "Times another shard was woken up.";
}

impl Counters {
    /// Every row of the table with its value, in table order. The ledger has its own
    /// [`Ledger::iter`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static Row, u64)> {
        ROWS.iter().zip(self.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_snake_case() {
        let counters = Counters::default();
        let mut seen = HashSet::new();
        for (row, _) in counters.iter().chain(counters.ledger.iter()) {
            assert!(seen.insert(row.name), "{} appears twice", row.name);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(row.name.chars().all(plain), "{} is not snake_case", row.name);
            assert!(row.help.ends_with('.'), "{} has no sentence for help", row.name);
        }
    }

    #[test]
    fn iter_pairs_each_row_with_its_own_field() {
        let counters = Counters { connections: 1, mesh_wakes: 2, ..Counters::default() };
        let nonzero: Vec<_> =
            counters.iter().filter(|(_, n)| *n > 0).map(|(row, n)| (row.name, n)).collect();
        assert_eq!(nonzero, [("connections", 1), ("mesh_wakes", 2)]);
    }

    #[test]
    fn add_sums_every_field() {
        let mut one = Counters { bytes_sent: 3, ..Counters::default() };
        one.ledger.matched = 1;
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!((sum.bytes_sent, sum.ledger.matched, sum.connections), (6, 2, 0));
    }
}
