//! Fences that the compiler does not hold: who may import whom, what is pure, and how long things
//! may get. They read the sources. Each fence is a function from sources to complaints, and is
//! shown to be able to fail by a test of its own at the end.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/english.rs"]
mod english;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/source.rs"]
mod source;

use std::path::{Path, PathBuf};

use circles::{CIRCLES, circles_are_known};
use layers::{LOADGEN_LAYERS, Layers, arrows_that_point_up};
use source::{PathUse, Source, functions, paths, read_all};

/// Which modules of the broker each module may import besides itself. An arrow points down.
const LAYERS: Layers<'_> = &[
    ("mqtt", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("session", &["mqtt", "config", "metrics"]),
    ("arena", &[]),
    ("index", &[]),
    ("routing", &["mqtt", "config", "metrics", "arena", "index"]),
    ("auth", &["mqtt", "config"]),
    ("storage", &["mqtt", "config"]),
    (
        "shard",
        &["mqtt", "config", "metrics", "session", "routing", "auth", "storage", "arena", "index"],
    ),
    ("transport", &["config"]),
    (
        "server",
        &[
            "mqtt",
            "config",
            "metrics",
            "session",
            "routing",
            "auth",
            "storage",
            "shard",
            "transport",
        ],
    ),
    ("cli", &["config"]),
    ("main", &["cli", "config", "server"]),
    ("lib", &[]),
];

/// What the load generator may use of the broker.
const LOADGEN_IMPORTS: &[&str] = &["mqtt"];

/// The modules below the line, which know no files, sockets, clocks and threads.
const PURE: &[&str] = &[
    "mqtt", "config", "metrics", "arena", "index", "session", "routing", "auth", "storage", "shard",
];

/// What nobody below the line may name.
const IMPURE: &[&str] = &[
    "glommio",
    "socket2",
    "crossbeam_channel",
    "futures_lite",
    "std::net",
    "std::fs",
    "std::thread",
    "std::process",
    "std::os",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::self",
    "std::time::*",
];

/// Exceptions: plain data that lives in an impure module, and the one file that reads files.
const IMPURE_ALLOWED: &[(&str, &str)] = &[
    ("src/config/", "std::net::SocketAddr"),
    ("src/config/", "std::net::IpAddr"),
    ("src/config/", "std::net::Ipv4Addr"),
    ("src/config/", "std::net::Ipv6Addr"),
    ("src/config/file.rs", "std::fs"),
];

/// The files that may say `unsafe`.
const UNSAFE_ALLOWED: &[&str] = &[
    "io/src/peer.rs",
    "io/src/pool.rs",
    "io/src/ring.rs",
    "io/src/sockets.rs",
    "io/src/wakeup.rs",
    "benches/trie.rs",
    "tests/broker/start.rs",
    "tests/memory.rs",
    "tests/allocations.rs",
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "types", "helpers", "helper", "manager"];

type Complaints = Vec<String>;

fn imports_point_down(source: &Source) -> Complaints {
    match (source.layer(), source.loadgen_layer()) {
        (Some(layer), _) => imports_are_in(LAYERS, source, layer),
        (_, Some(layer)) => imports_are_in(LOADGEN_LAYERS, source, layer),
        _ => Vec::new(),
    }
}

fn imports_are_in(table: Layers<'_>, source: &Source, layer: &str) -> Complaints {
    let Some((_, allowed)) = table.iter().find(|(name, _)| *name == layer) else {
        return vec![source.at(1, &format!("the module {layer} is not in the table of layers"))];
    };
    let layer_of = |path: &PathUse| layer_of(table, path);
    let imports = paths(&source.code).into_iter().filter_map(|path| Some((layer_of(&path)?, path)));
    imports
        .filter(|(imported, _)| imported != layer && !allowed.contains(&imported.as_str()))
        .map(|(imported, path)| source.at(path.line, &format!("{layer} may not use {imported}")))
        .collect()
}

