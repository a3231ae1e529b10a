//! What decoding and encoding a small PUBLISH costs: `cargo bench --no-default-features --bench
//! codec`. Prints the median over the rounds of the mean time of one operation, in nanoseconds,
//! and the fastest round, which tells how much else the machine was doing. At the end: reading a
//! stream of packets beside the codec of rumqttc, in turn.

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use ringmq::mqtt::{
    Ack, Packet, PacketId, Properties, Property, Publish, QoS, TopicName, Version, split,
};

const ROUNDS: usize = 31;
const OPERATIONS_PER_ROUND: u32 = 200_000;
const STREAM_PACKETS: usize = 20_000;
const PAYLOAD: [u8; 64] = [0x55; 64];
const TOPIC: &str = "plant/7/line/12/temperature";
const PACKET_BYTES_MAX: usize = 1 << 20;

fn main() {
    let mut raw = Vec::new();
    let properties = Properties::write(
        [Property::MessageExpiryIntervalS(60), Property::ContentType("application/json")],
        &mut raw,
    );
    for (name, version, qos, properties) in [
        ("3.1.1 QoS 0", Version::V311, QoS::AtMostOnce, Properties::EMPTY),
        ("3.1.1 QoS 1", Version::V311, QoS::AtLeastOnce, Properties::EMPTY),
        ("5.0 QoS 0", Version::V5, QoS::AtMostOnce, Properties::EMPTY),
        ("5.0 QoS 0, 2 properties", Version::V5, QoS::AtMostOnce, properties),
    ] {
        let publish = publish(qos, properties);
        report(&format!("decode PUBLISH {name}"), decode(&publish, version));
        report(&format!("encode PUBLISH {name}"), encode(&publish, version));
    }
    report("decode PUBACK 5.0", decode_puback());
    beside_rumqttc(Version::V311, "3.1.1");
    beside_rumqttc(Version::V5, "5.0");
}

/// Reads the same stream with both codecs, round by round.
fn beside_rumqttc(version: Version, name: &str) {
    let mut stream = Vec::new();
    for _ in 0..STREAM_PACKETS {
        publish(QoS::AtMostOnce, Properties::EMPTY).encode(version, &mut stream);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(time_per_packet(|| read_ours(black_box(&stream), version)));
        let mut buffer = BytesMut::from(&stream[..]);
        theirs.push(time_per_packet(|| read_theirs(&mut buffer, version)));
    }
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    let ratio = theirs[ROUNDS / 2] / ours[ROUNDS / 2];
    report(&format!("stream of PUBLISH {name} QoS 0, ringmq"), ours);
    report(&format!("stream of PUBLISH {name} QoS 0, rumqttc"), theirs);
    println!("{:40} {ratio:.1} times ringmq's median", "");
}

fn read_ours(stream: &[u8], version: Version) {
    let mut rest = stream;
    while let Some((frame, used)) = split(rest, PACKET_BYTES_MAX).expect("well formed") {
        black_box(Packet::decode(frame, version)).expect("the packet is valid");
        rest = &rest[used..];
    }
}

fn read_theirs(stream: &mut BytesMut, version: Version) {
    while !stream.is_empty() {
        if version.is_v5() {
            let max = Some(PACKET_BYTES_MAX as u32);
            let packet = rumqttc::v5::mqttbytes::v5::Packet::read(stream, max);
            black_box(packet).expect("the packet is valid");
        } else {
            let packet = rumqttc::mqttbytes::v4::Packet::read(stream, PACKET_BYTES_MAX);
            black_box(packet).expect("the packet is valid");
        }
    }
}

fn time_per_packet(read: impl FnOnce()) -> f64 {
    let start = Instant::now();
    read();
    start.elapsed().as_secs_f64() * 1e9 / STREAM_PACKETS as f64
}

fn publish(qos: QoS, properties: Properties<'_>) -> Publish<'_> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: TopicName::parse(TOPIC).expect("the topic has no wildcard"),
        packet_id: (qos != QoS::AtMostOnce).then(packet_id),
        properties,
        payload: &PAYLOAD,
    }
}

fn packet_id() -> PacketId {
    PacketId::new(7).expect("7 is not 0")
}

fn decode(publish: &Publish<'_>, version: Version) -> Vec<f64> {
    let mut bytes = Vec::new();
    publish.encode(version, &mut bytes);
    measure(|| decode_one(black_box(&bytes), version))
}

fn decode_one(bytes: &[u8], version: Version) {
    let (frame, used) = split(bytes, PACKET_BYTES_MAX)
        .expect("the packet is well formed")
        .expect("the packet is whole");
    black_box(used);
    black_box(Packet::decode(frame, version)).expect("the packet is valid");
}

fn encode(publish: &Publish<'_>, version: Version) -> Vec<f64> {
    let mut out = Vec::with_capacity(1024);
    measure(|| {
        out.clear();
        black_box(publish).encode(version, &mut out);
        black_box(&out);
    })
}

fn decode_puback() -> Vec<f64> {
    let mut bytes = Vec::new();
    Packet::Puback(Ack::success(packet_id())).encode(Version::V5, &mut bytes);
    measure(|| decode_one(black_box(&bytes), Version::V5))
}

/// Nanoseconds of one operation, per round, sorted.
fn measure(mut operation: impl FnMut()) -> Vec<f64> {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..OPERATIONS_PER_ROUND {
                operation();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(OPERATIONS_PER_ROUND)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds
}

fn report(name: &str, rounds: Vec<f64>) {
    println!("{name:40} median {:7.1} ns  best {:7.1} ns", rounds[ROUNDS / 2], rounds[0]);
}
