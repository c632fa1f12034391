//! Real files in a temporary folder, read as the job would.

use super::find::Listed;
use super::input::Coding;
use super::partition::FilePartition;
use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
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
    append_bytes(path, text.as_bytes());
}

fn append_bytes(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
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
        let unmarked = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        let body = if unmarked.len() > message_bytes {
            Owned::TooLarge(line[..line.len().min(HEAD_BYTES)].to_vec(), line.len() as u64)
        } else if line.trim_ascii().is_empty() || line.len() == 3 && unmarked.is_empty() {
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
        if rng.bool() {
            content.extend_from_slice("\u{feff}".as_bytes());
        }
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
        assert_eq!(found, Ok((expected, false)), "{name}");
    }
}

/// Some hundred KB of lines that hardly compress.
fn noise() -> String {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..20_000).map(|line| format!("{{\"line\":{line},\"noise\":\"{:016x}\"}}\n", rng.u64(..))).collect()
}

/// As the `zstd` tool does; without a checksum not all damage shows.
fn zstd_with_checksum(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_damaged_file_counts_up_to_there_in_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise();
    let flipped = |mut stored: Vec<u8>| {
        let middle = stored.len() / 2;
        stored[middle..middle + 64].fill(0xff);
        stored
    };
    let cut = |mut stored: Vec<u8>| {
        stored.truncate(stored.len() / 2);
        stored
    };
    let (gz, zst) = (gzip(content.as_bytes()), zstd_with_checksum(content.as_bytes()));
    let mut checksum = gz.clone();
    let last = checksum.len() - 8;
    checksum[last] ^= 1;
    for (name, stored) in [
        ("flipped.gz", flipped(gz.clone())),
        ("cut.gz", cut(gz.clone())),
        ("flipped.zst", flipped(zst.clone())),
        ("cut.zst", cut(zst)),
        ("checksum.gz", checksum),
        ("second.gz", [&gz[..], &cut(gz.clone())].concat()),
    ] {
        fs::write(folder.path().join(name), stored).unwrap();
        let mut partition = single(folder.path(), name, false);
        let (good, ended) = drain(&mut *partition, 1 << 16).unwrap();
        assert!(ended && partition.caught_up(), "{name}");
        assert!(good.len() > 1000, "{name}: {} good lines", good.len());
        let expected = split([&content[..], &content].concat().as_bytes(), 1 << 20);
        if !name.starts_with("flipped") {
            assert_eq!(good[..], expected[..good.len()], "{name}");
        }
        let Some(SourceError::Damaged { position, path, .. }) = partition.damage() else {
            panic!("{name}: {:?}", partition.damage());
        };
        assert!(*position >= good.last().unwrap().0 && *position <= 2 * content.len() as u64, "{name}");
        assert!(path.ends_with(name));
        assert!(matches!(partition.poll(100), Ok(Polled::End)));
    }
}

#[test]
fn of_a_line_that_damage_cuts_nothing_counts() {
    let folder = tempfile::tempdir().unwrap();
    let stored = gzip(b"one\ntwo\nthr");
    for cut in 1..=8 {
        fs::write(folder.path().join("a.gz"), &stored[..stored.len() - cut]).unwrap();
        let mut partition = single(folder.path(), "a.gz", false);
        assert_eq!(bodies(&mut *partition), [bytes("one"), bytes("two")], "{cut}");
        assert!(partition.damage().is_some());
        assert_eq!(partition.position(), 8);
    }
}

