//! Real files in a temporary folder, read as the job would.

use super::find::Listed;
use super::partition::FilePartition;
use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, OpenOptions};
use std::io::Write;
use usher_core::source::{Body, HEAD_BYTES, Polled};

/// A body that outlives its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Bytes(String),
    Blank,
    TooLarge(Vec<u8>, u64),
}

fn bytes(text: &str) -> Owned {
    Owned::Bytes(text.to_string())
}

/// Records with their positions.
type Found = Vec<(u64, Owned)>;

/// Polls until there is nothing more: the records, and whether that was the end.
fn drain(partition: &mut dyn Partition, budget: usize) -> Result<(Found, bool), (Found, SourceError)> {
    let mut all = Vec::new();
    loop {
        match partition.poll(budget) {
            Ok(Polled::Records(records)) => {
                let before = all.len();
                all.extend(records.map(|record| {
                    let body = match record.body {
                        Body::Bytes(bytes) => Owned::Bytes(String::from_utf8_lossy(bytes).into_owned()),
                        Body::Blank => Owned::Blank,
                        Body::TooLarge { head, length } => Owned::TooLarge(head.to_vec(), length),
                    };
                    (record.position, body)
                }));
                assert!(all.len() > before, "a batch has at least one record");
                assert!(all.last().unwrap().0 < partition.position());
            }
            Ok(Polled::Idle) => return Ok((all, false)),
            Ok(Polled::End) => return Ok((all, true)),
            Err(error) => return Err((all, error)),
        }
    }
}

/// The records that are there now, without their positions.
fn bodies(partition: &mut dyn Partition) -> Vec<Owned> {
    let (records, _) = drain(partition, 1 << 20).expect("the file is sound");
    records.into_iter().map(|(_, body)| body).collect()
}

/// Opens all that are known.
fn partitions(files: &mut Files) -> Vec<Box<dyn Partition>> {
    let known = files.partitions();
    known.iter().map(|id| files.open(id, None).expect("it can be opened")).collect()
}

/// Opens those that have come.
fn discovered(files: &mut Files) -> Vec<Box<dyn Partition>> {
    let new = files.discover().expect("the folder can be read");
    new.iter().map(|id| files.open(id, None).expect("it can be opened")).collect()
}

fn open(folder: &Path, path: &str, follow: bool) -> Files {
    open_files("web", path, folder, follow, 1 << 20).expect("it can be opened")
}

/// The only partition.
fn single(folder: &Path, path: &str, follow: bool) -> Box<dyn Partition> {
    let mut partitions = partitions(&mut open(folder, path, follow));
    assert_eq!(partitions.len(), 1);
    partitions.remove(0)
}

fn names(partitions: &[Box<dyn Partition>]) -> Vec<&str> {
    partitions.iter().map(|partition| &partition.id().name[..]).collect()
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// All lines of `content`, found the obvious way.
fn split(content: &[u8], message_bytes: usize) -> Vec<(u64, Owned)> {
    let mut records = Vec::new();
    let mut position = 0;
    for line in content.split_inclusive(|b| *b == b'\n') {
        let start = position;
        position += line.len() as u64;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let body = if line.len() > message_bytes {
            Owned::TooLarge(line[..line.len().min(HEAD_BYTES)].to_vec(), line.len() as u64)
        } else if line.trim_ascii().is_empty() {
            Owned::Blank
        } else {
            Owned::Bytes(String::from_utf8_lossy(line).into_owned())
        };
        records.push((start, body));
    }
    records
}

#[test]
fn any_content_is_split_as_the_obvious_way_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut long, mut moved) = (0, 0);
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut content = Vec::new();
        for _ in 0..rng.usize(0..60) {
            let longest = *rng.choice(&[3, 20, 90]).unwrap();
            for _ in 0..rng.usize(0..longest) {
                content.push(*rng.choice(b"ab \t\r\"{}").unwrap());
            }
            content.extend_from_slice(rng.choice([&b"\n"[..], b"\r\n"]).unwrap());
        }
        content.truncate(content.len() - rng.usize(0..3).min(content.len()));
        let message_bytes = rng.usize(1..120);
        let buffer = rng.usize(2..80);
        let budget = rng.usize(0..200);
        let (name, stored) = match rng.u8(0..4) {
            0 => ("a.gz", gzip(&content)),
            1 => ("a.zst", zstd::encode_all(&content[..], 1).unwrap()),
            _ => ("a.jsonl", content.clone()),
        };
        let path = folder.path().join(name);
        fs::write(&path, &stored).unwrap();
        let file = Listed { path, size: Some(stored.len() as u64), identity: None };
        let id = PartitionId { source: "web".into(), name: name.into() };
        let mut partition = FilePartition::new(id, file, false, message_bytes, buffer, &Followed::default());
        let expected = split(&content, message_bytes);
        let found = drain(&mut partition, budget);
        assert_eq!(found, Ok((expected.clone(), true)), "seed {seed}");
        assert_eq!(partition.position(), content.len() as u64, "seed {seed}");
        assert_eq!(partition.progress(), (stored.len() as u64, stored.len() as u64));
        assert!(partition.caught_up());
        long += expected.iter().filter(|(_, body)| matches!(body, Owned::TooLarge(..))).count();
        moved += usize::from(buffer < content.len());
    }
    assert!(long > 100 && moved > 100, "{long} long lines, {moved} of more than a buffer");
}

