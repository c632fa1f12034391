//! The vocabulary of usher and the ports between its parts. A leaf: it depends on no format, no client and no dataflow.
//!
//! | module | is |
//! |---|---|
//! | [`change`], [`catalog`], [`message`], [`ledger`] | changes of membership, their names and messages, and the committed memberships of a sync |
//! | [`source`], [`schemas`], [`sink`], [`store`], [`warehouse`], [`dead_letters`], [`clock`], [`api`] | the ports: traits of sources, destinations and stores, and of the engine for the HTTP edge |
//! | [`delivery`], [`reply`] | what an operator asks of a sync that delivers by itself; refusals and times of answers |
//! | [`edit`] | what an edit of a job does |
//! | [`membership_index`] | who is in which audience, for readers that never wait for a worker |
//! | [`counts`], [`value`] | what happened to messages; the types of columns |
//! | [`time`], [`suggest`], [`lock`] | the calendar with its reader and writer; names that were meant; locks without a `Result` |

pub mod api;
pub mod catalog;
pub mod change;
pub mod clock;
pub mod counts;
pub mod dead_letters;
pub mod delivery;
pub mod edit;
pub mod ledger;
pub mod lock;
pub mod membership_index;
pub mod message;
pub mod reply;
pub mod schemas;
pub mod sink;
pub mod source;
pub mod store;
pub mod suggest;
pub mod time;
pub mod value;
pub mod warehouse;
