//! Membership: a worker's keys, and who of them is in which audience.
//!
//! A thin shell around [`EpochWorker`]. Promises: the frontier of the outputs is the time before which all transitions have been
//! given. Works within [`FUEL`] per activation. Holds one capability per output, at the least time that is not done. Refuses to
//! let rows and verdicts hold back time: they have none, so their inputs are not connected to the outputs.

use crate::ingest::event_batch::{EventBatch, hash_key};
use crate::ingest::reader::SourceProgress;
use crate::operators::deliver::Outgoing;
use crate::operators::snapshots::{Outcome, PullError};
use crate::operators::stage::{StagedPull, Verdict};
use crate::snapshots::schedule::{PullEnded, ScheduleMessage};
use crate::start_difference::{Conditions, keep_condition};
use crate::state::brake::exceeding;
use crate::state::epoch::{EpochWorker, WholePull, Worked};
use crate::state::event_counts::EventCounts;
use crate::state::tallies::Exchanged;
use crate::state::transition::{EpochOutput, KeyText, Removed, Transition};
use crate::status::{Status, Transitions};
use crate::time::{FUEL, Slot, Time};
use differential_dataflow::{AsCollection, VecCollection};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{ConnectLoop, Feedback};
use timely::progress::Antichain;
use timely::scheduling::Activator;
use usher_core::api::Moment;
use usher_core::change::{ChangeKind, ChangeTexts, Changes, Reason, Recipients};
use usher_core::membership_index::IndexWriter;
use usher_queries::plan::Plan;

/// The inputs before those of updates.
const INPUTS: usize = 4;

/// A membership: the audience's number in the job, and the slot of the key on its worker.
pub(crate) type Membership = (u32, Slot);

/// What the operator needs.
pub(crate) struct MembershipSetup {
    pub(crate) worker: usize,
    pub(crate) peers: usize,
    pub(crate) plan: Arc<Plan>,
    /// Per model and audience of it, the audience's number in the job.
    pub(crate) numbers: Vec<Vec<u32>>,
    pub(crate) epochs: Rc<RefCell<EpochWorker>>,
    pub(crate) status: Arc<Status>,
    /// Whether the conditions that decide members at the start are kept.
    pub(crate) foresees: bool,
    /// On worker 0: where it is reported how pulls ended.
    pub(crate) pulls: Option<Sender<ScheduleMessage>>,
    /// The index that the API reads; `None` if there is no API.
    pub(crate) index: Option<IndexWriter>,
}

impl MembershipSetup {
    /// Returns whether members are listed, as by an API, and the number of the job's audiences.
    pub(crate) fn listed(&self) -> (bool, usize) {
        (self.index.is_some(), self.numbers.iter().flatten().count())
    }
}

/// What goes in.
pub(crate) struct MembershipInputs<'scope> {
    pub(crate) events: StreamVec<'scope, Time, EventBatch>,
    pub(crate) progress: StreamVec<'scope, Time, (u32, SourceProgress)>,
    pub(crate) whole_pulls: StreamVec<'scope, Time, StagedPull>,
    pub(crate) verdicts: StreamVec<'scope, Time, Verdict>,
}

/// What comes out.
pub(crate) struct MembershipOutputs<'scope> {
    /// The memberships of this worker's keys, by difference.
    pub(crate) memberships: VecCollection<'scope, Time, Membership, isize>,
    /// The same as changes with causes and texts, and the differences to the ledgers.
    pub(crate) changes: StreamVec<'scope, Time, Outgoing>,
    /// Wakes the operator when its state has been restored.
    pub(crate) wake: Activator,
}

