//! Puts `io/src/ring.rs` between glommio and the kernel, and the commit into the version.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_SERVER").is_some() {
        println!("cargo::rustc-link-arg=-Wl,--wrap=__sys_io_uring_setup");
    }
    let version = std::env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    match commit() {
        Some(commit) => println!("cargo::rustc-env=RINGMQ_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=RINGMQ_VERSION={version}"),
    }
}

/// The commit that is built, if this is a clone: a package has none.
fn commit() -> Option<String> {
    let root = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(["-C", &root]).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if std::fs::canonicalize(top).ok()? != std::fs::canonicalize(&root).ok()? {
        return None; // It lies in the repository of something else.
    }
    let log = git(&["rev-parse", "--absolute-git-dir"])? + "/logs/HEAD";
    println!("cargo::rerun-if-changed={log}");
    git(&["rev-parse", "--short=10", "HEAD"])
}
