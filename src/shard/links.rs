//! This shard's ends of the mesh: order, back-pressure and no deadlock.
//!
//! A shard always takes what its peers send; what it cannot pass on at once waits in a backlog.
//! The backlogs stay bounded because their source is: a home sends an owner publishes worth at
//! most [`CREDIT_UNITS`], and is given credit back only once the owner has no backlog left. A
//! home without credit stops reading the connections that publish to that owner.

use std::collections::VecDeque;

use crate::routing::ShardId;

use super::message::Message;
use super::{ConnectionId, Output};

/// What one home may have under way to one owner; a publish costs one unit and one more for
/// each 256 bytes.
pub(super) const CREDIT_UNITS: i64 = 4096;
const UNIT_BYTES: usize = 256;
/// Credit goes back in lots, so that it costs a message only now and then.
const CREDIT_LOT: u32 = 512;

/// One end for each peer; the own entry is never used.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    /// Peers with a backlog.
    behind_count: usize,
}

#[derive(Debug)]
struct Link {
    backlog: VecDeque<Message>,
    /// What may still be published to this peer as owner; below zero after a large publish.
    credit: i64,
    /// What this peer published here and has not been given credit back for.
    owed: u32,
    /// Connections that are not read until this peer has room.
    waiting: Vec<ConnectionId>,
}

impl Links {
    pub(super) fn new(shard_count: usize) -> Self {
        let link = || Link {
            backlog: VecDeque::new(),
            credit: CREDIT_UNITS,
            owed: 0,
            waiting: Vec::new(),
        };
        Self { links: (0..shard_count).map(|_| link()).collect(), behind_count: 0 }
    }

    /// Sends now, or later in the same order.
    pub(super) fn send(&mut self, to: ShardId, message: Message, out: &mut impl Output) {
        let link = &mut self.links[to.index()];
        if link.backlog.is_empty() {
            let Err(full) = out.send(to, message) else { return };
            self.behind_count += 1;
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
        let link = &self.links[owner.index()];
        link.credit <= 0 || !link.backlog.is_empty()
    }

    /// The first peer that a publish would have to wait for, if any.
    pub(super) fn first_to_wait_for(&self) -> Option<ShardId> {
        let mut peers = (0..self.links.len()).map(ShardId::from_index);
        peers.find(|peer| self.must_wait(*peer))
    }

    /// The first peer with a backlog, if any.
    pub(super) fn behind(&self) -> Option<ShardId> {
        if self.behind_count == 0 {
            return None;
        }
        let index = self.links.iter().position(|link| !link.backlog.is_empty());
        index.map(ShardId::from_index)
    }

    /// Remembers a connection that is not read until `peer` has room.
    pub(super) fn wait(&mut self, peer: ShardId, connection: ConnectionId) {
        self.links[peer.index()].waiting.push(connection);
    }

    /// A publish from `home` was routed: credit goes back once nothing is behind.
    pub(super) fn handle_published(&mut self, home: ShardId, bytes: usize, out: &mut impl Output) {
        self.links[home.index()].owed += units(bytes);
        if self.behind_count == 0 {
            self.give_credit(home, CREDIT_LOT, out);
        }
    }

    /// An owner gave credit back; `ready` gets the connections that waited for it.
    pub(super) fn handle_credit(
        &mut self,
        owner: ShardId,
        units: u32,
        ready: &mut Vec<ConnectionId>,
    ) {
        let link = &mut self.links[owner.index()];
        link.credit += i64::from(units);
        if link.credit > 0 && link.backlog.is_empty() {
            ready.append(&mut link.waiting);
        }
    }

    /// The channel to `to` has room again; `ready` gets the connections that waited for it.
    pub(super) fn handle_room(
        &mut self,
        to: ShardId,
        ready: &mut Vec<ConnectionId>,
        out: &mut impl Output,
    ) {
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
        self.behind_count -= 1;
        if link.credit > 0 {
            ready.append(&mut link.waiting);
        }
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

fn units(bytes: usize) -> u32 {
    1 + u32::try_from(bytes / UNIT_BYTES).expect("a packet is below 2^28 bytes")
}
