//! What took effect, counted by event of the plan: repeats, and messages whose key has no row in a snapshot.
//!
//! The first [`ALL_LOOKED_UP`] messages of an event are looked up, then one in [`SAMPLED`], which counts for all of them: a look-up reads
//! memory that most messages do not need. Messages before the start wait for the first pulls; [`WAITING`] of all of them are kept.

use crate::time::Slot;

/// Messages of an event that are all looked up.
const ALL_LOOKED_UP: u64 = 10_000;
/// Beyond them, one in so many is.
const SAMPLED: u64 = 64;
/// Messages that wait for the first pulls at most.
const WAITING: usize = 10_000;

/// The counts of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventCounts {
    /// Messages that repeat one that is held.
    pub(crate) repeats: u64,
    /// Those for which no other event counts them: over all events each message once.
    pub(crate) repeated_messages: u64,
    /// Messages whose key was looked up in the snapshot, those for which others stand included.
    pub(crate) looked_up: u64,
    /// Those of them whose key has no row.
    pub(crate) without_row: u64,
}

impl EventCounts {
    /// Adds what another worker has counted.
    pub(crate) fn add(&mut self, other: &EventCounts) {
        self.repeats += other.repeats;
        self.repeated_messages += other.repeated_messages;
        self.looked_up += other.looked_up;
        self.without_row += other.without_row;
    }

    fn found(&mut self, has_row: bool, weight: u64) {
        self.looked_up += weight;
        self.without_row += if has_row { 0 } else { weight };
    }
}

/// The counts of all events of a job on one worker.
pub(crate) struct AllEventCounts {
    events: Vec<EventCounts>,
    /// By event, the messages that took effect: of models with a snapshot.
    applied: Vec<u64>,
    /// Before the start: event, slot, and for how many messages it stands.
    waiting: Vec<(u16, Slot, u64)>,
}

impl AllEventCounts {
    pub(crate) fn new(events: usize) -> AllEventCounts {
        AllEventCounts { events: vec![EventCounts::default(); events], applied: vec![0; events], waiting: Vec::new() }
    }

    /// Returns the counts by event.
    pub(crate) fn by_event(&self) -> &[EventCounts] {
        &self.events
    }

    /// Counts a message that repeats one that is held.
    #[inline]
    pub(crate) fn repeat(&mut self, event: u16) {
        self.events[usize::from(event)].repeats += 1;
    }

    /// Counts a message that repeats one that is held, at the event that stands for it.
    #[inline]
    pub(crate) fn repeat_message(&mut self, event: u16) {
        self.events[usize::from(event)].repeated_messages += 1;
    }

    /// Counts a message of a key. `has_row` looks it up; `None` while no pull is in force.
    #[inline]
    pub(crate) fn applied(&mut self, event: u16, slot: Slot, has_row: Option<impl FnOnce() -> bool>) {
        let applied = &mut self.applied[usize::from(event)];
        *applied += 1;
        let weight = match *applied {
            0..=ALL_LOOKED_UP => 1,
            count if count.is_multiple_of(SAMPLED) => SAMPLED,
            _ => return,
        };
        match has_row {
            Some(has_row) => self.events[usize::from(event)].found(has_row(), weight),
            None if self.waiting.len() < WAITING => self.waiting.push((event, slot, weight)),
            None => {}
        }
    }

    /// Looks up the messages that have waited for the first pulls.
    pub(crate) fn start(&mut self, has_row: impl Fn(u16, Slot) -> bool) {
        for (event, slot, weight) in std::mem::take(&mut self.waiting) {
            self.events[usize::from(event)].found(has_row(event, slot), weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Option<fn() -> bool> = None;

    #[test]
    fn the_first_messages_are_all_looked_up_and_a_share_of_the_others_stands_for_them() {
        let mut counts = AllEventCounts::new(2);
        let mut looked_up = 0;
        for message in 0..ALL_LOOKED_UP + 100 * SAMPLED {
            counts.applied(
                1,
                7,
                Some(|| {
                    looked_up += 1;
                    message % 2 == 0
                }),
            );
        }
        assert!(looked_up < ALL_LOOKED_UP + 102, "{looked_up}");
        let [none, of] = counts.by_event() else { panic!("two events") };
        assert_eq!(*none, EventCounts::default());
        assert!(of.looked_up.abs_diff(ALL_LOOKED_UP + 100 * SAMPLED) < SAMPLED, "{of:?}");
        assert!(of.without_row >= ALL_LOOKED_UP / 2, "{of:?}");
    }

    #[test]
    fn messages_before_the_start_are_looked_up_in_the_first_pulls() {
        let mut counts = AllEventCounts::new(1);
        for slot in 0..5 {
            counts.applied(0, slot, NONE);
        }
        assert_eq!((counts.by_event()[0].looked_up, counts.by_event()[0].without_row), (0, 0));
        counts.start(|event, slot| event == 0 && slot < 2);
        assert_eq!((counts.by_event()[0].looked_up, counts.by_event()[0].without_row), (5, 3));
        for slot in 0..WAITING as Slot + 5 {
            counts.applied(0, slot, NONE);
        }
        assert_eq!(counts.waiting.len(), WAITING - 5, "5 of the event were counted before");
    }
}
