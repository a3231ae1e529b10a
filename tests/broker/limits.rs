//! What happens at a limit: those who are there are served, those who come later get in when
//! there is room.

use std::thread;
use std::time::Duration;

use harness::broker::Broker;
use harness::client::Client;

/// Connects until a CONNECT is not answered; gives those who got in and the one who did not.
fn connect_until_full(broker: &Broker, at_most: usize) -> (Vec<Client>, Client) {
    let mut inside = Vec::new();
    for number in 0..at_most {
        let mut client = Client::open(broker.address);
        client.send(&format!("CONNECT c{number}"));
        if !client.is_accepted_within(Duration::from_secs(1)) {
            return (inside, client);
        }
        inside.push(client);
    }
    panic!("{at_most} connections were accepted");
}

fn assert_served(clients: &mut [Client]) {
    for client in clients {
        client.send("PINGREQ");
        client.expect("PINGRESP");
    }
}

#[test]
fn the_connection_limit_holds_and_a_place_that_is_free_is_given_again() {
    const LIMIT: usize = 20;
    let broker = Broker::start(&["--cores", "2", "--connection-count-max", "20"]);
    let (mut inside, _refused) = connect_until_full(&broker, LIMIT + 1);
    assert_eq!(inside.len(), LIMIT);
    assert_served(&mut inside);
    for mut client in inside.drain(10..) {
        client.close();
    }
    assert!(gets_in(&broker, "later"), "a place became free");
    assert_served(&mut inside);
}

fn gets_in(broker: &Broker, client_id: &str) -> bool {
    (0..50).any(|_| {
        let mut client = Client::open(broker.address);
        client.send(&format!("CONNECT {client_id}"));
        let accepted = client.is_accepted_within(Duration::from_millis(500));
        if !accepted {
            thread::sleep(Duration::from_millis(50));
        }
        accepted
    })
}

/// Out of file descriptors: nobody who is connected notices, the log does not flood, and the
/// broker accepts again once descriptors are free.
#[test]
fn running_out_of_descriptors_is_survived() {
    let broker = Broker::start_with_descriptors(128, &["--cores", "1"]);
    let (mut inside, _waiting) = connect_until_full(&broker, 128);
    let others: Vec<_> = (0..20).map(|_| Client::open(broker.address)).collect();
    let lines_before = broker.log().len();
    thread::sleep(Duration::from_secs(3));
    let lines = broker.log().split_off(lines_before);
    assert!(lines.len() <= 5, "more than a line a second: {lines:#?}");
    assert_served(&mut inside);
    drop(others);
    for mut client in inside.drain(inside.len() / 2..) {
        client.close();
    }
    assert!(gets_in(&broker, "later"), "descriptors became free");
    assert_served(&mut inside);
    let log = broker.log().join("\n").to_lowercase();
    assert!(log.contains("too many open files") || log.contains("descriptor"), "{log}");
}

/// A packet above the limit is refused before it is buffered.
#[test]
fn memory_is_not_reserved_for_a_packet_that_is_too_large() {
    let broker = Broker::start(&["--cores", "1"]);
    let before = broker.resident_bytes();
    for number in 0..50 {
        let mut client = Client::connect(broker.address, &format!("CONNECT c{number}"));
        client.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b't']);
        client.expect_closed();
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "grew by {grown} bytes");
}

/// Connections that have announced a large packet and do not send it cost little.
#[test]
fn announced_packets_do_not_take_memory_before_they_come() {
    let broker = Broker::start(&["--cores", "1"]);
    let before = broker.resident_bytes();
    let clients: Vec<_> = (0..100)
        .map(|number| {
            let mut client = Client::connect(broker.address, &format!("CONNECT c{number}"));
            client.send_bytes(&[0x30, 0xF0, 0xFF, 0x3F, 0, 1, b't']);
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{} half packets took {grown} bytes", clients.len());
}

#[test]
fn a_payload_of_a_megabyte_passes_at_every_qos() {
    for cores in ["1", "2"] {
        let broker = Broker::start(&["--cores", cores]);
        let mut subscriber = Client::connect(broker.address, "CONNECT s");
        subscriber.subscribe("big:2");
        let mut publisher = Client::connect(broker.address, "CONNECT p");
        publisher.send("PUBLISH big \"x\"*1000000");
        subscriber.expect("PUBLISH big \"x\"*1000000");
        publisher.send("PUBLISH big q1 id=1 \"y\"*1000000");
        publisher.expect("PUBACK id=1");
        subscriber.expect("PUBLISH big q1 id=$p \"y\"*1000000");
        publisher.send("PUBLISH big q2 id=2 \"z\"*1000000");
        publisher.expect("PUBREC id=2");
        publisher.send("PUBREL id=2");
        publisher.expect("PUBCOMP id=2");
        subscriber.expect("PUBLISH big q2 id=$q \"z\"*1000000");
    }
}

/// A huge page is taken whole for the first byte of it.
#[test]
fn memory_is_taken_in_small_pages() {
    let broker = Broker::start(&["--cores", "1"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("THP_enabled:"));
    assert_eq!(line, Some("THP_enabled:\t0"));
}
