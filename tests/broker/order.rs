//! One publisher, several topics: what it sends first arrives first, on any number of cores.

use harness::broker::Broker;
use harness::client::Client;

const PAIRS: usize = 200;

/// As Sparkplug does: a birth, and then data that are of no use without it.
#[test]
fn data_come_after_the_birth_that_was_published_before_them() {
    for cores in ["1", "2", "4"] {
        for qos in [0, 1] {
            let broker = Broker::start(&["--cores", cores]);
            let mut subscriber = Client::connect(broker.address, "CONNECT subscriber");
            subscriber.subscribe("group/#:0");
            let mut publisher = Client::connect(broker.address, "CONNECT publisher");
            for node in 0..PAIRS {
                publisher.send(&publish("birth", node, qos, 2 * node + 1));
                publisher.send(&publish("data", node, qos, 2 * node + 2));
            }
            for node in 0..PAIRS {
                subscriber.expect(&format!("PUBLISH group/birth/{node} \"x\""));
                subscriber.expect(&format!("PUBLISH group/data/{node} \"x\""));
            }
        }
    }
}

fn publish(kind: &str, node: usize, qos: u8, id: usize) -> String {
    match qos {
        0 => format!("PUBLISH group/{kind}/{node} \"x\""),
        _ => format!("PUBLISH group/{kind}/{node} q{qos} id={id} \"x\""),
    }
}
