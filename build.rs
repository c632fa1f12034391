//! Makes the commit that is built known to the program, as `USHER_COMMIT`; empty if it is not known.
//!
//! `USHER_COMMIT` in the environment comes first: packages are built from sources without git. Else git has it, but not for development
//! builds, which would be built anew at each commit.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=USHER_COMMIT");
    let given = std::env::var("USHER_COMMIT").ok().filter(|commit| !commit.is_empty());
    let is_release = std::env::var("OPT_LEVEL").is_ok_and(|level| level == "3")
        || std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| if is_release { commit() } else { None }).unwrap_or_default();
    println!("cargo::rustc-env=USHER_COMMIT={commit}");
}

/// Returns the commit that is checked out.
fn commit() -> Option<String> {
    // The log of HEAD grows with each commit and each checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}
