//! What a message from shard to shard costs: `cargo bench --bench mesh`.
//!
//! The channels are those of the broker (`src/server/mesh.rs`), the messages have the size of its
//! own and carry a 64-byte publish. A sleeping shard is a parked thread here, which costs about
//! what waking an executor does: one system call and the scheduler. CPU is that of both threads,
//! from the kernel. `taskset -c 0` shows both threads on one core. `scripts/scaling-model` reads
//! the lines that this prints: a name, a tab, a number.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use ringmq::mqtt::{Properties, Publish, QoS, TopicName};
use ringmq::session::{Publication, Time};
use ringmq::shard::Message as BrokerMessage;

/// What `src/server/mesh.rs` finds at this place in the broker.
mod routing {
    pub(crate) use ringmq::routing::{ShardId, ShardSet};
}

#[allow(dead_code)]
#[path = "../src/server/mesh.rs"]
mod mesh;

use mesh::Found;

/// As many as fit into a channel between two shards unless it is configured otherwise.
const CHANNEL_COUNT: usize = 4096;
const LOOK: usize = 1024;
const EXTRA: usize = size_of::<BrokerMessage>() - size_of::<Publication>();

/// A publication and as much as the broker's own message has beside it.
struct Message {
    publication: Publication,
    _extra: [u8; EXTRA],
}

type Mesh = mesh::Mesh<Message, ()>;

fn main() {
    print_line("bytes of a message", size_of::<BrokerMessage>() as f64);
    for batch in [1, 8, 64, 512] {
        print_line(&format!("one thread, batches of {batch}: ns per message"), alone(batch));
    }
    for homes in [1, 15, 63] {
        let (send, take) = to_all(homes);
        print_line(&format!("one publish to {homes} homes: ns per home, owner"), send);
        print_line(&format!("one publish to {homes} homes: ns per home, homes"), take);
    }
    for batch in [1, 8, 64] {
        let (wall, cpu) = stream(batch);
        print_line(&format!("two threads, batches of {batch}: ns per message"), wall);
        print_line(&format!("two threads, batches of {batch}: CPU ns per message"), cpu);
    }
    let (wall, cpu) = echo();
    print_line("one at a time, both asleep: ns per hop", wall);
    print_line("one at a time, both asleep: CPU ns per hop", cpu);
}

/// Sends and takes on the same thread: the work without the waiting and without a second cache.
fn alone(batch: usize) -> f64 {
    const MESSAGES: usize = 2_000_000;
    let (mut meshes, publication) = (meshes(2, CHANNEL_COUNT), publication());
    let start = Instant::now();
    for _ in 0..MESSAGES / batch {
        send(&mut meshes[0], 1, batch, &publication);
        meshes[0].ring();
        let more = take(&meshes[1], Waker::noop(), batch * 4).1;
        assert!(!more, "a look takes a whole batch");
    }
    per(start, MESSAGES)
}

/// One publish for every other home; what the owner does, and what all homes together do.
fn to_all(homes: usize) -> (f64, f64) {
    const PUBLISHES: usize = 4_000;
    let (mut meshes, publication) = (meshes(homes + 1, 64), publication());
    let (mut sending, mut taking) = (0.0, 0.0);
    for _ in 0..PUBLISHES {
        let start = Instant::now();
        (1..=homes).for_each(|home| send(&mut meshes[0], home, 1, &publication));
        meshes[0].ring();
        sending += per(start, homes);
        let start = Instant::now();
        for mesh in &meshes[1..] {
            assert_eq!(take(mesh, Waker::noop(), LOOK).0, 1);
        }
        taking += per(start, homes);
    }
    (sending / PUBLISHES as f64, taking / PUBLISHES as f64)
}

/// As fast as one thread sends and another takes; the sender gives way where a channel is full.
fn stream(batch: usize) -> (f64, f64) {
    const MESSAGES: usize = 1_000_000;
    let (mut meshes, publication) = (meshes(2, CHANNEL_COUNT), publication());
    let (receiver, mut sender) = (meshes.pop().expect("two"), meshes.pop().expect("two"));
    let start = Instant::now();
    let taking = thread::spawn(move || {
        let (waker, mut taken) = (parked(thread::current()), 0);
        while taken < MESSAGES {
            match take(&receiver, &waker, LOOK) {
                (0, false) => thread::park(),
                (count, _) => taken += count,
            }
        }
        cpu_ns()
    });
    let before = cpu_ns();
    for _ in 0..MESSAGES / batch {
        send(&mut sender, 1, batch, &publication);
        sender.ring();
    }
    let sending = cpu_ns() - before;
    let cpu = sending + taking.join().expect("the receiver ends");
    (per(start, MESSAGES), cpu / MESSAGES as f64)
}

/// Back and forth: every hop wakes a thread that sleeps.
fn echo() -> (f64, f64) {
    const ROUNDS: usize = 50_000;
    let mut meshes = meshes(2, CHANNEL_COUNT);
    let (there, here) = (meshes.pop().expect("two"), meshes.pop().expect("two"));
    let start = Instant::now();
    let answering = thread::spawn(move || bounce(there, 0, ROUNDS));
    let cpu = bounce(here, 1, ROUNDS);
    let cpu = cpu + answering.join().expect("the other one ends");
    (per(start, 2 * ROUNDS), cpu / (2 * ROUNDS) as f64)
}

/// Waits for a message and answers it, or the other way round; the CPU time that it took.
fn bounce(mut mesh: Mesh, peer: usize, rounds: usize) -> f64 {
    let (waker, publication, before) = (parked(thread::current()), publication(), cpu_ns());
    for _ in 0..rounds {
        if peer == 1 {
            send(&mut mesh, peer, 1, &publication);
            mesh.ring();
        }
        while take(&mesh, &waker, LOOK).0 == 0 {
            thread::park();
        }
        if peer == 0 {
            send(&mut mesh, peer, 1, &publication);
            mesh.ring();
        }
    }
    cpu_ns() - before
}

fn send(mesh: &mut Mesh, to: usize, count: usize, publication: &Publication) {
    for _ in 0..count {
        let mut message = Message { publication: publication.clone(), _extra: [0; EXTRA] };
        while let Err(refused) = mesh.send(routing::ShardId(to as u8), message) {
            mesh.ring();
            spin_loop();
            thread::yield_now();
            message = refused;
        }
    }
}

/// How many messages were there, and whether there may be more.
fn take(mesh: &Mesh, waker: &Waker, limit: usize) -> (usize, bool) {
    let mut count = 0;
    let more = mesh.look(waker, limit, |found| {
        if let Found::Message(_, message) = found {
            black_box(message.publication);
            count += 1;
        }
    });
    (count, more)
}

fn meshes(shards: usize, channel_count: usize) -> Vec<Mesh> {
    Mesh::new(shards, channel_count).0
}

fn publication() -> Publication {
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: TopicName::parse("site/7/device/12/temperature").expect("well-formed"),
        packet_id: None,
        properties: Properties::default(),
        payload: &[b'x'; 64],
    };
    Publication::new(&publish, Time::START)
}

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn parked(thread: Thread) -> Waker {
    Waker::from(Arc::new(Unpark(thread)))
}

/// CPU time of this thread so far.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    text.split(' ').next().and_then(|word| word.parse().ok()).expect("nanoseconds come first")
}

fn per(start: Instant, count: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}

fn print_line(name: &str, value: f64) {
    println!("{name}\t{value:.0}");
}
