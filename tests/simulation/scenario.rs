//! A run as data: who takes part and what is done, step by step. Made from a seed; a step can be
//! taken out and the others still mean what they meant.

use harness::random::Random;
use ringmq::config::{Limits, Order};
use ringmq::shard::Slices;

use crate::network::End;

pub(crate) const TOPICS: [&str; 9] =
    ["a", "a/b", "a/b/c", "b", "b/b", "/a", "a//c", "$d/a", "$d/b"];

/// More than one lot of retained messages.
pub(crate) const MANY_TOPICS: [&str; 72] = [
    "r/00", "r/01", "r/02", "r/03", "r/04", "r/05", "r/06", "r/07", "r/08", "r/09", "r/10", "r/11",
    "r/12", "r/13", "r/14", "r/15", "r/16", "r/17", "r/18", "r/19", "r/20", "r/21", "r/22", "r/23",
    "r/24", "r/25", "r/26", "r/27", "r/28", "r/29", "r/30", "r/31", "r/32", "r/33", "r/34", "r/35",
    "r/36", "r/37", "r/38", "r/39", "r/40", "r/41", "r/42", "r/43", "r/44", "r/45", "r/46", "r/47",
    "r/48", "r/49", "r/50", "r/51", "r/52", "r/53", "r/54", "r/55", "r/56", "r/57", "r/58", "r/59",
    "r/60", "r/61", "r/62", "r/63", "r/64", "r/65", "r/66", "r/67", "r/68", "r/69", "r/70", "r/71",
];

/// What is asked for; overlaps on purpose.
const FILTERS: [&str; 20] = [
    "#", "+", "a/#", "a/+", "+/b", "+/+/c", "a/b", "a", "b/b", "/#", "+/+", "$d/#", "$d/a", "+/a",
    "a//c", "a/+/c", "b/#", "r/#", "+/07", "r/08",
];

const SHARED: [&str; 8] = [
    "$share/g/a/#",
    "$share/g/a/b",
    "$share/g/#",
    "$share/h/+/b",
    "$share/h/b",
    "$share/h/a/#",
    "$share/i/$d/#",
    "$share/i/+",
];

/// A budget that is short: an eighth of it is free when it leaves each session the least.
const SHORT_BYTES: usize = 512 * 1024;
/// The least that is left to each session where memory is short.
pub(crate) const SHARE_BYTES_MIN: usize = SHORT_BYTES / 128;

/// So many clients beside each other share a filter before others.
const MEMBERS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    V31,
    V311,
    V5,
}

impl Version {
    pub(crate) fn level(self) -> u32 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    pub(crate) fn is_v5(self) -> bool {
        self == Self::V5
    }
}

/// What stays the same about a client.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) keep_alive_s: u16,
    /// Of 5.0: how long its sessions outlive their connections, in seconds.
    pub(crate) expiry_s: u32,
    pub(crate) receive_max: Option<u16>,
    /// Most of its connections take no larger packets, the others any.
    pub(crate) packet_max: Option<u32>,
    pub(crate) alias_max: Option<u16>,
    /// Gives every subscription an identifier of its own.
    pub(crate) identifies: bool,
    /// Subscribes to nothing but shared filters, and to one only if it does not identify them.
    pub(crate) is_worker: bool,
    /// Answers one publish in five with an error.
    pub(crate) refuses: bool,
    /// Is let in by enhanced authentication, and authenticates again.
    pub(crate) authenticates: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// How it was made, as `RINGMQ_SIMULATION_KIND` names it.
    pub(crate) kind: &'static str,
    pub(crate) seed: u64,
    pub(crate) shard_count: usize,
    pub(crate) limits: Limits,
    pub(crate) slices: Slices,
    /// Messages that a channel between two shards holds.
    pub(crate) channel_count_max: usize,
    /// Bytes that the network holds for a client that does not read.
    pub(crate) socket_bytes: usize,
    pub(crate) clients: Vec<Profile>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Will {
    pub(crate) topic: &'static str,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) delay_s: u32,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    pub(crate) filter: &'static str,
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: u8,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Opens a connection, over an older one if there is one.
    Connect {
        client: usize,
        clean: bool,
        will: Option<Will>,
    },
    Subscribe {
        client: usize,
        wishes: Vec<Wish>,
    },
    Unsubscribe {
        client: usize,
        filter: &'static str,
    },
    Publish {
        client: usize,
        letter: Letter,
    },
    /// DISCONNECT, perhaps one that keeps the will, or changes how long the session stays.
    Disconnect {
        client: usize,
        keeps_will: bool,
        expiry_s: Option<u32>,
    },
    /// The connection goes; so many thousandths of what is on its way to the broker arrive.
    Lose {
        client: usize,
        how: End,
        kept: usize,
    },
    /// A publish by an alias that was never given on this connection.
    UseUnknownAlias {
        client: usize,
    },
    /// Reads what has come and sends up to so many answers.
    Read {
        client: usize,
        answer_count: usize,
    },
    Ping {
        client: usize,
    },
    /// Begins to authenticate again.
    Authenticate {
        client: usize,
    },
    /// Whoever runs the broker wants the client away.
    Expel {
        client: usize,
    },
    /// From now on memory leaves each session so many bytes.
    Leave {
        share_bytes: usize,
    },
    /// From now on these shards, by their bits, do not go on with what they have put off.
    PutOff {
        shards: u64,
    },
    /// The network and the shards do so many things.
    Work {
        count: usize,
        seed: u64,
    },
    /// They do all that there is to do.
    Settle {
        seed: u64,
    },
    /// Time passes.
    Wait {
        ms: u64,
    },
}

