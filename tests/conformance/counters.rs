//! Every counter after one exchange: a counter that is never added to, or twice, is found here.

use std::collections::{BTreeMap, BTreeSet};

use harness::script::Script;

use crate::runner::run_case;
use crate::shards::ShardWorld;

const EXCHANGE: &str = r#"
case an exchange that moves the counters
broker queue_count_max=1
broker queue_bytes_max=1024
broker retained_count_max=1
broker topic_level_count_max=3
broker client_id_bytes_max=23
broker topic_alias_bytes_max=10
broker packet_timeout_s=1
a > CONNECT a version=5 expiry=100 receive_max=1
a < CONNACK 0 ..
a > SUBSCRIBE id=1 t/#:2
a < SUBACK id=1 2
p > CONNECT p version=5
p < CONNACK 0 ..

# Completed at each QoS, and refused by the client.
p > PUBLISH t/0 zero
a < PUBLISH t/0 zero
p > PUBLISH t/1 q1 id=1 one
p < PUBACK id=1
a < PUBLISH t/1 q1 id=$i one
a > PUBACK id=$i
p > PUBLISH t/2 q2 id=2 two
p < PUBREC id=2
p > PUBREL id=2
p < PUBCOMP id=2
a < PUBLISH t/2 q2 id=$i two
a > PUBREC id=$i
a < PUBREL id=$i
a > PUBCOMP id=$i
p > PUBLISH t/1 q1 id=3 refused
p < PUBACK id=3
a < PUBLISH t/1 q1 id=$i refused
a > PUBACK id=$i 0x83

# Of three one flies, one waits, and one finds the queue full; offline nothing comes at QoS 0.
p > PUBLISH t/1 q1 id=4 flies
p < PUBACK id=4
a < PUBLISH t/1 q1 id=$i flies
p > PUBLISH t/1 q1 id=5 waits
p < PUBACK id=5
p > PUBLISH t/1 q1 id=6 full
p < PUBACK id=6
a abort
wait 10ms
p > PUBLISH t/0 offline
p > PINGREQ
p < PINGRESP
a > CONNECT a version=5 clean=0 expiry=100 receive_max=1
a < CONNACK 0 present ..
a < PUBLISH t/1 q1 dup id=$i flies
a > PUBACK id=$i
a < PUBLISH t/1 q1 id=$i waits

# Waits until it has expired; too many bytes for the queue.
p > PUBLISH t/1 q1 id=7 message_expiry=1 old
p < PUBACK id=7
wait 1100ms
a > PUBACK id=$i
a < nothing
p > PUBLISH t/1 q1 id=8 flies
p < PUBACK id=8
a < PUBLISH t/1 q1 id=$i flies
p > PUBLISH t/1 q1 id=9 "x"*1100
p < PUBACK id=9
p > PUBLISH t/1 q1 id=10 waits
p < PUBACK id=10

# Too large for its client, and lost with its session.
b > CONNECT b version=5 packet_max=40
b < CONNACK 0 ..
b > SUBSCRIBE id=1 u:1
b < SUBACK id=1 1
p > PUBLISH u q1 id=11 "x"*100
p < PUBACK id=11
p > PUBLISH u q1 id=12 fits
p < PUBACK id=12
b < PUBLISH u q1 id=$i fits
b > DISCONNECT
b < closed

# A client that breaks the protocol, one that is silent, one that comes twice, one with a will.
d > CONNECT d version=5
d < CONNACK 0 ..
d > CONNECT d version=5
d < DISCONNECT 0x82
d < closed
e > CONNECT e version=5 keepalive=1
e < CONNACK 0 ..
wait 1600ms
e < DISCONNECT 0x8D
e < closed
f > CONNECT f version=5
f < CONNACK 0 ..
g > CONNECT f version=5
g < CONNACK 0 ..
f < DISCONNECT 0x8E
f < closed
h > CONNECT h version=5 will=w
h < CONNACK 0 ..
h close

# Retained, and one more than are allowed.
p > PUBLISH r q1 retain id=13 x
p < PUBACK id=13 0x10
p > PUBLISH s q1 retain id=14 x
p < PUBACK id=14 0x97

# Said in the name of the broker: a publish and a will.
p > PUBLISH $SYS/x q1 id=15 x
p < PUBACK id=15 0x87
i > CONNECT i version=5 will=$SYS/y
i < CONNACK 0 ..
i close

