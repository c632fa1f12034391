//! Sequences held to a search of all events.

use super::super::{Applied, WindowState};
use super::*;
use crate::state::transition::{Cause, Flip};
use usher_config::Members;
use usher_queries::plan::{EventFilter, Fact, FactKind, ModelPlan};

const WITHIN: Time = 100;
const UNLIMITED: Option<u64> = None;

/// An event as the naive search has it: its place in the order, and what it is in the sequence.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: (Time, u64),
    id: (u64, u32),
    bits: u64,
}

/// A sequence over one key, and all its events in a list.
struct Both {
    after: Vec<Option<u64>>,
    state: WindowState,
    flips: Vec<Flip>,
    seen: Vec<Seen>,
    truth: bool,
    clock: Time,
}

fn state(after: &[Option<u64>]) -> WindowState {
    let of = EventFilter { event: 0, filter: 0 };
    let steps = after.iter().map(|after| SequenceStep { of, after: *after }).collect();
    let kind = FactKind::Sequence { steps, without: vec![of], within: WITHIN };
    let model = ModelPlan {
        id: "users".into(),
        members: Members::Any,
        audiences: Vec::new(),
        order: Vec::new(),
        facts: vec![Fact { kind, fingerprint: [0; 16], text: String::new(), default: false }],
        snapshot: None,
        rows: None,
    };
    let mut state = WindowState::new(&model, &[]);
    state.fit(1);
    state
}

impl Both {
    fn new(after: &[Option<u64>]) -> Both {
        let (state, after) = (state(after), after.to_vec());
        Both { after, state, flips: Vec::new(), seen: Vec::new(), truth: false, clock: WITHIN }
    }

    /// Returns the timestamp of the first event of the newest chain, by trying every event for every step.
    fn newest_first(&self) -> Option<Time> {
        let is = |seen: &Seen, step: usize| seen.bits >> step & 1 == 1;
        let chained = |first: &&Seen| {
            let mut reached = vec![first.at];
            for (step, after) in self.after.iter().enumerate().skip(1) {
                let follows = |seen: &&Seen| {
                    let in_time = |from: &(Time, u64)| after.is_none_or(|after| seen.at.0 - from.0 <= after);
                    is(seen, step) && reached.iter().any(|from| *from < seen.at && in_time(from))
                };
                reached = self.seen.iter().filter(follows).map(|seen| seen.at).collect();
            }
            let excluded = |last: &(Time, u64)| {
                let mut all = self.seen.iter().filter(|seen| seen.bits & EXCLUDED != 0);
                all.any(|seen| first.at < seen.at && seen.at < *last)
            };
            reached.iter().any(|last| !excluded(last))
        };
        self.seen.iter().filter(|seen| is(seen, 0)).filter(chained).map(|seen| seen.at.0).max()
    }

    /// Goes on to a time; panics if the truth is another one at any ms on the way.
    fn go_to(&mut self, time: Time, what: &str) {
        while self.state.fire(time, &mut self.flips).is_some() {}
        self.flips.sort_by_key(|flip| flip.time);
        let first = self.newest_first();
        for clock in self.clock + 1..=time {
            for flip in self.flips.extract_if(.., |flip| flip.time <= clock) {
                assert_eq!(flip.cause, Cause::Expiry, "{what}");
                self.truth = flip.truth;
            }
            assert_eq!(self.truth, first.is_some_and(|first| clock < first + WITHIN), "{what}: at {clock}");
        }
        self.clock = time;
    }

