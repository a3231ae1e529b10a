//! Where the fuzzing begins: the conformance tables, turned into what each target reads, and
//! configuration files. What is found becomes a case of the tables, and a seed by that.

use std::fs;
use std::path::{Path, PathBuf};

use harness::notation::{Bindings, parse_packet, parse_raw, substitute};
use harness::packet::{Packet, Value};
use harness::script::{Action, Case, Script, Step as ScriptStep};

use super::packets::number_of_client;
use super::session::{HEADER_BYTES, PAUSES_MS, Step, first_byte};

/// One file of a corpus.
pub struct Seed {
    /// The target that it is for.
    pub target: &'static str,
    /// What is handed to it.
    pub bytes: Vec<u8>,
}

/// All of them, in the same order every time. `root` is the folder of the repository.
///
/// # Panics
/// If a table cannot be read: then the tests of the table fail, too.
pub fn seeds(root: &Path) -> Vec<Seed> {
    let mut seeds = Vec::new();
    for path in tables(root) {
        let text = fs::read_to_string(&path).expect("a table can be read");
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        for (number, case) in script.cases.iter().enumerate() {
            add_case(&mut seeds, case, number);
        }
    }
    add_config(&mut seeds);
    seeds
}

fn tables(root: &Path) -> Vec<PathBuf> {
    let folders = ["tests/conformance", "tests/conformance/v5"];
    let files = folders.iter().flat_map(|folder| {
        let folder = root.join(folder);
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"))
    });
    let paths = files.map(|file| file.expect("a folder can be read").path());
    // Tables are written in capitals; other lists lie beside them.
    let is_table = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with(".txt") && name.starts_with(char::is_uppercase)
    };
    let mut paths: Vec<_> = paths.filter(is_table).collect();
    paths.sort();
    paths
}

/// What one case becomes for each target.
fn add_case(seeds: &mut Vec<Seed>, case: &Case, number: usize) {
    let mut play = Play::new(number);
    for (_, step) in &case.steps {
        play.add(step);
    }
    let mut add = |target, bytes| seeds.push(Seed { target, bytes });
    for stream in &play.streams {
        let target = if stream.v5 { "decode_v5" } else { "decode_v311" };
        add(target, stream.bytes.clone());
        let version = if stream.v5 { 2 } else { 1 };
        add("round_trip", [&[version], stream.bytes.as_slice()].concat());
    }
    add("topic_match", play.topics);
    add("session_script", play.script);
}

/// The bytes that one client sends.
struct Stream {
    name: String,
    v5: bool,
    bytes: Vec<u8>,
}

/// A case as it is turned into scripts.
struct Play {
    streams: Vec<Stream>,
    script: Vec<u8>,
    topics: Vec<u8>,
}

impl Play {
    fn new(number: usize) -> Self {
        let mut script = vec![0; HEADER_BYTES];
        script[0] = number as u8; // one to four shards
        Self { streams: Vec::new(), script, topics: Vec::new() }
    }

    fn add(&mut self, step: &ScriptStep) {
        let (name, action) = match step {
            ScriptStep::Wait(duration) => {
                let ms = duration.as_millis() as u64;
                let longest = PAUSES_MS.iter().position(|pause| *pause >= ms).unwrap_or(7);
                return self.script.extend([first_byte(Step::Pass, 0), longest as u8]);
            }
            ScriptStep::Expel(client_id) => {
                let number = number_of_client(client_id).unwrap_or_default();
                return self.script.extend([first_byte(Step::Expel, 0), number]);
            }
            ScriptStep::Client(name, action) => (name, action),
        };
        let slot = self.slot(name);
        match action {
            Action::Connect => self.push(Step::Reopen, slot),
            Action::Send(text) => self.send_packets(slot, text),
            Action::SendRaw(text) => self.send(slot, &parse_raw(text).expect("it is in the table")),
            Action::Close | Action::Abort => self.push(Step::HangUp, slot),
            Action::Expect(text) => self.expect(slot, text),
            Action::ExpectAnyOrder(texts) => {
                texts.iter().for_each(|text| self.expect(slot, text));
            }
            Action::ExpectClosed(_) | Action::ExpectNothing => self.push(Step::Settle, slot),
        }
    }

