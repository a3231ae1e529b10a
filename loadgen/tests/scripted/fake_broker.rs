//! A broker that does what a script says: it delays, drops, repeats, reorders, stalls and lies by
//! plan. Threads and blocking sockets, and a codec of its own, so that it shares nothing with
//! what it tests. It speaks just enough MQTT 3.1.1 for the load generator.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

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
    /// Instead of the QoS that was asked for.
    pub(crate) granted: Option<u8>,
    pub(crate) answers_pings: bool,
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
            granted: None,
            answers_pings: true,
            relays: false,
        }
    }
}

/// A running broker; it ends with the process.
pub(crate) struct FakeBroker {
    pub(crate) address: String,
    pub(crate) pings: Arc<AtomicUsize>,
    pub(crate) disconnects: Arc<AtomicUsize>,
}

impl FakeBroker {
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (deliveries, queue) = channel();
        let broker = Arc::new(Broker {
            script,
            deliveries: Mutex::new(deliveries),
            routes: Mutex::default(),
            pings: Arc::default(),
            disconnects: Arc::default(),
        });
        let (pings, disconnects) = (Arc::clone(&broker.pings), Arc::clone(&broker.disconnects));
        thread::spawn(move || deliver(&queue));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let broker = Arc::clone(&broker);
                thread::spawn(move || broker.serve(stream));
            }
        });
        Self { address, pings, disconnects }
    }
}

struct Broker {
    script: Script,
    deliveries: Mutex<Sender<Delivery>>,
    routes: Mutex<Routes>,
    pings: Arc<AtomicUsize>,
    disconnects: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Routes {
    subscribers: Vec<Subscriber>,
    message_count: usize,
}

struct Subscriber {
    output: Output,
    next_packet_id: u16,
    held_back: Option<Message>,
}

struct Delivery {
    due: Instant,
    output: Output,
    bytes: Vec<u8>,
}

#[derive(Clone)]
struct Message {
    qos: u8,
    topic: Vec<u8>,
    payload: Vec<u8>,
}

/// A socket that several threads write whole packets to.
#[derive(Clone)]
struct Output {
    stream: Arc<Mutex<TcpStream>>,
    piece_bytes: usize,
}

impl Output {
    /// Whoever has left does not get anything.
    fn write(&self, bytes: &[u8]) {
        let mut stream = self.stream.lock().expect("no writer panics");
        for piece in bytes.chunks(self.piece_bytes) {
            let _ = stream.write_all(piece);
        }
    }

    fn close(&self) {
        let _ = self.stream.lock().expect("no writer panics").shutdown(Shutdown::Both);
    }
}

fn deliver(queue: &Receiver<Delivery>) {
    for Delivery { due, output, bytes } in queue {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        output.write(&bytes);
    }
}

impl Broker {
    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).expect("a socket");
        let writer = stream.try_clone().expect("a descriptor");
        let piece_bytes = self.script.piece_bytes;
        let output = Output { stream: Arc::new(Mutex::new(writer)), piece_bytes };
        let mut input = Input { stream, buffer: Vec::new() };
        while let Some((first, body)) = input.packet() {
            if self.script.relays && first == 0x30 {
                self.relay(&body, &mut input);
            } else {
                self.handle(first, &body, &output);
            }
        }
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
        let routes = self.routes.lock().expect("no router panics");
        routes.subscribers.iter().for_each(|subscriber| subscriber.output.write(&bytes));
    }

    fn handle(&self, first: u8, body: &[u8], output: &Output) {
        match first >> 4 {
            1 => self.script.connack.into_iter().for_each(|code| output.write(&[0x20, 2, 0, code])),
            3 => self.handle_publish(first, body, output),
            4 | 7 => (),
            5 => output.write(&[0x62, 2, body[0], body[1]]),
            6 => output.write(&[0x70, 2, body[0], body[1]]),
            8 => self.handle_subscribe(body, output),
            12 => self.handle_ping(output),
            14 => drop(self.disconnects.fetch_add(1, Ordering::SeqCst)),
            other => panic!("the load generator sent packet type {other}"),
        }
    }

    fn handle_ping(&self, output: &Output) {
        self.pings.fetch_add(1, Ordering::SeqCst);
        if self.script.answers_pings {
            output.write(&[0xd0, 0]);
        }
    }

    /// The QoS asked for is granted for every filter; filters themselves are not looked at.
    fn handle_subscribe(&self, body: &[u8], output: &Output) {
        let mut codes = Vec::new();
        let mut rest = &body[2..];
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            codes.push(self.script.granted.unwrap_or(rest[2 + length]));
            rest = &rest[3 + length..];
        }
        let mut suback = vec![0x90];
        write_length(&mut suback, 2 + codes.len());
        suback.extend_from_slice(&body[..2]);
        suback.extend_from_slice(&codes);
        output.write(&suback);
        let subscriber = Subscriber { output: output.clone(), next_packet_id: 1, held_back: None };
        self.routes.lock().expect("no router panics").subscribers.push(subscriber);
    }

    fn handle_publish(&self, first: u8, body: &[u8], output: &Output) {
        let qos = first >> 1 & 3;
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let payload_at = if qos == 0 { topic_end } else { topic_end + 2 };
        let message = Message {
            qos,
            topic: body[2..topic_end].to_vec(),
            payload: body[payload_at..].to_vec(),
        };
        let number = self.route(&message);
        if qos > 0 && self.script.unacknowledged != Some(number) {
            let kind = if qos == 1 { 0x40 } else { 0x50 };
            output.write(&[kind, 2, body[topic_end], body[topic_end + 1]]);
        }
        if self.script.cut_off == Some(number) {
            output.close();
        }
    }

    fn route(&self, message: &Message) -> usize {
        let mut routes = self.routes.lock().expect("no router panics");
        let number = routes.message_count;
        routes.message_count += 1;
        if let Some((at, pause)) = self.script.stall
            && at == number
        {
            thread::sleep(pause);
        }
        let due = Instant::now() + self.script.delay;
        let deliveries = self.deliveries.lock().expect("no router panics");
        for (at, subscriber) in routes.subscribers.iter_mut().enumerate() {
            let bytes = subscriber.encode((self.script.fate)(at, number), message);
            let output = subscriber.output.clone();
            deliveries.send(Delivery { due, output, bytes }).expect("the other end lives on");
        }
        number
    }
}

