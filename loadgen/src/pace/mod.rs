//! When each message is due. No clocks and no timers here.

pub(crate) mod schedule;
pub(crate) mod window;
