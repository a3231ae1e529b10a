//! A broker that does what a script says: it delays, drops, repeats, reorders, stalls and lies by
//! plan. Threads and blocking sockets, and a codec of its own, so that it shares nothing with
//! what it tests. It speaks just enough MQTT 3.1.1 for the load generator.

mod session;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use session::{Delivery, Sessions};
use wire::{Input, Message, Output, from_v5, parse_connect, parse_filters, write_length};

/// What happens to one message on its way to one subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Deliver,
    Drop,
    /// Twice, the second time under another packet id.
    Duplicate,
    /// The same, with the DUP flag on the second.
    DuplicateMarked,
    /// QoS 2: once more with the same packet id.
    Retransmit,
    /// After the next message.
    HoldBack,
    /// At QoS 0.
    Downgrade,
    /// As a message that some other program might have published.
    Replace,
}

#[derive(Clone)]
pub(crate) struct Script {
    /// By number of the subscriber and of the message, both counted by the broker from 0.
    pub(crate) fate: fn(subscriber: usize, message: usize) -> Fate,
    /// Between the arrival of a publish and its deliveries.
    pub(crate) delay: Duration,
    /// On this message the broker stops reading its publisher for this long.
    pub(crate) stall: Option<(usize, Duration)>,
    /// On this message the broker cuts its publisher off.
    pub(crate) cut_off: Option<usize>,
    /// This message is never acknowledged.
    pub(crate) unacknowledged: Option<usize>,
    /// Deliveries are written in pieces of so many bytes.
    pub(crate) piece_bytes: usize,
    /// `None`: CONNECT is never answered.
    pub(crate) connack: Option<u8>,
    /// How long CONNECT waits for its answer.
    pub(crate) connack_delay: Duration,
    /// Instead of the QoS that was asked for.
    pub(crate) granted: Option<u8>,
    pub(crate) answers_pings: bool,
    /// The members of a shared subscription that get a message, by their places in the group.
    pub(crate) members: fn(message: usize, member_count: usize) -> Vec<usize>,
    /// Persistent sessions are lost as soon as their clients have left.
    pub(crate) forgets: bool,
    /// A retained message is never replaced.
    pub(crate) keeps_first_retained: bool,
    /// Connections that are closed at once, counted from 0.
    pub(crate) hangs_up: fn(connection: usize) -> bool,
    /// Connections that are closed a moment after CONNACK.
    pub(crate) expels: fn(connection: usize) -> bool,
    /// What a publish costs: the broker handles one after the other.
    pub(crate) work: Duration,
    /// UNSUBSCRIBE is never answered.
    pub(crate) ignores_unsubscribe: bool,
    /// Nothing of the above: QoS 0 publishes go to everybody, as many at a time as have come.
    pub(crate) relays: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            fate: |_, _| Fate::Deliver,
            delay: Duration::ZERO,
            stall: None,
            cut_off: None,
            unacknowledged: None,
            piece_bytes: usize::MAX,
            connack: Some(0),
            connack_delay: Duration::ZERO,
            granted: None,
            answers_pings: true,
            members: |message, member_count| vec![message % member_count],
            forgets: false,
            keeps_first_retained: false,
            hangs_up: |_| false,
            expels: |_| false,
            work: Duration::ZERO,
            ignores_unsubscribe: false,
            relays: false,
        }
    }
}

/// A running broker; it ends with the process.
pub(crate) struct FakeBroker {
    pub(crate) address: String,
    pub(crate) pings: Arc<AtomicUsize>,
    pub(crate) disconnects: Arc<AtomicUsize>,
    broker: Arc<Broker>,
}

impl FakeBroker {
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (deliveries, queue) = channel();
        let broker = Arc::new(Broker {
            connection_count: AtomicUsize::new(0),
            peers: Mutex::default(),
            sessions: Mutex::new(Sessions::new(script.clone(), deliveries)),
            script,
            pings: Arc::default(),
            disconnects: Arc::default(),
        });
        let (pings, disconnects) = (Arc::clone(&broker.pings), Arc::clone(&broker.disconnects));
        thread::spawn(move || deliver(&queue));
        let serving = Arc::clone(&broker);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let broker = Arc::clone(&serving);
                thread::spawn(move || broker.serve(stream));
            }
        });
        Self { address, pings, disconnects, broker }
    }

    /// The addresses that connections came from, each with their number.
    pub(crate) fn peers(&self) -> BTreeMap<IpAddr, usize> {
        self.broker.peers.lock().expect("nobody panics with it").clone()
    }

    /// Messages that are retained now.
    pub(crate) fn retained_count(&self) -> usize {
        self.broker.sessions().retained_count()
    }

    /// Persistent sessions that it holds now.
    pub(crate) fn session_count(&self) -> usize {
        self.broker.sessions().session_count()
    }
}

struct Broker {
    script: Script,
    sessions: Mutex<Sessions>,
    connection_count: AtomicUsize,
    peers: Mutex<BTreeMap<IpAddr, usize>>,
    pings: Arc<AtomicUsize>,
    disconnects: Arc<AtomicUsize>,
}

