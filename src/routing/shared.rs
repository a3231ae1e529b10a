//! Shared subscriptions at the owner of a topic: which groups a topic has, and which member of a
//! group is next.
//!
//! The least loaded of the members that are online and take a packet of its size gets the publish;
//! among equals the one that has waited longest. Only if there is none the choice is among those
//! that are offline, of which nothing is known until they are back.

use crate::metrics::allocated;
use ahash::{AHashMap, RandomState};
use std::sync::Arc;

use slab::Slab;

use crate::mqtt::Version;

use super::{ShardId, Subscriptions};

/// A member's state, as its home last told. A lower one is chosen before a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load(u8);

impl Load {
    /// Of a member without a connection: worse than any load.
    pub const OFFLINE: Self = Self(u8::MAX);

    /// Of a member with this many deliveries waiting or unacknowledged. Twice as many are one
    /// step more, so that a home has to tell only now and then.
    pub fn of(waiting_count: usize) -> Self {
        Self((usize::BITS - waiting_count.leading_zeros()) as u8)
    }
}

/// What an owner knows of the session of a member, as its home last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How loaded it is; the rest means something only while it is online.
    pub load: Load,
    /// The version that its client speaks.
    pub version: Version,
    /// The largest packet that its client takes, in bytes.
    pub packet_bytes_max: u32,
}

/// The groups that have members, by filter. `M` names a member within its home, and `T` is what it
/// asked for with its filter.
#[derive(Debug)]
pub struct Groups<M, T> {
    by_filter: Subscriptions<u32, ()>,
    by_name: AHashMap<Arc<str>, u32>,
    groups: Slab<Group<M, T>>,
    standings: AHashMap<(ShardId, M), Standing>,
    /// Bytes of memory of groups and members.
    bytes: usize,
}

/// Memory of a group beside its name and its filter: its place among groups and names.
const GROUP_BYTES: usize = 128;
/// Memory of a member, with its load.
const MEMBER_BYTES: usize = 64;

#[derive(Debug)]
struct Group<M, T> {
    /// `$share/group/filter`.
    name: Arc<str>,
    members: Vec<Member<M, T>>,
    /// How many choices were made.
    turn: u64,
}

#[derive(Debug)]
struct Member<M, T> {
    home: ShardId,
    name: M,
    terms: T,
    /// The turn in which it was chosen last.
    chosen: u64,
}

/// The outcome for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<M> {
    /// This member gets the publish.
    Member(Chosen<M>),
    /// There are members, and none of them takes a packet of its size.
    TooLarge,
}

/// The outcomes for one publish.
#[derive(Debug)]
pub struct Choices<M> {
    /// One for each group.
    pub choices: Vec<Choice<M>>,
    /// Places and groups that were looked at.
    pub effort: usize,
    /// Members that were looked at.
    pub members: usize,
}

/// A member that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<M> {
    /// Where it lives.
    pub home: ShardId,
    /// The member, as that home names it.
    pub member: M,
    /// The group that it was chosen for, as `$share/group/filter`.
    pub group: Arc<str>,
    /// Whether it was online, as far as was known. If it was not, no member was.
    pub is_online: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self::OFFLINE
    }
}

impl<M, T> Default for Groups<M, T> {
    fn default() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl<M, T> Groups<M, T> {
    /// No groups, with hashes keyed by `hasher`, a secret of the process.
    pub fn with_hasher(hasher: RandomState) -> Self {
        Self {
            by_filter: Subscriptions::with_hasher(hasher.clone()),
            by_name: AHashMap::with_hasher(hasher.clone()),
            groups: Slab::new(),
            standings: AHashMap::with_hasher(hasher),
            bytes: 0,
        }
    }
}

/// The filter of `$share/group/filter`; none for any other text.
pub fn shared_filter(name: &str) -> Option<&str> {
    let (group, filter) = name.strip_prefix("$share/")?.split_once('/')?;
    let is_valid = !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty();
    is_valid.then_some(filter)
}

impl<M: Copy + Eq + std::hash::Hash, T> Groups<M, T> {
    /// Adds a member, or changes what it asked for if it is one; how many members were looked at.
    ///
    /// # Panics
    /// If `name` is not `$share/group/filter`.
    pub fn join(
        &mut self,
        name: &str,
        home: ShardId,
        member: M,
        terms: T,
        standing: Standing,
    ) -> usize {
        self.standings.insert((home, member), standing);
        let id = self.by_name.get(name).copied().unwrap_or_else(|| self.found(name));
        let group = &mut self.groups[id as usize];
        let count = group.members.len();
        let is_it = |other: &&mut Member<M, T>| other.home == home && other.name == member;
        match group.members.iter_mut().find(is_it) {
            Some(present) => present.terms = terms,
            None => {
                let chosen = group.turn;
                group.members.push(Member { home, name: member, terms, chosen });
                self.bytes += MEMBER_BYTES;
            }
        }
        count
    }

