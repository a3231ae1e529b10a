//! Puts `src/ring.rs` between glommio and the kernel.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_SERVER").is_some() {
        println!("cargo::rustc-link-arg-bins=-Wl,--wrap=__sys_io_uring_setup");
    }
}
