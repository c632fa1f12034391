//! Stage: rows of a pull wait, at the owner of their keys, until it is known whether the pull is whole.
//!
//! Promises: one verdict of this worker on each pull, sent to every worker, and the pull's facts to this worker's Membership
//! operator before it. A pull is whole if every share could be read, all batches have arrived, and no key came twice.
//! One that reads a difference must fit the snapshot in force ([`Fitting`]), once that is switched to.
//! A whole pull is held if it has too few rows. If a share of exits is set, the verdict has how many members of this worker's
//! keys would leave ([`Weighing`]): they are counted between epochs, some [`FUEL`] keys an activation, once the job has started, or its
//! start awaits only pulls, and no other pull is being switched to. Holds a pull's facts ([`Staged`]), and with them the dictionaries of the keys that it
//! names.

use crate::ingest::known_rows::Base;
use crate::ingest::row_batch::{Role, RowBatch};
use crate::operators::snapshots::{EndOfPull, Outcome, PullError, PullTerms, RowMessage, RowsPulled, RowsRead, route};
use crate::state::batch_slots::BatchSlots;
use crate::state::brake::{Exits, Weighing};
use crate::state::dictionary::SharedDictionary;
use crate::state::difference::Fitting;
use crate::state::epoch::{EpochWorker, WholePull};
use crate::state::staged::{SeenKeys, Staged, Twice};
use crate::time::{FUEL, Time};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use usher_queries::plan::{FactKind, Plan};

/// What a worker found of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) worker: u32,
    pub(crate) pulled: u32,
    pub(crate) pull: u64,
    /// Of all workers' shares.
    pub(crate) outcome: Outcome,
    pub(crate) terms: PullTerms,
    /// Who of this worker's members would leave, if a share of exits is set.
    pub(crate) exits: Vec<Exits>,
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
    pub(crate) peers: usize,
    /// By model.
    pub(crate) dictionaries: Vec<SharedDictionary>,
    pub(crate) epochs: Rc<RefCell<EpochWorker>>,
}

/// How long after a look at keys that could not be weighed the next one is, at the latest.
const LOOK: Duration = Duration::from_millis(1);

/// How many keys of a difference are looked at in one activation: a look reads some bits, and takes some 100 ns.
const FITTED: usize = 8 * FUEL;

/// A worker's own parts of pulls, and its verdicts to all.
pub(crate) type StageStreams<'scope> = (StreamVec<'scope, Time, StagedPull>, StreamVec<'scope, Time, Verdict>);

