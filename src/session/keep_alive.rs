//! The time a client may be silent.

use std::time::Duration;

use super::Time;

/// Closes a connection that was silent for one and a half times its keep-alive
/// [MQTT-3.1.2-24]. A keep-alive of zero turns it off.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    seconds: u16,
    heard: Time,
}

impl KeepAlive {
    /// Starts at `now`.
    #[must_use]
    pub fn new(seconds: u16, now: Time) -> Self {
        Self { seconds, heard: now }
    }

    /// Something came from the client.
    pub fn handle_bytes(&mut self, now: Time) {
        self.heard = now;
    }

    /// When the silence has lasted too long, unless something comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let limit = Duration::from_millis(u64::from(self.seconds) * 1500);
        (self.seconds > 0).then(|| self.heard + limit)
    }
}