# Beyond limits: a topic, a filter, a client identifier, aliases, half a packet.
p > PUBLISH a/b/c/d q1 id=16 x
p < PUBACK id=16 0x90
p > SUBSCRIBE id=17 a/b/c/d:0
p < SUBACK id=17 0x8F
j > CONNECT "x"*24 version=5
j < CONNACK 0x85
j < closed
k > CONNECT k version=5
k < CONNACK 0 ..
k > PUBLISH aaaaaaaaaaa alias=1 x
k < DISCONNECT 0x97
k < closed
l > CONNECT l version=5
l < CONNACK 0 ..
l > raw c0
wait 2100ms
l < DISCONNECT 0x97
l < closed
"#;

/// What each counter says then.
const TABLE: &[(&str, u64)] = &[
    ("connections", 3),
    ("connections_closed", 10),
    ("connections_refused_quota", 1),
    ("closed_over_quota", 1),
    ("closed_half_packet", 1),
    ("subscriptions_refused", 1),
    ("publishes_refused", 1),
    ("sessions", 3),
    ("subscriptions", 1),
    ("retained", 1),
    ("retained_refused", 1),
    ("publishes_received_qos0", 3),
    ("publishes_received_qos1", 13),
    ("publishes_received_qos2", 1),
    ("publishes_refused_sys", 2),
    ("deliveries_sent_qos0", 1),
    ("deliveries_sent_qos1", 7),
    ("deliveries_sent_qos2", 1),
    ("protocol_errors", 2),
    ("keep_alive_timeouts", 1),
    ("takeovers", 1),
    ("wills_published", 1),
    ("deliveries_matched", 14),
    ("deliveries_completed", 5),
    ("deliveries_queued", 1),
    ("deliveries_in_flight", 1),
    ("deliveries_dropped_queue_full", 1),
    ("deliveries_dropped_queue_bytes_full", 1),
    ("deliveries_dropped_offline", 1),
    ("deliveries_dropped_session_ended", 1),
    ("deliveries_dropped_too_large", 1),
    ("deliveries_dropped_refused_by_client", 1),
    ("deliveries_dropped_expired", 1),
];

/// What stays at zero here, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("connections_accepted", "counted by the server: tests/broker"),
    ("connections_refused_limit", "counted by the server: tests/broker"),
    ("bytes_sent", "counted by the server: tests/broker"),
    ("mesh_wakes", "counted by the server: tests/broker"),
    ("deliveries_dropped_over_share", "memory is not short: tests/memory/budget.rs"),
    ("mesh_messages", "there is one shard; the simulator has several"),
    ("slow_consumers_closed", "its clients read; the simulator has some that do not"),
    ("publishers_paused", "nothing is full; the simulator fills everything"),
    ("publishes_put_off", "it has few subscribers: tests/slices.rs, the simulator"),
    ("put_off", "it has few subscribers: tests/slices.rs, the simulator"),
    ("connections_broken_early", "its clients break none; the simulator has some that do"),
    ("takeovers_cut_off", "its clients send little: tests/broker"),
    ("deliveries_dropped_reassigned", "it has no group: tests/conformance/v5/SHARE.txt"),
    ("deliveries_dropped_outbox_full", "its clients read; the simulator has some that do not"),
];

/// Bytes of memory, which an audit compares with what there is: here after every case, and in
/// `tests/memory`.
const AUDITED: &[&str] = &["memory_charged", "session_bytes"];

#[test]
fn every_counter_says_what_has_happened() {
    let script = Script::parse(EXCHANGE).expect("the exchange is well-formed");
    for seed in 1..=5 {
        let mut world = ShardWorld::start(1, seed, &script.cases[0]);
        run_case(&mut world, &script.cases[0]).unwrap_or_else(|error| panic!("line {error}"));
        world.expect_balance().expect("every delivery is accounted for");
        let counters = world.counters();
        let rows = counters.iter().chain(counters.ledger.iter());
        let said: BTreeMap<&str, u64> = rows.map(|(row, value)| (row.name, value)).collect();
        let elsewhere = ELSEWHERE.iter().map(|(name, _)| (*name, 0));
        let received = ("bytes_received", world.sent_bytes());
        let wanted = TABLE.iter().copied().chain(elsewhere).chain([received]);
        let wanted: BTreeMap<&str, u64> = wanted.collect();
        let names: BTreeSet<&str> = said.keys().chain(wanted.keys()).copied().collect();
        let wrong: Vec<String> = names
            .iter()
            .filter(|name| !AUDITED.contains(name))
            .filter(|name| said.get(*name) != wanted.get(*name))
            .map(|name| format!("{name}: {:?}, not {:?}", said.get(name), wanted.get(name)))
            .collect();
        assert!(wrong.is_empty(), "with seed {seed}:\n{}", wrong.join("\n"));
    }
}