/// Builds the operator.
pub(crate) fn stage<'scope>(rows: StreamVec<'scope, Time, RowMessage>, setup: StageSetup) -> StageStreams<'scope> {
    let scope = rows.scope();
    let mut builder = OperatorBuilder::new("Stage".to_owned(), scope);
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let mut rows = builder.new_input(rows, Exchange::new(route));
    let (pulls, pulls_stream) = builder.new_output::<Vec<StagedPull>>();
    let mut pulls = OutputBuilder::<Time, CapacityContainerBuilder<Vec<StagedPull>>>::from(pulls);
    let (verdicts, verdicts_stream) = builder.new_output::<Vec<Verdict>>();
    let mut verdicts = OutputBuilder::<Time, CapacityContainerBuilder<Vec<Verdict>>>::from(verdicts);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut receiving: BTreeMap<(u32, u64), Receiving> = BTreeMap::new();
        // By pulled model.
        let mut slots: Vec<BatchSlots> = setup.plan.models.iter().map(|_| BatchSlots::default()).collect();
        let mut weighed: VecDeque<Whole> = VecDeque::new();
        let mut given: Vec<Whole> = Vec::new();
        // When the operator is activated by itself, if that is arranged.
        let mut looks_at: Option<Instant> = None;
        move |_frontiers| {
            rows.for_each_stamp(|stamp, data| {
                for message in data.flat_map(|data| data.drain(..)) {
                    let (id, rows) = match &message {
                        RowMessage::Rows(rows) => ((rows.pulled, rows.pull), rows.rows_per_owner),
                        RowMessage::End(end) => ((end.pulled, end.pull), end.rows_per_owner),
                    };
                    let pull = receiving.entry(id).or_insert_with(|| Receiving::new(&setup, id.0, rows as usize));
                    match message {
                        RowMessage::Rows(rows) => pull.rows(rows, &setup.dictionaries, &mut slots[id.0 as usize]),
                        RowMessage::End(end) => pull.end = Some(end),
                    }
                    if !pull.is_all_there() {
                        continue;
                    }
                    let mut pull = receiving.remove(&id).expect("it was just there");
                    let Some(end) = pull.end.take() else { continue };
                    let EndOfPull { base, began, terms, .. } = end;
                    let outcome = pull.outcome(end, &mut slots[id.0 as usize]);
                    let hold = |port| stamp.retain_least(port).expect("rows are sent at a time");
                    let pull = Whole {
                        holds: (hold(0), hold(1)),
                        fitting: base.filter(|_| outcome.is_ok()).map(|base| (Fitting::default(), base)),
                        weighing: (outcome.is_ok() && terms.exits_max.is_some()).then(Weighing::new),
                        pull: WholePull { pulled: id.0, number: id.1, began, at: None, parts: pull.parts },
                        outcome,
                        terms,
                    };
                    // What is not weighed waits for nothing: the start of the job may wait for it.
                    match pull.fitting.is_none() && pull.weighing.is_none() {
                        true => given.push(pull),
                        false => weighed.push_back(pull),
                    }
                }
            });
            looks_at = looks_at.filter(|at| *at > Instant::now());
            let mut next = 0;
            while let Some(pull) = weighed.get_mut(next) {
                match pull.weigh(&setup.epochs) {
                    Weighed::All => given.extend(weighed.remove(next)),
                    Weighed::Some => {
                        activator.activate();
                        break;
                    }
                    Weighed::NotNow => {
                        // One at a time: activations that are arranged add up.
                        looks_at.get_or_insert_with(|| {
                            let at = Instant::now() + LOOK;
                            activator.activate_after(LOOK);
                            at
                        });
                        // The start may await a pull behind this one, which waits for the start.
                        next += 1;
                    }
                }
            }
            for Whole { holds, weighing, pull, outcome, terms, .. } in given.drain(..) {
                let (pulled, number) = (pull.pulled, pull.number);
                pulls.activate().session(&holds.0).give(StagedPull(Rc::new(RefCell::new(Some(pull)))));
                let mut output = verdicts.activate();
                let mut session = output.session(&holds.1);
                let exits = weighing.map(Weighing::end).unwrap_or_default();
                for worker in 0..setup.peers as u32 {
                    let (outcome, exits) = (outcome.clone(), exits.clone());
                    session.give(Verdict { worker, pulled, pull: number, outcome, terms, exits });
                }
            }
        }
    });
    (pulls_stream, verdicts_stream)
}

/// A pull of which all has arrived, until the verdict on it is given.
struct Whole {
    holds: (Capability<Time>, Capability<Time>),
    /// Set while it is not known whether it fits what is in force, which it differs from.
    fitting: Option<(Fitting, Base)>,
    /// Set if it is weighed.
    weighing: Option<Weighing>,
    pull: WholePull,
    outcome: Outcome,
    terms: PullTerms,
}

/// How far the weighing of a pull has come.
enum Weighed {
    /// To its end; or there is nothing to weigh.
    All,
    Some,
    /// No further: an epoch is under way, keys are being switched, or the start awaits more than pulls.
    NotNow,
}

impl Whole {
    fn weigh(&mut self, epochs: &RefCell<EpochWorker>) -> Weighed {
        let mut epochs = epochs.borrow_mut();
        let Some(time) = epochs.rest_to_weigh() else { return Weighed::NotNow };
        if let Some((fitting, base)) = &mut self.fitting {
            if epochs.in_force(self.pull.pulled as usize) != base.pull {
                return Weighed::NotNow;
            }
            match fitting.step(&self.pull, &epochs, FITTED) {
                None => return Weighed::Some,
                Some(true) => self.fitting = None,
                Some(false) => {
                    (self.fitting, self.weighing, self.outcome) = (None, None, Err(PullError::NoDifference));
                    return Weighed::All;
                }
            }
        }
        let weighed = self.weighing.as_mut().is_none_or(|weighing| weighing.step(&self.pull, &epochs, time, FUEL));
        if weighed { Weighed::All } else { Weighed::Some }
    }
}

/// A pull whose rows arrive.
struct Receiving {
    parts: Vec<(u32, Staged)>,
    seen: SeenKeys,
    batches: u64,
    end: Option<EndOfPull>,
    /// A key that came twice, with its files: the least, so that every run names the same.
    twice: Option<(String, (u32, u32))>,
}

