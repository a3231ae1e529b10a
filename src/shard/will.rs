//! Wills: what is published for a client that has gone without saying so.

use std::time::Duration;

use crate::mqtt::{Properties, Property, Publish, Will};
use crate::session::{Outgoing, Publication, Time};

use super::message::Origin;
use super::{ConnectionId, Output, SessionRef, Shard, Timer};

/// What is published when a client goes without saying so.
#[derive(Debug)]
pub(super) struct LastWill {
    publication: Publication,
    expiry_interval_s: Option<u32>,
    delay_s: u32,
}

impl Shard {
    /// The delay of a will may have passed, without its client having come back.
    pub(super) fn handle_will_delay(&mut self, name: SessionRef, out: &mut impl Output) {
        let Some(slot) = self.registry.resolve(name) else { return };
        self.registry.get_mut(slot).will_timer = None;
        self.publish_due_will(slot, out);
        if let Some((due, _)) = &self.registry.get(slot).will {
            let due = *due;
            self.watch_will(slot, due);
        }
    }

    /// Publishes the will of an offline session whose delay has passed.
    pub(super) fn publish_due_will(&mut self, slot: u32, out: &mut impl Output) {
        let now = self.now;
        let due = self.registry.get_mut(slot).will.take_if(|(due, _)| *due <= now);
        if let Some((_, will)) = due {
            self.publish_will(&will, Some(slot), out);
        }
    }

    /// The end of this connection publishes no will.
    pub(super) fn void_will(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.will = None;
        }
    }

    /// Publishes a will when its delay has passed or its session ends [MQTT-3.1.3-9].
    pub(super) fn set_will(&mut self, slot: u32, will: Box<LastWill>, out: &mut impl Output) {
        if will.delay_s == 0 {
            return self.publish_will(&will, Some(slot), out);
        }
        let due = self.now + Duration::from_secs(will.delay_s.into());
        self.registry.get_mut(slot).will = Some((due, will));
        self.watch_will(slot, due);
    }

    /// `slot` is where the session of its client is, while there is one: that may not want what its
    /// client publishes [MQTT-3.8.3-3].
    pub(super) fn publish_will(
        &mut self,
        will: &LastWill,
        slot: Option<u32>,
        out: &mut impl Output,
    ) {
        self.counters.wills_published += 1;
        let publication = will.publication.restamped(will.expiry_interval_s, self.now);
        let origin = slot.map(|slot| Origin { home: self.id, session: self.registry.name(slot) });
        self.publish(&mut Outgoing::kept(&publication), origin, None, out);
    }

    /// Sets a timer unless one fires early enough.
    fn watch_will(&mut self, slot: u32, due: Time) {
        let resident = self.registry.get_mut(slot);
        if resident.will_timer.is_none_or(|set| due < set) {
            resident.will_timer = Some(due);
            self.set_timer(due, Timer::Will(self.registry.name(slot)));
        }
    }
}

impl LastWill {
    pub(super) fn new(will: &Will<'_>) -> Self {
        let mut kept = Vec::new();
        let is_kept = |one: &Property<'_>| !matches!(one, Property::WillDelayIntervalS(_));
        let properties = Properties::write(will.properties.iter().filter(is_kept), &mut kept);
        let publish = Publish {
            dup: false,
            qos: will.qos,
            retain: will.retain,
            topic: will.topic,
            packet_id: None,
            properties,
            payload: will.payload,
        };
        Self {
            publication: Publication::new(&publish, Time::START),
            expiry_interval_s: will.properties.message_expiry_interval_s(),
            delay_s: will.properties.will_delay_interval_s().unwrap_or(0),
        }
    }
}
