//! Why the broker does not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why the broker did not start, or ended before it was told to.
#[derive(Debug)]
pub enum ServerError {
    /// Something that every executor needs is not there.
    System(ringmq_io::Unmet),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// Signals cannot be received.
    Signals(io::Error),
    /// An executor did not start or died.
    Executor(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(unmet) => unmet.fmt(out),
            Self::Listen(address, error) => {
                write!(out, "cannot listen on {address}: {error}{}", remedy(*address, error))
            }
            Self::Signals(error) => write!(out, "cannot receive signals: {error}"),
            Self::Executor(error) => write!(out, "executor: {error}"),
        }
    }
}

impl std::error::Error for ServerError {}

/// What helps, where the system's words do not say it.
fn remedy(address: SocketAddr, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; a port below 1024 needs the capability CAP_NET_BIND_SERVICE (systemd: \
             AmbientCapabilities=CAP_NET_BIND_SERVICE) or the sysctl \
             net.ipv4.ip_unprivileged_port_start"
        }
        io::ErrorKind::AddrInUse => "; another program listens there",
        _ => "",
    }
}
