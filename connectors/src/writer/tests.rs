//! What becomes of changes on their way out.

use super::queue::{Item, QueuedWriter};
use super::*;
use usher_core::change::ChangeTexts;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::new("shop", [("a", "A", "users"), ("b", "B", "users")]))
}

fn changes(count: u64) -> Changes {
    let mut changes = Changes::new();
    for at in 0..count {
        let kind = if at % 3 == 0 { ChangeKind::Exit } else { ChangeKind::Entry };
        changes.push(at, (at % 2) as u32, kind, Reason::Event, &format!("u-{at}"));
    }
    changes
}

/// What the changes are as messages.
fn messages(changes: &Changes) -> Vec<u8> {
    let mut out = Vec::new();
    for change in changes {
        write_message(&mut out, &catalog(), change, changes.key(change));
    }
    out
}

#[test]
fn changes_sort_by_time_audience_and_key() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut changes = Changes::new();
    for _ in 0..500 {
        let key = format!("u-{}", rng.u8(0..120));
        changes.push(rng.u64(0..5), rng.u32(0..3), ChangeKind::Entry, Reason::Event, &key);
    }
    let tuples = |changes: &Changes| -> Vec<(u64, u32, String)> {
        changes.iter().map(|c| (c.at, c.audience, changes.key(c).to_string())).collect()
    };
    let mut expected = tuples(&changes);
    expected.sort();
    changes.sort();
    assert_eq!(tuples(&changes), expected);
}

#[test]
fn appended_changes_keep_their_keys() {
    let mut all = changes(3);
    all.append(changes(2));
    let keys: Vec<_> = all.iter().map(|change| all.key(change)).collect();
    assert_eq!(keys, ["u-0", "u-1", "u-2", "u-0", "u-1"]);
    let copy: Changes = serde_json::from_str(&serde_json::to_string(&all).unwrap()).unwrap();
    assert_eq!(copy, all);
}

#[test]
fn reasons_are_in_the_order_of_precedence() {
    let reasons = BTreeSet::from([
        Reason::Recovery,
        Reason::Definition,
        Reason::Trait,
        Reason::Snapshot,
        Reason::Expiry,
        Reason::Event,
    ]);
    let names: Vec<_> = reasons.iter().map(|reason| reason.name()).collect();
    assert_eq!(names, ["event", "expiry", "snapshot", "trait", "definition", "recovery"]);
}

#[test]
fn a_file_has_every_change_in_order_and_each_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let changes = changes(200_000);
    let mut sink = Writer::append(&path, catalog(), Filter::all()).unwrap();
    sink.write(&changes, 0).unwrap();
    sink.finish().unwrap();
    let found = fs::read(&path).unwrap();
    assert!(found == messages(&changes));
    let written = sink.status().written;
    assert_eq!((written.entries, written.exits), (133_333, 66_667));
    assert_eq!(written.bytes, found.len() as u64);
}

#[test]
fn a_sync_sends_what_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let sync = usher_config::Sync {
        place: usher_config::Place::default(),
        description: None,
        audiences: vec!["b".to_string()],
        send_entry: false,
        send_exit: true,
        send_update: false,
        format: usher_config::SyncFormat::Usher,
        include: Vec::new(),
        entry_name: None,
        exit_name: None,
        update_name: None,
        fields: Default::default(),
        backfill: true,
        on_remove: usher_config::OnRemove::Exit,
        to: usher_config::SyncTo::Stdout,
    };
    let filter = Filter::of(0, &sync, &catalog());
    let mut sink = Writer::create(&path, catalog(), filter).unwrap();
    sink.write(&changes(12), 0).unwrap();
    sink.finish().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let keys: Vec<_> =
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["key"].to_string()).collect();
    assert_eq!(keys, ["\"u-3\"", "\"u-9\""]);
}