#[test]
fn a_line_of_40_mb_is_counted_and_never_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let long = vec![b'x'; 40_000_000];
    for end in [&b""[..], b"\n", b"\r\n", b"\nlast"] {
        fs::write(&path, [b"first\n", &long[..], end].concat()).unwrap();
        let file = Listed { path: path.clone(), size: Some(fs::metadata(&path).unwrap().len()), identity: None };
        let id = PartitionId { source: "web".into(), name: "a.jsonl".into() };
        let mut partition = FilePartition::new(id, file, false, 1 << 20, BUFFER_BYTES_MAX, &Followed::default());
        let mut held = 0;
        let mut found = Vec::new();
        loop {
            let end = match partition.poll(1 << 16).unwrap() {
                Polled::Records(records) => {
                    found.extend(records.map(|record| match record.body {
                        Body::TooLarge { head, length } => {
                            assert!(head.iter().all(|b| *b == b'x'));
                            (record.position, head.len(), length)
                        }
                        Body::Bytes(bytes) => (record.position, bytes.len(), bytes.len() as u64),
                        Body::Blank => panic!("no line is blank"),
                    }));
                    false
                }
                Polled::Idle => panic!("it is not followed"),
                Polled::End => true,
            };
            held = held.max(partition.held_bytes());
            if end {
                break;
            }
        }
        let mut expected = vec![(0, 5, 5), (6, HEAD_BYTES, 40_000_000)];
        if end == b"\nlast" {
            expected.push((40_000_007, 4, 4));
        }
        assert_eq!(found, expected);
        assert!(held < 3 << 20, "held {held} bytes");
    }
}

#[test]
fn an_empty_file_is_at_its_end_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.jsonl", "a.gz", "a.zst"] {
        fs::write(folder.path().join(name), "").unwrap();
        let mut partition = single(folder.path(), name, false);
        assert_eq!(drain(&mut *partition, 100), Ok((vec![], true)), "{name}");
        assert!(partition.caught_up());
    }
}

#[test]
fn all_members_and_frames_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let zst = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
    let gz = |text: &str| gzip(text.as_bytes());
    fs::write(folder.path().join("a.gz"), [gz("one\ntw"), gz("o\n"), gz(""), gz("three")].concat()).unwrap();
    fs::write(folder.path().join("a.zst"), [zst("one\ntw"), zst("o\n"), zst(""), zst("three")].concat()).unwrap();
    for name in ["a.gz", "a.zst"] {
        let found = drain(&mut *single(folder.path(), name, true), 1 << 20);
        let expected = vec![(0, bytes("one")), (4, bytes("two")), (8, bytes("three"))];
        assert_eq!(found, Ok((expected, true)), "{name}");
    }
}

