//! Another process, as the kernel shows it: what the broker under test uses. No privileges are
//! needed for CPU, resident memory and threads; its share of memory (PSS) is shown to the owner
//! of the process and to root only.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

/// A reading that takes long is taken so rarely that it takes at most this share of the time: to
/// add up the PSS of a large process the kernel walks all of its pages.
const SHARE_MAX: u32 = 100;

/// A process that is looked at from time to time.
pub(crate) struct Process {
    pid: u32,
    name: String,
    /// When it was started, in ticks since boot: tells a process from a later one of the same pid.
    started: u64,
    pss_rests_until: Option<Instant>,
}

/// What a process had used when it was looked at.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sample {
    /// User and system time of all threads since it was started.
    pub(crate) cpu_s: f64,
    pub(crate) threads: u64,
    /// Memory that it has mapped and that is resident.
    pub(crate) rss_bytes: u64,
    /// The same, but what it shares with others counts in proportion. `None`: not permitted, or
    /// it would take too long to ask this often.
    pub(crate) pss_bytes: Option<u64>,
    /// Open descriptors; `None`: not permitted.
    pub(crate) descriptors: Option<u64>,
}

impl Process {
    /// # Errors
    /// There is no such process, or it cannot be looked at; in words for the user.
    pub(crate) fn open(pid: u32) -> Result<Self, String> {
        let explain = |error| match error {
            error if is_gone(&error) => format!("no process has the pid {pid}"),
            error => format!("cannot read /proc/{pid}: {error}"),
        };
        let stat = read(pid, "stat").map_err(explain)?;
        let status = read(pid, "status").map_err(explain)?;
        let stat = Stat::parse(&stat).ok_or_else(|| format!("cannot read /proc/{pid}/stat"))?;
        if matches!(stat.state, b'Z' | b'X') {
            return Err(format!("the process with the pid {pid} has ended"));
        }
        if field(&status, "Tgid:") != Some(u64::from(pid)) {
            return Err(format!("{pid} is no process but one thread of a process"));
        }
        if field(&status, "VmRSS:").is_none() {
            return Err(format!("{pid} is a thread of the kernel"));
        }
        Ok(Self { pid, name: stat.name, started: stat.started, pss_rests_until: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its command name, at most 15 bytes.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Looks at the process; `None` once it has ended.
    pub(crate) fn sample(&mut self) -> Option<Sample> {
        let stat = Stat::parse(&read(self.pid, "stat").ok()?)?;
        if stat.started != self.started || matches!(stat.state, b'Z' | b'X') {
            return None;
        }
        let status = read(self.pid, "status").ok()?;
        Some(Sample {
            cpu_s: stat.cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            threads: field(&status, "Threads:")?,
            rss_bytes: field(&status, "VmRSS:")? * 1024,
            pss_bytes: self.pss_bytes(),
            descriptors: descriptor_count(self.pid),
        })
    }

    fn pss_bytes(&mut self) -> Option<u64> {
        let begun = Instant::now();
        if self.pss_rests_until.is_some_and(|until| begun < until) {
            return None;
        }
        let rollup = read(self.pid, "smaps_rollup").ok()?;
        self.pss_rests_until = Some(begun + rest(begun.elapsed()));
        Some(field(&rollup, "Pss:")? * 1024)
    }
}

fn rest(took: Duration) -> Duration {
    took * SHARE_MAX
}

fn read(pid: u32, file: &str) -> io::Result<String> {
    // A name may be any bytes.
    let bytes = fs::read(format!("/proc/{pid}/{file}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::SRCH)
}

/// Linux 6.2 and later tell the number as the size of the directory; listing a million entries
/// would take long.
fn descriptor_count(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    match fs::metadata(&folder).map(|metadata| metadata.len()) {
        Ok(1..) => fs::metadata(&folder).ok().map(|metadata| metadata.len()),
        _ => fs::read_dir(&folder).ok().map(|entries| entries.count() as u64),
    }
}

/// Finds the number behind `key` in a file of lines like `VmRSS:     1234 kB`.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields of /proc/PID/stat; see proc_pid_stat(5).
#[derive(PartialEq, Debug)]
struct Stat {
    name: String,
    state: u8,
    cpu_ticks: u64,
    started: u64,
}

impl Stat {
    /// The name stands in parentheses and may hold some itself.
    fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        // The manual counts from 1 and the pid; the state, number 3, comes first here.
        let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
        Some(Self {
            name,
            state: *fields.first()?.as_bytes().first()?,
            cpu_ticks: number(14)? + number(15)?,
            started: number(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_parentheses() {
        let text = "7 (a (b) c) S 1 7 7 0 -1 4 1 0 0 0 30 12 0 0 20 0 3 0 987 1 2 3\n";
        let stat = Stat::parse(text).expect("complete");
        let expected =
            Stat { name: "a (b) c".to_owned(), state: b'S', cpu_ticks: 42, started: 987 };
        assert_eq!(stat, expected);
        assert_eq!(Stat::parse("7 (cut) S 1 7"), None);
    }

    #[test]
    fn numbers_are_read_from_lines() {
        let text = "VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\nThreads:\t3\n";
        assert_eq!((field(text, "VmRSS:"), field(text, "Threads:")), (Some(1234), Some(3)));
        assert_eq!(field(text, "Tgid:"), None);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let mut process = Process::open(std::process::id()).expect("it is running");
        let files: Vec<_> = (0..5).map(|_| fs::File::open("/proc/self/stat")).collect();
        let sample = process.sample().expect("it is running");
        assert!(sample.rss_bytes > 1 << 20 && sample.threads >= 1, "{sample:?}");
        assert!(sample.pss_bytes.is_some_and(|pss| pss <= sample.rss_bytes + (8 << 20)));
        assert!(sample.descriptors.is_some_and(|count| count >= files.len() as u64));
    }

    #[test]
    fn what_is_no_process_is_refused_in_words() {
        let refusal = |pid| Process::open(pid).err().expect("it is refused");
        assert_eq!(refusal(u32::MAX), format!("no process has the pid {}", u32::MAX));
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        let pid = child.id();
        child.wait().expect("it ends");
        assert_eq!(refusal(pid), format!("no process has the pid {pid}"));
    }

    #[test]
    fn a_process_that_ends_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        let mut process = Process::open(child.id()).expect("it is running");
        assert!(process.sample().is_some());
        child.kill().expect("it is ours");
        // Not waited for yet: what is left of it is no process that could be sampled.
        while process.sample().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The system takes it apart bit by bit: it may still be on its way there.
        let has_ended = |error: String| error.contains("has ended");
        while !Process::open(child.id()).is_err_and(has_ended) {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().expect("it was killed");
    }

    #[test]
    fn a_reading_that_takes_long_is_taken_rarely() {
        assert_eq!(rest(Duration::from_millis(50)), Duration::from_secs(5));
        let mut process = Process::open(std::process::id()).expect("it is running");
        process.pss_rests_until = Some(Instant::now() + Duration::from_secs(3600));
        assert_eq!(process.sample().expect("it is running").pss_bytes, None);
    }
}
