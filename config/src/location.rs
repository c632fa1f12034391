//! Where files or a store are: a path or a url, of which user info and query may be secrets.
//!
//! Promises: a url with either keeps its `${VAR}`, and is shown without them. Holds of such a url the text of the file only.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::Secret;

/// A path, folder, glob or url. Shown without what may be secret in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    shown: String,
    /// The text of the file, if more than what is shown belongs to it.
    secret: Option<Secret>,
}

impl Location {
    /// Returns that of a text; `written` is the text of the file, if that has `${VAR}`.
    pub(crate) fn new(text: &str, written: Option<&str>) -> Location {
        let shown = without_secrets(text);
        let secret = (shown != text).then(|| Secret(written.unwrap_or(text).to_owned()));
        Location { shown, secret }
    }

    /// Returns what was written, with the values of `variable` for each `${VAR}` in a url that may have secrets. The error names a variable that is
    /// not set.
    pub fn resolve(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        match &self.secret {
            Some(secret) => secret.resolve(variable),
            None => Ok(self.shown.clone()),
        }
    }

    /// Returns it without what may be secret in it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns a text that another location has not, without what may be secret: of a url that has more than is shown, with a hash of the text of the
    /// file. So another value of its variables is no other location.
    pub fn identity(&self) -> String {
        match &self.secret {
            Some(Secret(written)) => format!("{} {:016x}", self.shown, hash(written)),
            None => self.shown.clone(),
        }
    }

    /// Returns the text of the file, if more than what is shown belongs to it.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }
}

impl From<&str> for Location {
    /// Returns that of a text that has no `${VAR}`.
    fn from(text: &str) -> Location {
        Location::new(text, None)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Returns the FNV-1a hash of a text. It is kept with the state: it must not change.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Returns a url without user info and query; another text as it is.
fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| *scheme != "file") else {
        return text.to_owned();
    };
    let rest = rest
        .find('?')
        .filter(|at| scheme.starts_with("http") || is_query(&rest[at + 1..]))
        .map_or(rest, |at| &rest[..at]);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Returns whether what is behind a `?` is a query. In a key of a bucket it is a wildcard.
fn is_query(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or_default();
    name.len() < text.len()
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_and_query_and_keeps_its_variables() {
        for (text, shown) in [
            ("https://me:pw@h:1/w/u.parquet?sig=x#y", "https://h:1/w/u.parquet"),
            ("s3://bucket/x?secret=7", "s3://bucket/x"),
            ("https://a@b@h", "https://h"),
        ] {
            let location = Location::new(text, Some("${URL}"));
            assert_eq!((location.shown(), location.to_string()), (shown, shown.to_owned()));
            assert_eq!(location.secret(), Some(&Secret("${URL}".to_owned())));
            assert_eq!(location.resolve(&|_| Some(text.to_owned())), Ok(text.to_owned()));
            assert!(!format!("{location:?}").contains("pw"));
        }
        let identity = |text: &str, written: &str| Location::new(text, Some(written)).identity();
        assert_eq!(
            identity("https://h/u?sig=1", "https://h/u?sig=${SIG}"),
            identity("https://h/u?sig=2", "https://h/u?sig=${SIG}")
        );
        assert_ne!(Location::from("https://h/u?table=a").identity(), Location::from("https://h/u?table=b").identity());
        assert_eq!(Location::from("https://h/u?a").identity(), "https://h/u d07b0fe54c71cf8e");
        assert_eq!(Location::from("users/").identity(), "users/");
        for text in [
            "users/",
            "a/what?.parquet",
            "file:///a?b",
            "s3://bucket/a@b/*.parquet",
            "gs://b/x=202?/y=?.parquet",
            "me@there/x",
        ] {
            let location = Location::new(text, Some("${PLACE}"));
            assert_eq!((location.shown(), location.secret()), (text, None));
            assert_eq!(location.resolve(&|_| None), Ok(text.to_owned()));
        }
    }
}
