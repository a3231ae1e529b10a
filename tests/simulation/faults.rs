//! The deliberate faults that `scripts/mutation-check` puts into the broker still fit the source:
//! one that does not has to be made anew, or it would prove nothing.

use std::fs;
use std::path::Path;

/// A hunk: the file, and the text that it replaces.
fn hunks(patch: &str) -> Vec<(String, String)> {
    let mut file = String::new();
    let mut hunks: Vec<(String, String)> = Vec::new();
    for line in patch.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("+++ b/") {
            name.trim().clone_into(&mut file);
        } else if line.starts_with("@@") {
            hunks.push((file.clone(), String::new()));
        } else if let (Some((_, before)), [b' ' | b'-', ..]) = (hunks.last_mut(), line.as_bytes())
            && !line.starts_with("--- a/")
        {
            before.push_str(&line[1..]);
        }
    }
    hunks
}

#[test]
fn every_fault_fits_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = fs::read_dir(root.join("tests/simulation/mutations")).unwrap();
    let mut count = 0;
    for entry in folder {
        let path = entry.unwrap().path();
        let hunks = hunks(&fs::read_to_string(&path).unwrap());
        assert!(!hunks.is_empty(), "{} changes nothing", path.display());
        for (file, before) in hunks {
            let source = fs::read_to_string(root.join(&file)).unwrap();
            let places = source.matches(&before).count();
            assert_eq!(places, 1, "{}: make it anew for {file}", path.display());
        }
        count += 1;
    }
    assert!(count >= 15, "{count} faults");
}
