//! The queue against an endpoint that is drawn at random, and against an oracle of what it may do; then its rules by name.

use super::super::held::Held;
use super::*;
use std::collections::BTreeMap;
use usher_core::sink::SyncState;

const SCHEDULE: Schedule = Schedule { first: Duration::from_millis(100), most: Duration::from_secs(60) };

fn queue(batch: Option<BatchBounds>, held: Option<Held>) -> Queue {
    Queue::new(Breaker::new(SCHEDULE, 4, false), SCHEDULE, batch, held)
}

fn change(number: u64, kind: ChangeKind, audience: u32, key: &str, now: Instant) -> Change {
    Change {
        number,
        dead_letter: None,
        forced: false,
        sent: true,
        audience,
        group: 0,
        membership: u128::from(audience) << 64 | u128::from(xxh3_64(key.as_bytes())),
        kind,
        reason: Reason::Event,
        at: number,
        key: key.into(),
        row: "".into(),
        previous_row: "".into(),
        since: now,
        bytes: 10,
    }
}

fn entry(number: u64, key: &str, now: Instant) -> Change {
    change(number, ChangeKind::Entry, 0, key, now)
}

fn exit(number: u64, key: &str, now: Instant) -> Change {
    change(number, ChangeKind::Exit, 0, key, now)
}

/// The numbers of a request's changes.
fn numbers(attempt: &Attempt) -> Vec<u64> {
    attempt.changes.iter().map(|change| change.number).collect()
}

/// How changes ended since the last call, by number.
fn ends(queue: &mut Queue) -> Vec<(u64, End)> {
    let ends = queue.events().into_iter();
    ends.filter_map(|event| if let Event::Settled(change, end) = event { Some((change.number, end)) } else { None })
        .collect()
}

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Taken,
    /// It was taken, and the answer is lost.
    TakenSilently,
    Failed,
    Throttled,
    Refused,
    /// Some of it was refused, and the answer says which.
    Partly,
}

fn fate(random: &mut fastrand::Rng, calm: bool) -> Fate {
    match random.u8(0..100) {
        _ if calm => Fate::Taken,
        0..40 => Fate::Taken,
        40..55 => Fate::TakenSilently,
        55..75 => Fate::Failed,
        75..82 => Fate::Throttled,
        82..90 => Fate::Partly,
        _ => Fate::Refused,
    }
}

