//! The configuration file: any text is refused with a place in it, or taken and printed back.

use ringmq::config::{Config, FileError, FileErrors};

/// What is taken reads back the same from what is printed; what is refused has a place and a
/// message.
pub fn config_file(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let mut config = Config::default();
    match config.apply_toml("fuzz.toml", source) {
        Ok(()) => {
            let mut again = Config::default();
            again.apply_toml("printed.toml", &config.to_toml()).expect("what is printed is valid");
            assert_eq!(again, config, "{source}");
        }
        Err(FileErrors(errors)) => {
            assert!(!errors.is_empty());
            errors.iter().for_each(|error| has_a_place(error, source));
        }
    }
}

fn has_a_place(error: &FileError, source: &str) {
    let lines = source.matches('\n').count() + 1;
    assert!((1..=lines).contains(&error.line), "{error}: {source:?}");
    let line = source.split('\n').nth(error.line - 1).expect("it is one of the lines");
    // The end of the text is a place, too, and so is the end of a line with its CR.
    assert!((1..=line.chars().count() + 2).contains(&error.column), "{error}: {source:?}");
    assert!(!error.message.is_empty());
}
