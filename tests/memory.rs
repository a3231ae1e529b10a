//! What a shard keeps in memory for those who do nothing: sessions that are offline, connections
//! that are idle, payloads that many queues hold. Counted by the allocator, hence the same on
//! every machine.
//!
//! These are the shard's bytes alone. In a process sockets, tasks and what the allocator itself
//! needs come on top.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bottle::{Bottle, Line};
use harness::direct::publish;
#[cfg(feature = "server")]
use ringmq::config::Limits;
use ringmq::mqtt::{Packet, Properties, Property, QoS, Version};
#[cfg(feature = "server")]
use ringmq::shard::Message;

#[path = "memory/bottle.rs"]
mod bottle;
#[path = "memory/budget.rs"]
mod budget;
#[path = "memory/charges.rs"]
mod charges;

/// What `src/server/mesh.rs` finds at this place in the broker.
#[cfg(feature = "server")]
mod routing {
    pub(crate) use ringmq::routing::{ShardId, ShardSet};
}

#[cfg(feature = "server")]
#[allow(dead_code)]
#[path = "../src/server/mesh.rs"]
mod mesh;

/// Enough that what a shard has once does not count, and no more than fits tables that double
/// half-way between their best and their worst.
const COUNT: usize = 48 * 1024;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, which counts what this thread has.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// What a request for so many bytes takes: allocators hand out multiples of 16.
fn rounded(layout: Layout) -> usize {
    layout.size().next_multiple_of(16)
}

// SAFETY: everything is left to the system's allocator; the count is a number of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(rounded(layout)));
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(rounded(layout)));
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes that this thread has allocated and not given back.
fn held() -> usize {
    HELD.get()
}

fn client_id(number: usize) -> String {
    format!("sensor-{number:08}")
}

fn filter(number: usize) -> String {
    format!("plant/7/sensor/{number:08}")
}

/// Each session subscribes to a filter of its own and leaves before the next one comes.
fn bytes_per_offline_session(shard_count: usize, version: Version) -> usize {
    let mut bottle = Bottle::new(shard_count);
    let before = held();
    for number in 0..COUNT {
        let line = bottle.connect(&client_id(number), version);
        bottle.subscribe(line, &filter(number), version);
        assert!(bottle.drain(line) >= 4 + 5, "CONNACK and SUBACK");
        bottle.close(line);
    }
    assert_eq!(bottle.harness.counters().sessions, COUNT as u64);
    (held() - before) / COUNT
}

/// Each connection has subscribed to a filter of its own, has read all, and is there.
fn bytes_per_idle_connection(version: Version) -> usize {
    let mut bottle = Bottle::new(1);
    let before = held();
    for number in 0..COUNT {
        let line = bottle.connect(&client_id(number), version);
        bottle.subscribe(line, &filter(number), version);
        assert!(bottle.drain(line) >= 4 + 5, "CONNACK and SUBACK");
    }
    assert_eq!(bottle.harness.counters().connections, COUNT as u64);
    (held() - before) / COUNT
}

fn assert_about(what: &str, bytes: usize, bytes_max: usize) {
    println!("{what}: {bytes} bytes");
    assert!(bytes <= bytes_max, "{what}: {bytes} bytes, {bytes_max} allowed");
    assert!(bytes > bytes_max / 10 * 9, "{what}: {bytes} bytes, allow no more than that");
}

#[test]
fn an_offline_session_is_small() {
    assert_about("offline, 3.1.1", bytes_per_offline_session(1, Version::V311), 270);
}

#[test]
fn an_offline_session_that_expires_is_small() {
    assert_about("offline, 5.0, expires", bytes_per_offline_session(1, Version::V5), 275);
}

#[test]
fn an_offline_session_is_small_with_its_filter_at_another_shard() {
    assert_about("offline, of 8 shards", bytes_per_offline_session(8, Version::V311), 396);
}

#[test]
fn an_idle_connection_is_small() {
    assert_about("idle, 3.1.1", bytes_per_idle_connection(Version::V311), 440);
}

#[test]
fn an_idle_connection_of_5_0_is_small() {
    assert_about("idle, 5.0", bytes_per_idle_connection(Version::V5), 440);
}

