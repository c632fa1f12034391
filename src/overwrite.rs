//! Refuses to write over what a job reads: its own file, the files of its sources, and the Parquet or the Delta tables of its models.
//!
//! Paths are compared as the system resolves them, where they exist. Holds nothing. Does not look at files that the job includes, nor at schemas.

use crate::exit::Exit;
use crate::open::Loaded;
use std::path::{Path, PathBuf};
use usher_config::{Location, Parquet, SourceFrom};
use usher_connectors::file::reads;

/// Refuses a flag that names a file that is there and that the job in `job_file` reads. The flag's path is relative to the working folder.
pub fn refuse(loaded: &Loaded, job_file: &Path, flag: &str, file: &Path) -> Result<(), Exit> {
    let Ok(there) = std::fs::canonicalize(file) else { return Ok(()) };
    match reader_of(loaded, job_file, &there) {
        None => Ok(()),
        Some(reader) => {
            let message = format!("{flag} would replace `{}`, which {reader}", file.display());
            Err(Exit::wrong(message).hint("give another path".to_owned()))
        }
    }
}

/// Returns what of a job reads a file, as a clause; `None` if nothing does. A relative path starts at the job's folder.
pub fn reader_of(loaded: &Loaded, job_file: &Path, file: &Path) -> Option<String> {
    let job = &loaded.plan.job;
    let file = resolved(&loaded.folder.join(file));
    if resolved(job_file) == file {
        return Some("is the job file".to_owned());
    }
    let is_read = |from: &SourceFrom| matches!(from, SourceFrom::File { path, .. } if reads(path, &file.to_string_lossy(), &loaded.folder));
    if let Some((id, _)) = job.sources.iter().find(|(_, source)| is_read(&source.from)) {
        return Some(format!("the source `{id}` reads"));
    }
    let is_taken = |parquet: &Parquet| match parquet {
        Parquet::Files(files) => takes(files, &loaded.folder, &file, is_parquet),
        // Its log too.
        Parquet::Delta(table) => takes(&table.url, &loaded.folder, &file, |_| true),
    };
    let model = job.models.iter().find(|(_, model)| model.parquet.as_ref().is_some_and(is_taken));
    model.map(|(id, _)| format!("the model `{id}` reads"))
}

fn is_parquet(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "parquet")
}

/// Returns whether a location on this machine takes in a file: it is the file, or a folder around it whose files `counts`; or a pattern of either.
fn takes(location: &Location, folder: &Path, file: &Path, counts: fn(&Path) -> bool) -> bool {
    let path = location.shown().strip_prefix("file://").unwrap_or(location.shown());
    if path.contains("://") {
        return false;
    }
    let is_taken = |place: &Path| {
        let place = resolved(place);
        place == *file || counts(file) && file.starts_with(&place)
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let pattern = Path::new(&glob::Pattern::escape(&folder.to_string_lossy())).join(path);
    is_taken(&folder.join(path))
        || path.contains(['*', '?', '['])
            && glob::glob(&pattern.to_string_lossy()).is_ok_and(|found| found.flatten().any(|place| is_taken(&place)))
}

/// Returns the path that the system resolves a path to; one that does not exist as an absolute path.
fn resolved(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}
