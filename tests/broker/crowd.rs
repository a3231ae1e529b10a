//! Clients that each stay within every limit and together want more memory than there is: one kind
//! for each thing that a client can make grow.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A client that is not served any more for so long gives up.
const PATIENCE: Duration = Duration::from_secs(10);
const MIB: usize = 1 << 20;

/// Where they go, and how much memory each kind tries to have held.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) address: SocketAddr,
    pub(crate) bytes: usize,
}

/// What one kind does; its connections stay open as long as what it gives is kept.
pub(crate) type Kind = fn(&Crowd) -> Vec<Line>;

pub(crate) const KINDS: [(&str, Kind); 15] = [
    ("half packets", half_packets),
    ("half CONNECTs", half_connects),
    ("outboxes", outboxes),
    ("wills", wills),
    ("client identifiers", client_ids),
    ("topic aliases", aliases),
    ("identifiers of QoS 2", qos2),
    ("queues", queues),
    ("queues of small messages", small_queues),
    ("deliveries in flight", in_flight),
    ("retained messages", retained),
    ("retained user properties", user_properties),
    ("long filters", filters),
    ("shared subscriptions", shares),
    ("routes", routes),
];

/// One connection.
pub(crate) struct Line(TcpStream);

impl Line {
    fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Self(stream))
    }

    /// Says this, and waits for as many bytes of answers.
    fn ask(&mut self, bytes: &[u8], answer_bytes: usize) -> Option<()> {
        self.0.write_all(bytes).ok()?;
        self.0.read_exact(&mut vec![0; answer_bytes]).ok()
    }

    fn say(&mut self, bytes: &[u8]) -> Option<()> {
        self.ask(bytes, 0)
    }

    /// Takes whatever comes from now on, and answers nothing.
    fn drain(&self) {
        if let Ok(mut stream) = self.0.try_clone() {
            std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
    }

    /// All that was said before was handled.
    fn ping(&mut self) -> Option<()> {
        self.ask(b"\xc0\0", 2)
    }
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let (mut packet, mut rest) = (vec![first], body.len());
    while rest > 127 {
        packet.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    packet.push(rest as u8);
    [packet, body].concat()
}

fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u16).to_be_bytes(), text].concat()
}

/// CONNECT of 3.1.1, with or without a clean session.
fn connect(client_id: &str, is_clean: bool) -> Vec<u8> {
    packet(0x10, &[b"\0\x04MQTT\x04", &[u8::from(is_clean) << 1, 0, 0], &text(client_id)])
}

/// CONNECT of 5.0 with a clean start; `properties` are shorter than 128 bytes.
fn connect_v5(client_id: &str, properties: &[u8], flags: u8, will: &[u8]) -> Vec<u8> {
    let head = [2 | flags, 0, 0, properties.len() as u8];
    packet(0x10, &[b"\0\x04MQTT\x05", &head, properties, &text(client_id), will])
}

fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(0x30, &[&text(topic), payload])
}

fn publish_qos(topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(0x30 | qos << 1, &[&text(topic), &id.to_be_bytes(), payload])
}

fn subscribe<'f>(filters: impl IntoIterator<Item = &'f str>, qos: u8) -> Vec<u8> {
    let filters = filters.into_iter().flat_map(|filter| [text(filter), vec![qos]].concat());
    packet(0x82, &[b"\0\x01", &filters.collect::<Vec<u8>>()])
}

impl Crowd {
    /// A client that is accepted.
    fn member(&self, connect: &[u8]) -> Option<Line> {
        let mut line = Line::open(self.address)?;
        line.ask(connect, 4)?;
        Some(line)
    }

    /// As many clients as would hold the memory, if each holds so much.
    fn each(&self, bytes: usize, one: impl FnMut(usize) -> Option<Line>) -> Vec<Line> {
        (0..(self.bytes / bytes).max(1)).filter_map(one).collect()
    }

    /// Sessions that are offline, each with a topic of its own.
    fn offline(&self, name: &str, count: usize) {
        for number in 0..count {
            let topic = format!("{name}/{number}");
            if let Some(mut line) = self.member(&connect(&topic, false)) {
                let _ = line.ask(&subscribe([topic.as_str()], 1), 5);
            }
        }
    }
}

fn half_packets(crowd: &Crowd) -> Vec<Line> {
    let whole = publish("a", &vec![b'x'; MIB - 10]);
    crowd.each(MIB, |number| {
        let mut line = crowd.member(&connect(&format!("half{number}"), true))?;
        line.say(&whole[..whole.len() - 1])?;
        Some(line)
    })
}

fn half_connects(crowd: &Crowd) -> Vec<Line> {
    let whole = packet(0x10, &[b"\0\x04MQTT\x04\x04\0\0", &text("x"), &vec![0; 200_000]]);
    crowd.each(200_000, |_| {
        let mut line = Line::open(crowd.address)?;
        line.say(&whole[..whole.len() - 1])?;
        Some(line)
    })
}

/// Subscribers that do not read.
fn outboxes(crowd: &Crowd) -> Vec<Line> {
    let lines = crowd.each(MIB, |number| {
        let mut line = crowd.member(&connect(&format!("deaf{number}"), true))?;
        let socket = socket2::SockRef::from(&line.0);
        socket.set_recv_buffer_size(4096).expect("a socket has this option");
        line.ask(&subscribe(["flood"], 0), 5)?;
        Some(line)
    });
    if let Some(mut line) = crowd.member(&connect("flood", true)) {
        let lot = publish("flood", &[b'x'; 1000]).repeat(250);
        let _ = (0..20).try_for_each(|_| line.say(&lot).and_then(|()| line.ping()));
    }
    lines
}