/// Builds the operator.
pub(crate) fn membership<'scope>(
    inputs: MembershipInputs<'scope>,
    setup: MembershipSetup,
) -> MembershipOutputs<'scope> {
    let scope = inputs.events.scope();
    let mut builder = OperatorBuilder::new("Membership".to_owned(), scope);
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let wake = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let mut events = builder.new_input(inputs.events, Exchange::new(|batch: &EventBatch| u64::from(batch.worker)));
    let to_worker = Exchange::new(|(worker, _): &(u32, SourceProgress)| u64::from(*worker));
    let mut progress = builder.new_input_connection(inputs.progress, to_worker, []);
    let mut pulls = builder.new_input_connection(inputs.whole_pulls, Pipeline, []);
    let to_worker = Exchange::new(|verdict: &Verdict| u64::from(verdict.worker));
    let mut verdicts = builder.new_input_connection(inputs.verdicts, to_worker, []);
    // What rows read of those that they belong to, and what they contribute to facts of their keys: from this operator on all workers to itself,
    // stage by stage.
    let stages = setup.epochs.borrow().exchanges();
    let mut updates_in = Vec::new();
    let mut loops = Vec::new();
    for _ in &stages {
        let (handle, updates) = scope.feedback::<Vec<Exchanged>>(0);
        let to_worker = Exchange::new(|batch: &Exchanged| u64::from(batch.worker));
        updates_in.push(builder.new_input_connection(updates, to_worker, []));
        loops.push(handle);
    }
    let (changes, changes_stream) = builder.new_output_connection::<Vec<Outgoing>, _>([(0, Antichain::from_elem(0))]);
    let mut changes = OutputBuilder::<Time, CapacityContainerBuilder<Vec<Outgoing>>>::from(changes);
    let (members, members_stream) =
        builder.new_output_connection::<Vec<(Membership, Time, isize)>, _>([(0, Antichain::from_elem(0))]);
    let mut members = OutputBuilder::<Time, CapacityContainerBuilder<Vec<(Membership, Time, isize)>>>::from(members);
    let mut updates_out = Vec::new();
    for handle in loops {
        // Nothing follows from an input at a time at which no capability is held.
        let (updates, stream) = builder.new_output_connection::<Vec<Exchanged>, _>([]);
        updates_out.push(OutputBuilder::<Time, CapacityContainerBuilder<Vec<Exchanged>>>::from(updates));
        stream.connect_loop(handle);
    }
    builder.build_reschedule(move |mut capabilities| {
        let updates_caps = capabilities.split_off(2);
        let members_cap = capabilities.pop().expect("an operator starts with a capability for each output");
        let changes_cap = capabilities.pop().expect("an operator starts with a capability for each output");
        let mut caps = Some((changes_cap, members_cap, updates_caps));
        let mut shell = Shell::new(setup);
        move |frontiers| {
            let epochs = Rc::clone(&shell.epochs);
            let mut epochs = epochs.borrow_mut();
            events.for_each_stamp(|_, data| {
                data.flat_map(|data| data.drain(..)).for_each(|batch| epochs.receive(batch));
            });
            progress.for_each_stamp(|_, data| {
                data.flat_map(|data| data.drain(..)).for_each(|(_, progress)| epochs.source_progress(progress));
            });
            pulls.for_each_stamp(|_, data| {
                data.flat_map(|data| data.drain(..)).for_each(|pull| shell.verdicts.staged(pull.take()));
            });
            verdicts.for_each_stamp(|_, data| {
                data.flat_map(|data| data.drain(..)).for_each(|verdict| shell.judge(verdict, &mut epochs));
            });
            for ((stage, updates), frontier) in stages.iter().zip(&mut updates_in).zip(&frontiers[INPUTS..]) {
                updates.for_each_stamp(|_, data| {
                    data.flat_map(|data| data.drain(..)).for_each(|batch| epochs.take_exchanged(batch));
                });
                epochs.set_received(*stage, frontier.frontier().first().copied());
            }
            let Some((changes_hold, members_hold, updates_holds)) = &mut caps else { return false };
            let frontier = frontiers[0].frontier().first().copied();
            if epochs.is_between() {
                shell.outputs.since = Instant::now();
            }
            // Transitions go to `Outputs::transition`, which collects them for both outputs below and for the index;
            // `Outputs::epoch_end` closes the index.
            let worked = epochs.work(frontier, FUEL, &mut shell.outputs);
            members.activate().session(&*members_hold).give_iterator(shell.outputs.memberships.drain(..));
            let mut output = changes.activate();
            shell.outgoing(&epochs).for_each(|outgoing| output.session(&*changes_hold).give(outgoing));
            shell.publish(&epochs);
            for (stage, (updates, hold)) in stages.iter().zip(updates_out.iter_mut().zip(updates_holds.iter_mut())) {
                let batches = epochs.outgoing(*stage, shell.worker as u32);
                if !batches.is_empty() {
                    updates.activate().session(&*hold).give_iterator(batches.into_iter());
                }
                hold.downgrade(&epochs.sent_until(*stage));
            }
            match worked {
                Worked::Finished => caps = None,
                Worked::More | Worked::Idle => {
                    changes_hold.downgrade(&epochs.done());
                    members_hold.downgrade(&epochs.done());
                }
            }
            if worked == Worked::More {
                activator.activate();
            }
            false
        }
    });
    MembershipOutputs { memberships: members_stream.as_collection(), changes: changes_stream, wake }
}

