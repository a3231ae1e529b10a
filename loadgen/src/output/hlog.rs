//! Latencies in the two text formats of HdrHistogram, for its plotters and log processors: the
//! interval log (`.hlog`) holds every interval in full, the percentile distribution (`.hgrm`) the
//! whole run. Both are of the steady part; values are nanoseconds, shown in milliseconds.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::recording::recorder::Recorder;
use crate::report::series::{Interval, Phase};

const NS_PER_MS: f64 = 1e6;
/// Lines of the distribution for each halving of the distance to 100 %, as in the original.
const TICKS_PER_HALF: u32 = 5;
const SUB_BUCKETS: u32 = 2048;

/// Writes the interval log while the run goes. Latency from the intended time has no tag; that
/// from the actual send has the tag `raw`, that of acknowledgements `acknowledge`.
pub(crate) struct IntervalLog {
    out: Box<dyn Write>,
    serializer: V2DeflateSerializer,
    bytes: Vec<u8>,
    begun: Instant,
    /// From the beginning of the log to that of the run, seconds.
    run_s: f64,
    failure: Option<io::Error>,
}

impl IntervalLog {
    pub(crate) fn create(file: &Path) -> io::Result<Self> {
        Self::to(Box::new(BufWriter::new(File::create(file)?)))
    }

    fn to(mut out: Box<dyn Write>) -> io::Result<Self> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        write!(
            out,
            "#[{} {}; values in ns, Interval_Max in ms; without a tag: from the intended send \
             time]\n#[Histogram log format version 1.3]\n#[StartTime: {:.3} (seconds since \
             epoch)]\n\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
             \"Interval_Compressed_Histogram\"\n",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            since_epoch.as_secs_f64()
        )?;
        Ok(Self {
            out,
            serializer: V2DeflateSerializer::new(),
            bytes: Vec::new(),
            begun: Instant::now(),
            run_s: 0.0,
            failure: None,
        })
    }

    /// Times of intervals count from now.
    pub(crate) fn begin_run(&mut self) {
        self.run_s = self.begun.elapsed().as_secs_f64();
    }

    /// What goes wrong is kept for [`Self::finish`]: a full disk is no reason to end a run.
    pub(crate) fn write(&mut self, interval: &Interval, recorder: &Recorder) {
        let tagged = [
            ("", &recorder.latency),
            ("Tag=raw,", &recorder.raw_latency),
            ("Tag=acknowledge,", &recorder.acknowledge_latency),
        ];
        for (tag, histogram) in tagged {
            // An interval without a delivery is worth a line: the broker stood still.
            let stood_still = tag.is_empty() && interval.phase == Phase::Steady;
            if (!histogram.is_empty() || stood_still) && self.failure.is_none() {
                self.failure = self.write_line(tag, interval, histogram).err();
            }
        }
    }

    fn write_line(&mut self, tag: &str, of: &Interval, latency: &Histogram<u64>) -> io::Result<()> {
        self.bytes.clear();
        self.serializer.serialize(latency, &mut self.bytes).map_err(io::Error::other)?;
        writeln!(
            self.out,
            "{tag}{:.3},{:.3},{:.3},{}",
            self.run_s + of.from_s,
            of.to_s - of.from_s,
            latency.max() as f64 / NS_PER_MS,
            STANDARD.encode(&self.bytes)
        )
    }

    /// # Errors
    /// The first that happened since the log was created.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)?;
        self.out.flush()
    }
}

/// Formats the percentile distribution of `latency`, as the HdrHistogram plotter reads it.
pub(crate) fn distribution(latency: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in latency.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to(), step.quantile_iterated_to());
        let _ = write!(text, "{:12.3} {quantile:2.12} {total:10}", value as f64 / NS_PER_MS);
        let _ = match quantile < 1.0 {
            true => writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(text),
        };
    }
    let _ = write!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {SUB_BUCKETS:12}]\n",
        latency.mean() / NS_PER_MS,
        latency.stdev() / NS_PER_MS,
        latency.max() as f64 / NS_PER_MS,
        latency.len(),
        latency.buckets(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::schedule::Timeline;
    use crate::recording::recorder::Times;
    use crate::report::series::tests::interval;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{
        IntervalLogHistogram, IntervalLogIterator, LogEntry,
    };
    use std::sync::{Arc, Mutex};

    const TIMELINE: Timeline = Timeline { start_ns: 0, steady_ns: 0, end_ns: 1 << 40 };

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn recorder(latencies_ms: &[i64]) -> Recorder {
        let mut recorder = Recorder::new();
        for ms in latencies_ms {
            let times = Times { intended_ns: 0, sent_ns: 1_000_000 };
            recorder.record_delivery(&TIMELINE, times, ms * 1_000_000);
        }
        recorder
    }

    fn decoded(entry: &IntervalLogHistogram<'_>) -> Histogram<u64> {
        let bytes = STANDARD.decode(entry.encoded_histogram()).expect("it is base64");
        Deserializer::new().deserialize(&mut &bytes[..]).expect("it is a histogram")
    }

    /// Read back by the parser of the library, which shares nothing with the writer here.
    #[test]
    fn the_log_holds_what_was_recorded() {
        let shared = Shared::default();
        let mut log = IntervalLog::to(Box::new(shared.clone())).expect("memory");
        log.write(&interval(1.0, 2.0, Phase::Steady), &recorder(&[2, 3, 5]));
        log.write(&interval(2.0, 3.0, Phase::Steady), &recorder(&[]));
        log.write(&interval(3.0, 3.5, Phase::Drain), &recorder(&[]));
        log.finish().expect("memory");
        let bytes = shared.0.lock().unwrap().clone();
        let entries: Vec<_> =
            IntervalLogIterator::new(&bytes).map(|entry| entry.unwrap()).collect();
        assert!(matches!(entries[0], LogEntry::StartTime(_)));
        let histograms: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(entry) => Some(entry),
                _ => None,
            })
            .collect();
        let tags: Vec<_> =
            histograms.iter().map(|entry| entry.tag().map(|tag| tag.as_str())).collect();
        assert_eq!(tags, [None, Some("raw"), None], "the second interval stood still");
        assert_eq!(histograms[0].start_timestamp().as_secs_f64(), 1.0);
        assert_eq!(histograms[0].duration().as_secs_f64(), 1.0);
        assert!((histograms[0].max() - 5.0).abs() < 0.01);
        let expected = recorder(&[2, 3, 5]);
        assert_eq!(decoded(histograms[0]), expected.latency);
        assert_eq!(decoded(histograms[1]), expected.raw_latency);
        assert!(decoded(histograms[2]).is_empty());
    }

    #[test]
    fn the_first_error_is_kept() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut log = IntervalLog::to(Box::new(Shared::default())).expect("memory");
        log.out = Box::new(Full);
        log.write(&interval(1.0, 2.0, Phase::Steady), &recorder(&[2]));
        let error = log.finish().expect_err("the disk was full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn the_distribution_reads_like_the_original() {
        let text = distribution(&recorder(&[1, 2, 3, 4]).latency);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        let last = lines.iter().rfind(|line| !line.starts_with('#')).expect("there are some");
        assert!(last.ends_with("1.000000000000          4"), "{last}");
        assert!(text.contains("Total count    =            4]"), "{text}");
        let mut columns = lines[2].split_whitespace();
        assert_eq!(columns.nth(3), Some("1.00"));
    }
}
