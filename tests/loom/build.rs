//! Sets `cfg(loom)` for this crate alone, and makes broken copies of `src/server/mesh.rs`: each
//! has one fault, and the model checker must find it.

use std::path::Path;
use std::{env, fs};

/// Name of the fault, and what becomes what in the file.
const FAULTS: &[(&str, &[(&str, &str)])] = &[
    // One of them is enough: who is rung sees the mark, whenever it was made.
    (
        "neither_second_try_nor_ring",
        &[
            (SECOND_TRY, "        Err(message)\n    }\n"),
            ("SeqCst);\n        self.touched.insert(to);\n", "SeqCst);\n"),
        ],
    ),
    ("no_mark", &[("lane.starved.store(true, Ordering::SeqCst);", "")]),
    ("no_room_ring", &[("            bell.ring(self.id);\n", "")]),
    ("no_reset", &[("self.rung.swap(0, Ordering::AcqRel)", "self.rung.load(Ordering::Acquire)")]),
    (
        "reset_in_two_steps",
        &[(
            "        ShardSet::from_bits(self.rung.swap(0, Ordering::AcqRel))\n",
            "        let rung = ShardSet::from_bits(self.rung.load(Ordering::Acquire));
        self.rung.store(0, Ordering::Release);
        rung\n",
        )],
    ),
    (
        "reset_after_the_look",
        &[
            (
                "        let rung = bell.reset(waker);\n",
                "        let rung = ShardSet::from_bits(bell.rung.load(Ordering::Acquire));\n",
            ),
            ("        more\n    }\n", "        bell.reset(waker);\n        more\n    }\n"),
        ],
    ),
    ("relaxed_ring", &[(NAME, "fetch_or(1 << ringer.index(), Ordering::Relaxed)")]),
    (
        "relaxed_reset",
        &[("self.rung.swap(0, Ordering::AcqRel)", "self.rung.swap(0, Ordering::Relaxed)")],
    ),
    ("one_name_for_all", &[(NAME, "fetch_or(1, Ordering::AcqRel)")]),
    ("no_ring_for_the_rest", &[("bell.rung.fetch_or(1 << from.index(), Ordering::AcqRel);", "")]),
];

/// How a ringer leaves its name.
const NAME: &str = "fetch_or(1 << ringer.index(), Ordering::AcqRel)";

/// What `Mesh::send` does after it has marked a channel that it found full.
const SECOND_TRY: &str = "        match lane.end.try_send(message) {
            Ok(()) => {
                lane.starved.store(false, Ordering::SeqCst);
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
        }
    }
";

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../../src/server/mesh.rs");
    let source = fs::read_to_string("../../src/server/mesh.rs").expect("the file under test");
    // What is included in the middle of a file has no documentation of its own.
    let lines = source.lines().filter(|line| !line.starts_with("//!"));
    let source: String = lines.flat_map(|line| [line, "\n"]).collect();
    let out = env::var("OUT_DIR").expect("cargo says where");
    for (name, changes) in FAULTS {
        let mut broken = source.clone();
        for (from, to) in *changes {
            assert_eq!(broken.matches(from).count(), 1, "{name}: the line to break has changed");
            broken = broken.replace(from, to);
        }
        fs::write(Path::new(&out).join(format!("{name}.rs")), broken).expect("it can be written");
    }
}
