//! The deliberate faults that `scripts/mutation-check` puts into the broker still fit the source:
//! one that does not has to be made again, or it would prove nothing.

use std::fs;
use std::path::{Path, PathBuf};

use harness::fault::Fault;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The text of every Rust file below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let (folders, files): (Vec<_>, Vec<_>) =
        files(folder).into_iter().partition(|path| path.is_dir());
    let here = files.iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let below = folders.iter().flat_map(|folder| sources(folder));
    here.map(|path| fs::read_to_string(path).unwrap()).chain(below).collect()
}

fn expect_fit(folder: &str, count_min: usize) {
    let sources = sources(&root().join("src"));
    let faults = files(&root().join(folder));
    for path in &faults {
        let fault = Fault::parse(&fs::read_to_string(path).unwrap());
        if let Err(complaint) = fault.put_into(&mut sources.clone()) {
            panic!("{}: {complaint}", path.display());
        }
    }
    assert!(faults.len() >= count_min, "{} faults", faults.len());
}

#[test]
fn every_fault_fits_the_source() {
    expect_fit("tests/simulation/mutations", 72);
}

#[test]
fn every_fault_of_the_mesh_fits_the_source() {
    expect_fit("tests/loom/mutations", 10);
}

#[test]
fn a_text_that_does_not_occur_once_does_not_fit() {
    let fault = Fault::parse(
        "A sentence.\n\nthis:\n  one;\nbecomes:\n  two;\n  three;\n\nthis:\n  four;\nbecomes:\n",
    );
    let mut files = ["  zero;\n  one;\n", "  four;\n  five;\n"].map(str::to_owned);
    assert_eq!(fault.put_into(&mut files), Ok(()));
    assert_eq!(files, ["  zero;\n  two;\n  three;\n", "  five;\n"]);
    for text in ["", "  one;\n  one;\n  four;\n", "  one;\n"] {
        let complaint = fault.put_into(&mut [text.to_owned()]).unwrap_err();
        assert!(complaint.contains("not once"), "{complaint}");
    }
}