    /// Applies an event that is the `nth` of the sequence's; returns whether it is a repeat.
    fn apply(&mut self, timestamp: Time, arrival: u64, (id, nth): (u64, u32), bits: u64, what: &str) -> bool {
        let event = Held { timestamp, arrival: Arrival::new(0, arrival), id };
        let positions: Vec<u64> = (0..64).map(|bit| 1 << bit).filter(|bit| bits & bit != 0).collect();
        let roles: Vec<Role> = positions.iter().map(|bits| Role { bits: *bits, nth }).collect();
        let (facts, all) = (vec![0; roles.len()], (1 << roles.len()) - 1);
        let applied = Applied { at: self.clock, event, bits: all, facts: &facts, roles: &roles, values: &[] };
        let repeat = self.state.apply(0, &applied, &mut self.flips);
        let known = self.seen.iter_mut().find(|seen| seen.id == (id, nth) && self.clock < seen.at.0 + WITHIN);
        assert_eq!(repeat, known.is_some(), "{what}");
        match known {
            Some(seen) => seen.at.1 = seen.at.1.min(arrival),
            None if self.clock < timestamp + WITHIN => {
                self.seen.push(Seen { at: (timestamp, arrival), id: (id, nth), bits });
            }
            None => {}
        }
        for flip in self.flips.drain(..) {
            assert_ne!(flip.truth, self.truth, "{what}: flips alternate");
            self.truth = flip.truth;
        }
        let want = self.newest_first().is_some_and(|first| self.clock < first + WITHIN);
        assert_eq!(self.truth, want, "{what}: after {timestamp} {arrival} {id} {bits:b}; {:?}", self.seen);
        repeat
    }

    /// Goes on with what is restored from what is held.
    fn restore(&mut self, what: &str) {
        let mut restored = state(&self.after);
        let truth = restored.restore(0, 0, self.clock, &self.state.events_of(0, 0), &mut Vec::new());
        assert_eq!(truth, self.truth, "{what}: as restored");
        self.state = restored;
    }
}

#[test]
fn sequences_equal_a_search_of_all_events() {
    let (mut replaced, mut broken, mut repaired, mut repeats, mut reordered, mut aged_out) = (0, 0, 0, 0, 0, 0);
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let steps = rng.usize(2..=4);
        let limit = |rng: &mut fastrand::Rng| rng.bool().then(|| rng.u64(0..60));
        let after: Vec<Option<u64>> = (0..steps).map(|step| if step == 0 { None } else { limit(&mut rng) }).collect();
        let mut both = Both::new(&after);
        // Some seeds have few timestamps, so that arrival decides; some never exclude; in some all is late.
        let (coarse, excludes, late) = (rng.bool(), rng.u8(0..4), rng.u64(1..WITHIN + 10));
        for number in 0..120 {
            let what = format!("seed {seed}, event {number}, after {after:?}");
            let next = both.clock + *rng.choice(&[0, 0, 1, 3, 9, 40]).expect("it is not empty");
            let before = both.truth;
            both.go_to(next, &what);
            aged_out += u32::from(before && !both.truth);
            let timestamp = next - rng.u64(0..late).min(next);
            let timestamp = if coarse { timestamp / 20 * 20 } else { timestamp };
            let mut bits = 1 << rng.usize(0..steps);
            if rng.u8(0..4) == 0 {
                bits |= 1 << rng.usize(0..steps);
            }
            if rng.u8(0..10) < excludes {
                bits = if rng.bool() { EXCLUDED } else { bits | EXCLUDED };
            }
            let (first, truth, newest) = (both.newest_first(), both.truth, both.seen.iter().map(|seen| seen.at).max());
            let place = (timestamp, 10_000 - number);
            match both.seen.get(rng.usize(0..=both.seen.len())).copied() {
                // A repeat, or what the same message is as another event.
                Some(seen) if rng.u8(0..3) == 0 => {
                    let earlier = seen.at.1 - rng.u64(0..5_000).min(seen.at.1);
                    let arrival = *rng.choice(&[seen.at.1 + 1, earlier]).expect("it is not empty");
                    let repeat = both.apply(seen.at.0, arrival, seen.id, bits, &what);
                    repeats += u32::from(repeat);
                    reordered += u32::from(repeat && both.truth != truth);
                }
                Some(seen) if seen.id.1 == 0 && rng.u8(0..3) == 0 => {
                    both.apply(seen.at.0, seen.at.1, (seen.id.0, 1), bits, &what);
                }
                _ => {
                    both.apply(place.0, place.1, (number, 0), bits, &what);
                    broken += u32::from(truth && !both.truth && bits & EXCLUDED != 0);
                    repaired += u32::from(!truth && both.truth && Some(place) < newest);
                    replaced += u32::from(truth && both.truth && both.newest_first() > first);
                }
            }
            if number % 10 == 9 {
                both.restore(&what);
            }
        }
        let end = both.clock + WITHIN;
        both.go_to(end, &format!("seed {seed}"));
        assert!(both.state.key(0).is_empty(), "seed {seed}: nothing is held for ever");
    }
    let reached = [
        ("a chain is replaced by a newer one", replaced),
        ("a late excluded event breaks a chain that held", broken),
        ("a late step makes a chain whole", repaired),
        ("a repeat", repeats),
        ("a repeat with an earlier arrival changes the order", reordered),
        ("a chain ages out", aged_out),
    ];
    for (what, times) in reached {
        assert!(times > 30, "{what}: {times} times, of {reached:?}");
    }
}

