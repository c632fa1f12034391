//! Where a model's Parquet is, as written: a path, a folder, a glob or a url.
//!
//! Pure: nothing here touches a disk or a network. A glob knows `*` and `?` inside a name and `**` for any number of folders; names
//! with a leading `_` or `.` are only found by a pattern that starts with that character.

use std::fmt;
use std::path::{Path, PathBuf};

use usher_core::warehouse::{SnapshotError, SnapshotErrorKind};

/// A location, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The text in front of the names found, as people see it: without query and credentials, no `/` at its end.
    pub shown: String,
    /// The whole location, as people see it.
    pub written: String,
    /// Where to start.
    pub base: Base,
    /// What to look for below the base.
    pub shape: Shape,
}

/// Where to start looking.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// A path of this machine.
    Local(PathBuf),
    /// A store, by its url without path, and the path inside it.
    Store {
        scheme: Scheme,
        /// With the query and the credentials: for the client only.
        root: String,
        path: String,
    },
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Base::Local(path) => f.debug_tuple("Local").field(path).finish(),
            Base::Store { scheme, path, .. } => {
                let mut text = f.debug_struct("Store");
                text.field("scheme", scheme).field("path", path).finish_non_exhaustive()
            }
        }
    }
}

/// The stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Scheme {
    S3,
    Gs,
    Az,
    Http,
}

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The base itself: a file; or, if there is none, a folder.
    Exact,
    /// All `*.parquet` below.
    Folder,
    /// What matches, segment by segment.
    Glob(Vec<String>),
}

impl Location {
    /// Takes `written` apart; a relative path starts at `folder`.
    ///
    /// # Errors
    ///
    /// An empty location, a url of an unknown scheme, or one without a host.
    pub fn parse(written: &str, folder: &Path) -> Result<Location, SnapshotError> {
        let refuse =
            |what: &str, hint: &str| Err(SnapshotError::new(SnapshotErrorKind::Location, written, what).hint(hint));
        if written.is_empty() {
            return refuse("the location is empty", "a path, a folder, a glob, or a url");
        }
        let Some((scheme, rest)) = written.split_once("://") else {
            return Ok(Location::local(written, folder));
        };
        let scheme = match scheme {
            "file" => {
                return Ok(Location { written: written.into(), ..Location::local(rest, folder) });
            }
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            "az" => Scheme::Az,
            "http" | "https" => Scheme::Http,
            other => {
                // Not the whole text: what an unknown url holds behind its scheme may be a secret.
                return Err(SnapshotError::new(
                    SnapshotErrorKind::Location,
                    &format!("{other}://"),
                    "an unknown kind of url",
                )
                .hint("a path, a folder, a glob, or a url of `s3`, `gs`, `az`, `http` or `https`"));
            }
        };
        // Only http has queries; in a key of a bucket `?` is a wildcard.
        let (rest, query) = match scheme {
            Scheme::Http => rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query)),
            _ => (rest, ""),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let visible_host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let prefix = &written[..written.len() - written.split_once("://").map_or(0, |(_, rest)| rest.len())];
        let shown = format!("{prefix}{visible_host}");
        let whole = format!("{shown}/{path}");
        if visible_host.is_empty() {
            return Err(SnapshotError::new(SnapshotErrorKind::Location, &whole, "the url names no bucket or host"));
        }
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let root = format!("{prefix}{host}/{query}");
        let (literal, shape) = split(path);
        let shown = if literal.is_empty() { shown } else { format!("{shown}/{literal}") };
        Ok(Location { shown, written: whole, base: Base::Store { scheme, root, path: literal }, shape })
    }

    fn local(written: &str, folder: &Path) -> Location {
        let (literal, shape) = split(written);
        // `/*.parquet` has an empty literal part that is the root, not the job's folder.
        let literal = if literal.is_empty() && written.starts_with('/') { "/".to_owned() } else { literal };
        let base = Base::Local(folder.join(&literal));
        let shown = if literal.is_empty() { ".".to_owned() } else { literal };
        Location { shown: shown.trim_end_matches('/').to_owned(), written: written.into(), base, shape }
    }
}

impl Shape {
    /// Tells whether the file at `names` below the base is one of those looked for.
    pub fn takes(&self, names: &[&str]) -> bool {
        match self {
            Shape::Exact => false,
            Shape::Folder => is_parquet_below(names),
            Shape::Glob(pattern) => {
                (pattern.last().is_some_and(|last| last != "**") && matches(pattern, names))
                    || (0..names.len()).any(|at| matches(pattern, &names[..at]) && is_parquet_below(&names[at..]))
            }
        }
    }

    /// Tells whether the folder at `names` below the base may hold what is looked for.
    pub fn enters(&self, names: &[&str]) -> bool {
        match self {
            Shape::Exact => false,
            Shape::Folder => names.iter().all(|name| is_visible(name)),
            Shape::Glob(pattern) => {
                leads(pattern, names)
                    || (0..names.len())
                        .any(|at| matches(pattern, &names[..at]) && names[at..].iter().all(|name| is_visible(name)))
            }
        }
    }
}

/// Splits at the first segment with a wildcard: the literal part, and what to look for below it.
fn split(path: &str) -> (String, Shape) {
    let segments: Vec<&str> = path.split('/').collect();
    match segments.iter().position(|segment| segment.contains(['*', '?'])) {
        Some(at) => {
            let pattern = segments[at..]
                .iter()
                .filter(|segment| !segment.is_empty())
                .map(|&segment| segment.to_owned())
                .collect();
            (segments[..at].join("/"), Shape::Glob(pattern))
        }
        None if path.ends_with('/') => (path.trim_end_matches('/').to_owned(), Shape::Folder),
        None => (path.to_owned(), Shape::Exact),
    }
}

