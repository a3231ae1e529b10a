//! The same behaviour however many cores there are.

use harness::broker::Broker;
use harness::client::Client;

/// Clients whose sessions and topics are spread over every shard.
const CLIENTS: usize = 24;

/// Everybody publishes to everybody at every QoS; nothing is lost and nothing comes twice.
fn everybody_hears_everybody(cores: &str) {
    let broker = Broker::start(&["--cores", cores]);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = Client::connect(broker.address, &format!("CONNECT c{number}"));
            client.subscribe(&format!("to/{number}:2"));
            client.subscribe("all/+:1");
            client
        })
        .collect();
    for sender in 0..CLIENTS {
        let receiver = (sender * 7 + 3) % CLIENTS;
        clients[sender].send(&format!("PUBLISH to/{receiver} q1 id=1 from{sender}"));
        clients[sender].expect("PUBACK id=1");
        let expected = format!("PUBLISH to/{receiver} q1 id=$p from{sender}");
        clients[receiver].expect(&expected);
        clients[receiver].send("PUBACK id=$p");
    }
    for sender in 0..CLIENTS {
        clients[sender].send(&format!("PUBLISH all/{sender} hello"));
        for client in &mut clients {
            client.expect(&format!("PUBLISH all/{sender} hello"));
        }
    }
    for client in &mut clients {
        client.send("PINGREQ");
        client.expect("PINGRESP");
    }
}

#[test]
fn everybody_hears_everybody_on_1_core() {
    everybody_hears_everybody("1");
}

#[test]
fn everybody_hears_everybody_on_2_cores() {
    everybody_hears_everybody("2");
}

#[test]
fn everybody_hears_everybody_on_16_cores() {
    everybody_hears_everybody("16");
}

#[test]
fn the_order_of_every_topic_holds_on_16_cores() {
    the_order_of_every_topic_holds(&["--cores", "16"]);
}

/// Every message but the first of a burst finds its channel full.
#[test]
fn the_order_of_every_topic_holds_where_channels_are_full() {
    the_order_of_every_topic_holds(&["--cores", "16", "--mesh-channel-count-max", "1"]);
    the_order_of_every_topic_holds(&["--cores", "2", "--mesh-channel-count-max", "1"]);
}

/// One publisher, one subscriber by wildcard, topics on every shard: nothing is lost, and the
/// order of each topic holds.
fn the_order_of_every_topic_holds(options: &[&str]) {
    const TOPICS: usize = 32;
    const ROUNDS: usize = 100;
    let broker = Broker::start(options);
    let mut subscriber = Client::connect(broker.address, "CONNECT s");
    subscriber.subscribe("order/#:0");
    let mut publisher = Client::connect(broker.address, "CONNECT p");
    for round in 0..ROUNDS {
        for topic in 0..TOPICS {
            publisher.send(&format!("PUBLISH order/{topic} \"{round}\""));
        }
    }
    let mut next = [0; TOPICS];
    for _ in 0..ROUNDS * TOPICS {
        let packet = subscriber.next_packet();
        let topic = packet.text("topic").replace("order/", "");
        let place = &mut next[topic.parse::<usize>().unwrap()];
        assert_eq!(packet.text("payload"), place.to_string(), "of topic {topic}");
        *place += 1;
    }
    subscriber.expect_nothing();
}

/// A client that comes again and again, wherever its connection is accepted, is the same client.
#[test]
fn a_session_is_found_from_every_core() {
    let broker = Broker::start(&["--cores", "16"]);
    let mut client = Client::connect(broker.address, "CONNECT same clean=0");
    client.subscribe("t/#:1");
    for round in 0..40 {
        client.disconnect();
        let mut publisher = Client::connect(broker.address, &format!("CONNECT p{round}"));
        publisher.send(&format!("PUBLISH t/{round} q1 id=1 x"));
        publisher.expect("PUBACK id=1");
        client.reopen();
        client.send("CONNECT same clean=0");
        client.expect("CONNACK 0 present");
        client.expect(&format!("PUBLISH t/{round} q1 id=$p{round} x"));
        client.send(&format!("PUBACK id=$p{round}"));
        client.send("PINGREQ");
        client.expect("PINGRESP");
    }
}

/// Take-over from connections that were accepted anywhere: the old one closes, nothing comes twice.
#[test]
fn a_take_over_works_from_every_core() {
    let broker = Broker::start(&["--cores", "16"]);
    let mut publisher = Client::connect(broker.address, "CONNECT p");
    let mut current = Client::connect(broker.address, "CONNECT same clean=0");
    current.subscribe("t:0");
    for round in 0..40 {
        let mut next = Client::open(broker.address);
        next.send("CONNECT same clean=0");
        next.expect("CONNACK 0 present");
        current.expect_closed();
        publisher.send(&format!("PUBLISH t \"{round}\""));
        next.expect(&format!("PUBLISH t \"{round}\""));
        current = next;
    }
    current.expect_nothing();
}

/// Connections come and go without leaving descriptors behind.
#[test]
fn no_descriptor_is_left_over() {
    let broker = Broker::start(&["--cores", "16"]);
    let round = || {
        let clients: Vec<_> = (0..100)
            .map(|number| Client::connect(broker.address, &format!("CONNECT c{number}")))
            .collect();
        drop(clients);
    };
    round();
    let before = settled_descriptors(&broker, 0);
    for _ in 0..5 {
        round();
    }
    let after = settled_descriptors(&broker, before);
    assert!(after <= before + 5, "{before} descriptors became {after}");
}

/// The number of open descriptors once it is at most `wanted`, or stands still.
fn settled_descriptors(broker: &Broker, wanted: usize) -> usize {
    let count = || std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).unwrap().count();
    let mut last = count();
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = count();
        if now <= wanted || now == last {
            return now;
        }
        last = now;
    }
    last
}
