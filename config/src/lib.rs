//! A job file becomes a value.
//!
//! Pure: text in, [`Job`] or [`Problems`] out. Nothing here opens a file, reads the environment or knows
//! a clock; callers hand in the text and a function that looks variables up.

mod build;
pub mod decimal;
pub mod duration;
pub mod job;
mod json_schema;
pub mod path;
pub mod problem;
mod schema;
pub mod size;
mod suggest;
mod typed;
mod variables;
mod yaml;

use std::path::Path as FilePath;

pub use decimal::Decimal;
pub use job::*;
pub use json_schema::schema;
pub use path::{Found, Path, Step};
pub use problem::{Place, Problem, Problems};
pub use suggest::nearest;

/// What is wrong with a job file, and what could be read of it all the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// All problems, in the file's order.
    pub problems: Problems,
    /// For finding more of them: sources, models and events as far as they could be built, and audiences that have nothing but
    /// the conditions whose predicates can be read. Not to be run.
    pub salvage: Option<Box<Job>>,
}

/// Reads a job file: YAML, of which JSON is a subset.
///
/// `file` is the file's name as the user gave it, for messages; `folder` is what relative paths are relative to;
/// `variable` looks up what `${VAR}` stands for. The error has all problems of the file, in the file's order.
pub fn parse(
    text: &str,
    file: &str,
    folder: &FilePath,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Job, Problems> {
    parse_or_salvage(text, file, folder, variable).map_err(|broken| broken.problems)
}

/// Does what [`parse`] does; of a broken file it also hands out what could be read.
pub fn parse_or_salvage(
    text: &str,
    file: &str,
    folder: &FilePath,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Job, Broken> {
    let mut problems = Vec::new();
    let built = match yaml::parse(text, &mut problems) {
        Ok(mut root) => {
            variables::substitute(&mut root, "", variable, &mut problems);
            typed::job(&root, &mut problems).map(|fields| build::job(&fields, folder, &mut problems))
        }
        // What was found before the text broke off may be an effect of that.
        Err(problem) => {
            problems = vec![problem];
            None
        }
    };
    match built {
        Some(built) if built.whole && problems.is_empty() => Ok(built.job),
        built => {
            assert!(!problems.is_empty(), "a job is refused for a reason");
            let problems = Problems::new(file, problems);
            Err(Broken { problems, salvage: built.map(|built| Box::new(built.job)) })
        }
    }
}
