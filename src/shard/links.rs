//! This shard's ends of the mesh: order, back-pressure and no deadlock.
//!
//! A shard always takes what its peers send; what it cannot pass on at once waits in a backlog.
//! The backlogs stay bounded because their source is: a home sends an owner publishes worth at
//! most [`CREDIT_UNITS`], and is given credit back only once the owner has no backlog left. A
//! home without credit stops reading the connections that publish to that owner.
//!
//! A peer is behind while there is a backlog for it, or while it has said that it has put off too
//! many deliveries. The own entry is used for the latter alone.

use std::collections::VecDeque;

use crate::metrics::AuditError;
use crate::routing::ShardId;

use super::message::Message;
use super::{ConnectionId, Output};

/// What one home may have under way to one owner; a publish costs one unit and one more for
/// each 256 bytes.
pub(super) const CREDIT_UNITS: i64 = 4096;
const UNIT_BYTES: usize = 256;
/// Credit goes back in lots, so that it costs a message only now and then.
const CREDIT_LOT: u32 = 512;

/// One end for each peer.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    /// Peers that are behind.
    behind_count: usize,
    /// Bits of peers that may have room for connections that wait.
    open: u64,
}

#[derive(Debug)]
struct Link {
    backlog: VecDeque<Message>,
    /// What may still be published to this peer as owner; below zero after a large publish.
    credit: i64,
    /// What this peer published here and has not been given credit back for.
    owed: u32,
    /// The peer has put off too many deliveries.
    is_busy: bool,
    /// Connections that are not read until this peer has room, the longest waiting first.
    waiting: VecDeque<ConnectionId>,
}

impl Link {
    fn is_behind(&self) -> bool {
        self.is_busy || !self.backlog.is_empty()
    }

    fn must_wait(&self) -> bool {
        self.credit <= 0 || self.is_behind()
    }
}

impl Links {
    pub(super) fn new(shard_count: usize) -> Self {
        let link = || Link {
            backlog: VecDeque::new(),
            credit: CREDIT_UNITS,
            owed: 0,
            is_busy: false,
            waiting: VecDeque::new(),
        };
        Self { links: (0..shard_count).map(|_| link()).collect(), behind_count: 0, open: 0 }
    }

    /// Bytes of memory of what waits for a channel, without what messages share or point to.
    pub(super) fn memory_bytes(&self) -> usize {
        if self.behind_count == 0 {
            return 0;
        }
        let bytes = |link: &Link| link.backlog.capacity() * size_of::<Message>();
        self.links.iter().map(bytes).sum()
    }

    /// Sends now, or later in the same order.
    pub(super) fn send(&mut self, to: ShardId, message: Message, out: &mut impl Output) {
        let link = &mut self.links[to.index()];
        if link.backlog.is_empty() {
            let Err(full) = out.send(to, message) else { return };
            self.behind_count += usize::from(!link.is_behind());
            link.backlog.push_back(full.0);
        } else {
            link.backlog.push_back(message);
        }
    }

    /// Pays for a publish to `owner`.
    pub(super) fn spend(&mut self, owner: ShardId, bytes: usize) {
        self.links[owner.index()].credit -= i64::from(units(bytes));
    }

    /// Whether a publish to `owner` has to wait.
    pub(super) fn must_wait(&self, owner: ShardId) -> bool {
        self.links[owner.index()].must_wait()
    }

    /// The first peer that is behind, if any.
    pub(super) fn behind(&self) -> Option<ShardId> {
        if self.behind_count == 0 {
            return None;
        }
        let index = self.links.iter().position(Link::is_behind);
        index.map(ShardId::from_index)
    }

    /// Remembers a connection that is not read until `peer` has room.
    pub(super) fn wait(&mut self, peer: ShardId, connection: ConnectionId) {
        self.links[peer.index()].waiting.push_back(connection);
    }

    /// Whether [`Self::next_ready`] may have one.
    pub(super) fn may_be_ready(&self) -> bool {
        self.open != 0
    }

    /// The next connection that may be read again. It is asked for one after the other: the first
    /// may use up all the room there is.
    pub(super) fn next_ready(&mut self) -> Option<ConnectionId> {
        while self.open != 0 {
            let peer = self.open.trailing_zeros() as usize;
            let link = &mut self.links[peer];
            if !link.must_wait()
                && let Some(connection) = link.waiting.pop_front()
            {
                return Some(connection);
            }
            self.open &= !(1 << peer);
        }
        None
    }

    /// A publish from `home` was routed: credit goes back once nothing is behind.
    pub(super) fn handle_published(&mut self, home: ShardId, bytes: usize, out: &mut impl Output) {
        self.links[home.index()].owed += units(bytes);
        if self.behind_count == 0 {
            self.give_credit(home, CREDIT_LOT, out);
        }
    }

