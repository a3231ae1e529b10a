//! The check of commit messages, run against repositories that are made for it.

#![cfg(feature = "server")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::program::are_here;

const GOOD: &str = "shard: hold back a publish\n\nIt came before an earlier one.\n";

/// A repository with a commit that the rules do not hold for; gone at the end of the test.
struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// Makes a repository; returns none, and skips the test, if a program is missing.
    fn new(name: &str) -> Option<Self> {
        if !are_here(&["git", "python3"]) {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("commits-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("src/shard")).expect("target can be written");
        std::fs::write(folder.join("src/shard/mod.rs"), "").expect("the folder was made");
        let repository = Self { folder };
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository.git(&["add", "."]);
        repository.commit("Everything that was there before.");
        repository.git(&["tag", "base"]);
        Some(repository)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env_remove("CI");
        for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
            command.env_remove(name);
        }
        command
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = self.command(Path::new("git"));
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgSign=false"]);
        let output = command.args(arguments).output().expect("git can be started");
        assert!(output.status.success(), "git {arguments:?}: {}", text(&output));
    }

    fn commit(&self, message: &str) {
        self.git(&["commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-m", message]);
    }

    /// Runs the script; returns whether it succeeds, and its output.
    fn check(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.command(&script("check-commits")).args(arguments).output();
        let output = output.expect("the script can be started");
        (output.status.success(), text(&output))
    }

    /// Runs the hook on a message; returns whether it accepts the message, and its output.
    fn hook(&self, message: &str) -> (bool, String) {
        let file = self.folder.join("message");
        std::fs::write(&file, message).expect("the folder was made");
        let output = self.command(&script("hooks/commit-msg")).arg(file).output();
        let output = output.expect("the hook can be started");
        (output.status.success(), text(&output))
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn good_messages_pass() {
    let Some(repository) = Repository::new("good") else { return };
    for message in [
        GOOD,
        "docs: say what a home is",
        "shard, tests: process what is left",
        "build: need Linux 6.1",
        "tests: look at QoS 2, too",
    ] {
        let (is_taken, said) = repository.hook(message);
        // The folder tests is not in this repository.
        assert_eq!(is_taken, !message.contains("tests"), "{message}: {said}");
    }
    std::fs::create_dir(repository.folder.join("tests")).expect("the folder was made");
    std::fs::write(repository.folder.join("tests/tidy.rs"), "").expect("the folder was made");
    repository.git(&["add", "tests"]);
    for area in ["tests", "tidy"] {
        let (is_taken, said) = repository.hook(&format!("{area}: look at QoS 2, too"));
        assert!(is_taken, "a folder that is staged: {said}");
    }
}

#[test]
fn bad_messages_are_refused_with_the_reason() {
    let Some(repository) = Repository::new("bad") else { return };
    let long_subject = format!("shard: hold {}", "x".repeat(60));
    let long_line = format!("{GOOD}\n{}\n", "x ".repeat(60));
    for (message, reason) in [
        ("", "not of the form"),
        ("Hold back a publish", "not of the form"),
        ("Shard: hold back a publish", "not of the form"),
        ("shard hold back a publish", "not of the form"),
        ("novelty: hold back a publish", "novelty is no area"),
        ("shard, novelty: hold back a publish", "novelty is no area"),
        ("shard: held, and fixed.", "full stop"),
        ("shard: fixed a wake", "imperative"),
        ("shard: fixing a wake", "imperative"),
        ("shard: fixes a wake", "imperative"),
        ("shard: Fix a wake", "imperative"),
        ("shard: hold back\nmore", "second line"),
        (&long_subject, "60 at most"),
        (&long_line, "more than 100 columns"),
    ] {
        let (is_taken, said) = repository.hook(message);
        assert!(!is_taken && said.contains(reason), "{message}: {said}");
    }
}

#[test]
fn a_message_is_read_as_git_will_keep_it() {
    let Some(repository) = Repository::new("comments") else { return };
    let cut = "# ------------------------ >8 ------------------------";
    let message = format!("\n{GOOD}# {}\n{cut}\n{}\n", "x".repeat(120), "+".repeat(120));
    let (is_taken, said) = repository.hook(&message);
    assert!(is_taken, "{said}");
    let (is_taken, said) = repository.hook("fixup! shard: hold back a publish that is too early");
    assert!(is_taken, "{said}");
}

#[test]
fn commits_after_the_base_are_checked_and_no_others() {
    let Some(repository) = Repository::new("range") else { return };
    repository.commit(GOOD);
    let (is_good, said) = repository.check(&["--base", "base"]);
    assert!(is_good && said.contains("1 commit messages checked"), "{said}");
    repository.commit("shard: fixes a wake");
    repository.commit(GOOD);
    let (is_good, said) = repository.check(&["--base", "base"]);
    assert!(!is_good && said.contains("shard: fixes a wake: fixes: begin with"), "{said}");
    let (is_good, said) = repository.check(&["HEAD~1..HEAD"]);
    assert!(is_good && said.contains("1 commit messages checked"), "{said}");
}

#[test]
fn a_merge_is_refused() {
    let Some(repository) = Repository::new("merge") else { return };
    repository.git(&["checkout", "--quiet", "-b", "side"]);
    repository.commit("shard: hold back nothing else");
    repository.git(&["checkout", "--quiet", "main"]);
    repository.commit(GOOD);
    repository.git(&["merge", "--quiet", "--no-ff", "-m", "shard: merge the side", "side"]);
    let (is_good, said) = repository.check(&["--base", "base"]);
    assert!(!is_good && said.contains("a merge commit"), "{said}");
}

#[test]
fn a_shallow_clone_is_checked_as_far_as_it_goes() {
    let Some(repository) = Repository::new("origin") else { return };
    let base = std::fs::read_to_string(repository.folder.join(".git/refs/tags/base"));
    let base = base.expect("it was tagged").trim().to_owned();
    repository.commit(GOOD);
    repository.commit("shard: fixes a wake");
    repository.commit(GOOD);
    let origin = format!("file://{}", repository.folder.display());
    for (depth, is_expected) in [("1", true), ("2", false)] {
        let Some(clone) = Repository::new(&format!("shallow-{depth}")) else { return };
        let _ = std::fs::remove_dir_all(&clone.folder);
        repository.git(&[
            "clone",
            "--quiet",
            "--no-tags",
            "--depth",
            depth,
            &origin,
            &clone.folder.to_string_lossy(),
        ]);
        let (is_good, said) = clone.check(&["--base", &base]);
        assert_eq!(is_good, is_expected, "depth {depth}: {said}");
        assert!(said.contains("the clone ends after"), "{said}");
        assert!(said.contains(&format!("{depth} commit messages checked")), "{said}");
    }
}

#[test]
fn a_history_without_the_base_is_said_and_fails_in_ci() {
    let Some(repository) = Repository::new("stranger") else { return };
    let (is_good, said) = repository.check(&[]);
    assert!(is_good && said.contains("NOT CHECKED: commit messages"), "{said}");
    let output = repository.command(&script("check-commits")).env("CI", "true").output();
    let output = output.expect("the script can be started");
    assert!(!output.status.success() && text(&output).contains("NOT CHECKED"), "{output:?}");
}
