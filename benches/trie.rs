//! What routing costs as it grows: `cargo bench --no-default-features --bench trie`.
//!
//! Prints one table per question. Topics are visited in random order over far more of them than
//! fit into a cache, so that the times are those of a busy broker and not of a warm loop. Each
//! time is a mean over a short window, and of many windows the one that a tenth of them beat:
//! that leaves out most of what else the machine was doing. Words given as arguments select the
//! tables whose names contain one of them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use harness::random::Random;
use ringmq::routing::{Effort, Interest, Retained, ShardId, Subscriptions};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const TOPICS: usize = 50_000;
const WINDOW: usize = 500;
const ROUNDS: usize = 3;
const SEED: [u64; 4] = [11, 22, 33, 44];

/// What a session slot and its subscription options take.
type Table = Subscriptions<u64, u64>;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let tables: [(&str, fn()); 5] = [
        ("match", match_cost),
        ("churn", churn_cost),
        ("fan_out", fan_out_cost),
        ("memory", memory_cost),
        ("retained", retained_cost),
    ];
    for (name, table) in tables {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            table();
            println!();
        }
    }
}

/// A way in which filters and topics come.
struct Shape {
    name: &'static str,
    filter: fn(usize, &mut Random) -> String,
    topic: fn(usize, &mut Random) -> String,
}

/// `exact`: each device has its own topic. `device`: each has a wildcard below its own level.
/// `deep`: sixteen levels with one wildcard in a random place, of which each topic matches about
/// one. `deep 2-4`: the same with two to four wildcards. `mixed`: sixteen levels of ten names
/// each, every fourth level a wildcard, so that no order of levels tells filters apart.
const SHAPES: [Shape; 5] = [
    Shape {
        name: "exact",
        filter: |number, _| format!("site/{}/device/{number}/temperature", number % 100),
        topic: |count, random| {
            let number = random.below(count);
            format!("site/{}/device/{number}/temperature", number % 100)
        },
    },
    Shape {
        name: "device",
        filter: |number, _| format!("site/{}/device/{number}/#", number % 100),
        topic: |count, random| {
            let number = random.below(count);
            format!("site/{}/device/{number}/temperature", number % 100)
        },
    },
    Shape { name: "deep", filter: |n, random| deep(n, 1, random), topic: deep_topic },
    Shape {
        name: "deep 2-4",
        filter: |number, random| {
            let wildcards = 2 + random.below(3);
            deep(number, wildcards, random)
        },
        topic: deep_topic,
    },
    Shape {
        name: "mixed",
        filter: |_, random| mixed(random, 4),
        topic: |_, random| mixed(random, usize::MAX),
    },
];

/// Sixteen levels that tell the number, three bits in each of the first ones.
fn deep_levels(number: usize) -> Vec<String> {
    (0..16).map(|level| format!("l{}-{}", level, (number >> (level % 7 * 3)) & 7)).collect()
}

fn deep(number: usize, wildcards: usize, random: &mut Random) -> String {
    let mut levels = deep_levels(number);
    for _ in 0..wildcards {
        levels[random.below(16)] = "+".to_owned();
    }
    levels.join("/")
}

fn deep_topic(count: usize, random: &mut Random) -> String {
    deep_levels(random.below(count)).join("/")
}

fn mixed(random: &mut Random, wildcard_every: usize) -> String {
    let levels = (0..16).map(|level| match random.below(wildcard_every) {
        0 => "+".to_owned(),
        _ => format!("l{}-{}", level, random.below(10)),
    });
    levels.collect::<Vec<_>>().join("/")
}

fn match_cost() {
    println!("match: one topic against so many filters, in nanoseconds (matches per topic)");
    print_head();
    let mut efforts = Vec::new();
    for shape in &SHAPES {
        let cell = |count| {
            let (table, topics) = (filled(shape, count), topics(shape, count));
            let (mut found, mut asked, mut effort) = (0_u64, 0_u64, Effort::default());
            let nanoseconds = each(&topics, |topic| {
                asked += 1;
                effort += table.for_each_match(black_box(topic), &mut |_, options| {
                    found += black_box(options) & 1;
                });
            });
            efforts.push((effort, asked, nanoseconds));
            format!("{nanoseconds:.0} ({:.2})", found as f64 / asked as f64)
        };
        print_row(shape.name, SIZES.map(cell));
    }
    let cell = |count| {
        let (interest, topics) = (interest(&SHAPES[1], count), topics(&SHAPES[1], count));
        let nanoseconds = each(&topics, |topic| {
            black_box(interest.homes(black_box(topic)));
        });
        format!("{nanoseconds:.0}")
    };
    print_row("device, interest", SIZES.map(cell));
    println!();
    println!("match: what was looked at for a topic: nodes + buckets (signatures, texts)");
    print_head();
    for (shape, efforts) in SHAPES.iter().zip(efforts.chunks(SIZES.len())) {
        let cell = |(effort, asked, _): &(Effort, u64, f64)| {
            let each = |number: usize| number as f64 / *asked as f64;
            let (nodes, buckets) = (each(effort.nodes), each(effort.buckets));
            let (signatures, texts) = (each(effort.signatures), each(effort.texts));
            format!("{nodes:.0}+{buckets:.0} ({signatures:.0}, {texts:.1})")
        };
        print_row(shape.name, std::array::from_fn(|size| cell(&efforts[size])));
    }
}

