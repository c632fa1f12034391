//! The port to the time: the engine never reads the machine's clock itself.

/// A source of the time.
pub trait Clock: Send + Sync {
    /// Returns the time in ms since the epoch.
    fn now(&self) -> u64;
}
