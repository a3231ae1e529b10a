//! Facts about this machine and this process: what it is, what it has used, and which of its
//! limits was hit.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Descriptors that the process needs besides its connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// Where the measurement was made.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu_model: String,
    /// Cores of the machine.
    pub(crate) core_count: usize,
    /// Cores that this process may use (affinity, cgroup).
    pub(crate) allowed_core_count: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) operating_system: String,
    /// "reno", "cubic", "bbr": decides how a burst leaves.
    pub(crate) tcp_congestion_control: String,
    /// Of the last minute, when the run began: what else the machine was doing.
    pub(crate) load_average: Option<f64>,
}

impl Machine {
    pub(crate) fn detect() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            kernel: read_trimmed("/proc/sys/kernel/osrelease"),
            cpu_model: cpu_model(&cpuinfo),
            core_count: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            allowed_core_count: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(&read_trimmed("/proc/meminfo")),
            operating_system: operating_system(&read_trimmed("/etc/os-release")),
            tcp_congestion_control: read_trimmed("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_average: first_number(&read_trimmed("/proc/loadavg")),
        }
    }
}

/// CPU seconds of all cores since the machine was started.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct MachineTimes {
    pub(crate) busy_s: f64,
    /// The hypervisor ran other machines while this one wanted to run (steal time).
    pub(crate) stolen_s: f64,
    pub(crate) total_s: f64,
}

impl MachineTimes {
    pub(crate) fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line: cpu user nice system idle iowait irq softirq steal guest guest_nice.
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
        let [user, nice, system, idle, iowait, irq, softirq, stolen] = *ticks.first_chunk()?;
        let busy = user + nice + system + irq + softirq;
        let seconds = |ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            busy_s: seconds(busy),
            stolen_s: seconds(stolen),
            total_s: seconds(busy + stolen + idle + iowait),
        })
    }
}

/// Returns the CPU seconds that the calling thread has used so far.
pub(crate) fn thread_cpu_s() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// Returns the CPU seconds that the whole process has used so far.
pub(crate) fn process_cpu_s() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds that the calling thread was ready to run and had to wait for a core; `None` where the
/// kernel does not tell.
pub(crate) fn thread_wait_s() -> Option<f64> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let wait_ns: u64 = schedstat.split_whitespace().nth(1)?.parse().ok()?;
    Some(wait_ns as f64 / 1e9)
}

/// Raises the soft limit of open files as far as `connection_count` connections need it.
///
/// # Errors
/// What to do, when the hard limit is too low.
pub(crate) fn allow_connections(connection_count: u64) -> Result<(), String> {
    let wanted = connection_count + SPARE_DESCRIPTORS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(open_files_advice(wanted));
    }
    let limit = Rlimit { current: Some(wanted), maximum };
    setrlimit(Resource::Nofile, limit).map_err(|_| open_files_advice(wanted))
}

/// Whether there are ports for `connection_count` connections to one broker.
///
/// # Errors
/// What to do, when there are not.
pub(crate) fn allow_ports(connection_count: u64, source_count: usize) -> Result<(), String> {
    let range = read_trimmed("/proc/sys/net/ipv4/ip_local_port_range");
    let sources = source_count.max(1) as u64;
    match port_count(&range) {
        Some(ports) if ports * sources < connection_count => Err(format!(
            "{connection_count} connections need more ports than there are: {}; or connect from \
             {} addresses with --source-ips",
            ports_advice(),
            connection_count.div_ceil(ports)
        )),
        _ => Ok(()),
    }
}

/// Explains an error of the system that means "a limit was hit": which one, what it is now, and
/// the command that raises it. `None` for other errors.
pub(crate) fn explain_limit(error: &io::Error, connection_count: u64) -> Option<String> {
    let errno = rustix::io::Errno::from_io_error(error)?;
    match errno {
        rustix::io::Errno::MFILE => Some(open_files_advice(connection_count + SPARE_DESCRIPTORS)),
        rustix::io::Errno::NFILE => Some(system_files_advice()),
        rustix::io::Errno::ADDRNOTAVAIL => Some(ports_advice()),
        rustix::io::Errno::NOMEM => Some(locked_memory_advice()),
        _ => None,
    }
}

