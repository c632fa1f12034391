//! Keep: a worker's keys and who of them is in which audience.
//!
//! Promises: the output's frontier is where [`Keeper`] has told everything before. Works within [`FUEL`] per activation.
//! Holds one capability, at the least time that is not done. Refuses: rows and verdicts holding time back; they have
//! none, so their inputs are not connected to the output.

use crate::hits::Hits;
use crate::job::{Status, Turns};
use crate::keeper::{Keeper, Milestone, Output, Removed, Worked};
use crate::operators::members::Membership;
use crate::operators::pull::Outcome;
use crate::operators::stage::{Staging, Verdict};
use crate::time::{FUEL, Time};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Antichain;
use timely::scheduling::Activator;
use usher_core::change::{ChangeKind, Changes, Reason};
use usher_core::membership_index::IndexWriter;

/// How a pull ended, told by worker 0.
#[derive(Clone, Debug)]
pub(crate) struct PullEnded {
    pub(crate) model: usize,
    pub(crate) outcome: Outcome,
}

pub(crate) struct KeepSetup {
    pub(crate) worker: usize,
    pub(crate) peers: usize,
    /// Per model and audience of it, the audience's index among all of the job.
    pub(crate) catalog: Vec<Vec<u32>>,
    pub(crate) keeper: Rc<RefCell<Keeper>>,
    pub(crate) staging: Staging,
    pub(crate) status: Arc<Status>,
    /// Worker 0 tells how pulls ended.
    pub(crate) pulls: Option<Sender<PullEnded>>,
    /// Who tells the readers of the API; none: nobody asks.
    pub(crate) publisher: Option<IndexWriter>,
}

