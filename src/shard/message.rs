//! The messages between shards: plain data on a bounded channel for each ordered pair.

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

/// The publisher of a message: a session and its home.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Origin {
    pub(super) home: ShardId,
    pub(super) session: SessionRef,
}

/// Where a publish comes from, and which receipt waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// The publisher; none for the will of a session that has ended.
    pub(super) origin: Option<Origin>,
    /// The number of the receipt that waits there; none at QoS 0.
    pub(super) sequence: Option<Sequence>,
    /// See [`Receipt::is_told`].
    pub(super) is_told: bool,
    /// The weight that the publisher's home gets back once the publish is taken in, see `order.rs`;
    /// zero if nothing waits for that.
    pub(super) weight: u16,
}

impl Source {
    /// Returns the receipt that waits for the publish.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        let (origin, sequence) = (self.origin?, self.sequence?);
        Some(Receipt { origin, sequence, is_told: self.is_told })
    }
}

/// Names a publish that waits to be acknowledged at its publisher's home.
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

/// Asks for the next retained messages of one filter, for one subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayRequest {
    pub(super) session: SessionRef,
    /// The number of the replay; a session may have several.
    pub(super) replay: u32,
    pub(super) filter: Box<str>,
    /// The topic that was sent last; only later ones are wanted.
    pub(super) after: Option<Box<str>>,
    /// Messages that were retained later have been delivered as ordinary publishes.
    pub(super) until: Time,
}

/// One message from shard to shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Publisher's home to owner: route this.
    Publish {
        publication: Publication,
        /// Where it comes from.
        source: Source,
    },
    /// Owner to publisher's home: it may have this much more under way to the owner.
    Credit {
        /// Returned credit, see `links.rs`.
        units: u32,
    },
    /// Owner to interested home: give this to your subscribers.
    Deliver {
        publication: Publication,
        /// Where it comes from.
        source: Source,
    },
    /// Owner to the home of the member of a shared subscription that was chosen.
    DeliverShared {
        publication: Publication,
        /// Where it comes from; empty if another member had it before.
        source: Source,
        /// The chosen member.
        session: SessionRef,
        /// `$share/group/filter`.
        group: Arc<str>,
        /// Whether the owner believes the member to be online.
        is_online: bool,
    },
    /// Home to owner: choose another member. This one has ended without the publish, is offline and
    /// was believed not to be, or does not take a packet of its size. An earlier message has said
    /// so to the owner.
    Reassign {
        publication: Publication,
        /// `$share/group/filter`.
        group: Arc<str>,
    },
    /// Owner to publisher's home: this many homes have still to accept it.
    Counted {
        receipt: Receipt,
        /// The number of [`Message::Accepted`] to come.
        homes: u32,
        /// The reason code of the acknowledgement.
        reason: ReasonCode,
    },
    /// Subscriber's home to publisher's home: held for all of my sessions.
    Accepted { receipt: Receipt },
    /// Publisher's home to owner, and owner to every home: answer [`Message::TakenIn`] once all
    /// that came before this on the same channels is taken in.
    Fence {
        /// The publisher.
        session: SessionRef,
        /// The home of that session, which gets the answer.
        home: ShardId,
        /// Whether it comes from that home, and the owner has to pass it on.
        is_first: bool,
    },
    /// To the publisher's home: what came before a [`Message::Fence`], or a part of a publish, is
    /// taken in.
    TakenIn {
        session: SessionRef,
        /// The part of the weight that is given back.
        weight: u16,
    },
    /// Subscriber's home to owner: send what matches these filters; answer [`Message::Placed`].
    Interest {
        /// None of them shared.
        filters: Vec<Box<str>>,
        /// The SUBSCRIBE that waits.
        ticket: Ticket,
    },
    /// Owner to subscriber's home: from now on it is sent.
    Placed {
        /// The SUBSCRIBE that waits.
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
        session: SessionRef,
        /// What it asked for.
        terms: Subscribed,
        /// How loaded it is, and what it takes.
        standing: Standing,
        /// The SUBSCRIBE that waits.
        ticket: Ticket,
    },
    /// Subscriber's home to owner: no member any more.
    Leave {
        /// `$share/group/filter`.
        group: Box<str>,
        session: SessionRef,
    },
    /// Subscriber's home to every owner: the load of a member has changed, or what it takes.
    Standing {
        session: SessionRef,
        /// The new standing; none if the session has ended.
        standing: Option<Standing>,
    },
    /// Subscriber's home to owner: the next retained messages, please.
    Replay(ReplayRequest),
    /// Owner to subscriber's home: here they are.
    Replayed {
        session: SessionRef,
        /// The number of the replay, as in the request.
        replay: u32,
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
