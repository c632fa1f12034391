//! What a start of a job would send, worked out with all that a start does but writing; and what works out edits of the job that runs.
//!
//! Promises: nothing is written, fenced or locked; the numbers are those of a start at the time that is reported, from the state as its
//! last checkpoint has it, or with `read` from sources and warehouse as they are.

use crate::commands::audiences;
use crate::exit::Exit;
use crate::open::{self, Loaded, WallClock};
use crate::supervise::rfc3339;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_config::Sync;
use usher_connectors::dead_letters::DeadLetterWriter;
use usher_core::api::ApiError;
use usher_core::clock::Clock;
use usher_core::edit::{CommittedMembers, Differ, EditReport, EditSample, StartOfAudience, StartReport};
use usher_core::ledger::Ledger;
use usher_core::store::Store;
use usher_dataflow::{
    AudienceDifference, Deciding, OpenedJob, Purpose, Recovery, Span, StartDifference, StartSample, StateBefore,
    Status, Time,
};
use usher_queries::conditions::{Decided, Written, written};
use usher_queries::diff::{Before, compare, text_of, unknown_audiences};
use usher_queries::plan::Plan;
use usher_queries::plan_file;

/// How often a state is read that the job which runs replaces meanwhile.
const TRIES: u32 = 10;
/// How often it is looked whether the difference is known.
const LOOK: Duration = Duration::from_millis(5);

/// How a start is worked out.
pub struct How<'a> {
    /// Also read the sources and the warehouse.
    pub read: bool,
    /// Worker threads.
    pub workers: usize,
    /// Returns whether nobody waits for it any more.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

/// The state of the job that runs.
pub struct State {
    store: Arc<dyn Store>,
    ledgers: Vec<Ledger>,
    pub before: StateBefore,
}

/// Reads the state of the job that runs: at `url`, else where the edited job has it.
pub fn read_state(new: &Loaded, url: Option<&str>) -> Result<State, Exit> {
    let (store, folder) = open::read_state(new, url)?;
    let before = usher_dataflow::before(&*store, &new.plan.job.name)?;
    let noted = usher_dataflow::noted_positions(&before.manifest.1).map_err(usher_dataflow::ClaimError::from)?;
    let ledgers = open::read_ledgers(new, &folder, &noted)?;
    Ok(State { store, ledgers, before })
}

/// What a start of the edited job would do.
struct Foreseen {
    difference: StartDifference,
    /// By sync and audience, the members in the ledger.
    members: BTreeMap<(String, String), u64>,
    /// Audiences of which nothing is known without the sources and the warehouse.
    unknown: BTreeSet<String>,
    /// Conditions as in the job file, by audience.
    conditions: BTreeMap<String, Written>,
    read: bool,
}

/// A clock that goes on from a time.
struct ClockFrom(Time, Instant);

impl Clock for ClockFrom {
    fn now(&self) -> Time {
        self.0 + self.1.elapsed().as_millis() as Time
    }

    fn runs(&self) -> bool {
        true
    }
}

/// Works out what a start of the edited job would send from a state that was read at `url`, else where the edited job has it.
///
/// The job that runs goes on: where it has made another checkpoint meanwhile, and removed what only the one before needed, its new
/// state is read.
pub fn foresee(new: &Loaded, url: Option<&str>, mut state: State, how: &How<'_>) -> Result<StartReport, Exit> {
    for _ in 1..TRIES {
        let (store, number) = (Arc::clone(&state.store), state.before.manifest.0);
        let foreseen = foresee_from(new.clone(), state, how);
        if foreseen.is_ok() || usher_dataflow::before(&*store, &new.plan.job.name)?.manifest.0 == number {
            return foreseen;
        }
        state = read_state(new, url)?;
    }
    foresee_from(new.clone(), state, how)
}

