//! Queries: a worker's part in the API, between two steps of its dataflow.
//!
//! Explains a key of this worker when it is between two epochs, so that the answer is as of a time; lists members from the
//! arrangement; counts the keys that meet the conditions of an audience ([`census`]); reports the progress of partitions and pulls. If there are several processes it passes on to the others what only
//! one of them has. Works within [`LOOKS`] per step.

use super::message::{ControlMessage, Counts, Listed, QueryMessage, ReflectedProgress};
use crate::api::explain::explain;
use crate::api::{ExplainRequest, Inner, WorkerHandle, WorkerRequest, not_live};
use crate::graph::Graph;
use crate::ingest::event_batch::hash_key;
use crate::ingest::reader::{Moved, PartitionReaders};
use crate::snapshots::history::ModelPulls;
use crate::state::epoch::{EpochWorker, Switched};
use crate::status::Status;
use crate::time::{Slot, Time};
use census::Censuses;
use futures::channel::oneshot;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use usher_core::api::{ApiError, Explanation, Moment};
use usher_core::lock::lock;
use usher_core::sink::SyncStatus;

mod census;

/// Entries of the arrangement that are walked in one step for members: some ms.
const LOOKS: usize = 1 << 16;
/// Characters of an unknown key that an error shows.
const SHOWN: usize = 200;
/// How often the progress of partitions is published for the API while something is read.
const PUBLISH: Duration = Duration::from_millis(100);
/// How often it is published while nothing is read: what has come in and waits counts too.
const PUBLISH_UNREAD: Duration = Duration::from_secs(1);
/// How often the other processes get the state of pulls and syncs.
const REPORT: Duration = Duration::from_millis(500);

/// Where a page of members goes.
enum Reply {
    Here(oneshot::Sender<Listed>),
    Worker { to: u32, request: u64 },
}

/// Where counts go.
pub(crate) enum CountReply {
    Here(oneshot::Sender<Counts>),
    Worker { to: u32, request: u64 },
}

/// A request that another worker answers.
enum Relayed {
    Listed(oneshot::Sender<Listed>),
    Counted(oneshot::Sender<Counts>),
}

/// A page of members that is being made.
struct Listing {
    reply: Reply,
    audience: u32,
    from: Slot,
    limit: usize,
    keys: Vec<String>,
    as_of: Time,
}

/// What was reported last to the other processes.
struct Reported {
    at: Instant,
    pulls: Vec<ModelPulls>,
    syncs: Vec<SyncStatus>,
}

/// What queries read and write.
pub(crate) struct QueryContext<'a> {
    pub(crate) graph: &'a mut Graph,
    pub(crate) epochs: &'a Rc<RefCell<EpochWorker>>,
    pub(crate) readers: &'a Rc<RefCell<PartitionReaders>>,
    pub(crate) status: &'a Status,
}

/// The queries of one worker.
pub(crate) struct Queries {
    worker: u32,
    inner: Arc<Inner>,
    requests: Receiver<WorkerRequest>,
    explaining: VecDeque<ExplainRequest>,
    listing: VecDeque<Listing>,
    censuses: Censuses,
    /// Requests that other workers answer, by number.
    relayed: BTreeMap<u64, Relayed>,
    relayed_last: u64,
    published: Instant,
    reported: Reported,
}

impl Queries {
    /// Registers the worker with the API.
    pub(crate) fn new(worker: u32, inner: Arc<Inner>, graph: &Graph) -> Queries {
        let (sender, requests) = channel();
        inner.register(worker, WorkerHandle { sender, wake: graph.control.sync_activator() });
        let now = Instant::now();
        Queries {
            worker,
            inner,
            requests,
            explaining: VecDeque::new(),
            listing: VecDeque::new(),
            censuses: Censuses::default(),
            relayed: BTreeMap::new(),
            relayed_last: 0,
            published: now,
            reported: Reported { at: now, pulls: Vec::new(), syncs: Vec::new() },
        }
    }

    /// Does what there is to do; returns whether there is more at once.
    pub(crate) fn step(&mut self, context: &mut QueryContext<'_>) -> bool {
        while let Ok(request) = self.requests.try_recv() {
            self.request(request, context);
        }
        let busy = self.explain_next(context) | self.list_next(context) | self.count_next(context);
        self.reflect(context);
        self.publish(context);
        busy
    }