/// Applies events of (timestamp, bits) at their time; returns (time, truth) of all flips up to the end of all windows.
fn flips(after: &[Option<u64>], events: &[(Time, u64)]) -> Vec<(Time, bool)> {
    let mut both = Both::new(after);
    let (mut flips, mut truth) = (Vec::new(), false);
    let mut look = |both: &Both| {
        if both.truth != truth {
            truth = both.truth;
            flips.push((both.clock, truth));
        }
    };
    for (id, (timestamp, bits)) in events.iter().enumerate() {
        for clock in both.clock + 1..=WITHIN + timestamp {
            both.go_to(clock, "");
            look(&both);
        }
        both.apply(WITHIN + timestamp, id as u64, (id as u64, 0), *bits, "");
        look(&both);
    }
    for clock in both.clock + 1..=both.clock + WITHIN {
        both.go_to(clock, "");
        look(&both);
    }
    flips.into_iter().map(|(time, truth)| (time - WITHIN, truth)).collect()
}

#[test]
fn a_chain_holds_until_the_first_event_of_the_newest_leaves() {
    assert_eq!(flips(&[None, UNLIMITED], &[(0, 1), (10, 2)]), [(10, true), (100, false)]);
    assert_eq!(flips(&[None, UNLIMITED], &[(0, 1), (10, 2), (20, 1), (30, 2)]), [(10, true), (120, false)]);
    assert_eq!(flips(&[None, UNLIMITED], &[(0, 1), (5, 1), (10, 2)]), [(10, true), (105, false)]);
}

#[test]
fn a_step_that_is_too_late_does_not_hide_one_in_time() {
    // The event at 50 is too late after 0; that at 10 is in time, and the last step may come at any time.
    let after = [None, Some(20), UNLIMITED];
    assert_eq!(flips(&after, &[(0, 1), (10, 2), (50, 2), (60, 4)]), [(60, true), (100, false)]);
}

#[test]
fn one_message_is_one_event_for_all_steps_and_may_be_excluded_at_the_ends() {
    assert_eq!(flips(&[None, UNLIMITED], &[(0, 3)]), []);
    assert_eq!(flips(&[None, UNLIMITED], &[(0, 1 | EXCLUDED), (10, 2 | EXCLUDED)]), [(10, true), (100, false)]);
    assert_eq!(flips(&[None, UNLIMITED, UNLIMITED], &[(0, 1), (10, 2 | EXCLUDED), (20, 4)]), []);
    assert_eq!(flips(&[None, UNLIMITED], &[(0, 1), (10, EXCLUDED), (20, 2)]), []);
}

#[test]
fn progress_is_how_far_a_chain_can_still_go_on() {
    let progress = |events: &[(Time, u64)], now| {
        let rule = SequenceRule { after: vec![Time::MAX, 20, Time::MAX] };
        let held = |(id, (timestamp, bits)): (usize, &(Time, u64))| {
            let held = Held { timestamp: *timestamp, arrival: Arrival::new(0, id as u64), id: id as u64 };
            ValuedEvent::new(held, i128::from(*bits))
        };
        super::progress(&rule, &events.iter().enumerate().map(held).collect::<Vec<_>>(), now)
    };
    assert_eq!(progress(&[(0, 2), (1, 4)], 5), [0; 0]);
    assert_eq!(progress(&[(0, 1)], 20), [0]);
    assert_eq!(progress(&[(0, 1)], 21), [0; 0], "the second step can't come in time any more");
    assert_eq!(progress(&[(0, 1), (10, 2), (12, 1)], 90), [0, 10]);
    assert_eq!(progress(&[(0, 1), (10, 2), (12, EXCLUDED)], 12), [0; 0]);
    assert_eq!(progress(&[(0, 1), (10, 2), (11, 4), (12, EXCLUDED)], 12), [0, 10, 11]);
}
