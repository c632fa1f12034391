//! Epochs: how a worker goes from one time to the next.
//!
//! Computes the transitions of all keys that this worker owns, epoch by epoch. Promises: a transition carries its own time; all
//! transitions of an epoch are given before the next one begins; the same events and rows give the same transitions however
//! they were batched. Holds events that have not taken effect, pulls that are whole, and a [`KeyedState`] per model. Works
//! within a budget: [`EpochWorker::work`] returns after about `fuel` units and goes on where it was.
//!
//! An epoch goes through these steps, each of which may take several activations:
//! 1. events that take effect in it are applied, by (time, arrival);
//! 2. timers due in it fire;
//! 3. keys that a pull concerns are switched, at its last ms;
//! 4. rows take in what they read of the rows that they belong to, which may be with other workers, in stages: who reads what, then the values
//!    of models from those on that belong to none;
//! 5. flips are ordered and settled into transitions. Models are in layers: where rows contribute to facts of the keys that they belong to,
//!    the model of the rows is settled first, then the worker takes in what the rows of all workers contribute, as far as it has come,
//!    and settles the other model up to there;
//! 6. at the job's start only: every key is announced; before that, who would leave by the first pulls is counted, where a limit
//!    is set, and the worker waits for leave to go on;
//! 7. when a window is complete, which ends an epoch: keys that were held for it enter.
//!
//! Until the start no transition is given: what came before is history. Under [`Span::Live`] no work is done before the ledgers
//! and the checkpoint of an earlier run have been taken up ([`EpochWorker::begin`]); at the start only what differs from the
//! ledgers is given.

mod waiting;

use super::agreement::{Agreement, Proposal};
use super::brake::Exits;
use super::codec::{KeyState, Mapping};
use super::committed::Baseline;
use super::contributions::layers;
use super::dictionary::{AHEAD, SharedDictionary};
use super::event_counts::{AllEventCounts, EventCounts};
use super::facts::{Words, set, words_for};
use super::forecast::Waiting;
use super::holding::IncompleteWindow;
use super::joins::{JoinItem, depths, readers};
use super::keyed::KeyedState;
use super::parents::{Interest, ParentValues};
use super::rows::WaitingTraits;
use super::staged::Staged;
use super::tallies::{Exchanged, Update};
use super::transition::{EpochOutput, Removed};
use super::windows::{Arrival, Held, held_as};
use crate::control::message::LedgerMembers;
use crate::ingest::event_batch::{EventBatch, MatchedEvent, hash_key, owner};
use crate::ingest::reader::{SourceProgress, SourceSince};
use crate::time::Span;
use crate::time::{Slot, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use usher_config::{Incomplete, Share};
use usher_queries::missing::{self, MissingEvents};
use usher_queries::plan::{EventPlan, ModelPlan, Plan, Role};
use waiting::{Ready, WaitingEvents};

/// Keys of which a pull has nothing new that are switched for a unit of fuel if it decides fewer than [`FACTS_PER_STEP`] facts: some 25 ns each,
/// 2 ms of an epoch. What is left when there is no fuel waits for the next epoch, which is of another ms.
const UNCHANGED_PER_FUEL: u32 = 16;
/// So many more facts take another 25 ns a key.
const FACTS_PER_STEP: u32 = 8;

/// What an earlier run left behind, for one worker.
#[derive(Default)]
pub(crate) struct Restored {
    /// Per model, the state of the ledgers.
    pub(crate) baselines: Vec<Baseline>,
    /// Models whose snapshot the checkpoint has.
    pub(crate) pulled: Vec<bool>,
    /// Those of them of which a pull is due: it is in force from the start on, unless it fails.
    pub(crate) due: Vec<bool>,
    /// Per model and fact, from when on the events of its window were read; `None` if the fact is new. Empty: all are.
    pub(crate) fact_since: Vec<Vec<Option<Time>>>,
}

/// What an event of the plan decides: facts by its matches, and values of rows.
struct EventFacts {
    model: usize,
    /// By position, as matches name them.
    facts: Vec<u32>,
    /// By position, what a match is in a sequence.
    roles: Vec<Role>,
    /// The live columns that it sets.
    live: Vec<u32>,
    /// Whether its model has one.
    has_snapshot: bool,
}

impl EventFacts {
    fn of(plan: &Plan, (index, event): (usize, &EventPlan)) -> EventFacts {
        let model = event.model as usize;
        let roles = event.roles(index as u32, &plan.models[model].facts);
        let live = event.traits.iter().map(|set| set.live).collect();
        let has_snapshot = plan.models[model].snapshot.is_some();
        EventFacts { model, facts: event.facts.clone(), roles, live, has_snapshot }
    }
}

/// The windows that decide a fact: its own, or those of the facts of rows that count by their own key.
struct FactWindow {
    own: Vec<Window>,
    missing: MissingEvents,
}

/// The window of a fact that events decide.
struct Window {
    /// Its model and the fact.
    of: (usize, u32),
    /// The sources of each of its events, by index in the order of ids.
    sources: Vec<Vec<u32>>,
    within: Time,
}

/// How [`EpochWorker::work`] left things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worked {
    /// There is nothing to do until something comes in or time passes.
    Idle,
    /// Out of fuel.
    More,
    /// The clock has reached its end.
    Finished,
}

/// A step of an epoch.
#[derive(Clone, Copy)]
enum Step {
    ApplyEvents,
    FireTimers,
    SwitchPulls,
    /// Orders and settles the flips of a layer's models before a time.
    OrderFlips {
        layer: usize,
        limit: Time,
    },
    Settle {
        layer: usize,
        limit: Time,
    },
    /// Goes on with the next stage, as far as all that it needs of earlier ones is here.
    Await,
    /// Joins rows with what they read of their parents, before a time.
    Join {
        stage: usize,
        limit: Time,
    },
    /// Takes that in, before a time.
    Tally {
        layer: usize,
        limit: Time,
    },
    Judge,
    Announce {
        model: usize,
        slot: Slot,
    },
    Release {
        model: usize,
        slot: Slot,
    },
}

/// An epoch under way: its end, exclusive, and its next step.
#[derive(Clone, Copy)]
struct Epoch {
    until: Time,
    step: Step,
}

/// Returns the model that the rows of a model belong to.
fn parent(model: &ModelPlan) -> Option<u32> {
    model.snapshot.as_ref()?.parent.as_ref().map(|(parent, _)| *parent)
}

/// What a pull decides of the keys of models, by role.
pub(crate) struct WholePull {
    /// The model that was pulled.
    pub(crate) pulled: u32,
    /// Which pull of it, from 1.
    pub(crate) number: u64,
    /// When it began, ms since the epoch.
    pub(crate) began: Time,
    /// The ms at which all workers switch all keys to it, if they have agreed on one.
    pub(crate) at: Option<Time>,
    /// Each with the model whose keys it names. Their dictionaries are held until the pull is switched to or given up.
    pub(crate) parts: Vec<(u32, Staged)>,
}