fn foresee_from(new: Loaded, state: State, how: &How<'_>) -> Result<StartReport, Exit> {
    let State { store, ledgers, before } = state;
    let unknown = if how.read { BTreeSet::new() } else { unknown_audiences(&before.job, &new.plan) };
    let conditions = conditions(&new.plan);
    let (members, new_syncs) = (members(&new.plan, &ledgers), new_syncs(&new.plan, &ledgers));
    let (unchanged, synced) = (unchanged(&before.job, &new.plan), synced(&new.plan));
    let catalog = Arc::new(new.plan.job.catalog().with_removed(&audiences(&ledgers)));
    // The clock never starts before the state's, nor before the last committed change.
    let least =
        ledgers.iter().map(|ledger| ledger.clock + 1).chain([before.clock]).max().unwrap_or(0).saturating_sub(1);
    let (clock, sources, warehouses) = if how.read {
        let now = WallClock.now();
        (now.max(least), open::open_sources(&new, None, now, None)?, open::open_warehouses(&new)?)
    } else {
        (least, Vec::new(), new.plan.models.iter().map(|_| None).collect())
    };
    let opened = OpenedJob {
        recovery: Some(Recovery {
            purpose: if how.read { Purpose::Foresee } else { Purpose::ForeseeByState },
            store,
            incarnation: 0,
            claim: Some(before.manifest),
            ledgers,
            checkpoint_every: Duration::MAX,
            restart_sources: false,
            clock_from_now: false,
        }),
        api: None,
        span: Span::Live,
        clock: Arc::new(ClockFrom(clock, Instant::now())),
        sources,
        warehouses,
        sinks: Vec::new(),
        catalog,
        cluster: None,
        // The job's own are not touched.
        dead_letters: Arc::new(DeadLetterWriter::open(None, &new.folder, &open::variable)?),
        workers: how.workers,
        cores: open::cores(),
        plan: new.plan,
    };
    let mut difference = run(opened, how.is_cancelled)?;
    if !how.read {
        // The ledgers of a job that runs are ahead of its checkpoint: what an audience whose definition stays would then do is no
        // part of the edit.
        difference.audiences.retain(|of| {
            let has_members = members.contains_key(&(of.sync.clone(), of.audience.clone()));
            let has_audience = synced.contains(&(of.sync.clone(), of.audience.clone()));
            let is_kept =
                unchanged.contains(&of.audience) && has_members && has_audience && !new_syncs.contains(&of.sync);
            !unknown.contains(&of.audience) && !is_kept
        });
    }
    Ok(Foreseen { difference, members, unknown, conditions, read: how.read }.report())
}

/// Runs a job until it is known what its start sends.
fn run(opened: OpenedJob, is_cancelled: &dyn Fn() -> bool) -> Result<StartDifference, Exit> {
    let audiences = opened.plan.models.iter().map(|model| model.audiences.len()).sum();
    let status = Status::new(opened.workers, audiences);
    let job = {
        let status = Arc::clone(&status);
        std::thread::Builder::new().name("job".to_owned()).spawn(move || usher_dataflow::run(opened, &status))
    };
    let job = job.expect("the system can start a thread");
    let mut difference = None;
    while !job.is_finished() && difference.is_none() && !is_cancelled() {
        std::thread::sleep(LOOK);
        difference = status.take_start_difference();
    }
    status.abort();
    let ended = job.join().expect("a panic ends the process before it is joined");
    match difference {
        Some(difference) => Ok(difference),
        None => Err(ended.err().map_or_else(|| Exit::failed("the job has ended before its start"), Exit::from)),
    }
}

fn conditions(plan: &Plan) -> BTreeMap<String, Written> {
    let models = plan.models.iter().zip(written(plan));
    let audiences = models.flat_map(|(model, written)| model.audiences.iter().zip(written));
    audiences.map(|(audience, written)| (audience.id.clone(), written)).collect()
}

fn members(plan: &Plan, ledgers: &[Ledger]) -> BTreeMap<(String, String), u64> {
    let mut members = BTreeMap::new();
    for (sync, ledger) in plan.job.syncs.keys().zip(ledgers) {
        for (audience, _) in ledger.iter() {
            *members.entry((sync.clone(), ledger.audiences[audience as usize].id.clone())).or_default() += 1;
        }
    }
    members
}

fn new_syncs(plan: &Plan, ledgers: &[Ledger]) -> BTreeSet<String> {
    let syncs = plan.job.syncs.keys().zip(ledgers);
    syncs.filter(|(_, ledger)| !ledger.any).map(|(id, _)| id.clone()).collect()
}

