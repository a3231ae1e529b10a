//! What an audit finds: a figure that is kept as things happen differs from what is there.

use std::fmt;

/// A figure that does not agree with what it stands for, which is a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditError {
    /// Of what.
    pub what: &'static str,
    /// What was counted, or charged to a limit, as it came and went.
    pub charged: u64,
    /// What is there.
    pub held: u64,
}

impl AuditError {
    /// Compares a figure with what was found.
    ///
    /// # Errors
    /// Both, if they differ.
    pub fn compare(what: &'static str, charged: u64, held: u64) -> Result<(), Self> {
        if charged == held { Ok(()) } else { Err(Self { what, charged, held }) }
    }

    /// Compares a figure with the most that it may be.
    ///
    /// # Errors
    /// Both, if it is more.
    pub fn at_most(what: &'static str, charged: u64, max: u64) -> Result<(), Self> {
        if charged <= max { Ok(()) } else { Err(Self { what, charged, held: max }) }
    }
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, charged, held } = self;
        write!(f, "audit: {what}: {charged} charged, {held} held")
    }
}

impl std::error::Error for AuditError {}