#[test]
fn damage_is_an_error_with_file_and_position_after_what_was_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut content = String::new();
    for line in 0..20_000 {
        content.push_str(&format!("{{\"line\":{line},\"noise\":\"{:016x}\"}}\n", rng.u64(..)));
    }
    let flipped = |mut stored: Vec<u8>| {
        let middle = stored.len() / 2;
        stored[middle..middle + 64].fill(0xff);
        stored
    };
    let cut = |mut stored: Vec<u8>| {
        stored.truncate(stored.len() / 2);
        stored
    };
    // As the `zstd` tool does; without a checksum not all damage shows.
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content.as_bytes()).unwrap();
    let zst = encoder.finish().unwrap();
    let gz = gzip(content.as_bytes());
    for (name, stored) in [
        ("flipped.gz", flipped(gz.clone())),
        ("cut.gz", cut(gz)),
        ("flipped.zst", flipped(zst.clone())),
        ("cut.zst", cut(zst)),
    ] {
        fs::write(folder.path().join(name), stored).unwrap();
        let mut partition = single(folder.path(), name, false);
        let Err((good, error)) = drain(&mut *partition, 1 << 16) else {
            panic!("{name} is damaged");
        };
        assert!(good.len() > 1000, "{name}: {} good lines", good.len());
        let expected = split(content.as_bytes(), 1 << 20);
        let SourceError::Damaged { position, ref path, .. } = error else {
            panic!("{error}");
        };
        if name.starts_with("cut") {
            assert_eq!(good[..], expected[..good.len()], "{name}");
        }
        assert!(position >= good.last().unwrap().0 && position <= content.len() as u64);
        assert!(path.ends_with(name));
        assert!(matches!(partition.poll(100), Err(again) if again == error));
    }
}

#[test]
fn a_file_that_only_claims_to_be_compressed_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.gz", "a.zst"] {
        fs::write(folder.path().join(name), "{\"plain\":1}\n").unwrap();
        let (good, error) = drain(&mut *single(folder.path(), name, false), 100).expect_err(name);
        assert_eq!(good, []);
        assert!(matches!(error, SourceError::Damaged { position: 0, .. }), "{error}");
    }
}

#[test]
fn nothing_that_matches_is_an_error_that_names_path_and_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    for path in ["events.jsonl", "*.jsonl", "empty", "missing/"] {
        let Err(error) = open_files("web", path, folder.path(), false, 100) else {
            panic!("`{path}` is not there");
        };
        let folder = folder.path().display();
        assert_eq!(error.to_string(), format!("source `web`: no file matches `{path}` in `{folder}`"));
    }
    let Err(error) = open_files("web", "a**b", folder.path(), false, 100) else {
        panic!("it is no pattern");
    };
    assert!(matches!(error, SourceError::Pattern { .. }), "{error}");
}

#[test]
fn a_folder_means_all_files_below_it_sorted_by_path() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["in/b/1", "in/b.jsonl", "in/_c", "in/.d", "in/_e/1", "in/.f/1", "in/a/x/2"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "1\n").unwrap();
    }
    let found = partitions(&mut open(folder.path(), "in", false));
    assert_eq!(names(&found), ["in/a/x/2", "in/b.jsonl", "in/b/1"]);
}

#[test]
fn a_glob_takes_files_by_name_even_below_a_folder_that_looks_like_one() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("[job]*");
    for name in ["b-2.jsonl", "b-1.jsonl", ".b-3.jsonl", "c.jsonl", "b-4.jsonl/x", "b[1].jsonl"] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "1\n").unwrap();
    }
    let found = |path: &str| {
        let partitions = partitions(&mut open(&folder, path, false));
        names(&partitions).join(" ")
    };
    assert_eq!(found("b-*.jsonl"), "b-1.jsonl b-2.jsonl");
    assert_eq!(found("b-?.jsonl"), "b-1.jsonl b-2.jsonl");
    assert_eq!(found("**/x"), "b-4.jsonl/x");
    assert_eq!(found("b[1].jsonl"), "b[1].jsonl");
    let absolute = outer.path().join("*/c.jsonl");
    assert_eq!(found(absolute.to_str().unwrap()), "c.jsonl");
}

#[test]
fn a_followed_file_waits_for_the_newline_of_its_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    append(&path, "one\ntw");
    let mut partition = single(folder.path(), "a.jsonl", true);
    assert!(!partition.caught_up());
    assert_eq!(drain(&mut *partition, 100), Ok((vec![(0, bytes("one"))], false)));
    assert!(partition.caught_up());
    append(&path, "o\nthree\n");
    let more = vec![(4, bytes("two")), (8, bytes("three"))];
    assert_eq!(drain(&mut *partition, 100), Ok((more, false)));
}

#[test]
fn a_followed_file_may_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut partition = single(folder.path(), "a.jsonl", true);
    assert_eq!(drain(&mut *partition, 100), Ok((vec![], false)));
    assert!(partition.caught_up());
    append(&folder.path().join("a.jsonl"), "one\n");
    assert_eq!(bodies(&mut *partition), [bytes("one")]);
}

