//! What storage was given, and what it would have after a restart.

use std::collections::{BTreeMap, BTreeSet};

use ringmq::storage::Record;

use crate::life::number_of;

/// What storage was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stored {
    /// A delivery of a message to a client.
    Held {
        client: String,
        message: usize,
    },
    Retained {
        message: usize,
    },
    Subscribed {
        client: String,
        filter: String,
    },
    Other,
}

impl Stored {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let stored = match record {
            Record::Held { client_id, publish, .. } => number_of(publish.payload)
                .map(|message| Self::Held { client: (*client_id).to_owned(), message }),
            Record::Retained { publish } => {
                number_of(publish.payload).map(|message| Self::Retained { message })
            }
            Record::Subscribed { client_id, filter, .. } => Some(Self::Subscribed {
                client: (*client_id).to_owned(),
                filter: (*filter).to_owned(),
            }),
            _ => None,
        };
        stored.unwrap_or(Self::Other)
    }
}

/// What would be there after a restart: all that storage was ever told, one after the other.
#[derive(Default)]
pub(crate) struct Kept {
    /// The filters of each session that stays.
    pub(crate) sessions: BTreeMap<String, BTreeSet<String>>,
    /// The message of each topic that has one.
    pub(crate) retained: BTreeMap<String, usize>,
}

impl Kept {
    /// Takes one record, which has to fit to those before it.
    pub(crate) fn take(&mut self, record: &Record<'_>) {
        match record {
            Record::SessionBegun { client_id } => {
                let before = self.sessions.insert((*client_id).to_owned(), BTreeSet::new());
                assert!(before.is_none(), "storage: {client_id} begins before its session ended");
            }
            Record::SessionEnded { client_id } => {
                let before = self.sessions.remove(*client_id);
                assert!(before.is_some(), "storage: {client_id} ends and has not begun");
            }
            Record::Subscribed { client_id, filter, .. } => {
                self.filters(client_id).insert((*filter).to_owned());
            }
            Record::Unsubscribed { client_id, filter } => {
                let was_there = self.filters(client_id).remove(*filter);
                assert!(was_there, "storage: {client_id} did not subscribe to {filter}");
            }
            Record::Held { client_id, .. } => _ = self.filters(client_id),
            Record::Retained { publish } => {
                let topic = publish.topic.as_str();
                match number_of(publish.payload) {
                    Some(message) => _ = self.retained.insert(topic.to_owned(), message),
                    None => _ = self.retained.remove(topic),
                }
            }
        }
    }

    fn filters(&mut self, client_id: &str) -> &mut BTreeSet<String> {
        let filters = self.sessions.get_mut(client_id);
        filters.unwrap_or_else(|| panic!("storage: {client_id} has no session there"))
    }
}
