//! How a process ends whose code has panicked.

/// From now on a panic in any thread ends the process, after its message: a program of which a
/// part is dead would look alive.
pub fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic); // Ignores that it cannot write.
        std::process::abort();
    }));
}