    /// Takes a member out of one group; how many members were looked at.
    pub fn leave(&mut self, name: &str, home: ShardId, member: M) -> usize {
        let Some(&id) = self.by_name.get(name) else { return 0 };
        let group = &mut self.groups[id as usize];
        let before = group.members.len();
        group.members.retain(|other| other.home != home || other.name != member);
        self.bytes -= (before - group.members.len()) * MEMBER_BYTES;
        if group.members.is_empty() {
            let filter = shared_filter(name).expect("it was one when it was founded");
            self.by_filter.remove(filter, id);
            self.by_name.remove(name);
            self.groups.remove(id as usize);
            self.bytes -= allocated(name.len()) + GROUP_BYTES;
        }
        before
    }

    /// Filters that were moved within the table, long ones counted several times, since this was
    /// asked for last.
    pub fn take_moved(&mut self) -> usize {
        self.by_filter.take_moved()
    }

    /// A member's load has changed, or its connection.
    pub fn set_standing(&mut self, home: ShardId, member: M, standing: Standing) {
        if let Some(known) = self.standings.get_mut(&(home, member)) {
            *known = standing;
        }
    }

    /// A member is gone for good, from every group: it is not chosen any more, even before it
    /// has left them.
    pub fn forget(&mut self, home: ShardId, member: M) {
        self.standings.remove(&(home, member));
    }

    /// The members of one home of which something is known.
    pub fn members_of(&self, home: ShardId) -> impl Iterator<Item = M> {
        self.standings.keys().filter(move |(other, _)| *other == home).map(|(_, member)| *member)
    }

    /// Chooses one member of each group that matches a topic, among those that `fits` says take
    /// the publish.
    pub fn choose(&mut self, topic: &str, fits: impl Fn(&T, &Standing) -> bool) -> Choices<M> {
        let mut ids = Vec::new();
        let effort = self.by_filter.for_each_match(topic, &mut |id, ()| ids.push(id));
        let members = ids.iter().map(|id| self.groups[*id as usize].members.len());
        let (effort, members) = (effort.total() + ids.len(), members.sum());
        let choices = ids.into_iter().filter_map(|id| self.choose_from(id, &fits)).collect();
        Choices { choices, effort, members }
    }

    /// Chooses one member of a group in the same way, none if it has no member any more; beside it,
    /// how many were looked at.
    pub fn choose_again(
        &mut self,
        name: &str,
        fits: impl Fn(&T, &Standing) -> bool,
    ) -> (Option<Choice<M>>, usize) {
        let Some(&id) = self.by_name.get(name) else { return (None, 0) };
        let count = self.groups[id as usize].members.len();
        (self.choose_from(id, &fits), count)
    }

    /// Bytes of memory that groups and members take.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.by_filter.memory_bytes()
    }

    /// Groups that have members.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// True when there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// None if every member of the group is gone.
    fn choose_from(&mut self, id: u32, fits: &impl Fn(&T, &Standing) -> bool) -> Option<Choice<M>> {
        let group = &mut self.groups[id as usize];
        let (mut best, mut is_known): (Option<(Load, &mut Member<M, T>)>, _) = (None, false);
        for member in &mut group.members {
            let standing = self.standings.get(&(member.home, member.name)).copied();
            let Some(standing) = standing else { continue };
            is_known = true;
            let is_better = best
                .as_ref()
                .is_none_or(|(load, other)| (standing.load, member.chosen) < (*load, other.chosen));
            if is_better && fits(&member.terms, &standing) {
                best = Some((standing.load, member));
            }
        }
        let Some((load, member)) = best else { return is_known.then_some(Choice::TooLarge) };
        group.turn += 1;
        member.chosen = group.turn;
        let is_online = load != Load::OFFLINE;
        let (home, member) = (member.home, member.name);
        Some(Choice::Member(Chosen { home, member, group: Arc::clone(&group.name), is_online }))
    }

