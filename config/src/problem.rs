//! What is wrong with a job, where, and what to do about it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where in the job file something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The path from the top of the file: `audiences.high_intent.where.all[1]`.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// What is wrong: lower case, no full stop, names in backticks.
    pub message: String,
    /// What to do, where there is something to say.
    pub hint: Option<String>,
}

/// All that is wrong with one file, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file's name as the user gave it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Problem {
    /// Says `message` of `place`.
    pub fn new(place: &Place, message: impl Into<String>) -> Problem {
        Problem { place: place.clone(), message: message.into(), hint: None }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

impl Problems {
    /// Puts problems of a file in its order.
    pub fn new(file: &str, mut problems: Vec<Problem>) -> Problems {
        problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
        Problems { file: file.to_owned(), problems }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            let Place { path, line, column } = &problem.place;
            let colon = if path.is_empty() { "" } else { ": " };
            writeln!(f, "{}:{line}:{column}: {path}{colon}{}", self.file, problem.message)?;
            if let Some(hint) = &problem.hint {
                writeln!(f, "  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