/// What is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Letter {
    pub(crate) topic: &'static str,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Bytes of the payload; none clears what is retained.
    pub(crate) size: usize,
    pub(crate) expiry_s: Option<u32>,
    /// Uses a topic alias: defines it, or goes by it alone if that was done.
    pub(crate) by_alias: bool,
    pub(crate) has_properties: bool,
}

impl Step {
    /// Whose step it is.
    pub(crate) fn client(&self) -> Option<usize> {
        match self {
            Self::Connect { client, .. }
            | Self::Subscribe { client, .. }
            | Self::Unsubscribe { client, .. }
            | Self::Publish { client, .. }
            | Self::Disconnect { client, .. }
            | Self::Lose { client, .. }
            | Self::UseUnknownAlias { client }
            | Self::Read { client, .. }
            | Self::Ping { client }
            | Self::Authenticate { client }
            | Self::Expel { client } => Some(*client),
            Self::PutOff { .. }
            | Self::Leave { .. }
            | Self::Work { .. }
            | Self::Settle { .. }
            | Self::Wait { .. } => None,
        }
    }
}

/// How a run is: each makes some things likely that are rare in others.
#[derive(Clone, Copy, Debug)]
struct Taste {
    retain_percent: usize,
    lose_percent: usize,
    large_percent: usize,
    share_percent: usize,
    expiry_percent: usize,
    /// Publishes to one of many topics.
    many_percent: usize,
    wait_ms_max: usize,
    work_count_max: usize,
}