fn wills(crowd: &Crowd) -> Vec<Line> {
    let will = [b"\x05\x18\xff\xff\xff\xff".to_vec(), text("will"), text([7; 65_000])].concat();
    crowd.each(65_000, |number| {
        let name = format!("will{number}");
        let mut line = Line::open(crowd.address)?;
        line.ask(&connect_v5(&name, b"\x11\xff\xff\xff\xff", 4, &will), 4)?;
        None
    })
}

fn client_ids(crowd: &Crowd) -> Vec<Line> {
    let padding = "c".repeat(65_000);
    crowd.each(65_000, |number| {
        crowd.member(&connect(&format!("{number}{padding}"), false))?;
        None
    })
}

fn aliases(crowd: &Crowd) -> Vec<Line> {
    crowd.each(256 << 10, |number| {
        let mut line = crowd.member(&connect_v5(&format!("alias{number}"), b"", 0, b""))?;
        for alias in 1..=64 {
            let topic = text(format!("{alias}{}", "t".repeat(4000)));
            line.say(&packet(0x30, &[&topic, &[3, 0x23, 0, alias]]))?;
        }
        Some(line)
    })
}

fn qos2(crowd: &Crowd) -> Vec<Line> {
    let all: Vec<u8> = (1..u16::MAX).flat_map(|id| publish_qos("exact", 2, id, b"")).collect();
    crowd.each(640 << 10, |number| {
        let mut line = crowd.member(&connect(&format!("exact{number}"), false))?;
        line.drain();
        line.say(&all)?;
        Some(line)
    })
}

/// Offline sessions, each with a queue of its own messages.
fn fill_queues(crowd: &Crowd, name: &str, bytes: usize, count: u16, payload: &[u8]) -> Vec<Line> {
    let session_count = (crowd.bytes / bytes).max(1);
    crowd.offline(name, session_count);
    let Some(mut line) = crowd.member(&connect(name, true)) else { return Vec::new() };
    line.drain();
    let all = (0..session_count).flat_map(|number| (1..=count).map(move |id| (number, id)));
    for (number, id) in all {
        if line.say(&publish_qos(&format!("{name}/{number}"), 1, id, payload)).is_none() {
            break;
        }
    }
    vec![line]
}

fn queues(crowd: &Crowd) -> Vec<Line> {
    fill_queues(crowd, "queue", 16 * MIB, 17, &vec![b'x'; 1_000_000])
}

fn small_queues(crowd: &Crowd) -> Vec<Line> {
    fill_queues(crowd, "small", MIB, 10_000, b"x")
}

/// Clients that read all that they publish, and acknowledge nothing.
fn in_flight(crowd: &Crowd) -> Vec<Line> {
    crowd.each(32 * MIB, |number| {
        let topic = format!("flight/{number}");
        let mut line = crowd.member(&connect(&topic, false))?;
        line.ask(&subscribe([topic.as_str()], 1), 5)?;
        line.drain();
        for id in 1..=36 {
            line.say(&publish_qos(&topic, 1, id, &vec![b'x'; 1_000_000]))?;
        }
        Some(line)
    })
}

fn retain_all(crowd: &Crowd, name: &str, body: &[u8]) -> Vec<Line> {
    let version = connect_v5(name, b"", 0, b"");
    let Some(mut line) = crowd.member(&version) else { return Vec::new() };
    line.drain();
    for number in 0..crowd.bytes / body.len() {
        let topic = text(format!("{name}/{number}"));
        if line.say(&packet(0x31, &[&topic, body])).is_none() {
            break;
        }
    }
    vec![line]
}

fn retained(crowd: &Crowd) -> Vec<Line> {
    retain_all(crowd, "retained", &[vec![0], vec![b'x'; 1_000_000]].concat())
}

fn user_properties(crowd: &Crowd) -> Vec<Line> {
    // A million bytes of properties, each without name and value.
    retain_all(
        crowd,
        "properties",
        &[b"\xc0\x84\x3d".as_slice(), &b"\x26\0\0\0\0".repeat(200_000)].concat(),
    )
}

fn filters(crowd: &Crowd) -> Vec<Line> {
    crowd.each(8 * MIB, |number| {
        let mut line = crowd.member(&connect(&format!("filters{number}"), false))?;
        for filter in 0..130 {
            let filter = format!("{number}/{filter}/{}/#", "f".repeat(65_000));
            line.ask(&subscribe([filter.as_str()], 0), 5)?;
        }
        Some(line)
    })
}

fn shares(crowd: &Crowd) -> Vec<Line> {
    const EACH: usize = 10_000;
    crowd.each(EACH * 400, |number| {
        let mut line = crowd.member(&connect(&format!("shares{number}"), false))?;
        for first in (0..EACH).step_by(1000) {
            let name = |group| format!("$share/{number}-{group}/t");
            let names: Vec<String> = (first..first + 1000).map(name).collect();
            line.ask(&subscribe(names.iter().map(String::as_str), 0), 5 + 1000)?;
        }
        Some(line)
    })
}

fn routes(crowd: &Crowd) -> Vec<Line> {
    let Some(mut line) = crowd.member(&connect("routes", true)) else { return Vec::new() };
    let padding = "t".repeat(1000);
    for number in 0..crowd.bytes / 1000 {
        if line.say(&publish(&format!("{number}/{padding}"), b"")).is_none() {
            break;
        }
    }
    let _ = line.ping();
    vec![line]
}
