//! The fence for the English of comments: phrases that a reader has to translate. CONTRIBUTING.md
//! has the rules, with examples.
//!
//! `english.txt` lists how many of them each file had before the rules: a number may only fall.

use std::collections::BTreeMap;

use super::Complaints;
use super::source::Source;

/// Phrases, and what to write instead; `*` stands for any one word.
const BANNED: &[(&str, &str)] = &[
    ("who", "name the client, the program or the value"),
    ("whom", "name the client, the program or the value"),
    ("whoever", "name the client, the program or the value"),
    ("nobody", "no client, no caller, nothing"),
    ("somebody", "name the client, the program or the value"),
    ("anybody", "any client, any caller"),
    ("everybody", "every client, every caller"),
    ("so many", "this many"),
    ("so much", "this much"),
    ("anew", "again"),
    ("goes over", "overrides"),
    ("go over", "override"),
    ("is told", "is known, is passed, is distinguished"),
    ("are told", "are known, are passed, are distinguished"),
    ("has * follow", "schedules, causes"),
    ("has * * follow", "schedules, causes"),
    ("have * * follow", "schedule, cause"),
    ("but for", "except for"),
    ("of the kind", "name the kind"),
];

/// Captions that say nothing about the value below them.
const CAPTIONS: &[&str] = &["Whose.", "What.", "Which."];

/// A phrase that was found: its line, and what is wrong with it.
type Found = (usize, String);

/// Finds the phrases of one file.
fn phrases(source: &Source) -> Vec<Found> {
    let words = words(&source.comments);
    let mut found = captions(&source.comments);
    for (phrase, advice) in BANNED {
        let pattern: Vec<&str> = phrase.split(' ').collect();
        let places = words.windows(pattern.len()).filter(|window| matches(window, &pattern));
        found.extend(places.map(|window| (window[0].0, format!("`{phrase}`: {advice}"))));
    }
    found.sort();
    found
}

fn captions(comments: &str) -> Vec<Found> {
    let text = |line: &str| line.trim_start_matches([' ', '/', '!']).trim_end().to_owned();
    let lines = comments.lines().enumerate().map(|(index, line)| (index + 1, text(line)));
    lines
        .filter(|(_, text)| CAPTIONS.contains(&text.as_str()))
        .map(|(line, text)| (line, format!("`{text}`: say what the value is, or nothing")))
        .collect()
}

/// Splits comments into words in lower case, each with its line. Code in them is left out.
fn words(comments: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (index, line) in comments.lines().enumerate() {
        let all = line.split_whitespace().filter(|word| !word.contains('`'));
        let bare = all.map(|word| word.trim_matches(|char: char| !char.is_alphanumeric()));
        let some = bare.filter(|word| !word.is_empty());
        words.extend(some.map(|word| (index + 1, word.to_lowercase())));
    }
    words
}

/// Returns whether these words are the phrase, and of one comment.
fn matches(words: &[(usize, String)], pattern: &[&str]) -> bool {
    let mut pairs = words.iter().zip(pattern);
    pairs.all(|((_, word), part)| *part == "*" || word == part)
        && words.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 1)
}

/// How many phrases each file has, or may have.
type Counts = BTreeMap<String, usize>;

