//! Latencies before, during and after an incident, of clients that it does not concern.

use hdrhistogram::Histogram;

use crate::recording::operations::histogram;

/// By the time at which a message was intended.
#[derive(Clone)]
pub(crate) struct Impact {
    begin_ns: i64,
    /// Not known before it is over.
    end_ns: i64,
    pub(crate) before: Histogram<u64>,
    pub(crate) during: Histogram<u64>,
    pub(crate) after: Histogram<u64>,
}

impl Impact {
    pub(crate) fn new(begin_ns: i64) -> Self {
        Self {
            begin_ns,
            end_ns: i64::MAX,
            before: histogram(),
            during: histogram(),
            after: histogram(),
        }
    }

    /// Records that the incident was over at this time.
    pub(crate) fn end(&mut self, end_ns: i64) {
        self.end_ns = self.end_ns.min(end_ns);
    }

    #[inline]
    pub(crate) fn record(&mut self, intended_ns: i64, now_ns: i64) {
        let histogram = match intended_ns {
            time if time < self.begin_ns => &mut self.before,
            time if time < self.end_ns => &mut self.during,
            _ => &mut self.after,
        };
        histogram.saturating_record(now_ns.saturating_sub(intended_ns).max(0) as u64);
    }

    /// Adds what `other`, of the same incident, has recorded.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.end(other.end_ns);
        let pairs = [
            (&mut self.before, &other.before),
            (&mut self.during, &other.during),
            (&mut self.after, &other.after),
        ];
        for (sum, part) in pairs {
            sum.add(part).expect("all histograms here have the same bounds");
        }
    }

    /// Returns how long it lasted; `None` when it did not end.
    pub(crate) fn seconds(&self) -> Option<f64> {
        (self.end_ns < i64::MAX).then(|| (self.end_ns - self.begin_ns) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_belong_to_the_time_they_were_intended_for() {
        let mut impact = Impact::new(100);
        impact.record(99, 500);
        impact.record(100, 130);
        impact.record(250, 255);
        impact.end(200);
        impact.record(199, 201);
        impact.record(200, 210);
        let lengths = [&impact.before, &impact.during, &impact.after].map(Histogram::len);
        assert_eq!(lengths, [1, 3, 1]);
        assert_eq!((impact.before.max(), impact.after.max()), (401, 10));
        let mut sum = Impact::new(100);
        assert_eq!(sum.seconds(), None);
        sum.absorb(&impact);
        assert_eq!((sum.during.len(), sum.seconds()), (3, Some(1e-7)));
    }
}
