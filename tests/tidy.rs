//! The crate graph and the house rules that a compiler does not check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

const LIBRARIES: [&str; 4] = ["config", "queries", "connectors", "dataflow"];

#[test]
fn layers_point_one_way() {
    assert_eq!(ours("config/Cargo.toml"), set(&[]));
    assert_eq!(ours("queries/Cargo.toml"), set(&["usher-config"]));
    assert_eq!(ours("connectors/Cargo.toml"), set(&["usher-config"]));
    assert_eq!(ours("dataflow/Cargo.toml"), set(&["usher-config", "usher-queries", "usher-connectors"]));
}

#[test]
fn only_dataflow_names_timely_and_differential() {
    for folder in ["config/src", "queries/src", "connectors/src", "src"] {
        for (path, text) in sources(folder) {
            for name in ["timely::", "differential_dataflow"] {
                assert!(!text.contains(name), "{} names {name}", path.display());
            }
        }
    }
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
    for folder in ["config/src", "queries/src", "connectors/src", "dataflow/src", "src", "tests"] {
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
        let dependencies = dependencies.split("\n[features]").next().expect("a split has a first part");
        for line in dependencies.lines().filter(|line| line.contains('=') && !line.starts_with('[')) {
            assert!(line.contains("workspace = true"), "{crate_name}: {line}");
        }
    }
    assert!(Path::new(&root().join("Cargo.lock")).exists());
}