impl Receiving {
    /// `rows`: about how many rows of the pull this worker gets.
    fn new(setup: &StageSetup, pulled: u32, rows: usize) -> Receiving {
        let plan = &setup.plan;
        let mut parts = Vec::new();
        let model = &plan.models[pulled as usize];
        let keys = |model: u32| setup.dictionaries[model as usize].borrow().len();
        if model.owns_rows() {
            let known = keys(pulled);
            if known < rows / 2 {
                // A table that grows by doubling moves all that it has each time.
                setup.dictionaries[pulled as usize].borrow_mut().reserve(rows - known + rows / 32);
            }
            parts.push((pulled, Staged::new(Role::Own, pulled, model, known.max(rows))));
        }
        let parent = model.snapshot.as_ref().and_then(|snapshot| snapshot.parent.as_ref());
        let aggregates = |parent: &u32| {
            let facts = &plan.models[*parent as usize].facts;
            facts.iter().any(|fact| matches!(fact.kind, FactKind::Related { model, .. } if model == pulled))
        };
        // As readers send them.
        if let Some((parent, _)) = parent.filter(|(parent, _)| !model.owns_rows() || aggregates(parent)) {
            parts.push((*parent, Staged::new(Role::Related, pulled, &plan.models[*parent as usize], keys(*parent))));
        }
        // Until the pull is switched to or given up.
        parts.iter().for_each(|(model, _)| setup.dictionaries[*model as usize].borrow_mut().hold());
        Receiving { parts, seen: SeenKeys::default(), batches: 0, end: None, twice: None }
    }

    fn rows(&mut self, mut rows: RowBatch, dictionaries: &[SharedDictionary], slots_of: &mut BatchSlots) {
        self.batches += 1;
        if let Some(Twice { row, files }) = self.seen.add(&rows.seen, rows.file, |row| rows.seen_key(row)) {
            self.came_twice(rows.seen_key(row).to_owned(), files);
        }
        let part = self.parts.iter_mut().find(|(model, staged)| *model == rows.model && staged.role == rows.role);
        let (model, staged) = part.expect("rows are for a part of their pull");
        let mut keys = dictionaries[*model as usize].borrow_mut();
        let slots = keys.intern_all(rows.len(), |row| rows.key(row));
        if rows.number != 0 {
            slots_of.add(rows.number, &slots);
        }
        if let Some(Twice { row, files }) = staged.add(&mut rows, &slots) {
            self.came_twice(rows.key(row).1.to_owned(), files);
        }
    }

    /// Ends a difference. What can't be one is to be read whole, and then named by its files.
    fn end_difference(&mut self, outcome: Outcome) -> Outcome {
        let once = self.parts.iter_mut().all(|(_, staged)| staged.end_difference());
        match outcome {
            Err(PullError::RepeatedKey { .. }) => Err(PullError::NoDifference),
            Ok(_) if !once => Err(PullError::NoDifference),
            outcome => outcome,
        }
    }

    fn came_twice(&mut self, key: String, files: (u32, u32)) {
        match &mut self.twice {
            Some((known, (one, other))) if *known == key => {
                // Those of a key that comes more than twice, in any order.
                let least = BTreeSet::from([*one, *other, files.0, files.1]);
                let mut least = least.into_iter();
                *one = least.next().expect("there are four");
                *other = least.next().unwrap_or(*one);
            }
            Some((known, _)) if *known < key => {}
            twice => *twice = Some((key, files)),
        }
    }

    /// Returns whether all of the pull has arrived.
    fn is_all_there(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.batches == self.batches)
    }

    /// Ends the pull, and returns the verdict.
    fn outcome(&mut self, end: EndOfPull, slots_of: &mut BatchSlots) -> Outcome {
        let EndOfPull { pull, outcome, base, gone, in_force, terms, .. } = end;
        let gone = slots_of.end(pull, in_force, base.is_some().then_some(gone));
        if let Some((_, staged)) = self.parts.iter_mut().find(|(_, staged)| staged.role == Role::Own) {
            staged.remove(&gone);
        }
        let before = base.map_or(0, |base| base.rows);
        let outcome = match (outcome, &self.twice) {
            (Err(failed), _) => Err(failed),
            (Ok(_), Some((key, files))) => Err(PullError::RepeatedKey { key: key.clone(), files: *files }),
            (Ok(RowsRead { rows, gone, .. }), None) if before + rows < gone => Err(PullError::NoDifference),
            (Ok(RowsRead { read, rows, gone, skipped }), None) => {
                Ok(RowsPulled { rows: before + rows - gone, read, sent: rows, skipped })
            }
        };
        let outcome = outcome.and_then(|all| match all.rows < terms.rows_min {
            true => Err(PullError::FewRows { rows: all.rows, least: terms.rows_min }),
            false => Ok(all),
        });
        if base.is_none() { outcome } else { self.end_difference(outcome) }
    }
}

#[cfg(test)]
mod tests;