fn is_visible(name: &str) -> bool {
    !name.starts_with(['_', '.'])
}

fn is_parquet_below(names: &[&str]) -> bool {
    names.iter().all(|name| is_visible(name)) && names.last().is_some_and(|name| name.ends_with(".parquet"))
}

/// Tells whether `pattern` matches all of `names`.
fn matches(pattern: &[String], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            matches(rest, names)
                || names.split_first().is_some_and(|(name, names)| is_visible(name) && matches(pattern, names))
        }
        (Some((first, rest)), Some((name, names))) => matches_name(first, name) && matches(rest, names),
        _ => false,
    }
}

/// Tells whether `pattern` may match something below the folder `names`.
fn leads(pattern: &[String], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some((first, rest)), Some((name, below))) if first == "**" => {
            leads(rest, names) || (is_visible(name) && leads(pattern, below))
        }
        (Some((first, rest)), Some((name, below))) => matches_name(first, name) && leads(rest, below),
    }
}

/// Tells whether `pattern`, with `*` and `?`, matches `name`; a hidden name only if the pattern spells its first character.
fn matches_name(pattern: &str, name: &str) -> bool {
    if !is_visible(name) && pattern.chars().next() != name.chars().next() {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and how far it reaches so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, reach)) = star {
            star = Some((at, reach + 1));
            (p, n) = (at + 1, reach + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::print_stdout)]
    fn a_name_matches_as_the_obvious_recursion_says() {
        fn obvious(pattern: &[u8], name: &[u8]) -> bool {
            match (pattern, name) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => obvious(rest, name) || (!name.is_empty() && obvious(pattern, &name[1..])),
                ([p, rest @ ..], [n, below @ ..]) => (*p == b'?' || p == n) && obvious(rest, below),
                _ => false,
            }
        }
        let seed = 2;
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut hits = 0;
        for _ in 0..20_000 {
            let pattern: String =
                (0..rng.usize(0..7)).map(|_| rng.choice(['a', 'b', '*', '?']).expect("a character")).collect();
            let name: String = (0..rng.usize(0..7)).map(|_| rng.choice(['a', 'b']).expect("a character")).collect();
            let expected = obvious(pattern.as_bytes(), name.as_bytes());
            assert_eq!(matches_name(&pattern, &name), expected, "{pattern} {name}");
            hits += usize::from(expected);
        }
        assert!(hits > 1_000, "{hits}");
    }

    #[test]
    #[allow(clippy::print_stdout)]
    fn a_folder_is_entered_wherever_something_below_it_is_taken() {
        let seed = 4;
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let names = ["a", "b", "_a", "a.parquet", "b.parquet", ".b"];
        let segments = ["a", "*", "**", "?", "_*", "*.parquet", "_a"];
        let mut taken = 0;
        for _ in 0..20_000 {
            let pattern = (0..rng.usize(1..4)).map(|_| segments[rng.usize(..segments.len())].to_owned()).collect();
            let shape = if rng.u8(..5) == 0 { Shape::Folder } else { Shape::Glob(pattern) };
            let path: Vec<&str> = (0..rng.usize(1..5)).map(|_| names[rng.usize(..names.len())]).collect();
            if shape.takes(&path) {
                taken += 1;
                for depth in 1..path.len() {
                    assert!(shape.enters(&path[..depth]), "{shape:?} {path:?}");
                }
            }
        }
        assert!(taken > 500, "{taken}");
    }

    #[test]
    fn a_location_is_taken_apart() {
        let parse = |written: &str| {
            let location = Location::parse(written, Path::new("/job")).expect(written);
            let base = match location.base {
                Base::Local(path) => path.display().to_string(),
                Base::Store { root, path, .. } => format!("{root} {path}"),
            };
            let shape = match location.shape {
                Shape::Exact => "exact".to_owned(),
                Shape::Folder => "folder".to_owned(),
                Shape::Glob(pattern) => pattern.join("/"),
            };
            format!("{base} | {shape} | {}", location.shown)
        };
        assert_eq!(parse("w/u.parquet"), "/job/w/u.parquet | exact | w/u.parquet");
        assert_eq!(parse("w/u/"), "/job/w/u | folder | w/u");
        assert_eq!(parse("/w/*.parquet"), "/w | *.parquet | /w");
        assert_eq!(parse("/*.parquet"), "/ | *.parquet | ");
        assert_eq!(parse("*/x/**/?.parquet"), "/job/ | */x/**/?.parquet | .");
        assert_eq!(parse("file:///w/u.parquet"), "/w/u.parquet | exact | /w/u.parquet");
        assert_eq!(parse("s3://b/w/dt=?/"), "s3://b/ w | dt=? | s3://b/w");
        assert_eq!(parse("s3://b"), "s3://b/  | exact | s3://b");
        assert_eq!(parse("gs://b/u/"), "gs://b/ u | folder | gs://b/u");
        assert_eq!(
            parse("https://me:pw@h:1/w/u.parquet?a=b&c"),
            "https://me:pw@h:1/?a=b&c w/u.parquet | exact | https://h:1/w/u.parquet"
        );
    }
}
