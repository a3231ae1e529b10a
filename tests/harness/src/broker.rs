//! The broker as a process: started on a port of its own, stopped and judged at the end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the broker may take to start or to stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same once the test has failed.
const PATIENCE_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// How long the end of a log may take once its writer has ended.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// A running broker. Dropping it asks it to stop and fails the test if it does not exit with 0.
pub struct Broker {
    child: Child,
    /// Where the first listener is.
    pub address: SocketAddr,
    /// Lines of standard output that were not read yet.
    said: Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    log_reader: Option<JoinHandle<()>>,
    /// Whether a test has taken the exit status and judges it itself.
    judged: bool,
}

/// Returns the program under test. Cargo builds it for the tests, a folder above them.
pub fn program() -> PathBuf {
    let built = || {
        let test = std::env::current_exe().expect("a test knows its own program");
        test.ancestors().nth(2).expect("it lies in a folder of the target").join("ringmq")
    };
    std::env::var_os("RINGMQ_TEST_PROGRAM").map_or_else(built, PathBuf::from)
}

/// Whether another broker stands in for ringmq.
pub fn is_stand_in() -> bool {
    std::env::var_os("RINGMQ_TEST_PROGRAM").is_some()
}

impl Broker {
    /// Starts the broker with these arguments on a free port of the loopback interface.
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(program()), arguments)
    }

    /// The same with at most this many file descriptors.
    pub fn start_with_descriptors(count: u32, arguments: &[&str]) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={count}:{count}")).arg(program());
        Self::spawn(command, arguments)
    }

    /// The same with a limit of its address space, in bytes.
    pub fn start_with_address_space(bytes: u64, arguments: &[&str]) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={bytes}")).arg(program());
        Self::spawn(command, arguments)
    }

    /// The same with a log that nothing reads any more once the broker has started.
    pub fn start_unread(arguments: &[&str]) -> Self {
        Self::launch(Command::new(program()), arguments, false)
    }

    /// Starts what a command begins with.
    pub fn spawn(command: Command, arguments: &[&str]) -> Self {
        Self::launch(command, arguments, true)
    }

    fn launch(mut command: Command, arguments: &[&str], is_log_read: bool) -> Self {
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut stderr = child.stderr.take();
        let read = stderr.take_if(|_| is_log_read);
        let log_reader = read.map(|stderr| collect_lines(stderr, Arc::clone(&log)));
        let said = lines_of(child.stdout.take().expect("it is piped"));
        let Some(address) = listening_address(&said) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the broker did not say where it listens; its log: {:#?}", lock(&log));
        };
        drop(stderr); // Only now, so that a broker that cannot start can say why.
        Self { child, address, said, log, log_reader, judged: false }
    }

    /// Where the next listener is, if there are several.
    pub fn next_address(&self) -> SocketAddr {
        listening_address(&self.said).expect("the broker says where each listener is")
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines that the broker has logged so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Whether the process has neither ended nor begun to.
    pub fn is_running(&self) -> bool {
        self.kib_of("VmRSS:").is_some()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.kib_of("VmRSS:").expect("the broker is running") * 1024
    }

    /// The most that it has ever been.
    pub fn peak_bytes(&self) -> u64 {
        self.kib_of("VmHWM:").expect("the broker is running") * 1024
    }

    /// Limits the address space of the process to this many bytes more than it has.
    pub fn limit_address_space(&self, room_bytes: u64) {
        let bytes = self.kib_of("VmSize:").expect("the broker is running") * 1024 + room_bytes;
        let arguments = [format!("--pid={}", self.pid()), format!("--as={bytes}:{bytes}")];
        let status = Command::new("prlimit").args(arguments).status();
        assert!(status.expect("prlimit(1) is there").success(), "cannot limit the broker");
    }

    /// A line of the process's status file, see proc(5).
    fn kib_of(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// How long each thread of the broker has had a processor.
    pub fn cpu_times(&self) -> CpuTimes {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let tasks = tasks.expect("the broker is running").map_while(Result::ok);
        let time = |task: std::fs::DirEntry| {
            let said = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let nanoseconds = said.split_whitespace().next()?.parse().ok()?;
            Some((task.file_name(), Duration::from_nanos(nanoseconds)))
        };
        CpuTimes(tasks.filter_map(time).collect())
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()
            .expect("kill(1) is there");
        assert!(status.success(), "cannot signal the broker");
    }

    /// Sends this signal, waits for the end, and gives the exit status and the whole log.
    pub fn stop(mut self, signal: &str) -> (ExitStatus, Vec<String>) {
        self.signal(signal);
        self.judged = true;
        let status = self.wait();
        (status, self.log())
    }

    fn wait(&mut self) -> ExitStatus {
        let patience = if thread::panicking() { PATIENCE_AFTER_FAILURE } else { PATIENCE };
        let status = wait_for(&mut self.child, patience).unwrap_or_else(|| {
            let _ = self.child.kill();
            eprintln!("the broker did not end within {patience:?} of the signal, and was killed");
            self.child.wait().expect("a killed process ends")
        });
        if let Some(reader) = self.log_reader.take() {
            let is_over = wait_until(LOG_PATIENCE, || reader.is_finished());
            assert!(is_over || thread::panicking(), "the log of the broker never ends");
        }
        if status.success() && !thread::panicking() {
            self.expect_balance();
        }
        status
    }

    /// At its end the broker says what it has counted: every delivery is accounted for. In a debug
    /// build each of its shards has looked for itself, and has panicked if that was not so.
    fn expect_balance(&self) {
        let log = self.log();
        let Some(line) = log.iter().find_map(|line| line.split_once("stopped: ")) else { return };
        let of = |kind: &str| -> u64 {
            let figures = line.1.split(' ').filter_map(|figure| figure.split_once('='));
            let named = figures.filter(|(name, _)| name.starts_with(kind));
            named.map(|(_, value)| value.parse::<u64>().expect("a figure is a number")).sum()
        };
        let accounted = ["completed", "queued", "in_flight", "dropped_"]
            .map(|kind| of(&format!("deliveries_{kind}")))
            .into_iter()
            .sum::<u64>();
        assert_eq!(of("deliveries_matched"), accounted, "deliveries matched and accounted for");
    }
}

/// What threads had of the processors at one moment.
pub struct CpuTimes(BTreeMap<OsString, Duration>);

impl CpuTimes {
    /// What the busiest thread has had since: time in which another process had the processor
    /// does not count.
    pub fn most_until(&self, later: &Self) -> Duration {
        let before = |thread: &OsString| self.0.get(thread).copied().unwrap_or_default();
        let spent = later.0.iter().map(|(thread, time)| time.saturating_sub(before(thread)));
        spent.max().unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.judged {
            return;
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
        }
        let status = self.wait();
        if thread::panicking() {
            eprintln!("the broker ended with {status}; its log:\n{}", self.log().join("\n"));
        } else {
            assert!(status.success(), "the broker ended with {status}: {:#?}", self.log());
        }
    }
}

/// Waits for the end of a process, at most this long.
pub fn wait_for(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let mut status = None;
    wait_until(patience, || {
        status = child.try_wait().expect("it is our child");
        status.is_some()
    });
    status
}

/// Waits until something is so, at most this long; whether it is.
pub fn wait_until(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

fn listening_address(said: &Receiver<String>) -> Option<SocketAddr> {
    let line = said.recv_timeout(PATIENCE).ok()?;
    let address = line.strip_prefix("listening on ");
    let address = address.and_then(|address| address.parse().ok());
    Some(address.unwrap_or_else(|| panic!("expected `listening on ADDRESS:PORT`, got {line:?}")))
}

/// The lines of a stream as they come, read by a thread so that its writer never has to wait.
pub fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

fn collect_lines(
    stream: impl Read + Send + 'static,
    into: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lock(&into).push(line);
        }
    })
}

fn lock(lines: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    lines.lock().expect("a thread that holds this lock only pushes")
}
