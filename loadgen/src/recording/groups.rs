//! The books of shared subscriptions: each message must reach exactly one member of each group.
//!
//! Members take turns as the broker likes, so nothing follows from the order in which a group as
//! a whole gets its messages; each member, though, must get those of one publisher and topic in
//! order. Which numbers a group has seen is kept as bits above the highest number below which all
//! are known.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::recording::tally::{Arrival, Counts, Settlement};

/// All groups of one executor.
#[derive(Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    /// Where a group is in `groups`.
    places: HashMap<u32, usize>,
    counts: Counts,
}

struct Group {
    topics: Range<u32>,
    /// By topic.
    seen: Vec<Seen>,
    members: Vec<Member>,
}

struct Member {
    delivered: u64,
    /// By topic: above the highest number that it has had.
    next: Vec<u64>,
}

/// Where a member stands in the books.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemberPlace {
    group: usize,
    member: usize,
}

impl Groups {
    /// Makes room for another member of `group`, all of which listen to `topics`.
    pub(crate) fn add_member(&mut self, group: u32, topics: Range<u32>) -> MemberPlace {
        let groups = &mut self.groups;
        let place = *self.places.entry(group).or_insert_with(|| {
            let seen = topics.clone().map(|_| Seen::default()).collect();
            groups.push(Group { topics: topics.clone(), seen, members: Vec::new() });
            groups.len() - 1
        });
        let group = &mut self.groups[place];
        group.members.push(Member { delivered: 0, next: vec![0; topics.len()] });
        MemberPlace { group: place, member: group.members.len() - 1 }
    }

    /// Enters one delivery of topic number `topic` of the group's. `marked` is its DUP flag.
    pub(crate) fn record(
        &mut self,
        at: MemberPlace,
        topic: usize,
        sequence: u64,
        marked: bool,
    ) -> Arrival {
        let group = &mut self.groups[at.group];
        if !group.seen[topic].insert(sequence) {
            self.counts.duplicated += 1;
            self.counts.duplicated_unmarked += u64::from(!marked);
            return Arrival::Duplicate;
        }
        self.counts.delivered += 1;
        let member = &mut group.members[at.member];
        member.delivered += 1;
        if sequence < member.next[topic] {
            self.counts.out_of_order += 1;
            return Arrival::OutOfOrder;
        }
        member.next[topic] = sequence + 1;
        Arrival::InOrder
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Closes the books. `sent` holds the number of messages sent for each topic of the plan.
    pub(crate) fn settle(&self, sent: &[u64]) -> Settlement {
        let mut settlement = Settlement::default();
        for group in &self.groups {
            for (topic, seen) in group.topics.clone().zip(&group.seen) {
                let sent = sent[topic as usize];
                let found = seen.count_below(sent);
                settlement.expected += sent;
                settlement.lost += sent - found;
                settlement.invented += seen.count_below(u64::MAX) - found;
            }
        }
        settlement
    }

    /// Lists how many messages each member has got.
    pub(crate) fn deliveries(&self) -> impl Iterator<Item = u64> {
        self.groups.iter().flat_map(|group| group.members.iter().map(|member| member.delivered))
    }
}

/// A set of numbers that grows without holes, more or less.
#[derive(Default)]
struct Seen {
    /// All numbers below are in; a multiple of 64.
    base: u64,
    words: VecDeque<u64>,
}

impl Seen {
    /// Adds a number; false when it was in before.
    fn insert(&mut self, number: u64) -> bool {
        let Some(above) = number.checked_sub(self.base) else {
            return false;
        };
        let (at, bit) = ((above / 64) as usize, 1 << (above % 64));
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        let first = self.words[at] & bit == 0;
        self.words[at] |= bit;
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.base += 64;
        }
        first
    }

    fn count_below(&self, end: u64) -> u64 {
        let mut count = self.base.min(end);
        for (word, first) in self.words.iter().zip((self.base..).step_by(64)) {
            let wanted = match end.saturating_sub(first) {
                0 => 0,
                1..64 => (1 << (end - first)) - 1,
                _ => u64::MAX,
            };
            count += u64::from((word & wanted).count_ones());
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Two members of one group with one topic.
    fn pair() -> (Groups, MemberPlace, MemberPlace) {
        let mut groups = Groups::default();
        let first = groups.add_member(7, 2..3);
        let second = groups.add_member(7, 2..3);
        (groups, first, second)
    }

    #[test]
    fn a_message_belongs_to_one_member_of_the_group() {
        let (mut groups, first, second) = pair();
        assert_eq!(groups.record(first, 0, 0, false), Arrival::InOrder);
        assert_eq!(groups.record(second, 0, 0, false), Arrival::Duplicate);
        assert_eq!(groups.record(second, 0, 2, false), Arrival::InOrder);
        let sent = [0, 0, 5];
        let expected = Settlement { expected: 5, lost: 3, invented: 0 };
        assert_eq!(groups.settle(&sent), expected);
        assert_eq!(groups.deliveries().collect::<Vec<u64>>(), [1, 1]);
    }

    #[test]
    fn order_is_that_of_a_member() {
        let (mut groups, first, second) = pair();
        assert_eq!(groups.record(first, 0, 5, false), Arrival::InOrder);
        assert_eq!(groups.record(second, 0, 1, false), Arrival::InOrder, "another member's pace");
        assert_eq!(groups.record(first, 0, 4, false), Arrival::OutOfOrder);
        assert_eq!(groups.counts().out_of_order, 1);
    }

    #[test]
    fn groups_do_not_share_with_each_other() {
        let mut groups = Groups::default();
        let (first, second) = (groups.add_member(0, 0..1), groups.add_member(1, 0..1));
        assert_eq!(groups.record(first, 0, 0, false), Arrival::InOrder);
        assert_eq!(groups.record(second, 0, 0, false), Arrival::InOrder);
        assert_eq!(groups.settle(&[1]).expected, 2);
    }

    proptest! {
        #[test]
        fn the_set_agrees_with_a_set(numbers in proptest::collection::vec(0u64..300, 0..600)) {
            let (mut seen, mut naive) = (Seen::default(), HashSet::new());
            for number in numbers {
                prop_assert_eq!(seen.insert(number), naive.insert(number));
            }
            for end in [0, 1, 63, 64, 65, 200, 300, u64::MAX] {
                let below = naive.iter().filter(|number| **number < end).count() as u64;
                prop_assert_eq!(seen.count_below(end), below);
            }
        }
    }
}
