//! Faults from outside: bytes that nobody meant on bare shards, and clients that come, go, stall
//! and lie by the thousand on the real binary.
//!
//! These are the small shares. `scripts/fuzz` and `scripts/live-faults` run the large ones; the
//! latter are the tests here that are ignored, and `RINGMQ_FAULT_MINUTES` says how long they take.

mod damage;

// What the fuzz targets use is public to them; here it is part of the test.
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

#[cfg(feature = "server")]
mod live;
