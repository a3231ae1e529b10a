//! Circles of imports between the modules of a crate. A module is a file; declaring a child or
//! handing its names on (`pub use`) is no import of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{PathUse, Source, paths, without_reexports};

/// Modules of the broker that import each other in circles; no other may join them.
pub(crate) const CIRCLES: &[&[&str]] = &[
    &["metrics::counters", "metrics::ledger"],
    &[
        "mqtt",
        "mqtt::cursor",
        "mqtt::error",
        "mqtt::frame",
        "mqtt::pingreq",
        "mqtt::property",
        "mqtt::puback",
        "mqtt::publish",
        "mqtt::reason",
        "mqtt::topic",
    ],
    &["session", "session::inbound", "session::outbound", "session::output", "session::queue"],
    &[
        "shard",
        "shard::account",
        "shard::authenticate",
        "shard::commit",
        "shard::connack",
        "shard::connect",
        "shard::connection",
        "shard::deliver",
        "shard::ending",
        "shard::held",
        "shard::links",
        "shard::long",
        "shard::message",
        "shard::order",
        "shard::output",
        "shard::pause",
        "shard::publish",
        "shard::put_off",
        "shard::registry",
        "shard::replay",
        "shard::retained",
        "shard::search",
        "shard::share",
        "shard::slice",
        "shard::subscribe",
        "shard::take_over",
        "shard::will",
        "shard::wire",
        "shard::work",
    ],
];

/// Circles of imports below `folder` that are not known, and modules that have left a known one.
pub(crate) fn circles_are_known(
    sources: &[Source],
    folder: &str,
    known: &[&[&str]],
) -> Vec<String> {
    let found = circles(sources, folder);
    let is_known = |circle: &&BTreeSet<String>| {
        known.iter().any(|known| circle.iter().all(|module| known.contains(&module.as_str())))
    };
    let new = found.iter().filter(|circle| !is_known(circle));
    let mut complaints: Vec<String> =
        new.map(|circle| format!("{folder}: a circle of imports: {circle:?}")).collect();
    let mut members = known.iter().flat_map(|circle| circle.iter());
    if let Some(left) = members.find(|member| !found.iter().any(|it| it.contains(**member))) {
        complaints.push(format!("{folder}: {left} is in no circle now: take it from the list"));
    }
    complaints
}

/// The modules of one crate, by the names from its root: `["shard", "publish"]`.
struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

struct Module {
    imports: Vec<PathUse>,
    /// Names that it hands on, with the paths that they stand for.
    reexports: BTreeMap<String, Vec<String>>,
}

/// The circles among the files below `folder`: sets of modules that all lead to each other.
fn circles(sources: &[Source], folder: &str) -> Vec<BTreeSet<String>> {
    let of_crate = sources.iter().filter_map(|source| Some((module_name(source, folder)?, source)));
    let modules = of_crate.map(|(name, source)| (name, Module::of(source))).collect();
    let reached = Crate { modules }.reached();
    let mut circles = BTreeSet::new();
    for (module, targets) in &reached {
        let leads_back = |target: &&String| reached[*target].contains(module);
        let circle: BTreeSet<String> = targets.iter().filter(leads_back).cloned().collect();
        circles.extend((circle.len() > 1).then_some(circle));
    }
    circles.into_iter().collect()
}

fn module_name(source: &Source, folder: &str) -> Option<Vec<String>> {
    let path = source.path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    Some(if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() })
}

impl Module {
    fn of(source: &Source) -> Self {
        let (rest, reexported) = without_reexports(&source.product);
        let entry = |path: PathUse| Some((path.segments.last()?.clone(), path.segments));
        Self {
            imports: paths(&rest),
            reexports: reexported.into_iter().filter_map(entry).collect(),
        }
    }
}

impl Crate {
    /// For each module all those that can be reached from it.
    fn reached(&self) -> BTreeMap<String, BTreeSet<String>> {
        let direct: BTreeMap<String, BTreeSet<String>> =
            self.modules.keys().map(|name| (name.join("::"), self.imported(name))).collect();
        let reach = |start: &BTreeSet<String>| {
            let (mut found, mut left) = (BTreeSet::new(), Vec::from_iter(start.clone()));
            while let Some(module) = left.pop() {
                if found.insert(module.clone()) {
                    left.extend(direct[&module].iter().cloned());
                }
            }
            found
        };
        direct.iter().map(|(name, targets)| (name.clone(), reach(targets))).collect()
    }

    fn imported(&self, name: &[String]) -> BTreeSet<String> {
        let imports = self.modules[name].imports.iter();
        let targets = imports.filter_map(|path| self.resolve(name, &path.segments));
        let others = targets.filter(|it| it != name && self.modules.contains_key(it));
        others.map(|target| target.join("::")).collect()
    }

    /// The module that a path leads into; none for one of another crate.
    fn resolve(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        let (mut module, mut rest) = (from.to_vec(), path);
        match path.first()?.as_str() {
            "crate" => (module, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
            }
            child if !self.is_module(from, child) => return None,
            _ => (),
        }
        self.descend(module, rest)
    }

    fn descend(&self, mut module: Vec<String>, path: &[String]) -> Option<Vec<String>> {
        for (place, segment) in path.iter().enumerate() {
            let reexport = self.modules.get(&module).and_then(|it| it.reexports.get(segment));
            if self.is_module(&module, segment) {
                module.push(segment.clone());
            } else if let Some(target) = reexport.filter(|target| target[..] != *path) {
                let target = self.resolve(&module, target)?;
                return self.descend(target, &path[place + 1..]);
            } else {
                break;
            }
        }
        Some(module)
    }

    fn is_module(&self, parent: &[String], child: &str) -> bool {
        let name = [parent, &[child.to_owned()]].concat();
        self.modules.contains_key(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_circle_is_found() {
        let source = |(path, code): &(&str, &str)| Source::new(path, code);
        let complain = |files: &[(&str, &str)], known: &[&[&str]]| {
            let sources: Vec<Source> = files.iter().map(source).collect();
            circles_are_known(&sources, "src", known)
        };
        let files = [
            ("src/a/mod.rs", "pub(crate) mod b; mod c; use self::b::B; pub(crate) use c::C;"),
            ("src/a/b.rs", "use super::C; pub(crate) struct B(C);"),
            ("src/a/c.rs", "#[cfg(test)]\nmod tests { use crate::a::b::B; }"),
        ];
        assert!(complain(&files, &[]).is_empty(), "C comes from c, where it is handed on");
        let upward = ("src/a/c.rs", "fn f() { crate::a::b::B::new() }");
        let circle = complain(&[files[0], files[1], upward], &[]);
        assert_eq!(circle, [r#"src: a circle of imports: {"a::b", "a::c"}"#]);
        assert!(complain(&[files[0], files[1], upward], &[&["a::c", "a::b"]]).is_empty());
        assert_eq!(complain(&[files[0], files[1], upward], &[&["a", "a::b"]]).len(), 2);
        assert_eq!(complain(&files, &[&["a::b"]]).len(), 1, "the list is to become shorter");
        let parent = ("src/a/b.rs", "use super::{X};");
        assert_eq!(complain(&[files[0], parent], &[]).len(), 1, "from a file to its folder");
    }
}