#[test]
fn a_damaged_file_of_a_followed_folder_is_read_on_when_it_has_been_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    let content = noise();
    for (name, stored) in [("a.gz", gzip(content.as_bytes())), ("b.zst", zstd_with_checksum(content.as_bytes()))] {
        let path = folder.path().join("in").join(name);
        let mut files = open(folder.path(), "in", true);
        fs::write(&path, &stored[..stored.len() / 3]).unwrap();
        let mut partition = discovered(&mut files).remove(0);
        let mut found = bodies(&mut *partition);
        assert!(found.len() > 1000 && partition.damage().is_some() && partition.caught_up(), "{name}");
        assert_eq!(bodies(&mut *partition), []);
        // While it is written a little is not read: only what rests, or is twice as long.
        append_bytes(&path, &stored[stored.len() / 3..stored.len() / 3 + 100]);
        append_bytes(&path, &stored[stored.len() / 3 + 100..]);
        while partition.damage().is_some() {
            found.extend(bodies(&mut *partition));
        }
        found.extend(bodies(&mut *partition));
        assert_eq!(found, split(content.as_bytes(), 1 << 20).into_iter().map(|(_, body)| body).collect::<Vec<_>>());
        assert!(matches!(partition.poll(1), Ok(Polled::Idle)));
    }
}

#[test]
fn content_is_decompressed_by_its_first_bytes_whatever_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let content = b"one\ntwo\n";
    let skippable =
        [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 7, 7, 7][..], &zstd::encode_all(&content[..], 1).unwrap()].concat();
    for (name, stored) in [
        ("plain.gz", content.to_vec()),
        ("plain.zst", content.to_vec()),
        ("gzip.jsonl", gzip(content)),
        ("zstd", zstd::encode_all(&content[..], 1).unwrap()),
        ("zstd.gz", zstd::encode_all(&content[..], 1).unwrap()),
        ("skippable", skippable),
    ] {
        fs::write(folder.path().join(name), stored).unwrap();
        for follow in [false, true] {
            let mut partition = single(folder.path(), name, follow);
            assert_eq!(bodies(&mut *partition), [bytes("one"), bytes("two")], "{name}");
            assert_eq!(partition.damage(), None, "{name}");
        }
    }
    for first in 0..=255 {
        let decided = Coding::of(&[first]);
        assert_eq!(decided.is_none(), matches!(first, 0x1f | 0x28 | 0x50..=0x5f), "{first:x}");
        assert!(decided.is_none_or(|coding| coding == Coding::Plain), "{first:x}");
    }
    assert_eq!(Coding::of(b"P\t"), Some(Coding::Plain));
    assert_eq!(Coding::of(b""), None);
}

#[test]
fn a_followed_file_is_what_its_first_bytes_make_it_when_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    append(&path, "P");
    let mut partition = single(folder.path(), "a", true);
    assert_eq!(bodies(&mut *partition), []);
    assert!(partition.caught_up());
    append(&path, "*M\nQ\n");
    assert_eq!(bodies(&mut *partition), [bytes("P*M"), bytes("Q")]);
    // Of a file that ends there, nothing more comes.
    fs::write(folder.path().join("b"), "P").unwrap();
    assert_eq!(bodies(&mut *single(folder.path(), "b", false)), [bytes("P")]);
}

#[test]
fn bytes_behind_the_last_member_that_begin_none_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    for (name, stored) in [("a.gz", gzip(b"one\ntwo")), ("a.zst", zstd_with_checksum(b"one\ntwo"))] {
        for behind in [&[0; 512][..], b"x", &[0x1f], b"garbage\nmore\n", &[0xff; 70_000]] {
            fs::write(folder.path().join(name), [&stored[..], behind].concat()).unwrap();
            let mut partition = single(folder.path(), name, false);
            assert_eq!(bodies(&mut *partition), [bytes("one"), bytes("two")], "{name} and {} bytes", behind.len());
            assert_eq!(partition.damage(), None);
        }
    }
}

#[test]
fn a_file_that_is_cut_and_has_grown_again_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    for (before, after, found) in [
        ("one\ntwo\n", "three\nfour\n", vec!["three", "four"]),
        ("one\ntwo\n", "six\nten\n", vec!["six", "ten"]),
        ("one\nunfinished", "three\nfour\nfive\n", vec!["unfinished", "three", "four", "five"]),
        ("one\n", "two\none\nthree\n", vec!["two", "one", "three"]),
    ] {
        let path = folder.path().join("a");
        fs::write(&path, before).unwrap();
        let mut partition = single(folder.path(), "a", true);
        bodies(&mut *partition);
        let position = partition.position();
        // In place: the inode stays.
        fs::write(&path, after).unwrap();
        File::open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let expected: Vec<_> = found.into_iter().map(bytes).collect();
        assert_eq!(bodies(&mut *partition), expected, "{before:?} {after:?}");
        assert!(partition.position() > position);
        append(&path, "last\n");
        assert_eq!(bodies(&mut *partition), [bytes("last")]);
    }
}

