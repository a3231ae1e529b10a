//! How an executor that sleeps learns that something has happened to its sockets.
#![allow(unsafe_code, reason = "glommio takes descriptors only as numbers")]

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use glommio::io::BufferedFile;

/// Bytes that are read from an event descriptor.
const COUNTER_BYTES: usize = 8;

/// An event descriptor, as [`Sockets::wakeup`](super::Sockets::wakeup) gives it, that glommio
/// waits for.
#[derive(Debug)]
pub struct Wakeup {
    file: BufferedFile,
}

impl Wakeup {
    /// Takes the descriptor over on the executor that this is called on.
    #[must_use]
    pub fn new(descriptor: OwnedFd) -> Self {
        // SAFETY: the descriptor is open and from here on the file is its only owner.
        Self { file: unsafe { BufferedFile::from_raw_fd(descriptor.into_raw_fd()) } }
    }

    /// Waits until something has happened since the last call.
    ///
    /// # Errors
    /// What the system says; there is no use in waiting again.
    pub async fn wait(&self) -> io::Result<()> {
        self.file.read_at(0, COUNTER_BYTES).await?;
        Ok(())
    }
}
