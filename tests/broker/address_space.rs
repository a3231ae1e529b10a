//! A budget of memory in a process that cannot have much more: what goes beyond it is refused
//! before the allocator has nothing left, which would be the end of everybody.

use harness::broker::Broker;
use harness::client::Client;

const BUDGET: &str = "300MiB";
/// In more than this the allocator would set a gibibyte aside when it starts.
const START_BYTES: u64 = 1 << 30;
/// Beyond what a broker without clients has: the budget, and what the allocator sets aside at a
/// time.
const ROOM_BYTES: u64 = 450 << 20;
const PAYLOAD_BYTES: usize = 1_000_000;
/// Much more than there is address space for.
const PUBLISH_COUNT: usize = 700;
/// Between two of them the honest have their turn.
const PUBLISHES_PER_LOOK: usize = 20;

fn connect(broker: &Broker, client_id: &str) -> Client {
    let mut client = Client::open(broker.address);
    client.send(&format!("CONNECT {client_id} version=5"));
    client.expect("CONNACK 0 ..");
    client
}

/// Has something retained on each of many topics, and gives how many publishes were refused.
fn retain_too_much(mut greedy: Client, mut look: impl FnMut()) -> usize {
    let mut refused_count = 0;
    for number in 0..PUBLISH_COUNT {
        greedy.send(&format!("PUBLISH r/{number} q1 retain id=1 \"x\"*{PAYLOAD_BYTES}"));
        match greedy.next_packet().to_string().as_str() {
            "PUBACK id=1" | "PUBACK id=1 0x10" => {}
            "PUBACK id=1 0x97" => refused_count += 1,
            other => panic!("{other} in answer to publish {number}"),
        }
        if number % PUBLISHES_PER_LOOK == 0 {
            look();
        }
    }
    refused_count
}

#[test]
fn what_is_beyond_the_budget_is_refused_before_the_address_space_ends() {
    let arguments = ["--memory-max", BUDGET, "--cores", "1"];
    let broker = Broker::start_with_address_space(START_BYTES, &arguments);
    broker.limit_address_space(ROOM_BYTES);
    let mut subscriber = connect(&broker, "s");
    subscriber.subscribe("honest:1");
    let (mut publisher, greedy) = (connect(&broker, "p"), connect(&broker, "greedy"));
    let mut count = 0;
    let refused_count = retain_too_much(greedy, || {
        publisher.send(&format!("PUBLISH honest q1 id=1 {count}"));
        publisher.expect("PUBACK id=1");
        let publish = subscriber.next_packet();
        assert_eq!(publish.text("payload"), count.to_string());
        subscriber.acknowledge(&publish);
        count += 1;
    });
    let retained_count = PUBLISH_COUNT - refused_count;
    println!("{retained_count} retained, {refused_count} refused");
    assert!(retained_count >= 100, "{retained_count}: the budget was hardly used");
    assert!(refused_count >= PUBLISH_COUNT / 2, "{refused_count}");
    assert!(broker.is_running());
}
