//! The stamp at the head of every payload that this program publishes.
//!
//! A subscriber must learn everything it needs from the payload alone: which run, publisher and
//! topic it comes from, its place in that topic's sequence, when it should have been sent and
//! when it was. Times are nanoseconds since the monotonic base of this process.

/// Bytes of a stamp, hence the smallest `--payload`.
pub(crate) const STAMP_BYTES: usize = 40;

/// Set in the upper 16 bits of every run id, so that stray payloads are recognised as foreign.
const MAGIC: u64 = 0x524c << 48;

/// Tells this run's messages from those of other programs and of earlier runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RunId(u64);

impl RunId {
    /// Makes an id of the lower 48 bits of `random`.
    pub(crate) fn new(random: u64) -> Self {
        Self(MAGIC | (random & !(0xffff << 48)))
    }

    /// Returns eight characters for client ids and topics.
    pub(crate) fn short(self) -> String {
        format!("{:08x}", self.0 as u32)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) run: RunId,
    pub(crate) publisher: u32,
    /// Number of the topic among those of its publisher.
    pub(crate) topic: u32,
    /// Counts from 0 within one publisher and topic.
    pub(crate) sequence: u64,
    pub(crate) intended_ns: i64,
    pub(crate) sent_ns: i64,
}

impl Stamp {
    /// Writes the stamp over the first [`STAMP_BYTES`] bytes and leaves the rest as it is.
    pub(crate) fn write(&self, payload: &mut [u8]) {
        payload[0..8].copy_from_slice(&self.run.0.to_be_bytes());
        payload[8..12].copy_from_slice(&self.publisher.to_be_bytes());
        payload[12..16].copy_from_slice(&self.topic.to_be_bytes());
        payload[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        payload[24..32].copy_from_slice(&self.intended_ns.to_be_bytes());
        payload[32..40].copy_from_slice(&self.sent_ns.to_be_bytes());
    }

    /// Reads a stamp; `None` for a payload that another run or another program has published.
    pub(crate) fn read(payload: &[u8], run: RunId) -> Option<Self> {
        let (head, _) = payload.split_first_chunk::<STAMP_BYTES>()?;
        if u64_at(head, 0) != run.0 {
            return None;
        }
        let pair = u64_at(head, 8);
        Some(Self {
            run,
            publisher: (pair >> 32) as u32,
            topic: pair as u32,
            sequence: u64_at(head, 16),
            intended_ns: u64_at(head, 24) as i64,
            sent_ns: u64_at(head, 32) as i64,
        })
    }
}

fn u64_at(head: &[u8; STAMP_BYTES], at: usize) -> u64 {
    let bytes = head[at..at + 8].try_into().expect("eight bytes were cut out");
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            run: RunId::new(0xdead_beef_0123_4567),
            publisher: 7,
            topic: 9,
            sequence: 1 << 40,
            intended_ns: -5,
            sent_ns: i64::MAX,
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_padding_is_kept() {
        let mut payload = [0xaa; 64];
        stamp().write(&mut payload);
        assert_eq!(Stamp::read(&payload, stamp().run), Some(stamp()));
        assert!(payload[STAMP_BYTES..].iter().all(|&byte| byte == 0xaa));
    }

    #[test]
    fn payloads_of_others_are_foreign() {
        let mut payload = [0; STAMP_BYTES];
        stamp().write(&mut payload);
        assert_eq!(Stamp::read(&payload, RunId::new(1)), None);
        assert_eq!(Stamp::read(&payload[..STAMP_BYTES - 1], stamp().run), None);
        assert_eq!(Stamp::read(&[0; 64], RunId::new(0)), None, "zeroes are nobody's run");
    }

    #[test]
    fn the_short_form_names_the_run_in_eight_characters() {
        assert_eq!(RunId::new(0xab).short(), "000000ab");
    }
}