/// What the operator holds beside the state of the keys.
struct Shell {
    worker: usize,
    epochs: Rc<RefCell<EpochWorker>>,
    status: Arc<Status>,
    pulls: Option<Sender<ScheduleMessage>>,
    verdicts: Verdicts,
    outputs: Outputs,
    /// The conditions that decide members at the start; `None` if they are not kept.
    conditions: Option<Conditions>,
    /// Whether the start has been sent to the sinks.
    start_sent: bool,
    live: bool,
    plan: Arc<Plan>,
    /// Whether keys were held when that was published last.
    holds: bool,
    /// The counts by event that were published last.
    counts: Vec<EventCounts>,
}

impl Shell {
    fn new(setup: MembershipSetup) -> Shell {
        let MembershipSetup { worker, peers, plan, numbers, epochs, status, foresees, pulls, index } = setup;
        let conditions = foresees.then(Conditions::new);
        let audiences = numbers.iter().flatten().count();
        let outputs = Outputs {
            numbers,
            index,
            since: Instant::now(),
            counts: vec![Transitions::default(); audiences],
            corrected: None,
            removed_exits: 0,
            removed: None,
            counted: false,
            memberships: Vec::new(),
            changes: Changes::default(),
        };
        let verdicts = Verdicts { peers, staged: BTreeMap::new(), so_far: BTreeMap::new() };
        let (start_sent, live, holds, counts) = (false, false, false, Vec::new());
        Shell { worker, epochs, status, pulls, verdicts, outputs, conditions, start_sent, live, plan, holds, counts }
    }

    /// Takes in a worker's verdict on a pull. With that of the last worker the pull is taken or given up.
    fn judge(&mut self, verdict: Verdict, epochs: &mut EpochWorker) {
        let Some((pull, verdicts)) = self.verdicts.judge(verdict) else { return };
        let model = pull.pulled as usize;
        let outcome = outcome(verdicts);
        match &outcome {
            Ok(_) => epochs.take(pull),
            Err(_) => epochs.give_up(&pull),
        }
        if let Some(pulls) = &self.pulls {
            // The receiver is gone once the job is ending.
            let _ = pulls.send(ScheduleMessage::Ended(PullEnded { model, outcome }));
        }
    }

    /// Returns what this activation sends to the sinks: once all keys are announced, that they are.
    fn outgoing(&mut self, epochs: &EpochWorker) -> impl Iterator<Item = Outgoing> + use<> {
        let announced = epochs.is_started() && !self.start_sent && self.worker == 0;
        let start = epochs.start().filter(|_| announced);
        self.start_sent |= start.is_some();
        let changes = std::mem::take(&mut self.outputs.changes);
        self.keep_conditions(epochs, &changes);
        let changes = (!changes.is_empty()).then_some(Outgoing::Changes(changes));
        start.map(Outgoing::Start).into_iter().chain(changes)
    }

    /// Keeps the conditions that decide changes, and publishes them at the start.
    fn keep_conditions(&mut self, epochs: &EpochWorker, changes: &Changes) {
        let Some(conditions) = &mut self.conditions else { return };
        for change in changes {
            let key = changes.key(change);
            keep_condition(conditions, (change.audience, change.kind), key, || {
                let numbers = &self.outputs.numbers;
                let model = numbers.iter().position(|model| model.contains(&change.audience))?;
                let audience = numbers[model].iter().position(|number| *number == change.audience)?;
                let keyed = epochs.model(model);
                keyed.decided_by(keyed.find(hash_key(key), key)?, &self.plan.models[model].audiences[audience].expr)
            });
        }
        if epochs.is_started() {
            self.status.publish_conditions(self.conditions.take().unwrap_or_default());
        }
    }

