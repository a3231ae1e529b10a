//! SUBSCRIBE and UNSUBSCRIBE with more filters than are handled together.
//!
//! The packet stays where it is, at the front of the bytes that its connection holds, and the
//! connection is not read on until all filters were handled, a few at a time, so that its order
//! stays. First all of them are checked: a packet that is not valid changes nothing.
//!
//! ```text
//! Checking --all are valid--> Subscribing   --all are placed--> SUBACK
//!                             Unsubscribing --all are gone----> UNSUBACK
//! ```

use crate::mqtt::{
    Filters, Frame, PacketId, PacketType, ReasonCode, Subscribe, Subscriptions, Unsubscribe,
    Version,
};
use crate::session::ProtocolError;

use super::connection::Step;
use super::pause::Pause;
use super::{CloseReason, ConnectionId, Output, Shard, Slices, Ticket, work};

/// A packet whose filters take no more bytes is handled at once.
const SHORT_BYTES: usize = 192;

/// How far such a packet is handled.
#[derive(Debug)]
pub(super) struct Long {
    packet_id: PacketId,
    subscription_id: Option<u32>,
    /// Bytes of the filters, the last ones of the packet.
    filters_len: usize,
    /// Bytes of those that are done.
    done: usize,
    /// Filters that were checked.
    count: usize,
    state: State,
}

/// See the diagram above.
#[derive(Debug)]
enum State {
    Checking,
    Subscribing(Ticket),
    Unsubscribing(Vec<u8>),
}

/// Whether a packet may have more filters than are handled together.
pub(super) fn is_long(frame: Frame<'_>, slices: &Slices) -> bool {
    let short_bytes = SHORT_BYTES.min(slices.input_units as usize);
    matches!(frame.kind, PacketType::Subscribe | PacketType::Unsubscribe)
        && frame.body.len() > short_bytes
}

impl Long {
    fn begin(frame: Frame<'_>, version: Version) -> Result<Self, ProtocolError> {
        let (packet_id, subscription_id, filters) = if frame.kind == PacketType::Subscribe {
            let head = Subscribe::decode_head(frame, version)?;
            let id = head.properties.subscription_identifier();
            (head.packet_id, id, head.subscriptions.raw())
        } else {
            let head = Unsubscribe::decode_head(frame, version)?;
            (head.packet_id, None, head.filters.raw())
        };
        let (filters_len, state) = (filters.len(), State::Checking);
        Ok(Self { packet_id, subscription_id, filters_len, done: 0, count: 0, state })
    }

    /// The SUBSCRIBE that is being placed, if it has come so far.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self.state {
            State::Subscribing(ticket) => Some(ticket),
            _ => None,
        }
    }

    /// Whether all filters were found to be valid, and nothing was done yet.
    fn is_checked(&self) -> bool {
        matches!(self.state, State::Checking) && self.done == self.filters_len
    }

    fn filters<'a>(&self, frame: Frame<'a>) -> &'a [u8] {
        &frame.body[frame.body.len() - self.filters_len..]
    }

    /// Checks the next filter; false if that was done with all of them.
    fn check(&mut self, frame: Frame<'_>, version: Version) -> Result<bool, ProtocolError> {
        if self.done == self.filters_len {
            return Ok(false);
        }
        let filters = self.filters(frame);
        self.done = match frame.kind {
            PacketType::Subscribe => Subscriptions::unchecked(filters).check(self.done, version)?,
            _ => Filters::unchecked(filters).check(self.done, version)?,
        };
        self.count += 1;
        Ok(true)
    }
}

impl Shard {
    /// Handles some filters of such a packet, from where it was left.
    pub(super) fn handle_long(
        &mut self,
        id: ConnectionId,
        slot: u32,
        frame: Frame<'_>,
        out: &mut impl Output,
    ) -> Result<Step, ProtocolError> {
        if let Some(pause) = self.pause_before_filters(id, out) {
            self.pause(id, pause, out);
            return Ok(Step::Refused);
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(Step::Closed) };
        let version = connection.version;
        let mut long = match connection.long.take() {
            Some(long) => long,
            None => Box::new(Long::begin(frame, version)?),
        };
        let is_done = self.go_on_long(slot, &mut long, frame, version, out)?;
        if long.is_checked() && !self.takes_acknowledgement(slot, long.count) {
            self.close(id, CloseReason::AnswerTooLarge, out); // [MQTT-3.1.2-24]
            return Ok(Step::Closed);
        }
        if is_done {
            return Ok(Step::Taken);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.long = Some(long);
        }
        match self.links.behind() {
            Some(peer) => self.pause(id, Pause::Link(peer), out),
            None => self.pause(id, Pause::Turn, out),
        }
        Ok(Step::Refused)
    }