/// Builds the operator; tells how it is woken when its keeper has been let begin.
pub(crate) fn keep<'scope>(
    hits: StreamVec<'scope, Time, Hits>,
    milestones: StreamVec<'scope, Time, (u32, Milestone)>,
    verdicts: StreamVec<'scope, Time, Verdict>,
    setup: KeepSetup,
) -> (StreamVec<'scope, Time, Changes>, StreamVec<'scope, Time, Membership>, Activator) {
    let scope = hits.scope();
    let mut builder = OperatorBuilder::new("Keep".to_owned(), scope);
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let wake = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let mut hits = builder.new_input(hits, Exchange::new(|hits: &Hits| u64::from(hits.worker)));
    let mut milestones = builder.new_input_connection(
        milestones,
        Exchange::new(|(worker, _): &(u32, Milestone)| u64::from(*worker)),
        [],
    );
    let mut verdicts =
        builder.new_input_connection(verdicts, Exchange::new(|verdict: &Verdict| u64::from(verdict.worker)), []);
    let (output, stream) = builder.new_output_connection::<Vec<Changes>, _>([(0, Antichain::from_elem(0))]);
    let mut output = OutputBuilder::<Time, CapacityContainerBuilder<Vec<Changes>>>::from(output);
    let (members, members_stream) = builder.new_output_connection::<Vec<Membership>, _>([(0, Antichain::from_elem(0))]);
    let mut members = OutputBuilder::<Time, CapacityContainerBuilder<Vec<Membership>>>::from(members);
    builder.build_reschedule(move |mut capabilities| {
        let members_cap = capabilities.pop().expect("an operator starts with a capability for each output");
        let changes_cap = capabilities.pop().expect("an operator starts with a capability for each output");
        let mut caps = Some((changes_cap, members_cap));
        let KeepSetup { worker, peers, catalog, keeper, staging, status, pulls, mut publisher } = setup;
        let mut since = Instant::now();
        let mut turns = vec![Turns::default(); catalog.iter().flatten().count()];
        let mut verdicts_so_far: BTreeMap<(u32, u64), Vec<Verdict>> = BTreeMap::new();
        let mut live = false;
        move |frontiers| {
            let mut keeper = keeper.borrow_mut();
            hits.for_each_stamp(|_, data| data.flat_map(|data| data.drain(..)).for_each(|hits| keeper.receive(hits)));
            milestones.for_each_stamp(|_, data| {
                data.flat_map(|data| data.drain(..)).for_each(|(_, milestone)| keeper.milestone(milestone));
            });
            verdicts.for_each_stamp(|_, data| {
                for verdict in data.flat_map(|data| data.drain(..)) {
                    let id = (verdict.pulled, verdict.pull);
                    let so_far = verdicts_so_far.entry(id).or_default();
                    so_far.push(verdict);
                    if so_far.len() < peers {
                        continue;
                    }
                    let all = verdicts_so_far.remove(&id).expect("it was just there");
                    let pull = staging.borrow_mut().remove(&id).expect("a worker has its part when it gives a verdict");
                    let failed = all.iter().filter_map(|verdict| verdict.outcome.as_ref().err()).min();
                    let outcome = match failed {
                        None => {
                            keeper.take(id.0, pull);
                            all[0].outcome.clone()
                        }
                        Some(failed) => {
                            keeper.give_up(id.0, &pull);
                            Err(failed.clone())
                        }
                    };
                    if let Some(pulls) = &pulls {
                        // Nobody listens any more once the job is ending.
                        let _ = pulls.send(PullEnded { model: id.0 as usize, outcome });
                    }
                }
            });
            let Some((hold, members_hold)) = &mut caps else { return false };
            let frontier = frontiers[0].frontier().first().copied();
            let mut changes = Changes::default();
            if keeper.is_between() {
                since = Instant::now();
            }
            let mut output_members = members.activate();
            let mut memberships = output_members.session(&*members_hold);
            let worked = keeper.work(frontier, FUEL, &mut |ledger: Output<'_>| match ledger {
                Output::Membership { model, slot, audience, time, entered, key, reason } => {
                    let diff = if entered { 1 } else { -1 };
                    let audience = catalog[model][audience as usize];
                    memberships.give(((audience, slot), time, diff));
                    if let Some(publisher) = &mut publisher {
                        publisher.publish(time, audience, kind(entered), reason, key);
                    }
                }
                Output::Done(until) => {
                    if let Some(publisher) = &mut publisher {
                        publisher.close(until - 1);
                        publisher.took(since.elapsed());
                        since = Instant::now();
                    }
                }
                Output::Change { model, audience, time, entered, key, row, reason, recipients } => {
                    let audience = catalog[model][audience as usize];
                    let turns = &mut turns[audience as usize];
                    let kind = kind(entered);
                    match kind {
                        ChangeKind::Entry => turns.entries += 1,
                        ChangeKind::Exit => turns.exits += 1,
                    }
                    changes.push_to(recipients, time, audience, kind, reason, key, row);
                }
                Output::Removed { removed, time } => {
                    let Removed { audience, key, recipients } = removed;
                    changes.push_to(*recipients, time, *audience, ChangeKind::Exit, Reason::Definition, key, "");
                }
            });
            drop(memberships);
            drop(output_members);
            if !changes.is_empty() {
                output.activate().session(&*hold).give(changes);
            }
            if keeper.is_started() && !live {
                live = true;
                status.publish_live();
            }
            let repeats = keeper.repeats().iter().sum();
            status.publish_keeping(worker % status.workers(), repeats, keeper.len(), &turns);
            match worked {
                Worked::Finished => caps = None,
                Worked::More => {
                    hold.downgrade(&keeper.done());
                    members_hold.downgrade(&keeper.done());
                    activator.activate();
                }
                Worked::Idle => {
                    hold.downgrade(&keeper.done());
                    members_hold.downgrade(&keeper.done());
                }
            }
            false
        }
    });
    (stream, members_stream, wake)
}

fn kind(entered: bool) -> ChangeKind {
    if entered { ChangeKind::Entry } else { ChangeKind::Exit }
}
