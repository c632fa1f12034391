//! Delivery of changes by HTTP (SPEC §5): an outlet of the [outbox](crate::outbox).
//!
//! The log of the outbox is the queue, and stays it: a thread reads it behind the one that appends, and holds only what is on its way
//! or about to go. So an endpoint that is slow or dead delays nothing else, and three days of an outage are on the disk, not in memory.
//!
//! ```text
//!  log ──► run ──► queue ──► requests ──► the endpoint
//!           │        ▲  │
//!           │        └──┴── answers: delivered, failed, refused
//!           ▼
//!       progress, dead letters: what is settled, durably
//! ```
//!
//! | file | is |
//! |---|---|
//! | `queue` | which change goes when, in which request, and what becomes of it. Pure |
//! | `breaker`, `schedule`, `fault` | whether the sync sends now; when again; whose fault an answer is. Pure |
//! | `held` | in `mode: state`, what the destination holds. Pure |
//! | `progress`, `ranges` | what is settled, above a low watermark too |
//! | `dead_letters`, `attempts` | what was given up; what was tried last |
//! | `request`, `signature`, `target`, `address` | what a request looks like, and where it may go |
//! | `vendor` | destinations by name: a vendor's requests, and how its answers are read |
//! | `open` | a job's webhook, checked and opened |
//! | `run`, `control` | the thread, and orders to it |
//!
//! Promises:
//! 1. **Nothing is lost.** A change is settled once it is delivered, superseded (`mode: state`) or a dead letter with its reason;
//!    before that it waits. What the endpoint is at fault for is tried again until `keep` is over.
//! 2. **Order per key.** A change goes when all earlier ones of its key are settled. Other keys go on.
//! 3. **At least once, with one id.** A crash of the process repeats what was on its way; a loss of power also what was answered in the last
//!    100 ms. A repeated request has the `webhook-id` of the first.
//! 4. **Nothing runs over.** At most `concurrency` requests are on their way, `rate` of them begin in a unit of time, what an
//!    endpoint asks to wait is waited, and one that fails is probed.
//!
//! Order is by key, not by lanes of many keys: a lane would hold its other keys for one that waits. In memory: up to 16,384
//! changes and those of a block more; in `mode: state` some 40 bytes for each membership that waits, and an entry of
//! `held` for each that the destination holds.

mod address;
mod attempts;
mod breaker;
mod control;
mod dead_letters;
mod fault;
mod held;
mod open;
mod progress;
mod queue;
mod ranges;
mod request;
mod run;
mod schedule;
mod signature;
pub(crate) mod target;
mod vendor;

pub(crate) use control::{Control, control};
pub use open::{Lookup, check, connect};
pub(crate) use open::{Opened, open};
pub(crate) use run::{Kept, Log, Settled, run};

/// Returns an error of a request with its causes, without its url.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if causes.last().is_none_or(|last| *last != text) {
            causes.push(text);
        }
        cause = error.source();
    }
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    match causes.last() {
        Some(last) => last.clone(),
        None => "the request can't be sent".to_owned(),
    }
}
