//! What clients and the wire saw: the only thing that the checker knows.

use std::collections::{BTreeMap, BTreeSet};

use ringmq::metrics::DropCause;

use crate::scenario::{Letter, Will, Wish};

/// A place in the run: what comes later has a greater `seq`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Moment {
    pub(crate) seq: u64,
    pub(crate) ms: u64,
}

/// What is known about whether a will was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Unknown,
    /// It must not be.
    Void,
    /// It must have been, between these.
    Due {
        from: Moment,
        until: Moment,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) client: usize,
    pub(crate) letter: Letter,
    /// Each time that it was sent; a will once, when its connection was opened.
    pub(crate) sends: Vec<Moment>,
    /// The connection that it was last sent on.
    pub(crate) connection: usize,
    /// The broker had all of it, for the first time.
    pub(crate) handed: Option<Moment>,
    /// PUBACK or PUBREC came.
    pub(crate) accepted: Option<Moment>,
    /// ... and said that nobody was there to get it.
    pub(crate) is_unmatched: bool,
    /// It broke the protocol: nobody may get it.
    pub(crate) forbidden: bool,
    /// None for a publish.
    pub(crate) will: Option<(Will, Fate)>,
}

/// One filter of one session, from one SUBSCRIBE to whatever replaces or ends it.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) wish: Wish,
    pub(crate) id: Option<u32>,
    pub(crate) asked: Moment,
    /// SUBACK came.
    pub(crate) granted: Option<Moment>,
    /// Whether a subscription to the same filter may have been there before.
    pub(crate) may_be_old: bool,
    /// ... and was there for sure.
    pub(crate) is_old: bool,
    /// It may have ended from here on.
    pub(crate) leaving: Option<Moment>,
    /// It has ended for sure.
    pub(crate) left: Option<Moment>,
}

#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: usize,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) ids: Vec<u32>,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) at: Moment,
    pub(crate) connection: usize,
    /// Not a repetition of what the client has under the same packet identifier.
    pub(crate) is_fresh: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) client: usize,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) deliveries: Vec<Delivery>,
    /// It may be over from here on, and is known to be over.
    pub(crate) ended: Option<Moment>,
}

/// Named by the same number as its pipe.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) session: Option<usize>,
    pub(crate) opened: Moment,
    /// CONNACK came.
    pub(crate) accepted: Option<Moment>,
    /// The client ended it, or saw its end.
    pub(crate) dropped: Option<Moment>,
    /// The broker ended it, or was told of its end.
    pub(crate) ended: Option<Moment>,
    /// The will that its CONNECT had.
    pub(crate) will: Option<usize>,
    /// The client sent DISCONNECT, or broke the protocol.
    pub(crate) is_leaving: bool,
    /// The client sent a DISCONNECT that voids the will.
    pub(crate) said_goodbye: bool,
    /// The broker was given a DISCONNECT that voids the will.
    pub(crate) was_told_to_void: bool,
    /// ... and has acted on it.
    pub(crate) is_void: bool,
    pub(crate) keep_alive_s: u16,
}

/// A delivery that a shard has given up and counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    pub(crate) shard: usize,
    pub(crate) cause: DropCause,
    pub(crate) at: Moment,
}

#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) seq: u64,
    pub(crate) ms: u64,
    pub(crate) messages: Vec<Message>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) drops: Vec<Dropped>,
    /// Shards that have not retained a message because they had as many as they may.
    pub(crate) refusals: Vec<(usize, Moment)>,
    /// How often a client was told so.
    pub(crate) refusals_told: usize,
    /// The shard of each client.
    pub(crate) homes: Vec<usize>,
    /// The shard of each topic.
    pub(crate) owners: BTreeMap<&'static str, usize>,
    /// Names of clients that have shared subscriptions, whose deliveries may come to them late.
    pub(crate) workers: BTreeSet<String>,
}

impl History {
    /// The next moment.
    pub(crate) fn now(&mut self) -> Moment {
        self.seq += 1;
        Moment { seq: self.seq, ms: self.ms }
    }

    /// A publish that is sent for the first time.
    pub(crate) fn add_message(
        &mut self,
        client: usize,
        connection: usize,
        letter: Letter,
    ) -> usize {
        let now = self.now();
        self.messages.push(Message {
            client,
            letter,
            sends: vec![now],
            connection,
            handed: None,
            accepted: None,
            is_unmatched: false,
            forbidden: false,
            will: None,
        });
        self.messages.len() - 1
    }

    /// A will that a CONNECT is about to carry.
    pub(crate) fn add_will(&mut self, client: usize, will: &Will) -> usize {
        let connection = self.connections.len();
        let letter = Letter {
            topic: will.topic,
            qos: will.qos,
            retain: will.retain,
            size: 8,
            expiry_s: None,
            by_alias: false,
            has_properties: false,
        };
        let number = self.add_message(client, connection, letter);
        self.messages[number].will = Some((will.clone(), Fate::Unknown));
        number
    }

    pub(crate) fn open_connection(
        &mut self,
        client: usize,
        keep_alive_s: u16,
        will: Option<usize>,
    ) -> usize {
        let opened = self.now();
        self.connections.push(Connection {
            client,
            session: None,
            opened,
            accepted: None,
            dropped: None,
            ended: None,
            will,
            is_leaving: false,
            said_goodbye: false,
            was_told_to_void: false,
            is_void: false,
            keep_alive_s,
        });
        self.connections.len() - 1
    }

