//! The crate graph and the house rules that a compiler does not check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The workspace's crates that a manifest depends on.
fn ours(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).expect("the manifest is there");
    let dependencies = text.split("[dependencies]").nth(1).expect("a manifest has dependencies");
    let dependencies = dependencies.split("\n[").next().expect("a split has a first part");
    dependencies
        .lines()
        .filter_map(|line| line.split('.').next())
        .filter(|name| name.starts_with("usher-"))
        .map(str::to_owned)
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// All Rust files below a folder, without those of tests.
fn shipped(folder: &str) -> Vec<(PathBuf, String)> {
    let of_tests = |path: &Path| {
        path.components().any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == "tests")
    };
    let mut found = sources(folder);
    found.retain(|(path, _)| !of_tests(path.strip_prefix(root()).expect("a source is below the root")));
    for (_, text) in &mut found {
        text.truncate(text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len()));
    }
    found
}

/// All Rust files below a folder.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

const LIBRARIES: [&str; 7] = ["core", "config", "queries", "formats", "connectors", "serve", "dataflow"];

/// What a crate of the workspace may depend on: docs/ARCHITECTURE.md draws it.
const GRAPH: [(&str, &[&str]); 7] = [
    ("core", &[]),
    ("config", &["usher-core"]),
    ("queries", &["usher-core", "usher-config"]),
    ("formats", &["usher-core", "usher-config"]),
    ("connectors", &["usher-core", "usher-config"]),
    ("serve", &["usher-core"]),
    ("dataflow", &["usher-core", "usher-config", "usher-queries", "usher-formats"]),
];

#[test]
fn layers_point_one_way() {
    for (crate_name, allowed) in GRAPH {
        let found = ours(&format!("{crate_name}/Cargo.toml"));
        let beyond: Vec<_> = found.difference(&set(allowed)).cloned().collect();
        assert!(beyond.is_empty(), "{crate_name} depends on {beyond:?}");
    }
}

/// Which folders may name a client or a framework.
const ONLY_IN: [(&[&str], &[&str]); 4] = [
    (&["timely::", "differential_dataflow"], &["dataflow/src"]),
    (&["rdkafka"], &["connectors/src/kafka.rs", "connectors/src/kafka"]),
    (&["axum::", "hyper::"], &["serve/src"]),
    (
        &["parquet::", "object_store::"],
        &["connectors/src/parquet.rs", "connectors/src/parquet", "connectors/src/state_store"],
    ),
];

#[test]
fn clients_and_frameworks_stay_behind_their_walls() {
    for (names, places) in ONLY_IN {
        for crate_name in LIBRARIES {
            for (path, text) in shipped(&format!("{crate_name}/src")) {
                let path = path.strip_prefix(root()).expect("a source is below the root").to_owned();
                if places.iter().any(|place| path.starts_with(place)) {
                    continue;
                }
                for name in names {
                    let named =
                        text.lines().any(|line| !line.trim_start().starts_with("//") && names_crate(line, name));
                    assert!(!named, "{} names {name}", path.display());
                }
            }
        }
    }
}

/// Whether a line names a crate, not a module of ours of the same name.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = &line[..at];
        !before.ends_with("::") && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

/// Circles of modules that there are, by crate: a ratchet. Fewer is a reason to lower the number.
const CIRCLES: [(&str, usize); 7] =
    [("core", 0), ("config", 0), ("queries", 0), ("formats", 0), ("connectors", 0), ("serve", 0), ("dataflow", 0)];

#[test]
fn circles_of_modules_do_not_grow() {
    for (crate_name, known) in CIRCLES {
        let found = circles(crate_name);
        assert!(found.len() <= known, "{crate_name} has circles of modules: {found:?}");
    }
}

