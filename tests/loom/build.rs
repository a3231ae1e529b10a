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
    ("no_room_ring", &[("self.bells[index].ring();\n            }", "}")]),
    ("no_reset", &[("self.rung.swap(false, Ordering::AcqRel);", "")]),
    (
        "reset_after_the_look",
        &[
            ("        bell.reset(waker);\n", ""),
            ("        more\n    }\n", "        bell.reset(waker);\n        more\n    }\n"),
        ],
    ),
    ("relaxed_ring", &[("swap(true, Ordering::AcqRel)", "swap(true, Ordering::Relaxed)")]),
    ("relaxed_reset", &[("swap(false, Ordering::AcqRel)", "swap(false, Ordering::Relaxed)")]),
    (
        "reset_without_a_look",
        &[("swap(false, Ordering::AcqRel)", "store(false, Ordering::Release)")],
    ),
];

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
