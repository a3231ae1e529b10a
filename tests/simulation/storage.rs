//! What storage was told, against what clients know at the end.

use std::collections::BTreeSet;

use crate::client::Client;
use crate::history::{History, Session};
use crate::network::Network;

/// Panics if a restart would bring back anything else than what was agreed with clients.
pub(crate) fn judge(history: &History, clients: &[Client], network: &Network) {
    for client in clients {
        let session = client.session.map(|number| &history.sessions[number]);
        judge_session(client, session, network);
    }
    let last = clients.last().expect("the last client asks for what is retained");
    let session = last.session.map(|number| &history.sessions[number]);
    for delivery in session.iter().flat_map(|s| &s.deliveries).filter(|d| d.retain) {
        let (number, topic) = (delivery.message, history.messages[delivery.message].letter.topic);
        let kept = network.kept_retained(topic);
        let is_it = kept == Some(number);
        assert!(is_it, "message {number} is retained, and storage has {kept:?} of {topic}");
    }
}

fn judge_session(client: &Client, session: Option<&Session>, network: &Network) {
    let name = &client.profile.name;
    let kept = network.kept_of(name).sessions.get(name);
    let Some(session) = session.filter(|_| client.is_persistent()) else {
        return assert!(kept.is_none(), "storage keeps {name}, whose session does not stay");
    };
    let kept = kept.unwrap_or_else(|| panic!("storage lacks {name}, whose session stays"));
    let filters: BTreeSet<&str> = session.subscriptions.iter().map(|s| s.wish.filter).collect();
    for filter in filters {
        let of_filter = || session.subscriptions.iter().filter(|s| s.wish.filter == filter);
        let is_there = of_filter().any(|s| s.granted.is_some() && s.leaving.is_none());
        let may_be = of_filter().any(|s| s.left.is_none());
        let is_kept = kept.contains(filter);
        assert!(is_kept || !is_there, "storage lacks the subscription of {name} to {filter}");
        assert!(!is_kept || may_be, "storage keeps a subscription of {name} to {filter}");
    }
}
