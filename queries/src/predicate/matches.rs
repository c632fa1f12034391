//! `regexp_matches`: an unanchored search for a literal pattern.
//!
//! Serialised as its text and compiled when read, so that a predicate is always ready to run.

use regex::Regex;
use serde::{Deserialize, Serialize};

/// A compiled regular expression.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Matches(Regex);

impl Matches {
    /// The pattern.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is found anywhere in the text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Matches {
    fn eq(&self, other: &Matches) -> bool {
        self.as_str() == other.as_str()
    }
}

impl TryFrom<String> for Matches {
    type Error = String;

    /// Compiles a pattern; the error is one line.
    fn try_from(pattern: String) -> Result<Matches, String> {
        Regex::new(&pattern).map(Matches).map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        })
    }
}

impl From<Matches> for String {
    fn from(matches: Matches) -> String {
        matches.as_str().to_owned()
    }
}
