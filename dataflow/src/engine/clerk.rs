//! Clerk: a worker's part in the API, between two steps of its dataflow.
//!
//! Answers what is asked of the worker's keys when its keeper is between two stretches of time, so that an answer is as of a time;
//! tells how far partitions have been read, which pulls were switched to, and what is counted. Where there are several processes
//! it passes on to the others what only one of them knows. Works within [`LOOKS`] per turn.

use super::explain::explain;
use super::pull_log::ModelLog;
use super::{Door, Inner, Listed, Question, Report};
use crate::desk::DeskSetup;
use crate::hits::hash_key;
use crate::letters::Letter;
use crate::time::{Slot, Time};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use usher_core::api::{ApiError, Explanation, Moment};
use usher_core::sink::SyncStatus;

/// Slots that are looked at in one turn for members: some ms.
const LOOKS: usize = 1 << 18;
/// Characters that are shown of a key that is asked for in vain.
const SHOWN: usize = 200;
/// How often counts are told.
const REPORT: Duration = Duration::from_millis(100);
/// How often the other processes are told of pulls and syncs.
const NEWS: Duration = Duration::from_millis(500);

/// A page of members that is being made.
pub(crate) struct Listing {
    to: u32,
    ask: u64,
    model: usize,
    audience: u32,
    from: Slot,
    limit: usize,
    keys: Vec<String>,
    as_of: Time,
}

pub(crate) struct Clerk {
    inner: Arc<Inner>,
    questions: Receiver<Question>,
    explaining: VecDeque<Question>,
    listing: VecDeque<Listing>,
    /// Who waits for what other workers list, by number.
    relayed: BTreeMap<u64, futures::channel::oneshot::Sender<Listed>>,
    asks: u64,
    reported: Instant,
    news: (Instant, Vec<ModelLog>, Vec<SyncStatus>),
}

impl Clerk {
    pub(crate) fn new(inner: Arc<Inner>, desk: &DeskSetup) -> Clerk {
        let (sender, questions) = channel();
        inner.open_door(desk.worker, Door { sender, wake: desk.bus.sync_activator() });
        let now = Instant::now();
        Clerk {
            inner,
            questions,
            explaining: VecDeque::new(),
            listing: VecDeque::new(),
            relayed: BTreeMap::new(),
            asks: 0,
            reported: now,
            news: (now, Vec::new(), Vec::new()),
        }
    }

    /// Does what there is to do; tells whether there is more at once.
    pub(crate) fn turn(&mut self, desk: &DeskSetup) -> bool {
        while let Ok(question) = self.questions.try_recv() {
            match question {
                Question::Explain { .. } => self.explaining.push_back(question),
                Question::List { worker, model, audience, from, limit, answer } => {
                    self.asks += 1;
                    self.relayed.insert(self.asks, answer);
                    let (ask, limit) = (self.asks, limit as u32);
                    desk.bus.post(
                        worker,
                        Letter::List { to: desk.worker, ask, model: model as u32, audience, from, limit },
                    );
                }
                Question::Pull { model, full } => desk.bus.post(0, Letter::Pull { model: model as u32, full }),
            }
        }
        let busy = self.answer(desk);
        self.reflect(desk);
        self.report(desk);
        busy
    }

    /// Takes a letter of the API's.
    pub(crate) fn read(&mut self, letter: Letter) {
        match letter {
            Letter::List { to, ask, model, audience, from, limit } => self.listing.push_back(Listing {
                to,
                ask,
                model: model as usize,
                audience,
                from,
                limit: limit as usize,
                keys: Vec::new(),
                as_of: 0,
            }),
            Letter::Listed { ask, keys, next, as_of } => {
                if let Some(answer) = self.relayed.remove(&ask) {
                    // Who asked may have gone.
                    let _ = answer.send(Listed { keys, next, as_of });
                }
            }
            Letter::Switched { model, pull, changed } => self.inner.log.switched(model as usize, pull, changed),
            Letter::Pull { model, full } => self.inner.ask_for_pull(model as usize, full),
            Letter::Reflected { id, position, at, since } => {
                self.inner.published.reflect(&id.source, &id.name, position, at);
                self.inner.note_since(id, since);
            }
            Letter::News { pulls, syncs } => {
                self.inner.log.replace(pulls);
                *self.inner.sync_statuses.lock().expect("nobody panics with the lock") = syncs;
            }
            _ => panic!("no letter of the API: {letter:?}"),
        }
    }

