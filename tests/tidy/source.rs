//! Rust sources as the fences see them: without comments and text, with or without their tests.

use std::collections::HashSet;
use std::path::Path;

/// One source file.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) raw: String,
    /// `raw` with comments and the insides of literals blanked; lines and columns stay.
    pub(crate) code: String,
    /// `raw` with everything but comments blanked.
    pub(crate) comments: String,
    /// `code` with items under `#[cfg(test)]` blanked too; all of it if the file is a test module.
    pub(crate) product: String,
    /// Lines that belong to tests, with their comments.
    pub(crate) test_line_count: usize,
}

impl Source {
    pub(crate) fn new(path: &str, raw: &str) -> Self {
        let (code, comments) = take_apart(raw);
        let (product, test_line_count) = blank_test_items(&code);
        Self {
            path: path.to_owned(),
            raw: raw.to_owned(),
            code,
            comments,
            product,
            test_line_count,
        }
    }

    /// The complaint about a line, counted from 1.
    pub(crate) fn at(&self, line: usize, message: &str) -> String {
        format!("{}:{line}: {message}", self.path)
    }

    /// Folders and file name without extension, such as `["src", "mqtt", "frame"]`.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.path.trim_end_matches(".rs").split('/').collect()
    }

    /// The module directly below the crate root that this file belongs to: `mqtt` for
    /// `src/mqtt/frame.rs`, `cli` for `src/cli.rs`; none outside the broker's own sources.
    pub(crate) fn layer(&self) -> Option<&str> {
        match self.parts()[..] {
            ["src", layer, ..] => Some(layer),
            _ => None,
        }
    }

    /// The same of the load generator: `report` for `loadgen/src/report/figures.rs`.
    pub(crate) fn loadgen_layer(&self) -> Option<&str> {
        match self.parts()[..] {
            ["loadgen", "src", layer, ..] => Some(layer),
            _ => None,
        }
    }

    /// Whether it is part of the broker or the load generator, rather than a test or a benchmark.
    pub(crate) fn is_product(&self) -> bool {
        ["src/", "io/src/", "loadgen/src/"].iter().any(|root| self.path.starts_with(root))
    }
}

/// Every Rust source below these folders of the repository.
pub(crate) fn read_all(root: &Path, folders: &[&str]) -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in folders {
        read_folder(root, &root.join(folder), &mut sources);
    }
    assert!(!sources.is_empty(), "no sources below {}", root.display());
    blank_test_modules(&mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn read_folder(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            read_folder(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let raw = std::fs::read_to_string(&path).expect("sources are UTF-8");
            let name = path.strip_prefix(root).expect("it is below the root");
            sources.push(Source::new(&name.to_string_lossy().replace('\\', "/"), &raw));
        }
    }
}

/// Blanks the product of files that are declared by `#[cfg(test)] mod name;`, and of what is below.
fn blank_test_modules(sources: &mut [Source]) {
    let declared: HashSet<String> = sources.iter().flat_map(test_modules).collect();
    for source in sources {
        let module = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let is_test =
            |prefix: &String| module == prefix || module.starts_with(&format!("{prefix}/"));
        if declared.iter().any(is_test) {
            source.product = blank(&source.product);
            source.test_line_count = source.raw.lines().count();
        }
    }
}

/// Paths without extension of the modules that this file declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let file = source.path.trim_end_matches(".rs");
    let folder = match file.rsplit_once('/') {
        Some((folder, "mod" | "lib" | "main")) => folder,
        _ => file,
    };
    let attributed = source.code.split("#[cfg(test)]").skip(1);
    attributed
        .filter_map(|rest| rest.split_once(';')?.0.trim().strip_prefix("mod "))
        .filter(|name| name.chars().all(|char| char.is_alphanumeric() || char == '_'))
        .map(|name| format!("{folder}/{name}"))
        .collect()
}

/// Spaces in place of everything but line ends.
fn blank(text: &str) -> String {
    text.chars().map(|char| if char == '\n' { '\n' } else { ' ' }).collect()
}

/// Returns the text with comments and the insides of string and character literals blanked, and
/// the text with everything but comments blanked.
fn take_apart(raw: &str) -> (String, String) {
    let (mut code, mut comments) = (String::with_capacity(raw.len()), String::new());
    let mut rest = raw;
    while !rest.is_empty() {
        let hidden = hidden_length(rest, code.chars().next_back());
        let (text, after) = match hidden {
            0 => rest.split_at(rest.chars().next().map_or(0, char::len_utf8)),
            length => rest.split_at(length),
        };
        let is_comment = hidden > 0 && text.starts_with('/');
        let blanked = blank(text);
        code.push_str(if hidden > 0 { &blanked } else { text });
        comments.push_str(if is_comment { text } else { &blanked });
        rest = after;
    }
    (code, comments)
}

