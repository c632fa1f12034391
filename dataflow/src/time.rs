//! The concrete types that everything in this crate counts with.

/// A moment of the clock: ms since the epoch. Also timely's timestamp.
pub type Time = u64;
/// The greatest timestamp that an event may have: state has 48 bits for it, up to the year 10889.
pub(crate) const TIMESTAMP_MAX: Time = (1 << 48) - 1;
/// A key's number on the worker that owns it. Recycled when nothing is known of the key any more.
pub type Slot = u32;

/// How many keys, events or timers an operator handles before it yields.
///
/// At 0.3 to 1 µs each an activation stays under some 4 ms.
pub const FUEL: usize = 4_096;

/// What decides where a job's clock starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// From when all sources have been read to where they stood at the start, until the job is stopped.
    Live,
    /// Over what the sources hold.
    Replay {
        /// Where the clock starts; `None`: at the least first timestamp.
        from: Option<Time>,
        /// Where it ends, inclusive; `None`: at the greatest timestamp.
        until: Option<Time>,
    },
}
