//! What all crates of the project share, in a leaf crate that depends on none of them.
//!
//! | module | what it has |
//! |---|---|
//! | [`time`] | the calendar, the reader and the writer of times |
//! | [`suggest`] | the name that was probably meant, and lists of names in words |
//! | [`lock`] | locks and waits without a `Result` |
//! | [`handoff`] | the bounded queue between producers and one thread |

pub mod handoff;
pub mod lock;
pub mod suggest;
pub mod time;
