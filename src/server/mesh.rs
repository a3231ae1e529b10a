//! The channels between shards and how a shard that sleeps learns that there is something.
//!
//! One bounded channel for each ordered pair of shards. A shard that has put messages into
//! channels rings the bell of each receiver once, at the end of its turn, and leaves its name on
//! it; that costs one atomic operation while the receiver is awake and one wake when it sleeps.
//! The receiver looks only into the channels of those who have rung, so that a look costs what
//! there is to find, however many shards there are. A channel that was found full is marked, and
//! its receiver rings back once it has taken messages out.
//!
//! `tests/loom` compiles this file by itself and tries every interleaving of it, which is why it
//! knows nothing of what is sent.

use std::sync::Arc;
use std::task::Waker;

#[cfg(not(loom))]
use {
    atomic_waker::AtomicWaker,
    crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded},
    std::sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

#[cfg(loom)]
use crate::stand_ins::{
    AtomicBool, AtomicU64, AtomicWaker, Ordering, Receiver, Sender, TrySendError, bounded,
    unbounded,
};

use crate::routing::{ShardId, ShardSet};

/// Wakes one shard, from any thread. Bells are rung from every core: none shares a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Bell {
    waker: AtomicWaker,
    /// Shards that have rung since this one looked, one bit each.
    rung: AtomicU64,
    /// Shards that have room again in a channel that this one found full.
    room: AtomicU64,
}

impl Bell {
    /// Has the shard look, at the channel from `ringer` and for whatever has no channel; costs a
    /// wake only if nobody has rung since it looked.
    pub(super) fn ring(&self, ringer: ShardId) -> bool {
        let first = self.rung.fetch_or(1 << ringer.index(), Ordering::AcqRel) == 0;
        if first {
            self.waker.wake();
        }
        first
    }

    /// Who has rung. To be called before looking, so that what comes while looking rings again.
    fn reset(&self, waker: &Waker) -> ShardSet {
        self.waker.register(waker);
        ShardSet::from_bits(self.rung.swap(0, Ordering::AcqRel))
    }
}

/// One channel of the mesh, as both of its ends know it.
struct Lane<End> {
    end: End,
    /// The sender found it full and has not been told of room since.
    starved: Arc<AtomicBool>,
}

/// One shard's ends of all its channels, for messages `M` and connections on their way `H`.
pub(super) struct Mesh<M, H> {
    id: ShardId,
    bells: Arc<[Bell]>,
    /// None where a shard would talk to itself.
    outgoing: Vec<Option<Lane<Sender<M>>>>,
    incoming: Vec<Option<Lane<Receiver<M>>>>,
    handoffs_out: Vec<Sender<H>>,
    handoffs_in: Receiver<H>,
    /// Who has been sent something since the last ring.
    touched: ShardSet,
}

/// What a shard found when it looked.
pub(super) enum Found<M, H> {
    /// A message.
    Message(ShardId, M),
    /// Room in a channel that was full.
    Room(ShardId),
    /// A connection.
    Handoff(H),
}

impl<M, H> Mesh<M, H> {
    /// The ends of `shard_count` shards, and a bell for each.
    pub(super) fn new(shard_count: usize, channel_count_max: usize) -> (Vec<Self>, Arc<[Bell]>) {
        let bells: Arc<[Bell]> = (0..shard_count).map(|_| Bell::default()).collect();
        let (handoffs_out, handoffs_in): (Vec<_>, Vec<_>) =
            (0..shard_count).map(|_| unbounded()).unzip();
        let mut meshes: Vec<Self> = handoffs_in
            .into_iter()
            .enumerate()
            .map(|(index, handoffs_in)| Self {
                id: ShardId::from_index(index),
                bells: Arc::clone(&bells),
                outgoing: Vec::new(),
                incoming: Vec::new(),
                handoffs_out: handoffs_out.clone(),
                handoffs_in,
                touched: ShardSet::default(),
            })
            .collect();
        for from in 0..shard_count {
            for to in 0..shard_count {
                let (outgoing, incoming) = lane(from, to, channel_count_max);
                meshes[from].outgoing.push(outgoing);
                meshes[to].incoming.push(incoming);
            }
        }
        (meshes, bells)
    }

