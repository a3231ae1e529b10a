//! The end of the broker.

use std::time::{Duration, Instant};

use harness::broker::Broker;
use harness::client::Client;

fn ends_in_order(signal: &str) {
    let broker = Broker::start(&["--cores", "2"]);
    let address = broker.address;
    let mut idle = Client::open(address);
    let mut client = Client::connect(address, "CONNECT a");
    client.subscribe("t:0");
    let started = Instant::now();
    let (status, log) = broker.stop(signal);
    assert_eq!(status.code(), Some(0), "{signal}: {log:#?}");
    assert!(started.elapsed() < Duration::from_secs(15), "took {:?}", started.elapsed());
    client.expect_closed();
    idle.expect_closed();
}

#[test]
fn sigterm_ends_the_broker_in_order() {
    ends_in_order("TERM");
}

#[test]
fn sigint_ends_the_broker_in_order() {
    ends_in_order("INT");
}

/// How long a broker waits that is told to wait for two seconds: not as short as without waiting,
/// and not as long as by default.
fn expect_waited(took: Duration) {
    let is_told = (Duration::from_millis(1900)..Duration::from_millis(4800)).contains(&took);
    assert!(is_told, "it was told to wait for two seconds, and took {took:?}");
}

/// Rings are taken down behind a process that has ended; its listening sockets must not wait for
/// that.
#[test]
fn an_address_is_free_once_the_broker_has_ended() {
    let mut broker = Broker::start(&["--cores", "4"]);
    let address = broker.address;
    for _ in 0..20 {
        for number in 0..100 {
            Client::connect(address, &format!("CONNECT c{number}")).disconnect();
        }
        let (status, log) = broker.stop("TERM");
        assert_eq!(status.code(), Some(0), "{log:#?}");
        broker = Broker::start(&["--cores", "4", "--listen", &address.to_string()]);
        assert_eq!(broker.next_address(), address);
    }
}

#[test]
fn clients_of_5_0_are_told_why() {
    let broker = Broker::start(&["--cores", "2"]);
    let mut watcher = Client::open(broker.address);
    watcher.send("CONNECT w version=5");
    watcher.expect("CONNACK 0 ..");
    watcher.subscribe("will:0");
    let mut client = Client::open(broker.address);
    client.send("CONNECT a version=5 expiry=60 will=will");
    client.expect("CONNACK 0 ..");
    let (status, log) = broker.stop("TERM");
    assert_eq!(status.code(), Some(0), "{log:#?}");
    for mut client in [watcher, client] {
        client.expect("DISCONNECT 0x8B");
        client.expect_closed();
    }
}

#[test]
fn what_was_accepted_is_flushed_before_the_end() {
    const COUNT: usize = 500;
    let broker = Broker::start(&["--cores", "2"]);
    let mut subscriber = Client::connect(broker.address, "CONNECT s");
    subscriber.subscribe("t:0");
    let mut publisher = Client::connect(broker.address, "CONNECT p");
    for number in 0..COUNT {
        publisher.send(&format!("PUBLISH t \"{number}\""));
    }
    publisher.send("PINGREQ");
    publisher.expect("PINGRESP");
    // The last message was routed when its own acknowledgement came.
    publisher.send("PUBLISH t q1 id=1 last");
    publisher.expect("PUBACK id=1");
    let (status, _) = broker.stop("TERM");
    assert_eq!(status.code(), Some(0));
    for number in 0..COUNT {
        subscriber.expect(&format!("PUBLISH t \"{number}\""));
    }
    subscriber.expect("PUBLISH t last");
    subscriber.expect_closed();
}

#[test]
fn a_client_that_does_not_read_cannot_hold_up_the_end() {
    let broker = Broker::start(&["--cores", "1", "--shutdown-timeout-s", "2"]);
    let mut subscriber = Client::connect(broker.address, "CONNECT s");
    subscriber.subscribe("t:0");
    let mut publisher = Client::connect(broker.address, "CONNECT p");
    // In pieces that the outbox takes, more than sockets take: something is left to be sent.
    for _ in 0..40 {
        (0..20).for_each(|_| publisher.send("PUBLISH t \"x\"*50000"));
        publisher.send("PINGREQ");
        publisher.expect("PINGRESP");
    }
    let started = Instant::now();
    let (status, log) = broker.stop("TERM");
    expect_waited(started.elapsed());
    assert_eq!(status.code(), Some(0), "{log:#?}");
    drop(subscriber); // It has read nothing.
}

#[test]
fn many_connections_are_closed_at_the_end() {
    let broker = Broker::start(&["--cores", "16"]);
    let mut clients: Vec<_> = (0..200)
        .map(|number| Client::connect(broker.address, &format!("CONNECT c{number}")))
        .collect();
    let (status, _) = broker.stop("TERM");
    assert_eq!(status.code(), Some(0));
    for client in &mut clients {
        client.expect_closed();
    }
}

/// Its filters are not taken out of the tables one by one.
#[test]
fn a_session_with_very_many_filters_does_not_hold_up_the_end() {
    let broker = Broker::start(&["--cores", "1"]);
    let mut client = Client::connect(broker.address, "CONNECT a");
    for lot in 0..50 {
        let filters = (0..2000).map(|number| format!(" s/{lot}/{number}/+:0"));
        client.send(&format!("SUBSCRIBE id=1{}", filters.collect::<String>()));
        client.expect(&format!("SUBACK id=1{}", " 0".repeat(2000)));
    }
    let started = Instant::now();
    let (status, log) = broker.stop("TERM");
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    assert_eq!(status.code(), Some(0), "{log:#?}");
    client.expect_closed();
}