/// The layer that a path leads into: the first one named behind `crate`, `ringmq` or `super`.
fn layer_of(table: Layers<'_>, path: &PathUse) -> Option<String> {
    let roots = ["crate", "ringmq", "super"];
    let mut segments = path.segments.iter().map(String::as_str);
    roots.contains(&segments.next()?).then_some(())?;
    let first = segments.find(|segment| *segment != "super")?;
    let is_layer = table.iter().any(|(name, _)| *name == first);
    is_layer.then(|| first.to_owned())
}

fn loadgen_uses_only_the_codec(source: &Source) -> Complaints {
    if !source.path.starts_with("loadgen/") {
        return Vec::new();
    }
    let foreign = paths(&source.code).into_iter().filter(|path| {
        path.segments[0] == "ringmq" && !LOADGEN_IMPORTS.contains(&path.segments[1].as_str())
    });
    foreign.map(|path| source.at(path.line, "loadgen may use ringmq::mqtt only")).collect()
}

fn pure_layers_are_pure(source: &Source) -> Complaints {
    if !source.layer().is_some_and(|layer| PURE.contains(&layer)) {
        return Vec::new();
    }
    let allowed = |path: &PathUse| {
        let exceptions = IMPURE_ALLOWED.iter();
        exceptions
            .into_iter()
            .any(|(place, name)| source.path.starts_with(place) && path.is_below(name))
    };
    let impure = |path: &PathUse| IMPURE.iter().find(|name| path.is_below(name));
    let found = paths(&source.product).into_iter().filter(|path| !allowed(path));
    found
        .filter_map(|path| Some((impure(&path)?, path.line)))
        .map(|(name, line)| source.at(line, &format!("{name} below the line")))
        .collect()
}

fn unsafe_stands_where_it_may(source: &Source) -> Complaints {
    if UNSAFE_ALLOWED.contains(&source.path.as_str()) {
        return Vec::new();
    }
    lines_with(&source.code, |line| has_word(line, "unsafe") || has_word(line, "unsafe_code"))
        .map(|line| source.at(line, "unsafe outside the files that may have it"))
        .collect()
}

fn nothing_is_left_undone(source: &Source) -> Complaints {
    let macros = ["todo", "unimplemented", "dbg"];
    let marks = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];
    let mut complaints: Vec<_> = lines_with(&source.code, |line| {
        macros.iter().any(|name| line.contains(&format!("{name}!")) && has_word(line, name))
    })
    .map(|line| source.at(line, "a macro that stands for work to be done"))
    .collect();
    let marked = lines_with(&source.raw, |line| marks.iter().any(|mark| has_word(line, mark)));
    complaints.extend(marked.map(|line| source.at(line, "a mark that stands for work to be done")));
    complaints
}

fn unwrap_is_for_tests(source: &Source) -> Complaints {
    if !source.is_product() {
        return Vec::new();
    }
    lines_with(&source.product, |line| line.contains(".unwrap()"))
        .map(|line| source.at(line, "unwrap outside tests; say why it holds with expect"))
        .collect()
}

fn files_are_short(source: &Source) -> Complaints {
    let count = source.raw.lines().count() - source.test_line_count;
    if count <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![source.at(1, &format!("{count} lines without tests; the limit is {FILE_LINES_MAX}"))]
}

fn functions_are_short(source: &Source) -> Complaints {
    let all = functions(&source.code).into_iter();
    all.map(|(name, first, last)| (name, first, last - first + 1))
        .filter(|(_, _, count)| *count > FUNCTION_LINES_MAX)
        .map(|(name, line, count)| {
            source.at(line, &format!("fn {name}: {count} lines; the limit is {FUNCTION_LINES_MAX}"))
        })
        .collect()
}

fn lines_are_short(source: &Source) -> Complaints {
    lines_with(&source.raw, |line| line.chars().count() > COLUMNS_MAX)
        .map(|line| source.at(line, &format!("more than {COLUMNS_MAX} columns")))
        .collect()
}

