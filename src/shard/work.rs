//! What it costs to handle an input, in units that are the same on every machine.
//!
//! A unit stands for some 300 instructions, a tenth of a microsecond. An input is over when it has
//! used [`Slices::input_units`]: what is left of it goes on in a later turn, and the step that was
//! under way then is itself bounded, by [`STEP_UNITS_MAX`] and by the subscribers of one publish.
//!
//! [`Slices::input_units`]: super::Slices::input_units

use crate::metrics::AuditError;

use super::Slices;
use super::wire::SHARED_PAYLOAD_BYTES_MIN;

/// A packet: to decode it, and what every packet has done for it.
pub(super) const PACKET: u32 = 3;
/// A filter without wildcard that comes into a table, goes from one, or is looked for in one.
const FILTER: u32 = 24;
/// The same for one with wildcards, which has its place level by level.
const WILD_FILTER: u32 = 72;
/// This many bytes of a filter cost one unit: it is hashed and compared several times.
const FILTER_BYTES: usize = 24;
/// A filter that goes to another place of its table, long ones counted several times.
pub(super) const MOVE: u32 = 1;
/// A filter of a packet that is looked at, and nothing more.
pub(super) const CHECK: u32 = 4;
/// One delivery to one session.
pub(super) const DELIVERY: u32 = 2;
/// This many bytes of a payload that is copied for each delivery cost as much as another delivery.
const COPIED_BYTES: usize = 1024;
/// One delivery to a member of a group, whose load has to be told.
pub(super) const MEMBER: u32 = 16;
/// Members of a group that are looked at for one unit.
const MEMBERS: usize = 8;
/// A message to another shard.
pub(super) const MESSAGE: u32 = 1;
/// Finding the audience of a topic, beside what is examined for it.
pub(super) const FIND: u32 = 6;
/// Something that a match has looked at: a node, a bucket, a filter or one of its subscribers; or
/// a filter that has changed, which is compared with a topic.
pub(super) const MATCH: u32 = 1;
/// A lot of retained messages that is looked for, with or without success.
pub(super) const LOT: u32 = 8;
/// A topic that such a look passes, if the filter has wildcards.
pub(super) const LOOK: u32 = 1;
/// A session that begins or ends, without its filters and deliveries.
pub(super) const SESSION: u32 = 16;
/// A delivery of a session that is over.
pub(super) const GIVE_UP: u32 = 1;
/// Deliveries in flight that are put in their order for one unit.
const ORDERED: usize = 16;
/// A timer that has fired, or a promise that is kept because storage has answered.
pub(super) const WAKE: u32 = 1;
/// This many bytes that are copied or searched cost one unit.
const BYTES: usize = 128;

/// The largest step that is not divided, deliveries of one publish left aside: a lot of retained
/// messages, or a packet with as many filters as are handled together.
const STEP_UNITS_MAX: u32 = 4096;

/// Turns that a connection may take in one while no other client asks for anything.
const ALONE_TIMES: u64 = 2;
/// The part of a turn that is a short one.
const CROWDED_PART: u32 = 8;
/// The part of an input that one of such a turn is.
const CROWDED_INPUT_PART: u32 = 4;

/// What a filter costs that comes into a table, goes from one, or is looked for in one.
pub(super) fn filter(filter: &str) -> u32 {
    let base = if filter.contains(['+', '#']) { WILD_FILTER } else { FILTER };
    base + units(filter.len(), FILTER_BYTES)
}

/// What it costs to look at this many members of a group.
pub(super) fn members(count: usize) -> u32 {
    units(count, MEMBERS)
}

/// What this many bytes cost.
pub(super) fn bytes(count: usize) -> u32 {
    units(count, BYTES)
}

/// What it costs to put this many deliveries in their original order.
pub(super) fn order(count: usize) -> u32 {
    units(count, ORDERED)
}

/// The units of this many things of which `per_unit` cost one.
fn units(count: usize, per_unit: usize) -> u32 {
    u32::try_from(count / per_unit).unwrap_or(u32::MAX / 2)
}

/// What one delivery of this payload costs, in deliveries of a small one.
pub(super) fn weight(payload_len: usize) -> usize {
    if payload_len < SHARED_PAYLOAD_BYTES_MIN { 1 + payload_len / COPIED_BYTES } else { 1 }
}

/// [`DELIVERY`] and its kind for as many as there are.
pub(super) fn times(units: u32, count: usize) -> u32 {
    units.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The units of an input and of a turn.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Of this input, and of what went before it on account of the same connection.
    spent: u64,
    /// What `spent` was when the input came.
    before: u64,
    /// Of the inputs of this turn.
    of_turn: u64,
    turn: u32,
    /// Many want much of this turn: its inputs are short.
    is_crowded: bool,
}

impl Work {
    /// An input has come.
    pub(super) fn begin(&mut self) {
        (self.spent, self.before) = (0, 0);
    }

    /// The input is of a connection that has used some of what it may in this turn.
    pub(super) fn begin_behind(&mut self, spent: u32) {
        (self.spent, self.before) = (spent.into(), spent.into());
    }

    /// The input is handled.
    pub(super) fn end(&mut self) {
        self.of_turn += self.of_input();
    }

    /// A turn has ended; whether many want much of the next.
    pub(super) fn next_turn(&mut self, is_crowded: bool) {
        self.is_crowded = is_crowded;
        self.turn = self.turn.wrapping_add(1);
        self.of_turn = 0;
    }

    /// Tells turns apart.
    pub(super) fn turn(&self) -> u32 {
        self.turn
    }

    /// Counts what was done, or is just to be done.
    pub(super) fn charge(&mut self, units: u32) {
        self.spent += u64::from(units);
    }

    /// What a connection has to answer for in the rest of the turn.
    pub(super) fn spent(&self) -> u32 {
        u32::try_from(self.spent).unwrap_or(u32::MAX)
    }

    /// Whether the rest has to wait for a later input.
    pub(super) fn is_used_up(&self, slices: &Slices) -> bool {
        let part = if self.is_crowded { CROWDED_INPUT_PART } else { 1 };
        self.spent >= u64::from((slices.input_units / part).max(1))
    }

    /// Returns whether further inputs have to wait for a later turn. Turns are short where many
    /// connections want much of them, so that the others wait less.
    pub(super) fn is_turn_used_up(
        &self,
        slices: &Slices,
        is_crowded: bool,
        is_alone: bool,
    ) -> bool {
        let part = if is_crowded { CROWDED_PART } else { 1 };
        let times = if is_alone { ALONE_TIMES } else { 1 };
        self.of_turn >= u64::from(slices.turn_units / part) * times
    }

    /// No input costs more than it may.
    pub(super) fn audit(&self, slices: &Slices) -> Result<(), AuditError> {
        let deliveries = times(DELIVERY, slices.subscriber_count.max(2048));
        let max = u64::from(slices.input_units) + u64::from(STEP_UNITS_MAX) + u64::from(deliveries);
        AuditError::at_most("units of an input", self.of_input(), max)
    }

    /// What this input has used.
    pub(super) fn of_input(&self) -> u64 {
        self.spent - self.before
    }
}
