//! At the home: who of this shard's sessions gets a publish, and at which QoS.

use std::rc::Rc;

use ahash::AHashMap;

use crate::mqtt::QoS;
use crate::session::Outgoing;
use crate::storage::Record;

use super::wire::Wire;
use super::{Output, Shard, Targets};

/// How many topics are remembered with their subscribers.
const ROUTE_COUNT_MAX: usize = 16 * 1024;

/// One session that gets one copy of a publish, whatever number of its filters match.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Target {
    slot: u32,
    /// The highest QoS of the filters that match [MQTT-3.3.5-1].
    qos: QoS,
}

/// Topics and who gets them, worked out at the first publish after a change of subscriptions.
#[derive(Debug, Default)]
pub(super) struct Routes {
    targets: AHashMap<Box<str>, Targets>,
    /// The version of the subscriptions that all of `targets` was worked out from.
    version: u64,
}

impl Shard {
    /// Gives a publish to every session here that wants it; false when none does.
    pub(super) fn deliver(&mut self, outgoing: &mut Outgoing<'_>, out: &mut impl Output) -> bool {
        let targets = self.targets(outgoing.view().topic.as_str());
        self.layouts.clear();
        for target in targets.iter() {
            self.deliver_to(*target, outgoing, out);
        }
        !targets.is_empty()
    }

    fn deliver_to(&mut self, target: Target, outgoing: &mut Outgoing<'_>, out: &mut impl Output) {
        let resident = self.registry.get_mut(target.slot);
        let qos = target.qos.min(outgoing.view().qos); // [MQTT-3.8.4-6]
        let mut wire = Wire {
            outbox: resident.connection.map(|connection| out.outbox(connection)),
            outbox_bytes_max: self.limits.outbox_bytes_max,
            version: resident.version,
            counters: &mut self.counters,
            layouts: Some(&mut self.layouts),
        };
        // Not retained: sent because of a subscription that was there before [MQTT-3.3.1-9].
        resident.session.handle_delivery(outgoing, qos, false, &self.limits, &mut wire);
        if qos > QoS::AtMostOnce && resident.session.is_persistent() {
            let (client_id, publish) = (resident.session.client_id(), outgoing.view());
            self.commits.persist(&Record::Held { client_id, publish, qos }, out);
        }
    }

    fn targets(&mut self, topic: &str) -> Targets {
        let version = self.subscriptions.version();
        let stale = self.routes.version != version;
        if stale || self.routes.targets.len() >= ROUTE_COUNT_MAX {
            self.routes.targets.clear();
            self.routes.version = version;
        }
        if let Some(targets) = self.routes.targets.get(topic) {
            return Rc::clone(targets);
        }
        let targets = self.match_targets(topic);
        self.routes.targets.insert(topic.into(), Rc::clone(&targets));
        targets
    }

    fn match_targets(&self, topic: &str) -> Targets {
        let mut targets = Vec::new();
        self.subscriptions.for_each_match(topic, &mut |slot, subscribed| {
            targets.push(Target { slot, qos: subscribed.qos });
        });
        targets.sort_unstable_by_key(|target| (target.slot, std::cmp::Reverse(target.qos)));
        targets.dedup_by_key(|target| target.slot);
        targets.into()
    }
}
