//! The engine of durability class `memory`: state lives in the shards and is lost with the
//! process, so a record is as safe as promised the moment it is handed over.

use super::{Engine, Record, Token};

/// Keeps nothing beyond what the shard itself holds.
#[derive(Debug, Default)]
pub struct Memory {
    appended: Option<Token>,
}

impl Engine for Memory {
    fn append(&mut self, _: &Record<'_>, token: Token) {
        debug_assert!(self.appended < Some(token), "tokens ascend");
        self.appended = Some(token);
    }

    fn committed(&mut self) -> Option<Token> {
        self.appended.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::storage::suite::engine_suite!(Memory::default());
}
