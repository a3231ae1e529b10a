//! Shared subscriptions at the owner of a topic: which groups a topic has, and which member of a
//! group is next.
//!
//! The least loaded of the members that are online gets the publish; among equals the one that
//! has waited longest. Only if none is online the choice is among all.

use ahash::AHashMap;
use std::sync::Arc;

use slab::Slab;

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

/// The groups that have members, by filter. `M` names a member within its home.
#[derive(Debug)]
pub struct Groups<M> {
    by_filter: Subscriptions<u32, ()>,
    by_name: AHashMap<Arc<str>, u32>,
    groups: Slab<Group<M>>,
    loads: AHashMap<(ShardId, M), Load>,
}

#[derive(Debug)]
struct Group<M> {
    /// `$share/group/filter`.
    name: Arc<str>,
    members: Vec<Member<M>>,
    /// How many choices were made.
    turn: u64,
}

#[derive(Debug)]
struct Member<M> {
    home: ShardId,
    name: M,
    /// The turn in which it was chosen last.
    chosen: u64,
}

/// A member that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<M> {
    /// Where it lives.
    pub home: ShardId,
    /// Who it is there.
    pub member: M,
    /// The group that it was chosen for, as `$share/group/filter`.
    pub group: Arc<str>,
    /// Whether it was online, as far as was known; otherwise nobody was.
    pub is_online: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self::OFFLINE
    }
}

impl<M> Default for Groups<M> {
    fn default() -> Self {
        Self {
            by_filter: Subscriptions::default(),
            by_name: AHashMap::default(),
            groups: Slab::new(),
            loads: AHashMap::default(),
        }
    }
}

/// The filter of `$share/group/filter`; none for any other text.
pub fn shared_filter(name: &str) -> Option<&str> {
    let (group, filter) = name.strip_prefix("$share/")?.split_once('/')?;
    let is_valid = !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty();
    is_valid.then_some(filter)
}

impl<M: Copy + Eq + std::hash::Hash> Groups<M> {
    /// Adds a member; nothing changes if it is one.
    ///
    /// # Panics
    /// If `name` is not `$share/group/filter`.
    pub fn join(&mut self, name: &str, home: ShardId, member: M, load: Load) {
        self.loads.insert((home, member), load);
        let id = self.by_name.get(name).copied().unwrap_or_else(|| self.found(name));
        let group = &mut self.groups[id as usize];
        if !group.members.iter().any(|other| other.home == home && other.name == member) {
            group.members.push(Member { home, name: member, chosen: group.turn });
        }
    }

    /// Takes a member out of one group.
    pub fn leave(&mut self, name: &str, home: ShardId, member: M) {
        let Some(&id) = self.by_name.get(name) else { return };
        let group = &mut self.groups[id as usize];
        group.members.retain(|other| other.home != home || other.name != member);
        if group.members.is_empty() {
            let filter = shared_filter(name).expect("it was one when it was founded");
            self.by_filter.remove(filter, id);
            self.by_name.remove(name);
            self.groups.remove(id as usize);
        }
    }

    /// A member's load has changed.
    pub fn set_load(&mut self, home: ShardId, member: M, load: Load) {
        if let Some(known) = self.loads.get_mut(&(home, member)) {
            *known = load;
        }
    }

    /// A member is gone for good, from every group.
    pub fn forget(&mut self, home: ShardId, member: M) {
        self.loads.remove(&(home, member));
    }

    /// The members of one home whose load is known.
    pub fn members_with_load(&self, home: ShardId) -> impl Iterator<Item = M> {
        self.loads.keys().filter(move |(other, _)| *other == home).map(|(_, member)| *member)
    }

    /// Chooses one member of each group that matches a topic.
    pub fn choose(&mut self, topic: &str) -> Vec<Chosen<M>> {
        let mut ids = Vec::new();
        self.by_filter.for_each_match(topic, &mut |id, ()| ids.push(id));
        ids.into_iter().map(|id| self.choose_from(id)).collect()
    }

    /// Chooses one member of a group; none if it has no member any more.
    pub fn choose_again(&mut self, name: &str) -> Option<Chosen<M>> {
        let id = *self.by_name.get(name)?;
        Some(self.choose_from(id))
    }

    /// Groups that have members.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// True when there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn choose_from(&mut self, id: u32) -> Chosen<M> {
        let group = &mut self.groups[id as usize];
        let load = |member: &Member<M>| self.loads.get(&(member.home, member.name)).copied();
        let rank = |member: &&mut Member<M>| (load(member).unwrap_or(Load::OFFLINE), member.chosen);
        group.turn += 1;
        let member =
            group.members.iter_mut().min_by_key(rank).expect("a group without members is gone");
        member.chosen = group.turn;
        let is_online = load(member).is_some_and(|load| load != Load::OFFLINE);
        let (home, member) = (member.home, member.name);
        Chosen { home, member, group: Arc::clone(&group.name), is_online }
    }

    fn found(&mut self, name: &str) -> u32 {
        let filter = shared_filter(name).expect("the name is $share/group/filter");
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

    fn groups(loads: &[(u32, Load)]) -> Groups<u32> {
        let mut groups = Groups::default();
        for (member, load) in loads {
            groups.join("$share/g/a/+", HOME, *member, *load);
        }
        groups
    }

    fn choose(groups: &mut Groups<u32>, count: usize) -> Vec<u32> {
        (0..count).flat_map(|_| groups.choose("a/b")).map(|chosen| chosen.member).collect()
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
        groups.set_load(HOME, 2, Load::of(100));
        assert_eq!(choose(&mut groups, 2), [1, 1]);
    }

    #[test]
    fn takes_offline_members_only_if_nobody_is_online() {
        let mut groups = groups(&[(1, Load::OFFLINE), (2, Load::OFFLINE)]);
        assert_eq!(choose(&mut groups, 3), [1, 2, 1]);
        groups.set_load(HOME, 2, Load::of(1 << 40));
        assert_eq!(choose(&mut groups, 3), [2, 2, 2]);
    }

    #[test]
    fn chooses_one_of_each_group() {
        let mut groups = groups(&[(1, Load::of(0))]);
        groups.join("$share/other/#", ShardId(3), 9, Load::of(0));
        let mut chosen: Vec<u32> = groups.choose("a/b").iter().map(|c| c.member).collect();
        chosen.sort_unstable();
        assert_eq!(chosen, [1, 9]);
        assert_eq!(groups.choose("x").len(), 1);
        assert!(groups.choose("$SYS/x").is_empty());
    }

    #[test]
    fn a_group_ends_with_its_last_member() {
        let mut groups = groups(&[(1, Load::of(0)), (2, Load::of(0))]);
        groups.leave("$share/g/a/+", HOME, 1);
        assert_eq!(choose(&mut groups, 2), [2, 2]);
        groups.leave("$share/g/a/+", HOME, 2);
        assert!(groups.is_empty());
        assert!(groups.choose("a/b").is_empty());
        assert_eq!(groups.choose_again("$share/g/a/+"), None);
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