/// Delivers a random log to a random endpoint; checks what the endpoint gets, and what it holds at the end.
fn delivered_to_a_random_endpoint(seed: u64, is_state: bool, batch: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut now = Instant::now();
    let bounds = batch.then_some(BatchBounds { changes: 3, bytes: 1_000, wait: Duration::from_millis(50) });
    let mut queue = queue(bounds, is_state.then(|| Held::new(false)));
    // The log: memberships turn round.
    let mut members: BTreeMap<(u32, String), bool> = BTreeMap::new();
    let mut log = Vec::new();
    for number in 0..150 {
        let place = (random.u32(0..2), format!("u-{}", random.u8(0..8)));
        let is_member = members.entry(place.clone()).or_default();
        *is_member = !*is_member;
        let kind = if *is_member { ChangeKind::Entry } else { ChangeKind::Exit };
        let mut change = change(number, kind, place.0, &place.1, now);
        change.group = if seed % 4 < 2 { 0 } else { 2 * place.0 + u32::from(kind == ChangeKind::Exit) };
        log.push(change);
    }
    let mut coming: VecDeque<Change> = log.iter().cloned().collect();
    let mut on_their_way: Vec<Attempt> = Vec::new();
    // By key, the last number that the endpoint got; what it holds; how each change ended.
    let mut got: BTreeMap<String, u64> = BTreeMap::new();
    let mut holds: BTreeMap<(u32, String), bool> = BTreeMap::new();
    let mut ended: BTreeMap<u64, End> = BTreeMap::new();
    for turn in 0.. {
        assert!(turn < 100_000, "seed {seed}: it never ends");
        for _ in 0..random.u8(0..4) {
            if let Some(mut change) = coming.pop_front() {
                change.since = now;
                queue.push(change);
            }
        }
        while let Some(attempt) = queue.next(now) {
            let keys: std::collections::BTreeSet<&str> = attempt.changes.iter().map(|change| &*change.key).collect();
            assert_eq!(keys.len(), attempt.changes.len(), "seed {seed}: one change of a key in a request");
            let groups: std::collections::BTreeSet<u32> = attempt.changes.iter().map(|change| change.group).collect();
            assert_eq!(groups.len(), 1, "seed {seed}: one group in a request");
            let others = on_their_way.iter().flat_map(|other| &other.changes);
            assert!(
                !others.into_iter().any(|other| keys.contains(&*other.key)),
                "seed {seed}: a key is on its way once"
            );
            on_their_way.push(attempt);
        }
        assert!(on_their_way.len() <= 4, "seed {seed}: concurrency");
        if !on_their_way.is_empty() {
            let attempt = on_their_way.swap_remove(random.usize(0..on_their_way.len()));
            let fate = fate(&mut random, turn > 20_000);
            let mut refused = Vec::new();
            if matches!(fate, Fate::Partly) {
                refused.extend((0..attempt.changes.len()).filter(|_| random.bool()));
            }
            if matches!(fate, Fate::Taken | Fate::TakenSilently | Fate::Partly) {
                for (place, change) in attempt.changes.iter().enumerate() {
                    if refused.contains(&place) {
                        continue;
                    }
                    let last = got.insert(change.key.to_string(), change.number).unwrap_or_default();
                    assert!(last <= change.number, "seed {seed}: {} of `{}` after {last}", change.number, change.key);
                    holds.insert((change.audience, change.key.to_string()), change.kind == ChangeKind::Entry);
                }
            }
            let chance = random.f64();
            match fate {
                Fate::Taken => queue.delivered(attempt.id),
                Fate::TakenSilently | Fate::Failed => queue.failed(attempt.id, None, false, now, chance),
                Fate::Throttled => queue.failed(attempt.id, Some(Duration::from_millis(200)), true, now, chance),
                Fate::Refused => queue.refused(attempt.id, now, chance),
                Fate::Partly if refused.is_empty() => queue.delivered(attempt.id),
                Fate::Partly => queue.delivered_but(attempt.id, &refused, now, chance),
            }
        } else if let Some(wake) = queue.wake(now) {
            now = now.max(wake);
        }
        for (number, end) in ends(&mut queue) {
            assert_eq!(ended.insert(number, end), None, "seed {seed}: {number} ends once");
        }
        if coming.is_empty() && queue.len() == 0 {
            break;
        }
        now += Duration::from_millis(random.u64(0..30));
    }
    assert_eq!(ended.len(), log.len(), "seed {seed}: each ends");
    let is_dead = |number: u64| matches!(ended[&number], End::Dead(_));
    for (place, is_member) in &members {
        let last = log.iter().rfind(|change| (change.audience, &*change.key) == (place.0, place.1.as_str())).unwrap();
        if !is_dead(last.number) {
            let held = holds.get(place).copied().unwrap_or_default();
            assert_eq!(held, *is_member, "seed {seed}: {place:?}, {:?}", ended[&last.number]);
        }
    }
    if !is_state {
        assert!(ended.values().all(|end| *end != End::Superseded), "seed {seed}");
    }
}

#[test]
fn a_random_endpoint_gets_each_key_in_order_and_holds_what_the_log_says() {
    for seed in 0..200 {
        delivered_to_a_random_endpoint(seed, false, seed % 2 == 0);
    }
}

#[test]
fn a_random_endpoint_holds_what_the_log_says_if_only_differences_are_sent() {
    for seed in 0..200 {
        delivered_to_a_random_endpoint(seed, true, seed % 2 == 0);
    }
}

