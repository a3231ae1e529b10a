//! The same client id again, on sockets that different executors accept: what an older connection
//! has sent counts, and it never ends a newer one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use harness::broker::Broker;
use harness::client::Client;
use harness::peer::End;

const CORE_COUNTS: [&str; 4] = ["1", "2", "4", "16"];
const ROUNDS: usize = 100;

fn watcher(broker: &Broker, filter: &str) -> Client {
    let mut watcher = Client::connect(broker.address, "CONNECT watcher");
    watcher.subscribe(filter);
    watcher
}

/// [MQTT-3.14.4-3]: a will is void once DISCONNECT was sent, although the next CONNECT of the same
/// client comes right behind it.
#[test]
fn a_disconnect_is_honoured_before_the_same_client_connects_again() {
    for cores in CORE_COUNTS {
        let broker = Broker::start(&["--cores", cores]);
        let mut watcher = watcher(&broker, "r/#:0");
        for round in 0..ROUNDS {
            let mut sensor =
                Client::connect(broker.address, "CONNECT sensor will=r/will will_payload=lost");
            sensor.send(&format!("PUBLISH r/message \"{round}\""));
            sensor.send("DISCONNECT");
            sensor.end_at_once(End::Close);
        }
        for round in 0..ROUNDS {
            watcher.expect(&format!("PUBLISH r/message \"{round}\""));
        }
        watcher.expect_nothing();
    }
}

/// What was sent before the newer CONNECT is delivered, and then the will: the connection ended
/// without DISCONNECT.
#[test]
fn what_an_older_connection_has_sent_is_delivered_before_it_is_closed() {
    for cores in CORE_COUNTS {
        let broker = Broker::start(&["--cores", cores]);
        let mut watcher = watcher(&broker, "r/#:0");
        let mut older =
            Client::connect(broker.address, "CONNECT sensor will=r/message will_payload=lost");
        (0..ROUNDS).for_each(|number| older.send(&format!("PUBLISH r/message \"{number}\"")));
        let _newer = Client::connect(broker.address, "CONNECT sensor");
        older.expect_closed();
        (0..ROUNDS).for_each(|number| watcher.expect(&format!("PUBLISH r/message \"{number}\"")));
        watcher.expect("PUBLISH r/message \"lost\"");
    }
}

/// Who never stops sending is cut off, and that is counted: the newer connection does not wait for
/// it for ever. One that is found with nothing to read for a moment is not cut off.
#[test]
fn what_an_older_connection_sends_without_an_end_is_cut_off() {
    let broker = Broker::start(&["--cores", "2"]);
    let floods: Vec<_> = (0..40).map(|_| flood(&broker)).collect();
    let _newest = Client::connect(broker.address, "CONNECT sensor");
    floods.into_iter().for_each(|flood| flood.join().expect("it ends when it is closed"));
    let (_, log) = broker.stop("TERM");
    assert!(log.iter().any(|line| line.contains(" takeovers_cut_off=")), "{log:#?}");
}

/// Takes the place of the one before, and sends until it is closed.
fn flood(broker: &Broker) -> thread::JoinHandle<()> {
    let mut older = TcpStream::connect(broker.address).expect("the broker listens");
    let patience = Some(Duration::from_secs(30));
    older.set_read_timeout(patience).expect("it is no zero");
    older.set_write_timeout(patience).expect("it is no zero");
    older.write_all(b"\x10\x12\0\x04MQTT\x04\x02\0\x3c\0\x06sensor").expect("it reads");
    older.read_exact(&mut [0; 4]).expect("CONNACK comes before the next connection is opened");
    thread::spawn(move || {
        let packet = [&b"\x30\x83\x08\0\x01t"[..], &[b'x'; 1024]].concat();
        let packets = packet.repeat(4096);
        while older.write_all(&packets).is_ok() {}
    })
}

/// [MQTT-3.1.4-3] is about the connection whose CONNECT came last, and not about the one that an
/// executor has handled last.
#[test]
fn a_connection_that_has_gone_takes_over_no_living_one() {
    for cores in CORE_COUNTS {
        let broker = Broker::start(&["--cores", cores]);
        let mut watcher = watcher(&broker, "r/#:0");
        let mut living: Vec<Client> = (0..ROUNDS).map(|round| replace(&broker, round)).collect();
        for client in &mut living {
            client.send("PINGREQ");
            client.expect("PINGRESP");
        }
        let sent = (0..ROUNDS).filter(|round| !is_reset(*round));
        let sent: Vec<String> = sent.map(|round| format!("PUBLISH r/{round} \"gone\"")).collect();
        let wanted: Vec<&str> = sent.iter().map(String::as_str).collect();
        watcher.expect_any_order(&wanted);
    }
}

fn is_reset(round: usize) -> bool {
    round % 2 == 1
}

/// Connects after a connection of the same client that has gone by then.
fn replace(broker: &Broker, round: usize) -> Client {
    let mut older = Client::open(broker.address);
    older.send(&format!("CONNECT c{round}"));
    if is_reset(round) {
        older.end_at_once(End::Abort);
    } else {
        older.send(&format!("PUBLISH r/{round} \"gone\""));
        older.send("DISCONNECT");
        older.end_at_once(End::Close);
    }
    Client::connect(broker.address, &format!("CONNECT c{round}"))
}
