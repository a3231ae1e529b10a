//! What shards say to each other: plain data on a bounded channel for each ordered pair.

use std::sync::Arc;

use crate::mqtt::ReasonCode;
use crate::routing::{ShardId, Standing};
use crate::session::{Publication, Sequence, Time};

use super::subscribe::Subscribed;

/// A session of some shard; stale once the slot is used for another session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionRef {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Who published: a session and its home.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Origin {
    pub(super) home: ShardId,
    pub(super) session: SessionRef,
}

/// Where a publish comes from, and who waits to hear what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// From whom, unless it is the will of a session that has ended.
    pub(super) origin: Option<Origin>,
    /// Under which number its acceptance is waited for there (nothing waits at QoS 0).
    pub(super) sequence: Option<Sequence>,
    /// See [`Receipt::is_told`].
    pub(super) is_told: bool,
    /// What the publisher's home gets back once it is taken in: see `order.rs`. Zero if that does
    /// not wait.
    pub(super) weight: u16,
}

impl Source {
    /// What waits for the acceptance of the publish.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        let (origin, sequence) = (self.origin?, self.sequence?);
        Some(Receipt { origin, sequence, is_told: self.is_told })
    }
}

/// A publish that waits to be acknowledged: where, for whom, and which one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    pub(super) origin: Origin,
    pub(super) sequence: Sequence,
    /// The publisher can be told that its publish was refused (5.0).
    pub(super) is_told: bool,
}

/// A SUBSCRIBE that waits until every owner knows its filters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub(super) u64);

/// Where a subscriber stands in the retained messages of one filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayRequest {
    pub(super) session: SessionRef,
    /// Which of the session's replays.
    pub(super) replay: u32,
    pub(super) filter: Box<str>,
    /// The topic that was sent last; only later ones are wanted.
    pub(super) after: Option<Box<str>>,
    /// What was retained after this was delivered when it was published.
    pub(super) until: Time,
}

/// One message from shard to shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Publisher's home to owner: route this.
    Publish {
        /// What.
        publication: Publication,
        /// Where it comes from.
        source: Source,
    },
    /// Owner to publisher's home: so many publishes have left this shard's hands, send more.
    Credit {
        /// Units, see `links.rs`.
        units: u32,
    },
    /// Owner to interested home: give this to your subscribers.
    Deliver {
        /// What.
        publication: Publication,
        /// Where it comes from.
        source: Source,
    },
    /// Owner to the home of the member of a shared subscription that was chosen.
    DeliverShared {
        /// What.
        publication: Publication,
        /// Where it comes from; nothing if it was given to another member before.
        source: Source,
        /// Who was chosen.
        session: SessionRef,
        /// For which `$share/group/filter`.
        group: Arc<str>,
        /// Whether it was thought to be online.
        is_online: bool,
    },
    /// Home to owner: the member has gone for good without this, is offline though it was thought
    /// not to be, or does not take a packet of its size; choose another. The owner has been told
    /// so before.
    Reassign {
        /// What.
        publication: Publication,
        /// Of which `$share/group/filter`.
        group: Arc<str>,
    },
    /// Owner to publisher's home: so many homes are still to accept it.
    Counted {
        /// Which publish.
        receipt: Receipt,
        /// How many will answer [`Message::Accepted`].
        homes: u32,
        /// What the publish is acknowledged with.
        reason: ReasonCode,
    },
    /// Subscriber's home to publisher's home: held for all of my sessions.
    Accepted {
        /// Which publish.
        receipt: Receipt,
    },
    /// Publisher's home to owner, and owner to every home: answer [`Message::TakenIn`] once all
    /// that came before this on the same channels is taken in.
    Fence {
        /// Whose publishes are meant.
        session: SessionRef,
        /// Where that session lives, which is to be answered.
        home: ShardId,
        /// It comes from there, and the owner passes it on.
        is_first: bool,
    },
    /// To the publisher's home: what came before a [`Message::Fence`], or a part of a publish, is
    /// taken in.
    TakenIn {
        /// Whose.
        session: SessionRef,
        /// The part.
        weight: u16,
    },
    /// Subscriber's home to owner: send me what matches these; answer [`Message::Placed`].
    Interest {
        /// None of them shared.
        filters: Vec<Box<str>>,
        /// Who waits.
        ticket: Ticket,
    },
    /// Owner to subscriber's home: from now on it is sent.
    Placed {
        /// Who waits.
        ticket: Ticket,
    },
    /// Subscriber's home to owner: no more of this filter.
    NoInterest {
        /// Without `$share` prefix.
        filter: Box<str>,
    },
    /// Subscriber's home to owner: a member of a shared subscription; answer [`Message::Placed`].
    Join {
        /// `$share/group/filter`.
        group: Box<str>,
        /// Who.
        session: SessionRef,
        /// What it asked for.
        terms: Subscribed,
        /// How loaded it is, and what it takes.
        standing: Standing,
        /// Who waits.
        ticket: Ticket,
    },
    /// Subscriber's home to owner: no member any more.
    Leave {
        /// `$share/group/filter`.
        group: Box<str>,
        /// Who.
        session: SessionRef,
    },
    /// Subscriber's home to every owner: the load of a member has changed, or what it takes.
    Standing {
        /// Who.
        session: SessionRef,
        /// How it is now; none if it is gone for good.
        standing: Option<Standing>,
    },
    /// Subscriber's home to owner: the next retained messages, please.
    Replay(ReplayRequest),
    /// Owner to subscriber's home: here they are.
    Replayed {
        /// For whom.
        session: SessionRef,
        /// Which of the session's replays.
        replay: u32,
        /// What.
        publications: Vec<Publication>,
        /// The topic to go on after; none when these were the last of this owner.
        after: Option<Box<str>>,
    },
    /// To every other shard: too many deliveries are put off here, or not any more.
    Busy {
        /// Which of the two.
        is_busy: bool,
    },
}
