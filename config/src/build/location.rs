//! Checks where files are: paths and urls that would lead elsewhere than the author means, and files with two uses.
//!
//! Paths are compared as they are written, without links: nothing is opened.

use std::path::{Component, Path, PathBuf};

use usher_core::suggest::or_list;

use super::Builder;
use crate::Place;
use crate::schema::{
    Fields, Form, destination as to_keys, job, model as model_keys, process, source as source_keys, sync,
};

/// The schemes of urls that a snapshot can have.
const OF_SNAPSHOTS: &[&str] = &["file", "s3", "gs", "az", "http", "https"];
/// The schemes of urls that state can have.
const OF_STATE: &[&str] = &["file", "s3", "gs", "az"];

/// A file that the job writes, with its place.
struct Written<'a> {
    what: String,
    path: &'a str,
    place: &'a Place,
}

impl<'a> Builder<'a> {
    /// Reports locations that are not what they seem.
    pub(super) fn check_locations(&mut self, file: &'a Fields) {
        for model in file.entries(&job::MODELS) {
            let Some(model) = model.item else { continue };
            if let Some(parquet) = model.value.at(&model_keys::PARQUET) {
                self.check_location(parquet.place, parquet.value.shown(), OF_SNAPSHOTS, "a snapshot");
            }
            if let Some(table) = model.value.at(&model_keys::DELTA) {
                let (place, url) = match table.value {
                    Form::Short(url) => (table.place, url),
                    Form::Long(long) => match long.at(&model_keys::URL) {
                        Some(url) => (url.place, url.value),
                        None => continue,
                    },
                };
                self.check_location(place, url.shown(), OF_SNAPSHOTS, "a snapshot");
            }
        }
        if let Some(url) = file.get(&job::STATE).and_then(|state| state.at(&process::URL)) {
            self.check_location(url.place, url.value.shown(), OF_STATE, "state");
        }
        let sources = file.entries(&job::SOURCES).into_iter();
        let sources =
            sources.filter_map(|source| source.item?.value.get(&source_keys::FILE)?.at(&source_keys::FILE_PATH));
        let read: Vec<_> = sources.collect();
        for path in read {
            self.check_location(path.place, path.value, &[], "a source of files");
            self.check_glob(path.place, path.value);
        }
        for Written { path, place, .. } in written(file) {
            self.check_location(place, path, &[], "a file that is written");
        }
    }

    /// Reports a location that is no path of this machine and no url of one of `schemes`.
    fn check_location(&mut self, place: &Place, text: &str, schemes: &[&str], what: &str) {
        if text == "~" || text.starts_with("~/") {
            let message = format!("`{text}` would be a folder with the name `~`");
            self.report_with_hint(place, message, format!("write the whole path, or `${{HOME}}{}`", &text[1..]));
            return;
        }
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else { return };
        let all: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let known = OF_SNAPSHOTS.contains(&scheme);
        match rest.strip_prefix("//") {
            // `a:b` may be a file's name; that of a scheme is a url with a mistake.
            None if !known => {}
            None => {
                let right = rest.trim_start_matches('/');
                let right = if scheme == "file" { format!("file:///{right}") } else { format!("{scheme}://{right}") };
                // What is behind the scheme may be a secret of a url.
                let shown = if scheme == "file" { format!("`{text}`") } else { format!("`{scheme}:…`") };
                let hint = if scheme == "file" {
                    format!("write a path, or `{right}`")
                } else {
                    format!("write `{scheme}://…`")
                };
                self.report_with_hint(
                    place,
                    format!("{shown} is not a url: behind `{scheme}:` come two slashes"),
                    hint,
                );
            }
            Some(_) if !schemes.contains(&scheme) => {
                let message = format!("{what} can't be at `{scheme}://`");
                let hint = match schemes {
                    [] => "give a path, relative to the job file's folder".to_owned(),
                    _ => format!("give a path, or a url that begins with {}", or_list(&all)),
                };
                self.report_with_hint(place, message, hint);
            }
            Some(path) if scheme == "file" && !path.starts_with('/') => {
                let (host, path) = path.split_once('/').unwrap_or((path, ""));
                let message =
                    format!("`{text}` is on a machine `{host}`: behind `file://` comes a path that begins with `/`");
                self.report_with_hint(place, message, format!("write `file:///{path}`, or a path without `file://`"));
            }
            Some(_) => {}
        }
    }

