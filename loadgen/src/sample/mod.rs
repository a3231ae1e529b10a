//! What the system says of this machine, of this process and of the broker's.

pub(crate) mod clock;
pub(crate) mod machine;
pub(crate) mod process;
pub(crate) mod usage;