fn names_say_something(source: &Source) -> Complaints {
    let empty = |name: &str| EMPTY_NAMES.contains(&name);
    let mut complaints: Vec<_> = source
        .parts()
        .into_iter()
        .filter(|part| empty(part))
        .map(|part| source.at(1, &format!("{part} is no name for a file")))
        .collect();
    let modules = lines_with(&source.code, |line| {
        let mut words = line.split(|char: char| !char.is_alphanumeric() && char != '_');
        words.any(|word| word == "mod") && EMPTY_NAMES.iter().any(|name| has_word(line, name))
    });
    complaints.extend(modules.map(|line| source.at(line, "no name for a module")));
    complaints
}

/// Links of a document to files of the repository must lead somewhere.
fn links_lead_somewhere(document: &str, text: &str, exists: impl Fn(&str) -> bool) -> Complaints {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    links
        .map(|(link, _)| link.split('#').next().unwrap_or_default())
        .filter(|link| !link.is_empty() && !link.contains("://") && !exists(link))
        .map(|link| format!("{document}: {link} is not there"))
        .collect()
}

/// Numbers, from 1, of the lines of a view of the source for which something holds.
fn lines_with<'a>(
    view: &'a str,
    holds: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    view.lines().enumerate().filter(move |(_, line)| holds(line)).map(|(index, _)| index + 1)
}

fn has_word(line: &str, word: &str) -> bool {
    let edge = |char: Option<char>| !char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    line.match_indices(word).any(|(place, _)| {
        edge(line[..place].chars().next_back()) && edge(line[place + word.len()..].chars().next())
    })
}

mod of_the_repository {
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn sources() -> Vec<Source> {
        read_all(root(), &["src", "io/src", "loadgen/src", "benches", "tests", "fuzz/src"])
    }

    #[track_caller]
    fn check(fence: impl Fn(&Source) -> Complaints) {
        let complaints: Complaints = sources().iter().flat_map(fence).collect();
        assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    }

    #[test]
    fn imports() {
        check(imports_point_down);
        check(loadgen_uses_only_the_codec);
    }

    #[test]
    fn circles() {
        let sources = read_all(root(), &["src", "io/src", "loadgen/src"]);
        let mut complaints = circles_are_known(&sources, "src", CIRCLES);
        complaints.extend(circles_are_known(&sources, "io/src", &[]));
        complaints.extend(circles_are_known(&sources, "loadgen/src", &[]));
        assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    }

    #[test]
    fn tables() {
        let complaints = [LAYERS, LOADGEN_LAYERS].map(arrows_that_point_up).concat();
        assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    }

    #[test]
    fn purity() {
        check(pure_layers_are_pure);
    }

    #[test]
    fn unsafety() {
        check(unsafe_stands_where_it_may);
    }

    #[test]
    fn work_left_undone() {
        check(nothing_is_left_undone);
    }

    #[test]
    fn unwrap() {
        check(unwrap_is_for_tests);
    }

    #[test]
    fn lengths() {
        check(files_are_short);
        check(functions_are_short);
        check(lines_are_short);
    }

    #[test]
    fn names() {
        check(names_say_something);
    }

    /// `RINGMQ_TIDY_UPDATE=1` rewrites the list instead.
    #[test]
    fn english() {
        let (sources, file) = (sources(), root().join("tests/tidy/english.txt"));
        let listed = std::fs::read_to_string(&file).expect("the list is UTF-8");
        if std::env::var_os("RINGMQ_TIDY_UPDATE").is_some() {
            let list = english::update(&sources, &listed).unwrap_or_else(|why| panic!("{why}"));
            return std::fs::write(&file, list).expect("the list can be written");
        }
        let complaints = english::compare(&sources, &listed);
        assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    }

