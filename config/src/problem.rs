//! Problems of a job file, each with its place and a hint.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A position in the job file, or in a file that it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The included file, relative to the job file's folder; empty for the job file itself.
    pub file: String,
    /// The path from the top of the file: `audiences.high_intent.where.all[1]`.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// One problem of a job file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its place.
    pub place: Place,
    /// The message: lower case, no full stop, names in backticks.
    pub message: String,
    /// How to fix it; `None` if the message is enough.
    pub hint: Option<String>,
}

/// All problems of a job file and of the files that it includes, in the order of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The job file's name as the user gave it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Problem {
    /// Returns a problem without a hint.
    pub fn new(place: &Place, message: impl Into<String>) -> Problem {
        Problem { place: place.clone(), message: message.into(), hint: None }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

impl Problems {
    /// Sorts the problems of a job by their places: those of the job file first, then those of each included file.
    pub fn new(file: &str, mut problems: Vec<Problem>) -> Problems {
        problems.sort_by(|a, b| {
            let key = |problem: &Problem| (problem.place.line, problem.place.column);
            a.place.file.cmp(&b.place.file).then_with(|| key(a).cmp(&key(b)))
        });
        Problems { file: file.to_owned(), problems }
    }

    /// Returns the name of the file of a place, as the user would give it.
    pub fn file_of(&self, place: &Place) -> String {
        match place.file.as_str() {
            "" => self.file.clone(),
            included => Path::new(&self.file).with_file_name(included).display().to_string(),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            let Place { path, line, column, .. } = &problem.place;
            let colon = if path.is_empty() { "" } else { ": " };
            writeln!(f, "{}:{line}:{column}: {path}{colon}{}", self.file_of(&problem.place), problem.message)?;
            if let Some(hint) = &problem.hint {
                writeln!(f, "  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