fn churn_cost() {
    println!("churn: one insert plus one remove among so many filters, in nanoseconds");
    print_head();
    for shape in &SHAPES {
        let cell = |count| {
            let (mut table, mut random) = (filled(shape, count), Random::new(1));
            let filters: Vec<_> = (0..count).map(|n| (shape.filter)(n, &mut random)).collect();
            let nanoseconds = each(&picks(count), |pick| {
                table.remove(&filters[*pick], *pick as u64);
                table.insert(&filters[*pick], *pick as u64, 1);
            });
            format!("{nanoseconds:.0}")
        };
        print_row(shape.name, SIZES.map(cell));
    }
    let cell = |count| {
        let mut table = one_filter(count);
        let nanoseconds = each(&picks(count), |pick| {
            table.remove("a/+/b", *pick as u64);
            table.insert("a/+/b", *pick as u64, 1);
        });
        format!("{nanoseconds:.0}")
    };
    print_row("one filter for all", SIZES.map(cell));
}

fn fan_out_cost() {
    println!("fan_out: one topic to so many subscribers of one filter, in nanoseconds each");
    print_head();
    let cell = |count| {
        let (table, mut sum) = (one_filter(count), 0);
        let nanoseconds = each(&[(); 2 * WINDOW], |()| {
            table.for_each_match(black_box("a/b/b"), &mut |subscriber, options| {
                sum += black_box(subscriber ^ options);
            });
        });
        black_box(sum);
        format!("{:.2}", nanoseconds / count as f64)
    };
    print_row("a/+/b", SIZES.map(cell));
}

fn memory_cost() {
    println!("memory: bytes asked from the allocator per subscription (of them the text)");
    print_head();
    for shape in &SHAPES {
        let cell = |count| {
            let bytes = allocated_by(|| filled(shape, count)) as f64 / count as f64;
            let mut random = Random::new(1);
            let text: usize = (0..count).map(|n| (shape.filter)(n, &mut random).len()).sum();
            format!("{bytes:.1} ({:.1})", text as f64 / count as f64)
        };
        print_row(shape.name, SIZES.map(cell));
    }
    let cell = |count| {
        let bytes = allocated_by(|| one_filter(count));
        format!("{:.1}", bytes as f64 / count as f64)
    };
    print_row("one filter for all", SIZES.map(cell));
    println!();
    println!("memory: bytes asked from the allocator per retained topic (of them the text)");
    print_head();
    let cell = |count| {
        let bytes = allocated_by(|| retained(count)) as f64 / count as f64;
        let text: usize = (0..count).map(|number| retained_topic(number).len()).sum();
        format!("{bytes:.1} ({:.1})", text as f64 / count as f64)
    };
    print_row("retained", SIZES.map(cell));
}

fn allocated_by<T>(make: impl FnOnce() -> T) -> usize {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let made = make();
    let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
    drop(made);
    bytes
}