    fn slot(&mut self, name: &str) -> usize {
        let found = self.streams.iter().position(|stream| stream.name == name);
        found.unwrap_or_else(|| {
            self.streams.push(Stream { name: name.to_owned(), v5: false, bytes: Vec::new() });
            self.streams.len() - 1
        })
    }

    fn push(&mut self, step: Step, slot: usize) {
        self.script.push(first_byte(step, slot));
    }

    fn send_packets(&mut self, slot: usize, text: &str) {
        let mut bytes = Vec::new();
        for text in text.split(" & ") {
            let mut packet = parse_packet(text).expect("it is in the table");
            settle_variables(&mut packet);
            if packet.kind.name == "CONNECT" {
                self.streams[slot].v5 = packet.speaks_v5();
                self.push(Step::Reopen, slot);
            }
            self.add_topics(&packet, slot);
            bytes.extend(packet.encode(self.streams[slot].v5));
        }
        self.send(slot, &bytes);
    }

    fn send(&mut self, slot: usize, bytes: &[u8]) {
        // A long payload is no seed: there is one for every length of a length.
        if bytes.len() > 2000 {
            return;
        }
        self.streams[slot].bytes.extend(bytes);
        for piece in bytes.chunks(255) {
            self.push(Step::Send, slot);
            self.script.push(piece.len() as u8);
            self.script.extend(piece);
        }
    }

    /// What a client is sent is read by the decoders, too, and answered.
    fn expect(&mut self, slot: usize, text: &str) {
        self.push(Step::Settle, slot);
        let mut packet = parse_packet(text).expect("it is in the table");
        settle_variables(&mut packet);
        let bytes = packet.encode(self.streams[slot].v5);
        if bytes.len() <= 2000 {
            self.streams[slot].bytes.extend(bytes);
        }
    }

    fn add_topics(&mut self, packet: &Packet, slot: usize) {
        let (key, what) = match packet.kind.name {
            "SUBSCRIBE" => ("filter", '+'),
            "UNSUBSCRIBE" => ("filter", '-'),
            "PUBLISH" => ("topic", if packet.number("retain") == Some(1) { '=' } else { '?' }),
            _ => return,
        };
        for field in packet.fields.iter().filter(|field| field.key == key) {
            let Value::Bytes(text) = &field.value else { continue };
            // The QoS is written behind a colon.
            let end = text.iter().rposition(|byte| *byte == b':').filter(|_| what == '+');
            let text = String::from_utf8_lossy(&text[..end.unwrap_or(text.len())]).into_owned();
            let end = text.char_indices().nth(200).map_or(text.len(), |(at, _)| at);
            self.topics.extend(format!("{what}{slot} {}\n", &text[..end]).bytes());
        }
    }
}

/// The broker numbers from 1: mostly that is what a variable stands for.
fn settle_variables(packet: &mut Packet) {
    let bindings: Bindings = packet
        .fields
        .iter()
        .filter_map(|field| match &field.value {
            Value::Variable(name) if field.key == "id" => Some((name.clone(), Value::Number(1))),
            Value::Variable(name) => Some((name.clone(), Value::Bytes(b"name".to_vec()))),
            _ => None,
        })
        .collect();
    substitute(packet, &bindings).expect("all of them are bound");
}

/// The printed reference, and each option by itself.
fn add_config(seeds: &mut Vec<Seed>) {
    let text = ringmq::config::Config::default().to_toml();
    let mut add = |text: &str| {
        seeds.push(Seed { target: "config_file", bytes: text.as_bytes().to_vec() });
    };
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    add(&lines.join("\n"));
    for line in lines.iter().filter(|line| !line.is_empty()) {
        add(line);
        add(&format!("[limits]\n{line}"));
    }
    for text in [
        "listen = [\"127.0.0.1:1883\", \"[::1]:1883\"]\ncores = 2\nlog_level = 'warn'",
        "limits.packet_bytes_max = 0x1_00\nlimits.queue_qos0_offline = true",
        "limits = { inflight_count_max = 1, cores = 1979-05-27T07:32:00Z }",
        "\"corse\" = 'x'\r\n[limit]\r\n\"\\u00e9\" = 1.5e3\r\n[[limits]]",
    ] {
        add(text);
    }
}
