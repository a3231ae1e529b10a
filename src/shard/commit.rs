//! What waits until storage has answered.

use std::collections::VecDeque;

use crate::storage::{Record, Token};

use super::publish::Routed;
use super::subscribe::Asked;
use super::{Output, Receipt, Shard, work};

/// A promise to a client that is made once the state behind it is safe.
#[derive(Debug)]
pub(super) enum Then {
    /// This home holds a publish for its sessions.
    Accepted(Receipt),
    /// This owner retained a publish and gave it to homes.
    Counted(Receipt, Routed),
    /// SUBACK.
    Subscribed(Asked, Vec<u8>),
}

/// Numbers records, and keeps the promises that wait for them.
#[derive(Debug, Default)]
pub(super) struct Commits {
    last: Token,
    safe: Token,
    /// Tokens ascend, because a promise is added after its record.
    waiting: VecDeque<(Token, Then)>,
}

impl Commits {
    /// Hands a record to storage.
    pub(super) fn persist(&mut self, record: &Record<'_>, out: &mut impl Output) -> Token {
        self.last = self.last.next();
        out.persist(record, self.last);
        self.last
    }

    /// Remembers what to do once all records so far are safe.
    pub(super) fn wait(&mut self, then: Then) {
        self.waiting.push_back((self.last, then));
    }

    /// Whether any record is not safe yet.
    pub(super) fn is_behind(&self) -> bool {
        self.safe < self.last
    }

    /// Whether a promise may be kept now.
    pub(super) fn has_due(&self) -> bool {
        self.waiting.front().is_some_and(|(needed, _)| *needed <= self.safe)
    }

    fn take(&mut self) -> Option<Then> {
        if self.has_due() { self.waiting.pop_front().map(|(_, then)| then) } else { None }
    }
}

impl Shard {
    pub(super) fn handle_persisted(&mut self, token: Token, out: &mut impl Output) {
        self.commits.safe = token;
        self.keep_promises(out);
    }

    /// Keeps the promises that waited for what is safe now, for as long as the input may take.
    pub(super) fn keep_promises(&mut self, out: &mut impl Output) {
        while !self.is_used_up()
            && let Some(then) = self.commits.take()
        {
            self.work.charge(work::WAKE);
            match then {
                Then::Accepted(receipt) => self.accept(receipt, out),
                Then::Counted(receipt, routed) => {
                    self.count(receipt, routed.awaited, routed.reason(), out);
                }
                Then::Subscribed(asked, reasons) => {
                    self.acknowledge_subscribe(asked, &reasons, out);
                }
            }
        }
    }
}
