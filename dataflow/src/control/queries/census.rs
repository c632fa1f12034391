//! What is asked of a worker about the conditions of audiences: how many keys meet each.
//!
//! Facts are counted as they flip; the rest by a census of all keys, which is kept for a while. Promises: censuses take no more
//! than a share of [`SHARE`] of the worker's time, however often they are asked for, and at least [`KEPT`] lies between two of one
//! audience. Holds the last census of each audience that was asked for.

use super::CountReply;
use crate::api::Inner;
use crate::control::message::Counts;
use crate::state::census::{Census, Counted};
use crate::state::epoch::EpochWorker;
use crate::time::Time;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use usher_queries::conditions::{Decided, Written};

/// How long a census is kept at least.
const KEPT: Duration = Duration::from_secs(1);
/// It is kept for so many times as long as it took: a worker spends at most a fiftieth of its time on the censuses of an audience.
const SHARE: u32 = 50;

/// The censuses of one worker.
#[derive(Default)]
pub(crate) struct Censuses {
    asked: Vec<(u32, CountReply)>,
    /// The census under way, of an audience by its number in the job.
    current: Option<(u32, Census)>,
    /// By audience, with the time of their end.
    made: BTreeMap<u32, (Instant, Census)>,
}

impl Censuses {
    /// Takes in a request for an audience, by its number in the job.
    pub(crate) fn ask(&mut self, audience: u32, reply: CountReply) {
        self.asked.push((audience, reply));
    }

    /// Returns whether nothing is asked.
    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Goes on for a slice, if the worker is between two epochs; returns the requests that are answered.
    pub(crate) fn go_on(&mut self, inner: &Inner, epochs: &Rc<RefCell<EpochWorker>>) -> Vec<(CountReply, Counts)> {
        let Some((audience, _)) = self.asked.first() else { return Vec::new() };
        let audience = *audience;
        let Some(now) = epochs.borrow_mut().rest() else {
            let not_live = || Counts { as_of: 0, counted_at: 0, keys: Vec::new(), leaving: Vec::new() };
            let refused = if epochs.borrow().is_started() { 0 } else { self.asked.len() };
            return self.asked.drain(..refused).map(|(_, reply)| (reply, not_live())).collect();
        };
        let (model, index) = inner.audience(inner.index.catalog().id(audience));
        let epochs = epochs.borrow();
        let plan = &inner.plan.models[model];
        let facts: Vec<u32> = Inner::facts(plan, index).into_iter().collect();
        let written = &inner.written[model][index];
        let of = Counted { plan: &inner.plan, model, audience: index, written, facts: &facts };
        let is_kept = |(ended, census): &(Instant, Census)| ended.elapsed() < KEPT.max(census.took * SHARE);
        if !self.made.get(&audience).is_some_and(is_kept) {
            let current = self.current.take().filter(|(of, _)| *of == audience);
            let (_, mut census) = current.unwrap_or_else(|| (audience, Census::new(of, now)));
            if !census.go_on(&epochs, of, now) {
                self.current = Some((audience, census));
                return Vec::new();
            }
            self.made.insert(audience, (Instant::now(), census));
        }
        let (_, census) = &self.made[&audience];
        let counts = counts(of.written, &epochs, census, now);
        let answered = self.asked.extract_if(.., |(of, _)| *of == audience);
        answered.map(|(_, reply)| (reply, counts.clone())).collect()
    }
}

/// Returns the counts of an audience: facts as of `now`, the rest by a census.
fn counts(written: &Written, epochs: &EpochWorker, census: &Census, now: Time) -> Counts {
    let mut keys = census.keys.clone();
    put_facts(written, epochs, &mut keys.iter_mut());
    Counts { as_of: now, counted_at: census.as_of, keys, leaving: census.leaving.clone() }
}

fn put_facts<'k>(written: &Written, epochs: &EpochWorker, keys: &mut impl Iterator<Item = &'k mut u64>) {
    let count = keys.next().expect("there is a count for each condition");
    if let Decided::Fact(fact) = written.decided {
        *count = epochs.model(written.model).keys_meeting(fact);
    }
    written.inside.iter().for_each(|inside| put_facts(inside, epochs, keys));
}
