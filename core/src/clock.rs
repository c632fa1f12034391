//! The port to the time: the engine never reads the machine's clock itself.
//!
//! Promises: the time may jump in both directions, as that of a machine does; callers that need order keep the greatest.

/// A source of the time. May be read from any thread.
pub trait Clock: Send + Sync {
    /// Returns the time in ms since the epoch.
    fn now(&self) -> u64;
}
