//! What arrived and what did not, exactly, for every (publisher, topic, subscriber).
//!
//! One *flow* is one topic as one subscriber sees it. Sequence numbers of a topic count from 0
//! without a hole, so a flow that is in order needs one number: the next one expected. Only a
//! flow with holes owns a list of them. A delivery that fills a hole is out of order, one that
//! falls on a number already seen is a duplicate, and holes left at the end are losses.

use std::collections::HashMap;
use std::iter::Sum;
use std::ops::Range;

/// Holes remembered per flow. Past it the oldest hole is given up as lost, so that a broker
/// that drops half of everything cannot eat the generator's memory.
const HOLE_COUNT_MAX: usize = 4096;

/// What one delivery turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// Next in line, or ahead of it: seen for the first time, nothing later came before.
    InOrder,
    /// Seen for the first time, after a message that was published later.
    OutOfOrder,
    Duplicate,
    /// Older than a hole that was already given up: a late message or a duplicate, which can no
    /// longer be told apart.
    TooLate,
}

/// Sums over all flows of one executor.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    /// Deliveries of messages not seen before.
    pub(crate) delivered: u64,
    pub(crate) duplicated: u64,
    /// Those of `duplicated` that came without the DUP flag.
    pub(crate) duplicated_unmarked: u64,
    pub(crate) out_of_order: u64,
    pub(crate) too_late: u64,
    /// Numbers skipped and not filled so far.
    pub(crate) missing: u64,
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |mut sum, part| {
            sum.delivered += part.delivered;
            sum.duplicated += part.duplicated;
            sum.duplicated_unmarked += part.duplicated_unmarked;
            sum.out_of_order += part.out_of_order;
            sum.too_late += part.too_late;
            sum.missing += part.missing;
            sum
        })
    }
}

/// The verdict on all flows once it is known how many messages were sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Settlement {
    pub(crate) expected: u64,
    pub(crate) lost: u64,
    /// Deliveries numbered past what was sent: the broker made them up or damaged them.
    pub(crate) invented: u64,
}

impl Sum for Settlement {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |mut sum, part| {
            sum.expected += part.expected;
            sum.lost += part.lost;
            sum.invented += part.invented;
            sum
        })
    }
}

/// The ledger of all subscribers of one executor.
#[derive(Default)]
pub(crate) struct Tally {
    /// The next sequence number expected in each flow.
    next: Vec<u64>,
    holes: HashMap<usize, Holes>,
    spans: Vec<Span>,
    counts: Counts,
}

/// The flows of one subscriber lie side by side, in the order of their topics.
struct Span {
    first_flow: usize,
    topics: Range<u32>,
}

impl Tally {
    /// Makes room for a subscriber of `topics` and returns its first flow.
    pub(crate) fn add_subscriber(&mut self, topics: Range<u32>) -> usize {
        let first_flow = self.next.len();
        self.next.resize(first_flow + topics.len(), 0);
        self.spans.push(Span { first_flow, topics });
        first_flow
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Enters one delivery. `marked` is its DUP flag.
    pub(crate) fn record(&mut self, flow: usize, sequence: u64, marked: bool) -> Arrival {
        let next = &mut self.next[flow];
        if sequence == *next {
            *next = sequence.saturating_add(1);
            self.counts.delivered += 1;
            return Arrival::InOrder;
        }
        self.record_unexpected(flow, sequence, marked)
    }

    #[cold]
    fn record_unexpected(&mut self, flow: usize, sequence: u64, marked: bool) -> Arrival {
        let arrival = if sequence > self.next[flow] {
            self.open_hole(flow, sequence)
        } else {
            self.look_back(flow, sequence)
        };
        self.count(arrival, marked);
        arrival
    }

    fn open_hole(&mut self, flow: usize, sequence: u64) -> Arrival {
        let hole = self.next[flow]..sequence;
        self.counts.missing = self.counts.missing.saturating_add(hole.end - hole.start);
        self.holes.entry(flow).or_default().open(hole);
        self.next[flow] = sequence.saturating_add(1);
        Arrival::InOrder
    }

    fn look_back(&mut self, flow: usize, sequence: u64) -> Arrival {
        let Some(holes) = self.holes.get_mut(&flow) else {
            return Arrival::Duplicate;
        };
        if holes.fill(sequence) {
            self.counts.missing -= 1;
            return Arrival::OutOfOrder;
        }
        if sequence < holes.given_up_below { Arrival::TooLate } else { Arrival::Duplicate }
    }

    fn count(&mut self, arrival: Arrival, marked: bool) {
        match arrival {
            Arrival::InOrder => self.counts.delivered += 1,
            Arrival::OutOfOrder => {
                self.counts.delivered += 1;
                self.counts.out_of_order += 1;
            }
            Arrival::Duplicate => {
                self.counts.duplicated += 1;
                self.counts.duplicated_unmarked += u64::from(!marked);
            }
            Arrival::TooLate => self.counts.too_late += 1,
        }
    }

    /// Closes the books. `sent` holds the number of messages sent for each topic of the plan.
    pub(crate) fn settle(&self, sent: &[u64]) -> Settlement {
        let mut settlement = Settlement { lost: self.counts.missing, ..Default::default() };
        for span in &self.spans {
            let flows = &self.next[span.first_flow..];
            for (topic, &next) in span.topics.clone().zip(flows) {
                let sent = sent[topic as usize];
                settlement.expected += sent;
                settlement.lost += sent.saturating_sub(next);
                settlement.invented += next.saturating_sub(sent);
            }
        }
        settlement
    }
}

/// The numbers that one flow has skipped: disjoint ranges, ascending.
#[derive(Default)]
struct Holes {
    ranges: Vec<Range<u64>>,
    /// Nothing is known any more about numbers below this one.
    given_up_below: u64,
}

impl Holes {
    /// `hole` lies above all others.
    fn open(&mut self, hole: Range<u64>) {
        if self.ranges.len() == HOLE_COUNT_MAX {
            self.given_up_below = self.ranges.remove(0).end;
        }
        self.ranges.push(hole);
    }

