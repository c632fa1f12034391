//! `usher diff`: what an edit of a job does, before it is made.
//!
//! Promises: nothing is written, fenced or locked; the numbers are those of a start at the time that is printed, from the state as its
//! last checkpoint has it, or with `--read` from sources and warehouse as they are. Refuses `--read` without a state.

use super::print;
use super::run::audiences;
use crate::exit::Exit;
use crate::open::{self, Loaded, WallClock, load};
use crate::supervise::rfc3339;
use crate::terminal::print_stderr;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_config::Share;
use usher_connectors::dead_letters::DeadLetterWriter;
use usher_core::clock::Clock;
use usher_core::ledger::Ledger;
use usher_core::store::Store;
use usher_dataflow::{
    AudienceDifference, Deciding, OpenedJob, Purpose, Recovery, Span, StartDifference, StartSample, StateBefore,
    Status, Time,
};
use usher_queries::conditions::{Decided, Written, written};
use usher_queries::diff::{AudienceChange, Before, Edit, NamedChange, NamedEdit, compare, text_of, unknown_audiences};
use usher_queries::plan::Plan;

/// How often it is looked whether the difference is known.
const LOOK: Duration = Duration::from_millis(5);

/// The flags of `diff`.
pub struct Flags {
    pub state: Option<String>,
    pub read: bool,
    pub json: bool,
    pub max_exits: Option<Share>,
    pub workers: usize,
}

/// Prints what an edit does.
pub fn diff(old: Option<&Path>, new: &Path, flags: &Flags) -> Result<(), Exit> {
    let old = old.map(load).transpose()?;
    let new = load(new)?;
    if flags.read && old.is_some() && flags.state.is_none() {
        return Err(
            Exit::wrong("`--read` needs the state of the job that runs").hint("give its url with `--state`".to_owned())
        );
    }
    let state = match (&old, &flags.state) {
        (Some(_), None) => None,
        (_, url) => Some(read_state(&new, url.as_deref())?),
    };
    let before = match (&old, &state) {
        (Some(old), _) => Before::of_plan(&old.plan),
        (None, Some(state)) => state.before.job.clone(),
        (None, None) => unreachable!("without the job before the edit there is a state"),
    };
    let edit = compare(&before, &new.plan);
    let foreseen = state.map(|state| foresee(new, state, flags)).transpose()?;
    let exceeded = flags.max_exits.map(|most| exceeded(foreseen.as_ref(), most));
    let text = match flags.json {
        true => format!("{:#}\n", as_json(&edit, foreseen.as_ref(), exceeded.as_deref())),
        false => as_text(&edit, foreseen.as_ref()),
    };
    print(&text)?;
    match exceeded {
        Some(exceeded) if !exceeded.is_empty() => Err(Exit::failed(exceeded.join("\n"))),
        _ => Ok(()),
    }
}

/// Prints, at a start, what differs from the job that has left the state.
pub fn announce(before: &Before<'_>, plan: &Plan) {
    // A run that made no checkpoint left no definitions.
    if !before.audiences.is_empty() {
        let text = edit_text(&compare(before, plan));
        if !text.is_empty() {
            print_stderr(format_args!("the job differs from the one that has left the state:\n{}", text.trim_end()));
        }
    }
}

/// The state of the job that runs.
struct State {
    store: Arc<dyn Store>,
    ledgers: Vec<Ledger>,
    before: StateBefore,
}