    #[test]
    fn links() {
        let mut documents: Vec<PathBuf> = [".", "loadgen", "docs", "docs/decisions"]
            .iter()
            .filter_map(|folder| std::fs::read_dir(root().join(folder)).ok())
            .flat_map(|entries| entries.map(|entry| entry.expect("it can be read").path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .collect();
        documents.sort();
        let complaints = documents.iter().flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("documents are UTF-8");
            let folder = path.parent().expect("a file lies in a folder");
            links_lead_somewhere(&path.display().to_string(), &text, |link| {
                folder.join(link).exists()
            })
        });
        let complaints: Complaints = complaints.collect();
        assert!(documents.len() > 4 && complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    }
}

/// A fence that cannot fail is no fence.
mod each_fence_can_fail {
    use super::*;

    #[track_caller]
    fn complains(fence: impl Fn(&Source) -> Complaints, path: &str, code: &str, part: &str) {
        let complaints = fence(&Source::new(path, code));
        assert!(complaints.iter().any(|text| text.contains(part)), "{path} {part}: {complaints:?}");
    }

    #[track_caller]
    fn accepts(fence: impl Fn(&Source) -> Complaints, path: &str, code: &str) {
        let complaints = fence(&Source::new(path, code));
        assert!(complaints.is_empty(), "{path}: {complaints:?}");
    }

    #[test]
    fn imports() {
        let fence = imports_point_down;
        complains(fence, "src/mqtt/x.rs", "use crate::session::Session;", "x.rs:1: mqtt may not");
        complains(
            fence,
            "src/routing/x.rs",
            "\nfn f(x: crate::shard::Shard) {}",
            "x.rs:2: routing",
        );
        complains(fence, "src/session/x.rs", "use super::super::{mqtt, routing};", "use routing");
        complains(fence, "src/session/mod.rs", "use crate::{mqtt, shard::Shard};", "use shard");
        complains(fence, "src/transport/listener.rs", "use crate::mqtt::Frame;", "use mqtt");
        complains(fence, "src/main.rs", "use ringmq::shard::Shard;", "main may not use shard");
        complains(fence, "src/novelty/mod.rs", "", "not in the table");
        accepts(
            fence,
            "src/session/x.rs",
            "use crate::{mqtt::Packet, config::Limits, session::Y};",
        );
        accepts(fence, "src/mqtt/x.rs", "// crate::session\nlet x = \"crate::shard\";");
        accepts(fence, "src/server/x.rs", "use crate::{shard, transport, mqtt};");
        accepts(fence, "tests/x.rs", "use ringmq::shard::Shard;");
    }

    #[test]
    fn rooms_of_the_load_generator() {
        let fence = imports_point_down;
        let code = "use crate::run::repeat;";
        complains(fence, "loadgen/src/report/mod.rs", code, "mod.rs:1: report may not use run");
        complains(fence, "loadgen/src/pace/x.rs", "use crate::{plan::Plan, pace};", "use plan");
        complains(fence, "loadgen/src/units.rs", "fn f(x: crate::html::Page) {}", "use html");
        complains(fence, "loadgen/src/novelty.rs", "", "novelty is not in the table");
        accepts(fence, "loadgen/src/report/x.rs", "use crate::recording::gap::LastDelivery;");
        accepts(fence, "loadgen/src/report/x.rs", "use crate::report::series; use super::usage;");
    }

    #[test]
    fn loadgen() {
        let fence = loadgen_uses_only_the_codec;
        complains(fence, "loadgen/src/x.rs", "use ringmq::{mqtt, session};", "ringmq::mqtt only");
        accepts(fence, "loadgen/src/x.rs", "use ringmq::mqtt::{Packet, frame};");
    }

