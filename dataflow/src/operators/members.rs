//! Members: who is in which audience, as an arrangement; where nobody lists members, how many are.
//!
//! Promises: at a time that is done, the arrangement has (audience, slot) once for each membership of this worker's keys. It is
//! differential's: pages of members, sizes and tests seek in it, between two steps, as of its upper frontier. Holds a pair of u32
//! a membership, and its times until they are compacted. A job without an API has no pages: the differences are only added up by
//! audience.

use crate::operators::membership::Membership;
use crate::time::{Slot, Time};
use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::implementations::{KeyBatcher, KeySpine};
use differential_dataflow::trace::{Cursor, TraceReader};
use std::cell::RefCell;
use std::rc::Rc;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::operators::{Inspect, Probe};
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

/// The members of one worker's keys.
pub(crate) enum Members {
    Arranged(TraceAgent<MemberSpine>),
    /// By audience, the sum of the differences.
    Counted(Rc<RefCell<Vec<isize>>>),
}

pub(crate) type MemberSpine = KeySpine<Membership, Time, isize>;

/// Some members of an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberSlots {
    pub(crate) slots: Vec<Slot>,
    /// The slot to go on from; `None` if these were the last.
    pub(crate) next: Option<Slot>,
    /// The time that they are as of.
    pub(crate) as_of: Time,
}

/// Arranges memberships if they `are_listed`, else adds them up by audience; `probe` shows how far that is. `audiences` is the number
/// of the job's.
pub(crate) fn members<'scope>(
    memberships: VecCollection<'scope, Time, Membership, isize>,
    (are_listed, audiences): (bool, usize),
    probe: &ProbeHandle<Time>,
) -> Members {
    // Each worker has its own keys: slots mean nothing elsewhere.
    if are_listed {
        let pairs = memberships.map(|membership| (membership, ()));
        let arranged: Arranged<'_, TraceAgent<MemberSpine>> =
            arrange_core(pairs.inner, Pipeline, "Members", KeyBatcher::new);
        arranged.stream.probe_with(probe);
        return Members::Arranged(arranged.trace);
    }
    let counts = Rc::new(RefCell::new(vec![0; audiences]));
    let sums = Rc::clone(&counts);
    let add = move |((audience, _), _, difference): &(Membership, Time, isize)| {
        sums.borrow_mut()[*audience as usize] += difference;
    };
    memberships.inner.inspect(add).probe_with(probe);
    Members::Counted(counts)
}

impl Members {
    /// Forgets which of the times before `time` is which.
    pub(crate) fn compact(&mut self, time: Time) {
        if let Members::Arranged(trace) = self {
            trace.set_logical_compaction(AntichainRef::new(&[time]));
            trace.set_physical_compaction(AntichainRef::new(&[time]));
        }
    }

    /// Returns up to `limit` members of an audience, in order of their slots from `from` on. It walks at most `looks` entries
    /// of the arrangement: it costs a page, not all keys.
    ///
    /// # Panics
    /// Panics if members are not listed.
    pub(crate) fn page(&mut self, audience: u32, from: Slot, limit: usize, looks: usize) -> MemberSlots {
        let Members::Arranged(trace) = self else { panic!("only the API lists members, and for it they are arranged") };
        let mut upper = Antichain::new();
        trace.read_upper(&mut upper);
        let as_of = upper.elements().first().copied().unwrap_or(0).saturating_sub(1);
        let batches = trace.batches_through(upper.borrow()).expect("the trace is open up to its own upper frontier");
        let (mut cursor, storage) = cursor_list(batches);
        cursor.seek_key(&storage, &(audience, from));
        let mut slots = Vec::new();
        for look in 0.. {
            let Some((_, slot)) = cursor.get_key(&storage).copied().filter(|(of, _)| *of == audience) else {
                return MemberSlots { slots, next: None, as_of };
            };
            if slots.len() == limit || look == looks {
                return MemberSlots { slots, next: Some(slot), as_of };
            }
            let mut count = 0;
            cursor.map_times(&storage, |_, diff| count += *diff);
            if count > 0 {
                slots.push(slot);
            }
            cursor.step_key(&storage);
        }
        unreachable!("a counter has no end")
    }

    /// Returns the number of members of each of so many audiences, when all transitions have been taken in.
    pub(crate) fn sizes(&mut self, audiences: usize) -> Vec<u64> {
        let size = |count: isize| u64::try_from(count).expect("a key that leaves has entered");
        let trace = match self {
            Members::Arranged(trace) => trace,
            Members::Counted(counts) => return counts.borrow().iter().map(|count| size(*count)).collect(),
        };
        let mut sizes = vec![0; audiences];
        let batches = trace.batches_through(Antichain::new().borrow()).expect("the trace is open");
        let (mut cursor, storage) = cursor_list(batches);
        while let Some((audience, _)) = cursor.get_key(&storage).copied() {
            let mut count = 0;
            cursor.map_times(&storage, |_, diff| count += *diff);
            sizes[audience as usize] += size(count);
            cursor.step_key(&storage);
        }
        sizes
    }
}