#[test]
fn a_file_has_the_messages_that_its_sync_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let text = "job: shop
models: {users: {parquet: u, key: id}}
audiences: {a: {model: users, where: {property: a}}}
syncs: {s: {format: segment, include: [plan], to: {stdout: }}}";
    let job = usher_config::parse(text, "job.yaml", Path::new("."), &|_| None).unwrap();
    let catalog = Arc::new(Catalog::of(&job));
    let filter = Filter::of(0, &job.syncs["s"], &catalog);
    let mut sink = Writer::create(&path, Messages::of(&job.syncs["s"], catalog), filter).unwrap();
    let mut changes = Changes::new();
    changes.push_to(Recipients::All, 0, 0, ChangeKind::Entry, Reason::Event, ChangeTexts { key: "u-1", row: r#"{"ltv":1,"plan":"pro"}"#, previous_row: "" });
    sink.write(&changes, 1).unwrap();
    sink.finish().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(found["event"], "Audience Entered");
    assert_eq!(found["properties"]["plan"], "pro");
    assert!(found["properties"].get("ltv").is_none());
}

#[test]
fn a_line_is_visible_before_the_sink_is_finished() {
    let (reader, writer) = io::pipe().unwrap();
    let mut sink = Writer::new("pipe", writer, catalog(), Filter::all());
    let changes = changes(1);
    sink.write(&changes, 0).unwrap();
    let mut line = Vec::new();
    BufReader::new(reader).read_until(b'\n', &mut line).unwrap();
    assert_eq!(line, messages(&changes));
}

#[test]
fn appending_ends_a_torn_line_first_and_creating_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    fs::write(&path, "whole\ntorn").unwrap();
    for times in 1..3 {
        let mut sink = Writer::append(&path, catalog(), Filter::all()).unwrap();
        sink.write(&changes(1), 0).unwrap();
        sink.finish().unwrap();
        let message = messages(&changes(1)).repeat(times);
        assert_eq!(fs::read(&path).unwrap(), [b"whole\ntorn\n", &message[..]].concat());
    }
    let mut sink = Writer::create(&path, catalog(), Filter::all()).unwrap();
    sink.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn a_full_disk_is_said_at_a_later_write_and_at_the_end() {
    let mut sink = Writer::append(Path::new("/dev/full"), catalog(), Filter::all()).unwrap();
    let error = loop {
        if let Err(error) = sink.write(&changes(10), 0) {
            break error;
        }
    };
    assert_eq!(error.to_string(), "`/dev/full` can't be written: No space left on device (os error 28)");
    assert!(error.hint().contains("free some space"));
    assert_eq!(sink.write(&changes(1), 0), Err(error.clone()));
    assert_eq!(sink.finish(), Err(error));
    assert_eq!(sink.status().written, Written::default());
}

#[test]
fn a_closed_pipe_is_not_any_other_failure() {
    let (reader, writer) = io::pipe().unwrap();
    let mut sink = Writer::new("stdout", writer, catalog(), Filter::all());
    drop(reader);
    let closed = SinkError::Closed { to: "stdout".to_string() };
    while sink.write(&changes(10), 0) != Err(closed.clone()) {}
    assert_eq!(sink.finish(), Err(closed));
}

#[test]
fn what_can_not_be_opened_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| Writer::append(path, catalog(), Filter::all()).err().unwrap();
    let missing = folder.path().join("missing/changes.jsonl");
    let error = open(&missing);
    assert!(error.to_string().starts_with(&format!("`{}` can't be opened: ", missing.display())));
    assert!(error.hint().contains("create the folder"), "{}", error.hint());
    assert!(open(folder.path()).hint().contains("not of a folder"));
}

/// Counts what is queued; lets the queue fill before it takes the first.
struct Slow {
    queued: Arc<AtomicUsize>,
    bound: usize,
    written: usize,
    most: Arc<AtomicUsize>,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.written == 0 && self.queued.load(Ordering::SeqCst) < self.bound {
            std::thread::yield_now();
        }
        let waiting = self.queued.load(Ordering::SeqCst) - self.written;
        self.most.fetch_max(waiting, Ordering::SeqCst);
        self.written += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn whoever_queues_waits_at_the_bound() {
    let (queued, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let bound = 1000;
    let queue = QueuedWriter::start("slow", Slow { queued: queued.clone(), bound, written: 0, most: most.clone() });
    for _ in 0..5000 {
        let item = vec![b'x'; 10];
        assert_eq!(item.weight(), 10);
        queue.push(item, bound).unwrap();
        queued.fetch_add(10, Ordering::SeqCst);
    }
    // One that is larger than the bound goes alone.
    queue.push(vec![b'x'; 5000], bound).unwrap();
    queued.fetch_add(5000, Ordering::SeqCst);
    queue.finish().unwrap();
    assert_eq!(queue.written().bytes, 55_000);
    let most = most.load(Ordering::SeqCst);
    assert!((bound..=5000).contains(&most), "{most} bytes were waiting");
}