#[test]
fn a_change_that_waits_for_a_retry_holds_its_key_and_nothing_else() {
    let now = Instant::now();
    let mut queue = queue(None, None);
    queue.push(entry(0, "a", now));
    queue.push(exit(1, "a", now));
    queue.push(entry(2, "b", now));
    let first = queue.next(now).unwrap();
    assert_eq!(numbers(&first), [0]);
    queue.failed(first.id, None, false, now, 1.0);
    let other = queue.next(now).unwrap();
    assert_eq!(numbers(&other), [2]);
    queue.delivered(other.id);
    assert!(queue.next(now).is_none());
    assert_eq!(queue.wake(now), Some(now + Duration::from_millis(100)));
    let again = queue.next(now + Duration::from_millis(100)).unwrap();
    assert_eq!(numbers(&again), [0]);
    queue.delivered(again.id);
    assert_eq!(numbers(&queue.next(now).unwrap()), [1]);
    assert_eq!(queue.retried, 1);
}

#[test]
fn a_change_that_is_refused_has_three_tries_and_is_a_dead_letter_then() {
    let mut now = Instant::now();
    let mut queue = queue(None, None);
    queue.push(entry(0, "a", now));
    queue.push(exit(1, "a", now));
    for _ in 0..3 {
        assert_eq!(ends(&mut queue), []);
        let attempt = queue.next(now).unwrap();
        assert_eq!(numbers(&attempt), [0]);
        queue.refused(attempt.id, now, 1.0);
        now = queue.wake(now).unwrap();
    }
    assert_eq!(ends(&mut queue), [(0, End::Dead(Death::Refused))]);
    assert_eq!(numbers(&queue.next(now).unwrap()), [1], "the exit goes");
}

#[test]
fn a_batch_that_is_refused_is_halved_down_to_the_change_that_is() {
    let mut now = Instant::now();
    let mut queue = queue(Some(BatchBounds { changes: 8, bytes: 1_000, wait: Duration::ZERO }), None);
    for number in 0..8 {
        queue.push(entry(number, &format!("u-{number}"), now));
    }
    let mut dead = Vec::new();
    let mut delivered = Vec::new();
    while queue.len() > 0 {
        match queue.next(now) {
            Some(attempt) if numbers(&attempt).contains(&5) => queue.refused(attempt.id, now, 1.0),
            Some(attempt) => {
                delivered.extend(numbers(&attempt));
                queue.delivered(attempt.id);
            }
            None => now = queue.wake(now).unwrap(),
        }
        dead.extend(ends(&mut queue).into_iter().filter(|(_, end)| *end != End::Delivered));
    }
    delivered.sort_unstable();
    assert_eq!(delivered, [0, 1, 2, 3, 4, 6, 7]);
    assert_eq!(dead, [(5, End::Dead(Death::Refused))]);
}

#[test]
fn a_batch_goes_when_it_is_full_or_its_oldest_change_has_waited() {
    let now = Instant::now();
    let bounds = BatchBounds { changes: 3, bytes: 25, wait: Duration::from_secs(1) };
    let mut queue = queue(Some(bounds), None);
    queue.push(entry(0, "a", now));
    assert!(queue.next(now).is_none());
    assert_eq!(queue.wake(now), Some(now + Duration::from_secs(1)));
    // A second change of the key does not go with the first.
    queue.push(exit(1, "a", now));
    assert!(queue.next(now).is_none());
    queue.push(entry(2, "b", now));
    queue.push(entry(3, "c", now));
    let full = queue.next(now).unwrap();
    assert_eq!(numbers(&full), [0, 2], "30 bytes are too many");
    assert!(queue.next(now).is_none());
    let waited = queue.next(now + Duration::from_secs(1)).unwrap();
    assert_eq!(numbers(&waited), [3]);
}

#[test]
fn of_a_request_that_is_answered_in_parts_only_what_was_refused_goes_again() {
    let now = Instant::now();
    let mut queue = queue(Some(BatchBounds { changes: 4, bytes: 100, wait: Duration::ZERO }), Some(Held::new(false)));
    for (number, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
        queue.push(entry(number as u64, key, now));
    }
    let mut attempt = queue.next(now).unwrap();
    queue.delivered_but(attempt.id, &[1, 3], now, 1.0);
    assert_eq!(ends(&mut queue), [(0, End::Delivered), (2, End::Delivered)]);
    for wait in [100, 200] {
        assert!(queue.next(now + Duration::from_millis(wait - 1)).is_none());
        attempt = queue.next(now + Duration::from_millis(1_000)).unwrap();
        assert_eq!(numbers(&attempt), [1, 3]);
        queue.delivered_but(attempt.id, &[0, 1], now, 1.0);
    }
    assert_eq!(ends(&mut queue), [(1, End::Dead(Death::Refused)), (3, End::Dead(Death::Refused))]);
    // What was refused is not held.
    queue.push(exit(4, "b", now));
    assert!(queue.next(now).is_none());
    assert_eq!(ends(&mut queue), [(4, End::Superseded)]);
}

