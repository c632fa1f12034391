//! Parses a job file into a [`Job`].
//!
//! The crate is pure: the input is a text, the output a [`Job`] or its [`Problems`], all of them at once. Nothing here
//! opens a file, reads the environment or a clock; callers pass the text and a function that looks variables up.
//!
//! A file passes these modules in order:
//!
//! | module | step |
//! |---|---|
//! | `yaml` | text to a tree of nodes with places |
//! | `variables` | `${VAR}` in string leaves |
//! | `include` | the sections of included files |
//! | `typed` | nodes to typed values, by `schema` |
//! | `build` | values to the [`Job`], references checked |
//!
//! `schema` is the one list of keys; `json_schema` exports it.

mod build;
pub mod decimal;
pub mod duration;
mod include;
pub mod job;
mod json_schema;
pub mod location;
pub mod path;
pub mod problem;
pub mod rate;
pub mod salvage;
mod schema;
pub mod share;
pub mod size;
mod typed;
mod variables;
pub mod vendor;
pub mod webhook;
mod yaml;

use std::path::Path as FilePath;

pub use decimal::Decimal;
pub use include::{Include, Included};
pub use job::*;
pub use json_schema::schema;
pub use location::Location;
pub use path::{Found, Path, Step};
pub use problem::{Place, Problem, Problems};
pub use rate::Rate;
pub use salvage::{Fragment, Gap, Gaps, Includes, Salvage};
pub use share::Share;
pub use usher_core::suggest::{nearest, some_of};
pub use vendor::*;
pub use webhook::*;

/// The problems of a job file, and the parts that could be built nevertheless.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// All problems, in the file's order.
    pub problems: Problems,
    /// The parts; `None` if the file is no mapping, or can't be parsed.
    pub salvage: Option<Box<Salvage>>,
}

/// Parses a job file that includes no others: YAML, of which JSON is a subset.
///
/// `file` is the file's name as the user gave it, for messages; relative paths are relative to `folder`; `variable`
/// returns the value of `${VAR}`. The error has all problems of the file, in the file's order.
pub fn parse(
    text: &str,
    file: &str,
    folder: &FilePath,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Job, Problems> {
    let include: Include = &|_| Err("this job is not read from a folder".to_owned());
    parse_or_salvage(text, file, folder, variable, include).map_err(|broken| broken.problems)
}

/// Parses like [`parse`], with the files that the job includes, and returns the parts of a broken job that could be
/// built.
pub fn parse_or_salvage(
    text: &str,
    file: &str,
    folder: &FilePath,
    variable: &dyn Fn(&str) -> Option<String>,
    files: Include,
) -> Result<Job, Broken> {
    let mut problems = Vec::new();
    let built = match yaml::parse(text, "", &mut problems) {
        Ok(mut root) => {
            variables::substitute(&mut root, "", variable, &mut problems);
            include::include(&mut root, files, variable, &mut problems);
            typed::job(&root, &mut problems).map(|fields| build::job(&fields, folder, &mut problems))
        }
        // Problems from before a syntax error may be consequences of it.
        Err(problem) => {
            problems = vec![problem];
            None
        }
    };
    match built {
        Some(built) if built.whole && problems.is_empty() => Ok(built.salvage.job),
        built => {
            assert!(!problems.is_empty(), "a job is refused for a reason");
            let problems = Problems::new(file, problems);
            Err(Broken { problems, salvage: built.map(|built| Box::new(built.salvage)) })
        }
    }
}
