//! Bare shards and clients that speak the codec's packets. What a client sends is handled at once;
//! what was put off goes on where a test says so.

use std::time::Duration;

use ringmq::mqtt::{
    Connect, Filters, Packet, PacketId, Properties, Property, Publish, QoS, Subscribe,
    Subscription, SubscriptionOptions, Subscriptions, TopicFilter, TopicName, Unsubscribe, Version,
    split,
};

use crate::shards::{ALL, Harness};
use crate::world::Plain;

/// Shards whose clients are heard at once.
pub struct Direct {
    pub harness: Harness<Plain>,
    /// What the clients speak.
    version: Version,
}

impl Direct {
    pub fn new(harness: Harness<Plain>, version: Version) -> Self {
        Self { harness, version }
    }

    /// Connects a client that says more at once.
    pub fn connect(
        &mut self,
        client_id: &str,
        clean_start: bool,
        properties: &[Property<'_>],
        more: &[Packet<'_>],
    ) -> usize {
        let mut raw = Vec::new();
        let properties = Properties::write(properties.iter().copied(), &mut raw);
        let connect = Connect { properties, ..connect(self.version, client_id, clean_start) };
        let end = self.harness.open();
        self.send(end, &[&[Packet::Connect(connect)], more].concat());
        end
    }

    pub fn send(&mut self, end: usize, packets: &[Packet<'_>]) {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(self.version, &mut bytes));
        self.send_bytes(end, &bytes);
    }

    /// Sends bytes, which the shard is given even if it does not read the connection.
    pub fn send_bytes(&mut self, end: usize, bytes: &[u8]) {
        self.harness.send(end, bytes);
        self.harness.hand(end, ALL, |_| 0);
        self.answer();
    }

    /// Hands each packet that has come since the last look to `look`.
    pub fn receive<T>(&mut self, end: usize, look: impl Fn(Packet<'_>) -> T) -> Vec<T> {
        self.harness.write(end, ALL);
        self.answer();
        let bytes = std::mem::take(&mut self.harness.ends[end].inbox);
        let (mut rest, mut received) = (&bytes[..], Vec::new());
        while let Some((frame, used)) = split(rest, usize::MAX).expect("well formed") {
            received.push(look(Packet::decode(frame, self.version).expect("a valid packet")));
            rest = &rest[used..];
        }
        received
    }

    /// Ends a turn of every shard, and returns whether there was more to do.
    pub fn turn(&mut self) -> bool {
        let shards = 0..self.harness.shards.len();
        let more = shards.fold(false, |more, shard| more | self.harness.turn(shard));
        self.answer();
        more
    }

    /// Lets time pass, at the end of which all timers fire.
    pub fn pass(&mut self, duration: Duration) {
        self.harness.pass(duration);
        self.answer();
    }

    /// Tells the shard that the network has lost a connection.
    pub fn lose(&mut self, end: usize) {
        self.harness.leave(end);
        self.answer();
    }

    /// Has storage and sockets answer at once.
    fn answer(&mut self) {
        for shard in 0..self.harness.shards.len() {
            while self.harness.persist(shard, ALL) | self.harness.look(shard) {}
        }
    }

    /// Tells whether the shard does not read a connection that is open.
    pub fn is_paused(&self, end: usize) -> bool {
        self.harness.connection(end).is_some_and(|(_, connection)| connection.is_paused)
    }

    /// Tells whether the shard has closed a connection, or the network has lost it.
    pub fn is_closed(&self, end: usize) -> bool {
        self.harness.connection(end).is_none_or(|(_, connection)| connection.is_closing)
    }
}

/// Returns a CONNECT without keep-alive, properties and will.
pub fn connect(version: Version, client_id: &str, clean_start: bool) -> Connect<'_> {
    Connect {
        version,
        is_bridge: false,
        clean_start,
        keep_alive_s: 0,
        properties: Properties::EMPTY,
        client_id,
        will: None,
        username: None,
        password: None,
    }
}

/// Returns a packet identifier.
///
/// # Panics
/// If it is 0.
pub fn packet_id(number: u16) -> PacketId {
    PacketId::new(number).expect("it is not 0")
}

/// Encodes a SUBSCRIBE.
pub fn subscribe<S: AsRef<str>>(version: Version, qos: QoS, filters: &[S]) -> Vec<u8> {
    let options = SubscriptionOptions { qos, ..Default::default() };
    let all: Vec<Subscription<'_>> =
        parsed(filters).map(|filter| Subscription { filter, options }).collect();
    let mut raw = Vec::new();
    let subscriptions = Subscriptions::write(version, &all, &mut raw);
    let (packet_id, properties) = (packet_id(1), Properties::EMPTY);
    encoded(version, &Packet::Subscribe(Subscribe { packet_id, properties, subscriptions }))
}

/// Encodes an UNSUBSCRIBE.
pub fn unsubscribe<S: AsRef<str>>(version: Version, filters: &[S]) -> Vec<u8> {
    let all: Vec<TopicFilter<'_>> = parsed(filters).collect();
    let mut raw = Vec::new();
    let filters = Filters::write(&all, &mut raw);
    let (packet_id, properties) = (packet_id(2), Properties::EMPTY);
    encoded(version, &Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }))
}

/// Returns a PUBLISH; above QoS 0 its packet identifier is 7.
pub fn publish<'a>(topic: &'a str, payload: &'a [u8], qos: QoS, retain: bool) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain,
        topic: TopicName::parse(topic).expect("a topic without wildcard"),
        packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(7)),
        properties: Properties::EMPTY,
        payload,
    }
}

/// Returns filters of this many levels, and a topic that all of them match.
pub fn overlapping(level_count: usize) -> (Vec<String>, String) {
    let level = |number: usize, at| if number >> at & 1 == 0 { "+/" } else { "a/" };
    let filter = |number| (0..level_count).map(|at| level(number, at)).chain(["#"]).collect();
    ((0..1 << level_count).map(filter).collect(), "a/".repeat(level_count))
}

fn parsed<S: AsRef<str>>(filters: &[S]) -> impl Iterator<Item = TopicFilter<'_>> {
    filters.iter().map(|filter| TopicFilter::parse(filter.as_ref()).expect("a valid filter"))
}

/// Encodes a packet.
pub fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}