    /// Answers what can be answered now.
    fn answer(&mut self, desk: &DeskSetup) -> bool {
        if self.explaining.is_empty() && self.listing.is_empty() {
            return false;
        }
        let Some(as_of) = desk.keeper.borrow_mut().rest() else {
            if !desk.keeper.borrow().is_started() {
                self.explaining.drain(..).for_each(refuse);
                for Listing { to, ask, .. } in self.listing.drain(..) {
                    desk.bus.post(to, Letter::Listed { ask, keys: Vec::new(), next: None, as_of: 0 });
                }
            }
            return false;
        };
        if let Some(question) = self.explaining.pop_front() {
            self.explain(desk, question, as_of);
        }
        if let Some(listing) = self.listing.front_mut() {
            let keeper = desk.keeper.borrow();
            let keys = keeper.keys(listing.model);
            let next = keys.list_members(listing.audience, listing.from, listing.limit, LOOKS, &mut listing.keys);
            if listing.as_of == 0 {
                listing.as_of = as_of;
            }
            match next {
                Some(next) if listing.keys.len() < listing.limit => listing.from = next,
                next => {
                    let Listing { to, ask, keys, as_of, .. } = self.listing.pop_front().expect("it is the first");
                    desk.bus.post(to, Letter::Listed { ask, keys, next, as_of });
                }
            }
        }
        !self.explaining.is_empty() || !self.listing.is_empty()
    }

    fn explain(&self, desk: &DeskSetup, question: Question, as_of: Time) {
        let Question::Explain { model, key, audience, answer } = question else { panic!("nothing else waits here") };
        let (keeper, plan) = (desk.keeper.borrow(), &self.inner.plan.models[model]);
        let (keys, hash) = (keeper.keys(model), hash_key(&key));
        let (slot, waiting) = (keys.find(hash, &key), keeper.waiting(model, hash, &key));
        let explained = if slot.is_none() && waiting.is_empty() {
            let shown: String = key.chars().take(SHOWN).collect();
            Err(ApiError::NotFound(format!("nothing is known of `{shown}`")))
        } else {
            let outlook = keys.outlook(slot, as_of, &waiting);
            Ok(Explanation {
                parent_model_id: plan.id.clone(),
                user_id: key,
                as_of: Moment(as_of),
                in_snapshot: outlook[0].truth,
                audiences: explain(plan, &self.inner.written[model], &outlook, as_of, audience),
            })
        };
        // Who asked may have gone.
        let _ = answer.send(explained);
    }

    /// Tells how far partitions have been read, and which pulls were switched to.
    fn reflect(&mut self, desk: &DeskSetup) {
        let others = || (0..desk.bus.peers()).step_by(self.inner.threads).filter(|first| !self.inner.is_here(*first));
        for (id, position, at, since) in desk.readings.borrow_mut().take_moved() {
            let since = since.map(|since| since.unwrap_or_else(|| self.inner.now()));
            self.inner.published.reflect(&id.source, &id.name, position, at);
            self.inner.note_since(id.clone(), since);
            for first in others() {
                desk.bus.post(first, Letter::Reflected { id: id.clone(), position, at, since });
            }
        }
        let switched = desk.keeper.borrow_mut().take_switched();
        for (model, pull, changed) in switched {
            desk.bus.post(0, Letter::Switched { model, pull, changed });
        }
    }

    fn report(&mut self, desk: &DeskSetup) {
        if self.reported.elapsed() >= REPORT {
            self.reported = Instant::now();
            let (messages, partitions) = desk.readings.borrow().report();
            let messages = desk.source_ids.iter().cloned().zip(messages).collect();
            let repeats = desk.keeper.borrow().repeats().to_vec();
            self.inner.report(desk.worker, Report { messages, partitions, repeats });
        }
        let several = desk.bus.peers() as usize > self.inner.threads;
        if desk.worker == 0 && several && self.news.0.elapsed() >= NEWS {
            let (pulls, syncs) = (self.inner.log.models(), self.inner.sync_statuses());
            if (&pulls, &syncs) != (&self.news.1, &self.news.2) {
                for first in (self.inner.threads as u32..desk.bus.peers()).step_by(self.inner.threads) {
                    desk.bus.post(first, Letter::News { pulls: pulls.clone(), syncs: syncs.clone() });
                }
            }
            self.news = (Instant::now(), pulls, syncs);
        }
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.explaining.drain(..).for_each(refuse);
    }
}

fn refuse(question: Question) {
    if let Question::Explain { answer, .. } = question {
        // Who asked may have gone.
        let _ = answer.send(Err(super::not_live()));
    }
}