#[test]
fn a_request_has_changes_of_one_group_and_the_oldest_group_goes_first() {
    let now = Instant::now();
    let mut queue = queue(Some(BatchBounds { changes: 2, bytes: 1_000, wait: Duration::from_secs(1) }), None);
    let of = |number, key: &str, group, since| Change { group, ..entry(number, key, since) };
    queue.push(of(0, "a", 1, now));
    queue.push(of(1, "b", 0, now));
    assert!(queue.next(now).is_none(), "no group is full");
    queue.push(of(2, "c", 0, now));
    assert_eq!(numbers(&queue.next(now).unwrap()), [1, 2], "a full group does not wait for another");
    assert!(queue.next(now).is_none());
    // The next change of a key may be of another group.
    queue.push(of(3, "a", 0, now + Duration::from_millis(10)));
    let waited = now + Duration::from_secs(1);
    assert_eq!(queue.wake(now), Some(waited));
    let first = queue.next(waited).unwrap();
    assert_eq!(numbers(&first), [0]);
    assert!(queue.next(waited).is_none());
    queue.delivered(first.id);
    assert_eq!(numbers(&queue.next(waited + Duration::from_millis(10)).unwrap()), [3]);
}

#[test]
fn a_batch_that_failed_is_tried_again_as_it_was() {
    let now = Instant::now();
    let mut queue = queue(Some(BatchBounds { changes: 2, bytes: 100, wait: Duration::from_secs(1) }), None);
    queue.push(entry(0, "a", now));
    queue.push(entry(1, "b", now));
    let attempt = queue.next(now).unwrap();
    queue.failed(attempt.id, None, false, now, 1.0);
    queue.push(entry(2, "c", now));
    queue.push(entry(3, "d", now));
    let later = now + Duration::from_millis(100);
    assert_eq!(numbers(&queue.next(later).unwrap()), [0, 1]);
    assert_eq!(numbers(&queue.next(later).unwrap()), [2, 3]);
}

#[test]
fn one_that_fails_is_probed_with_one_change_a_step() {
    let mut now = Instant::now();
    let mut queue = queue(Some(BatchBounds { changes: 4, bytes: 1_000, wait: Duration::ZERO }), None);
    for number in 0..20 {
        queue.push(entry(number, &format!("u-{number}"), now));
    }
    while queue.breaker.state() == SyncState::Ok {
        match queue.next(now) {
            Some(attempt) => queue.failed(attempt.id, None, false, now, 1.0),
            None => now = queue.wake(now).unwrap(),
        }
    }
    for _ in 0..3 {
        assert!(queue.next(now).is_none());
        now = queue.wake(now).unwrap();
        let probe = queue.next(now).unwrap();
        assert_eq!(probe.changes.len(), 1);
        assert!(queue.next(now).is_none(), "one at a time");
        queue.failed(probe.id, None, false, now, 1.0);
    }
    now = queue.wake(now).unwrap();
    let probe = queue.next(now).unwrap();
    queue.delivered(probe.id);
    let mut count = probe.changes.len();
    while queue.len() > 0 {
        match queue.next(now) {
            Some(attempt) => {
                count += attempt.changes.len();
                queue.delivered(attempt.id);
            }
            None => now = queue.wake(now).unwrap(),
        }
    }
    assert_eq!(count, 20);
}

#[test]
fn rejecting_keeps_what_is_refused() {
    let mut now = Instant::now();
    let mut queue = queue(None, None);
    for number in 0..40 {
        queue.push(entry(number, &format!("u-{number}"), now));
    }
    for _ in 0..200 {
        match queue.next(now) {
            Some(attempt) => queue.refused(attempt.id, now, 1.0),
            None => now = queue.wake(now).unwrap(),
        }
    }
    assert_eq!(queue.breaker.state(), SyncState::Rejecting);
    assert_eq!(queue.len(), 40);
    assert_eq!(ends(&mut queue), []);
}

