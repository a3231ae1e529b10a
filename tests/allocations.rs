//! What a publish and its acknowledgements cost the allocator: nothing, but for one piece of
//! memory for each publish of QoS 1 or 2, which all deliveries of it share until they are
//! acknowledged. Counted, hence the same on every machine.

#![allow(unsafe_code)]

#[allow(dead_code, reason = "some shapes are for the benchmark alone")]
#[path = "../benches/shard/bare.rs"]
mod bare;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bare::{Bare, Shape};
use ringmq::mqtt::{QoS, Version};

/// Rounds until every buffer and table has its size.
const WARM_UP_ROUNDS: usize = 8;
const ROUNDS: u64 = 20;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, which counts how often this thread asks.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator; the count is a number of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations in `ROUNDS` rounds, in each of which every publisher publishes once.
fn allocations(shape: Shape, version: Version, qos: QoS) -> u64 {
    let mut bare = Bare::new(1, shape, version, qos);
    (0..WARM_UP_ROUNDS).for_each(|_| bare.round());
    let (before, delivered_before) = (COUNT.get(), bare.delivered_count);
    (0..ROUNDS).for_each(|_| bare.round());
    let count = COUNT.get() - before;
    assert!(bare.delivered_count > delivered_before, "everything was delivered");
    count
}

fn expect(shape: Shape, qos: QoS, per_round: u64) {
    expect_at_most(shape, qos, per_round, 0);
}

/// A few more in a round, but no fewer: a count that misses something would be worth nothing.
fn expect_at_most(shape: Shape, qos: QoS, per_round: u64, more_per_round: u64) {
    for version in [Version::V311, Version::V5] {
        let count = allocations(shape, version, qos);
        let expected = ROUNDS * per_round..=ROUNDS * (per_round + more_per_round);
        assert!(expected.contains(&count), "{version:?} {qos:?}: {count}, not {expected:?}");
    }
}

#[test]
fn qos_0_allocates_nothing() {
    expect(Shape::Pairs(200), QoS::AtMostOnce, 0);
    expect(Shape::FanOut(100), QoS::AtMostOnce, 0);
    expect(Shape::FanIn(20), QoS::AtMostOnce, 0);
}

#[test]
fn a_publish_to_one_allocates_once() {
    expect(Shape::Pairs(200), QoS::AtLeastOnce, 200);
    expect(Shape::Pairs(200), QoS::ExactlyOnce, 200);
}

#[test]
fn a_publish_to_many_allocates_once() {
    expect(Shape::FanOut(100), QoS::AtLeastOnce, 1);
    expect(Shape::FanOut(100), QoS::ExactlyOnce, 1);
}

#[test]
fn many_publishes_to_one_allocate_once_each() {
    expect(Shape::FanIn(20), QoS::AtLeastOnce, 20);
    expect(Shape::FanIn(20), QoS::ExactlyOnce, 20);
}

/// More comes in a turn than outbox and queue of the subscriber keep memory for: both double until
/// it fits, and give that back.
#[test]
fn a_burst_to_one_costs_a_few_more() {
    expect_at_most(Shape::FanIn(500), QoS::AtMostOnce, 0, 8);
    expect_at_most(Shape::FanIn(500), QoS::AtLeastOnce, 500, 20);
    expect_at_most(Shape::FanIn(500), QoS::ExactlyOnce, 500, 40);
}
