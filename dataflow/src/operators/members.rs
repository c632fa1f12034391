//! Members: who is in which audience, as an arrangement that others can read.
//!
//! Promises: at a time that is done, the arrangement holds (audience, slot) once for each membership of this worker's keys.
//! It is differential's: readers walk it with a cursor, between steps, as of any time since the last
//! [`Members::compact`]. Holds a pair of u32 a membership, and its times until they are
//! compacted.

use crate::time::{Slot, Time};
use differential_dataflow::AsCollection;
use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::implementations::KeySpine;
use differential_dataflow::trace::{Cursor, TraceReader};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

/// An entry (+1) or exit (-1) of the key in a slot, by the audience's number in the job.
pub(crate) type Membership = ((u32, Slot), Time, isize);

/// The arrangement of one worker.
pub(crate) struct Members(TraceAgent<KeySpine<(u32, Slot), Time, isize>>);

/// Arranges memberships.
pub(crate) fn members<'scope>(
    memberships: StreamVec<'scope, Time, Membership>,
    committed: &ProbeHandle<Time>,
) -> Members {
    let arranged = memberships.as_collection().arrange_by_self();
    arranged.stream.probe_with(committed);
    Members(arranged.trace)
}

impl Members {
    /// Gives up telling what was before `time` apart.
    pub(crate) fn compact(&mut self, time: Time) {
        self.0.set_logical_compaction(AntichainRef::new(&[time]));
        self.0.set_physical_compaction(AntichainRef::new(&[time]));
    }

    /// How many members each of so many audiences has, when all that was told has been taken in.
    pub(crate) fn sizes(&mut self, audiences: usize) -> Vec<u64> {
        let mut sizes = vec![0; audiences];
        let batches = self.0.batches_through(Antichain::new().borrow()).expect("the trace is open");
        let (mut cursor, storage) = cursor_list(batches);
        while let Some((audience, _)) = cursor.get_key(&storage).copied() {
            let mut count = 0;
            cursor.map_times(&storage, |_, diff| count += *diff);
            sizes[audience as usize] += u64::try_from(count).expect("nobody leaves who has not entered");
            cursor.step_key(&storage);
        }
        sizes
    }
}
