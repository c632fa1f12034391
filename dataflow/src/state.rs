//! Keyed state: what one worker holds of the keys that it owns. Pure state machines, without a dataflow around them.
//!
//! ```text
//!  matched events ─► windows ────┐ flips of facts         ┌─► transitions: who enters, who leaves, when and why
//!                                ├──────────────► evaluate ┤
//!  rows of pulls  ─► properties ─┘                        └─► differences to the ledgers, once, at the start
//!  live columns   ─► rows ────────┘ (also the pulls of models that have some)
//! ```
//!
//! [`epoch`] drives them, epoch by epoch. [`keyed`] holds the three of one model together. Keys are slots of a [`dictionary`].
//! Beside them: [`staged`] pulls and who would leave by them ([`brake`]), the ledgers at the start ([`committed`]), what will change by itself ([`forecast`]), room for tables by slot ([`room`]), how many keys meet a condition ([`fact_counts`], [`census`]), and keys
//! on their way to a checkpoint and back ([`changed`], [`listing`], [`codec`], [`part`]).

pub(crate) mod agreement;
pub(crate) mod batch_slots;
pub(crate) mod brake;
pub(crate) mod census;
pub(crate) mod changed;
pub(crate) mod codec;
pub(crate) mod committed;
pub(crate) mod contributions;
pub(crate) mod deciding;
pub(crate) mod dictionary;
pub(crate) mod difference;
pub(crate) mod epoch;
pub(crate) mod evaluate;
pub(crate) mod event_counts;
pub(crate) mod fact_counts;
pub(crate) mod facts;
pub(crate) mod forecast;
pub(crate) mod holding;
pub(crate) mod joins;
pub(crate) mod keyed;
pub(crate) mod listing;
pub(crate) mod parents;
pub(crate) mod part;
pub(crate) mod properties;
pub(crate) mod room;
pub(crate) mod rows;
pub(crate) mod slot_table;
pub(crate) mod staged;
pub(crate) mod tallies;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod timers;
pub(crate) mod transition;
pub(crate) mod windows;
