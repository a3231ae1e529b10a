//! What a start needs: where that is not there the broker says so at once, with the remedy.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::broker::{Broker, program, wait_until};
use harness::client::Client;
use harness::files::TempFile;
use harness::program::skip;

/// A start takes or fails within this, on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command that is expected to end of itself.
fn output(command: &mut Command) -> Output {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("the broker can be started");
    assert!(begun.elapsed() < PATIENCE, "it took {:?}: {output:?}", begun.elapsed());
    output
}

#[track_caller]
fn refuses(command: &mut Command, parts: &[&str]) {
    let output = output(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Has a program be answered with `errno` when it sets up an io_uring, as the seccomp profiles of
/// container runtimes do it.
#[allow(unsafe_code, reason = "a filter is installed between fork and exec")]
fn forbid_io_uring(command: &mut Command, errno: i32) {
    let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let refused = libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
    let mut rules = [
        statement(0x20, 0, 0, 0),   // The number of the system call.
        statement(0x35, 0, 2, 425), // Below io_uring_setup,
        statement(0x25, 1, 0, 427), // or above io_uring_register:
        statement(0x06, 0, 0, refused),
        statement(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let filter = libc::sock_fprog { len: 5, filter: rules.as_mut_ptr() };
        // SAFETY: the kernel copies the rules, which live until then.
        let is_installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
                    == 0
        };
        if is_installed { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

fn one_core() -> Command {
    let mut command = Command::new(program());
    command.args(["--listen", "127.0.0.1:0", "--cores", "1"]);
    command
}

#[test]
fn without_io_uring_it_ends_at_once_and_names_the_remedy() {
    for (errno, remedy) in [
        (libc::EPERM, "seccomp=unconfined"),
        (libc::ENOSYS, "Linux 6.1"),
        (libc::EOPNOTSUPP, "cannot set up io_uring"),
    ] {
        let mut command = one_core();
        forbid_io_uring(&mut command, errno);
        refuses(&mut command, &["io_uring", remedy]);
    }
}

#[test]
fn with_little_memory_that_may_be_locked_it_ends_at_once() {
    let mut command = Command::new("prlimit");
    command.args(["--memlock=65536:65536"]).arg(program()).args(["--listen", "127.0.0.1:0"]);
    refuses(&mut command, &["only 64 KiB", "LimitMEMLOCK="]);
}

#[test]
fn soft_limits_are_raised_to_the_hard_ones() {
    let mut command = Command::new("prlimit");
    command.args(["--memlock=65536:1048576", "--nofile=100:3000"]).arg(program());
    let broker = Broker::spawn(command, &["--cores", "1", "--connection-count-max", "2500"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", broker.pid()));
    let limits = limits.expect("the broker is running");
    let soft = |name| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()).map(str::to_owned)
    };
    assert_eq!(soft("Max open files").as_deref(), Some("3000"));
    assert_eq!(soft("Max locked memory").as_deref(), Some("1048576"));
    let warned = |line: &String| line.contains("3000 descriptors") && line.contains("LimitNOFILE=");
    assert!(broker.log().iter().any(warned), "{:?}", broker.log());
}

#[test]
fn an_address_without_the_right_to_it_names_the_capability() {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_bind_service", "--inh-caps=-all"]).arg(program());
    command.args(["--cores", "1", "--listen", "127.0.0.1:1"]);
    let open: u16 = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|start| start.trim().parse().ok())
        .unwrap_or(0);
    assert!(open > 1, "every port is open to everybody here");
    refuses(&mut command, &["127.0.0.1:1", "CAP_NET_BIND_SERVICE"]);
}

#[test]
fn an_address_that_is_left_within_two_seconds_is_waited_for() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound");
    let leaving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        drop(taken);
    });
    let broker = Broker::start(&["--cores", "1", "--listen", &address.to_string()]);
    assert_eq!(broker.next_address(), address);
    leaving.join().expect("it does not fail");
}

/// The addresses that connections reach.
fn reached(broker: &Broker, count: usize) -> Vec<SocketAddr> {
    let addresses: Vec<_> = (0..count).map(|_| broker.next_address()).collect();
    for address in &addresses {
        let ip = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            std::net::IpAddr::V4(_) => [127, 0, 0, 1].into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        let mut client = Client::connect((ip, address.port()).into(), "CONNECT a");
        client.send("PINGREQ");
        client.expect("PINGRESP");
    }
    addresses
}

#[test]
fn localhost_and_every_address_are_of_both_versions_of_ip() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("this machine has IPv4 alone");
    }
    let broker = Broker::start(&["--cores", "1", "--listen", "localhost:0", "--listen", ":0"]);
    let addresses = reached(&broker, 4);
    assert_eq!(addresses[0].port(), addresses[1].port());
    assert_eq!(addresses[2].port(), addresses[3].port());
    let versions: Vec<bool> = addresses.iter().map(SocketAddr::is_ipv6).collect();
    assert_eq!(versions, [false, true, false, true]);
}

/// The blocks of a document that show a configuration file of the broker.
fn configurations(document: &str) -> Vec<String> {
    let blocks = document.split("```toml\n").skip(1);
    let bodies = blocks.filter_map(|block| block.split_once("```").map(|(body, _)| body));
    bodies.map(|body| body.replace(":1883", ":0")).collect()
}

#[test]
fn every_configuration_of_the_documents_starts() {
    let documents = [include_str!("../../README.md"), include_str!("../../ARCHITECTURE.md")];
    let all: Vec<String> = documents.iter().flat_map(|text| configurations(text)).collect();
    assert!(!all.is_empty());
    for (number, text) in all.iter().enumerate() {
        let file = TempFile::new(&format!("documented-{number}"), text.as_bytes());
        let mut command = Command::new(program());
        command.args(["--config", file.path()]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the broker can be started");
        let said = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line);
        child.kill().expect("it is running");
        child.wait().expect("it was started here");
        assert!(read.is_ok() && line.starts_with("listening on"), "{line:?}: {text}");
    }
}

fn signal(broker: &Broker, name: &str) {
    let pid = broker.pid().to_string();
    let status = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(status.expect("kill(1) is there").success());
}

#[test]
fn sigusr1_logs_the_counters_and_sighup_ends_nothing() {
    let broker = Broker::start(&["--cores", "2"]);
    let mut client = Client::connect(broker.address, "CONNECT a");
    client.send("PUBLISH t q1 id=1 hi");
    client.expect("PUBACK id=1");
    signal(&broker, "HUP");
    signal(&broker, "USR1");
    let is_told =
        |line: &String| line.contains("counters:") && line.contains("publishes_received_qos1=1");
    assert!(wait_until(PATIENCE, || broker.log().iter().any(is_told)), "{:?}", broker.log());
    assert!(broker.log().iter().any(|line| line.contains("SIGHUP")));
    client.send("PINGREQ");
    client.expect("PINGRESP");
    assert!(TcpStream::connect(broker.address).is_ok());
}