/// Returns the audiences of all syncs, each with its sync.
fn synced(plan: &Plan) -> BTreeSet<(String, String)> {
    let of =
        |(id, sync): (&String, &Sync)| sync.audiences.iter().map(|of| (id.clone(), of.clone())).collect::<Vec<_>>();
    plan.job.syncs.iter().flat_map(of).collect()
}

/// Returns the audiences whose definition stays.
fn unchanged(before: &Before<'_>, plan: &Plan) -> BTreeSet<String> {
    let audiences = plan.models.iter().flat_map(|model| &model.audiences);
    let same = audiences.filter(|audience| before.audiences.get(&audience.id) == Some(&audience.fingerprint));
    same.map(|audience| audience.id.clone()).collect()
}

impl Foreseen {
    /// Returns the condition that decides a sample, as in the job file.
    fn condition(&self, audience: &str, sample: &StartSample) -> Option<String> {
        let Some(written) = self.conditions.get(audience) else { return Some("the audience is gone".to_owned()) };
        let text = |decided| text_of(written, (written.model, decided)).map(str::to_owned);
        match sample.condition? {
            Deciding::Fact(fact) => text(Decided::Fact(fact)).or_else(|| Some("in the snapshot".to_owned())),
            Deciding::Audience(audience) => text(Decided::Audience(audience)),
        }
    }

    /// Returns it with the conditions in the job file's words.
    fn report(self) -> StartReport {
        let sample = |audience: &str, sample: &StartSample| EditSample {
            key: sample.key.clone(),
            kind: if sample.enters { "entry" } else { "exit" }.to_owned(),
            reason: sample.reason.name().to_owned(),
            condition: self.condition(audience, sample),
        };
        let difference = |of: &AudienceDifference| StartOfAudience {
            sync: of.sync.clone(),
            audience: of.audience.clone(),
            members: self.members.get(&(of.sync.clone(), of.audience.clone())).copied().unwrap_or(0),
            entries: of.entries,
            exits: of.exits,
            samples: of.samples.iter().map(|one| sample(&of.audience, one)).collect(),
        };
        let committed = self.members.iter().map(|((sync, audience), members)| CommittedMembers {
            sync: sync.clone(),
            audience: audience.clone(),
            members: *members,
        });
        StartReport {
            as_of: rfc3339(self.difference.at),
            read: self.read,
            differences: self.difference.audiences.iter().map(difference).collect(),
            committed: committed.collect(),
            to_be_filled: self.unknown,
        }
    }
}

/// Works out edits of the job that runs, in its own folder.
pub struct RunningJob {
    plan: Plan,
    folder: PathBuf,
    /// Where its state is.
    state: String,
}

impl RunningJob {
    /// Takes a job as it is loaded.
    ///
    /// # Errors
    /// A variable of the state's url is not set.
    pub fn of(loaded: &Loaded) -> Result<RunningJob, Exit> {
        Ok(RunningJob { plan: loaded.plan.clone(), folder: loaded.folder.clone(), state: open::state_url(loaded)? })
    }
}

impl Differ for RunningJob {
    fn diff(&self, plan: &[u8], read: bool, is_cancelled: &dyn Fn() -> bool) -> Result<EditReport, ApiError> {
        let plan = plan_file::decode(plan).map_err(|error| ApiError::Wrong(error.to_string()))?;
        if plan.job.name != self.plan.job.name {
            let (name, other) = (&self.plan.job.name, &plan.job.name);
            return Err(ApiError::Wrong(format!("the job that runs is `{name}`, the plan is of `{other}`")));
        }
        tracing::info!(read, "an edit of the job is being worked out");
        let new = Loaded { plan, folder: self.folder.clone() };
        let edit = compare(&Before::of_plan(&self.plan), &new.plan);
        let how = How { read, workers: 1, is_cancelled };
        let state = read_state(&new, Some(&self.state)).and_then(|state| foresee(&new, Some(&self.state), state, &how));
        let state = Some(state.map_err(|exit| ApiError::Unavailable(exit.in_one_line()))?);
        Ok(EditReport { edit, state })
    }
}