    /// An owner gave credit back.
    pub(super) fn handle_credit(&mut self, owner: ShardId, units: u32) {
        self.links[owner.index()].credit += i64::from(units);
        self.open |= 1 << owner.index();
    }

    /// The channel to `to` has room again.
    pub(super) fn handle_room(&mut self, to: ShardId, out: &mut impl Output) {
        let link = &mut self.links[to.index()];
        if link.backlog.is_empty() {
            return;
        }
        while let Some(message) = link.backlog.pop_front() {
            if let Err(full) = out.send(to, message) {
                link.backlog.push_front(full.0);
                return;
            }
        }
        link.backlog = VecDeque::new(); // It may have been long.
        if !link.is_busy {
            self.catch_up(to, out);
        }
    }

    /// A peer, or this shard itself, has put off too many deliveries, or has not any more.
    pub(super) fn handle_busy(&mut self, peer: ShardId, is_busy: bool, out: &mut impl Output) {
        let link = &mut self.links[peer.index()];
        let was_behind = link.is_behind();
        link.is_busy = is_busy;
        match (was_behind, link.is_behind()) {
            (false, true) => self.behind_count += 1,
            (true, false) => self.catch_up(peer, out),
            _ => {}
        }
    }

    /// Units that may still be published to `owner`, or wait here to be sent there.
    pub(super) fn credit_at(&self, owner: ShardId) -> i64 {
        let link = &self.links[owner.index()];
        link.credit + link.backlog.iter().map(published_units).sum::<i64>()
    }

    /// Units that `home` has not been given back, or that wait here to be sent there.
    pub(super) fn owed_to(&self, home: ShardId) -> i64 {
        let link = &self.links[home.index()];
        i64::from(link.owed) + link.backlog.iter().map(returned_units).sum::<i64>()
    }

    /// Compares what is known of the peers with what is there.
    pub(super) fn audit(&self) -> Result<(), AuditError> {
        let behind = self.links.iter().filter(|link| link.is_behind()).count();
        AuditError::compare("shards that are behind", self.behind_count as u64, behind as u64)
    }

    /// A peer is no longer behind: who waited for it may go on, and if it was the last, so may
    /// those who publish here.
    fn catch_up(&mut self, peer: ShardId, out: &mut impl Output) {
        self.behind_count -= 1;
        self.open |= 1 << peer.index();
        if self.behind_count == 0 {
            for home in 0..self.links.len() {
                self.give_credit(ShardId::from_index(home), CREDIT_LOT, out);
            }
        }
    }

    fn give_credit(&mut self, home: ShardId, least: u32, out: &mut impl Output) {
        let link = &mut self.links[home.index()];
        if link.owed >= least {
            let units = std::mem::take(&mut link.owed);
            self.send(home, Message::Credit { units }, out);
        }
    }
}

/// Units that a message to an owner was paid for with.
pub(super) fn published_units(message: &Message) -> i64 {
    match message {
        Message::Publish { publication, .. } => units(publication.len()).into(),
        _ => 0,
    }
}

/// Units that a message to a home gives back.
pub(super) fn returned_units(message: &Message) -> i64 {
    match message {
        Message::Credit { units } => (*units).into(),
        _ => 0,
    }
}

fn units(bytes: usize) -> u32 {
    1 + u32::try_from(bytes / UNIT_BYTES).expect("a packet is below 2^28 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AuthRequest, Verdict};
    use crate::mqtt::ReasonCode;
    use crate::shard::{Full, Outbox};
    use crate::storage::{Record, Token};

    /// Channels alone, which take nothing or whatever comes.
    struct Channels {
        are_full: bool,
    }

    impl Output for Channels {
        fn send(&mut self, _: ShardId, message: Message) -> Result<(), Full> {
            if self.are_full { Err(Full(message)) } else { Ok(()) }
        }

        fn outbox(&mut self, _: ConnectionId) -> &mut Outbox {
            unreachable!("links know no connections")
        }

        fn pause(&mut self, _: ConnectionId, _: bool) {}

        fn persist(&mut self, _: &Record<'_>, _: Token) {}

        fn authenticate(&mut self, _: ConnectionId, _: &AuthRequest<'_>) -> Verdict {
            Verdict::Allow(Vec::new())
        }

        fn close(&mut self, _: ConnectionId, _: ReasonCode) {}
    }

    #[test]
    fn a_backlog_is_charged_and_given_back() {
        let (mut links, to) = (Links::new(2), ShardId::from_index(1));
        let mut out = Channels { are_full: true };
        (0..1000).for_each(|units| links.send(to, Message::Credit { units }, &mut out));
        let bytes = links.memory_bytes();
        assert!(bytes >= 1000 * size_of::<Message>(), "{bytes} bytes");
        out.are_full = false;
        links.handle_room(to, &mut out);
        assert_eq!((links.memory_bytes(), links.links[1].backlog.capacity()), (0, 0));
    }
}