impl Scenario {
    /// What this seed stands for.
    pub(crate) fn new(seed: u64, shard_count: usize) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0xD134_2543_DE82_EF95) ^ shard_count as u64);
        let taste = Taste::new(&mut random);
        let count = random.below(7) + 2;
        let clients = (0..count).map(|number| profile(number, &taste, &mut random)).collect();
        let mut scenario = Self {
            kind: "plain",
            seed,
            shard_count,
            limits: limits(&mut random),
            slices: slices(&mut random),
            channel_count_max: random.pick(&[1, 1, 2, 3, 8, 1000]),
            socket_bytes: random.pick(&[40, 300, 2000, 100_000]),
            clients,
            steps: Vec::new(),
        };
        let step_count = random.below(200) + 40;
        for client in 0..scenario.clients.len() {
            scenario.begin(client, &taste, &mut random);
        }
        for _ in 0..step_count {
            if random.percent(1) {
                scenario.come_late(&taste, &mut random);
            }
            let step = scenario.step(&taste, &mut random);
            scenario.steps.push(step);
        }
        if random.percent(30) {
            scenario.come_late(&taste, &mut random);
        }
        scenario
    }

    /// The same in a process whose memory is short now and then. Half of a message and room for the
    /// rest is never more than what is left to a session.
    pub(crate) fn short(seed: u64, shard_count: usize) -> Self {
        let mut scenario = Self { kind: "short", ..Self::new(seed, shard_count) };
        let mut random = Random::new(seed);
        let limits = Limits { memory_max: Some(SHORT_BYTES), ..scenario.limits };
        let Limits { queue_count_max, queue_bytes_max, .. } = Limits::default();
        scenario.limits = Limits { queue_count_max, queue_bytes_max, ..limits };
        for step in &mut scenario.steps {
            if let Step::Publish { letter, .. } = step {
                let most = SHARE_BYTES_MIN / 3;
                let least = random.pick(&[0, 0, 0, most]).min(letter.size * most);
                letter.size = letter.size.clamp(least, most);
            }
        }
        for place in (0..scenario.steps.len()).step_by(25).rev() {
            let share_bytes = random.pick(&[SHARE_BYTES_MIN, SHARE_BYTES_MIN, 8000, SHORT_BYTES]);
            scenario.steps.insert(place, Step::Leave { share_bytes });
        }
        scenario
    }

    /// Two clients publish to any topic, one publish after the other, and two hear all of it.
    pub(crate) fn alternating(seed: u64, shard_count: usize) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0xA24B_AED4_963E_E407) ^ shard_count as u64);
        let taste = Taste { large_percent: 0, ..Taste::new(&mut random) };
        let quiet = Taste { share_percent: 0, ..taste };
        let limits = Limits { order: Order::Client, ..Limits::default() };
        let mut scenario = Self {
            kind: "alternating",
            seed,
            shard_count,
            limits: Limits { receive_count_max: random.pick(&[1, 2, 4, 1024]), ..limits },
            slices: slices(&mut random),
            channel_count_max: random.pick(&[1, 1, 2, 3, 8, 1000]),
            socket_bytes: random.pick(&[300, 2000, 100_000]),
            clients: Vec::new(),
            steps: Vec::new(),
        };
        for number in 0..4 {
            let plain = profile(number, &quiet, &mut random);
            let identifies = plain.version.is_v5(); // So it may be a member of groups, too.
            let profile = Profile { keep_alive_s: 0, packet_max: None, refuses: false, ..plain };
            scenario.clients.push(Profile { identifies, ..profile });
            scenario.steps.push(Step::Connect { client: number, clean: true, will: None });
            scenario.steps.push(Step::Settle { seed: random.bits() });
            scenario.steps.push(Step::Read { client: number, answer_count: 9 });
            let filters = ["#", random.pick(&SHARED)];
            for filter in &filters[..1 + usize::from(identifies)] {
                let wishes = vec![scenario.wish(number, filter, &mut random)];
                scenario.steps.push(Step::Subscribe { client: number, wishes });
                scenario.steps.push(Step::Settle { seed: random.bits() });
                scenario.steps.push(Step::Read { client: number, answer_count: 9 });
            }
        }
        for _ in 0..400 {
            let step = scenario.alternate(&taste, &mut random);
            scenario.steps.push(step);
        }
        scenario
    }

    fn alternate(&self, taste: &Taste, random: &mut Random) -> Step {
        let client = random.below(self.clients.len());
        match random.below(100) {
            0..50 => {
                let plain = letter(taste, random);
                let letter = Letter { retain: false, expiry_s: None, size: 8, ..plain };
                Step::Publish { client: client / 2, letter }
            }
            50..60 => Step::Read { client, answer_count: random.pick(&[1, 5, 50]) },
            60..63 => Step::PutOff { shards: random.bits() & random.bits() },
            63..65 => Step::Settle { seed: random.bits() },
            _ => Step::Work { count: random.below(taste.work_count_max), seed: random.bits() },
        }
    }

    /// Most connect and subscribe before anything else happens.
    fn begin(&mut self, client: usize, taste: &Taste, random: &mut Random) {
        if random.percent(10) {
            return;
        }
        let will = will(random);
        self.steps.push(Step::Connect { client, clean: random.percent(30), will });
        self.steps.push(Step::Work { count: random.below(10), seed: random.bits() });
        self.steps.push(Step::Read { client, answer_count: 9 });
        if random.percent(80) {
            self.steps.push(self.subscribe(client, taste, random));
            self.steps.push(Step::Work { count: random.below(40), seed: random.bits() });
            self.steps.push(Step::Read { client, answer_count: 9 });
        }
    }

    /// A client subscribes while a publish of the same topic is put off, and another one follows.
    fn come_late(&mut self, taste: &Taste, random: &mut Random) {
        let topic = random.pick(&["a", "a/b", "b/b", "a//c", "$d/a"]);
        let mut client = || random.below(self.clients.len());
        let (first, late, second) = (client(), client(), client());
        if self.clients[late].is_worker {
            return; // It does not subscribe alone.
        }
        let work = |random: &mut Random| Step::Work { count: 60, seed: random.bits() };
        let read = |client| Step::Read { client, answer_count: 9 };
        let publish = |client, random: &mut Random| {
            let letter = Letter { topic, retain: false, ..letter(taste, random) };
            Step::Publish { client, letter }
        };
        let wishes = vec![self.wish(late, topic, random)];
        let steps = [
            Step::PutOff { shards: u64::MAX },
            publish(first, random),
            work(random),
            Step::Subscribe { client: late, wishes },
            work(random),
            read(late),
            publish(second, random),
            work(random),
            Step::PutOff { shards: 0 },
        ];
        self.steps.extend(steps);
    }

    fn step(&self, taste: &Taste, random: &mut Random) -> Step {
        let client = random.below(self.clients.len());
        match random.below(1000) {
            0..300 => Step::Publish { client, letter: letter(taste, random) },
            300..330 => self.subscribe(client, taste, random),
            330..350 => Step::Unsubscribe { client, filter: self.filter(client, taste, random) },
            350..420 => Step::Connect { client, clean: random.percent(12), will: will(random) },
            420..440 => self.disconnect(client, random),
            440..445 => Step::UseUnknownAlias { client },
            445..450 => Step::Ping { client },
            450..455 => Step::Authenticate { client },
            455..460 => Step::Expel { client },
            460..660 => Step::Read { client, answer_count: random.pick(&[0, 1, 2, 5, 50]) },
            660..665 => Step::Settle { seed: random.bits() },
            700..715 => Step::PutOff { shards: random.bits() & random.bits() },
            665..700 => Step::Wait { ms: random.below(taste.wait_ms_max) as u64 },
            715..780 if random.percent(taste.lose_percent) => Step::Lose {
                client,
                how: random.pick(&[End::Close, End::Reset, End::Reset, End::Vanish]),
                kept: random.below(1001),
            },
            _ => Step::Work { count: random.below(taste.work_count_max), seed: random.bits() },
        }
    }

    fn subscribe(&self, client: usize, taste: &Taste, random: &mut Random) -> Step {
        let count = if self.clients[client].is_worker { 1 } else { random.below(3) + 1 };
        let mut wishes: Vec<Wish> = Vec::new();
        for _ in 0..count {
            let filter = self.filter(client, taste, random);
            if wishes.iter().all(|wish| wish.filter != filter) {
                wishes.push(self.wish(client, filter, random));
            }
        }
        if wishes.iter().any(|wish| wish.filter.starts_with("$share/")) {
            wishes.truncate(1); // An identifier then tells by which way a delivery has come.
        }
        Step::Subscribe { client, wishes }
    }

    fn wish(&self, client: usize, filter: &'static str, random: &mut Random) -> Wish {
        let is_v5 = self.clients[client].version.is_v5();
        let is_shared = filter.starts_with("$share/");
        Wish {
            filter,
            qos: random.pick(&[0, 1, 1, 2, 2, 2]),
            no_local: is_v5 && !is_shared && random.percent(25),
            retain_as_published: is_v5 && random.percent(25),
            retain_handling: if is_v5 { random.pick(&[0, 0, 1, 2]) } else { 0 },
        }
    }

    fn filter(&self, client: usize, taste: &Taste, random: &mut Random) -> &'static str {
        let profile = &self.clients[client];
        if profile.is_worker && !profile.identifies {
            return SHARED[client / MEMBERS];
        }
        let may_share = profile.is_worker || profile.identifies;
        if profile.is_worker || may_share && random.percent(taste.share_percent) {
            return if random.percent(50) {
                SHARED[client / MEMBERS]
            } else {
                random.pick(&SHARED)
            };
        }
        random.pick(&FILTERS)
    }

    fn disconnect(&self, client: usize, random: &mut Random) -> Step {
        let profile = &self.clients[client];
        let is_v5 = profile.version.is_v5();
        let expiry_s = is_v5 && profile.expiry_s > 0 && random.percent(20);
        Step::Disconnect {
            client,
            keeps_will: is_v5 && random.percent(30),
            expiry_s: expiry_s.then(|| random.pick(&[0, 2, 1000])),
        }
    }
}