    fn publish(&mut self, epochs: &EpochWorker) {
        let worker = self.worker % self.status.workers();
        if epochs.is_started() && !self.live {
            self.live = true;
            self.status.publish_fact_since(epochs.fact_since().to_vec());
            if self.worker == 0 {
                self.log_held(epochs);
            }
            self.status.publish_live();
        }
        self.status.pace().publish_due(worker, epochs.due(), epochs.done().saturating_sub(1));
        self.status.publish_keys(worker, epochs.len());
        self.publish_held(worker, epochs);
        if self.counts != epochs.event_counts() {
            epochs.event_counts().clone_into(&mut self.counts);
            self.status.publish_event_counts(worker, &self.counts);
        }
        if std::mem::take(&mut self.outputs.counted) {
            self.status.publish_transitions(worker, &self.outputs.counts, self.outputs.removed_exits);
        }
    }
}

impl Shell {
    /// Publishes how many keys are held, while any can be.
    fn publish_held(&mut self, worker: usize, epochs: &EpochWorker) {
        let numbers = &self.outputs.numbers;
        let holding = || (0..numbers.len()).filter_map(|model| Some((model, epochs.model(model).holding()?)));
        let holds = holding().next().is_some();
        if !holds && !self.holds {
            return;
        }
        let mut held = vec![0; self.outputs.counts.len()];
        for (model, holding) in holding() {
            for (number, count) in numbers[model].iter().zip(holding.counts()) {
                held[*number as usize] = *count;
            }
        }
        self.holds = holds;
        self.status.publish_held(worker, held);
    }

    /// Logs which audiences hold keys, until when and for which conditions.
    fn log_held(&self, epochs: &EpochWorker) {
        for (model, plan) in self.plan.models.iter().enumerate() {
            let Some(holding) = epochs.model(model).holding() else { continue };
            for (index, audience) in plan.audiences.iter().enumerate() {
                let Some((until, facts)) = holding.held_until(index as u32) else { continue };
                let conditions: Vec<&str> = facts.iter().map(|fact| &plan.facts[*fact as usize].text[..]).collect();
                tracing::warn!(
                    audience = %audience.id,
                    until = %Moment(until),
                    conditions = conditions.join("; "),
                    "windows lack events from before the sources were read: keys whose membership could come from that do not enter \
                     before\n  hint: `incomplete: send` on the audience does not wait"
                );
            }
        }
    }
}

/// Returns what the verdicts of all workers on a pull come to. Every worker has the same verdicts, and comes to the same.
fn outcome(verdicts: Vec<Verdict>) -> Outcome {
    if let Some(error) = verdicts.iter().filter_map(|verdict| verdict.outcome.as_ref().err()).min() {
        return Err(error.clone());
    }
    let Verdict { outcome, terms, .. } = &verdicts[0];
    let (outcome, terms) = (outcome.clone(), *terms);
    match (outcome, terms.exits_max) {
        (Ok(read), Some(most)) => {
            let exits = exceeding(verdicts.into_iter().flat_map(|verdict| verdict.exits), most);
            if exits.is_empty() { Ok(read) } else { Err(PullError::Exits { rows: read.rows, exits, most }) }
        }
        (outcome, _) => outcome,
    }
}

/// Pulls that this worker has its whole part of, and the verdicts on them.
struct Verdicts {
    peers: usize,
    /// By (model, number).
    staged: BTreeMap<(u32, u64), WholePull>,
    so_far: BTreeMap<(u32, u64), Vec<Verdict>>,
}

impl Verdicts {
    fn staged(&mut self, pull: WholePull) {
        self.staged.insert((pull.pulled, pull.number), pull);
    }

    /// Returns the pull and all verdicts once every worker has given one.
    fn judge(&mut self, verdict: Verdict) -> Option<(WholePull, Vec<Verdict>)> {
        let id = (verdict.pulled, verdict.pull);
        let so_far = self.so_far.entry(id).or_default();
        so_far.push(verdict);
        if so_far.len() < self.peers {
            return None;
        }
        let all = self.so_far.remove(&id).expect("it was just there");
        Some((self.staged.remove(&id).expect("a worker's own part arrives before its verdict"), all))
    }
}