#[test]
fn changes_that_keep_being_refused_hold_up_no_others() {
    let mut now = Instant::now();
    let mut queue = queue(None, None);
    let is_bad = |number: u64| number < 25;
    for number in 0..25 {
        queue.push(entry(number, &format!("u-{number}"), now));
    }
    let run = |queue: &mut Queue, now: &mut Instant| {
        for _ in 0..100 {
            while let Some(attempt) = queue.next(*now) {
                match is_bad(numbers(&attempt)[0]) {
                    true => queue.refused(attempt.id, *now, 1.0),
                    false => queue.delivered(attempt.id),
                }
            }
            *now = queue.wake(*now).unwrap_or(*now);
        }
    };
    run(&mut queue, &mut now);
    assert_eq!(queue.breaker.state(), SyncState::Rejecting);
    for number in 25..80 {
        queue.push(entry(number, &format!("u-{number}"), now));
    }
    run(&mut queue, &mut now);
    let delivered = ends(&mut queue).into_iter().filter(|(_, end)| *end == End::Delivered).count();
    assert_eq!(delivered, 55);
}

#[test]
fn what_came_and_went_before_it_was_sent_is_superseded() {
    let now = Instant::now();
    let mut queue = queue(None, Some(Held::new(false)));
    for number in 0..6 {
        let kind = if number % 2 == 0 { ChangeKind::Entry } else { ChangeKind::Exit };
        queue.push(change(number, kind, 0, "a", now));
    }
    assert!(queue.next(now).is_none());
    assert_eq!(ends(&mut queue), (0..6).map(|number| (number, End::Superseded)).collect::<Vec<_>>());
    // Of those behind the room too, which are only noted.
    let membership = entry(6, "a", now).membership;
    queue.note(membership, 6);
    queue.note(membership, 7);
    queue.push(entry(6, "a", now));
    assert!(queue.next(now).is_none());
    assert_eq!(ends(&mut queue), [(6, End::Superseded)]);
    queue.push(exit(7, "a", now));
    assert!(queue.next(now).is_none());
    assert_eq!(ends(&mut queue), [(7, End::Superseded)]);
}

#[test]
fn after_an_attempt_without_an_answer_what_holds_now_is_sent() {
    let now = Instant::now();
    let mut queue = queue(None, Some(Held::new(false)));
    queue.push(entry(0, "a", now));
    let attempt = queue.next(now).unwrap();
    // It is not superseded while it is on its way.
    queue.push(exit(1, "a", now));
    assert_eq!(ends(&mut queue), []);
    queue.failed(attempt.id, None, false, now, 0.0);
    let exit = queue.next(now).unwrap();
    assert_eq!(numbers(&exit), [1]);
    assert_eq!(ends(&mut queue), [(0, End::Superseded)]);
    queue.delivered(exit.id);
    assert_eq!(ends(&mut queue), [(1, End::Delivered)]);
    assert_eq!(queue.held().unwrap().iter().count(), 0);
}

#[test]
fn an_exit_after_an_entry_that_was_refused_is_superseded() {
    let mut now = Instant::now();
    let mut queue = queue(None, Some(Held::new(false)));
    queue.push(entry(0, "a", now));
    for _ in 0..3 {
        let attempt = queue.next(now).unwrap();
        queue.refused(attempt.id, now, 1.0);
        now = queue.wake(now).unwrap_or(now);
    }
    queue.push(exit(1, "a", now));
    assert!(queue.next(now).is_none());
    assert_eq!(ends(&mut queue), [(0, End::Dead(Death::Refused)), (1, End::Superseded)]);
}