impl Taste {
    fn new(random: &mut Random) -> Self {
        Self {
            retain_percent: random.pick(&[5, 20, 60]),
            lose_percent: random.pick(&[10, 50, 100]),
            large_percent: random.pick(&[0, 0, 0, 1, 5, 40]),
            share_percent: random.pick(&[0, 10, 40]),
            expiry_percent: random.pick(&[0, 10, 40]),
            many_percent: random.pick(&[0, 0, 20, 80]),
            wait_ms_max: random.pick(&[50, 1500, 5000]),
            work_count_max: random.pick(&[10, 40, 120]),
        }
    }
}

fn profile(number: usize, taste: &Taste, random: &mut Random) -> Profile {
    let version = random.pick(&[Version::V31, Version::V311, Version::V5, Version::V5]);
    let is_v5 = version.is_v5();
    let is_worker = random.percent(taste.share_percent);
    // What a worker does not take another may.
    let is_limited = is_v5 && random.percent(if is_worker { 90 } else { 25 });
    Profile {
        name: format!("c{number}"),
        version,
        keep_alive_s: random.pick(&[0, 0, 0, 2, 5, 60]),
        expiry_s: random.pick(&[0, 1, 3, 1000, 1000, u32::MAX]),
        receive_max: (is_v5 && random.percent(60)).then(|| random.pick(&[1, 2, 3, 10])),
        packet_max: is_limited.then(|| random.pick(&[60, 60, 150, 1000])),
        alias_max: (is_v5 && random.percent(60)).then(|| random.pick(&[1, 2, 5])),
        identifies: is_v5 && random.percent(60),
        is_worker,
        refuses: is_v5 && random.percent(30),
        authenticates: is_v5 && random.percent(30),
    }
}