    /// Goes on for as long as the input may take, but by one filter at least; whether all is done.
    fn go_on_long(
        &mut self,
        slot: u32,
        long: &mut Long,
        frame: Frame<'_>,
        version: Version,
        out: &mut impl Output,
    ) -> Result<bool, ProtocolError> {
        if let State::Checking = long.state {
            let mut before = long.done;
            while long.check(frame, version)? {
                let len = long.done - before;
                self.work.charge(work::CHECK + 2 * work::bytes(len));
                before = long.done;
                if self.is_used_up() {
                    break;
                }
            }
            if long.done < long.filters_len {
                return Ok(false);
            }
            if !self.takes_acknowledgement(slot, long.count) {
                return Ok(false);
            }
            if self.registry.get(slot).session.is_used(long.packet_id) {
                self.refuse_long(slot, long, frame, out);
                return Ok(true);
            }
            self.begin_long(slot, long, frame);
        }
        let filters = long.filters(frame);
        Ok(match &mut long.state {
            State::Checking => unreachable!("it has just begun to do more"),
            State::Subscribing(ticket) => {
                let list = Subscriptions::unchecked(filters);
                self.subscribe_some(slot, *ticket, list, &mut long.done, out)
            }
            State::Unsubscribing(reasons) => {
                let list = Filters::unchecked(filters);
                let is_done = self.unsubscribe_some(slot, list, &mut long.done, reasons, out);
                if is_done {
                    self.acknowledge_unsubscribe(slot, long.packet_id, reasons, out);
                }
                is_done
            }
        })
    }

    /// All filters are valid.
    fn begin_long(&mut self, slot: u32, long: &mut Long, frame: Frame<'_>) {
        long.done = 0;
        long.state = if frame.kind == PacketType::Subscribe {
            let id = long.subscription_id;
            let (ticket, placing) = self.begin_placing(slot, long.packet_id, id);
            self.placing.insert(ticket, placing);
            State::Subscribing(ticket)
        } else {
            State::Unsubscribing(Vec::new())
        };
    }

    /// Its packet identifier names a publish that is under way [MQTT-2.2.1-3].
    fn refuse_long(&mut self, slot: u32, long: &Long, frame: Frame<'_>, out: &mut impl Output) {
        let reasons = vec![ReasonCode::PacketIdentifierInUse as u8; long.count];
        if frame.kind == PacketType::Subscribe {
            self.send_suback(slot, long.packet_id, &reasons, out);
        } else {
            self.acknowledge_unsubscribe(slot, long.packet_id, &reasons, out);
        }
    }

    /// Places filters for as long as the input may take; whether that were all.
    fn subscribe_some(
        &mut self,
        slot: u32,
        ticket: Ticket,
        subscriptions: Subscriptions<'_>,
        done: &mut usize,
        out: &mut impl Output,
    ) -> bool {
        let Some(mut placing) = self.take_placing(ticket) else { return true };
        while let Some((subscription, next)) = subscriptions.at(*done) {
            self.subscribe(slot, &subscription, ticket, &mut placing, out);
            *done = next;
            if self.must_wait_for_more() {
                break;
            }
        }
        placing.is_whole = *done == subscriptions.raw().len();
        let is_whole = placing.is_whole;
        self.go_on_placing(ticket, placing, out);
        is_whole
    }

    /// Gives filters up for as long as the input may take; whether that were all.
    fn unsubscribe_some(
        &mut self,
        slot: u32,
        filters: Filters<'_>,
        done: &mut usize,
        reasons: &mut Vec<u8>,
        out: &mut impl Output,
    ) -> bool {
        while let Some((filter, next)) = filters.at(*done) {
            reasons.push(self.unsubscribe(slot, filter.as_str(), out) as u8);
            *done = next;
            if self.must_wait_for_more() {
                break;
            }
        }
        *done == filters.raw().len()
    }

    /// Whether further filters have to wait for a later turn, or for another shard.
    fn must_wait_for_more(&self) -> bool {
        self.is_used_up() || self.links.behind().is_some()
    }
}