#[test]
fn with_updates_the_row_is_part_of_what_is_held_and_an_exit_has_it() {
    let now = Instant::now();
    let mut queue = queue(None, Some(Held::new(true)));
    let with_row = |change: Change, row: &str| Change { row: row.into(), ..change };
    queue.push(with_row(entry(0, "a", now), "1"));
    let attempt = queue.next(now).unwrap();
    queue.delivered(attempt.id);
    // One that leads back to what is held is none.
    queue.push(with_row(change(1, ChangeKind::Update, 0, "a", now), "2"));
    queue.push(with_row(change(2, ChangeKind::Update, 0, "a", now), "1"));
    assert!(queue.next(now).is_none());
    assert_eq!(ends(&mut queue).len(), 3);
    queue.push(with_row(change(3, ChangeKind::Update, 0, "a", now), "3"));
    let update = queue.next(now).unwrap();
    assert_eq!((update.changes[0].kind, &*update.changes[0].previous_row), (ChangeKind::Update, "1"));
    queue.failed(update.id, None, false, now, 0.0);
    // The row that the last attempt had, acknowledged or not.
    queue.push(with_row(exit(4, "a", now), "4"));
    let exit = queue.next(now).unwrap();
    assert_eq!((numbers(&exit), &*exit.changes[0].row), (vec![4], "3"));
}

#[test]
fn an_update_of_what_is_not_held_enters() {
    let now = Instant::now();
    let mut queue = queue(None, Some(Held::new(true)));
    queue.push(entry(0, "a", now));
    queue.push(Change { row: "2".into(), ..change(1, ChangeKind::Update, 0, "a", now) });
    let attempt = queue.next(now).unwrap();
    assert_eq!((numbers(&attempt), attempt.changes[0].kind), (vec![1], ChangeKind::Entry));
}

#[test]
fn a_change_that_is_not_sent_says_what_is_held_when_its_turn_comes() {
    let now = Instant::now();
    let mut queue = queue(None, Some(Held::new(false)));
    queue.push(Change { sent: false, ..entry(0, "a", now) });
    queue.push(exit(1, "a", now));
    assert_eq!(numbers(&queue.next(now).unwrap()), [1]);
    assert_eq!(ends(&mut queue), [(0, End::Unsent)]);
}

#[test]
fn what_has_waited_too_long_is_a_dead_letter_unless_it_is_on_its_way() {
    let now = Instant::now();
    let mut queue = queue(None, None);
    for (number, key) in [(0, "a"), (1, "b"), (2, "b"), (3, "c"), (4, "d")] {
        queue.push(entry(number, key, now));
    }
    let on_its_way = queue.next(now).unwrap();
    let failed = queue.next(now).unwrap();
    queue.failed(failed.id, None, false, now, 1.0);
    queue.expire(4);
    let mut expired = ends(&mut queue);
    expired.sort_by_key(|(number, _)| *number);
    assert_eq!(expired, [1, 2, 3].map(|number| (number, End::Dead(Death::Expired))));
    queue.delivered(on_its_way.id);
    assert_eq!(numbers(&queue.next(now).unwrap()), [4]);
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_dead_letter_goes_before_later_changes_of_its_key_and_is_superseded_by_one_that_was_faster() {
    let now = Instant::now();
    let mut queue = queue(None, None);
    let again = |number, forced| Change { dead_letter: Some(number), forced, ..entry(number, "a", now) };
    queue.push(exit(5, "a", now));
    queue.push(entry(6, "a", now));
    let on_its_way = queue.next(now).unwrap();
    queue.push(again(2, false));
    queue.push(again(3, true));
    queue.delivered(on_its_way.id);
    assert_eq!(ends(&mut queue), [(2, End::Superseded), (5, End::Delivered)]);
    let forced = queue.next(now).unwrap();
    assert_eq!(numbers(&forced), [3]);
    queue.delivered(forced.id);
    assert_eq!(numbers(&queue.next(now).unwrap()), [6]);
}

#[test]
fn one_that_cannot_be_written_is_a_dead_letter_and_the_others_go() {
    let now = Instant::now();
    let mut queue = queue(Some(BatchBounds { changes: 3, bytes: 100, wait: Duration::ZERO }), None);
    for (number, key) in [(0, "a"), (1, "b"), (2, "c")] {
        queue.push(entry(number, key, now));
    }
    let attempt = queue.next(now).unwrap();
    queue.unwritable(attempt.id, 1, now);
    assert_eq!(ends(&mut queue), [(1, End::Dead(Death::Unwritable))]);
    assert_eq!(numbers(&queue.next(now).unwrap()), [0, 2]);
}
