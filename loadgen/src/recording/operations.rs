//! What clients ask of the broker besides publishing, and how long each answer takes.

use hdrhistogram::Histogram;

/// One hour: anything longer is recorded as this.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Coming back after the connection was cut.
pub(crate) const RECONNECT: &str = "reconnect";

/// The operations of one executor in one step, by name.
#[derive(Default)]
pub(crate) struct Operations {
    rows: Vec<(&'static str, Operation)>,
}

/// All operations of one name.
pub(crate) struct Operation {
    /// From the time at which it was intended to the answer, nanoseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) failed: u64,
    /// What the first of those that failed came to.
    pub(crate) first_failure: Option<String>,
    /// When the first was intended, and when the last answer came.
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
}

impl Operations {
    pub(crate) fn record(&mut self, name: &'static str, intended_ns: i64, now_ns: i64) {
        let operation = self.row(name);
        let latency_ns = now_ns.saturating_sub(intended_ns).max(0) as u64;
        operation.latency.saturating_record(latency_ns);
        operation.first_ns = operation.first_ns.min(intended_ns);
        operation.last_ns = operation.last_ns.max(now_ns);
    }

    pub(crate) fn record_failure(&mut self, name: &'static str, reason: &str) {
        let operation = self.row(name);
        operation.failed += 1;
        operation.first_failure.get_or_insert_with(|| reason.to_owned());
    }

    /// Adds what `other` has recorded.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for (name, part) in &other.rows {
            let sum = self.row(name);
            sum.latency.add(&part.latency).expect("all histograms here have the same bounds");
            sum.failed += part.failed;
            if sum.first_failure.is_none() {
                sum.first_failure.clone_from(&part.first_failure);
            }
            sum.first_ns = sum.first_ns.min(part.first_ns);
            sum.last_ns = sum.last_ns.max(part.last_ns);
        }
    }

    /// Counts the operations of this name that were answered.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let mut rows = self.rows.iter();
        rows.find(|(row, _)| *row == name).map_or(0, |(_, operation)| operation.latency.len())
    }

    /// Lists the operations in the order in which they first happened.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Operation)> {
        self.rows.iter().map(|(name, operation)| (*name, operation))
    }

    fn row(&mut self, name: &'static str) -> &mut Operation {
        let at = self.rows.iter().position(|(row, _)| *row == name).unwrap_or_else(|| {
            self.rows.push((name, Operation::new()));
            self.rows.len() - 1
        });
        &mut self.rows[at].1
    }
}

impl Operation {
    fn new() -> Self {
        Self {
            latency: histogram(),
            failed: 0,
            first_failure: None,
            first_ns: i64::MAX,
            last_ns: 0,
        }
    }
}

/// Makes an empty histogram for latencies.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
        .expect("the bounds and digits are constants that it takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_kept_apart_and_added_up() {
        let (mut sum, mut part) = (Operations::default(), Operations::default());
        part.record("connect", 5, 15);
        part.record("connect", 5, 25);
        part.record("subscribe", 20, 10);
        part.record_failure("connect", "refused");
        part.record_failure("connect", "gone");
        sum.absorb(&part);
        sum.absorb(&part);
        let rows: Vec<_> = sum
            .iter()
            .map(|(name, row)| (name, row.latency.len(), row.latency.max(), row.failed))
            .collect();
        assert_eq!(rows, [("connect", 4, 20, 4), ("subscribe", 2, 0, 0)]);
        let (_, connect) = sum.iter().next().expect("two rows");
        assert_eq!((connect.last_ns, connect.first_failure.as_deref()), (25, Some("refused")));
    }
}