/// A name and how to make the filter from a site.
type Lookup = (&'static str, fn(usize) -> String);

/// What to look up below a site, or below all of them.
const LOOKUPS: [Lookup; 10] = [
    ("a topic", |site| format!("{site}/7/temperature")),
    ("site/#, page of 100", |site| format!("{site}/#")),
    ("site/+/state", |site| format!("{site}/+/state")),
    ("+/7/state, page of 100", |_| "+/7/state".to_owned()),
    ("+/none, page of 100", |_| "+/none".to_owned()),
    ("+/rare, page of 100", |_| "+/rare".to_owned()),
    ("+/+/rare, page of 100", |_| "+/+/rare".to_owned()),
    ("+/rare/#, page of 100", |_| "+/rare/#".to_owned()),
    ("+/a/+/b, page of 100", |_| "+/a/+/b".to_owned()),
    ("#, page of 100", |_| "#".to_owned()),
];

fn retained_cost() {
    println!("retained: lookups among so many topics, in nanoseconds per call (found)");
    print_head();
    let mut tables = SIZES.map(retained);
    for (name, filter) in LOOKUPS {
        let cell = |table: &Retained<u64>| {
            let mut random = Random::new(3);
            // Behind a random site, since a broker does not look up one page all the time.
            let mut site = || random.below(table.len() / 101);
            let asked: Vec<_> = (0..WINDOW * 4).map(|_| (filter(site()), site())).collect();
            let mut found = 0_u64;
            let nanoseconds = each(&asked, |(filter, site)| {
                let after = filter.starts_with(['+', '#']).then(|| format!("{site}/99"));
                table.matching(black_box(filter), after.as_deref(), 100, &mut |_, _| found += 1);
            });
            format!("{nanoseconds:.0} ({:.0})", found as f64 / (asked.len() * ROUNDS) as f64)
        };
        print_row(name, tables.each_ref().map(cell));
    }
    retained_changes(&mut tables);
}

fn retained_changes(tables: &mut [Retained<u64>; 4]) {
    print_change("replace", tables, |table, site, _| {
        black_box(table.insert(&format!("{site}/{}/state", site % 20), 1));
    });
    print_change("remove and insert", tables, |table, site, _| {
        let topic = format!("{site}/{}/state", site % 20);
        table.remove(&topic).expect("each site has it");
        table.insert(&topic, 1);
    });
    print_change("insert and remove", tables, |table, site, number| {
        let topic = format!("{site}/new{number}/state");
        table.insert(&topic, 1);
        table.remove(&topic).expect("it was inserted");
    });
}

/// A row for something that is done to a random site, given which time it is.
fn print_change(
    name: &str,
    tables: &mut [Retained<u64>; 4],
    change: fn(&mut Retained<u64>, usize, usize),
) {
    let cell = |table: &mut Retained<u64>| {
        let mut random = Random::new(3);
        let sites = table.len() / 101;
        let picks: Vec<_> = (0..TOPICS).map(|number| (random.below(sites), number)).collect();
        format!("{:.0}", each(&picks, |(site, number)| change(table, *site, *number)))
    };
    print_row(name, tables.each_mut().map(cell));
}

/// A hundred topics for each site, a name that one topic has at the first depth and one at the
/// second, and two names that a tenth of the sites have, of which few have both.
fn retained(count: usize) -> Retained<u64> {
    let mut table = Retained::new();
    for number in 0..count {
        table.insert(&retained_topic(number), number as u64);
    }
    table.insert("~/rare", 0);
    table.insert("~/~/rare", 0);
    for site in (0..count / 100).step_by(5) {
        let ending = if site % 10 == 0 { "a/~/c" } else { "c/~/b" };
        table.insert(&format!("{site}/{ending}"), 0);
        if site % 100 == 0 {
            table.insert(&format!("{site}/a/~/b"), 0);
        }
    }
    table
}

/// Twenty devices with five topics each are a site.
fn retained_topic(number: usize) -> String {
    let kinds = ["temperature", "state", "voltage", "position", "version"];
    format!("{}/{}/{}", number / 100, number / 5 % 20, kinds[number % 5])
}

/// A table with `count` filters, as many subscribers, and an odd number for options.
fn filled(shape: &Shape, count: usize) -> Table {
    let mut random = Random::new(1);
    let mut table = Table::with_seed(SEED);
    for number in 0..count {
        table.insert(&(shape.filter)(number, &mut random), number as u64, 1);
    }
    table
}

/// A table with one filter and `count` subscribers.
fn one_filter(count: usize) -> Table {
    let mut table = Table::with_seed(SEED);
    for subscriber in 0..count as u64 {
        table.insert("a/+/b", subscriber, 1);
    }
    table
}

fn interest(shape: &Shape, count: usize) -> Interest {
    let mut random = Random::new(1);
    let mut interest = Interest::with_seed(SEED);
    for number in 0..count {
        interest.add(&(shape.filter)(number, &mut random), ShardId((number % 64) as u8));
    }
    interest
}

fn topics(shape: &Shape, count: usize) -> Vec<String> {
    let mut random = Random::new(7);
    (0..TOPICS).map(|_| (shape.topic)(count, &mut random)).collect()
}

fn picks(count: usize) -> Vec<usize> {
    let mut random = Random::new(5);
    (0..TOPICS).map(|_| random.below(count)).collect()
}

/// Nanoseconds that `operation` takes for one item.
fn each<T>(items: &[T], mut operation: impl FnMut(&T)) -> f64 {
    let mut windows = Vec::new();
    for _ in 0..ROUNDS {
        for window in items.chunks(WINDOW) {
            let start = Instant::now();
            window.iter().for_each(&mut operation);
            windows.push(start.elapsed().as_nanos() as f64 / window.len() as f64);
        }
    }
    windows.sort_by(f64::total_cmp);
    windows[windows.len() / 10]
}

fn print_head() {
    print!("{:24}", "");
    for size in SIZES {
        print!("{size:>18}");
    }
    println!();
}

fn print_row(name: &str, cells: [String; 4]) {
    print!("{name:24}");
    for cell in cells {
        print!("{cell:>18}");
    }
    println!();
}

/// The system's allocator, counting the bytes that are in use.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}
