//! What an executor used.

use serde::Serialize;

use crate::report::series::per;
use crate::sample::usage::Usage;

#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(crate) struct Executor {
    pub(crate) cpu_s: f64,
    pub(crate) cpu_share: f64,
    /// Ready to run, but without a core.
    pub(crate) wait_share: f64,
}

impl Executor {
    pub(crate) fn of(usage: &Usage) -> Self {
        Self {
            cpu_s: usage.cpu_s,
            cpu_share: per(usage.cpu_s, usage.elapsed_s),
            wait_share: per(usage.wait_s, usage.elapsed_s),
        }
    }
}
