//! Lookups equal membership at their as-of time, whatever workers do meanwhile.

use super::*;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

const A: u32 = 0;
const B: u32 = 1;
const BIG: u32 = 2;
const USERS: [u32; 4] = [0, 1, 3, 4];

fn new_index(workers: usize) -> MembershipIndex {
    let audiences = ["a", "b", "c", "d"].map(|id| (id, id, "users"));
    let catalog = Catalog::new("shop", audiences.into_iter().chain([("big", "big", "accounts")]));
    MembershipIndex::new(catalog, ["accounts", "users"].map(str::to_owned), ["web".to_owned()], workers, 7)
}

fn index(workers: usize) -> (Arc<MembershipIndex>, Vec<IndexWriter>) {
    let index = Arc::new(new_index(workers));
    let writers = (0..workers).map(|worker| IndexWriter::new(index.clone(), worker)).collect();
    (index, writers)
}

fn enter(writer: &mut IndexWriter, at: u64, audience: u32, key: &str) {
    writer.publish(at, audience, ChangeKind::Entry, Reason::Event, key);
}

fn exit(writer: &mut IndexWriter, at: u64, audience: u32, key: &str) {
    writer.publish(at, audience, ChangeKind::Exit, Reason::Expiry, key);
}

fn users(index: &MembershipIndex, key: &str) -> (AsOf, Vec<u32>) {
    let (as_of, audiences) = index.lookup(index.model("users").unwrap(), key).unwrap();
    (as_of, audiences.to_vec())
}

fn live(time: u64) -> AsOf {
    AsOf { time, recovering: false }
}

#[test]
fn an_epoch_is_seen_when_all_workers_have_closed_it() {
    let (index, mut writers) = index(2);
    writers[0].close(100);
    assert_eq!(index.as_of(), None);
    writers[1].close(100);
    assert_eq!(users(&index, "u"), (live(100), vec![]));
    enter(&mut writers[0], 103, B, "u");
    enter(&mut writers[0], 105, A, "u");
    exit(&mut writers[0], 109, B, "u");
    assert_eq!(users(&index, "u"), (live(100), vec![]));
    writers[0].close(110);
    assert_eq!(users(&index, "u"), (live(100), vec![]));
    // The other worker need not close the same times.
    writers[1].close(104);
    assert_eq!(users(&index, "u"), (live(104), vec![B]));
    writers[1].close(108);
    assert_eq!(users(&index, "u"), (live(108), vec![A, B]));
    writers[1].close(200);
    assert_eq!(users(&index, "u"), (live(110), vec![A]));
    let counts = index.counts();
    assert_eq!(counts[A as usize], Count { size: 1, entries: 1, exits: 0 });
    assert_eq!(counts[B as usize], Count { size: 0, entries: 1, exits: 1 });
}

#[test]
fn the_ledgers_are_served_until_all_workers_are_live() {
    let (index, mut writers) = index(2);
    assert!(index.lookup(index.model("users").unwrap(), "u").is_none());
    index.load_ledger(50, [(A, "u"), (B, "u"), (A, "u"), (BIG, "u")], 1);
    assert_eq!(users(&index, "u"), (AsOf { time: 50, recovering: true }, vec![A, B]));
    assert_eq!(index.counts()[A as usize].size, 1);
    enter(&mut writers[0], 60, B, "u");
    writers[0].close(100);
    assert_eq!(users(&index, "u").0, AsOf { time: 50, recovering: true });
    writers[1].close(99);
    assert_eq!(users(&index, "u"), (live(99), vec![B]));
    assert_eq!(index.recent().last(), 0);
    index.load_ledger(50, [(A, "u")], 1);
    assert!(index.ledger_view().is_none(), "they come too late");
    assert_eq!(users(&index, "u"), (live(99), vec![B]));
}

#[test]
fn a_key_without_audiences_takes_nothing() {
    let (index, mut writers) = index(1);
    writers[0].close(1000);
    enter(&mut writers[0], 1010, A, "u");
    writers[0].close(1010);
    exit(&mut writers[0], 1020, A, "u");
    writers[0].close(1020);
    let members = &index.models[index.model("users").unwrap().0 as usize].members;
    assert_eq!(members.len(), 1);
    writers[0].close(1020 + KEPT_MS);
    assert_eq!(members.len(), 0);
    assert_eq!(users(&index, "u"), (live(1020 + KEPT_MS), vec![]));
}

#[test]
fn positions_are_reflected_when_their_time_is_closed() {
    let (index, mut writers) = index(2);
    assert_eq!(index.reflected("nowhere", "p", 0), Reflected::UnknownSource);
    assert_eq!(index.reflected("web", "p", 0), Reflected::NotYet);
    index.reflect("web", "p", 10, 0);
    index.reflect("web", "p", 20, 105);
    writers.iter_mut().for_each(|writer| writer.close(100));
    assert_eq!(index.reflected("web", "p", 9), Reflected::Yes);
    assert_eq!(index.reflected("web", "p", 10), Reflected::NotYet);
    writers[0].close(200);
    assert_eq!(index.reflected("web", "p", 19), Reflected::NotYet);
    writers[1].close(105);
    assert_eq!(index.reflected("web", "p", 19), Reflected::Yes);
    assert_eq!(index.reflected("web", "p", 20), Reflected::NotYet);
}