/// The length of the comment or literal at the start of `rest`; 0 if there is none.
fn hidden_length(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|char| char.is_alphanumeric() || char == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return string_length(rest);
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    if rest.starts_with('r') && (!in_word || before == Some('b')) {
        return raw_string_length(rest);
    }
    0
}

fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut place) = (0, 0);
    while place < rest.len() {
        let tail = &rest[place..];
        if tail.starts_with("/*") {
            depth += 1;
            place += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            place += 2;
            if depth == 0 {
                return place;
            }
        } else {
            place += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (place, char) in rest.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A lifetime is no literal.
fn character_length(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |place| place + 4),
        Some((_, _)) => match chars.next() {
            Some((place, '\'')) => place + 1,
            _ => 0,
        },
        None => 0,
    }
}

fn raw_string_length(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|char| *char == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = 2 + hashes;
    rest[start..].find(&end).map_or(rest.len(), |place| start + place + end.len())
}

/// Gives the number of lines that were blanked, too.
fn blank_test_items(code: &str) -> (String, usize) {
    let mut product = String::with_capacity(code.len());
    let mut line_count = 0;
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(start);
        let (item, after) = item.split_at(item_length(item));
        product.push_str(before);
        product.push_str(&blank(item));
        line_count += item.lines().count();
        rest = after;
    }
    product.push_str(rest);
    (product, line_count)
}

/// Up to the `;` that ends an item, or the `}` that matches its first `{`.
fn item_length(item: &str) -> usize {
    let mut depth = 0;
    for (place, char) in item.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth <= 1 => return place + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return place + 1,
            _ => {}
        }
    }
    item.len()
}

/// A path that is written somewhere, such as `["std", "net", "TcpStream"]`; groups are taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PathUse {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl PathUse {
    /// Whether it is this path or something below it.
    pub(crate) fn is_below(&self, prefix: &str) -> bool {
        let mut segments = self.segments.iter();
        prefix.split("::").all(|part| segments.next().is_some_and(|segment| segment == part))
    }
}

/// All paths of two segments or more, and single names in `use`.
pub(crate) fn paths(code: &str) -> Vec<PathUse> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        let starts =
            tokens[place].1.starts_with(is_word) && (place == 0 || !follows(&tokens, place));
        place = if starts { path_at(&tokens, place, &[], &mut paths) } else { place + 1 };
    }
    paths
}

/// Blanks what is handed on to others (`pub use`, `pub(crate) use`), and gives its paths.
pub(crate) fn without_reexports(code: &str) -> (String, Vec<PathUse>) {
    let (mut rest, mut reexports) = (String::with_capacity(code.len()), Vec::new());
    for statement in code.split_inclusive(';') {
        match reexport_start(statement) {
            Some(start) => {
                let (before, reexport) = statement.split_at(start);
                rest.push_str(before);
                rest.push_str(&blank(reexport));
                let words = reexport.split_once("use").map_or("", |(_, words)| words);
                reexports.extend(paths(words));
            }
            None => rest.push_str(statement),
        }
    }
    (rest, reexports)
}

/// Where a `pub use` begins, behind attributes and other items without `;`.
fn reexport_start(statement: &str) -> Option<usize> {
    statement.rfind("pub").filter(|start| {
        let tail = statement[start + 3..].trim_start();
        let scoped = tail.strip_prefix('(').and_then(|scope| scope.split_once(')'));
        scoped.map_or(tail, |(_, tail)| tail.trim_start()).starts_with("use ")
    })
}

/// Whether the token stands behind `::`, and so belongs to a path that was already taken apart.
fn follows(tokens: &[(usize, &str)], place: usize) -> bool {
    tokens[place - 1].1 == "::"
}

/// Takes apart the path that starts at a token; gives the place behind it.
fn path_at(
    tokens: &[(usize, &str)],
    start: usize,
    prefix: &[String],
    paths: &mut Vec<PathUse>,
) -> usize {
    let text = |place: usize| tokens.get(place).map_or("", |token| token.1);
    let goes_on = |text: &str| text == "*" || text == "{" || text.starts_with(is_word);
    let mut segments = prefix.to_vec();
    let mut place = start;
    while text(place) != "{" {
        segments.push(text(place).to_owned());
        if text(place + 1) != "::" || !goes_on(text(place + 2)) {
            let renamed = text(place + 1) == "as";
            paths.extend((segments.len() > 1).then(|| PathUse { line: tokens[start].0, segments }));
            return if renamed { place + 3 } else { place + 1 };
        }
        place += 2;
    }
    place += 1;
    while !matches!(text(place), "}" | "") {
        place = match text(place) {
            "," => place + 1,
            _ => path_at(tokens, place, &segments, paths),
        };
    }
    place + 1
}

