//! `usher compile`: a job file becomes one file that runs without it.
//!
//! A plan keeps the `${VAR}` of secrets. Refuses a secret that is written in the job itself; of a url its user and its query are secret.

use crate::exit::Exit;
use crate::open::load;
use crate::overwrite;
use crate::terminal::print_stderr;
use std::path::Path;
use usher_queries::plan_file;

/// Compiles `path` to `output`, replacing it whole or not at all.
pub fn compile(path: &Path, output: &Path) -> Result<(), Exit> {
    let loaded = load(path)?;
    if let Some(place) = loaded.plan.job.written_secret() {
        return Err(Exit::wrong(format_args!(
            "`{place}` is written in the job itself, and a plan must not contain secrets"
        ))
        .hint("write it as `${VAR}`: the plan keeps the name, and `run` looks the value up".to_owned()));
    }
    overwrite::refuse(&loaded, path, "-o", output)?;
    let bytes = plan_file::encode(&loaded.plan);
    let not_written = |error: std::io::Error| {
        Exit::not_opened(format_args!("the plan `{}` can't be written: {error}", output.display()))
            .hint("give a path in a folder that exists and may be written".to_owned())
    };
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(not_written)?;
    std::fs::write(file.path(), &bytes).map_err(not_written)?;
    file.persist(output).map_err(|error| not_written(error.error))?;
    let here = |folder: &Path| std::path::absolute(folder).ok();
    if here(folder) != here(&loaded.folder) {
        print_stderr(format_args!(
            "note: the job's relative paths start from `{}`, the plan's from `{}`: move the data or the plan",
            loaded.folder.display(),
            folder.display()
        ));
    }
    print_stderr(format_args!(
        "wrote `{}`, {} bytes; paths in it are relative to its folder",
        output.display(),
        bytes.len()
    ));
    Ok(())
}
