//! What becomes of changes on their way out.

use super::*;
use crate::queued_writer::QueuedWriter;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use usher_core::catalog::Catalog;
use usher_core::change::{ChangeKind, Reason};
use usher_core::message::write_message;

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
fn a_file_has_every_change_in_order_and_each_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let changes = changes(200_000);
    let mut sink = Writer::create(&path, catalog()).unwrap();
    sink.write(&changes, 0).unwrap();
    sink.finish().unwrap();
    let found = fs::read(&path).unwrap();
    assert!(found == messages(&changes));
    let written = sink.status().written;
    assert_eq!((written.entries, written.exits), (133_333, 66_667));
    assert_eq!(written.bytes, found.len() as u64);
}

#[test]
fn a_line_is_visible_before_the_sink_is_finished() {
    let (reader, writer) = io::pipe().unwrap();
    let mut sink = Writer::new("pipe", writer, catalog());
    let changes = changes(1);
    sink.write(&changes, 0).unwrap();
    let mut line = Vec::new();
    BufReader::new(reader).read_until(b'\n', &mut line).unwrap();
    assert_eq!(line, messages(&changes));
}

#[test]
fn a_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    fs::write(&path, "before").unwrap();
    Writer::create(&path, catalog()).unwrap().finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn a_full_disk_is_said_at_a_later_write_and_at_the_end() {
    let mut sink = Writer::create(Path::new("/dev/full"), catalog()).unwrap();
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
    let mut sink = Writer::new("stdout", writer, catalog());
    drop(reader);
    let closed = SinkError::Closed { to: "stdout".to_string() };
    while sink.write(&changes(10), 0) != Err(closed.clone()) {}
    assert_eq!(sink.finish(), Err(closed));
}

#[test]
fn what_can_not_be_opened_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| Writer::create(path, catalog()).err().unwrap();
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
    assert_eq!(queue.standing().status().written.bytes, 55_000);
    let most = most.load(Ordering::SeqCst);
    assert!((bound..=5000).contains(&most), "{most} bytes were waiting");
}

/// Ends its first write when four items are queued, and its third when six are.
struct Gated {
    queued: Arc<AtomicUsize>,
    writes: usize,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        let wanted = [0, 4, 0, 6].get(self.writes).copied().unwrap_or(0);
        let since = Instant::now();
        while self.queued.load(Ordering::SeqCst) < wanted {
            if since.elapsed() > Duration::from_secs(30) {
                return Err(io::Error::other(format!("item {wanted} finds no room")));
            }
            std::thread::yield_now();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_piece_that_is_written_makes_room() {
    // One item is one piece.
    const ITEM: usize = 64 << 10;
    let queued = Arc::new(AtomicUsize::new(0));
    let queue = QueuedWriter::start("gated", Gated { queued: queued.clone(), writes: 0 });
    for _ in 0..6 {
        queue.push(vec![b'x'; ITEM], 4 * ITEM).unwrap();
        queued.fetch_add(1, Ordering::SeqCst);
    }
    queue.finish().unwrap();
    assert_eq!(queue.standing().status().written.bytes, 6 * ITEM as u64);
}
