//! Who gets what is published to a topic, where finding that out takes more than an input may:
//! one session alone may have tens of thousands of filters that all match.
//!
//! The publish is put off, and whatever has to come behind it waits with it. Its turn comes piece
//! by piece until all who want it are found, and then it is delivered like others. Filters come
//! and go meanwhile: a subscription that was there from the first piece to the last one counts, and
//! one that goes counts still if it was to be found. So a client that changes one filter for
//! another, and always has one that matches, misses nothing.

use std::rc::Rc;

use ahash::AHashMap;

use crate::metrics::allocated;
use crate::routing::{Place, Search, ShardSet};
use crate::session::Extras;

use super::deliver::{Audience, Target, Targets};
use super::subscribe::Subscribed;
use super::{Shard, work};

/// Searches that are under way together; others wait, so that what was found so far does not fill
/// the memory.
const LOOKUP_COUNT_MAX: usize = 4;

/// A search for the subscribers of one deferred publish.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Of its job.
    number: u64,
    topic: Box<str>,
    homes: ShardSet,
    search: Search,
    gathered: Gathered,
    /// When it began, for the routes.
    moment: u64,
    /// A filter without wildcard has changed that is the topic.
    is_stale: bool,
}

impl Shard {
    /// Goes on with the search for the subscribers of job `number`; returns all of them at the end.
    #[inline(never)]
    pub(super) fn go_on_searching(&mut self, number: u64, topic: &str) -> Option<Targets> {
        let place = match self.lookups.iter().position(|lookup| lookup.number == number) {
            Some(place) => place,
            None => {
                if let Some(audience) = self.remembered(topic) {
                    return Some(audience.targets);
                }
                if self.lookups.len() >= LOOKUP_COUNT_MAX {
                    return None;
                }
                self.begin_search(number, topic)
            }
        };
        let Lookup { search, gathered, .. } = &mut self.lookups[place];
        let registry = &self.registry;
        let found = &mut |slot, subscribed: &Subscribed, place| {
            if !registry.is_retired(slot) {
                gathered.add(slot, subscribed, place);
            }
        };
        let count = self.subscriptions.search(topic, search, self.slices.match_count, found);
        self.work.charge(work::times(work::MATCH, count));
        search.is_done().then(|| self.end_search(place))
    }

    fn begin_search(&mut self, number: u64, topic: &str) -> usize {
        let homes = self.homes_of(topic);
        self.lookups.push(Lookup {
            number,
            topic: topic.into(),
            homes,
            search: Search::default(),
            gathered: Gathered::default(),
            moment: self.routes.moment(),
            is_stale: false,
        });
        self.lookups.len() - 1
    }

    /// Ends a search: all subscribers are found, and remembered.
    fn end_search(&mut self, place: usize) -> Targets {
        let Lookup { topic, homes, gathered, moment, is_stale, .. } =
            self.lookups.swap_remove(place);
        let bytes = gathered.bytes();
        let targets = gathered.into_targets();
        if !is_stale {
            let audience = Audience { homes, targets: Rc::clone(&targets) };
            self.routes.insert_of(moment, &topic, audience, bytes);
        }
        targets
    }

    /// What was remembered holds no more where it depends on a filter.
    pub(super) fn note_change(&mut self, filter: &str) {
        self.routes.forget(filter);
        for lookup in self.lookups.iter_mut().filter(|lookup| *lookup.topic == *filter) {
            lookup.is_stale = true;
        }
    }

    /// Counts a filter for the searches under way before a session that goes on gives it up.
    pub(super) fn find_before_removal(&mut self, slot: u32, filter: &str) {
        for lookup in &mut self.lookups {
            if lookup.search.is_to_come(filter, &lookup.topic)
                && !self.registry.is_retired(slot)
                && let Some(subscribed) = self.subscriptions.get(filter, slot)
            {
                lookup.gathered.add(slot, &subscribed, lookup.search.place(filter));
            }
        }
    }
}

/// Targets while they are found one by one, those of one session in no order.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    targets: Vec<Target>,
    /// The long list in which each target was found last.
    places: Vec<Place>,
    /// By slot: which of the targets is its, counted from 1.
    numbers: Vec<u32>,
    /// What sessions get of what they publish themselves, where one of their filters says no local:
    /// what their other filters ask for.
    own: AHashMap<u32, Option<Target>>,
    id_count: usize,
}

impl Gathered {
    pub(super) fn add(&mut self, slot: u32, subscribed: &Subscribed, place: Place) {
        let Some(number) = self.number(slot) else { return self.push(slot, subscribed, place) };
        if place != Place::Short && self.places[number] == place {
            return; // The list has changed meanwhile.
        }
        self.places[number] = place;
        self.id_count += usize::from(subscribed.id.is_some());
        let target = &mut self.targets[number];
        if subscribed.no_local {
            self.own.entry(slot).or_insert_with(|| Some(target.clone()));
        } else if let Some(own) = self.own.get_mut(&slot) {
            match own {
                Some(own) => own.join(subscribed),
                None => *own = Some(Target::new(slot, subscribed)),
            }
        }
        target.join(subscribed);
    }

    /// The first subscription of a session.
    fn push(&mut self, slot: u32, subscribed: &Subscribed, place: Place) {
        self.id_count += usize::from(subscribed.id.is_some());
        self.targets.push(Target::new(slot, subscribed));
        self.places.push(place);
        let at = slot as usize;
        if self.numbers.len() <= at {
            self.numbers.resize((at + 1).next_power_of_two(), 0);
        }
        self.numbers[at] = u32::try_from(self.targets.len()).unwrap_or(0);
        if subscribed.no_local {
            self.own.insert(slot, None);
        }
    }

    fn number(&self, slot: u32) -> Option<usize> {
        (*self.numbers.get(slot as usize)? as usize).checked_sub(1)
    }

    /// Memory that the targets will point to, or a little more.
    pub(super) fn bytes(&self) -> usize {
        let count = self.targets.len() + self.own.len();
        let extras = allocated(size_of::<Extras>() + 2 * size_of::<usize>()) + allocated(0);
        let with_ids = self.id_count.min(count);
        count * size_of::<Target>() + with_ids * extras + self.id_count * 2 * size_of::<u32>()
    }

    /// One target for each session, and behind them what some get of their own.
    pub(super) fn into_targets(self) -> Targets {
        let Self { mut targets, own, .. } = self;
        targets.extend(own.into_values().flatten().map(Target::of_own));
        targets.into()
    }
}