/// A pull that keys are being switched to.
struct Switching {
    pull: WholePull,
    part: usize,
    /// How many keys of the part have been switched.
    keys: u32,
    /// Keys for which something is new.
    changed: u64,
}

/// A pull that all keys have been switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    pub(crate) model: u32,
    pub(crate) pull: u64,
    /// Keys for which something was new.
    pub(crate) changed: u64,
}

/// Returns how many unchanged keys are switched for a unit of fuel to a pull with this [`Staged::weight`].
fn unchanged_per_fuel(weight: usize) -> u32 {
    (UNCHANGED_PER_FUEL / (1 + weight as u32 / FACTS_PER_STEP)).max(1)
}

/// Returns what is sent to a worker.
fn batch_for(batches: &mut BTreeMap<u32, Exchanged>, worker: u32) -> &mut Exchanged {
    batches.entry(worker).or_insert_with(|| Exchanged { worker, ..Exchanged::default() })
}

/// Returns, by fact of a model, the windows that decide it.
fn fact_windows(plan: &Plan, model: usize) -> Vec<Option<FactWindow>> {
    let number = |of: &String| {
        plan.job.sources.keys().position(|id| id == of).expect("an event's source is one of the job's") as u32
    };
    let sources = |event: &u32| plan.events[*event as usize].sources.iter().map(number).collect();
    let window = |of: (usize, u32)| {
        let kind = &plan.models[of.0].facts[of.1 as usize].kind;
        Some(Window { of, within: kind.window()?, sources: kind.events().iter().map(sources).collect() })
    };
    let of_fact = |fact: u32| {
        let own: Vec<Window> = plan.deciding(model, fact).into_iter().filter_map(window).collect();
        (!own.is_empty()).then(|| FactWindow { own, missing: missing::missing_events(plan, model, fact) })
    };
    (0..plan.models[model].facts.len() as u32).map(of_fact).collect()
}

/// Returns, by audience of a model, whether it does not wait for incomplete windows.
fn sending(plan: &Plan, model: &ModelPlan) -> Vec<bool> {
    let sends = |id: &String| plan.job.audiences.get(id).is_some_and(|of| of.incomplete == Incomplete::Send);
    model.audiences.iter().map(|audience| sends(&audience.id)).collect()
}

/// Returns the audiences of a model that some sync sends updates of.
fn with_updates(plan: &Plan, model: &ModelPlan) -> Words {
    let mut audiences = vec![0; words_for(model.audiences.len())];
    for sync in plan.job.syncs.values().filter(|sync| sync.send_update) {
        for (index, audience) in model.audiences.iter().enumerate() {
            if sync.audiences.contains(&audience.id) {
                set(&mut audiences, index as u32, true);
            }
        }
    }
    audiences
}

/// One worker's share of the memberships, and how far time has come there.
pub(crate) struct EpochWorker {
    span: Span,
    peers: usize,
    models: Vec<KeyedState>,
    events: Vec<EventFacts>,
    /// Where the clock of a replay starts without `from`, once that is known.
    natural_start: Option<Time>,
    waiting: WaitingEvents,
    opened: Vec<Option<Time>>,
    /// From when on sources are read, by source: the latest of their partitions.
    since: BTreeMap<u32, SourceSince>,
    /// Per model and fact.
    windows: Vec<Vec<Option<FactWindow>>>,
    /// Per model and audience, whether it does not wait for incomplete windows.
    sends: Vec<Vec<bool>>,
    /// Per model and fact, from when on the events of its window were read, once that is known; 0: all.
    fact_since: Vec<Vec<Time>>,
    ended: Vec<Option<Time>>,
    /// Models without a snapshot, whose first pull has not come.
    missing: BTreeSet<u32>,
    /// Models whose snapshot an earlier run left, and whose pull the start awaits: it was due, and has not come.
    due: BTreeSet<u32>,
    /// Models of which a pull was given up before it was known what an earlier run left.
    given_up: BTreeSet<u32>,
    /// Set if an earlier run has ledgers and left no snapshot: the first time that the ledger which is furthest behind lacks.
    /// There, not at the start, the first pulls are in force, so that what ends by itself between the two is dated by when it
    /// does. `None` once they are.
    resumed: Option<Time>,
    whole: VecDeque<WholePull>,
    /// Pulls on whose ms workers have to agree.
    agreement: Agreement,
    /// Proposals that have not been sent.
    proposals: Vec<Proposal>,
    switching: Option<Switching>,
    /// Whether all keys were switched to a pull in the epoch under way.
    settles_switch: bool,
    /// Whether what an earlier run left behind has been taken up.
    begun: bool,
    restored: Restored,
    /// Memberships that exit at the start, because their audience is gone.
    removed: Vec<Removed>,
    /// Per model, the number of the pull in force; 0 if it is an earlier run's, or there is none.
    in_force: Vec<u64>,
    start: Option<Time>,
    started: bool,
    /// All transitions before it have been given.
    done: Time,
    epoch: Option<Epoch>,
    /// Whether a query waits for the end of the epoch.
    awaited: bool,
    /// Pulls that have been switched to and not been taken.
    switched: Vec<Switched>,
    counts: AllEventCounts,
    /// By model, its layer.
    layers: Vec<usize>,
    /// By model, over how many steps its rows read columns of parents.
    depths: Vec<usize>,
    /// The stages in which rows are joined with those of their parents, before those in which layers are settled; 0 if none are.
    joins: usize,
    /// The time before which all changes of rows are known that no parent makes, as far as they have come in the epoch under way.
    rows_until: Time,
    /// By stage, the time before which it is done, as far as it has come in the epoch under way.
    reached: Vec<Time>,
    /// What has come for stages of joins and is not due.
    interests: Vec<Interest>,
    parent_values: Vec<ParentValues>,
    /// What is due in the join under way, in order, each with its model, and how much of it is done.
    joining: (Vec<(usize, JoinItem)>, usize),
    /// By stage of joins: values for rows of other keys that have not been sent.
    outgoing_values: Vec<Vec<ParentValues>>,
    /// What rows contribute to facts of this worker's keys, as it came in.
    received: Vec<Update>,
    /// Those that are due in the step under way, in order, and how many of them have been taken in.
    tallying: (Vec<Update>, usize),
    /// By stage: all that is for it is here that is sent at a time before; `None`: all is.
    received_until: Vec<Option<Time>>,
    /// By layer: updates for other keys that have not been sent.
    outgoing: Vec<Vec<Update>>,
    brake: StartBrake,
}

/// The limits that first pulls have, which the ledgers judge at the start: nothing else is in force.
#[derive(Default)]
struct StartBrake {
    /// Per model: its `max_exits`, and its parent.
    limits: Vec<(Option<Share>, Option<u32>)>,
    /// Per model whose audiences a first pull with a limit decides: that pull's model, and the limit.
    of_audiences: Vec<Option<(u32, Share)>>,
    /// What was counted and not been taken.
    counted: Option<Vec<Exits>>,
    /// Whether it was counted.
    asked: bool,
}