    #[test]
    fn purity() {
        let fence = pure_layers_are_pure;
        complains(fence, "src/shard/x.rs", "use std::time::{Duration, Instant};", "Instant below");
        complains(fence, "src/mqtt/x.rs", "fn f() { std::thread::sleep(x) }", "std::thread below");
        complains(fence, "src/session/x.rs", "use std::{fmt, net};", "std::net below");
        complains(fence, "src/storage/x.rs", "use glommio::io::DmaFile;", "glommio below");
        complains(fence, "src/config/mod.rs", "use std::fs::read_to_string;", "std::fs below");
        complains(fence, "src/config/x.rs", "use std::net::{IpAddr, TcpStream};", "std::net below");
        complains(fence, "src/routing/x.rs", "use std::time::{self};", "std::time::self below");
        accepts(fence, "src/config/mod.rs", "use std::net::{IpAddr, SocketAddr};");
        accepts(fence, "src/config/file.rs", "use std::fs;");
        accepts(fence, "src/session/x.rs", "use std::time::Duration;");
        accepts(fence, "src/server/x.rs", "use glommio::net::TcpStream;");
        accepts(fence, "src/mqtt/x.rs", "#[cfg(test)]\nmod tests { use std::time::Instant; }");
    }

    #[test]
    fn unsafety() {
        let fence = unsafe_stands_where_it_may;
        complains(fence, "src/shard/x.rs", "let x = unsafe { y() };", "x.rs:1: unsafe");
        complains(fence, "src/shard/x.rs", "#![allow(unsafe_code)]", "unsafe");
        accepts(fence, "io/src/ring.rs", "let x = unsafe { y() };");
        accepts(fence, "src/shard/x.rs", "// unsafe\nlet unsafety = 1;");
    }

    #[test]
    fn work_left_undone() {
        let fence = nothing_is_left_undone;
        complains(fence, "src/x.rs", "fn f() { todo!() }", "work to be done");
        complains(fence, "src/x.rs", "let x = dbg!(y);", "work to be done");
        complains(fence, "src/x.rs", "unimplemented!()", "work to be done");
        complains(fence, "src/x.rs", concat!("// FIX", "ME: later"), "a mark");
        accepts(fence, "src/x.rs", "// what is to do\nlet todo = 1; assert!(todo > 0)");
    }

    #[test]
    fn unwrap() {
        let fence = unwrap_is_for_tests;
        complains(fence, "src/x.rs", "x.unwrap()", "unwrap outside tests");
        complains(fence, "loadgen/src/x.rs", "x\n  .unwrap()", "x.rs:2: unwrap");
        accepts(fence, "src/x.rs", "x.unwrap_or(1)\n#[cfg(test)]\nmod tests { x.unwrap() }");
        accepts(fence, "tests/x.rs", "x.unwrap()");
    }

    #[test]
    fn length_of_files() {
        let fence = files_are_short;
        let long = "let x = 1;\n".repeat(601);
        complains(fence, "src/x.rs", &long, "601 lines");
        complains(fence, "tests/x.rs", &long, "601 lines");
        accepts(fence, "src/x.rs", &"let x = 1;\n".repeat(600));
        accepts(fence, "src/x.rs", &format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n"));
        complains(fence, "src/x.rs", &"// a comment\n".repeat(601), "601 lines");
    }

    #[test]
    fn length_of_functions() {
        let fence = functions_are_short;
        let body = |count: usize| format!("fn long() {{\n{}}}\n", "x();\n".repeat(count));
        complains(fence, "src/x.rs", &body(69), "fn long: 71 lines");
        accepts(fence, "src/x.rs", &body(68));
    }

    #[test]
    fn length_of_lines() {
        let fence = lines_are_short;
        complains(fence, "src/x.rs", &format!("\n// {}", "x".repeat(98)), "x.rs:2: more than 100");
        accepts(fence, "src/x.rs", &"é".repeat(100));
    }

    #[test]
    fn names() {
        let fence = names_say_something;
        complains(fence, "src/utils.rs", "", "utils is no name");
        complains(fence, "src/shard/common/mod.rs", "", "common is no name");
        complains(fence, "src/x.rs", "pub mod helpers;", "no name for a module");
        accepts(fence, "src/x.rs", "mod topic;\nlet types = 1;");
    }

    #[test]
    fn links() {
        let text = "[a](src/lib.rs) [b](gone.md#x) [c](https://example.org/y) [d](#here)";
        let complaints = links_lead_somewhere("README.md", text, |link| link == "src/lib.rs");
        assert_eq!(complaints, ["README.md: gone.md is not there"]);
    }
}
