//! A process that stood still, as in a virtual machine that was suspended: what lies in its sockets
//! came in time.

use std::thread;
use std::time::Duration;

use harness::broker::Broker;
use harness::client::Client;

/// Longer than one and a half times the keep-alive of a second.
const PAUSE: Duration = Duration::from_secs(4);

#[test]
fn a_client_that_has_pinged_in_time_is_not_closed() {
    for cores in ["1", "2"] {
        let broker = Broker::start(&["--cores", cores]);
        let connect = |number| format!("CONNECT c{number} keepalive=1");
        let mut clients: Vec<Client> =
            (0..20).map(|number| Client::connect(broker.address, &connect(number))).collect();
        let mut silent = Client::connect(broker.address, "CONNECT silent keepalive=1");
        broker.signal("STOP");
        clients.iter_mut().for_each(|client| client.send("PINGREQ"));
        thread::sleep(PAUSE);
        broker.signal("CONT");
        clients.iter_mut().for_each(|client| client.expect("PINGRESP"));
        silent.expect_closed(); // [MQTT-3.1.2-24]
    }
}

#[test]
fn a_connect_that_came_in_time_is_answered() {
    let broker = Broker::start(&["--cores", "2", "--connect-timeout-s", "1"]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open(broker.address)).collect();
    let mut silent = Client::open(broker.address);
    // By an answer the broker shows that it has accepted all that were there before.
    drop(Client::connect(broker.address, "CONNECT last"));
    broker.signal("STOP");
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&format!("CONNECT c{number}"));
    }
    thread::sleep(PAUSE);
    broker.signal("CONT");
    clients.iter_mut().for_each(|client| client.expect("CONNACK 0"));
    silent.expect_closed();
}