/// The sets of a crate's files that name each other in a circle, by `crate::`.
fn circles(crate_name: &str) -> Vec<BTreeSet<String>> {
    let folder = root().join(crate_name).join("src");
    let files: BTreeMap<String, String> = shipped(&format!("{crate_name}/src"))
        .into_iter()
        .map(|(path, text)| {
            let path = path.strip_prefix(&folder).expect("a source is below its crate").with_extension("");
            (path.to_string_lossy().replace('/', "::"), text)
        })
        .filter(|(module, _)| module != "lib")
        .collect();
    let arrows: BTreeMap<&String, BTreeSet<&String>> =
        files.iter().map(|(module, text)| (module, named(text, &files))).collect();
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        files.keys().map(|module| (module, reach(module, &arrows))).collect();
    let mut found = BTreeSet::new();
    for module in files.keys() {
        let both_ways = |other: &&String| reached[module].contains(*other) && reached[*other].contains(module);
        let circle: BTreeSet<String> = files.keys().filter(both_ways).cloned().collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// The files that a file names, directly or over others.
fn reach<'a>(from: &'a String, arrows: &BTreeMap<&'a String, BTreeSet<&'a String>>) -> BTreeSet<&'a String> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        next.extend(arrows[module].iter().copied().filter(|to| seen.insert(*to)));
    }
    seen
}

/// The files that the code of one names: for `crate::a::b::C` the longest path that is a file.
fn named<'a>(text: &str, files: &'a BTreeMap<String, String>) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            let mut path = path.trim_end_matches(':');
            while !path.is_empty() {
                if let Some((file, _)) = files.get_key_value(path) {
                    found.insert(file);
                    break;
                }
                path = path.rsplit_once("::").map_or("", |(above, _)| above);
            }
        }
    }
    found
}

#[test]
fn every_file_is_a_module() {
    for folder in LIBRARIES.map(|library| format!("{library}/src")).iter().map(String::as_str).chain(["src"]) {
        let texts: BTreeMap<PathBuf, String> = sources(folder).into_iter().collect();
        for path in texts.keys() {
            let (above, name) = (path.parent().expect("it is in a folder"), path.file_stem().expect("it has a name"));
            let names = ["lib", "main"].map(|root| above.join(root).with_extension("rs"));
            if names.contains(path) {
                continue;
            }
            let declared = format!("mod {};", name.to_string_lossy());
            let is_declared = |line: &str| line.ends_with(&declared) && !line.trim_start().starts_with("//");
            let declares = |file: &PathBuf| texts.get(file).is_some_and(|text| text.lines().any(is_declared));
            let is_module = names.iter().chain([&above.with_extension("rs")]).any(declares);
            assert!(is_module, "no file declares the module {}: nothing of it is compiled", path.display());
        }
    }
}

#[test]
fn no_pending_snapshot_is_tracked() {
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        // Outside a checkout there is nothing that could be tracked.
        return;
    };
    let pending: Vec<String> = String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter(|path| path.ends_with(".pending-snap") || path.ends_with(".snap.new"))
        .map(str::to_owned)
        .collect();
    assert!(pending.is_empty(), "{pending:?}");
}

#[test]
fn only_the_binary_knows_the_command_line_the_terminal_and_the_exit() {
    for crate_name in LIBRARIES {
        for (path, text) in shipped(&format!("{crate_name}/src")) {
            for name in ["clap::", "process::exit", "println!", "eprintln!", "std::env::", "SystemTime"] {
                assert!(!text.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    let folders = LIBRARIES.map(|crate_name| format!("{crate_name}/src"));
    for folder in folders.iter().map(String::as_str).chain(["src", "tests"]) {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{} does not say what it is", path.display());
            assert_ne!(path.file_name(), Some("mod.rs".as_ref()), "{}", path.display());
        }
    }
}

#[test]
fn versions_stand_in_the_workspace_only() {
    for crate_name in LIBRARIES {
        let text = fs::read_to_string(root().join(crate_name).join("Cargo.toml")).expect("the manifest is there");
        let dependencies = text.split("[dependencies]").nth(1).expect("a manifest has dependencies");
        let of_targets = ["\n[features]", "\n[[bench]]", "\n[lints]"];
        let end =
            of_targets.iter().filter_map(|section| dependencies.find(section)).min().unwrap_or(dependencies.len());
        let dependencies = &dependencies[..end];
        for line in dependencies.lines().filter(|line| line.contains('=') && !line.starts_with('[')) {
            assert!(line.contains("workspace = true"), "{crate_name}: {line}");
        }
    }
    assert!(Path::new(&root().join("Cargo.lock")).exists());
}