    /// Reports the path of a source that would be a glob, and is none.
    fn check_glob(&mut self, place: &Place, path: &str) {
        if path.ends_with('/') {
            return;
        }
        let Err(error) = glob::Pattern::new(path) else { return };
        let hint = match path.chars().nth(error.pos) == Some('[') {
            true => "a `[` begins a set of characters, as in `[0-9]`; write `[[]` for the character itself",
            false => "`*` stands for a part of a name, and `**` for folders, alone between slashes",
        };
        self.report_with_hint(place, format!("`{path}` is not a glob: {}", error.msg), hint);
    }

    /// Reports files that are written twice, and files that the job writes and reads: it would read its own messages.
    pub(super) fn check_files(&mut self, file: &'a Fields) {
        let written = written(file);
        for (at, Written { what, path, place }) in written.iter().enumerate() {
            let other = written[..at].iter().find(|other| plain(other.path) == plain(path));
            if let Some(other) = other {
                let message = format!("{what} writes to `{path}`, which {} writes too", other.what);
                self.report_with_hint(place, message, "give each a file of its own");
            }
            for source in file.entries(&job::SOURCES) {
                let read =
                    source.item.and_then(|source| source.value.get(&source_keys::FILE)?.get(&source_keys::FILE_PATH));
                if read.is_some_and(|read| reads(read, path)) {
                    let message = format!("{what} writes to `{path}`, which the source `{}` reads", source.name);
                    self.report_with_hint(place, message, "write to a folder that no source reads");
                }
            }
        }
    }
}

/// Returns the files that syncs and dead letters write, in the order of their ids.
fn written(file: &Fields) -> Vec<Written<'_>> {
    let syncs = file.entries(&job::SYNCS).into_iter().filter_map(|entry| {
        let path = entry.item?.value.get(&sync::TO)?.get(&to_keys::FILE)?.at(&to_keys::FILE_PATH)?;
        Some(Written { what: format!("the sync `{}`", entry.name), path: path.value, place: path.place })
    });
    let letters = file.get(&job::DEAD_LETTERS).and_then(|to| to.get(&to_keys::FILE)?.at(&to_keys::FILE_PATH));
    let letters =
        letters.map(|path| Written { what: "`dead_letters`".to_owned(), path: path.value, place: path.place });
    syncs.chain(letters).collect()
}

fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Returns a path without `.` and, where it can be seen, without `..`.
fn plain(path: &str) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Returns whether a source of that path reads a file: the path is the file, a folder around it or a glob of it. In a
/// folder, names that begin with `_` or `.` are not read.
fn reads(source: &str, file: &str) -> bool {
    let (source, file) = (plain(source), plain(file));
    let is_hidden = |part: Component<'_>| matches!(part, Component::Normal(name) if matches!(name.as_encoded_bytes().first(), Some(b'_' | b'.')));
    if let Ok(below) = file.strip_prefix(&source) {
        return !below.components().any(is_hidden);
    }
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::default() };
    glob::Pattern::new(&source.display().to_string()).is_ok_and(|pattern| pattern.matches_path_with(&file, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_reads_its_file_what_is_in_its_folder_and_what_its_glob_matches() {
        for (source, file) in [
            ("a.jsonl", "./a.jsonl"),
            ("data/", "data/out.jsonl"),
            ("./data", "data/x/../deep/out.jsonl"),
            ("data/*.jsonl", "data/out.jsonl"),
            ("*/out.*", "data/out.jsonl"),
            (".", "out.jsonl"),
            ("/abs", "/abs/x"),
        ] {
            assert!(reads(source, file), "{source} {file}");
        }
        for (source, file) in [
            ("data", "data.jsonl"),
            ("data/", "out/data"),
            ("data/", "data/_out.jsonl"),
            ("data/", "data/.hidden/out.jsonl"),
            ("data/*.jsonl", "data/deep/out.jsonl"),
            ("data/*.jsonl", "data/out.json"),
            ("/abs", "abs/x"),
        ] {
            assert!(!reads(source, file), "{source} {file}");
        }
    }
}
