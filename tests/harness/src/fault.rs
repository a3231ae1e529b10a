//! Deliberate faults: a sentence, and pairs of a text of the broker's source and what it becomes.
//! CONTRIBUTING.md describes how they are written.

/// A deliberate fault.
pub struct Fault {
    /// Texts of the source, each with what it becomes, in the order in which they change.
    pairs: Vec<(String, String)>,
}

impl Fault {
    /// Reads the text of a fault.
    ///
    /// # Panics
    /// If it changes nothing, or a pair lacks one of its texts.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split("\nthis:\n").skip(1).map(pair).collect::<Vec<_>>();
        assert!(!pairs.is_empty(), "it changes nothing");
        Self { pairs }
    }

    /// Puts the fault into source files.
    ///
    /// # Errors
    /// A text that does not occur exactly once in all of them.
    pub fn put_into(&self, files: &mut [String]) -> Result<(), String> {
        for (this, becomes) in &self.pairs {
            let count: usize = files.iter().map(|file| file.matches(this).count()).sum();
            if count != 1 {
                return Err(format!("this occurs {count} times, not once:\n{this}"));
            }
            let file = files.iter_mut().find(|file| file.contains(this)).expect("it occurs once");
            *file = file.replace(this, becomes);
        }
        Ok(())
    }
}

/// Splits a pair, which begins behind its `this:`.
fn pair(text: &str) -> (String, String) {
    let text = format!("{text}\n");
    let (this, becomes) = text.split_once("\nbecomes:\n").expect("a pair says what this becomes");
    (whole_lines(this), whole_lines(becomes))
}

/// Leaves out the empty lines around a text.
fn whole_lines(text: &str) -> String {
    match text.trim_matches('\n') {
        "" => String::new(),
        lines => format!("{lines}\n"),
    }
}