fn open_files_advice(wanted: u64) -> String {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    format!(
        "too few open files: {wanted} are needed, the limit is {} (hard limit {}); raise it with \
         `ulimit -n {wanted}`, for a hard limit as root, or LimitNOFILE= in a systemd unit",
        limit(current),
        limit(maximum)
    )
}

fn system_files_advice() -> String {
    format!(
        "the system has no more open files: fs.file-max is {}; raise it with \
         `sudo sysctl -w fs.file-max=4000000`",
        read_trimmed("/proc/sys/fs/file-max")
    )
}

fn ports_advice() -> String {
    let range = read_trimmed("/proc/sys/net/ipv4/ip_local_port_range");
    format!(
        "no local port is left for another connection to this broker: \
         net.ipv4.ip_local_port_range is {range}{}; widen it with \
         `sudo sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, or use more --source-ips",
        port_count(&range).map_or_else(String::new, |count| format!(" ({count} ports)"))
    )
}

fn locked_memory_advice() -> String {
    format!(
        "the kernel refused memory, most likely locked memory for io_uring: the limit is {} \
         bytes; raise it with `ulimit -l unlimited` as root, or use fewer --cores",
        limit(getrlimit(Resource::Memlock).current)
    )
}

fn limit(value: Option<u64>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

/// "32768 60999" -> 28232.
fn port_count(range: &str) -> Option<u64> {
    let mut bounds = range.split_whitespace().map(str::parse::<u64>);
    let (low, high) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    Some(high.checked_sub(low)? + 1)
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(':')).map(|(_, model)| model.trim());
    model.unwrap_or("unknown").to_owned()
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn operating_system(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or("unknown", |name| name.trim_matches('"')).to_owned()
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

fn read_trimmed(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_cpu_model() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Best CPU @ 3 GHz\n"),
            "Best CPU @ 3 GHz"
        );
        assert_eq!(cpu_model(""), "unknown");
    }

    #[test]
    fn reads_the_memory_and_the_system() {
        let meminfo = "MemTotal:        2048 kB\nMemFree: 7 kB\n";
        assert_eq!(memory_bytes(meminfo), Some(2 << 20));
        assert_eq!(memory_bytes("unknown"), None);
        assert_eq!(operating_system("ID=x\nPRETTY_NAME=\"Best Linux 12\"\n"), "Best Linux 12");
        assert_eq!(first_number("0.25 0.50 0.75 1/234 5"), Some(0.25));
    }

    #[test]
    fn times_of_the_machine_are_sums() {
        let stat = "cpu  100 100 100 500 100 50 50 200 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let times = MachineTimes::parse(stat).expect("complete");
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!((times.busy_s * ticks, times.stolen_s * ticks), (400.0, 200.0));
        assert_eq!(times.total_s * ticks, 1200.0);
        assert_eq!(MachineTimes::parse("cpu  1 2"), None);
    }

    #[test]
    fn counts_ports() {
        assert_eq!(port_count("32768\t60999"), Some(28_232));
        assert_eq!(port_count("unknown"), None);
    }

    #[test]
    fn a_limit_is_named_with_its_value_and_the_command_that_raises_it() {
        let advice = |errno| explain_limit(&io::Error::from_raw_os_error(errno), 100_000);
        let files = advice(24).expect("EMFILE is a limit");
        assert!(files.contains("100064") && files.contains("ulimit -n"), "{files}");
        let ports = advice(99).expect("EADDRNOTAVAIL is a limit");
        assert!(ports.contains("ip_local_port_range"), "{ports}");
        assert_eq!(advice(111), None, "refused is no limit");
    }

    #[test]
    fn impossible_numbers_of_connections_are_refused_beforehand() {
        assert_eq!(allow_connections(1), Ok(()));
        assert!(allow_connections(1 << 40).is_err_and(|advice| advice.contains("ulimit -n")));
    }

    #[test]
    fn ports_are_counted_per_source_address() {
        assert_eq!(allow_ports(100, 0), Ok(()));
        assert_eq!(allow_ports(1_000_000, 1000), Ok(()));
        let advice = allow_ports(1_000_000, 1).expect_err("nobody has so many ports");
        assert!(advice.contains("ip_local_port_range") && advice.contains("--source-ips"));
    }

    #[test]
    fn cpu_time_advances() {
        let before = thread_cpu_s();
        let mut sum = 0u64;
        while thread_cpu_s() - before < 0.002 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(process_cpu_s() >= thread_cpu_s() - before);
    }
}
