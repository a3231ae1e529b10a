//! Wills: what is published for a client that has gone without saying so.

use std::time::Duration;

use crate::metrics::{Meter, allocated};
use crate::mqtt::{Properties, Property, Publish, Will};
use crate::session::{Outgoing, Publication, Time};

use super::message::{Origin, Source};
use super::registry::Aside;
use super::{ConnectionId, Output, Shard};

/// What is published when a client goes without saying so.
#[derive(Debug)]
pub(super) struct LastWill {
    publication: Publication,
    expiry_interval_s: Option<u32>,
    delay_s: u32,
    /// Where what it takes beside the publication is charged.
    meter: Meter,
}

impl Shard {
    /// Publishes the will of an offline session whose delay has passed.
    pub(super) fn publish_due_will(&mut self, slot: u32, out: &mut impl Output) {
        let now = self.now;
        let resident = self.registry.get_mut(slot);
        let Some(aside) = resident.aside_mut() else { return };
        if let Some((_, will)) = aside.will.take_if(|(due, _)| *due <= now) {
            resident.tidy();
            self.publish_will(&will, Some(slot), out);
        }
    }

    /// The end of this connection publishes no will.
    pub(super) fn void_will(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.will = None;
        }
    }

    /// The end of this connection publishes no will that could wait.
    pub(super) fn void_delayed_will(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.will.take_if(|will| will.delay_s > 0);
        }
    }

    /// Publishes a will when its delay has passed or its session ends [MQTT-3.1.3-9].
    pub(super) fn set_will(&mut self, slot: u32, will: Box<LastWill>, out: &mut impl Output) {
        if will.delay_s == 0 {
            return self.publish_will(&will, Some(slot), out);
        }
        let due = self.now + Duration::from_secs(will.delay_s.into());
        self.registry.get_mut(slot).set_aside().will = Some((due, will));
        self.wake_session(slot, due);
    }

    /// `slot` is where the session of its client is, while there is one: that may not want what its
    /// client publishes [MQTT-3.8.3-3].
    pub(super) fn publish_will(
        &mut self,
        will: &LastWill,
        slot: Option<u32>,
        out: &mut impl Output,
    ) {
        if will.publication.view().topic.is_of_server() {
            // A CONNECT is not refused for its will, which may never be due.
            return self.refuse_sys(None, out);
        }
        self.counters.wills_published += 1;
        let publication = will.publication.restamped(will.expiry_interval_s, self.now);
        let origin = slot.map(|slot| Origin { home: self.id, session: self.registry.name(slot) });
        let owner = self.partition.owner(publication.topic());
        let source = Source { origin, ..Source::default() };
        self.publish(Outgoing::kept(&publication), owner, &source, out);
    }
}

impl LastWill {
    pub(super) fn new(will: &Will<'_>, meter: Meter) -> Self {
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
        let will = Self {
            publication: Publication::metered(&publish, Time::START, meter),
            expiry_interval_s: will.properties.message_expiry_interval_s(),
            delay_s: will.properties.will_delay_interval_s().unwrap_or(0),
            meter,
        };
        meter.add(will.memory_bytes());
        will
    }

    /// With what a session takes that keeps it until it is due.
    fn memory_bytes(&self) -> usize {
        let aside_bytes = if self.delay_s > 0 { allocated(size_of::<Aside>()) } else { 0 };
        allocated(size_of::<Self>()) + aside_bytes
    }
}

impl Drop for LastWill {
    fn drop(&mut self) {
        self.meter.sub(self.memory_bytes());
    }
}