/// Half of the runs have room for everything, the others for next to nothing.
fn limits(random: &mut Random) -> Limits {
    let mut limits = Limits {
        inflight_count_max: random.pick(&[1, 2, 5, 256]),
        receive_count_max: random.pick(&[1, 2, 4, 1024]),
        topic_alias_count_max: random.pick(&[0, 2, 64]),
        slow_consumer_timeout_s: random.pick(&[1, 3]),
        packet_bytes_max: 1 << 20,
        ..Limits::default()
    };
    if random.percent(50) {
        limits.queue_count_max = random.pick(&[1, 3, 10, 10_000]);
        limits.queue_bytes_max = random.pick(&[1024, 3000, 16 << 20]);
        limits.outbox_bytes_max = random.pick(&[1024, 3000, 1 << 20]);
        limits.queue_qos0_offline = random.percent(50);
        limits.order = random.pick(&[Order::Client, Order::Client, Order::Topic]);
        limits.subscription_count_max = random.pick(&[2, 4, 100_000]);
        limits.shared_subscription_count_max = random.pick(&[1, 1024]);
        limits.session_expiry_s_max = random.pick(&[2, u32::MAX, u32::MAX]);
        limits.retained_count_max = random.pick(&[3, 20, 1_000_000]);
    }
    limits
}

/// In half of the runs next to nothing is delivered at once.
fn slices(random: &mut Random) -> Slices {
    if random.percent(50) {
        return Slices::default();
    }
    let subscriber_count = random.pick(&[1, 1, 2, 3, 100]);
    let delivery_count = random.pick(&[1, 2, 5, 1000]);
    Slices {
        subscriber_count,
        delivery_count,
        put_off_count_max: random.pick(&[1, 2, 5, 1000]),
        put_off_bytes_max: random.pick(&[100, 3000, 1 << 20]),
        put_off_of_one_max: random.pick(&[1, 2, 100]),
        match_count: delivery_count,
        input_units: random.pick(&[1, 20, 100, 2048]),
        turn_units: 32 * 1024,
    }
}

fn will(random: &mut Random) -> Option<Will> {
    random.percent(35).then(|| Will {
        topic: random.pick(&TOPICS),
        qos: random.pick(&[0, 1, 2]),
        retain: random.percent(30),
        delay_s: random.pick(&[0, 0, 1, 3, 100]),
    })
}

fn letter(taste: &Taste, random: &mut Random) -> Letter {
    let retain = random.percent(taste.retain_percent);
    let size = match random.below(100) {
        large if large < taste.large_percent => random.pick(&[17_000, 300_000]),
        0..70 => 8,
        70..95 => random.below(300) + 8,
        _ => random.below(3000) + 8,
    };
    Letter {
        topic: match random.percent(taste.many_percent) {
            true => random.pick(&MANY_TOPICS),
            false => random.pick(&TOPICS),
        },
        qos: random.pick(&[0, 1, 1, 2, 2]),
        retain,
        size: if retain && random.percent(15) { 0 } else { size },
        expiry_s: random.percent(taste.expiry_percent).then(|| random.pick(&[1, 2, 10, 1000])),
        by_alias: random.percent(30),
        has_properties: random.percent(20),
    }
}