#[test]
fn a_file_that_gets_shorter_is_read_from_its_start_at_new_positions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    append(&path, "one\ntwo\nunfinis");
    let mut partition = single(folder.path(), "a.jsonl", true);
    assert_eq!(bodies(&mut *partition), [bytes("one"), bytes("two")]);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    append(&path, "three\n");
    let more = vec![(8, bytes("unfinis")), (15, bytes("three"))];
    assert_eq!(drain(&mut *partition, 100), Ok((more, false)));
    append(&path, "four\n");
    assert_eq!(drain(&mut *partition, 100), Ok((vec![(21, bytes("four"))], false)));
}

#[test]
fn a_rotated_file_is_read_to_its_end_before_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("a.jsonl"), folder.path().join("a.jsonl.1"));
    append(&path, "one\n");
    let mut partition = single(folder.path(), "a.jsonl", true);
    assert_eq!(bodies(&mut *partition), [bytes("one")]);
    fs::rename(&path, &old).unwrap();
    append(&old, "two\n");
    assert_eq!(bodies(&mut *partition), [bytes("two")]);
    // The new file is there, but its writer is still at the old one.
    append(&path, "");
    append(&old, "three\n");
    assert_eq!(bodies(&mut *partition), [bytes("three")]);
    append(&old, "four\nfive");
    append(&path, "six\n");
    let more = vec![(14, bytes("four")), (19, bytes("five")), (23, bytes("six"))];
    assert_eq!(drain(&mut *partition, 100), Ok((more, false)));
    append(&path, "seven\n");
    assert_eq!(bodies(&mut *partition), [bytes("seven")]);
}

#[test]
fn new_files_of_a_followed_folder_are_found_and_renamed_ones_are_not_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("in").join(name);
    fs::create_dir(folder.path().join("in")).unwrap();
    let mut files = open(folder.path(), "in", true);
    assert!(files.partitions().is_empty());
    append(&path("a"), "one\n");
    append(&path("b.gz"), "");
    let mut found = discovered(&mut files);
    assert_eq!(names(&found), ["in/a", "in/b.gz"]);
    assert_eq!(bodies(&mut *found[0]), [bytes("one")]);
    assert!(files.discover().unwrap().is_empty());
    // Rotated: once seen before the partition turns to the new file, once after.
    fs::rename(path("a"), path("a.1")).unwrap();
    assert!(files.discover().unwrap().is_empty());
    append(&path("a"), "two\n");
    assert_eq!(bodies(&mut *found[0]), [bytes("two")]);
    fs::rename(path("a.1"), path("a.2")).unwrap();
    fs::rename(path("a"), path("a.1")).unwrap();
    append(&path("a"), "three\n");
    assert_eq!(bodies(&mut *found[0]), [bytes("three")]);
    append(&path("c"), "four\n");
    let mut new = discovered(&mut files);
    assert_eq!(names(&new), ["in/c"]);
    assert_eq!(bodies(&mut *new[0]), [bytes("four")]);
}

#[test]
fn a_file_that_was_renamed_before_it_was_read_is_read_under_its_new_name() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("a.log"), "one\n");
    let mut files = open(folder.path(), "*.log", true);
    let mut first = partitions(&mut files);
    fs::rename(folder.path().join("a.log"), folder.path().join("b.log")).unwrap();
    assert_eq!(bodies(&mut *first[0]), []);
    let mut new = discovered(&mut files);
    assert_eq!(names(&new), ["b.log"]);
    assert_eq!(bodies(&mut *new[0]), [bytes("one")]);
}

#[test]
fn progress_of_a_compressed_file_is_in_stored_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let stored = gzip(&b"{\"a\":1}\n".repeat(200_000));
    fs::write(folder.path().join("a.gz"), &stored).unwrap();
    let mut partition = single(folder.path(), "a.gz", false);
    let size = stored.len() as u64;
    assert_eq!(partition.progress(), (0, size));
    assert!(matches!(partition.poll(100), Ok(Polled::Records(_))));
    let (read, of) = partition.progress();
    assert!(read > 0 && read <= size && of == size);
    assert_eq!(bodies(&mut *partition).len(), 200_000 - 12);
    assert_eq!(partition.progress(), (size, size));
    assert_eq!(partition.position(), 1_600_000);
}
