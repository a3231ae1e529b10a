//! Runs scenarios, and makes of one that fails the shortest that still does.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::life::Life;
use crate::scenario::{Scenario, Step};
use crate::world::{Outcome, World};

/// How long a failure is made smaller.
const SHRINK: Duration = Duration::from_secs(20);

/// A promise that was broken, or an assertion of ours.
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) life: Life,
}

thread_local! {
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// One run from its beginning.
pub(crate) fn run(scenario: &Scenario, steps: &[Step], life: Life) -> Result<Outcome, Failure> {
    watch_panics();
    let mut world = World::new(scenario, life);
    IS_WATCHED.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| world.run(steps)));
    IS_WATCHED.set(false);
    result.map_err(|_| Failure { text: LAST.take(), life: std::mem::take(world.network.life()) })
}

/// What a scenario shows, and how to see it again.
pub(crate) fn tell(scenario: &Scenario, failure: &Failure) -> String {
    let began = Instant::now();
    let steps = shrink(scenario, began);
    let small = run(scenario, &steps, Life::recorded()).err();
    let (text, life) =
        small.as_ref().map_or((&failure.text, &failure.life), |f| (&f.text, &f.life));
    let script: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    let clients: Vec<String> = scenario
        .clients
        .iter()
        .enumerate()
        .filter(|(number, _)| steps.iter().any(|step| step.client() == Some(*number)))
        .map(|(_, profile)| format!("  {profile:?}"))
        .collect();
    let number = text
        .split("message ")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    format!(
        "{text}\n\nseed {seed} on {shards} shards; at first it said: {first}\nagain: \
         RINGMQ_SIMULATION_SEED={seed} RINGMQ_SIMULATION_SHARDS={shards} \
         RINGMQ_SIMULATION_KIND={kind} cargo nextest run --test simulation \
         on_1_shard\nchannels of {channel}, sockets of {socket} bytes, \
         {limits:?}, {slices:?}\nclients:\n{clients}\n\
         {count} steps of {all}:\n{script}\n\nthe life of what went wrong:\n{life}\n\n\
         the end of everything:\n{end}\n",
        seed = scenario.seed,
        kind = scenario.kind,
        shards = scenario.shard_count,
        first = failure.text,
        channel = scenario.channel_count_max,
        socket = scenario.socket_bytes,
        limits = scenario.limits,
        slices = scenario.slices,
        clients = clients.join("\n"),
        count = steps.len(),
        all = scenario.steps.len(),
        script = script.join("\n"),
        life = number.map_or(String::new(), |number| life.of(Some(number))),
        end = life.of(None),
    )
}

/// The steps without clients, then without ranges of steps, that the failure does not need.
fn shrink(scenario: &Scenario, began: Instant) -> Vec<Step> {
    let mut steps = scenario.steps.clone();
    let fails =
        |steps: &[Step]| began.elapsed() < SHRINK && run(scenario, steps, Life::default()).is_err();
    for client in 0..scenario.clients.len() {
        let without: Vec<Step> =
            steps.iter().filter(|step| step.client() != Some(client)).cloned().collect();
        if fails(&without) {
            steps = without;
        }
    }
    let mut size = steps.len().div_ceil(2);
    while size > 0 && began.elapsed() < SHRINK {
        let mut start = 0;
        let mut has_shrunk = false;
        while start < steps.len() {
            let mut without = steps.clone();
            without.drain(start..(start + size).min(steps.len()));
            if fails(&without) {
                steps = without;
                has_shrunk = true;
            } else {
                start += size;
            }
        }
        size = if size == 1 && has_shrunk { 1 } else { size / 2 };
    }
    steps
}

/// Keeps the words of panics that a run catches, and their place, off the screen.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let other = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_WATCHED.get() {
                return other(info);
            }
            let text = info.payload().downcast_ref::<String>().cloned();
            let text = text
                .or_else(|| info.payload().downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            LAST.set(format!("{} ({place})", text.unwrap_or_default()));
        }));
    });
}
