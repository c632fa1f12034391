//! Where state is kept: [`Objects`] keeps parts and manifests in a folder or a bucket, [`MemoryStore`] in memory for tests.
//!
//! Both implement [`usher_core::store::Store`]; what they write is in `docs/FORMATS.md`.

mod frame;
mod local;
mod memory;
mod objects;
mod remote;
#[cfg(test)]
mod tests;

pub use memory::{Call, Fault, MemoryStore};
pub use objects::Objects;