/// Channels are made before anybody connects: with all their slots.
#[cfg(feature = "server")]
#[test]
fn the_channels_of_a_shard_are_as_large_however_many_shards_there_are() {
    const SHARD_BYTES_MAX: usize = 2 << 20;
    for shard_count in [2, 4, 16, 32, 64] {
        let before = held();
        let channel_count_max = Limits::default().mesh_channel_count(shard_count);
        let meshes = mesh::Mesh::<Message, ()>::new(shard_count, channel_count_max);
        let bytes = (held() - before) / shard_count;
        println!("channels to one of {shard_count} shards: {bytes} bytes");
        assert!(bytes <= SHARD_BYTES_MAX, "{bytes} bytes for each of {shard_count} shards");
        drop(meshes);
    }
}

#[test]
fn queues_share_a_payload() {
    const QUEUES: usize = 1000;
    let payload = vec![7; 100 * 1000];
    let mut bottle = Bottle::new(1);
    for number in 0..QUEUES {
        let line = bottle.connect(&client_id(number), Version::V311);
        bottle.subscribe(line, "plant/7/all", Version::V311);
        bottle.close(line);
    }
    let publisher = bottle.connect("publisher", Version::V311);
    let before = held();
    let publish = publish("plant/7/all", &payload, QoS::AtLeastOnce, false);
    bottle.send(publisher, &Packet::Publish(publish), Version::V311);
    assert_eq!(bottle.harness.counters().ledger.queued, QUEUES as u64);
    let taken = held() - before;
    println!("a payload of 100,000 bytes in 1,000 queues: {taken} bytes");
    assert!(taken > payload.len(), "the queues have to hold it");
    assert!(taken < 6 * payload.len(), "{taken} bytes");
}

/// What is cleared, replaced or expired leaves nothing behind, however far away its expiry is.
#[test]
fn a_retained_message_that_is_gone_takes_its_memory_along() {
    let mut bottle = Bottle::new(1);
    let line = bottle.connect("publisher", Version::V5);
    let mut held_after = [0; 4];
    for bytes in &mut held_after {
        churn_retained(&mut bottle, line);
        *bytes = held();
    }
    assert_eq!(held_after[1..], [held_after[1]; 3]);
    assert_eq!(bottle.harness.counters().retained, 0);
}

fn churn_retained(bottle: &mut Bottle, line: Line) {
    let payload = [7; 100];
    let expiring = |bottle: &mut Bottle, topic: &str, expiry_s| {
        let mut buffer = Vec::new();
        let expiry = Properties::write([Property::MessageExpiryIntervalS(expiry_s)], &mut buffer);
        bottle.publish_with(line, topic, &payload, true, expiry);
    };
    let topics: Vec<String> = (0..1000).map(|number| format!("plant/7/{number}")).collect();
    for topic in &topics {
        expiring(bottle, topic, u32::MAX);
        expiring(bottle, topic, 1000);
        bottle.publish(line, topic, &payload, true);
        expiring(bottle, topic, u32::MAX);
        bottle.publish(line, topic, b"", true);
        expiring(bottle, topic, 1);
    }
    while bottle.harness.counters().retained > 0 {
        let due = bottle.harness.next_timeout().expect("something is to expire");
        let now = bottle.harness.now;
        bottle.pass(due.since(now).max(Duration::from_millis(1)));
    }
}

/// Members of a shared subscription come, take something, and go for good, in their thousands:
/// what is kept of them here and at the owners goes with them.
#[test]
fn members_of_shared_subscriptions_that_have_gone_leave_nothing() {
    for shard_count in [1, 4] {
        let mut bottle = Bottle::new(shard_count);
        let stays = bottle.connect("stays", Version::V311);
        bottle.subscribe(stays, "$share/workers/plant/#", Version::V311);
        let mut churn = |round: usize| {
            for number in round * 4000..(round + 1) * 4000 {
                let line = bottle.connect_clean(&client_id(number));
                bottle.subscribe(line, "$share/workers/plant/#", Version::V311);
                bottle.subscribe(line, "$share/others/plant/7", Version::V311);
                bottle.drain(line);
                bottle.close(line);
            }
            assert_eq!(bottle.harness.counters().sessions, 1);
            bottle.pass(Duration::from_secs(100)); // Timers are never cancelled, but they end.
            held()
        };
        let before = churn(0);
        let after = (1..4).map(&mut churn).last().unwrap();
        println!("12,000 members on {shard_count} shards: {before} bytes before, {after} after");
        assert!(after <= before + 4096, "{} bytes are left", after - before);
    }
}
