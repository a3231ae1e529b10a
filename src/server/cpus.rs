//! How many executors there are, and on which CPUs.

use std::fs;
use std::path::Path;

use tracing::info;

use crate::config::Pin;
use crate::routing::ShardId;

use super::cgroup;

/// On which CPU each executor stays; none stays on one where `pin` says so.
///
/// # Errors
/// What is wrong with a list of CPUs.
pub(super) fn placement(
    pin: &Pin,
    available: &[usize],
    executor_count: usize,
    quota_in_thousandths: Option<u64>,
) -> Result<Vec<Option<usize>>, String> {
    let is_shared = quota_in_thousandths.is_some() || executor_count != available.len();
    match pin {
        Pin::Auto if !is_shared => Ok(available.iter().copied().map(Some).collect()),
        Pin::Auto | Pin::Off => Ok(vec![None; executor_count]),
        Pin::List(cpus) => on_each(cpus, available, executor_count),
    }
}

fn on_each(
    cpus: &[usize],
    available: &[usize],
    executor_count: usize,
) -> Result<Vec<Option<usize>>, String> {
    if let Some(cpu) = cpus.iter().find(|cpu| !available.contains(cpu)) {
        return Err(format!("pin names CPU {cpu}; this process may run on {available:?}"));
    }
    if cpus.len() < executor_count {
        let count = cpus.len();
        return Err(format!("pin names {count} CPUs for {executor_count} executors"));
    }
    Ok(cpus[..executor_count].iter().copied().map(Some).collect())
}

/// The default number of executors: one for each CPU, as far as a quota reaches and there can be
/// shards.
pub(super) fn executor_count(
    pin: &Pin,
    cpu_count: usize,
    quota_in_thousandths: Option<u64>,
) -> usize {
    if let Pin::List(cpus) = pin {
        return cpus.len().min(ShardId::COUNT_MAX);
    }
    let count = count_within(cpu_count, quota_in_thousandths);
    if count < cpu_count {
        let quota = quota_in_thousandths.map_or(String::new(), |quota| {
            format!(", a quota of {}.{:02} CPUs", quota / 1000, quota % 1000 / 10)
        });
        info!("{count} executors: there are {cpu_count} CPUs{quota}, and at most 64 shards");
    }
    count
}

fn count_within(cpu_count: usize, quota_in_thousandths: Option<u64>) -> usize {
    let quota = quota_in_thousandths.map_or(usize::MAX, |quota| quota.div_ceil(1000) as usize);
    cpu_count.min(quota).clamp(1, ShardId::COUNT_MAX)
}

/// The CPU time that the control groups of the process allow it, in thousandths of a CPU.
pub(super) fn quota_in_thousandths() -> Option<u64> {
    let v2 = |folder: &Path| quota_v2(&fs::read_to_string(folder.join("cpu.max")).ok()?);
    let v1 = |folder: &Path| {
        let quota = cgroup::number(folder, "cpu.cfs_quota_us")?; // -1 without a quota.
        part(quota, cgroup::number(folder, "cpu.cfs_period_us")?)
    };
    cgroup::least("cpu", v2, v1)
}

/// From `200000 100000`, or from `max 100000`, which is no quota.
fn quota_v2(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    part(quota.parse().ok()?, period.parse().ok()?)
}

fn part(quota_us: u64, period_us: u64) -> Option<u64> {
    quota_us.checked_mul(1000)?.checked_div(period_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_executors_as_a_quota_and_shards_allow() {
        for (cpus, quota, count) in [
            (8, None, 8),
            (8, Some(2500), 3),
            (8, Some(100), 1),
            (2, Some(16_000), 2),
            (192, None, 64),
        ] {
            assert_eq!(count_within(cpus, quota), count, "{cpus} CPUs, {quota:?}");
        }
    }

    #[test]
    fn executors_stay_where_a_list_says() {
        let list = |cpus: &[usize]| Pin::List(cpus.to_vec());
        assert_eq!(placement(&list(&[3, 1]), &[0, 1, 2, 3], 2, None), Ok(vec![Some(3), Some(1)]));
        assert_eq!(placement(&Pin::Off, &[0, 1], 2, None), Ok(vec![None; 2]));
        let auto = |count, quota| placement(&Pin::Auto, &[0, 1], count, quota);
        assert_eq!(auto(1, None), Ok(vec![None]), "others have a part");
        assert_eq!(auto(3, None), Ok(vec![None; 3]));
        assert_eq!(auto(2, None), Ok(vec![Some(0), Some(1)]));
        assert_eq!(auto(2, Some(1500)), Ok(vec![None; 2]));
        let error = placement(&list(&[1]), &[0, 1], 2, None).unwrap_err();
        assert!(error.contains("1 CPUs for 2 executors"), "{error}");
        let error = placement(&list(&[9]), &[0, 1], 1, None).unwrap_err();
        assert!(error.contains("CPU 9"), "{error}");
        assert_eq!(executor_count(&list(&[3, 1]), 8, None), 2);
    }

    #[test]
    fn a_quota_is_read_in_thousandths() {
        assert_eq!(quota_v2("250000 100000\n"), Some(2500));
        assert_eq!(quota_v2("max 100000\n"), None);
        assert_eq!(part(50_000, 0), None);
    }
}
