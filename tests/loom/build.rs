//! Sets `cfg(loom)` for this crate alone, and makes broken copies of `src/server/mesh.rs`: each
//! has one fault of `mutations`, and the model checker must find it.

#[path = "../harness/src/fault.rs"]
mod fault;

use std::path::Path;
use std::{env, fs};

use fault::Fault;

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=mutations");
    println!("cargo:rerun-if-changed=../harness/src/fault.rs");
    println!("cargo:rerun-if-changed=../../src/server/mesh.rs");
    let source = fs::read_to_string("../../src/server/mesh.rs").expect("the file under test");
    // What is included in the middle of a file has no documentation of its own.
    let lines = source.lines().filter(|line| !line.starts_with("//!"));
    let source: String = lines.flat_map(|line| [line, "\n"]).collect();
    let out = env::var("OUT_DIR").expect("cargo says where");
    for entry in fs::read_dir("mutations").expect("the folder of faults") {
        let path = entry.expect("it can be read").path();
        let name = path.file_stem().expect("a file has a name").to_string_lossy();
        let fault = Fault::parse(&fs::read_to_string(&path).expect("a fault is UTF-8"));
        let mut broken = [source.clone()];
        fault.put_into(&mut broken).unwrap_or_else(|complaint| panic!("{name}: {complaint}"));
        fs::write(Path::new(&out).join(format!("{name}.rs")), &broken[0])
            .expect("a copy is written");
    }
}
