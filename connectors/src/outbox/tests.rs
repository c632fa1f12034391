//! The log against real files: what is committed, what is delivered, and what a crash at any byte makes of it.

// A seed is for whoever reads a failed run.
#![allow(clippy::print_stdout)]

use super::block::{Record, Records};
use super::cursor::{Cursor, Mark};
use super::files::{Blocks, HEAD_BYTES, Next};
use super::memberships::{self, Memberships};
use super::*;
use crate::moved::MovedLedger;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use usher_core::change::{Reason, Recipients};
use usher_core::ledger::{Ledger, LedgerAudience};
use usher_core::message::write_message;

fn open_within(spec: &LogSpec<'_>, outlet: Outlet, bounds: Bounds) -> Result<OpenedSync, SinkError> {
    super::open_within(spec, Destination::Lines(outlet), bounds)
}

fn open_log(spec: &LogSpec<'_>) -> Result<open::Log, SinkError> {
    open::open(spec, &mut Beginning { length: 0, mark: &mut Ok })
}

const INDEX: u16 = 3;

fn sync() -> usher_config::Sync {
    usher_config::Sync {
        place: usher_config::Place::default(),
        description: None,
        audiences: vec!["a".to_string(), "b".to_string()],
        send_entry: true,
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
    }
}

fn spec<'a>(sync: &'a usher_config::Sync, folder: &'a Path, noted: Option<&'a LedgerPosition>) -> LogSpec<'a> {
    let noted = noted.map(|position| NotedLedger { position, take_over: &|| panic!("it is kept here") });
    LogSpec { id: "crm", index: INDEX, sync, folder, incarnation: fastrand::u64(..), noted }
}

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::new("shop", [("a", "A", "users"), ("b", "B", "users"), ("c", "C", "users")]))
}

fn changes(from: u64, to: u64) -> Changes {
    let mut changes = Changes::new();
    for at in from..to {
        changes.push(at, (at % 2) as u32, ChangeKind::Entry, Reason::Event, &format!("u-{at}"));
    }
    changes
}

fn messages(catalog: &Catalog, changes: &Changes) -> String {
    let mut out = Vec::new();
    for change in changes {
        write_message(&mut out, catalog, change, changes.key(change));
    }
    String::from_utf8(out).unwrap()
}

/// A folder with a log and a file that it delivers to.
struct Place {
    folder: tempfile::TempDir,
    bounds: Bounds,
}

impl Place {
    fn new(bounds: Bounds) -> Place {
        Place { folder: tempfile::tempdir().unwrap(), bounds }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("state/ledger/crm")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("changes.jsonl")
    }

    fn open(&self) -> Result<OpenedSync, SinkError> {
        open_within(&spec(&sync(), &self.log(), None), Outlet::file(&self.target()).unwrap(), self.bounds)
    }

    fn run(&self, changes: &Changes) -> Box<dyn Sink> {
        let mut sink = (self.open().unwrap().start)(catalog());
        sink.write(changes, 1_000_000).unwrap();
        sink.finish().unwrap();
        sink
    }

    /// Drops a sink that was not finished, and waits until its threads, which nobody joins, no longer use the folder.
    fn drop_at_once(&self, sink: Box<dyn Sink>) {
        drop(sink);
        while let Err(Ok(_)) = crate::disk::Lock::take(&self.log().join("lock")) {
            std::thread::yield_now();
        }
    }

    fn lines(&self) -> String {
        fs::read_to_string(self.target()).unwrap()
    }