#[test]
fn a_file_that_has_grown_while_the_job_was_down_is_read_on_and_one_with_other_content_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let lines: String = (0..200).map(|line| format!("line {line}\n")).collect();
    fs::write(&path, &lines).unwrap();
    let mut partition = single(folder.path(), "a", true);
    assert_eq!(bodies(&mut *partition).len(), 200);
    // As a checkpoint has it: the last lines may have to be read again.
    let resume = Resume { position: partition.position() - 9, identity: partition.identity() };
    let resumed = |follow| {
        let mut files = open(folder.path(), "a", follow);
        let id = files.partitions().remove(0);
        files.open(&id, Some(&resume))
    };
    append(&path, "more\n");
    for follow in [false, true] {
        assert_eq!(bodies(&mut *resumed(follow).unwrap()), [bytes("line 199"), bytes("more")]);
    }
    let other: String = (1000..1300).map(|line| format!("line {line}\n")).collect();
    fs::write(&path, &other).unwrap();
    assert_eq!(bodies(&mut *resumed(true).unwrap()).len(), 300);
    let Err(error) = resumed(false) else { panic!("it has other content") };
    assert!(error.to_string().contains("has other content"), "{error}");
    // What comes instead of lines that were read has later positions than they.
    let (records, _) = drain(&mut *resumed(true).unwrap(), 100).unwrap();
    assert!(records[0].0 >= partition.position());
    // States of before know no content.
    let (file, _) = resume.identity.rsplit_once(':').unwrap();
    let (file, _) = file.rsplit_once(':').unwrap();
    let resume = Resume { position: resume.position, identity: file.to_owned() };
    let mut files = open(folder.path(), "a", true);
    let id = files.partitions().remove(0);
    assert_eq!(bodies(&mut *files.open(&id, Some(&resume)).unwrap()).len(), 132);
}

#[test]
fn files_are_read_the_same_if_they_are_closed_between_two_polls() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise();
    for (name, stored) in [
        ("a", content.clone().into_bytes()),
        ("b.gz", gzip(content.as_bytes())),
        ("c.zst", zstd_with_checksum(content.as_bytes())),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &stored).unwrap();
        let file = Listed { path, size: Some(stored.len() as u64), identity: None };
        let id = PartitionId { source: "web".into(), name: name.into() };
        let mut partition = FilePartition::new(id, file, false, 1 << 20, 1 << 14, &Followed::default());
        let mut found = Vec::new();
        while let Polled::Records(records) = partition.poll(1 << 12).unwrap() {
            found.extend(records.map(|record| record.position));
            partition.release();
        }
        let expected: Vec<_> = split(content.as_bytes(), 1 << 20).into_iter().map(|(position, _)| position).collect();
        assert!(found == expected, "{name}: {} of {} lines", found.len(), expected.len());
    }
}

#[test]
fn a_followed_file_that_was_closed_is_read_on_and_so_is_the_next_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    append(&path, "one\n");
    let file = Listed { path: path.clone(), size: Some(4), identity: None };
    let id = PartitionId { source: "web".into(), name: "a".into() };
    let mut partition = FilePartition::new(id, file, true, 1 << 20, 1 << 14, &Followed::default());
    let mut next = |expected: &[Owned]| {
        assert_eq!(bodies(&mut partition), expected);
        partition.release();
    };
    next(&[bytes("one")]);
    next(&[]);
    append(&path, "two\n");
    next(&[bytes("two")]);
    fs::rename(&path, folder.path().join("a.1")).unwrap();
    next(&[]);
    append(&path, "three\n");
    next(&[bytes("three")]);
    append(&path, "four\n");
    next(&[bytes("four")]);
}