#[test]
fn the_latest_changes_are_kept_and_missed_ones_are_reported() {
    let (index, mut writers) = index(1);
    writers[0].close(1);
    let recent = index.recent();
    let mut now = 1;
    let mut toggle = |times: u64| {
        for _ in 0..times {
            now += 1;
            if now % 2 == 0 {
                enter(&mut writers[0], now, A, "u");
            } else {
                exit(&mut writers[0], now, A, "u");
            }
        }
        writers[0].close(now);
    };
    toggle(4);
    let all = recent.since(Some(0), &Interest::default());
    assert_eq!((all.missed, all.last, all.more), (false, 4, false));
    assert_eq!(all.changes.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let other = Interest { audience: Some(B), key: None };
    assert_eq!(recent.since(Some(2), &other).changes, []);
    assert_eq!(recent.number(&recent.id(3)), Some(Some(3)));
    assert_eq!(recent.number("6-3"), Some(None));
    assert_eq!(recent.number("7-5"), Some(None));
    assert_eq!(recent.number("x"), None);
    toggle(70_000);
    let late = recent.since(Some(4), &Interest::default());
    assert!(late.missed && late.more);
    assert_eq!(late.changes[0].0, 70_004 - 65_536 + 1);
    let next = recent.since(Some(late.last), &Interest::default());
    assert!(!next.missed);
    assert_eq!(next.changes[0].0, late.last + 1);
}

/// By key: times, and the audiences of the key from each on.
type Truth = BTreeMap<String, Vec<(u64, BTreeSet<u32>)>>;

#[test]
fn lookups_of_many_threads_equal_membership_at_their_time() {
    const WORKERS: usize = 3;
    const KEYS: usize = 24;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    // What happens: one key after the other flips an audience, often several in one ms; sometimes long nothing.
    let mut now = 1000;
    let mut truth: Truth = (0..KEYS).map(|key| (format!("k{key}"), vec![(0, BTreeSet::new())])).collect();
    let mut flips: Vec<(u64, usize, u32, ChangeKind)> = Vec::new();
    for _ in 0..5_000 {
        now += match random.u32(..100) {
            0 => random.u64(200..700),
            1..50 => 1,
            _ => 0,
        };
        let (key, audience) = (random.usize(..KEYS), USERS[random.usize(..USERS.len())]);
        let history = truth.get_mut(&format!("k{key}")).unwrap();
        let mut set = history.last().unwrap().1.clone();
        // Half the time all is left, so that keys come and go.
        let kind = if set.remove(&audience) {
            ChangeKind::Exit
        } else {
            set.insert(audience);
            ChangeKind::Entry
        };
        history.push((now, set));
        flips.push((now, key, audience, kind));
    }
    let end = now;
    let (index, writers) = index(WORKERS);
    let (truth, flips) = (Arc::new(truth), Arc::new(flips));
    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = writers
        .into_iter()
        .enumerate()
        .map(|(worker, mut writer)| {
            let (flips, reads) = (flips.clone(), reads.clone());
            let mut random = fastrand::Rng::with_seed(seed + 1 + worker as u64);
            std::thread::spawn(move || {
                writer.close(999);
                let mut closed = 999;
                let mut mine = flips.iter().filter(|flip| flip.1 % WORKERS == worker).peekable();
                while closed < end {
                    closed = (closed + random.u64(1..40)).min(end);
                    while let Some((at, key, audience, kind)) = mine.next_if(|flip| flip.0 <= closed) {
                        writer.publish(*at, *audience, *kind, Reason::Event, &format!("k{key}"));
                    }
                    writer.close(closed);
                    // A reader has read since.
                    let before = reads.load(Ordering::Relaxed);
                    while reads.load(Ordering::Relaxed) == before {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|reader| {
            let (index, truth, done, reads) = (index.clone(), truth.clone(), done.clone(), reads.clone());
            let mut random = fastrand::Rng::with_seed(seed + 100 + reader);
            std::thread::spawn(move || {
                let model = index.model("users").unwrap();
                let mut times = BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    let keys: Vec<String> = (0..8).map(|_| format!("k{}", random.usize(..KEYS))).collect();
                    if let Some((as_of, found)) = index.lookup_all(model, &keys) {
                        times.insert(as_of.time);
                        for (key, found) in keys.iter().zip(found) {
                            let history = &truth[key];
                            let at = history.partition_point(|(from, _)| *from <= as_of.time) - 1;
                            let expected: Vec<u32> = history[at].1.iter().copied().collect();
                            assert_eq!(found.to_vec(), expected, "{key} at {as_of:?}, seed {seed}");
                        }
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                times.len()
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 50, "readers saw few times, seed {seed}");
    }
    // In the end sizes and counts are right, and all is closed.
    let counts = index.counts();
    for audience in USERS {
        let size = truth.values().filter(|history| history.last().unwrap().1.contains(&audience)).count();
        let count = counts[audience as usize];
        assert_eq!((count.size, count.size), (size as u64, count.entries - count.exits));
    }
    assert_eq!(index.as_of(), Some(live(end)));
}