    /// Whether `sequence` was in a hole; it no longer is.
    fn fill(&mut self, sequence: u64) -> bool {
        let at = self.ranges.partition_point(|hole| hole.end <= sequence);
        let Some(hole) = self.ranges.get_mut(at).filter(|hole| hole.start <= sequence) else {
            return false;
        };
        let rest = sequence + 1..hole.end;
        hole.end = sequence;
        if hole.is_empty() {
            self.ranges.remove(at);
            self.insert_rest(at, rest);
        } else {
            self.insert_rest(at + 1, rest);
        }
        true
    }

    fn insert_rest(&mut self, at: usize, rest: Range<u64>) {
        if !rest.is_empty() {
            self.ranges.insert(at, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn tally_of(sequences: &[u64]) -> Tally {
        let mut tally = Tally::default();
        tally.add_subscriber(0..1);
        for &sequence in sequences {
            tally.record(0, sequence, false);
        }
        tally
    }

    #[test]
    fn an_orderly_flow_loses_nothing() {
        let tally = tally_of(&[0, 1, 2]);
        assert_eq!(tally.counts(), Counts { delivered: 3, ..Default::default() });
        assert_eq!(tally.settle(&[3]), Settlement { expected: 3, ..Default::default() });
    }

    #[test]
    fn holes_and_a_missing_end_are_losses() {
        let tally = tally_of(&[0, 3]);
        assert_eq!(tally.counts().missing, 2);
        assert_eq!(tally.settle(&[6]).lost, 4);
    }

    #[test]
    fn a_late_message_is_out_of_order_and_not_lost() {
        let tally = tally_of(&[0, 2, 3, 1]);
        assert_eq!(tally.counts().out_of_order, 1);
        assert_eq!(tally.counts().delivered, 4);
        assert_eq!(tally.settle(&[4]).lost, 0);
    }

    #[test]
    fn a_repeat_is_a_duplicate_whether_old_or_just_seen() {
        let tally = tally_of(&[0, 0, 1, 5, 5, 1]);
        assert_eq!(tally.counts().duplicated, 3);
        assert_eq!(tally.counts().duplicated_unmarked, 3);
        assert_eq!(tally.counts().delivered, 3);
    }

    #[test]
    fn a_hole_that_was_filled_is_a_duplicate_the_second_time() {
        let tally = tally_of(&[3, 1, 1]);
        assert_eq!(tally.counts().out_of_order, 1);
        assert_eq!(tally.counts().duplicated, 1);
        assert_eq!(tally.counts().missing, 2);
    }

    #[test]
    fn marked_duplicates_are_told_apart() {
        let mut tally = tally_of(&[0]);
        assert_eq!(tally.record(0, 0, true), Arrival::Duplicate);
        assert_eq!(tally.counts().duplicated, 1);
        assert_eq!(tally.counts().duplicated_unmarked, 0);
    }

    #[test]
    fn numbers_never_sent_are_invented() {
        assert_eq!(tally_of(&[0, 1, 2]).settle(&[2]).invented, 1);
    }

    #[test]
    fn flows_are_apart() {
        let mut tally = Tally::default();
        let first = tally.add_subscriber(0..2);
        let second = tally.add_subscriber(1..2);
        assert_eq!((first, second), (0, 2));
        tally.record(first, 0, false);
        tally.record(first + 1, 0, false);
        tally.record(second, 1, false);
        let expected = Settlement { expected: 5, lost: 2, invented: 0 };
        assert_eq!(tally.settle(&[1, 2]), expected);
    }

    #[test]
    fn holes_are_bounded_and_given_up_ones_stay_lost() {
        let mut tally = tally_of(&[]);
        let count = HOLE_COUNT_MAX as u64 + 1;
        for step in 0..count {
            tally.record(0, 2 * step + 1, false);
        }
        assert_eq!(tally.record(0, 0, false), Arrival::TooLate);
        assert_eq!(tally.record(0, 2, false), Arrival::OutOfOrder);
        assert_eq!(tally.settle(&[2 * count]).lost, count - 1);
    }

    proptest! {
        /// Against a ledger that simply remembers everything.
        #[test]
        fn agrees_with_the_naive_ledger(arrivals in proptest::collection::vec(0u64..24, 0..80)) {
            let tally = tally_of(&arrivals);
            let mut seen = HashSet::new();
            let mut naive = Counts::default();
            for (position, &sequence) in arrivals.iter().enumerate() {
                let later_came_before = arrivals[..position].iter().any(|&other| other > sequence);
                if !seen.insert(sequence) {
                    naive.duplicated += 1;
                    naive.duplicated_unmarked += 1;
                    continue;
                }
                naive.delivered += 1;
                naive.out_of_order += u64::from(later_came_before);
            }
            let lost = (0..24).filter(|sequence| !seen.contains(sequence)).count() as u64;
            naive.missing = tally.counts().missing;
            prop_assert_eq!(tally.counts(), naive);
            prop_assert_eq!(tally.settle(&[24]).lost, lost);
        }
    }
}