#[test]
fn small_files_take_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "one\n").unwrap();
    let file = Listed { path, size: Some(4), identity: None };
    let id = PartitionId { source: "web".into(), name: "a".into() };
    let mut partition = FilePartition::new(id, file, false, 1 << 20, BUFFER_BYTES_MAX, &Followed::default());
    assert!(matches!(partition.poll(100), Ok(Polled::Records(_))));
    assert!(partition.held_bytes() < 100, "{}", partition.held_bytes());
}

#[test]
fn a_source_reads_the_files_that_its_path_means() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("data/sub")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("data"), folder.path().join("link")).unwrap();
    for (path, file, expected) in [
        ("data/", "data/out.jsonl", true),
        ("data", "./data/sub/../sub/out.jsonl", true),
        ("data", "link/out.jsonl", true),
        ("link", "data/out.jsonl", true),
        ("data", "data/_out.jsonl", false),
        ("data", "data/.sub/out.jsonl", false),
        ("data", "out.jsonl", false),
        ("data", "database/out.jsonl", false),
        ("data/*.jsonl", "data/out.jsonl", true),
        ("./data/*.jsonl", "data/out.jsonl", true),
        ("data/*.jsonl", "data/sub/out.jsonl", false),
        ("data/**/*.jsonl", "data/sub/out.jsonl", true),
        ("data/*.jsonl", "data/out.json", false),
        ("events.jsonl", "./events.jsonl", true),
        ("events.jsonl", "out.jsonl", false),
    ] {
        assert_eq!(reads(path, file, folder.path()), expected, "{path} {file}");
    }
    let absolute = folder.path().join("data/out.jsonl");
    assert!(reads("data", absolute.to_str().unwrap(), folder.path()));
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
fn a_followed_file_says_when_it_is_written_to_also_after_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("a.jsonl"), folder.path().join("a.jsonl.1"));
    for comes_later in [false, true] {
        let _ = (fs::remove_file(&path), fs::remove_file(&old));
        if !comes_later {
            append(&path, "");
        }
        let mut partition = single(folder.path(), "a.jsonl", true);
        let (send, woken) = std::sync::mpsc::channel();
        assert!(partition.wake_with(Arc::new(move || {
            let _ = send.send(());
        })));
        assert!(bodies(&mut *partition).is_empty());
        // Reads only when it is woken.
        let mut expect = |line: &str| {
            let mut found = Vec::new();
            while found != [bytes(line)] {
                woken.recv_timeout(Duration::from_secs(60)).expect(line);
                found.extend(bodies(&mut *partition));
            }
        };
        append(&path, "one\n");
        expect("one");
        append(&path, "two\n");
        expect("two");
        fs::rename(&path, &old).unwrap();
        append(&old, "three\n");
        expect("three");
        append(&path, "");
        append(&old, "four\n");
        expect("four");
        append(&path, "five\n");
        expect("five");
        append(&path, "six\n");
        expect("six");
    }
    let mut read_once = single(folder.path(), "a.jsonl", false);
    assert!(!read_once.wake_with(Arc::new(|| {})), "nothing comes any more");
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

#[test]
fn a_pipe_holds_nobody_up_and_ends_when_its_last_writer_does() {
    let folder = tempfile::tempdir().unwrap();
    let content = b"one\ntwo\nthree\nfour";
    let packed = zstd_with_checksum(content);
    for (name, stored) in [("plain", &content[..]), ("gzip", &gzip(content)), ("zstd", &packed)] {
        for cut in 0..=stored.len() {
            let path = folder.path().join(format!("{name}-{cut}"));
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
            let mut partition = single(folder.path(), path.file_name().unwrap().to_str().unwrap(), false);
            // Nobody writes yet.
            assert_eq!(drain(&mut *partition, 1 << 20), Ok((Vec::new(), false)), "{name} {cut}");
            assert!(!partition.caught_up());
            let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
            writer.write_all(&stored[..cut]).unwrap();
            let (mut found, ended) = drain(&mut *partition, 1 << 20).unwrap();
            assert!(!ended, "{name} {cut}: it may write more");
            writer.write_all(&stored[cut..]).unwrap();
            drop(writer);
            let (rest, ended) = drain(&mut *partition, 1 << 20).unwrap();
            found.extend(rest);
            assert!(ended && partition.damage().is_none(), "{name} {cut}");
            assert_eq!(found, split(content, 1 << 20), "{name} {cut}");
        }
    }
}

