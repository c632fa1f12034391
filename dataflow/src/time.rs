//! The concrete types that everything in this crate counts with.

/// A moment of the clock: ms since the epoch. Also timely's timestamp.
pub type Time = u64;
/// A key's number on the worker that owns it. Recycled when nothing is known of the key any more.
pub type Slot = u32;

/// How many keys, hits or timers an operator handles before it lets others run.
///
/// At 0.3 to 1 µs each an activation stays under some 4 ms.
pub const FUEL: usize = 4_096;