fn count(sources: &[Source]) -> Counts {
    let counts = sources.iter().map(|source| (source.path.clone(), phrases(source).len()));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// Reads a list of lines such as `3 src/shard/mod.rs`.
fn parse(list: &str) -> Counts {
    let lines = list.lines().map(|line| {
        let (count, path) = line.split_once(' ').expect("a line is a count and a path");
        (path.to_owned(), count.parse().expect("a line begins with a number"))
    });
    lines.collect()
}

fn list(counts: &Counts) -> String {
    counts.iter().map(|(path, count)| format!("{count} {path}\n")).collect()
}

/// Complains of files that have more phrases than they may, and of numbers that are too high.
pub(crate) fn compare(sources: &[Source], listed: &str) -> Complaints {
    let (found, listed) = (count(sources), parse(listed));
    let of = |counts: &Counts, path: &str| counts.get(path).copied().unwrap_or(0);
    let mut complaints = Vec::new();
    for source in sources {
        if of(&found, &source.path) > of(&listed, &source.path) {
            complaints.extend(phrases(source).iter().map(|(line, text)| source.at(*line, text)));
        }
    }
    for (path, count) in &listed {
        match of(&found, path) {
            0 => complaints.push(format!("english.txt: delete the line of {path}")),
            fewer if fewer < *count => {
                complaints.push(format!("english.txt: the line has to be: {fewer} {path}"));
            }
            _ => {}
        }
    }
    complaints
}

/// Returns the new list, if numbers have only fallen. A file that is not listed may take over what
/// others have lost: it was moved or split off.
pub(crate) fn update(sources: &[Source], listed: &str) -> Result<String, String> {
    let (found, listed) = (count(sources), parse(listed));
    let risen = |(path, count): &(&String, &usize)| listed.get(*path).is_some_and(|n| n < count);
    if let Some((path, count)) = found.iter().find(risen) {
        return Err(format!("{path}: {count} phrases, {} are listed", listed[path]));
    }
    let [total, listed_total] = [&found, &listed].map(|counts| counts.values().sum::<usize>());
    if total > listed_total {
        return Err(format!("{total} phrases in all files, {listed_total} are listed"));
    }
    Ok(list(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(code: &str) -> Vec<usize> {
        phrases(&Source::new("src/x.rs", code)).into_iter().map(|(line, _)| line).collect()
    }

    fn sources(files: &[(&str, usize)]) -> Vec<Source> {
        let text = |count: usize| "/// Made anew.\nfn f() {}\n".repeat(count);
        files.iter().map(|(path, count)| Source::new(path, &text(*count))).collect()
    }

    #[test]
    fn phrases_are_found_in_comments_and_nowhere_else() {
        assert_eq!(lines_of("/// Who waits for nobody, in turn.\nfn f() {}"), [1, 1]);
        assert_eq!(lines_of("//! Takes so\n//! many bytes."), [1]);
        assert_eq!(lines_of("let x = 1; // (whoever) comes\n/* Anew. */"), [1, 2]);
        assert_eq!(lines_of("// It has a turn follow.\n// It has turns follow."), [1, 2]);
        assert_eq!(
            lines_of("/// Whose.\na: u8,\n/// What.\nb: u8,\n///   Which.\nc: u8,"),
            [1, 3, 5]
        );
        let clean = "/// What it is. Whose it is.\nlet who = \"anew\"; // `nobody` can\n";
        assert_eq!(lines_of(clean), [0; 0]);
        assert_eq!(lines_of("// so\nlet x = 1;\n// many"), [0; 0], "two comments");
        assert_eq!(lines_of("// whose anewness has to follow"), [1], "`has * follow`");
    }

    #[test]
    fn every_phrase_has_its_advice_and_is_found() {
        for (phrase, advice) in BANNED {
            let code = format!("// {}.\n", phrase.replace('*', "it"));
            let found = phrases(&Source::new("src/x.rs", &code));
            assert!(found.iter().any(|(_, text)| text.contains(advice)), "{phrase}");
        }
    }

    #[test]
    fn a_file_has_neither_more_nor_fewer_than_its_number() {
        let list = "2 src/a.rs\n1 src/b.rs\n";
        assert!(compare(&sources(&[("src/a.rs", 2), ("src/b.rs", 1)]), list).is_empty());
        let more = compare(&sources(&[("src/a.rs", 3), ("src/b.rs", 1)]), list);
        assert!(more.len() == 3 && more[0].starts_with("src/a.rs:1: `anew`: again"), "{more:?}");
        let fewer = compare(&sources(&[("src/a.rs", 1)]), list);
        let lines = ["the line has to be: 1 src/a.rs", "delete the line of src/b.rs"];
        assert_eq!(fewer, lines.map(|line| format!("english.txt: {line}")));
        let unlisted =
            compare(&sources(&[("src/a.rs", 2), ("src/b.rs", 1), ("src/c.rs", 1)]), list);
        assert_eq!(unlisted, ["src/c.rs:1: `anew`: again"]);
    }

    #[test]
    fn the_list_is_rewritten_downwards_and_for_files_that_were_moved() {
        let list = "2 src/a.rs\n1 src/b.rs\n";
        let updated = |files: &[(&str, usize)]| update(&sources(files), list);
        assert_eq!(updated(&[("src/a.rs", 1)]).as_deref(), Ok("1 src/a.rs\n"));
        assert_eq!(
            updated(&[("src/a.rs", 2), ("io/b.rs", 1)]).as_deref(),
            Ok("1 io/b.rs\n2 src/a.rs\n")
        );
        let split = [("src/a.rs", 1), ("src/c.rs", 1), ("src/b.rs", 1)];
        assert!(updated(&split).is_ok());
        let risen = updated(&[("src/a.rs", 1), ("src/b.rs", 2)]);
        assert_eq!(risen.unwrap_err(), "src/b.rs: 2 phrases, 1 are listed");
        let added = updated(&[("src/a.rs", 2), ("src/b.rs", 1), ("src/c.rs", 1)]);
        assert_eq!(added.unwrap_err(), "4 phrases in all files, 3 are listed");
    }
}
