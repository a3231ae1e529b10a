//! The broker as an operator meets it: its options, its limits, its end, and what it does with
//! clients that do not behave. The real binary, real sockets.

#![cfg(feature = "server")]

mod address_space;
mod budget;
mod cores;
mod crowd;
mod hostile;
mod limits;
mod log;
mod options;
mod order;
mod panics;
mod pause;
mod rings;
mod shutdown;
mod slow_consumer;
mod start;
mod take_over;