    /// Takes a message of another worker.
    pub(crate) fn receive(&mut self, message: QueryMessage) {
        match message {
            QueryMessage::List { to, request, audience, from, limit } => {
                self.list(Reply::Worker { to, request }, audience, from, limit as usize);
            }
            QueryMessage::Listed { request, members } => {
                if let Some(Relayed::Listed(answer)) = self.relayed.remove(&request) {
                    // The client may have gone.
                    let _ = answer.send(members);
                }
            }
            QueryMessage::Count { to, request, audience } => {
                self.censuses.ask(audience, CountReply::Worker { to, request });
            }
            QueryMessage::Counted { request, counts } => {
                if let Some(Relayed::Counted(answer)) = self.relayed.remove(&request) {
                    // The client may have gone.
                    let _ = answer.send(counts);
                }
            }
            QueryMessage::Switched { model, pull, changed } => {
                self.inner.pulls.switched(model as usize, pull, changed);
            }
            QueryMessage::Pull { model, order } => self.inner.ask_for_pull(model as usize, order),
            QueryMessage::Reflected(progress) => self.take_reflected(progress),
            QueryMessage::Report { pulls, syncs } => {
                self.inner.pulls.replace(pulls);
                *lock(&self.inner.reported_syncs) = syncs;
            }
        }
    }

    fn request(&mut self, request: WorkerRequest, context: &QueryContext<'_>) {
        let control = &context.graph.control;
        match request {
            WorkerRequest::Explain(request) => self.explaining.push_back(request),
            WorkerRequest::List { worker, audience, from, limit, answer } if worker == self.worker => {
                self.list(Reply::Here(answer), audience, from, limit);
            }
            WorkerRequest::List { worker, audience, from, limit, answer } => {
                let (to, request, limit) = (self.worker, self.relay(Relayed::Listed(answer)), limit as u32);
                let list = QueryMessage::List { to, request, audience, from, limit };
                control.send(worker, ControlMessage::Query(list));
            }
            WorkerRequest::Count { worker, audience, answer } if worker == self.worker => {
                self.censuses.ask(audience, CountReply::Here(answer));
            }
            WorkerRequest::Count { worker, audience, answer } => {
                let (to, request) = (self.worker, self.relay(Relayed::Counted(answer)));
                control.send(worker, ControlMessage::Query(QueryMessage::Count { to, request, audience }));
            }
            WorkerRequest::Pull { model, order } => {
                control.send(0, ControlMessage::Query(QueryMessage::Pull { model: model as u32, order }));
            }
        }
    }

    /// Keeps what waits for the answer of another worker; returns the number of the request.
    fn relay(&mut self, waiting: Relayed) -> u64 {
        self.relayed_last += 1;
        self.relayed.insert(self.relayed_last, waiting);
        self.relayed_last
    }

    fn list(&mut self, reply: Reply, audience: u32, from: Slot, limit: usize) {
        self.listing.push_back(Listing { reply, audience, from, limit, keys: Vec::new(), as_of: 0 });
    }

    /// Explains a key, if there is a request and the worker is between two epochs; returns whether there are more.
    fn explain_next(&mut self, context: &QueryContext<'_>) -> bool {
        if self.explaining.is_empty() {
            return false;
        }
        let Some(as_of) = context.epochs.borrow_mut().rest() else {
            if !context.epochs.borrow().is_started() {
                self.explaining.drain(..).for_each(refuse);
            }
            return false;
        };
        let request = self.explaining.pop_front().expect("there is one");
        self.explain(&context.epochs.borrow(), request, as_of);
        !self.explaining.is_empty()
    }

    fn explain(&self, epochs: &EpochWorker, request: ExplainRequest, as_of: Time) {
        let ExplainRequest { model, key, audience, answer } = request;
        let plan = &self.inner.plan.models[model];
        let (keyed, hash) = (epochs.model(model), hash_key(&key));
        let (slot, waiting) = (keyed.find(hash, &key), epochs.waiting(model, hash, &key));
        let traits = epochs.waiting_traits(model, hash, &key);
        let explained = if slot.is_none() && waiting.is_empty() && traits.is_empty() {
            let shown: String = key.chars().take(SHOWN).collect();
            Err(ApiError::NotFound(format!("nothing is known of `{shown}`")))
        } else {
            let forecast = keyed.forecast(slot, as_of, (&waiting, &traits));
            Ok(Explanation {
                parent_model_id: plan.id.clone(),
                user_id: key,
                as_of: Moment(as_of),
                in_snapshot: keyed.in_snapshot(slot),
                live: slot.map_or_else(Vec::new, |slot| keyed.live_values(slot)),
                parents: slot.map_or_else(Vec::new, |slot| keyed.parent_values(slot)),
                audiences: explain(
                    plan,
                    &self.inner.written[model],
                    (&forecast, &keyed.held_until(slot)),
                    as_of,
                    audience,
                ),
            })
        };
        // The client may have gone.
        let _ = answer.send(explained);
    }