    pub(crate) fn open_session(&mut self, client: usize) -> usize {
        let (subscriptions, deliveries) = (Vec::new(), Vec::new());
        self.sessions.push(Session { client, subscriptions, deliveries, ended: None });
        self.sessions.len() - 1
    }

    /// SUBSCRIBE was sent: what is there for the same filters may be replaced.
    pub(crate) fn ask(&mut self, session: usize, wishes: &[Wish], id: Option<u32>) -> Vec<usize> {
        let asked = self.now();
        let subscriptions = &mut self.sessions[session].subscriptions;
        let mut places = Vec::new();
        for wish in wishes {
            let (mut may_be_old, mut is_old) = (false, false);
            let same = |s: &&mut Subscription| s.wish.filter == wish.filter && s.left.is_none();
            for before in subscriptions.iter_mut().filter(same) {
                may_be_old = true;
                is_old |= before.granted.is_some() && before.leaving.is_none();
                before.leaving.get_or_insert(asked);
            }
            subscriptions.push(Subscription {
                wish: *wish,
                id,
                asked,
                granted: None,
                may_be_old,
                is_old,
                leaving: None,
                left: None,
            });
            places.push(subscriptions.len() - 1);
        }
        places
    }

    /// SUBACK came.
    pub(crate) fn grant(&mut self, session: usize, places: &[usize]) {
        let granted = self.now();
        let subscriptions = &mut self.sessions[session].subscriptions;
        for place in places {
            let filter = subscriptions[*place].wish.filter;
            let earlier = subscriptions[..*place].iter_mut();
            for before in earlier.filter(|s| s.wish.filter == filter) {
                before.left.get_or_insert(granted);
            }
            subscriptions[*place].granted = Some(granted);
        }
    }

    /// SUBACK said that there are too many subscriptions.
    pub(crate) fn refuse(&mut self, session: usize, place: usize) {
        let subscription = &mut self.sessions[session].subscriptions[place];
        subscription.leaving = Some(subscription.asked);
        subscription.left = Some(subscription.asked);
    }

    /// How many filters a session had beside that of one SUBSCRIBE: at least, and at most.
    pub(crate) fn count_beside(
        &self,
        session: usize,
        place: usize,
        is_counted: &dyn Fn(&str) -> bool,
    ) -> (usize, usize) {
        let subscriptions = &self.sessions[session].subscriptions;
        let this = &subscriptions[place];
        let count = |is_it: &dyn Fn(&Subscription) -> bool| {
            let others =
                subscriptions[..place].iter().filter(|s| s.wish.filter != this.wish.filter);
            let others = others.filter(|s| is_it(s)).map(|s| s.wish.filter);
            others.filter(|filter| is_counted(filter)).collect::<BTreeSet<_>>().len()
        };
        let least = count(&|s| s.granted.is_some() && s.leaving.is_none());
        (least, count(&|s| s.left.is_none_or(|left| left > this.asked)))
    }

    /// UNSUBSCRIBE was sent; how many subscriptions there were then.
    pub(crate) fn leave(&mut self, session: usize, filter: &str) -> usize {
        let leaving = self.now();
        let subscriptions = &mut self.sessions[session].subscriptions;
        for one in subscriptions.iter_mut().filter(|s| s.wish.filter == filter) {
            one.leaving.get_or_insert(leaving);
        }
        subscriptions.len()
    }

    /// UNSUBACK came.
    pub(crate) fn has_left(&mut self, session: usize, filter: &str, count: usize) {
        let left = self.now();
        let subscriptions = &mut self.sessions[session].subscriptions;
        for one in subscriptions[..count].iter_mut().filter(|s| s.wish.filter == filter) {
            one.left.get_or_insert(left);
        }
    }
}

impl Subscription {
    /// Whether it may have been in place at some time between the two.
    pub(crate) fn may_be_in(&self, from: Moment, until: Moment) -> bool {
        self.asked <= until && self.left.is_none_or(|left| left > from)
    }

    /// Whether it was in place all the time.
    pub(crate) fn is_all_of(&self, from: Moment, until: Moment) -> bool {
        self.granted.is_some_and(|granted| granted <= from)
            && self.leaving.is_none_or(|leaving| leaving > until)
    }
}

impl Message {
    /// The first moment at which it can have been routed.
    pub(crate) fn first(&self) -> Moment {
        match &self.will {
            Some((_, Fate::Due { from, .. })) => *from,
            _ => self.sends[0],
        }
    }

    /// How often the broker may have routed it.
    pub(crate) fn route_count(&self) -> usize {
        if self.letter.qos == 1 { self.sends.len() } else { 1 }
    }

    pub(crate) fn is_will(&self) -> bool {
        self.will.is_some()
    }
}

/// Whether a filter without `$share` matches a topic: the specification's words once more, on
/// purpose apart from the broker's.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filters, mut topics) = (filter.split('/'), topic.split('/'));
    loop {
        match (filters.next(), topics.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// The group and the filter of `$share/group/filter`.
pub(crate) fn shared(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}