impl EpochWorker {
    /// `dictionaries` are those of the plan's models.
    pub(crate) fn new(plan: &Plan, span: Span, peers: usize, dictionaries: &[SharedDictionary]) -> EpochWorker {
        let models = plan.models.iter().zip(dictionaries).enumerate();
        let layers = layers(&plan.models);
        let layer_count = layers.iter().max().map_or(1, |last| last + 1);
        let depths = depths(&plan.models);
        let joins = depths.iter().max().filter(|deepest| **deepest > 0).map_or(0, |deepest| deepest + 1);
        let stages = joins + layer_count;
        let mut received_until = vec![Some(0); stages];
        // Nothing is sent for the first layer.
        received_until[joins] = None;
        let live = matches!(span, Span::Live);
        let baseline = |audiences: usize| Baseline { live, syncs: Vec::new(), new_definitions: vec![true; audiences] };
        EpochWorker {
            span,
            peers,
            models: models
                .map(|(index, (model, keys))| {
                    let mut keyed =
                        KeyedState::new(index, model, &plan.events, with_updates(plan, model), keys.clone());
                    keyed.set_readers(readers(&plan.models, index));
                    keyed
                })
                .collect(),
            events: plan.events.iter().enumerate().map(|event| EventFacts::of(plan, event)).collect(),
            natural_start: None,
            waiting: WaitingEvents::default(),
            opened: Vec::new(),
            since: BTreeMap::new(),
            windows: (0..plan.models.len()).map(|model| fact_windows(plan, model)).collect(),
            sends: plan.models.iter().map(|model| sending(plan, model)).collect(),
            fact_since: Vec::new(),
            ended: Vec::new(),
            missing: (0..plan.models.len() as u32)
                .filter(|model| plan.models[*model as usize].snapshot.is_some())
                .collect(),
            due: BTreeSet::new(),
            given_up: BTreeSet::new(),
            resumed: None,
            whole: VecDeque::new(),
            agreement: Agreement::new(peers),
            proposals: Vec::new(),
            switching: None,
            settles_switch: false,
            begun: !live,
            restored: Restored {
                baselines: plan.models.iter().map(|model| baseline(model.audiences.len())).collect(),
                pulled: Vec::new(),
                due: Vec::new(),
                fact_since: Vec::new(),
            },
            removed: Vec::new(),
            in_force: vec![0; plan.models.len()],
            start: None,
            started: false,
            done: 0,
            epoch: None,
            awaited: false,
            switched: Vec::new(),
            counts: AllEventCounts::new(plan.events.len()),
            received_until,
            outgoing: vec![Vec::new(); layer_count],
            reached: vec![0; stages],
            layers,
            depths,
            joins,
            rows_until: 0,
            interests: Vec::new(),
            parent_values: Vec::new(),
            joining: (Vec::new(), 0),
            outgoing_values: vec![Vec::new(); joins],
            received: Vec::new(),
            tallying: (Vec::new(), 0),
            brake: StartBrake {
                limits: plan.models.iter().map(|model| (plan.job.models[&model.id].max_exits, parent(model))).collect(),
                ..StartBrake::default()
            },
        }
    }

    // What an earlier run left behind.

    /// Takes up what an earlier run left behind, before keys and ledgers: keys are restored as of `keys`, and the first epoch begins
    /// at `clock`, no earlier.
    pub(crate) fn prepare(&mut self, restored: Restored, keys: Time, clock: Time) {
        let is_in = |models: &[bool], model: u32| models.get(model as usize).copied().unwrap_or(false);
        let awaited = |model: &u32| is_in(&restored.due, *model) && !self.given_up.contains(model);
        self.due = self.missing.iter().copied().filter(awaited).collect();
        self.missing.retain(|model| !is_in(&restored.pulled, *model));
        self.restored = restored;
        self.done = self.done.max(clock);
        // A fact of a restored row that flips between the two times flips at its own time. The stages do nothing before `clock`: a
        // worker that began earlier would join rows that other workers have not restored yet.
        self.models.iter_mut().for_each(|model| model.begin_joins(keys));
        self.rows_until = self.done;
        self.reached.fill(self.done);
        let syncs = self.restored.baselines.iter().flat_map(|baseline| &baseline.syncs);
        let committed = syncs.map(|sync| sync.committed).filter(|committed| *committed > 0).min();
        self.resumed = committed.filter(|_| !self.missing.is_empty()).map(|committed| committed + 1);
        self.brake.of_audiences = vec![None; self.models.len()];
        for model in &self.missing {
            let (Some(limit), parent) = self.brake.limits[*model as usize] else { continue };
            for decided in [Some(*model), parent].into_iter().flatten() {
                let of = &mut self.brake.of_audiences[decided as usize];
                *of = [of.take(), Some((*model, limit))].into_iter().flatten().min_by_key(|(_, limit)| *limit);
            }
        }
    }

    /// Returns, at the start and once, the members that the ledgers have, and who of them would leave by the first pulls.
    pub(crate) fn take_start_exits(&mut self) -> Option<Vec<Exits>> {
        self.brake.counted.take()
    }

    /// Returns the model whose first pull decides the audiences of a model, and its limit.
    pub(crate) fn start_limit(&self, model: u32) -> Option<(u32, Share)> {
        self.brake.of_audiences.get(model as usize).copied().flatten()
    }

    /// Goes on with the start: the first pulls are within their limits.
    pub(crate) fn pass_start(&mut self) {
        self.go_on(Step::Announce { model: 0, slot: 0 });
    }

    /// Takes up a key as an earlier run had it at `clock`; returns its slot.
    pub(crate) fn restore(
        &mut self,
        model: usize,
        hash: u64,
        state: &KeyState,
        mapping: &Mapping,
        clock: Time,
    ) -> Slot {
        assert!(!self.begun, "state is restored before anything else is done");
        self.done = self.done.max(clock);
        self.models[model].restore(hash, state, mapping, clock)
    }

    /// Takes note that the rows of a pull that began then are in force, as an earlier run had them.
    pub(crate) fn restore_pull(&mut self, model: usize, began: Time) {
        self.models[model].restore_pull(began);
    }

    /// Reserves memory for so many more keys of a model.
    pub(crate) fn reserve(&mut self, model: usize, keys: usize) {
        self.models[model].reserve(keys);
    }

    /// Takes up what the ledger of a sync has of keys of a model.
    pub(crate) fn restore_ledger(&mut self, model: usize, sync: usize, members: &LedgerMembers) {
        assert!(!self.begun, "ledgers are taken up before anything else is done");
        let syncs = self.restored.baselines[model].syncs.len();
        self.models[model].restore_ledger(syncs, sync, members);
    }

    /// Takes up memberships that exit at the start, because the job or the sync no longer has their audience.
    pub(crate) fn take_removed(&mut self, removed: Vec<Removed>) {
        assert!(!self.begun, "ledgers are taken up before anything else is done");
        self.removed.extend(removed);
    }

    /// Begins to work: all that an earlier run left behind has been taken up.
    pub(crate) fn begin(&mut self) {
        self.models.iter_mut().for_each(KeyedState::end_restore);
        self.begun = true;
    }

    // What comes in.