    /// Goes on with a page of members; returns whether there is more to do at once.
    fn list_next(&mut self, context: &mut QueryContext<'_>) -> bool {
        let Some(listing) = self.listing.front_mut() else { return false };
        let epochs = context.epochs.borrow();
        let Some(start) = epochs.start().filter(|_| epochs.is_started()) else {
            for Listing { reply, .. } in self.listing.drain(..) {
                answer(context.graph, reply, Listed { keys: Vec::new(), next: None, as_of: 0, run: self.inner.run });
            }
            return false;
        };
        let left = listing.limit - listing.keys.len();
        let page = context.graph.members.page(listing.audience, listing.from, left, LOOKS);
        if page.as_of < start {
            // The members at the start are still being arranged.
            return false;
        }
        let keys = epochs.model(self.inner.model_of(listing.audience)).keys().borrow();
        listing.keys.extend(page.slots.iter().map(|slot| keys.key(*slot).to_owned()));
        if listing.as_of == 0 {
            listing.as_of = page.as_of;
        }
        match page.next {
            Some(next) if listing.keys.len() < listing.limit => listing.from = next,
            next => {
                let Listing { reply, keys, as_of, .. } = self.listing.pop_front().expect("it is the first");
                answer(context.graph, reply, Listed { keys, next, as_of, run: self.inner.run });
            }
        }
        !self.listing.is_empty()
    }

    /// Goes on with what is counted; returns whether there is more to do at once.
    fn count_next(&mut self, context: &mut QueryContext<'_>) -> bool {
        let answers = self.censuses.go_on(&self.inner, context.epochs);
        for (reply, counts) in answers {
            match reply {
                // The client may have gone.
                CountReply::Here(answer) => drop(answer.send(counts)),
                CountReply::Worker { to, request } => {
                    let counted = QueryMessage::Counted { request, counts };
                    context.graph.control.send(to, ControlMessage::Query(counted));
                }
            }
        }
        !self.censuses.is_idle()
    }

    /// Notes how far partitions are reflected, and which pulls were switched to; the other processes get both.
    fn reflect(&self, context: &QueryContext<'_>) {
        let control = &context.graph.control;
        for Moved { id, position, at } in context.readers.borrow_mut().take_moved() {
            let progress = ReflectedProgress { id, position, at };
            let first_workers = (0..control.peers()).step_by(self.inner.threads);
            for first in first_workers.filter(|first| !self.inner.is_here(*first)) {
                control.send(first, ControlMessage::Query(QueryMessage::Reflected(progress.clone())));
            }
            self.take_reflected(progress);
        }
        let switched = context.epochs.borrow_mut().take_switched();
        for Switched { model, pull, changed } in switched {
            control.send(0, ControlMessage::Query(QueryMessage::Switched { model, pull, changed }));
        }
    }

    fn take_reflected(&self, progress: ReflectedProgress) {
        let ReflectedProgress { id, position, at } = progress;
        self.inner.index.reflect(&id.source, &id.name, position, at);
    }

    fn publish(&mut self, context: &QueryContext<'_>) {
        let mut readers = context.readers.borrow_mut();
        if self.published.elapsed() >= if readers.has_read() { PUBLISH } else { PUBLISH_UNREAD } {
            self.published = Instant::now();
            let worker = self.worker as usize % self.inner.threads;
            context.status.publish_partitions(worker, readers.report());
        }
        let control = &context.graph.control;
        let several = control.peers() as usize > self.inner.threads;
        if self.worker == 0 && several && self.reported.at.elapsed() >= REPORT {
            let (pulls, syncs) = (self.inner.pulls.models(), self.inner.sync_statuses());
            if (&pulls, &syncs) != (&self.reported.pulls, &self.reported.syncs) {
                for first in (self.inner.threads as u32..control.peers()).step_by(self.inner.threads) {
                    let report = QueryMessage::Report { pulls: pulls.clone(), syncs: syncs.clone() };
                    control.send(first, ControlMessage::Query(report));
                }
            }
            self.reported = Reported { at: Instant::now(), pulls, syncs };
        }
    }
}

fn refuse(request: ExplainRequest) {
    // The client may have gone.
    let _ = request.answer.send(Err(not_live()));
}

fn answer(graph: &Graph, reply: Reply, members: Listed) {
    match reply {
        // The client may have gone.
        Reply::Here(answer) => drop(answer.send(members)),
        Reply::Worker { to, request } => {
            graph.control.send(to, ControlMessage::Query(QueryMessage::Listed { request, members }));
        }
    }
}