    fn found(&mut self, name: &str) -> u32 {
        let filter = shared_filter(name).expect("the name is $share/group/filter");
        self.bytes += allocated(name.len()) + GROUP_BYTES;
        let name: Arc<str> = name.into();
        let group = Group { name: Arc::clone(&name), members: Vec::new(), turn: 0 };
        let id = u32::try_from(self.groups.insert(group)).expect("below 2^32 groups");
        self.by_name.insert(name, id);
        self.by_filter.insert(filter, id, ());
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: ShardId = ShardId(0);

    /// Members that take anything.
    fn groups(loads: &[(u32, Load)]) -> Groups<u32, ()> {
        let mut groups = Groups::default();
        for (member, load) in loads {
            groups.join("$share/g/a/+", HOME, *member, (), of(*load, u32::MAX));
        }
        groups
    }

    fn of(load: Load, packet_bytes_max: u32) -> Standing {
        Standing { load, version: Version::V5, packet_bytes_max }
    }

    fn member(choice: Choice<u32>) -> Option<u32> {
        match choice {
            Choice::Member(chosen) => Some(chosen.member),
            Choice::TooLarge => None,
        }
    }

    /// Chooses members for this many publishes of this many bytes; offline members take any size.
    fn choose_for(groups: &mut Groups<u32, ()>, bytes: u32, count: usize) -> Vec<Option<u32>> {
        let fits = |(): &(), s: &Standing| s.load == Load::OFFLINE || bytes <= s.packet_bytes_max;
        (0..count).flat_map(|_| groups.choose("a/b", fits).choices).map(member).collect()
    }

    fn choose(groups: &mut Groups<u32, ()>, count: usize) -> Vec<u32> {
        choose_for(groups, 0, count).into_iter().flatten().collect()
    }

    #[test]
    fn takes_equals_in_turn() {
        let mut groups = groups(&[(1, Load::of(0)), (2, Load::of(0)), (3, Load::of(0))]);
        assert_eq!(choose(&mut groups, 6), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn prefers_the_least_loaded() {
        let mut groups = groups(&[(1, Load::of(8)), (2, Load::of(3)), (3, Load::OFFLINE)]);
        assert_eq!(choose(&mut groups, 2), [2, 2]);
        groups.set_standing(HOME, 2, of(Load::of(100), u32::MAX));
        assert_eq!(choose(&mut groups, 2), [1, 1]);
    }

    #[test]
    fn takes_offline_members_only_if_nobody_is_online() {
        let mut groups = groups(&[(1, Load::OFFLINE), (2, Load::OFFLINE)]);
        assert_eq!(choose(&mut groups, 3), [1, 2, 1]);
        groups.set_standing(HOME, 2, of(Load::of(1 << 40), u32::MAX));
        assert_eq!(choose(&mut groups, 3), [2, 2, 2]);
    }

    #[test]
    fn chooses_one_of_each_group() {
        let mut groups = groups(&[(1, Load::of(0))]);
        groups.join("$share/other/#", ShardId(3), 9, (), of(Load::of(0), u32::MAX));
        let mut chosen = choose(&mut groups, 1);
        chosen.sort_unstable();
        assert_eq!(chosen, [1, 9]);
        assert_eq!(groups.choose("x", |(), _| true).choices.len(), 1);
        assert!(groups.choose("$SYS/x", |(), _| true).choices.is_empty());
    }

    #[test]
    fn a_group_ends_with_its_last_member() {
        let mut groups = groups(&[(1, Load::of(0)), (2, Load::of(0))]);
        groups.leave("$share/g/a/+", HOME, 1);
        assert_eq!(choose(&mut groups, 2), [2, 2]);
        groups.leave("$share/g/a/+", HOME, 2);
        assert!(groups.is_empty());
        assert!(groups.choose("a/b", |(), _| true).choices.is_empty());
        assert_eq!(groups.choose_again("$share/g/a/+", |(), _| true).0, None);
    }

    #[test]
    fn goes_by_those_that_do_not_take_the_size() {
        let mut groups = groups(&[(1, Load::of(0)), (2, Load::of(5)), (3, Load::OFFLINE)]);
        groups.set_standing(HOME, 1, of(Load::of(0), 100));
        assert_eq!(choose_for(&mut groups, 100, 2), [Some(1); 2]);
        assert_eq!(choose_for(&mut groups, 101, 2), [Some(2); 2]);
        groups.set_standing(HOME, 2, of(Load::of(5), 200));
        assert_eq!(choose_for(&mut groups, 201, 2), [Some(3); 2], "it may take it when it is back");
        groups.leave("$share/g/a/+", HOME, 3);
        assert_eq!(choose_for(&mut groups, 201, 2), [None; 2]);
        assert_eq!(choose_for(&mut groups, 200, 1), [Some(2)]);
    }

    #[test]
    fn a_member_may_ask_for_something_else() {
        let mut groups: Groups<u32, u8> = Groups::default();
        for terms in [1, 2] {
            groups.join("$share/g/a", HOME, 1, terms, of(Load::of(0), 0));
            let chosen = groups.choose("a", |given, _| *given == terms).choices;
            assert_eq!(chosen.into_iter().map(member).collect::<Vec<_>>(), [Some(1)]);
        }
        groups.leave("$share/g/a", HOME, 1);
        assert!(groups.is_empty());
    }

    #[test]
    fn does_not_choose_who_is_gone() {
        let mut groups = groups(&[(1, Load::of(0)), (2, Load::OFFLINE)]);
        groups.forget(HOME, 1);
        assert_eq!(choose(&mut groups, 2), [2, 2]);
        groups.forget(HOME, 2);
        assert!(groups.choose("a/b", |(), _| true).choices.is_empty());
        assert_eq!(groups.choose_again("$share/g/a/+", |(), _| true).0, None);
    }

    #[test]
    fn tells_shared_filters_from_others() {
        assert_eq!(shared_filter("$share/g/a/#"), Some("a/#"));
        assert_eq!(shared_filter("$share/g//"), Some("/"));
        for text in ["$share/g", "$share//a", "$share/+/a", "$share/g/", "share/g/a", "a/b"] {
            assert_eq!(shared_filter(text), None, "{text}");
        }
    }
}