/// Where partitions stand, as a checkpoint has it.
fn standing(partitions: &[Box<dyn Partition>]) -> Vec<(PartitionId, Resume)> {
    let of = |partition: &dyn Partition| Resume { position: partition.position(), identity: partition.identity() };
    partitions.iter().map(|partition| (partition.id().clone(), of(&**partition))).collect()
}

/// Opens a followed source as a start does after a run that stood there.
fn restarted(folder: &Path, path: &str, stood: &[(PartitionId, Resume)]) -> (Files, Vec<Box<dyn Partition>>) {
    let mut files = open(folder, path, true);
    files.resume(stood);
    let ids = files.partitions();
    let open = |id: &PartitionId| {
        let from = stood.iter().find(|(stood, _)| stood == id).map(|(_, from)| from);
        files.open(id, from).expect("it can be opened")
    };
    let partitions = ids.iter().map(open).collect();
    (files, partitions)
}

/// The lines that all partitions have now.
fn lines(partitions: &mut [Box<dyn Partition>]) -> Vec<String> {
    let all = partitions.iter_mut().flat_map(|partition| bodies(&mut **partition));
    all.map(|body| if let Owned::Bytes(line) = body { line } else { panic!("{body:?}") }).collect()
}

/// Moves a log and those that were moved before on by one name, as `logrotate` does.
fn rotate(folder: &Path) {
    let name = |n: usize| folder.join(if n == 0 { "events.log".to_owned() } else { format!("events.log.{n}") });
    let last = (0..).find(|n| !name(*n).exists()).expect("there are few");
    (0..last).rev().for_each(|n| fs::rename(name(n), name(n + 1)).unwrap());
}

/// Folders, patterns and single files that a rotation moves within, or out of.
const ROTATED: [&str; 5] = ["in", "in/*", "in/*.log*", "in/*.log", "in/events.log"];

#[test]
fn a_file_that_takes_the_name_of_a_followed_one_is_not_read_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("in").join(name);
    fs::create_dir(folder.path().join("in")).unwrap();
    append(&path("events.log"), "new 1\n");
    append(&path("events.log.1"), "old 1\n");
    let mut files = open(folder.path(), "in", true);
    let mut partitions = partitions(&mut files);
    assert_eq!(lines(&mut partitions), ["new 1", "old 1"]);
    for round in 0..3 {
        rotate(&path(""));
        append(&path("events.log"), &format!("round {round}\n"));
        let mut found = Vec::new();
        for _ in 0..3 {
            partitions.extend(discovered(&mut files));
            found.extend(lines(&mut partitions));
        }
        assert_eq!((found, partitions.len()), (vec![format!("round {round}")], 2));
    }
    let mut again = restarted(folder.path(), "in", &standing(&partitions)).1;
    assert_eq!(names(&again), ["in/events.log", "in/events.log.1"]);
    assert_eq!(lines(&mut again), Vec::<String>::new());
}

