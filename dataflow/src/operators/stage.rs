//! Stage: rows of a pull wait, at their keys' owner, until it is known whether the pull is whole.
//!
//! Promises: one verdict of this worker on each pull, sent to every worker. A pull is whole where all workers could read
//! their share, all batches have come, and no key came twice. Holds a pull's facts ([`Staged`]) beside those in force.

use crate::keeper::{Keeper, Pull};
use crate::keys::snapshot::{SeenKeys, Staged};
use crate::operators::pull::{End, Outcome, PullError, Pulled, RowsRead, route};
use crate::rows::Role;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;
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

/// Pulls that this worker has its whole part of, by (model, number), until the verdicts are in.
pub(crate) type Staging = Rc<RefCell<BTreeMap<(u32, u64), Pull>>>;

struct Receiving {
    parts: Vec<(u32, Staged)>,
    seen: SeenKeys,
    batches: u64,
    ends: Vec<End>,
    /// A key that came twice: the least, so that every run names the same.
    twice: Option<String>,
}

/// Builds the operator.
pub(crate) fn stage<'scope>(
    rows: StreamVec<'scope, Time, Pulled>,
    plan: Arc<Plan>,
    readers: usize,
    peers: usize,
    keeper: Rc<RefCell<Keeper>>,
    staging: Staging,
) -> StreamVec<'scope, Time, Verdict> {
    let mut receiving: BTreeMap<(u32, u64), Receiving> = BTreeMap::new();
    rows.unary::<CapacityContainerBuilder<Vec<Verdict>>, _, _, _>(Exchange::new(route), "Stage", move |_, _| {
        move |input, output| {
            input.for_each_stamp(|stamp, data| {
                let mut session = output.session(&stamp);
                for pulled in data.flat_map(|data| data.drain(..)) {
                    let id = match &pulled {
                        Pulled::Rows(rows) => (rows.pulled, rows.pull),
                        Pulled::End(end) => (end.pulled, end.pull),
                    };
                    let pull = receiving.entry(id).or_insert_with(|| Receiving::new(&plan, id.0));
                    match pulled {
                        Pulled::Rows(rows) => pull.rows(rows, &mut keeper.borrow_mut()),
                        Pulled::End(end) => pull.ends.push(end),
                    }
                    if let Some(outcome) = pull.outcome(readers) {
                        let pull = receiving.remove(&id).expect("it was just there");
                        staging.borrow_mut().insert(id, Pull { pulled: id.0, number: id.1, parts: pull.parts });
                        for worker in 0..peers as u32 {
                            session.give(Verdict { worker, pulled: id.0, pull: id.1, outcome: outcome.clone() });
                        }
                    }
                }
            });
        }
    })
}

impl Receiving {
    fn new(plan: &Plan, pulled: u32) -> Receiving {
        let mut parts = Vec::new();
        let model = &plan.models[pulled as usize];
        if !model.audiences.is_empty() {
            parts.push((pulled, Staged::new(Role::Own, pulled, &model.facts)));
        }
        if let Some((parent, _)) = model.snapshot.as_ref().and_then(|snapshot| snapshot.parent.as_ref()) {
            parts.push((*parent, Staged::new(Role::Related, pulled, &plan.models[*parent as usize].facts)));
        }
        Receiving { parts, seen: SeenKeys::default(), batches: 0, ends: Vec::new(), twice: None }
    }

    fn rows(&mut self, mut rows: crate::rows::Rows, keeper: &mut Keeper) {
        self.batches += 1;
        if let Some(row) = self.seen.add(&rows.seen) {
            self.came_twice(rows.seen_key(row).to_owned());
        }
        let part = self.parts.iter_mut().find(|(model, staged)| *model == rows.model && staged.role == rows.role);
        let (_, staged) = part.expect("rows are for a part of their pull");
        if let Some(key) = keeper.stage(staged, &mut rows) {
            self.came_twice(key);
        }
    }

    fn came_twice(&mut self, key: String) {
        self.twice = [self.twice.take(), Some(key)].into_iter().flatten().min();
    }

    /// The verdict, once all is there.
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
