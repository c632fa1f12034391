//! Places of files: what would lead elsewhere than the author means, and files with two uses.

use std::path::Path;

fn problems(job: &str) -> String {
    usher_config::parse(job, "job.yaml", Path::new("/jobs"), &|_| None)
        .map_or_else(|p| p.to_string(), |_| String::new())
}

fn job(source: &str, parquet: &str, sync: &str, rest: &str) -> String {
    format!(
        "job: j\nsources: {{web: {{file: {{path: \"{source}\"}}, format: segment}}}}\nmodels: {{users: {{parquet: \"{parquet}\", key: id}}}}\nsyncs: {{out: {{to: {{file: {{path: \"{sync}\"}}}}}}}}\n{rest}\n"
    )
}

#[test]
fn a_location_that_would_lead_elsewhere_is_refused_with_what_to_write() {
    for (parquet, want) in [
        (
            "~/w/u.parquet",
            "`~/w/u.parquet` would be a folder with the name `~`\n  hint: write the whole path, or `${HOME}/w/u.parquet`",
        ),
        (
            "file://localhost/w",
            "is on a machine `localhost`: behind `file://` comes a path that begins with `/`\n  hint: write `file:///w`",
        ),
        ("file:w", "`file:w` is not a url: behind `file:` come two slashes\n  hint: write a path, or `file:///w`"),
        ("s3:/bucket/w", "`s3:…` is not a url: behind `s3:` come two slashes\n  hint: write `s3://…`"),
        (
            "ftp://host/w",
            "a snapshot can't be at `ftp://`\n  hint: give a path, or a url that begins with `file://`, `s3://`",
        ),
    ] {
        let found = problems(&job("e.jsonl", parquet, "o.jsonl", ""));
        assert!(found.contains("job.yaml:3:27: models.users.parquet: ") && found.contains(want), "{parquet}: {found}");
    }
    for right in ["w/", "/w/*.parquet", "file:///w", "s3://b/w", "https://h/u.parquet", "a:b.parquet", "w/~/x"] {
        assert_eq!(problems(&job("e.jsonl", right, "o.jsonl", "")), "", "{right}");
    }
}

#[test]
fn a_path_of_a_source_that_is_no_glob_is_refused_at_its_place() {
    let path = |path: &str| problems(&job(path, "w", "o.jsonl", ""));
    for (wrong, want) in [
        (
            "events-[.jsonl",
            "invalid range pattern\n  hint: a `[` begins a set of characters, as in `[0-9]`; write `[[]`",
        ),
        ("é[", "invalid range pattern\n  hint: a `[` begins"),
        (
            "a/**.jsonl",
            "recursive wildcards must form a single path component\n  hint: `*` stands for a part of a name",
        ),
        ("a/***", "wildcards are either regular `*` or recursive `**`\n  hint: `*` stands for a part of a name"),
    ] {
        let want = format!("job.yaml:2:30: sources.web.file.path: `{wrong}` is not a glob: {want}");
        assert!(path(wrong).contains(&want), "{wrong}: {}", path(wrong));
    }
    for right in ["e[0-9].jsonl", "**/e-?.jsonl", "e[[].jsonl", "e[/", "e].jsonl"] {
        assert_eq!(path(right), "", "{right}");
    }
}

#[test]
fn state_and_files_are_where_they_can_be() {
    let state = |url: &str| problems(&job("e.jsonl", "w", "o.jsonl", &format!("state: {{url: \"{url}\"}}")));
    for (url, want) in [
        (
            "redis://x",
            "state.url: state can't be at `redis://`\n  hint: give a path, or a url that begins with `file://`, `s3://`, `gs://` or `az://`",
        ),
        ("https://x/y", "state.url: state can't be at `https://`"),
        ("file://state", "state.url: `file://state` is on a machine `state`"),
        ("~/state", "state.url: `~/state` would be a folder with the name `~`"),
    ] {
        assert!(state(url).contains(want), "{url}: {}", state(url));
    }
    for right in ["state", "file:///s", "s3://b/s", "gs://b/s", "az://b/s"] {
        assert_eq!(state(right), "", "{right}");
    }
    let found = problems(&job("s3://b/e.jsonl", "w", "~/o.jsonl", ""));
    assert!(found.contains("sources.web.file.path: a source of files can't be at `s3://`"), "{found}");
    assert!(found.contains("syncs.out.to.file.path: `~/o.jsonl` would be a folder"), "{found}");
}

#[test]
fn a_file_has_one_use() {
    let two = "dead_letters: {file: {path: ./o.jsonl}}";
    let found = problems(&job("e.jsonl", "w", "o.jsonl", two));
    assert!(
        found.contains("dead_letters.file.path: `dead_letters` writes to `./o.jsonl`, which the sync `out` writes too"),
        "{found}"
    );
    for (source, sync) in [("o.jsonl", "o.jsonl"), ("data/", "data/o.jsonl"), ("*.jsonl", "x/../o.jsonl")] {
        let found = problems(&job(source, "w", sync, ""));
        let want = format!(
            "syncs.out.to.file.path: the sync `out` writes to `{sync}`, which the source `web` reads\n  hint: "
        );
        assert!(found.contains(&want), "{source} {sync}: {found}");
    }
    assert_eq!(problems(&job("data/", "w", "out/o.jsonl", "dead_letters: {file: {path: d.jsonl}}")), "");
}
