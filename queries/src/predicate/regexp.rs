//! Regular expressions of `regexp_matches`: an unanchored search for a literal pattern.
//!
//! Serialised as its text and compiled when read, so that a predicate is always ready to run. A pattern that the
//! `regex` crate does not compile is refused, with its error on one line.

use regex::Regex;
use serde::{Deserialize, Serialize};

/// A compiled regular expression.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Regexp(Regex);

impl Regexp {
    /// Returns the pattern.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns whether the pattern occurs anywhere in `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Regexp {
    fn eq(&self, other: &Regexp) -> bool {
        self.as_str() == other.as_str()
    }
}

impl TryFrom<String> for Regexp {
    type Error = String;

    /// Compiles a pattern; the error is one line.
    fn try_from(pattern: String) -> Result<Regexp, String> {
        Regex::new(&pattern).map(Regexp).map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        })
    }
}

impl From<Regexp> for String {
    fn from(regexp: Regexp) -> String {
        regexp.as_str().to_owned()
    }
}
