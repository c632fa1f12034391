//! The vocabulary of usher and the ports between its parts. A leaf: it knows no format, no client and no dataflow.
//!
//! | module | is |
//! |---|---|
//! | [`change`], [`catalog`], [`message`], [`ledger`] | changes of membership, how they are named and written, what has been committed of them |
//! | [`source`], [`sink`], [`store`], [`warehouse`], [`dead_letters`], [`clock`], [`api`] | the ports: what the engine asks of the world, and what the HTTP edge asks of the engine |
//! | [`membership_index`] | who is in which audience, for readers that never wait for a worker |
//! | [`counts`], [`value`] | what became of messages; the types of columns |
//! | [`time`], [`suggest`], [`lock`], [`handoff`] | the calendar with its reader and writer; names that were meant; locks without a `Result`; a bounded queue to a thread |

pub mod api;
pub mod catalog;
pub mod change;
pub mod clock;
pub mod counts;
pub mod dead_letters;
pub mod handoff;
pub mod ledger;
pub mod lock;
pub mod membership_index;
pub mod message;
pub mod sink;
pub mod source;
pub mod store;
pub mod suggest;
pub mod time;
pub mod value;
pub mod warehouse;