/// Words, `::` and single characters, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|char| !is_word(char)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((index + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The functions with a body: name, first and last line, counted from 1.
pub(crate) fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let tokens = tokens(code);
    let mut functions = Vec::new();
    for (place, window) in tokens.windows(2).enumerate() {
        let ((line, keyword), (_, name)) = (window[0], window[1]);
        if keyword == "fn" && name.starts_with(is_word) {
            let end = body_end(&tokens[place..]);
            functions.extend(end.map(|end| (name.to_owned(), line, end)));
        }
    }
    functions
}

/// The line of the `}` that ends the body, or none where the declaration ends with `;`.
fn body_end(tokens: &[(usize, &str)]) -> Option<usize> {
    let (mut braces, mut brackets) = (0, 0);
    for (line, text) in tokens {
        match *text {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets -= 1,
            "{" => braces += 1,
            "}" if braces == 1 => return Some(*line),
            "}" => braces -= 1,
            ";" if braces == 0 && brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(code: &str) -> Vec<String> {
        paths(code).into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_nothing_else() {
        let raw = "a // std::net\nb /* x /* y */ z */ c\n\"fn \\\" {\" d 'x' '\\n' '\\'' &'a e";
        let code = "a            \nb                     c\n           d                &'a e";
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (taken, comments) = take_apart(raw);
        assert_eq!(squeeze(&taken), squeeze(code));
        assert_eq!(taken.lines().count(), 3);
        assert_eq!(squeeze(&comments), "// std::net /* x /* y */ z */");
        assert_eq!(comments.lines().next(), Some("  // std::net"));
        assert_eq!(squeeze(&take_apart("r#\"a \" b\"# c br\"x\" for_r\"y\" é").0), "c b for_r é");
    }

    #[test]
    fn test_items_are_blanked_up_to_their_end() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c() }\n}\nfn d() {}\n";
        assert_eq!(Source::new("src/x.rs", code).product.trim_end().lines().count(), 6);
        assert!(!Source::new("src/x.rs", code).product.contains("fn b"));
        assert!(Source::new("src/x.rs", code).product.contains("fn d"));
        let code = "#[cfg(test)]\nmod tests;\nfn e() {}\n";
        assert!(Source::new("src/x.rs", code).product.contains("fn e"));
    }

    #[test]
    fn modules_declared_for_tests_are_tests() {
        let mut sources = [
            Source::new("src/a/mod.rs", "#[cfg(test)]\nmod tests;\nmod real;"),
            Source::new("src/a/tests.rs", "fn t() {}"),
            Source::new("src/a/tests/deep.rs", "fn t() {}"),
            Source::new("src/a/real.rs", "#[cfg(test)]\nmod inner;\nfn r() {}"),
            Source::new("src/a/real/inner.rs", "fn t() {}"),
        ];
        blank_test_modules(&mut sources);
        let kept = sources.map(|source| source.product.contains("fn"));
        assert_eq!(kept, [false, false, false, true, false]);
    }

    #[test]
    fn groups_of_paths_are_taken_apart() {
        let code = "use crate::{a::b, c::{self, d as e}, f};\nlet x = std::net::TcpStream::new();";
        let expected = [
            "crate::a::b",
            "crate::c::self",
            "crate::c::d",
            "crate::f",
            "std::net::TcpStream::new",
        ];
        assert_eq!(joined(code), expected);
        assert_eq!(joined("a::b::<c::d>::e; x: f::G<h::I>"), ["a::b", "c::d", "f::G", "h::I"]);
        assert_eq!(joined("use super::super::x::*;"), ["super::super::x::*"]);
        assert_eq!(paths("\nuse a::b;")[0].line, 2);
    }

    #[test]
    fn what_is_handed_on_is_told_from_what_is_imported() {
        let code =
            "use a::b;\n#[cfg(x)]\npub(crate) use c::{d, e::f};\npub use g::h;\nfn pub_use() {}";
        let (rest, reexports) = without_reexports(code);
        assert_eq!(joined(&rest), ["a::b"]);
        let reexports: Vec<String> =
            reexports.into_iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(reexports, ["c::d", "c::e::f", "g::h"]);
        assert_eq!(rest.lines().count(), 5);
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let code = "fn a() {\n  if x {\n  }\n}\ntrait T {\n fn b(x: [u8; 2]);\n}\n\
                    fn c<T>() -> fn(u8) {\n}";
        let expected = [("a".to_owned(), 1, 4), ("c".to_owned(), 8, 9)];
        assert_eq!(functions(code), expected);
    }
}
