//! How many deliveries one executor takes in, from a broker that costs next to nothing.
//!
//! A measurement, not a test: run it alone, in release, on a quiet machine with two cores or more:
//! `cargo test --release -p ringmq-loadgen --test scripted -- --ignored --nocapture`.

use crate::fake_broker::Script;
use crate::fanout;

#[test]
#[ignore = "measures; run it alone on a quiet machine"]
fn one_executor_takes_a_million_deliveries_per_second() {
    let script = Script { relays: true, ..Script::default() };
    let run = fanout(script, "--subscribers 1000 --window 256 --duration 5");
    println!("{}", run.stdout);
    let rate = run.report["deliveries"]["per_second"].as_f64().expect("a rate");
    assert!(rate > 1e6, "{rate} per second");
}