#[test]
fn a_file_that_was_renamed_is_read_on_after_a_restart_and_not_from_its_start() {
    for source in ROTATED {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join("in").join(name);
        fs::create_dir(folder.path().join("in")).unwrap();
        append(&path("events.log"), "one\n");
        let mut running = partitions(&mut open(folder.path(), source, true));
        assert_eq!(lines(&mut running), ["one"], "{source}");
        // While it runs.
        rotate(&path(""));
        append(&path("events.log"), "two\n");
        assert_eq!(lines(&mut running), ["two"], "{source}");
        let (_, mut running) = restarted(folder.path(), source, &standing(&running));
        assert_eq!(lines(&mut running), Vec::<String>::new(), "{source}");
        // While it is down: the rest of the old one comes first.
        let stood = standing(&running);
        append(&path("events.log"), "three\n");
        rotate(&path(""));
        append(&path("events.log"), "four\n");
        let (_, mut running) = restarted(folder.path(), source, &stood);
        assert!(running.iter().any(|partition| !partition.caught_up()), "{source}");
        assert_eq!(lines(&mut running), ["three", "four"], "{source}");
        assert!(running.iter().all(|partition| partition.caught_up()), "{source}");
        // And if nothing has come in its place yet.
        let stood = standing(&running);
        append(&path("events.log"), "five\n");
        rotate(&path(""));
        let (mut files, mut running) = restarted(folder.path(), source, &stood);
        assert_eq!(lines(&mut running), ["five"], "{source}");
        append(&path("events.log"), "six\n");
        running.extend(discovered(&mut files));
        assert_eq!(lines(&mut running), ["six"], "{source}");
        assert_eq!(running.len(), 1, "{source}");
    }
}