    /// Takes in a batch of matched events.
    pub(crate) fn receive(&mut self, batch: EventBatch) {
        self.waiting.receive(batch);
    }

    /// Takes in the progress of one worker's sources: each worker's arrives here, this one's too.
    pub(crate) fn source_progress(&mut self, progress: SourceProgress) {
        match progress {
            SourceProgress::Opened(at, since) => {
                self.opened.push(at);
                for of in since {
                    let latest = self.since.entry(of.source).or_insert(of);
                    (latest.new, latest.kept) = (latest.new.max(of.new), latest.kept.max(of.kept));
                }
            }
            SourceProgress::Ended(at) => self.ended.push(at),
        }
        if self.start.is_none() {
            // Without any timestamp there is no transition, whatever the flags say.
            let all_opened = self.opened.len() == self.peers;
            self.natural_start = self.opened.iter().flatten().min().copied().filter(|_| all_opened);
            self.start = match self.span {
                Span::Live if all_opened => self.opened.iter().flatten().max().map(|clock| self.done.max(clock + 1)),
                Span::Live => None,
                Span::Replay { from, .. } => self.natural_start.map(|natural| from.unwrap_or(natural)),
            };
        }
    }

    /// Takes in a pull that is whole on all workers: its keys are switched as time goes on.
    pub(crate) fn take(&mut self, pull: WholePull) {
        let is_awaited = self.missing.remove(&pull.pulled) || self.due.remove(&pull.pulled);
        // What the start awaits is in force from then on, on all workers.
        if is_awaited || !self.models[pull.pulled as usize].contributes() {
            self.whole.push_back(pull);
            return;
        }
        let at = self.reached();
        self.proposals.push(Proposal { pulled: pull.pulled, pull: pull.number, at });
        self.agreement.wait(pull);
    }

    /// Drops a pull that failed on some worker. The start does not await it any longer where an earlier snapshot is in force.
    pub(crate) fn give_up(&mut self, pull: &WholePull) {
        self.due.remove(&pull.pulled);
        if !self.begun {
            self.given_up.insert(pull.pulled);
        }
        for (model, staged) in &pull.parts {
            let model = &mut self.models[*model as usize];
            model.give_up(staged);
            model.keys().borrow_mut().let_go();
        }
    }

    // What is asked.

    /// Returns the time up to and including which all has taken effect, and nothing later; `None` within an epoch, or before
    /// the start. Then the next [`EpochWorker::work`] that comes to the end of an epoch returns there.
    pub(crate) fn rest(&mut self) -> Option<Time> {
        self.awaited = self.epoch.is_some();
        (self.started && !self.awaited).then(|| self.done - 1)
    }

    /// Returns the time up to and including which all has taken effect, where a pull can be weighed: no key is being switched. Before
    /// the start that is once it awaits nothing but pulls.
    pub(crate) fn rest_to_weigh(&mut self) -> Option<Time> {
        if self.started {
            return self.rest().filter(|_| self.steady().is_some());
        }
        let is_there = self.start.is_some_and(|start| self.done >= start);
        (self.begun && is_there && self.epoch.is_none() && self.awaits_pulls()).then(|| self.done - 1)
    }

    /// Returns whether the start awaits a pull.
    fn awaits_pulls(&self) -> bool {
        !self.missing.is_empty() || !self.due.is_empty()
    }

    /// Returns whether no epoch is under way.
    pub(crate) fn is_between(&self) -> bool {
        self.epoch.is_none()
    }

    /// Returns the time before which all transitions have been given.
    pub(crate) fn done(&self) -> Time {
        self.done
    }

    /// Returns the time, exclusive, that the state of some keys may have reached: within an epoch, its end.
    pub(crate) fn reached(&self) -> Time {
        self.epoch.map_or(self.done, |epoch| epoch.until)
    }

    /// Returns a time before which nothing changes by itself: no timer is due, no window is complete that keys are held for, and no
    /// event takes effect. 0 if there is work that
    /// only waits for the clock to go on; the end of time if nothing ever changes.
    pub(crate) fn due(&self) -> Time {
        // An epoch that waits for other workers does not wait for the clock.
        let works = self.epoch.is_some() && !self.waits();
        let busy = works || self.switching.is_some() || !self.whole.is_empty() || !self.waiting.ready().is_empty();
        if !self.started || busy {
            return 0;
        }
        let timers = self.models.iter().filter_map(KeyedState::next_timer);
        let complete = self.models.iter().filter_map(|model| model.holding()?.next_complete());
        timers.chain(self.waiting.next_at()).chain(complete).min().unwrap_or(Time::MAX)
    }

    /// Returns when all keys are announced, once that is known.
    pub(crate) fn start(&self) -> Option<Time> {
        self.start
    }

    /// Returns whether all keys have been announced.
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Returns the number of keys of which something is known.
    pub(crate) fn len(&self) -> usize {
        self.models.iter().map(|model| model.keys().borrow().keys()).sum()
    }

    /// Returns the number of the pull in force, per model; `None` while keys are switched, up to the end of the epoch in which the last
    /// were: only then do their facts stand as the pull has them.
    pub(crate) fn steady(&self) -> Option<Vec<u64>> {
        let switches = !self.whole.is_empty() || self.switching.is_some() || self.agreement.is_open();
        (!switches && !self.settles_switch).then(|| self.in_force.clone())
    }

    /// Returns the number of a model's pull in force, as [`EpochWorker::steady`] does.
    pub(crate) fn in_force(&self, model: usize) -> u64 {
        self.in_force[model]
    }

    /// Returns, per model and fact, from when on the events of its window were read; 0: all, or it has no window. Empty before the
    /// start.
    pub(crate) fn fact_since(&self) -> &[Vec<Time>] {
        &self.fact_since
    }

    /// Returns the keys of a model.
    pub(crate) fn model(&self, model: usize) -> &KeyedState {
        &self.models[model]
    }

    /// Returns the keys of all models.
    pub(super) fn models_mut(&mut self) -> &mut [KeyedState] {
        &mut self.models
    }

    /// Returns the pulls that have been switched to since the last call.
    pub(crate) fn take_switched(&mut self) -> Vec<Switched> {
        std::mem::take(&mut self.switched)
    }

    /// Returns what took effect, by event.
    pub(crate) fn event_counts(&self) -> &[EventCounts] {
        self.counts.by_event()
    }

    /// Ends the retirement of slots that are read as of no time before `time`.
    pub(crate) fn release_slots(&mut self, time: Time) {
        self.models.iter().for_each(|model| model.keys().borrow_mut().release(time));
    }