    /// Puts a message into a channel; its receiver is rung at the next [`Self::ring`].
    ///
    /// # Errors
    /// The message, if the channel is full; [`Found::Room`] says when to try again.
    pub(super) fn send(&mut self, to: ShardId, message: M) -> Result<(), M> {
        let lane = self.outgoing[to.index()].as_ref().expect("a shard does not send to itself");
        let message = match lane.end.try_send(message) {
            Ok(()) => {
                self.touched.insert(to);
                return Ok(());
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => message,
        };
        // Once more after the mark: the receiver may have emptied the channel just before it.
        lane.starved.store(true, Ordering::SeqCst);
        self.touched.insert(to);
        match lane.end.try_send(message) {
            Ok(()) => {
                lane.starved.store(false, Ordering::SeqCst);
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
        }
    }

    /// Gives a connection to its home.
    pub(super) fn hand_off(&self, to: ShardId, handoff: H) {
        // It fails only at shutdown, when the home is gone: dropping it closes the connection.
        let _ = self.handoffs_out[to.index()].send(handoff);
        self.bells[to.index()].ring(self.id);
    }

    /// Rings everybody who was sent something; how many of them slept.
    pub(super) fn ring(&mut self) -> u64 {
        let touched = std::mem::take(&mut self.touched);
        touched.iter().filter(|to| self.bells[to.index()].ring(self.id)).count() as u64
    }

    /// Whether another shard has rung since the last look.
    pub(super) fn is_rung(&self) -> bool {
        self.bells[self.id.index()].rung.load(Ordering::Relaxed) != 0
    }

    /// Takes about `limit` findings and hands each to `take`; true if there may be more.
    ///
    /// `waker` is woken when something comes that was not found.
    pub(super) fn look(
        &self,
        waker: &Waker,
        limit: usize,
        mut take: impl FnMut(Found<M, H>),
    ) -> bool {
        let bell = &self.bells[self.id.index()];
        let rung = bell.reset(waker);
        let mut more = self.look_for_handoffs(limit, &mut take);
        // Each lane has its share, so that one that is never empty starves no other.
        let share = (limit / rung.len().max(1)).max(1);
        for from in rung.iter() {
            if self.look_into(from, share, &mut take) {
                // As if it had rung again: nobody else has to wake a shard that is awake.
                bell.rung.fetch_or(1 << from.index(), Ordering::AcqRel);
                more = true;
            }
        }
        for to in ShardSet::from_bits(bell.room.swap(0, Ordering::AcqRel)).iter() {
            take(Found::Room(to));
        }
        more
    }

    /// True if there may be more.
    fn look_for_handoffs(&self, limit: usize, take: &mut impl FnMut(Found<M, H>)) -> bool {
        let share = (limit / self.incoming.len()).max(1);
        for _ in 0..share {
            let Ok(handoff) = self.handoffs_in.try_recv() else { return false };
            take(Found::Handoff(handoff));
        }
        true
    }

    /// Takes up to `share` messages of one shard; true if there may be more.
    fn look_into(&self, from: ShardId, share: usize, take: &mut impl FnMut(Found<M, H>)) -> bool {
        // Its own name is left by whoever has nothing in a channel.
        let Some(lane) = &self.incoming[from.index()] else { return false };
        let mut count = 0;
        while count < share
            && let Ok(message) = lane.end.try_recv()
        {
            take(Found::Message(from, message));
            count += 1;
        }
        if lane.starved.load(Ordering::SeqCst) && lane.starved.swap(false, Ordering::SeqCst) {
            let bell = &self.bells[from.index()];
            bell.room.fetch_or(1 << self.id.index(), Ordering::AcqRel);
            bell.ring(self.id);
        }
        count == share
    }
}

type Ends<M> = (Option<Lane<Sender<M>>>, Option<Lane<Receiver<M>>>);

fn lane<M>(from: usize, to: usize, channel_count_max: usize) -> Ends<M> {
    if from == to {
        return (None, None);
    }
    let (sender, receiver) = bounded(channel_count_max);
    let starved = Arc::new(AtomicBool::new(false));
    let incoming = Lane { end: receiver, starved: Arc::clone(&starved) };
    (Some(Lane { end: sender, starved }), Some(incoming))
}