#[test]
fn what_is_still_written_to_a_file_that_was_replaced_is_read() {
    for source in ROTATED {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join("in").join(name);
        fs::create_dir(folder.path().join("in")).unwrap();
        append(&path("events.log"), "one\n");
        let mut running = partitions(&mut open(folder.path(), source, true));
        assert_eq!(lines(&mut running), ["one"], "{source}");
        rotate(&path(""));
        append(&path("events.log"), "two\nunfin");
        assert_eq!(lines(&mut running), ["two"], "{source}");
        append(&path("events.log.1"), "late\nla");
        assert_eq!(lines(&mut running), ["late"], "{source}");
        append(&path("events.log"), "ished\n");
        append(&path("events.log.1"), "ter\n");
        let mut found = lines(&mut running);
        found.sort();
        assert_eq!(found, ["later", "unfinished"], "{source}");
        assert_eq!(lines(&mut running), Vec::<String>::new(), "{source}");
        // While it is down, too.
        let stood = standing(&running);
        append(&path("events.log.1"), "last of all\n");
        append(&path("events.log"), "three\n");
        let (_, mut running) = restarted(folder.path(), source, &stood);
        assert_eq!(lines(&mut running), ["three", "last of all"], "{source}");
        append(&path("events.log.1"), "and more\n");
        assert_eq!(lines(&mut running), ["and more"], "{source}");
        let (_, mut running) = restarted(folder.path(), source, &standing(&running));
        assert_eq!(lines(&mut running), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn what_has_to_be_read_again_of_a_file_that_was_replaced_keeps_its_positions() {
    for source in ROTATED {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join("in").join(name);
        fs::create_dir(folder.path().join("in")).unwrap();
        append(&path("events.log"), "");
        let mut running = partitions(&mut open(folder.path(), source, true));
        let mut all = Vec::new();
        let mut read = |running: &mut [Box<dyn Partition>]| all.extend(drain(&mut *running[0], 1 << 20).unwrap().0);
        append(&path("events.log"), "one\ntwo\nthree");
        read(&mut running);
        rotate(&path(""));
        append(&path("events.log"), "four\nfive\n");
        read(&mut running);
        append(&path("events.log.1"), "\nlate\n");
        read(&mut running);
        append(&path("events.log"), "six\n");
        read(&mut running);
        rotate(&path(""));
        append(&path("events.log"), "seven\n");
        read(&mut running);
        assert_eq!(all.len(), 9, "{source}: {all:?}");
        let stood = standing(&running);
        for (position, _) in &all {
            let mut stood = stood.clone();
            stood[0].1.position = *position;
            let (_, mut again) = restarted(folder.path(), source, &stood);
            assert_eq!(again.len(), 1, "{source}");
            assert!(!again[0].caught_up(), "{source} {position}");
            let found = drain(&mut *again[0], 1 << 20).unwrap().0;
            let expected: Vec<_> = all.iter().filter(|(of, _)| of >= position).cloned().collect();
            assert_eq!(found, expected, "{source} {position}");
            assert_eq!(standing(&again)[0].1.position, running[0].position());
        }
        // All of it, as for a window that is new.
        let mut files = open(folder.path(), source, true);
        files.resume(&stood);
        let mut entered = files.open(&stood[0].0, None).unwrap();
        assert_eq!(drain(&mut *entered, 1 << 20).unwrap().0, all, "{source}");
        // The first one is gone: the others keep their positions.
        fs::remove_file(path("events.log.2")).unwrap();
        let mut stood = stood.clone();
        stood[0].1.position = 0;
        let (_, mut again) = restarted(folder.path(), source, &stood);
        let found = drain(&mut *again[0], 1 << 20).unwrap().0;
        let rest: Vec<_> = found.iter().map(|(_, body)| body.clone()).collect();
        assert_eq!(rest, ["four", "five", "six", "seven"].map(bytes), "{source}");
        assert!(found.iter().all(|record| all.contains(record)), "{source}");
    }
}

#[test]
fn a_file_that_has_the_inode_of_one_that_was_read_is_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("in").join(name);
    fs::create_dir(folder.path().join("in")).unwrap();
    append(&path("a"), "one\n");
    let mut running = partitions(&mut open(folder.path(), "in", true));
    assert_eq!(lines(&mut running), ["one"]);
    let stood = standing(&running);
    // As if the inode had been freed and used again.
    fs::rename(path("a"), path("b")).unwrap();
    fs::write(path("b"), "another\n").unwrap();
    let (_, mut running) = restarted(folder.path(), "in", &stood);
    assert_eq!(lines(&mut running), ["another"]);
}

#[test]
fn a_line_is_read_once_whatever_is_renamed_replaced_and_restarted() {
    let (mut late, mut restarts, mut again) = (0, 0, 0);
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let source = *rng.choice(&["in", "in/*", "in/events.log"]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |n: usize| {
            let name = if n == 0 { "events.log".to_owned() } else { format!("events.log.{n}") };
            folder.path().join("in").join(name)
        };
        fs::create_dir(folder.path().join("in")).unwrap();
        let mut files = open(folder.path(), source, true);
        let mut running = partitions(&mut files);
        let mut found: BTreeMap<(PartitionId, u64), String> = BTreeMap::new();
        let mut written = 0;
        let has_content = |path: &Path| fs::metadata(path).is_ok_and(|there| there.len() > 0);
        let mut poll = |files: &mut Files, running: &mut Vec<Box<dyn Partition>>| {
            running.extend(discovered(files));
            for partition in running {
                for (position, body) in drain(&mut **partition, 1 << 20).unwrap().0 {
                    let Owned::Bytes(line) = body else { panic!("{body:?}") };
                    let before = found.insert((partition.id().clone(), position), line.clone());
                    again += usize::from(before.is_some());
                    assert!(before.is_none_or(|before| before == line), "seed {seed}: {position}");
                }
            }
            found.clone()
        };
        let mut write = |path: &Path| {
            append(path, &format!("line {written}\n"));
            written += 1;
        };
        for _ in 0..40 {
            match rng.u8(0..10) {
                0..3 => write(&path(0)),
                3 if has_content(&path(0)) => {
                    // What a single file has never been seen to be is not found by its name.
                    poll(&mut files, &mut running);
                    rotate(&folder.path().join("in"));
                    if rng.bool() {
                        append(&path(0), "");
                    }
                }
                4 | 5 if path(1).exists() => {
                    late += 1;
                    write(&path(if path(2).exists() { rng.usize(1..3) } else { 1 }));
                }
                6 => {
                    restarts += 1;
                    let found = poll(&mut files, &mut running);
                    let mut stood = standing(&running);
                    for (id, from) in &mut stood {
                        let of_it: Vec<u64> = found.keys().filter(|(of, _)| of == id).map(|(_, at)| *at).collect();
                        let last = of_it.len().saturating_sub(rng.usize(0..5));
                        from.position = of_it.get(last).copied().unwrap_or(from.position);
                    }
                    drop(running);
                    if rng.bool() && has_content(&path(0)) {
                        write(&path(0));
                        rotate(&folder.path().join("in"));
                    }
                    (files, running) = restarted(folder.path(), source, &stood);
                }
                _ => drop(poll(&mut files, &mut running)),
            }
        }
        // What was written to one that was replaced long ago is found at a start.
        for _ in 0..2 {
            poll(&mut files, &mut running);
            let stood = standing(&running);
            (files, running) = restarted(folder.path(), source, &stood);
        }
        let mut lines: Vec<String> = poll(&mut files, &mut running).into_values().collect();
        lines.sort();
        let mut expected: Vec<String> = (0..written).map(|line| format!("line {line}")).collect();
        expected.sort();
        assert_eq!(lines, expected, "seed {seed}, {source}");
    }
    assert!(late > 100 && restarts > 100 && again > 100, "{late} late lines, {restarts} restarts, {again} again");
}

#[test]
fn a_compressed_file_that_is_replaced_or_grows_is_read() {
    type Pack<'a> = &'a dyn Fn(&str) -> Vec<u8>;
    let zst = |text: &str| zstd_with_checksum(text.as_bytes());
    let gz = |text: &str| gzip(text.as_bytes());
    let kinds: [(&str, Pack<'_>); 2] = [("a.gz", &gz), ("a.zst", &zst)];
    for (name, packed) in kinds {
        for source in ["in", "in/a.*", &format!("in/{name}")] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("in")).unwrap();
            let path = folder.path().join("in").join(name);
            fs::write(&path, packed("one\ntwo")).unwrap();
            let mut files = open(folder.path(), source, true);
            let mut running = partitions(&mut files);
            // It is looked at twice before it is read: it may still be written.
            let expect = |files: &mut Files, running: &mut Vec<Box<dyn Partition>>, expected: &[&str]| {
                let mut found = Vec::new();
                for _ in 0..4 {
                    running.extend(discovered(files));
                    found.extend(lines(running));
                }
                assert_eq!(found, expected, "{source} {name}");
                assert!(running.iter().all(|partition| partition.caught_up() && partition.damage().is_none()));
            };
            expect(&mut files, &mut running, &["one", "two"]);
            let position = running[0].position();
            // By another of its name, while the first keeps another name or none.
            for aside in [None, Some("a.old")] {
                match aside {
                    None => fs::write(folder.path().join("next"), packed("three\n")).unwrap(),
                    Some(aside) => {
                        fs::write(folder.path().join("next"), packed("four\n")).unwrap();
                        fs::rename(&path, folder.path().join("in").join(aside)).unwrap();
                    }
                }
                fs::rename(folder.path().join("next"), &path).unwrap();
                expect(&mut files, &mut running, &[if aside.is_none() { "three" } else { "four" }]);
            }
            // In place.
            fs::write(&path, packed("five\nsix and more\n")).unwrap();
            expect(&mut files, &mut running, &["five", "six and more"]);
            append_bytes(&path, &packed("seven\n"));
            expect(&mut files, &mut running, &["seven"]);
            File::options().append(true).open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            expect(&mut files, &mut running, &[]);
            assert!(running[0].position() > position && running.len() == 1);
            // Over restarts.
            let (mut files, mut running) = restarted(folder.path(), source, &standing(&running));
            expect(&mut files, &mut running, &[]);
            let stood = standing(&running);
            fs::rename(&path, folder.path().join("in").join("a.older")).unwrap();
            fs::write(&path, packed("eight\n")).unwrap();
            let (mut files, mut running) = restarted(folder.path(), source, &stood);
            expect(&mut files, &mut running, &["eight"]);
            let (mut files, mut running) = restarted(folder.path(), source, &standing(&running));
            expect(&mut files, &mut running, &[]);
        }
    }
}
