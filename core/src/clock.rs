//! The port to the time: the engine never reads the machine's clock itself.
//!
//! Promises: the time may jump in both directions, as that of a machine does; callers that need order keep the greatest.

/// A source of the time. May be read from any thread.
pub trait Clock: Send + Sync {
    /// Returns the time in ms since the epoch.
    fn now(&self) -> u64;

    /// Whether it runs by itself, evenly with the machine's time: then who waits for a moment may sleep until it comes.
    fn runs(&self) -> bool {
        false
    }
}