fn read_state(new: &Loaded, url: Option<&str>) -> Result<State, Exit> {
    let (store, ledgers) = open::read_state(new, url)?;
    let before = usher_dataflow::before(&*store, &new.plan.job.name)?;
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

/// Works out what a start would send, with all that a start does but writing.
fn foresee(new: Loaded, state: State, flags: &Flags) -> Result<Foreseen, Exit> {
    let State { store, ledgers, before } = state;
    let unknown = if flags.read { BTreeSet::new() } else { unknown_audiences(&before.job, &new.plan) };
    let conditions = conditions(&new.plan);
    let (members, new_syncs) = (members(&new.plan, &ledgers), new_syncs(&new.plan, &ledgers));
    let unchanged = unchanged(&before.job, &new.plan);
    let catalog = Arc::new(new.plan.job.catalog().with_removed(&audiences(&ledgers)));
    // The clock never starts before the state's, nor before the last committed change.
    let least =
        ledgers.iter().map(|ledger| ledger.clock + 1).chain([before.clock]).max().unwrap_or(0).saturating_sub(1);
    let (clock, sources, warehouses) = if flags.read {
        let now = WallClock.now();
        (now.max(least), open::open_sources(&new, None, now)?, open::open_warehouses(&new)?)
    } else {
        (least, Vec::new(), new.plan.models.iter().map(|_| None).collect())
    };
    let opened = OpenedJob {
        recovery: Some(Recovery {
            purpose: if flags.read { Purpose::Foresee } else { Purpose::ForeseeByState },
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
        workers: flags.workers,
        plan: new.plan,
    };
    let mut difference = run(opened)?;
    if !flags.read {
        // The ledgers of a job that runs are ahead of its checkpoint: what an audience whose definition stays would then do is no
        // part of the edit.
        difference.audiences.retain(|of| {
            let has_members = members.contains_key(&(of.sync.clone(), of.audience.clone()));
            let is_kept = unchanged.contains(&of.audience) && has_members && !new_syncs.contains(&of.sync);
            !unknown.contains(&of.audience) && !is_kept
        });
    }
    Ok(Foreseen { difference, members, unknown, conditions, read: flags.read })
}

/// Runs a job until it is known what its start sends.
fn run(opened: OpenedJob) -> Result<StartDifference, Exit> {
    let audiences = opened.plan.models.iter().map(|model| model.audiences.len()).sum();
    let status = Status::new(opened.workers, audiences);
    let job = {
        let status = Arc::clone(&status);
        std::thread::Builder::new().name("job".to_owned()).spawn(move || usher_dataflow::run(opened, &status))
    };
    let job = job.expect("the system can start a thread");
    let mut difference = None;
    while !job.is_finished() && difference.is_none() {
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

/// Returns the audiences whose definition stays.
fn unchanged(before: &Before<'_>, plan: &Plan) -> BTreeSet<String> {
    let audiences = plan.models.iter().flat_map(|model| &model.audiences);
    let same = audiences.filter(|audience| before.audiences.get(&audience.id) == Some(&audience.fingerprint));
    same.map(|audience| audience.id.clone()).collect()
}

/// Returns a sentence for each audience of which more members would leave than allowed, or of which that is unknown.
fn exceeded(foreseen: Option<&Foreseen>, most: Share) -> Vec<String> {
    let Some(Foreseen { difference, members, unknown, .. }) = foreseen else {
        return vec![
            "how many members would leave is unknown without the state of the job that runs: give `--state`".to_owned(),
        ];
    };
    let mut exceeded: Vec<String> = members
        .keys()
        .filter(|(_, audience)| unknown.contains(audience))
        .map(|(sync, audience)| {
            format!("sync `{sync}`, audience `{audience}`: how many members would leave is unknown without `--read`")
        })
        .collect();
    for AudienceDifference { sync, audience, exits, .. } in &difference.audiences {
        let members = members.get(&(sync.clone(), audience.clone())).copied().unwrap_or(0);
        if members > 0 && most.is_exceeded(*exits, members) {
            exceeded.push(format!("sync `{sync}`, audience `{audience}`: {exits} of {members} members would leave"));
        }
    }
    exceeded
}

impl Foreseen {
    /// Returns the condition that decides a sample, as in the job file.
    fn condition(&self, audience: &str, sample: &StartSample) -> Option<String> {
        let Some(written) = self.conditions.get(audience) else { return Some("the audience is gone".to_owned()) };
        let text = |decided| text_of(written, decided).map(str::to_owned);
        match sample.condition? {
            Deciding::Fact(fact) => text(Decided::Fact(fact)).or_else(|| Some("in the snapshot".to_owned())),
            Deciding::Audience(audience) => text(Decided::Audience(audience)),
        }
    }
}

fn as_json(edit: &Edit, foreseen: Option<&Foreseen>, exceeded: Option<&[String]>) -> Value {
    let mut out = serde_json::to_value(edit).expect("plain data");
    let state = foreseen.map(|foreseen| {
        let audiences = foreseen.difference.audiences.iter().map(|of| {
            let AudienceDifference { sync, audience, entries, exits, samples } = of;
            let samples = samples.iter().map(|sample| {
                json!({
                    "key": sample.key,
                    "type": if sample.enters { "entry" } else { "exit" },
                    "reason": sample.reason.name(),
                    "condition": foreseen.condition(audience, sample),
                })
            });
            let members = foreseen.members.get(&(sync.clone(), audience.clone())).copied().unwrap_or(0);
            json!({"sync": sync, "audience": audience, "members": members, "entries": entries, "exits": exits,
                "samples": samples.collect::<Vec<_>>()})
        });
        json!({"as_of": rfc3339(foreseen.difference.at), "read": foreseen.read,
            "differences": audiences.collect::<Vec<_>>(), "to_be_filled": foreseen.unknown})
    });
    out["state"] = json!(state);
    if let Some(exceeded) = exceeded {
        out["exceeded"] = json!(exceeded);
    }
    out
}

fn as_text(edit: &Edit, foreseen: Option<&Foreseen>) -> String {
    let mut out = edit_text(edit);
    if out.is_empty() {
        out.push_str("no definition differs\n");
    }
    let Some(foreseen) = foreseen else { return out };
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a string can be written");
    let how = if foreseen.read { "sources and models were read" } else { "by the last checkpoint" };
    line(format_args!("a start at {} would send ({how}):", rfc3339(foreseen.difference.at)));
    for of in &foreseen.difference.audiences {
        let AudienceDifference { sync, audience, entries, exits, samples } = of;
        let members = foreseen.members.get(&(sync.clone(), audience.clone())).copied().unwrap_or(0);
        line(format_args!("  {sync}: {audience}: {entries} enter, {exits} leave, of {members} members"));
        for sample in samples {
            let does = if sample.enters { "enters" } else { "leaves" };
            let condition = foreseen.condition(audience, sample).map_or(String::new(), |text| format!(": {text}"));
            line(format_args!("    {} {does} ({}){condition}", sample.key, sample.reason.name()));
        }
    }
    if foreseen.difference.audiences.is_empty() {
        line(format_args!("  nothing"));
    }
    if !foreseen.unknown.is_empty() {
        let unknown: Vec<&str> = foreseen.unknown.iter().map(String::as_str).collect();
        line(format_args!("to be filled, not counted without --read: {}", unknown.join(", ")));
    }
    out
}

/// Returns what an edit changes as text; empty if nothing.
fn edit_text(edit: &Edit) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a string can be written");
    for audience in &edit.audiences {
        let id = &audience.id;
        match &audience.change {
            AudienceChange::Added { same_conditions_as } => {
                line(format_args!("audience {id}: added{}", same(same_conditions_as)));
            }
            AudienceChange::Removed { same_conditions_as } => {
                line(format_args!("audience {id}: removed{}", same(same_conditions_as)));
            }
            AudienceChange::Changed { removed_conditions, added_conditions } => {
                line(format_args!("audience {id}: changed"));
                removed_conditions.iter().for_each(|condition| line(format_args!("  - {condition}")));
                added_conditions.iter().for_each(|condition| line(format_args!("  + {condition}")));
            }
            AudienceChange::Renamed { from, to } => {
                line(format_args!("audience {id}: renamed from `{from}` to `{to}`"))
            }
        }
    }
    let sections = [("event", &edit.events), ("sync", &edit.syncs)];
    for (section, NamedEdit { id, change }) in
        sections.iter().flat_map(|(of, edits)| edits.iter().map(move |edit| (of, edit)))
    {
        match change {
            NamedChange::Added => line(format_args!("{section} {id}: added")),
            NamedChange::Removed => line(format_args!("{section} {id}: removed")),
            NamedChange::Changed { keys } => line(format_args!("{section} {id}: changed: {}", keys.join(", "))),
            NamedChange::Renamed { from, to } => line(format_args!("{section} {id}: renamed from `{from}` to `{to}`")),
        }
    }
    for window in &edit.filled {
        line(format_args!(
            "window of {} to be filled: {} ({})",
            window.within,
            window.condition,
            window.audiences.join(", ")
        ));
        window.from.iter().for_each(|from| line(format_args!("  from {from}")));
    }
    out
}

fn same(as_others: &[String]) -> String {
    let others: Vec<String> = as_others.iter().map(|id| format!("`{id}`")).collect();
    if others.is_empty() { String::new() } else { format!(", same conditions as {}", others.join(", ")) }
}
