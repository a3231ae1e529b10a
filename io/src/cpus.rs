//! The CPUs that this process may run on.

use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity};

/// Returns the numbers of the CPUs that this thread may run on, the lowest first; at least one.
pub fn available_cpus() -> Vec<usize> {
    // The system leaves CPUs out that are offline. It refuses where there are more than 1024.
    let allowed = sched_getaffinity(None).map(|set| numbers(&set)).unwrap_or_default();
    if allowed.is_empty() {
        return (0..thread::available_parallelism().map_or(1, usize::from)).collect();
    }
    allowed
}

fn numbers(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_available_as_the_standard_library_counts() {
        let cpus = available_cpus();
        assert!(cpus.is_sorted());
        // A quota makes the other number smaller.
        assert!(cpus.len() >= thread::available_parallelism().map_or(1, usize::from));
    }

    #[test]
    fn the_numbers_of_a_set_are_those_that_were_put_in() {
        let mut set = CpuSet::new();
        [3, 64, 1023].into_iter().for_each(|cpu| set.set(cpu));
        assert_eq!(numbers(&set), [3, 64, 1023]);
    }
}
