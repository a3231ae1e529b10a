//! Files that a test makes for the programs that it starts.

use std::fs::File;
use std::path::PathBuf;

/// A file in the temporary directory that is gone at the end of the test.
pub struct TempFile(PathBuf);

impl TempFile {
    /// `name` must be the only one of its kind in its test process.
    pub fn new(name: &str, contents: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("ringmq-{}-{name}", std::process::id()));
        std::fs::write(&path, contents).expect("the temporary directory can be written");
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the temporary directory has a name in UTF-8")
    }

    pub fn open(&self) -> File {
        File::open(&self.0).expect("it was written")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
