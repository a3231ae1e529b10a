//! What happened to each message, packet by packet; kept only when a failure is told.

use ringmq::session::Time;
use ringmq::shard::Message;

/// Notes in order: when, about which message, what.
#[derive(Default)]
pub(crate) struct Life {
    notes: Option<Vec<(Time, Option<usize>, String)>>,
}

impl Life {
    /// Keeps what it is told.
    pub(crate) fn recorded() -> Self {
        Self { notes: Some(Vec::new()) }
    }

    pub(crate) fn note(
        &mut self,
        now: Time,
        message: Option<usize>,
        text: impl FnOnce() -> String,
    ) {
        if let Some(notes) = &mut self.notes {
            notes.push((now, message, text()));
        }
    }

    /// A message from shard to shard, if it carries a publish.
    pub(crate) fn note_message(&mut self, now: Time, from: usize, to: usize, message: &Message) {
        if self.notes.is_none() {
            return;
        }
        let (name, publications) = match message {
            Message::Publish { publication, .. } => ("Publish", std::slice::from_ref(publication)),
            Message::Deliver { publication, .. } => ("Deliver", std::slice::from_ref(publication)),
            Message::DeliverShared { publication, .. } => {
                ("DeliverShared", std::slice::from_ref(publication))
            }
            Message::Reassign { publication, .. } => {
                ("Reassign", std::slice::from_ref(publication))
            }
            Message::Replayed { publications, .. } => ("Replayed", publications.as_slice()),
            other => {
                let text = format!("{other:?}");
                let name = text.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
                return self.note(now, None, || format!("shard {from} -> shard {to}: {name}"));
            }
        };
        for publication in publications {
            let number = number_of(publication.payload());
            self.note(now, number, || format!("shard {from} -> shard {to}: {name}"));
        }
    }

    /// All that is known of one message, or the end of everything.
    pub(crate) fn of(&self, message: Option<usize>) -> String {
        let notes = self.notes.as_deref().unwrap_or_default();
        let is_about =
            |note: &&(Time, Option<usize>, String)| message.is_none() || note.1 == message;
        let lines: Vec<String> = notes
            .iter()
            .filter(is_about)
            .map(|(time, _, text)| format!("{:>9} ms  {text}", time.ms()))
            .collect();
        let shown = if message.is_some() { 400 } else { 60 };
        lines[lines.len().saturating_sub(shown)..].join("\n")
    }
}

/// Payloads begin with the number of their message.
pub(crate) fn number_of(payload: &[u8]) -> Option<usize> {
    let end = payload.iter().position(|byte| *byte == b' ')?;
    std::str::from_utf8(&payload[..end]).ok()?.parse().ok()
}

/// The payload of a message: its number, and as much more as it is to have.
pub(crate) fn payload_of(message: usize, size: usize) -> Vec<u8> {
    let mut payload = format!("{message} ").into_bytes();
    let padding = size.saturating_sub(payload.len());
    payload.resize(payload.len() + padding, b'a' + (message % 26) as u8);
    payload
}