/// One connection as its thread sees it.
struct Connection {
    client_id: Vec<u8>,
    output: Output,
    /// Counted from 0.
    number: usize,
}

fn deliver(queue: &Receiver<Delivery>) {
    for Delivery { due, output, bytes } in queue {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        output.write(&bytes);
    }
}

impl Broker {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().expect("no router panics")
    }

    fn serve(&self, stream: TcpStream) {
        let number = self.connection_count.fetch_add(1, Ordering::SeqCst);
        let peer = stream.peer_addr().expect("it is connected").ip();
        *self.peers.lock().expect("nobody panics with it").entry(peer).or_default() += 1;
        if (self.script.hangs_up)(number) {
            return;
        }
        stream.set_nodelay(true).expect("a socket");
        let writer = stream.try_clone().expect("a descriptor");
        let piece_bytes = self.script.piece_bytes;
        let is_v5 = Arc::default();
        let output = Output { stream: Arc::new(Mutex::new(writer)), piece_bytes, is_v5 };
        let mut connection = Connection { client_id: Vec::new(), output, number };
        let mut input = Input { stream, buffer: Vec::new() };
        while let Some((first, body)) = input.packet() {
            // Behind the name of the protocol is its level.
            if first >> 4 == 1 && body[6] == 5 {
                connection.output.is_v5.store(true, Ordering::SeqCst);
            }
            let is_v5 = connection.output.is_v5.load(Ordering::SeqCst);
            let body = if is_v5 { from_v5(first, &body) } else { body };
            if self.script.relays && first == 0x30 {
                self.relay(&body, &mut input);
            } else {
                self.handle(first, &body, &mut connection);
            }
        }
        self.sessions().disconnect(&connection.client_id, &connection.output);
    }

    fn relay(&self, body: &[u8], input: &mut Input) {
        let mut bytes = vec![0x30];
        write_length(&mut bytes, body.len());
        bytes.extend_from_slice(body);
        while input.buffer.first() == Some(&0x30)
            && let Some(packet) = input.buffered_packet()
        {
            bytes.extend_from_slice(&packet);
        }
        self.sessions().outputs().for_each(|output| output.write(&bytes));
    }

    fn handle(&self, first: u8, body: &[u8], connection: &mut Connection) {
        let output = &connection.output;
        match first >> 4 {
            1 => self.handle_connect(body, connection),
            3 => self.handle_publish(first, body, output),
            4 | 7 => (),
            5 => output.write(&[0x62, 2, body[0], body[1]]),
            6 => output.write(&[0x70, 2, body[0], body[1]]),
            8 => self.handle_subscribe(body, connection),
            10 => self.handle_unsubscribe(body, connection),
            12 => self.handle_ping(output),
            14 => {
                self.disconnects.fetch_add(1, Ordering::SeqCst);
                output.close();
            }
            other => panic!("the load generator sent packet type {other}"),
        }
    }

    fn handle_connect(&self, body: &[u8], connection: &mut Connection) {
        let (client_id, clean) = parse_connect(body);
        connection.client_id = client_id;
        thread::sleep(self.script.connack_delay);
        match self.script.connack {
            None => (),
            Some(0) => self.sessions().connect(&connection.client_id, clean, &connection.output),
            Some(code) => connection.output.write(&[0x20, 2, 0, code]),
        }
        if (self.script.expels)(connection.number) {
            thread::sleep(Duration::from_millis(100));
            connection.output.close();
        }
    }

    fn handle_ping(&self, output: &Output) {
        self.pings.fetch_add(1, Ordering::SeqCst);
        if self.script.answers_pings {
            output.write(&[0xd0, 0]);
        }
    }

    fn handle_subscribe(&self, body: &[u8], connection: &Connection) {
        let filters = parse_filters(body, true);
        let mut sessions = self.sessions();
        let codes = sessions.subscribe(&connection.client_id, &filters);
        let mut suback = vec![0x90];
        write_length(&mut suback, 2 + codes.len());
        suback.extend_from_slice(&body[..2]);
        suback.extend_from_slice(&codes);
        connection.output.write(&suback);
        sessions.send_retained(&connection.client_id, &filters);
    }

    fn handle_unsubscribe(&self, body: &[u8], connection: &Connection) {
        let filters = parse_filters(body, false);
        self.sessions().unsubscribe(&connection.client_id, &filters);
        if !self.script.ignores_unsubscribe {
            connection.output.write(&[0xb0, 2, body[0], body[1]]);
        }
    }

    fn handle_publish(&self, first: u8, body: &[u8], output: &Output) {
        let (message, id_at) = Message::parse(first, body);
        let number = {
            let mut sessions = self.sessions();
            thread::sleep(self.script.work);
            sessions.publish(&message)
        };
        if message.qos > 0 && self.script.unacknowledged != Some(number) {
            let kind = if message.qos == 1 { 0x40 } else { 0x50 };
            output.write(&[kind, 2, body[id_at], body[id_at + 1]]);
        }
        if self.script.cut_off == Some(number) {
            output.close();
        }
    }
}