    fn said(&self) -> String {
        let said = self.open().err().expect("an error").to_string();
        said.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn members(opened: &OpenedSync) -> Vec<(String, String)> {
    let ledger = &opened.ledger;
    ledger.iter().map(|(audience, key)| (ledger.audiences[audience as usize].id.clone(), key.to_owned())).collect()
}

/// Small enough that everything happens all the time.
const SMALL: Bounds = Bounds {
    block_bytes: 300,
    segment_bytes: 2_000,
    compact_bytes: 5_000,
    waiting_bytes: 1_000,
    sync_every: Duration::ZERO,
    save_every: Duration::from_secs(3600),
};

#[test]
fn what_was_committed_is_known_at_the_next_start() {
    let place = Place::new(BOUNDS);
    let opened = place.open().unwrap();
    assert_eq!(opened.ledger, Ledger::default());
    let mut sink = (opened.start)(catalog());
    assert_eq!(sink.committed(), 0);
    let mut first = changes(1, 4);
    first.push(7, 0, ChangeKind::Exit, Reason::Expiry, "u-2");
    first.push(8, 2, ChangeKind::Entry, Reason::Event, "of an audience that the sync does not have");
    first.push_to(
        Recipients::Only(INDEX + 1),
        8,
        0,
        ChangeKind::Entry,
        Reason::Event,
        ChangeTexts::of_key("of another sync"),
    );
    let mut silent = Changes::new();
    silent.push_to(
        Recipients::LedgerOnly(INDEX),
        9,
        0,
        ChangeKind::Entry,
        Reason::Definition,
        ChangeTexts::of_key("quiet"),
    );
    silent.push_to(
        Recipients::Only(INDEX),
        9,
        2,
        ChangeKind::Exit,
        Reason::Definition,
        ChangeTexts::of_key("of a removed audience"),
    );
    sink.write(&first, 8).unwrap();
    sink.write(&silent, 10).unwrap();
    sink.write(&Changes::new(), 12).unwrap();
    sink.finish().unwrap();
    assert_eq!(sink.committed(), 12);
    let standing = sink.status();
    assert_eq!((standing.committed, standing.delivered, standing.waiting), (5, Some(5), 0));
    assert_eq!((standing.written.entries, standing.written.exits), (3, 2));
    assert_eq!(standing.written.bytes, place.lines().len() as u64);
    let sent = messages(&catalog(), &first);
    let sent: Vec<_> = sent.lines().take(4).collect();
    assert_eq!(place.lines().lines().take(4).collect::<Vec<_>>(), sent);
    assert!(place.lines().lines().nth(4).unwrap().contains(r#""audience_id":"c","audience_name":"C""#));
    drop(sink);

    let opened = place.open().unwrap();
    assert!(opened.ledger.any);
    assert_eq!(opened.ledger.clock, 9);
    let ledger = |list: &[(&str, &str)]| list.iter().map(|(a, k)| (a.to_string(), k.to_string())).collect::<Vec<_>>();
    assert_eq!(members(&opened), ledger(&[("b", "u-1"), ("b", "u-3"), ("a", "quiet")]));
    assert_eq!(opened.ledger.audiences[0].name, "B");
}

#[test]
fn a_sync_without_changes_is_not_new_at_the_next_start() {
    let place = Place::new(BOUNDS);
    assert!(!place.open().unwrap().ledger.any);
    assert!(!place.open().unwrap().ledger.any);
    place.run(&Changes::new());
    assert!(place.open().unwrap().ledger.any);
}

#[test]
fn segments_are_compacted_and_removed_and_nothing_is_forgotten() {
    let place = Place::new(Bounds { save_every: Duration::ZERO, ..SMALL });
    let mut expected = BTreeSet::new();
    let mut lines = String::new();
    for round in 0..30_u64 {
        let mut sink = (place.open().unwrap().start)(catalog());
        for step in 0..20 {
            let mut changes = Changes::new();
            for n in 0..10_u64 {
                let key = format!("u-{}", (round * 7 + n) % 50);
                let at = round * 1000 + step * 10 + n;
                let kind = if expected.remove(&key) {
                    ChangeKind::Exit
                } else {
                    expected.insert(key.clone());
                    ChangeKind::Entry
                };
                changes.push(at, 0, kind, Reason::Event, &key);
            }
            lines.push_str(&messages(&catalog(), &changes));
            sink.write(&changes, 0).unwrap();
        }
        sink.finish().unwrap();
        drop(sink);
        let found: BTreeSet<String> = members(&place.open().unwrap()).into_iter().map(|(_, key)| key).collect();
        assert_eq!(found, expected, "round {round}");
    }
    assert!(place.lines() == lines);
    let (segments, snapshots) = files::list(&place.log()).unwrap();
    assert_eq!(snapshots.len(), 1);
    assert!(segments.len() < 12 && segments[0] > 50_000, "{segments:?}");
}

#[test]
fn a_destination_that_does_not_take_holds_up_nothing_and_gets_all() {
    let place = Place::new(BOUNDS);
    let (reader, writer) = std::io::pipe().unwrap();
    let outlet = Outlet::stream("pipe", writer);
    let opened = open_within(&spec(&sync(), &place.log(), None), outlet, place.bounds).unwrap();
    let mut sink = (opened.start)(catalog());
    let changes = changes(0, 5_000);
    sink.write(&changes, 5_000).unwrap();
    // Nobody reads the pipe, which holds far less.
    while sink.committed() < 5_000 {
        std::thread::yield_now();
    }
    assert!(sink.status().waiting > 0);
    let lines: Vec<String> = std::thread::scope(|scope| {
        let reading = scope.spawn(|| BufReader::new(reader).lines().map(|line| line.unwrap()).take(5_000).collect());
        sink.finish().unwrap();
        reading.join().unwrap()
    });
    assert!(lines.iter().map(|line| format!("{line}\n")).collect::<String>() == messages(&catalog(), &changes));
}

#[test]
fn a_reader_that_goes_away_is_an_error_of_its_own() {
    let place = Place::new(BOUNDS);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let opened =
        open_within(&spec(&sync(), &place.log(), None), Outlet::stream("stdout", writer), place.bounds).unwrap();
    let mut sink = (opened.start)(catalog());
    sink.write(&changes(0, 1), 1).unwrap();
    let closed = Err(SinkError::Closed { to: "stdout".to_string() });
    assert_eq!(sink.finish(), closed);
    drop(sink);
    // It gets it at the next start.
    let (reader, writer) = std::io::pipe().unwrap();
    let opened =
        open_within(&spec(&sync(), &place.log(), None), Outlet::stream("stdout", writer), place.bounds).unwrap();
    assert_eq!(opened.ledger.len(), 1);
    (opened.start)(catalog()).finish().unwrap();
    assert_eq!(BufReader::new(reader).lines().count(), 1);
}

#[test]
fn a_full_disk_stops_the_sync_and_the_next_start_goes_on() {
    let place = Place::new(SMALL);
    let opened = place.open().unwrap();
    let mut sink = (opened.start)(catalog());
    let segment = |base: u64| files::segment(&place.log(), base);
    let mut ledger = 0;
    // Fills the first segment; the next one will be on a device that is always full.
    while fs::metadata(segment(0)).unwrap().len() < SMALL.segment_bytes {
        sink.write(&changes(ledger, ledger + 1), ledger + 1).unwrap();
        ledger += 1;
        while sink.committed() < ledger {
            std::thread::yield_now();
        }
    }
    let next = segment(fs::metadata(segment(0)).unwrap().len());
    std::os::unix::fs::symlink("/dev/full", &next).unwrap();
    sink.write(&changes(ledger, ledger + 1), ledger + 1).unwrap();
    let error = sink.finish().unwrap_err();
    assert_eq!(error.hint(), "free some space, then start again: changes that were not written are written then");
    let to = format!("`{}` can't be written: No space left on device (os error 28)", next.display());
    assert_eq!(error.to_string(), to);
    assert_eq!(sink.committed(), ledger);
    assert_eq!(sink.status().last_error, Some(to));
    drop(sink);
    fs::remove_file(&next).unwrap();
    assert_eq!(place.open().unwrap().ledger.len() as u64, ledger);
    place.run(&changes(ledger, ledger + 50));
    assert_eq!(place.lines(), messages(&catalog(), &changes(0, ledger + 50)));
}

#[test]
fn the_segment_that_the_delivery_may_be_about_to_open_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    for base in [0, 100, 200] {
        fs::write(files::segment(folder.path(), base), "").unwrap();
    }
    let left = |snapshot, delivered| {
        files::sweep(folder.path(), snapshot, delivered).unwrap();
        files::list(folder.path()).unwrap().0
    };
    // The delivery began at 200 when the log ended there, in the segment that begins at 100.
    assert_eq!(left(200, 200), [100, 200]);
    assert_eq!(left(100, 250), [100, 200], "the memberships need it");
    assert_eq!(left(200, 201), [200]);
}

#[test]
fn a_ledger_that_begins_anew_forgets_its_members_and_delivers_what_waits() {
    let place = Place::new(SMALL);
    place.run(&changes(0, 40));
    // The cursor is that of an earlier time: the last changes wait.
    let opened = place.open().unwrap();
    let mut sink = (opened.start)(catalog());
    sink.write(&changes(40, 45), 45).unwrap();
    until_committed(&*sink, 45);
    let noted = sink.position().unwrap();
    place.drop_at_once(sink);
    resend_local(&place.log()).unwrap();
    let anew = open_within(&spec(&sync(), &place.log(), Some(&noted)), Outlet::file(&place.target()).unwrap(), SMALL);
    let anew = anew.unwrap();
    assert!(!anew.ledger.any && anew.ledger.is_empty());
    assert_eq!(anew.ledger.clock, 44);
    drop(anew);
    // Not begun to be used, it is still new; and not asked for again.
    let opened = place.open().unwrap();
    assert!(!opened.ledger.any && opened.ledger.is_empty());
    let mut sink = (opened.start)(catalog());
    sink.write(&changes(50, 52), 52).unwrap();
    sink.finish().unwrap();
    assert!(sink.position().unwrap().at > noted.at);
    drop(sink);
    assert_eq!(place.lines(), messages(&catalog(), &changes(0, 45)) + &messages(&catalog(), &changes(50, 52)));
    let opened = place.open().unwrap();
    assert!(opened.ledger.any);
    assert_eq!(members(&opened).len(), 2);
}

/// A ledger to which nothing was committed, not before a time.
fn new_at(clock: u64) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.clock = clock;
    ledger
}

/// A ledger that was kept elsewhere, with a row of each membership.
fn moved() -> MovedLedger {
    let mut ledger = new_at(77);
    ledger.any = true;
    let mut rows = Vec::new();
    for (id, name, key, row) in
        [("a", "A", "u-1", r#"{"plan":"pro"}"#), ("b", "B before", "u-1", ""), ("a", "A", "ü/2", "{}")]
    {
        let audience = LedgerAudience { id: id.to_owned(), name: name.to_owned(), model: "users".to_owned() };
        let audience = ledger.audience(audience);
        ledger.push(audience, key);
        rows.push(row.into());
    }
    MovedLedger::new(ledger, rows)
}

#[test]
fn a_ledger_that_was_kept_elsewhere_is_taken_over_with_its_rows_until_the_checkpoint_knows() {
    let place = Place::new(SMALL);
    // What an earlier time has left counts no more.
    place.run(&changes(0, 40));
    let elsewhere = LedgerPosition { keeper: "kafka".to_owned(), at: 7, place: "{}".to_owned() };
    let plan = usher_config::Text { value: "plan".to_owned(), place: usher_config::Place::default() };
    let sync = usher_config::Sync { include: vec![plan], ..sync() };
    let noted = NotedLedger { position: &elsewhere, take_over: &|| Ok(moved()) };
    let open = |noted| {
        open_within(
            &LogSpec { noted, ..spec(&sync, &place.log(), None) },
            Outlet::file(&place.target()).unwrap(),
            SMALL,
        )
    };
    for _ in 0..2 {
        let opened = open(Some(noted)).unwrap();
        assert_eq!(opened.ledger, moved().ledger);
        assert_eq!((&opened.position.keeper[..], opened.position.place.is_empty()), ("outbox", true));
    }
    let opened = open(Some(noted)).unwrap();
    let here = opened.position.clone();
    let mut sink = (opened.start)(catalog());
    let mut changes = Changes::new();
    changes.push_to(
        Recipients::All,
        90,
        0,
        ChangeKind::Exit,
        Reason::Expiry,
        ChangeTexts { key: "u-1", row: r#"{"plan":"free"}"#, previous_row: "" },
    );
    sink.write(&changes, 100).unwrap();
    sink.finish().unwrap();
    drop(sink);
    let lines = place.lines();
    let last = lines.lines().last().unwrap();
    assert!(last.contains(r#""key":"u-1""#) && last.contains(r#"{"plan":"pro"}"#), "{last}");
    // Now the checkpoint has noted this place.
    let again = NotedLedger { position: &here, take_over: &|| panic!("it is kept here") };
    let opened = open(Some(again)).unwrap();
    assert_eq!((opened.ledger.len(), opened.ledger.clock), (2, 90));
    drop(opened);

    let taken = take_log("crm", &place.log(), 5, &here).unwrap();
    let members: Vec<_> = taken.iter().map(|(audience, key, row)| (&audience.name[..], key, &**row)).collect();
    assert_eq!(members, [("B before", "u-1", ""), ("A", "ü/2", "{}")]);
    let gone = LedgerPosition { at: here.at + 1_000, ..here };
    assert!(matches!(take_log("crm", &place.log(), 5, &gone).err(), Some(SinkError::Behind { .. })));
}

#[test]
fn a_ledger_that_is_new_elsewhere_is_new_here() {
    let place = Place::new(SMALL);
    let elsewhere = LedgerPosition { keeper: "kafka".to_owned(), at: 0, place: "{}".to_owned() };
    let anew = || Ok(moved().begun_anew());
    let sync = sync();
    let noted = Some(NotedLedger { position: &elsewhere, take_over: &anew });
    let open =
        |noted| open_within(&LogSpec { noted, ..spec(&sync, &place.log(), None) }, Outlet::stdout(), SMALL).unwrap();
    assert_eq!(open(noted).ledger, new_at(77));
    assert_eq!(open(None).ledger, new_at(77));
}

#[test]
fn a_ledger_with_changes_that_wait_is_not_taken_over_unless_it_is_to_begin_anew() {
    let place = Place::new(SMALL);
    let opened =
        open_within(&spec(&sync(), &place.log(), None), Outlet::file(&place.target()).unwrap(), SMALL).unwrap();
    let mut sink = (opened.start)(catalog());
    sink.write(&changes(0, 5), 5).unwrap();
    sink.finish().unwrap();
    let here = sink.position().unwrap();
    drop(sink);
    assert_eq!(take_log("crm", &place.log(), 5, &here).unwrap().ledger.len(), 5);
    // The cursor is that of an earlier time: the changes wait.
    fs::remove_file(place.log().join("cursor")).unwrap();
    Cursor::create(&place.log(), Mark { position: HEAD_BYTES, length: 0, delivered: 0 }).unwrap();
    let error = take_log("crm", &place.log(), 5, &here).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the ledger of sync `crm` can't be taken over: 5 changes wait for the destination that it had before `to` changed"
    );
    resend_local(&place.log()).unwrap();
    for _ in 0..2 {
        let taken = take_log("crm", &place.log(), 5, &here).unwrap();
        assert_eq!(taken.ledger, new_at(4));
    }
}

#[test]
fn a_ledger_that_is_gone_or_older_than_the_checkpoint_is_refused_until_it_is_to_begin_anew() {
    let place = Place::new(SMALL);
    let noted = place.run(&changes(0, 100)).position().unwrap();
    let open =
        || open_within(&spec(&sync(), &place.log(), Some(&noted)), Outlet::file(&place.target()).unwrap(), SMALL);
    assert_eq!(open().unwrap().ledger.len(), 100);
    let ahead = LedgerPosition { at: noted.at + 1, ..noted.clone() };
    let behind = open_within(&spec(&sync(), &place.log(), Some(&ahead)), Outlet::stdout(), SMALL).err();
    assert!(matches!(behind, Some(SinkError::Behind { .. })), "{behind:?}");
    fs::remove_dir_all(place.log()).unwrap();
    for _ in 0..2 {
        assert!(matches!(open().err(), Some(SinkError::Behind { .. })));
    }
    resend_local(&place.log()).unwrap();
    for _ in 0..2 {
        assert!(!open().unwrap().ledger.any);
    }
    let mut sink = (open().unwrap().start)(catalog());
    sink.write(&changes(100, 103), 103).unwrap();
    sink.finish().unwrap();
    drop(sink);
    assert_eq!(members(&open().unwrap()).len(), 3);
}

#[test]
fn a_snapshot_of_no_members_is_not_that_of_a_new_ledger() {
    let place = Place::new(SMALL);
    place.run(&changes(0, 1));
    let mut left = Memberships::default();
    left.clock = 1;
    let end = place.open().unwrap();
    drop(end);
    let position = fs::metadata(files::segment(&place.log(), 0)).unwrap().len();
    append::create_segment(&place.log(), position).unwrap();
    left.write(&place.log(), position, 300).unwrap();
    let opened = place.open().unwrap();
    assert!(opened.ledger.any && opened.ledger.is_empty());
}

#[test]
fn a_process_whose_mark_was_replaced_appends_nothing_more() {
    let place = Place::new(SMALL);
    let mut sink = (place.open().unwrap().start)(catalog());
    sink.write(&changes(0, 1), 1).unwrap();
    until_committed(&*sink, 1);
    // As a process of another machine does where locks do not hold.
    fs::write(place.log().join("owner"), "another").unwrap();
    sink.write(&changes(1, 2), 2).unwrap();
    let error = sink.finish().unwrap_err();
    assert!(matches!(error, SinkError::Superseded { .. }), "{error}");
    drop(sink);
    assert_eq!(place.open().unwrap().ledger.len(), 1);
}

#[test]
fn a_file_that_is_moved_or_removed_is_written_anew() {
    let place = Place::new(SMALL);
    let mut sink = (place.open().unwrap().start)(catalog());
    let delivered = |sink: &dyn Sink| {
        while sink.status().waiting > 0 {
            std::thread::yield_now()
        }
    };
    let moved = place.folder.path().join("moved.jsonl");
    for (from, leave) in [(0, Some(&moved)), (1, None), (2, None)] {
        sink.write(&changes(from, from + 1), from + 1).unwrap();
        until_committed(&*sink, from + 1);
        delivered(&*sink);
        assert_eq!(place.lines(), messages(&catalog(), &changes(from, from + 1)));
        match leave {
            Some(to) => fs::rename(place.target(), to).unwrap(),
            None => fs::remove_file(place.target()).unwrap(),
        }
    }
    assert_eq!(fs::read_to_string(moved).unwrap(), messages(&catalog(), &changes(0, 1)));
    sink.write(&changes(3, 4), 4).unwrap();
    sink.finish().unwrap();
    assert_eq!(place.lines(), messages(&catalog(), &changes(3, 4)));
}

fn until_committed(sink: &dyn Sink, time: u64) {
    while sink.committed() < time {
        std::thread::yield_now();
    }
}

#[test]
fn a_queue_beyond_its_bound_is_not_ready() {
    let place = Place::new(SMALL);
    let log = open_log(&spec(&sync(), &place.log(), None)).unwrap();
    let shared = Shared::new(&log, SMALL);
    let record = |key| Record {
        audience: 0,
        kind: ChangeKind::Entry,
        reason: Reason::Event,
        sent: true,
        at: 5,
        key,
        row: "",
        previous_row: "",
    };
    let key = "k".repeat(500);
    shared.lock().push(&record(&key), || catalog().audience(0));
    shared.lock().until(6);
    assert!(shared.lock().ready());
    shared.lock().push(&record(&key), || catalog().audience(0));
    shared.lock().push(&record(&key), || catalog().audience(0));
    assert!(!shared.lock().ready());
    assert_eq!(shared.lock().committed(), 0);
    // The first block is full before its write is over, so it tells of no clock; the next tells of the write before.
    for ledger in [0, 6] {
        let (block, clock) = shared.next_block().unwrap();
        assert_eq!(clock, ledger);
        shared.lock().synced(block.len(), clock, 1);
    }
    assert!(shared.lock().ready());
    assert_eq!(shared.lock().committed(), 6);
}

#[test]
fn what_can_not_be_gone_on_from_is_said() {
    let place = Place::new(Bounds { compact_bytes: u64::MAX, ..SMALL });
    place.run(&changes(0, 600));
    let (segments, _) = files::list(&place.log()).unwrap();
    let path = |at: usize| files::segment(&place.log(), segments[at]);
    let name = |at: usize| format!("`state/ledger/crm/{:020}.log`", segments[at]);
    let spoil = |path: &Path, at: usize| {
        let whole = fs::read(path).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
        whole
    };
    let last = segments.len() - 1;

    let held = place.open().unwrap();
    assert_eq!(
        place.said(),
        format!(
            "`{}/state/ledger/crm` can't be opened: another process uses it: process {}",
            place.folder.path().display(),
            std::process::id()
        )
        .replace(&format!("{}/", place.folder.path().display()), "")
    );
    drop(held);

    let whole = spoil(&path(0), 60);
    assert_eq!(
        place.said(),
        format!("{} can't be read: it is damaged: a block's checksum is another at byte 40", name(0))
    );
    let hint = place.open().err().expect("it is damaged").hint();
    assert!(hint.ends_with("remove it and run `usher resend JOB SYNC`: all members are sent again"), "{hint}");
    fs::write(path(0), whole).unwrap();

    // In the last segment too, for there is more behind it.
    let whole = spoil(&path(last), 42);
    let said = place.said();
    assert_eq!(
        said,
        format!("{} can't be read: it is damaged: there is no block where one should be at byte 40", name(last))
    );
    fs::write(path(last), whole).unwrap();

    let whole = spoil(&path(0), 8);
    assert_eq!(
        place.said(),
        format!("{} can't be read: it is damaged: its head is not that of a log of this name", name(0))
    );
    fs::write(path(0), &whole).unwrap();
    let mut newer = whole.clone();
    newer[4] = 3;
    fs::write(path(0), newer).unwrap();
    assert_eq!(place.said(), format!("{} can't be read: it has format version 3; this version reads up to 2", name(0)));
    fs::write(path(0), whole).unwrap();

    // What was delivered was synced, so it is not a crash that takes it away.
    let whole = fs::read(path(last)).unwrap();
    fs::write(path(last), &whole[..whole.len() - 1]).unwrap();
    let said = place.said();
    assert!(
        said.starts_with(&format!("{} can't be read: it is damaged: a block is cut at byte ", name(last))),
        "{said}"
    );
    fs::write(path(last), whole).unwrap();

    let whole = fs::read(path(1)).unwrap();
    fs::remove_file(path(1)).unwrap();
    let said = place.said();
    assert!(
        said.starts_with(&format!("{} can't be read: it is damaged: the segment before it ends at ", name(2))),
        "{said}"
    );
    fs::write(path(1), whole).unwrap();

    fs::remove_file(place.log().join("cursor")).unwrap();
    assert_eq!(
        place.said(),
        "`state/ledger/crm/cursor` can't be read: it is damaged: it is missing, and the log is not"
    );
}

#[test]
fn lines_of_others_are_left_alone() {
    let place = Place::new(BOUNDS);
    fs::write(place.target(), "torn by another").unwrap();
    place.run(&changes(0, 3));
    let ours = messages(&catalog(), &changes(0, 3));
    assert_eq!(place.lines(), format!("torn by another\n{ours}"));
    // The cursor was lost with the power, and others have appended.
    let (mut cursor, _) = Cursor::open(&place.log()).unwrap().unwrap();
    let line = ours.lines().next().unwrap();
    cursor.save(Mark { position: 0, length: 16, delivered: 0 }, true).unwrap();
    fs::write(place.target(), format!("torn by another\n{line}\nanother's\ntorn too")).unwrap();
    place.run(&Changes::new());
    let rest: String = ours.lines().skip(1).map(|line| format!("{line}\n")).collect();
    assert_eq!(place.lines(), format!("torn by another\n{line}\nanother's\ntorn too\n{rest}"));
}

#[test]
fn a_file_that_was_replaced_gets_what_was_not_delivered_and_no_more() {
    let place = Place::new(BOUNDS);
    place.run(&changes(0, 3));
    // The job has another path now, and is killed before it has saved its cursor again.
    fs::remove_file(place.target()).unwrap();
    place.run(&changes(3, 5));
    let (mut cursor, _) = Cursor::open(&place.log()).unwrap().unwrap();
    let third = blocks(&place.log(), 0)[0].1;
    cursor.save(Mark { position: third, length: 1_000_000, delivered: 0 }, true).unwrap();
    drop(cursor);
    place.run(&changes(5, 6));
    assert_eq!(place.lines(), messages(&catalog(), &changes(3, 6)));
}

#[test]
fn a_ledger_that_is_read_beside_its_process_lacks_no_segment() {
    let place = Place::new(SMALL);
    place.run(&changes(0, 600));
    place.run(&changes(600, 700));
    let log = place.log();
    // The ledger needs the segments from the snapshot on; that the last one was there can't be known. When snapshots are made depends on
    // how fast changes are delivered.
    let mut members = 700;
    let (snapshots, needed) = loop {
        let (segments, snapshots) = files::list(&log).unwrap();
        let needed: Vec<u64> = segments.into_iter().filter(|&base| base >= snapshots[0]).collect();
        if needed.len() > 1 {
            break (snapshots, needed);
        }
        assert!(members < 3_000, "{needed:?} {snapshots:?}");
        place.run(&changes(members, members + 100));
        members += 100;
    };
    assert_eq!(read_ledger(&log).unwrap().unwrap().len(), members as usize);
    let without = |path: PathBuf| {
        let kept = path.with_extension("kept");
        fs::rename(&path, &kept).unwrap();
        let read = read_ledger(&log);
        fs::rename(&kept, &path).unwrap();
        read
    };
    assert!(without(files::snapshot(&log, snapshots[0])).is_err(), "the segments before it are gone");
    for &base in &needed[..needed.len() - 1] {
        assert!(without(files::segment(&log, base)).is_err(), "{base}");
    }
}

#[test]
fn leftovers_of_a_compaction_are_removed() {
    let place = Place::new(BOUNDS);
    place.run(&changes(0, 3));
    let leftover = place.log().join("00000000000000000040.new");
    fs::write(&leftover, "half").unwrap();
    place.run(&Changes::new());
    assert!(!leftover.exists());
}

#[test]
fn any_flipped_bit_of_what_was_delivered_is_found() {
    let seed = 13;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let place = Place::new(SMALL);
    place.run(&changes(0, 600));
    place.run(&changes(600, 700));
    let (segments, snapshots) = files::list(&place.log()).unwrap();
    assert_eq!(snapshots.len(), 1);
    let segments = segments.iter().map(|&base| files::segment(&place.log(), base));
    let files: Vec<PathBuf> = segments.chain([files::snapshot(&place.log(), snapshots[0])]).collect();
    for _ in 0..400 {
        let path = rng.choice(&files).unwrap();
        let whole = fs::read(path).unwrap();
        let mut flipped = whole.clone();
        let (byte, bit) = (rng.usize(..whole.len()), rng.u8(..8));
        flipped[byte] ^= 1 << bit;
        fs::write(path, flipped).unwrap();
        assert!(place.open().is_err(), "byte {byte}, bit {bit} of {}", path.display());
        fs::write(path, whole).unwrap();
    }
    assert_eq!(place.open().unwrap().ledger.len(), 700);
}

#[test]
fn no_body_is_walked_into_a_panic() {
    let seed = 14;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut encoder = block::Encoder::default();
    for (change, all) in changes(0, 30).iter().map(|change| (change, changes(0, 30))) {
        let Change { audience, kind, reason, at, .. } = *change;
        let record =
            Record { audience, kind, reason, sent: true, at, key: all.key(change), row: "{}", previous_row: "" };
        encoder.push(&record, || catalog().audience(audience));
    }
    let block = encoder.take();
    let (mut whole, mut broken) = (0, 0);
    for _ in 0..20_000 {
        let mut body = block[block::HEAD_BYTES..].to_vec();
        body.truncate(rng.usize(..=body.len()));
        for _ in 0..rng.usize(..4).min(body.len()) {
            let at = rng.usize(..body.len());
            body[at] = rng.u8(..);
        }
        match memberships::Memberships::default().apply(&body) {
            Some(_) => whole += 1,
            None => broken += 1,
        }
    }
    assert!(whole > 100 && broken > 1_000, "{whole} {broken}");
}

#[test]
fn an_audience_keeps_its_members_under_another_name() {
    let place = Place::new(BOUNDS);
    for (name, from) in [("A", 0), ("B", 2), ("A", 4)] {
        let catalog = Arc::new(Catalog::new("shop", [("a", name, "users"), ("b", "b", "users")]));
        let mut sink = (place.open().unwrap().start)(catalog);
        sink.write(&changes(from, from + 2), 1).unwrap();
        let mut exit = Changes::new();
        exit.push(9 + from, 0, ChangeKind::Exit, Reason::Expiry, "u-0");
        sink.write(&exit, 2).unwrap();
        sink.finish().unwrap();
    }
    let opened = place.open().unwrap();
    let audiences: Vec<_> = opened.ledger.audiences.iter().map(|audience| &audience.name[..]).collect();
    assert_eq!(audiences, ["b", "A"]);
    let keys: Vec<_> = opened.ledger.iter().map(|(_, key)| key).collect();
    assert_eq!(keys, ["u-1", "u-2", "u-3", "u-4", "u-5"]);
}

/// A change as the test remembers it.
#[derive(Clone, Debug)]
struct Remembered {
    audience: u32,
    key: String,
    entry: bool,
    at: u64,
    sent: bool,
}

fn state(history: &[Remembered]) -> BTreeSet<(String, String)> {
    let mut state = BTreeSet::new();
    for change in history {
        let member = (["a", "b"][change.audience as usize].to_owned(), change.key.clone());
        assert!(if change.entry { state.insert(member) } else { state.remove(&member) }, "they alternate");
    }
    state
}

/// The blocks from a position on: where each begins and ends, how many records it has, and how many are sent.
fn blocks(log: &Path, from: u64) -> Vec<(u64, u64, usize, usize)> {
    let mut found = Vec::new();
    for base in files::list(log).unwrap().0 {
        let path = files::segment(log, base);
        let length = fs::metadata(&path).unwrap().len();
        let mut blocks = Blocks::open(&path).unwrap();
        loop {
            let start = blocks.position();
            match blocks.next(length).unwrap() {
                Next::End => break,
                Next::Flaw(flaw) => panic!("{flaw}"),
                Next::Block => {}
            }
            let mut records = Records::of(&blocks.body);
            let (mut count, mut sent) = (0, 0);
            while let Some(record) = records.next().unwrap() {
                count += 1;
                sent += usize::from(record.sent);
            }
            if start >= from {
                found.push((start, blocks.position(), count, sent));
            }
        }
    }
    found
}

#[test]
fn after_a_crash_at_any_byte_the_ledger_is_a_prefix_and_each_line_is_there_once() {
    let seed = 11;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let place = Place::new(SMALL);
    let mut history: Vec<Remembered> = Vec::new();
    let mut at = 0;
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for round in 0..250 {
        // What the crash before has left.
        let opened = place.open().unwrap();
        let found = members(&opened);
        assert_eq!(found.len(), opened.ledger.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), state(&history), "round {round}");
        let cursor_before = fs::read(place.log().join("cursor")).unwrap();

        let name = ["A", "A of another name"][rng.usize(..2)];
        let catalog = Arc::new(Catalog::new("shop", [("a", name, "users"), ("b", "B", "users")]));
        let mut sink = (opened.start)(catalog);
        let mut now = state(&history);
        for _ in 0..rng.usize(..12) {
            let mut epoch = Changes::new();
            for _ in 0..rng.usize(..12) {
                at += rng.u64(..3);
                let (audience, key) = (rng.u32(..2), format!("u-{}", rng.u8(..20)));
                let member = (["a", "b"][audience as usize].to_owned(), key.clone());
                let entry = now.insert(member.clone());
                if !entry {
                    now.remove(&member);
                }
                // Any two changes of a membership are at two times.
                at += 1;
                let sent = rng.u8(..5) > 0;
                let address = if sent { Recipients::All } else { Recipients::LedgerOnly(INDEX) };
                let kind = if entry { ChangeKind::Entry } else { ChangeKind::Exit };
                epoch.push_to(address, at, audience, kind, Reason::Event, ChangeTexts::of_key(&key));
                history.push(Remembered { audience, key, entry, at, sent });
            }
            sink.write(&epoch, at + 1).unwrap();
        }
        sink.finish().unwrap();
        drop(sink);

        // Each line once, in order.
        let ids: Vec<String> = place
            .lines()
            .lines()
            // A crash may have torn it.
            .filter(|line| !"another's".starts_with(line))
            .map(|line| match serde_json::from_str::<serde_json::Value>(line) {
                Ok(line) => line["id"].as_str().unwrap().to_owned(),
                Err(error) => panic!("round {round}: {error}: {line}"),
            })
            .collect();
        let mut sent = Changes::new();
        for change in history.iter().filter(|change| change.sent) {
            let kind = if change.entry { ChangeKind::Entry } else { ChangeKind::Exit };
            sent.push(change.at, change.audience, kind, Reason::Event, &change.key);
        }
        let names = self::catalog();
        let expected: Vec<String> = sent
            .iter()
            .map(|change| {
                let messages = crate::messages::Messages::from(names.clone());
                messages.write(&mut Vec::new(), change, sent.texts(change)).as_str().to_owned()
            })
            .collect();
        assert!(ids == expected, "round {round}: {} lines, {} expected", ids.len(), expected.len());

        // The crash: an old cursor, whatever was not synced cut or spoiled, lines that had not been written yet missing.
        let (segments, snapshots) = files::list(&place.log()).unwrap();
        let snapshot = snapshots.last().copied().unwrap_or(0);
        *seen.entry("compacted").or_default() += u32::from(snapshot > 0);
        let cursor_after = fs::read(place.log().join("cursor")).unwrap();
        fs::write(place.log().join("cursor"), &cursor_before).unwrap();
        let (cursor, mut mark) = Cursor::open(&place.log()).unwrap().unwrap();
        drop(cursor);
        if mark.position < segments[0] || rng.u8(..4) == 0 {
            fs::write(place.log().join("cursor"), &cursor_after).unwrap();
            mark = Cursor::open(&place.log()).unwrap().unwrap().1;
            *seen.entry("new cursor").or_default() += 1;
        }
        let all = blocks(&place.log(), mark.position);
        let end = all.last().map_or(mark.position, |block| block.1);
        let least = mark.position.max(snapshot);
        let mut cut = if rng.bool() { end } else { rng.u64(least.min(end)..=end) };
        // Just when a segment is begun.
        if let Some(&base) = segments.last().filter(|&&base| base >= least && base > 0)
            && rng.bool()
        {
            cut = base + rng.u64(..=HEAD_BYTES);
            *seen.entry("cut head").or_default() += u32::from(cut < base + HEAD_BYTES);
        }
        // Segments that would not have been begun.
        for &base in segments.iter().rev().take_while(|&&base| base > cut && base > least) {
            fs::remove_file(files::segment(&place.log(), base)).unwrap();
        }
        let last = *files::list(&place.log()).unwrap().0.last().unwrap();
        cut = cut.max(last);
        let file = fs::File::options().append(true).open(files::segment(&place.log(), last)).unwrap();
        if file.metadata().unwrap().len() > cut - last {
            file.set_len(cut - last).unwrap();
            *seen.entry("cut").or_default() += 1;
        }
        if cut >= last + HEAD_BYTES && rng.bool() {
            let junk = vec![if rng.bool() { 0 } else { rng.u8(..) }; rng.usize(1..200)];
            (&file).write_all(&junk).unwrap();
            *seen.entry("junk").or_default() += 1;
        }
        let lost: usize = all.iter().filter(|block| block.1 > cut).map(|block| block.2).sum();
        history.truncate(history.len() - lost);
        let kept: usize = all.iter().filter(|block| block.1 <= cut).map(|block| block.3).sum();
        let lines = fs::read(place.target()).unwrap();
        let ends = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at as u64 + 1);
        let most = ends
            .filter(|&end| end > mark.length)
            .filter(|&end| !lines[..end as usize].ends_with(b"another's\n"))
            .take(kept)
            .last()
            .unwrap_or(mark.length);
        let length = rng.u64(mark.length..=most);
        *seen.entry("lines behind the cursor").or_default() += u32::from(length > mark.length + 400);
        let whole = length == 0 || lines[length as usize - 1] == b'\n';
        *seen.entry("torn line").or_default() += u32::from(!whole);
        let target = fs::File::options().append(true).open(place.target()).unwrap();
        target.set_len(length).unwrap();
        if whole && rng.u8(..4) == 0 {
            (&target).write_all(b"another's\n").unwrap();
        }
    }
    println!("{seen:?}");
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert!(seen.values().all(|&times| times > 3), "{seen:?}");
}

/// Some segments and compactions between one kill and the next.
const BUSY: Bounds = Bounds {
    block_bytes: 4 << 10,
    segment_bytes: 32 << 10,
    compact_bytes: 64 << 10,
    waiting_bytes: 64 << 10,
    sync_every: Duration::ZERO,
    save_every: Duration::from_millis(20),
};

#[test]
fn killed_again_and_again_it_tells_each_change_once() {
    let seed = 12;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let place = Place::new(BUSY);
    let length = || fs::metadata(place.target()).map_or(0, |metadata| metadata.len());
    let compacted = || files::list(&place.log()).is_ok_and(|(_, snapshots)| !snapshots.is_empty());
    for life in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "outbox::tests::inside_a_process_that_is_killed"])
            .env("USHER_TEST_PLACE", place.folder.path())
            .env("USHER_TEST_SEED", rng.u64(..).to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let until = length() + rng.u64(1..600_000);
        // The later lives begin with a log that was compacted, however slow this machine is.
        while length() < until || (life == 5 && !compacted()) {
            assert_eq!(child.try_wait().unwrap(), None, "it ends only when it is killed");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let opened = place.open().unwrap();
    let ledger: BTreeSet<(String, String)> = members(&opened).into_iter().collect();
    (opened.start)(catalog()).finish().unwrap();
    let (mut members, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for line in place.lines().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("no line is torn");
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        assert!(ids.insert(text("id")), "twice: {line}");
        let member = (text("audience_id"), text("key"));
        let alternates = if text("type") == "entry" { members.insert(member) } else { members.remove(&member) };
        assert!(alternates, "{line}");
    }
    assert!(members == ledger);
    assert!(ids.len() > 1_000);
    assert_eq!(files::list(&place.log()).unwrap().1.len(), 1, "it was compacted");
}

#[test]
#[ignore = "run by `killed_again_and_again_it_tells_each_change_once`"]
fn inside_a_process_that_is_killed() {
    let Some(folder) = std::env::var_os("USHER_TEST_PLACE").map(PathBuf::from) else {
        println!("skipped: only of use inside the test that runs it");
        return;
    };
    let seed = std::env::var("USHER_TEST_SEED").unwrap().parse().unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    let outlet = Outlet::file(&folder.join("changes.jsonl")).unwrap();
    let opened = open_within(&spec(&sync(), &folder.join("state/ledger/crm"), None), outlet, BUSY).unwrap();
    let mut now: BTreeSet<(String, String)> = members(&opened).into_iter().collect();
    let mut at = opened.ledger.clock;
    let mut sink = (opened.start)(catalog());
    let began = std::time::Instant::now();
    // Should nobody kill it.
    while began.elapsed() < Duration::from_secs(60) {
        let mut epoch = Changes::new();
        for _ in 0..rng.usize(..200) {
            at += 1;
            let (audience, key) = (rng.u32(..2), format!("u-{}", rng.u16(..1000)));
            let member = (["a", "b"][audience as usize].to_owned(), key.clone());
            let kind = if now.remove(&member) { ChangeKind::Exit } else { ChangeKind::Entry };
            if kind == ChangeKind::Entry {
                now.insert(member);
            }
            epoch.push(at, audience, kind, Reason::Event, &key);
        }
        sink.write(&epoch, at + 1).unwrap();
        while !sink.ready() || sink.status().waiting > 5_000 {
            std::thread::yield_now();
        }
    }
}

fn testdata(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/outbox/testdata").join(version)
}

/// The memberships of a log, with the rows that the ledger keeps.
fn rows(log: &Path) -> Vec<String> {
    let log = open_log(&spec(&sync(), log, None)).unwrap();
    let mut rows = CommittedRows::new(&sync_with_plan());
    log.memberships.restore_rows(&mut rows);
    let ledger = log.memberships.ledger(log.any);
    let exits = ledger.iter().map(|(audience, key)| {
        let audience = &ledger.audiences[audience as usize].id;
        let mut exits = Changes::new();
        exits.push(1, catalog().index(audience).unwrap(), ChangeKind::Exit, Reason::Event, key);
        let mut committed = Changes::new();
        assert!(rows.commit(&exits, exits.iter().next().unwrap(), &catalog(), &mut committed));
        format!("{audience} {key} {}", committed.row(committed.iter().next().unwrap()))
    });
    exits.collect()
}

fn sync_with_plan() -> usher_config::Sync {
    let plan = usher_config::Text { value: "plan".to_owned(), place: usher_config::Place::default() };
    usher_config::Sync { include: vec![plan], send_update: true, ..sync() }
}

#[test]
fn a_log_of_the_first_version_stays_readable() {
    let place = Place::new(BOUNDS);
    let log = place.log();
    crate::disk::create_folder(&log).unwrap();
    for file in fs::read_dir(testdata("v1")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), log.join(file.file_name())).unwrap();
    }
    assert_eq!(rows(&log)[0], r#"a Zoë 0 {"plan":null}"#);
    let opened = place.open().unwrap();
    let ledger: Vec<_> = members(&opened).into_iter().map(|(audience, key)| format!("{audience} {key}")).collect();
    assert_eq!(ledger, ["a Zoë 0", "a Zoë 2", "a Zoë 4", "b Zoë 5"]);
    assert_eq!((opened.ledger.any, opened.ledger.clock), (true, 1_795_428_000_123));
}

#[test]
fn a_log_is_written_as_version_2_and_read_as_such() {
    let frozen = testdata("v2");
    let place = Place::new(BOUNDS);
    let log = place.log();
    crate::disk::create_folder(&log).unwrap();
    // All that there is: a segment, its snapshot, the segment after it, and a cursor between the two.
    let audience = |index: u32| catalog().audience(index);
    let reasons =
        [Reason::Event, Reason::Expiry, Reason::Snapshot, Reason::Trait, Reason::Definition, Reason::Recovery];
    let mut encoder = block::Encoder::default();
    for (n, &reason) in reasons.iter().enumerate() {
        let n = n as u64;
        let (audience_index, key) = ((n % 2) as u32, format!("Zoë {n}"));
        let row = if n == 1 { "{\"plan\":\"pro\"}" } else { "" };
        let record = Record {
            audience: audience_index,
            kind: ChangeKind::Entry,
            reason,
            sent: n != 2,
            at: 1_795_428_000_000 - 1000 * n,
            key: &key,
            row,
            previous_row: "",
        };
        encoder.push(&record, || audience(audience_index));
    }
    let record = Record {
        audience: 1,
        kind: ChangeKind::Exit,
        reason: Reason::Expiry,
        sent: true,
        at: 1_795_428_000_123,
        key: "Zoë 3",
        row: "",
        previous_row: "",
    };
    encoder.push(&record, || audience(1));
    let update = Record {
        kind: ChangeKind::Update,
        key: "Zoë 1",
        row: r#"{"plan":null}"#,
        previous_row: r#"{"plan":"pro"}"#,
        ..record
    };
    encoder.push(&update, || audience(1));
    encoder.push(&Record { key: "Zoë 5", row: r#"{"plan":"team"}"#, ..update }, || audience(1));
    let mut first = encoder.take();
    let mut file = append::create_segment(&log, 0).unwrap();
    block::seal(&mut first, HEAD_BYTES);
    file.write_all(&first).unwrap();
    let end = HEAD_BYTES + first.len() as u64;
    let mut held = memberships::Memberships::default();
    assert_eq!(held.apply(&first[block::HEAD_BYTES..]), Some(8));
    held.write(&log, end, BOUNDS.block_bytes).unwrap();
    encoder.push(&Record { key: "Zoë 1", ..record }, || audience(1));
    let mut second = encoder.take();
    let mut file = append::create_segment(&log, end).unwrap();
    block::seal(&mut second, end + HEAD_BYTES);
    file.write_all(&second).unwrap();
    Cursor::create(&log, Mark::default()).unwrap().save(Mark { position: end, length: 7, delivered: 0 }, true).unwrap();

    let mut files: Vec<_> = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files.len(), 4);
    for file in files {
        let written = fs::read(log.join(&file)).unwrap();
        assert!(written == fs::read(frozen.join(&file)).unwrap(), "{file:?} is written in another way");
    }
    let nothing = r#"{"plan":null}"#;
    let expected = [("a", 0, nothing), ("a", 2, nothing), ("a", 4, nothing), ("b", 5, r#"{"plan":"team"}"#)];
    let expected = expected.map(|(audience, key, row)| format!("{audience} Zoë {key} {row}"));
    assert_eq!(rows(&log), expected);
    assert_eq!(place.open().unwrap().ledger.clock, 1_795_428_000_123);
}

#[test]
fn keys_with_equal_hashes_stay_apart() {
    let mut seen = std::collections::HashMap::new();
    let (first, second) = (0..)
        .find_map(|number| {
            let key = format!("user-{number}");
            let hash = memberships::Place::hash(0, &key);
            seen.insert(hash, key.clone()).map(|other| (other, key))
        })
        .expect("of some 80,000 numbers two of 32 bits are equal");
    let mut memberships = Memberships::default();
    for (kind, key, held) in [
        (ChangeKind::Entry, &first, vec![&first]),
        (ChangeKind::Exit, &second, vec![&first]),
        (ChangeKind::Entry, &second, vec![&first, &second]),
        (ChangeKind::Entry, &first, vec![&first, &second]),
        (ChangeKind::Exit, &first, vec![&second]),
        (ChangeKind::Entry, &first, vec![&second, &first]),
    ] {
        let mut encoder = super::block::Encoder::default();
        let (at, row, previous_row) = (1, "", "");
        let record = Record { audience: 0, kind, reason: Reason::Event, sent: true, at, key, row, previous_row };
        encoder.push(&record, || LedgerAudience {
            id: "a".to_owned(),
            name: "A".to_owned(),
            model: "users".to_owned(),
        });
        assert_eq!(memberships.apply(&encoder.take()[super::block::HEAD_BYTES..]), Some(1));
        let ledger = memberships.ledger(true);
        assert_eq!(ledger.iter().map(|(_, key)| key).collect::<Vec<_>>(), held, "{kind:?} {key}");
    }
}