    /// Returns the events of a key that have not taken effect, each with its batch.
    fn of_key<'a>(
        &'a self,
        model: usize,
        hash: u64,
        key: &'a str,
    ) -> impl Iterator<Item = (&'a EventBatch, &'a MatchedEvent)> {
        self.waiting.iter().filter(move |(batch, event)| {
            let of = self.events[usize::from(event.event)].model;
            of == model && event.key_hash == hash && batch.key(event) == key
        })
    }

    /// Returns what events of a key that have not taken effect will set of its row, in the order in which they will.
    pub(crate) fn waiting_traits(&self, model: usize, hash: u64, key: &str) -> Vec<WaitingTraits> {
        if self.models[model].rows.is_none() {
            return Vec::new();
        }
        let of = |(batch, event): (&EventBatch, &MatchedEvent)| {
            let live = &self.events[usize::from(event.event)].live;
            WaitingTraits {
                at: event.at,
                timestamp: event.timestamp,
                arrival: Arrival::new(batch.partition, event.position),
                id: event.id,
                values: batch.traits(event).map(|(set, value)| (live[set], value.clone())).collect(),
            }
        };
        let setting = self.of_key(model, hash, key).filter(|(_, event)| event.sets_traits());
        let mut found: Vec<WaitingTraits> = setting.map(of).collect();
        found.sort_by_key(|waiting| (waiting.at, waiting.arrival));
        found
    }

    /// Returns the events of a key that count for conditions and have not taken effect, in the order in which they will.
    pub(crate) fn waiting(&self, model: usize, hash: u64, key: &str) -> Vec<Waiting> {
        let mut found: Vec<Waiting> = Vec::new();
        for (batch, event) in self.of_key(model, hash, key).filter(|(_, event)| !event.sets_traits()) {
            let EventFacts { facts, roles, .. } = &self.events[usize::from(event.event)];
            let arrival = Arrival::new(batch.partition, event.position);
            let held = Held { timestamp: event.timestamp, arrival, id: event.id };
            let positions =
                (0..64).filter(|bit| event.facts >> bit & 1 == 1).map(|bit| usize::from(event.block) * 64 + bit);
            let values = batch.values(event);
            let before = found.len();
            for position in positions {
                let (fact, role) = (facts[position], roles[position]);
                let bits = i128::from(role.bits);
                if role.bits == 0 {
                    let value = self.models[model].value_of(fact, values);
                    found.push(Waiting { fact, at: event.at, event: held, value });
                } else if let Some(of_sequence) = found[before..].iter_mut().find(|waiting| waiting.fact == fact) {
                    of_sequence.value |= bits;
                } else {
                    found.push(Waiting { fact, at: event.at, event: held_as(role, held), value: bits });
                }
            }
        }
        found.sort_by_key(|waiting| (waiting.at, waiting.event.arrival));
        found
    }

    // The work.

    /// Works on all that is complete. `frontier`: all events that take effect before it are here; `None`: all events are.
    pub(crate) fn work(&mut self, frontier: Option<Time>, mut fuel: usize, out: &mut impl EpochOutput) -> Worked {
        if !self.begun {
            return if frontier.is_none() { Worked::Finished } else { Worked::Idle };
        }
        let end = match self.end(frontier) {
            Ok(end) => end,
            Err(worked) => return worked,
        };
        if self.brake.asked && self.epoch.is_some_and(|epoch| matches!(epoch.step, Step::Judge)) {
            return Worked::Idle;
        }
        while let Some(pull) = self.agreement.agreed() {
            self.whole.push_back(pull);
        }
        // At the end of the job workers that have ended propose nothing, and switch to nothing.
        let agrees = self.agreement.is_open() && frontier.is_some();
        loop {
            if self.epoch.is_none() && agrees {
                return Worked::Idle;
            }
            if self.epoch.is_none() {
                match self.next_epoch(end, fuel) {
                    Some(until) => self.epoch = Some(Epoch { until, step: Step::ApplyEvents }),
                    None if frontier.is_none() && self.done >= end => return Worked::Finished,
                    None => return Worked::Idle,
                }
            }
            if self.waits() {
                return Worked::Idle;
            }
            fuel = self.step(fuel, out);
            if fuel == 0 || (self.awaited && self.epoch.is_none()) {
                return Worked::More;
            }
        }
    }

    /// Returns the end, exclusive, of what can be worked on.
    fn end(&self, frontier: Option<Time>) -> Result<Time, Worked> {
        let last = match (self.span, self.start) {
            (Span::Replay { until: Some(until), .. }, Some(start)) if until < start => return Err(Worked::Finished),
            (Span::Replay { until: Some(until), .. }, _) => Some(until),
            // With `from` beyond the end, what holds then is given all the same. A live job that is stopped before its start has
            // none: with a state whose clock is ahead, changes would be dated ahead too.
            (Span::Live, _) if self.ended.len() == self.peers => self.ended.iter().flatten().max().copied(),
            _ if self.ended.len() == self.peers => self.ended.iter().flatten().max().copied().max(self.start),
            _ => None,
        };
        match (frontier, last) {
            (Some(frontier), Some(last)) => Ok(frontier.min(last + 1)),
            (Some(frontier), None) => Ok(frontier),
            (None, _) if self.ended.len() < self.peers => Err(Worked::Idle),
            // A pull that a start awaits may not come any more.
            (None, _) if self.start.is_none() || (self.span == Span::Live && self.awaits_pulls()) => {
                Err(Worked::Finished)
            }
            (None, Some(last)) => Ok(last + 1),
            (None, None) => Err(Worked::Finished),
        }
    }

    /// Returns the end, exclusive, of the next epoch: no further than the start, and with a limited number of events and timers.
    fn next_epoch(&mut self, end: Time, fuel: usize) -> Option<Time> {
        let end = match self.start {
            _ if self.started => {
                // A window that becomes complete ends the epoch, at the ms at which keys enter for it.
                let complete = self.models.iter().filter_map(|model| model.holding()?.next_complete()).min();
                complete.map_or(end, |complete| end.min(complete.max(self.done) + 1))
            }
            _ if self.resumed.is_some() && !self.missing.is_empty() => return None,
            _ if self.resumed.is_some() => end.min(self.done + 1),
            None if matches!(self.span, Span::Replay { .. }) => return None,
            None => end,
            Some(start) if self.done < start => end.min(start),
            Some(_) if self.awaits_pulls() => return None,
            Some(start) => end.min(start + 1),
        };
        // The ms of an agreed switch ends an epoch.
        let switch = self.whole.iter().filter_map(|pull| pull.at).min().filter(|_| self.started);
        let end = switch.map_or(end, |at| end.min(at.max(self.done) + 1));
        if self.done >= end {
            return None;
        }
        let end = self.models.iter().fold(end, |end, model| model.timer_limit(fuel, end)).max(self.done + 1);
        self.waiting.gather(end);
        let ready = self.waiting.ready();
        let Some(beyond) = ready.get(fuel) else {
            return Some(end);
        };
        let first = ready[0].at;
        // Time does not go back for what is read again and took effect before, and what is ready may have been gathered for a later end.
        Some(if beyond.at > first { beyond.at } else { first + 1 }.max(self.done + 1).min(end))
    }

    /// Does one step of the epoch; returns the fuel left.
    fn step(&mut self, fuel: usize, out: &mut impl EpochOutput) -> usize {
        let Epoch { until, step } = self.epoch.expect("a step is done within an epoch");
        match step {
            Step::ApplyEvents => self.apply_events(until, fuel),
            Step::FireTimers => self.fire_timers(until, fuel),
            Step::SwitchPulls => self.switch_pulls(until, fuel),
            Step::Await => self.go_on_with_stages(until, fuel, out),
            Step::Join { stage, limit } => self.join((stage, limit), fuel),
            Step::Tally { layer, limit } => self.tally(layer, limit, fuel),
            Step::OrderFlips { layer, limit } => {
                let models = self.models.iter_mut().zip(&self.layers).filter(|(_, of)| **of == layer);
                models.for_each(|(model, _)| model.order_flips());
                self.go_on(Step::Settle { layer, limit });
                fuel
            }
            Step::Settle { layer, limit } => self.settle(until, (layer, limit), fuel, out),
            Step::Judge => self.judge(fuel),
            Step::Announce { model, slot } => self.announce(until, (model, slot), fuel, out),
            Step::Release { model, slot } => self.release(until, (model, slot), fuel, out),
        }
    }

    fn go_on(&mut self, next: Step) {
        self.epoch.as_mut().expect("a step is done within an epoch").step = next;
    }

    fn finish_epoch(&mut self, until: Time) {
        if self.joins > 0 {
            self.models.iter_mut().for_each(|model| model.end_joins(until));
        }
        self.models.iter_mut().for_each(|model| model.forget_idle(until - 1));
        self.done = until;
        self.rows_until = until;
        self.reached.fill(until);
        self.settles_switch = false;
        self.epoch = None;
    }

    /// Reads what the next events of the ready ones will read.
    fn read_ahead(&self, due: usize) {
        for (index, model) in self.models.iter().enumerate() {
            let (mut hashes, mut count) = ([0; AHEAD], 0);
            for ready in self.waiting.ready().iter().take(due) {
                let (_, event) = self.waiting.event(ready);
                if self.events[usize::from(event.event)].model == index {
                    hashes[count] = event.key_hash;
                    count += 1;
                }
            }
            model.read_ahead(&hashes[..count]);
        }
    }

    fn apply_events(&mut self, until: Time, mut fuel: usize) -> usize {
        loop {
            let due = self.waiting.ready().iter().take(AHEAD.min(fuel)).take_while(|ready| ready.at < until).count();
            if due == 0 {
                break;
            }
            if due > 1 {
                self.read_ahead(due);
            }
            for _ in 0..due {
                let ready = self.waiting.take_ready().expect("so many were counted");
                self.apply(ready);
            }
            fuel -= due;
        }
        if fuel > 0 {
            self.go_on(Step::FireTimers);
        }
        fuel
    }

    fn apply(&mut self, ready: Ready) {
        let (batch, event) = self.waiting.event(&ready);
        let EventFacts { model, facts, roles, live, has_snapshot } = &self.events[usize::from(event.event)];
        let key = batch.key(event);
        // A message that counts for conditions too is a repeat of its event once.
        let counts = !event.sets_traits() || facts.is_empty();
        let (slot, repeat) = if event.sets_traits() {
            let values = batch.traits(event).map(|(set, value)| (live[set], value));
            self.models[*model].apply_traits(event, key, ready.arrival, values)
        } else {
            self.models[*model].apply(event, key, ready.arrival, (facts, roles), batch.values(event))
        };
        if repeat && counts {
            self.counts.repeat(event.event);
        }
        if repeat && event.stands_for_message() {
            self.counts.repeat_message(event.event);
        }
        if *has_snapshot && counts {
            let has_row = || self.models[*model].in_snapshot(Some(slot));
            self.counts.applied(event.event, slot, self.started.then_some(has_row));
        }
        self.waiting.applied(&ready);
    }

    fn fire_timers(&mut self, until: Time, mut fuel: usize) -> usize {
        for model in &mut self.models {
            while fuel > 0 && model.fire(until - 1) {
                fuel -= 1;
            }
        }
        if fuel > 0 {
            self.go_on(Step::SwitchPulls);
        }
        fuel
    }

    fn switch_pulls(&mut self, until: Time, fuel: usize) -> usize {
        let left = self.switch(self.resumed.unwrap_or(until - 1), until - 1, fuel);
        if left == 0 && self.started && self.switches_now(until) {
            // The same step goes on: all workers switch to it at this ms.
            return 0;
        }
        if left > 0 && self.resumed.take().is_some() {
            // What the first pulls bring for later moments of this epoch is due at once.
            self.go_on(Step::FireTimers);
        } else if left > 0 || self.started {
            // Out of fuel, the other keys are switched in the next epoch: a large pull holds up no event.
            self.rows_until = until;
            self.go_on(if self.joins > 0 { Step::Await } else { Step::OrderFlips { layer: 0, limit: until } });
        } else if self.resumed.is_none() && self.reached.len() == 1 {
            // Before the start a pull is switched to whole, and its flips, of every key, need not wait for the end.
            for model in &mut self.models {
                model.order_flips();
                model.settle_silently(usize::MAX, Time::MAX);
            }
        }
        left
    }

    /// Returns whether a pull is to be switched to whole within the epoch.
    fn switches_now(&self, until: Time) -> bool {
        let is_due = |pull: &WholePull| pull.at.is_some_and(|at| at < until);
        self.switching.as_ref().is_some_and(|switching| is_due(&switching.pull)) || self.whole.iter().any(is_due)
    }

    /// Switches keys to whole pulls at `time`, rows that are held at `last`, the last ms of the epoch; returns the fuel left.
    fn switch(&mut self, time: Time, last: Time, mut fuel: usize) -> usize {
        loop {
            if self.switching.is_none() {
                // History gives no transitions: the first pulls are in force from the start on.
                let due = self.started || self.resumed.is_some() || self.start.is_some_and(|start| time >= start);
                // Rows that were restored are those of the start: a pull that was due replaces them there, not at an earlier time.
                let waits = |pull: &WholePull| {
                    self.resumed.is_some() && self.restored.due.get(pull.pulled as usize).copied().unwrap_or(false)
                };
                let may_switch = |pull: &WholePull| pull.at.is_none_or(|at| at <= last) && !waits(pull);
                let next = self.whole.iter().position(may_switch).filter(|_| due);
                let Some(pull) = next.and_then(|next| self.whole.remove(next)) else { return fuel };
                pull.parts.iter().for_each(|(model, _)| self.models[*model as usize].fit());
                self.switching = Some(Switching { pull, part: 0, keys: 0, changed: 0 });
            }
            // Under replay a snapshot is as old as the clock.
            let replayed = self.natural_start;
            let Some(switching) = &mut self.switching else { return fuel };
            let began = match self.span {
                Span::Live => switching.pull.began,
                Span::Replay { .. } => replayed.unwrap_or(time),
            };
            while let Some((model, staged)) = switching.pull.parts.get_mut(switching.part) {
                let model = &mut self.models[*model as usize];
                let unchanged = unchanged_per_fuel(staged.weight());
                while let Some(slot) = model.switched(staged, switching.keys) {
                    if fuel == 0 {
                        return 0;
                    }
                    let is_new = model.switch(staged, slot, began, (time, last));
                    switching.changed += u64::from(is_new);
                    switching.keys += 1;
                    if is_new || switching.keys.is_multiple_of(unchanged) {
                        fuel -= 1;
                    }
                }
                model.end_switch(staged, began);
                model.keys().borrow_mut().let_go();
                (switching.part, switching.keys) = (switching.part + 1, 0);
            }
            let WholePull { pulled, number, .. } = switching.pull;
            self.in_force[pulled as usize] = number;
            self.settles_switch = true;
            self.switched.push(Switched { model: pulled, pull: number, changed: switching.changed });
            self.switching = None;
        }
    }

    /// Returns the first stage that can go on, and up to which time: all that it needs of earlier ones before it is here.
    ///
    /// Epochs of other workers end at other times. A worker that waited for all of its epoch in one stage would keep those waiting that
    /// need an earlier part of the next one from it, and that it waits for itself.
    fn next_stage(&self) -> Option<(usize, Time)> {
        (0..self.reached.len()).find_map(|stage| {
            let earlier = if stage == 0 { self.rows_until } else { self.reached[stage - 1] };
            let limit = self.received_until[stage].unwrap_or(Time::MAX).min(earlier);
            (limit > self.reached[stage]).then_some((stage, limit))
        })
    }

    /// Puts in order what the next stage takes in; ends settling once all stages have reached the end of the epoch.
    fn go_on_with_stages(&mut self, until: Time, fuel: usize, out: &mut impl EpochOutput) -> usize {
        let Some((stage, limit)) = self.next_stage() else { return self.end_settling(until, fuel, out) };
        if stage < self.joins {
            self.begin_join(stage, limit);
            return fuel;
        }
        let layer = stage - self.joins;
        let is_due = |update: &mut Update| update.time < limit && self.layers[update.model as usize] == layer;
        let mut due: Vec<Update> = self.received.extract_if(.., is_due).collect();
        // By model, key and fact, then by time.
        due.sort_unstable();
        self.tallying = (due, 0);
        self.go_on(Step::Tally { layer, limit });
        fuel
    }

    /// Puts in order which rows read something new of their parents, and who reads theirs, at which ms.
    fn begin_join(&mut self, stage: usize, limit: Time) {
        let depths = &self.depths;
        let interests: Vec<Interest> = self
            .interests
            .extract_if(.., |interest| interest.time < limit && depths[interest.model as usize] == stage)
            .collect();
        let mut values: Vec<ParentValues> = self
            .parent_values
            .extract_if(.., |values| values.time < limit && depths[values.child as usize] == stage)
            .collect();
        // Those of one parent come from one worker, in order of time.
        values.sort_by_key(|values| values.time);
        let mut items = Vec::new();
        for values in values {
            self.models[values.child as usize].take_parent(values);
        }
        for interest in interests {
            let model = interest.model as usize;
            items.push((model, self.models[model].interested(interest)));
        }
        for (model, _) in depths.iter().enumerate().filter(|(_, depth)| **depth == stage) {
            items.extend(self.models[model].rows_to_join(limit).map(|item| (model, item)));
        }
        items.sort_unstable();
        items.dedup();
        self.joining = (items, 0);
        self.go_on(Step::Join { stage, limit });
    }

    /// Joins what has been put in order, row by row and ms by ms; then timers fire of the facts that follow.
    fn join(&mut self, (stage, limit): (usize, Time), mut fuel: usize) -> usize {
        let (items, next) = &mut self.joining;
        while let Some((model, item)) = items.get(*next) {
            if fuel == 0 {
                return 0;
            }
            self.models[*model].join(item);
            *next += 1;
            fuel -= 1;
        }
        for (model, _) in self.models.iter_mut().zip(&self.depths).filter(|(_, depth)| **depth == stage) {
            while fuel > 0 && model.fire_joined(limit - 1) {
                fuel -= 1;
            }
            for values in model.take_parent_values() {
                self.outgoing_values[self.depths[values.child as usize]].push(values);
            }
        }
        if fuel > 0 {
            self.joining = (Vec::new(), 0);
            self.reached[stage] = limit;
            self.go_on(Step::Await);
        }
        fuel
    }

    /// Takes in what has been put in order, fact by fact.
    fn tally(&mut self, layer: usize, limit: Time, mut fuel: usize) -> usize {
        let (updates, next) = &mut self.tallying;
        while let Some(first) = updates.get(*next) {
            if fuel == 0 {
                return 0;
            }
            let of = |update: &Update| (update.model, update.key_hash, update.fact);
            let same = updates[*next..].iter().take_while(|update| of(update) == of(first) && update.key == first.key);
            let end = *next + same.count();
            self.models[first.model as usize].tally(&updates[*next..end]);
            fuel = fuel.saturating_sub(end - *next);
            *next = end;
        }
        self.tallying = (Vec::new(), 0);
        self.go_on(Step::OrderFlips { layer, limit });
        fuel
    }

    /// Returns whether a step waits for what other workers send.
    fn waits(&self) -> bool {
        let is_behind = |until: Time| self.reached.iter().any(|reached| *reached < until);
        self.epoch.is_some_and(|epoch| matches!(epoch.step, Step::Await) && is_behind(epoch.until))
            && self.next_stage().is_none()
    }

    /// Takes in what another worker sends for a stage.
    pub(crate) fn take_exchanged(&mut self, exchanged: Exchanged) {
        let Exchanged { updates, interests, values, proposals, .. } = exchanged;
        self.received.extend(updates);
        self.interests.extend(interests);
        self.parent_values.extend(values);
        proposals.into_iter().for_each(|proposal| self.agreement.propose(proposal));
    }

    /// Takes note that all is here for a stage that is sent at a time before `until`; `None`: all is.
    pub(crate) fn set_received(&mut self, stage: usize, until: Option<Time>) {
        self.received_until[stage] = until;
    }

    /// Returns the stages that workers send each other something for.
    pub(crate) fn exchanges(&self) -> Vec<usize> {
        (0..self.reached.len()).filter(|stage| *stage != self.joins).collect()
    }

    /// Returns what `this` worker has not sent the others for a stage; with the updates of the first layer that has some, the proposals for
    /// all workers.
    pub(crate) fn outgoing(&mut self, stage: usize, this: u32) -> Vec<Exchanged> {
        let peers = self.peers as u32;
        let mut batches: BTreeMap<u32, Exchanged> = BTreeMap::new();
        if stage == 0 && self.joins > 0 {
            for mut interest in self.models.iter_mut().flat_map(KeyedState::take_interests) {
                interest.worker = this;
                batch_for(&mut batches, owner(interest.key_hash, peers)).interests.push(interest);
            }
        } else if stage < self.joins {
            for values in std::mem::take(&mut self.outgoing_values[stage]) {
                batch_for(&mut batches, values.worker).values.push(values);
            }
        } else {
            for update in std::mem::take(&mut self.outgoing[stage - self.joins]) {
                batch_for(&mut batches, owner(update.key_hash, peers)).updates.push(update);
            }
        }
        if stage == self.joins + 1 && !self.proposals.is_empty() {
            for worker in 0..peers {
                batch_for(&mut batches, worker).proposals.clone_from(&self.proposals);
            }
            self.proposals.clear();
        }
        batches.into_values().collect()
    }

    /// Returns a time before which nothing is sent for a stage any more.
    pub(crate) fn sent_until(&self, stage: usize) -> Time {
        self.done.max(if stage == 0 { self.rows_until } else { self.reached[stage - 1] })
    }

    fn settle(&mut self, until: Time, (layer, limit): (usize, Time), fuel: usize, out: &mut impl EpochOutput) -> usize {
        let models = self.models.iter_mut().zip(&self.layers).filter(|(_, of)| **of == layer);
        for (model, _) in models {
            let left = if self.started { model.settle(fuel, limit, out) } else { model.settle_silently(fuel, limit) };
            if left {
                return 0;
            }
            for update in model.take_updates() {
                self.outgoing[self.layers[update.model as usize]].push(update);
            }
        }
        self.reached[self.joins + layer] = limit;
        if self.reached.len() > 1 {
            self.go_on(Step::Await);
            return fuel - 1;
        }
        self.end_settling(until, fuel, out)
    }

    /// Goes on behind the settling of all models' flips.
    fn end_settling(&mut self, until: Time, fuel: usize, out: &mut impl EpochOutput) -> usize {
        if !self.started && self.start.is_some_and(|start| start < until) {
            self.hold(until - 1);
            self.go_on(Step::Judge);
        } else if self.started && self.completes(until - 1) {
            self.models.iter_mut().for_each(|model| model.complete(until - 1));
            self.go_on(Step::Release { model: 0, slot: 0 });
        } else {
            if self.started {
                out.epoch_end(until);
            }
            self.finish_epoch(until);
        }
        fuel - 1
    }

    /// Counts who would leave by the first pulls; goes on at once if none has a limit.
    fn judge(&mut self, fuel: usize) -> usize {
        if self.brake.of_audiences.iter().all(Option::is_none) {
            self.pass_start();
            return fuel;
        }
        let mut counted = Vec::new();
        for (model, keys) in self.models.iter().enumerate() {
            if self.brake.of_audiences[model].is_some() {
                let mut exits = Exits::of_model(model as u32, keys.evaluate.audiences());
                keys.evaluate.count_committed(&mut exits);
                // What leaves an audience whose definition is new leaves by that.
                let is_new = &self.restored.baselines[model].new_definitions;
                counted.extend(exits.into_iter().filter(|exits| !is_new[exits.audience as usize]));
            }
        }
        (self.brake.counted, self.brake.asked) = (Some(counted), true);
        0
    }

    /// Announces every key at the start.
    fn announce(
        &mut self,
        until: Time,
        (mut model, mut slot): (usize, Slot),
        mut fuel: usize,
        out: &mut impl EpochOutput,
    ) -> usize {
        let time = until - 1;
        while let Some(keys) = self.models.get_mut(model) {
            while fuel > 0 && keys.has(slot) {
                keys.announce(slot, time, &self.restored.baselines[model], out);
                slot += 1;
                fuel -= 1;
            }
            if fuel == 0 {
                self.go_on(Step::Announce { model, slot });
                return 0;
            }
            (model, slot) = (model + 1, 0);
        }
        self.remove(time, out);
        let (models, events) = (&self.models, &self.events);
        self.counts.start(|event, slot| models[events[usize::from(event)].model].in_snapshot(Some(slot)));
        self.started = true;
        self.models.iter_mut().for_each(KeyedState::end_announcement);
        out.epoch_end(until);
        self.finish_epoch(until);
        fuel
    }

    /// Works out which windows are incomplete at the start, and begins to hold keys for them.
    fn hold(&mut self, start: Time) {
        if !matches!(self.span, Span::Live) {
            return;
        }
        let restored = &self.restored.fact_since;
        let since = |window: &Window| {
            let kept = restored.get(window.of.0).and_then(|facts| *facts.get(window.of.1 as usize)?);
            let of_event = |sources: &Vec<u32>, time: fn(&SourceSince) -> Time| {
                let times = || sources.iter().filter_map(|source| self.since.get(source)).map(time);
                // A source that has all, as files have, fills what the event's other sources do not keep.
                if times().any(|time| time == 0) { 0 } else { times().max().unwrap_or(0) }
            };
            let of_sources = |time: fn(&SourceSince) -> Time| {
                window.sources.iter().map(|sources| of_event(sources, time)).max().unwrap_or(0)
            };
            match kept {
                Some(kept) => of_sources(|of| of.kept).max(kept),
                None => of_sources(|of| of.new),
            }
        };
        let fact_since: Vec<Vec<Time>> = self
            .windows
            .iter()
            .enumerate()
            .map(|(model, windows)| {
                let of = |(fact, window): (usize, &Option<FactWindow>)| {
                    let own = window.iter().flat_map(|window| &window.own);
                    own.filter(|window| window.of == (model, fact as u32)).map(&since).max().unwrap_or(0)
                };
                windows.iter().enumerate().map(of).collect()
            })
            .collect();
        for (index, windows) in self.windows.iter().enumerate() {
            let incomplete = windows.iter().enumerate().filter_map(|(fact, window)| {
                let window = window.as_ref()?;
                let complete_at = |window: &Window| match since(window) {
                    0 => 0,
                    since => since + window.within,
                };
                let complete_at = window.own.iter().map(complete_at).max().unwrap_or(0);
                (complete_at > start).then_some(IncompleteWindow {
                    fact: fact as u32,
                    complete_at,
                    missing: window.missing,
                })
            });
            let incomplete = incomplete.collect();
            self.models[index].hold_for(&self.sends[index], incomplete);
        }
        self.fact_since = fact_since;
    }

    /// Returns whether a window is complete at `time` whose keys have not been released.
    fn completes(&self, time: Time) -> bool {
        let mut next = self.models.iter().filter_map(|model| model.holding()?.next_complete());
        next.any(|complete| complete <= time)
    }

    /// Lets keys enter that were held for windows which are complete now.
    fn release(
        &mut self,
        until: Time,
        (mut model, mut slot): (usize, Slot),
        mut fuel: usize,
        out: &mut impl EpochOutput,
    ) -> usize {
        while let Some(keys) = self.models.get_mut(model) {
            while fuel > 0 && keys.holding().is_some() && keys.has(slot) {
                keys.release(slot, until - 1, out);
                slot += 1;
                fuel -= 1;
            }
            if fuel == 0 {
                self.go_on(Step::Release { model, slot });
                return 0;
            }
            keys.end_release();
            (model, slot) = (model + 1, 0);
        }
        out.epoch_end(until);
        self.finish_epoch(until);
        fuel
    }

    /// Gives the exits of memberships whose audience is gone, those of one membership one after the other.
    fn remove(&mut self, time: Time, out: &mut impl EpochOutput) {
        let mut removed = std::mem::take(&mut self.removed);
        removed.sort();
        for removed in &removed {
            let model = removed.model.map(|model| &self.models[model as usize]);
            let row = model.and_then(|model| Some(model.row(model.find(hash_key(&removed.key), &removed.key)?)));
            out.removal(removed, time, row.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests;
