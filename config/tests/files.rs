//! Whole job files: every example is a job, and every broken file has its list of problems.

use std::path::{Path, PathBuf};
use usher_config::{Job, Problems};

/// The files of a folder with one of these endings, sorted.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| endings.iter().any(|ending| path.extension().is_some_and(|extension| extension == *ending)))
        .collect();
    files.sort();
    files
}

fn parse(path: &Path) -> Result<Job, Problems> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
    usher_config::parse(&text, name, Path::new("/jobs"), &|_| None)
}

#[test]
fn every_example_is_a_job() {
    let examples = files("examples", &["yaml", "json"]);
    assert!(examples.len() >= 4);
    for path in examples {
        let job = parse(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(Some(job.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
        // Plan files carry the job; only its folder stays behind.
        let bytes = bincode::serialize(&job).expect("a job is serialisable");
        let back: Job = bincode::deserialize(&bytes).expect("what was written is readable");
        assert_eq!(Job { folder: "/jobs".into(), ..back }, job);
    }
}

/// Set `UPDATE=1` to write the expected texts anew.
#[test]
fn every_broken_file_has_its_problems_with_their_places() {
    let broken = files("testdata/broken", &["yaml", "json"]);
    assert!(broken.len() >= 5);
    for path in broken {
        let problems = parse(&path).err().unwrap_or_else(|| panic!("{} is not refused", path.display()));
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expected, problems.to_string()).expect("a writable folder");
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(problems.to_string(), expected, "{}", path.display());
    }
}
