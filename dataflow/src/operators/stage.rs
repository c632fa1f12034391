//! Stage: rows of a pull wait, at the owner of their keys, until it is known whether the pull is whole.
//!
//! Promises: one verdict of this worker on each pull, sent to every worker, and the pull's facts to this worker's Membership
//! operator before it. A pull is whole if all workers could read their share, all batches have arrived, and no key came twice.
//! Holds a pull's facts ([`Staged`]), and with them the dictionaries of the keys that it names.

use crate::ingest::row_batch::{Role, RowBatch};
use crate::operators::snapshots::{EndOfShare, Outcome, PullError, RowMessage, RowsRead, route};
use crate::state::dictionary::SharedDictionary;
use crate::state::epoch::WholePull;
use crate::state::staged::{SeenKeys, Staged};
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use usher_queries::plan::Plan;

/// What a worker found of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) worker: u32,
    pub(crate) pulled: u32,
    pub(crate) pull: u64,
    /// Of all workers' shares.
    pub(crate) outcome: Outcome,
}

/// This worker's whole part of a pull, on its way to the next operator of the worker.
#[derive(Clone)]
pub(crate) struct StagedPull(Rc<RefCell<Option<WholePull>>>);

impl StagedPull {
    /// Takes the pull out.
    ///
    /// # Panics
    /// Panics if it was taken before.
    pub(crate) fn take(&self) -> WholePull {
        self.0.borrow_mut().take().expect("a staged pull is taken once")
    }
}

/// What the operator needs.
pub(crate) struct StageSetup {
    pub(crate) plan: Arc<Plan>,
    /// Workers that read shares of a pull.
    pub(crate) readers: usize,
    pub(crate) peers: usize,
    /// By model.
    pub(crate) dictionaries: Vec<SharedDictionary>,
}

/// A worker's own parts of pulls, and its verdicts to all.
pub(crate) type StageStreams<'scope> = (StreamVec<'scope, Time, StagedPull>, StreamVec<'scope, Time, Verdict>);

/// Builds the operator.
pub(crate) fn stage<'scope>(rows: StreamVec<'scope, Time, RowMessage>, setup: StageSetup) -> StageStreams<'scope> {
    let scope = rows.scope();
    let mut builder = OperatorBuilder::new("Stage".to_owned(), scope);
    let mut rows = builder.new_input(rows, Exchange::new(route));
    let (pulls, pulls_stream) = builder.new_output::<Vec<StagedPull>>();
    let mut pulls = OutputBuilder::<Time, CapacityContainerBuilder<Vec<StagedPull>>>::from(pulls);
    let (verdicts, verdicts_stream) = builder.new_output::<Vec<Verdict>>();
    let mut verdicts = OutputBuilder::<Time, CapacityContainerBuilder<Vec<Verdict>>>::from(verdicts);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut receiving: BTreeMap<(u32, u64), Receiving> = BTreeMap::new();
        move |_frontiers| {
            rows.for_each_stamp(|stamp, data| {
                for message in data.flat_map(|data| data.drain(..)) {
                    let id = match &message {
                        RowMessage::Rows(rows) => (rows.pulled, rows.pull),
                        RowMessage::End(end) => (end.pulled, end.pull),
                    };
                    let pull = receiving.entry(id).or_insert_with(|| Receiving::new(&setup, id.0));
                    match message {
                        RowMessage::Rows(rows) => pull.rows(rows, &setup.dictionaries),
                        RowMessage::End(end) => pull.ends.push(end),
                    }
                    let Some(outcome) = pull.outcome(setup.readers) else { continue };
                    let pull = receiving.remove(&id).expect("it was just there");
                    let whole = WholePull { pulled: id.0, number: id.1, parts: pull.parts };
                    pulls.activate().session(&stamp).give(StagedPull(Rc::new(RefCell::new(Some(whole)))));
                    let mut output = verdicts.activate();
                    let mut session = output.session(&stamp);
                    for worker in 0..setup.peers as u32 {
                        session.give(Verdict { worker, pulled: id.0, pull: id.1, outcome: outcome.clone() });
                    }
                }
            });
        }
    });
    (pulls_stream, verdicts_stream)
}

/// A pull whose rows arrive.
struct Receiving {
    parts: Vec<(u32, Staged)>,
    seen: SeenKeys,
    batches: u64,
    ends: Vec<EndOfShare>,
    /// A key that came twice: the least, so that every run names the same.
    twice: Option<String>,
}

impl Receiving {
    fn new(setup: &StageSetup, pulled: u32) -> Receiving {
        let plan = &setup.plan;
        let mut parts = Vec::new();
        let model = &plan.models[pulled as usize];
        if !model.audiences.is_empty() {
            parts.push((pulled, Staged::new(Role::Own, pulled, &model.facts)));
        }
        if let Some((parent, _)) = model.snapshot.as_ref().and_then(|snapshot| snapshot.parent.as_ref()) {
            parts.push((*parent, Staged::new(Role::Related, pulled, &plan.models[*parent as usize].facts)));
        }
        // Until the pull is switched to or given up.
        parts.iter().for_each(|(model, _)| setup.dictionaries[*model as usize].borrow_mut().hold());
        Receiving { parts, seen: SeenKeys::default(), batches: 0, ends: Vec::new(), twice: None }
    }

    fn rows(&mut self, mut rows: RowBatch, dictionaries: &[SharedDictionary]) {
        self.batches += 1;
        if let Some(row) = self.seen.add(&rows.seen) {
            self.came_twice(rows.seen_key(row).to_owned());
        }
        let part = self.parts.iter_mut().find(|(model, staged)| *model == rows.model && staged.role == rows.role);
        let (model, staged) = part.expect("rows are for a part of their pull");
        let mut keys = dictionaries[*model as usize].borrow_mut();
        let slots: Vec<Slot> = (0..rows.len())
            .map(|row| {
                let (hash, key) = rows.key(row);
                keys.intern(hash, key)
            })
            .collect();
        if let Some(row) = staged.add(&mut rows, &slots) {
            self.came_twice(rows.key(row).1.to_owned());
        }
    }

    fn came_twice(&mut self, key: String) {
        self.twice = [self.twice.take(), Some(key)].into_iter().flatten().min();
    }

    /// Returns the verdict, once all is there.
    fn outcome(&self, readers: usize) -> Option<Outcome> {
        let all = self.ends.len() == readers && self.ends.iter().map(|end| end.batches).sum::<u64>() == self.batches;
        all.then(|| {
            let failed = self.ends.iter().filter_map(|end| end.outcome.as_ref().err()).min();
            match (failed, &self.twice) {
                (Some(failed), _) => Err(failed.clone()),
                (None, Some(key)) => Err(PullError {
                    reason: format!("the key `{key}` comes twice"),
                    hint: Some(
                        "a key names one row: remove the repeated row, or the file that is there twice".to_owned(),
                    ),
                }),
                (None, None) => {
                    let read = self.ends.iter().filter_map(|end| end.outcome.as_ref().ok());
                    Ok(read.fold(RowsRead::default(), |all, one| RowsRead {
                        rows: all.rows + one.rows,
                        skipped: all.skipped + one.skipped,
                    }))
                }
            }
        })
    }
}
