//! Members: who is in which audience, as an arrangement.
//!
//! Promises: at a time that is done, the arrangement has (audience, slot) once for each membership of this worker's keys. It is
//! differential's: pages of members, sizes and tests seek in it, between two steps, as of its upper frontier. Holds a pair of u32
//! a membership, and its times until they are compacted.

use crate::operators::membership::Membership;
use crate::time::{Slot, Time};
use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::implementations::{KeyBatcher, KeySpine};
use differential_dataflow::trace::{Cursor, SpanOf, TraceReader};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

/// The arrangement of one worker.
pub(crate) struct Members(TraceAgent<MemberSpine>);

type MemberSpine = KeySpine<Membership, Time, isize>;

/// Some members of an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberSlots {
    pub(crate) slots: Vec<Slot>,
    /// The slot to go on from; `None` if these were the last.
    pub(crate) next: Option<Slot>,
    /// The time that they are as of.
    pub(crate) as_of: Time,
}

/// The batches of the arrangement, whose frontier shows how far it is.
type Batches<'scope> = StreamVec<'scope, Time, SpanOf<MemberSpine>>;

/// Arranges memberships.
pub(crate) fn members<'scope>(
    memberships: VecCollection<'scope, Time, Membership, isize>,
) -> (Batches<'scope>, Members) {
    // Each worker arranges its own keys: slots mean nothing elsewhere.
    let pairs = memberships.map(|membership| (membership, ()));
    let arranged: Arranged<'_, TraceAgent<MemberSpine>> =
        arrange_core(pairs.inner, Pipeline, "Members", KeyBatcher::new);
    (arranged.stream, Members(arranged.trace))
}

impl Members {
    /// Forgets which of the times before `time` is which.
    pub(crate) fn compact(&mut self, time: Time) {
        self.0.set_logical_compaction(AntichainRef::new(&[time]));
        self.0.set_physical_compaction(AntichainRef::new(&[time]));
    }

    /// Returns up to `limit` members of an audience, in order of their slots from `from` on. It walks at most `looks` entries
    /// of the arrangement: it costs a page, not all keys.
    pub(crate) fn page(&mut self, audience: u32, from: Slot, limit: usize, looks: usize) -> MemberSlots {
        let mut upper = Antichain::new();
        self.0.read_upper(&mut upper);
        let as_of = upper.elements().first().copied().unwrap_or(0).saturating_sub(1);
        let batches = self.0.batches_through(upper.borrow()).expect("the trace is open up to its own upper frontier");
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

    /// Returns the number of members of each of so many audiences, when all transitions are in the arrangement.
    pub(crate) fn sizes(&mut self, audiences: usize) -> Vec<u64> {
        let mut sizes = vec![0; audiences];
        let batches = self.0.batches_through(Antichain::new().borrow()).expect("the trace is open");
        let (mut cursor, storage) = cursor_list(batches);
        while let Some((audience, _)) = cursor.get_key(&storage).copied() {
            let mut count = 0;
            cursor.map_times(&storage, |_, diff| count += *diff);
            sizes[audience as usize] += u64::try_from(count).expect("a key that leaves has entered");
            cursor.step_key(&storage);
        }
        sizes
    }
}
