//! A reconnect storm: everybody is dropped and comes back at once.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use harness::broker::Broker;

use super::line::Line;
use super::mib;
use super::probe::Probe;

/// Threads that open connections; each has its share of the clients.
const THREADS: usize = 8;

fn connect_of(client: usize) -> String {
    format!("CONNECT storm-{client} clean=0 keepalive=0")
}

/// Every client connects and subscribes once.
fn arrive(address: SocketAddr, clients: std::ops::Range<usize>) -> io::Result<Vec<Line>> {
    let arrive_one = |client: usize| {
        let (mut line, _) = Line::connect(address, &connect_of(client))?;
        line.subscribe(&format!("storm/{client}:1"))?;
        Ok(line)
    };
    clients.map(arrive_one).collect()
}

/// Every client sends its CONNECT at once, and only then waits to be let in; how many found their
/// session.
fn return_all(
    address: SocketAddr,
    clients: std::ops::Range<usize>,
) -> io::Result<(Vec<Line>, usize)> {
    let mut lines = Vec::new();
    for client in clients {
        let mut line = Line::open(address)?;
        line.send(&super::line::packet(&connect_of(client)))?;
        lines.push(line);
    }
    let mut present_count = 0;
    for line in &mut lines {
        present_count += usize::from(line.accepted()?);
    }
    Ok((lines, present_count))
}

/// Runs the same for the shares of all threads.
fn in_shares<T: Send>(
    clients: usize,
    work: impl Fn(std::ops::Range<usize>) -> io::Result<T> + Sync,
) -> Vec<T> {
    let share = clients.div_ceil(THREADS);
    let range = |number: usize| number * share..((number + 1) * share).min(clients);
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..THREADS).map(|number| scope.spawn(move || work(range(number)))).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        results.map(|result| result.expect("every client is served")).collect()
    })
}

fn storm(clients: usize, rounds: usize, calm: Duration) {
    let broker = Broker::start(&["--cores", "2"]);
    let address = broker.address;
    let mut lines = in_shares(clients, |range| arrive(address, range));
    println!("{clients} clients, RSS {}", mib(broker.resident_bytes()));
    let probe = Probe::start(address);
    thread::sleep(calm);
    for round in 0..rounds {
        probe.enter(1);
        let started = Instant::now();
        lines.drain(..).flatten().for_each(Line::abort);
        let dropped = started.elapsed();
        let back = in_shares(clients, |range| return_all(address, range));
        let present: usize = back.iter().map(|(_, count)| count).sum();
        assert_eq!(present, clients, "sessions that were there");
        println!("round {round}: dropped in {dropped:?}, all back after {:?}", started.elapsed());
        lines = back.into_iter().map(|(lines, _)| lines).collect();
        probe.enter(2);
        thread::sleep(calm);
    }
    probe.finish(&["before", "during", "after"]).iter().for_each(|line| println!("{line}"));
    println!("RSS {}", mib(broker.resident_bytes()));
    let count: usize = lines.iter().map(Vec::len).sum();
    assert_eq!(count, clients);
}

#[test]
fn a_storm_of_hundreds_is_weathered() {
    storm(400, 2, Duration::from_millis(300));
}

#[test]
#[ignore = "a large run: scripts/live-faults storm"]
fn large() {
    storm(10_000, 3, Duration::from_secs(5));
}
