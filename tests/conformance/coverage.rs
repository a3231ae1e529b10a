//! Holds the table against the list of clauses: nothing is left out without a reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::{FILES, directory, read_script};

/// `MQTT-x.y.z-n` followed by words, one a line, as in `clauses.txt` and `not-testable.txt`.
fn labelled_lines(file: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(directory().join(file)).expect(file);
    let lines = text.lines().filter(|line| line.starts_with("MQTT-"));
    lines
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(label, words)| (label.to_owned(), words.trim().to_owned()))
        .collect()
}

/// One version of the specification: its clauses, those without a case, and its part of the table.
struct Edition {
    clauses: &'static str,
    excused: &'static str,
    folder: &'static str,
}

const EDITIONS: [Edition; 2] = [
    Edition { clauses: "clauses.txt", excused: "not-testable.txt", folder: "" },
    Edition { clauses: "clauses-v5.txt", excused: "not-testable-v5.txt", folder: "v5/" },
];

impl Edition {
    fn files(&self) -> impl Iterator<Item = &'static str> {
        let files = FILES.iter().copied();
        files.filter(|file| file.rfind('/').map_or("", |at| &file[..=at]) == self.folder)
    }

    fn labels_in_cases(&self) -> BTreeSet<String> {
        let scripts = self.files().map(read_script);
        scripts.flat_map(|script| script.cases).flat_map(|case| case.labels).collect()
    }
}

#[test]
fn every_clause_has_a_case_or_a_reason() {
    for edition in EDITIONS {
        let clauses = labelled_lines(edition.clauses);
        let excused = labelled_lines(edition.excused);
        let tested = edition.labels_in_cases();
        let missing: Vec<_> = clauses
            .keys()
            .filter(|label| !tested.contains(*label) && !excused.contains_key(*label))
            .collect();
        assert!(missing.is_empty(), "clauses without a case or a reason: {missing:?}");
        let needless: Vec<_> = excused.keys().filter(|label| tested.contains(*label)).collect();
        assert!(needless.is_empty(), "excused, but there is a case: {needless:?}");
        let silent: Vec<_> = excused.iter().filter(|(_, reason)| reason.is_empty()).collect();
        assert!(silent.is_empty(), "excused without a reason: {silent:?}");
    }
}

#[test]
fn every_label_is_a_clause() {
    for edition in EDITIONS {
        let clauses = labelled_lines(edition.clauses);
        let mut used = edition.labels_in_cases();
        used.extend(labelled_lines(edition.excused).into_keys());
        let unknown: Vec<_> = used.iter().filter(|label| !clauses.contains_key(*label)).collect();
        assert!(unknown.is_empty(), "labels that the specification does not have: {unknown:?}");
    }
}

#[test]
fn every_file_of_the_table_is_run() {
    for edition in EDITIONS {
        let entries = std::fs::read_dir(directory().join(edition.folder)).expect("it is there");
        let names = entries.map(|entry| entry.expect("it can be read").file_name());
        let on_disk: BTreeSet<String> = names
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.ends_with(".txt") && name.starts_with(char::is_uppercase))
            .map(|name| format!("{}{name}", edition.folder))
            .collect();
        let listed = edition.files().map(str::to_owned).collect();
        assert_eq!(on_disk, listed);
    }
}

#[test]
fn every_case_has_a_name_of_its_own_and_steps() {
    let mut names = BTreeSet::new();
    for case in FILES.iter().flat_map(|file| read_script(file).cases) {
        assert!(!case.steps.is_empty(), "{} has no steps", case.name);
        assert!(names.insert(case.name.clone()), "two cases are called {}", case.name);
    }
}
