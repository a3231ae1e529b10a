//! Clients that mean no good, or are something else than MQTT clients.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::broker::Broker;
use harness::client::Client;
use harness::random::Random;

/// Connections that say nothing are closed a second after they were opened, as the broker was
/// told, not at once and not after the ten seconds of the default.
fn expect_shed(took: Duration) {
    let is_told = (Duration::from_millis(900)..Duration::from_secs(7)).contains(&took);
    assert!(is_told, "they were to be closed after a second, and were after {took:?}");
}

fn assert_alive(broker: &Broker) {
    let mut client = Client::connect(broker.address, "CONNECT alive");
    client.send("PINGREQ");
    client.expect("PINGRESP");
}

#[test]
fn other_protocols_are_closed() {
    let broker = Broker::start(&["--cores", "2"]);
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut client = Client::open(broker.address);
        client.send_bytes(bytes);
        client.expect_closed();
    }
    assert_alive(&broker);
}

#[test]
fn garbage_of_every_kind_leaves_the_broker_alive() {
    let broker = Broker::start(&["--cores", "2"]);
    let mut random = Random::new(1);
    for round in 0..300 {
        let mut client = if round % 2 == 0 {
            Client::open(broker.address)
        } else {
            Client::connect(broker.address, &format!("CONNECT g{round}"))
        };
        let bytes: Vec<u8> = (0..64).map(|_| random.below(256) as u8).collect();
        client.send_bytes(&bytes);
        client.abort();
    }
    assert_alive(&broker);
}

/// Half a CONNECT, then silence.
#[test]
fn a_connect_that_does_not_come_in_time_is_closed() {
    let broker = Broker::start(&["--cores", "2", "--connect-timeout-s", "1"]);
    let started = Instant::now();
    let mut silent = Client::open(broker.address);
    let mut half = Client::open(broker.address);
    half.send_bytes(b"\x10\x20\0\x04MQTT\x04");
    let mut accepted = Client::connect(broker.address, "CONNECT a");
    silent.expect_closed();
    half.expect_closed();
    expect_shed(started.elapsed());
    accepted.send("PINGREQ");
    accepted.expect("PINGRESP");
}

/// A byte now and then does not extend the time for CONNECT: the connection is closed while bytes
/// still come.
#[test]
fn a_connect_that_trickles_in_is_closed() {
    let broker = Broker::start(&["--cores", "1", "--connect-timeout-s", "1"]);
    let mut stream = TcpStream::connect(broker.address).expect("the broker accepts connections");
    stream.write_all(b"\x10\xff\x01\0\x04MQTT\x04\x02\0\x3c\0\xf3").expect("it is open");
    let started = Instant::now();
    let refused = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(b"a").is_err()
    });
    assert!(refused, "half a CONNECT was listened to for {:?}", started.elapsed());
    expect_shed(started.elapsed());
}

#[test]
fn thousands_of_connections_that_say_nothing_are_shed() {
    let broker = Broker::start(&["--cores", "2", "--connect-timeout-s", "1"]);
    let mut silent: Vec<_> = (0..500).map(|_| Client::open(broker.address)).collect();
    let started = Instant::now();
    assert_alive(&broker);
    silent.iter_mut().for_each(Client::expect_closed);
    // They came one after the other, the first some time before.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(7), "they are closed {took:?} after the last has come");
    assert_alive(&broker);
}

/// What clients say in the broker's own name goes nowhere, and its operator learns of it.
#[test]
fn what_is_published_in_the_name_of_the_broker_is_counted() {
    let broker = Broker::start(&["--cores", "2"]);
    let mut client = Client::connect(broker.address, "CONNECT a will=$SYS/broker/uptime");
    client.send("PUBLISH $SYS/broker/version x");
    client.send("PUBLISH $SYS q1 id=1 x");
    client.expect("PUBACK id=1");
    // Its earlier connection has ended before it is let in again, and with it the will is due.
    let _again = Client::connect(broker.address, "CONNECT a");
    let (_, log) = broker.stop("TERM");
    let counted = log.iter().any(|line| line.contains(" publishes_refused_sys=3"));
    assert!(counted && !log.iter().any(|line| line.contains("wills_published")), "{log:#?}");
}