impl Subscriber {
    fn encode(&mut self, fate: Fate, message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        let held_back = self.held_back.take();
        match fate {
            Fate::Drop => (),
            Fate::HoldBack => self.held_back = Some(message.clone()),
            Fate::Deliver => self.write(message, false, &mut bytes),
            Fate::Duplicate | Fate::DuplicateMarked => {
                self.write(message, false, &mut bytes);
                self.write(message, fate == Fate::DuplicateMarked, &mut bytes);
            }
            Fate::Retransmit => {
                self.write(message, false, &mut bytes);
                self.next_packet_id -= 1;
                self.write(message, true, &mut bytes);
            }
            Fate::Downgrade => {
                self.write(&Message { qos: 0, ..message.clone() }, false, &mut bytes);
            }
            Fate::Replace => {
                let payload = b"something that another program says to its friends".to_vec();
                self.write(&Message { payload, ..message.clone() }, false, &mut bytes);
            }
        }
        if let Some(late) = held_back {
            self.write(&late, false, &mut bytes);
        }
        bytes
    }

    fn write(&mut self, message: &Message, dup: bool, bytes: &mut Vec<u8>) {
        let Message { qos, topic, payload } = message;
        bytes.push(0x30 | u8::from(dup) << 3 | qos << 1);
        let id_bytes = if *qos == 0 { 0 } else { 2 };
        write_length(bytes, 2 + topic.len() + id_bytes + payload.len());
        bytes.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        bytes.extend_from_slice(topic);
        if *qos > 0 {
            bytes.extend_from_slice(&self.next_packet_id.to_be_bytes());
            self.next_packet_id = self.next_packet_id % u16::MAX + 1;
        }
        bytes.extend_from_slice(payload);
    }
}

fn write_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length > 127 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

struct Input {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Input {
    /// First byte and body of the next packet; `None` when the peer has left.
    fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(mut packet) = self.buffered_packet() {
                let (_, header_bytes) = length(&packet).expect("it is complete");
                return Some((packet[0], packet.split_off(header_bytes)));
            }
            let mut bytes = [0; 65_536];
            match self.stream.read(&mut bytes) {
                Ok(count) if count > 0 => self.buffer.extend_from_slice(&bytes[..count]),
                _ => return None,
            }
        }
    }

    fn buffered_packet(&mut self) -> Option<Vec<u8>> {
        let (length, header_bytes) = length(&self.buffer)?;
        let complete = self.buffer.len() >= header_bytes + length;
        complete.then(|| self.buffer.drain(..header_bytes + length).collect())
    }
}

/// Remaining length and bytes of the fixed header.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (position, byte) in bytes.get(1..)?.iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((length, position + 2));
        }
    }
    None
}