/// Takes what epochs bring, and counts it.
struct Outputs {
    numbers: Vec<Vec<u32>>,
    index: Option<IndexWriter>,
    /// When the epoch began.
    since: Instant,
    /// By audience of the job: the changes given to the syncs.
    counts: Vec<Transitions>,
    /// What [`Outputs::count_correction`] counted last.
    corrected: Option<Corrected>,
    /// Exits from audiences that are gone, each membership once, and the last of them.
    removed_exits: u64,
    removed: Option<(u32, String)>,
    /// Whether a count has changed since it was published.
    counted: bool,
    memberships: Vec<(Membership, Time, isize)>,
    changes: Changes,
}

impl Outputs {
    fn count(&mut self, audience: u32, kind: ChangeKind) {
        let count = &mut self.counts[audience as usize];
        match kind {
            ChangeKind::Entry => count.entries += 1,
            ChangeKind::Exit => count.exits += 1,
            ChangeKind::Update => {}
        }
        self.counted = true;
    }

    /// Counts a change of a membership that ledgers lack. What several ledgers lack comes for one after the other, and counts once.
    fn count_correction(&mut self, of: Corrected) {
        if self.corrected != Some(of) {
            self.count(of.audience, of.kind);
        }
        self.corrected = Some(of);
    }
}

/// A change of a membership that ledgers lack.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Corrected {
    audience: u32,
    slot: Slot,
    kind: ChangeKind,
}

fn texts(text: KeyText<'_>) -> ChangeTexts<'_> {
    ChangeTexts { key: text.key, row: text.row, previous_row: "" }
}

impl EpochOutput for Outputs {
    fn transition(&mut self, transition: &Transition, recipients: Option<Recipients>, text: KeyText<'_>) {
        let Transition { time, model, slot, audience, kind, reason } = *transition;
        let audience = self.numbers[model][audience as usize];
        let diff = match kind {
            ChangeKind::Entry => 1,
            ChangeKind::Exit => -1,
            ChangeKind::Update => panic!("an update is no transition"),
        };
        self.memberships.push(((audience, slot), time, diff));
        if let Some(index) = &mut self.index {
            index.publish(time, audience, kind, reason, text.key);
        }
        if let Some(recipients) = recipients {
            match recipients {
                Recipients::All => self.count(audience, kind),
                Recipients::Only(_) | Recipients::LedgerOnly(_) => {
                    self.count_correction(Corrected { audience, slot, kind });
                }
            }
            self.changes.push_to(recipients, time, audience, kind, reason, texts(text));
        }
    }

    fn correction(&mut self, transition: &Transition, recipients: Recipients, text: KeyText<'_>) {
        let Transition { time, model, slot, audience, kind, reason } = *transition;
        let audience = self.numbers[model][audience as usize];
        self.count_correction(Corrected { audience, slot, kind });
        self.changes.push_to(recipients, time, audience, kind, reason, texts(text));
    }

    fn update(&mut self, transition: &Transition, recipients: Recipients, text: KeyText<'_>) {
        let Transition { time, model, audience, kind, reason, .. } = *transition;
        let audience = self.numbers[model][audience as usize];
        self.changes.push_to(recipients, time, audience, kind, reason, texts(text));
    }

    fn removal(&mut self, removed: &Removed, time: Time, row: &str) {
        let Removed { audience, key, recipients, .. } = removed;
        let texts = ChangeTexts { key, row, previous_row: "" };
        self.changes.push_to(*recipients, time, *audience, ChangeKind::Exit, Reason::Definition, texts);
        if self.removed.as_ref().is_none_or(|(before, of)| (before, of) != (audience, key)) {
            self.removed = Some((*audience, key.clone()));
            self.removed_exits += 1;
            self.counted = true;
        }
    }

    fn epoch_end(&mut self, until: Time) {
        if let Some(index) = &mut self.index {
            index.close(until - 1);
            index.took(self.since.elapsed());
            self.since = Instant::now();
        }
    }
}
