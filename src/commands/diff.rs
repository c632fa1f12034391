//! `usher diff`: what an edit of a job does, before it is made.
//!
//! With a state, or the API of the job that runs, it also prints what a start would send. Refuses `--read` without either.

use super::print;
use crate::client::{Client, Connection};
use crate::exit::Exit;
use crate::foresee::{How, foresee, read_state};
use crate::open::load;
use crate::terminal::print_stderr;
use std::fmt::Write;
use std::path::Path;
use usher_config::Share;
use usher_core::edit::{AudienceChange, Edit, EditReport, NamedChange, NamedEdit, StartOfAudience, StartReport};
use usher_queries::diff::{Before, compare};
use usher_queries::plan::Plan;
use usher_queries::plan_file;

/// The flags of `diff`.
pub struct Flags {
    pub state: Option<String>,
    /// The API of the job that runs.
    pub api: Option<Connection>,
    pub read: bool,
    pub json: bool,
    pub max_exits: Option<Share>,
    pub workers: usize,
}

/// Prints what an edit does.
pub fn diff(old: Option<&Path>, new: &Path, flags: &Flags) -> Result<(), Exit> {
    let report = match &flags.api {
        Some(api) => ask(api, old, new, flags.read)?,
        None => work_out(old, new, flags)?,
    };
    let exceeded = flags.max_exits.map(|most| exceeded(report.state.as_ref(), most));
    let text = match flags.json {
        true => {
            let mut out = serde_json::to_value(&report).expect("plain data");
            if let Some(exceeded) = &exceeded {
                out["exceeded"] = exceeded.clone().into();
            }
            format!("{out:#}\n")
        }
        false => as_text(&report),
    };
    print(&text)?;
    match exceeded {
        Some(exceeded) if !exceeded.is_empty() => Err(Exit::failed(exceeded.join("\n"))),
        _ => Ok(()),
    }
}

/// Asks the job that runs what a start of `new` would send; with `old` the definitions are compared with that job's.
fn ask(api: &Connection, old: Option<&Path>, new: &Path, read: bool) -> Result<EditReport, Exit> {
    let old = old.map(load).transpose()?;
    let new = load(new)?;
    let mut report = Client::new(api)?.diff(plan_file::encode(&new.plan), read)?;
    if let Some(old) = old {
        report.edit = compare(&Before::of_plan(&old.plan), &new.plan);
    }
    Ok(report)
}

/// Works it out here.
fn work_out(old: Option<&Path>, new: &Path, flags: &Flags) -> Result<EditReport, Exit> {
    let old = old.map(load).transpose()?;
    let new = load(new)?;
    if flags.read && old.is_some() && flags.state.is_none() {
        return Err(Exit::wrong("`--read` needs the state of the job that runs")
            .hint("give its url with `--state`, or the url of its API with `--url`".to_owned()));
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
    let how = How { read: flags.read, workers: flags.workers, is_cancelled: &|| false };
    let state = state.map(|state| foresee(&new, flags.state.as_deref(), state, &how)).transpose()?;
    Ok(EditReport { edit, state })
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

/// Returns a sentence for each audience of which more members would leave than allowed, or of which that is unknown.
fn exceeded(state: Option<&StartReport>, most: Share) -> Vec<String> {
    let Some(StartReport { differences, to_be_filled, committed, .. }) = state else {
        return vec![
            "how many members would leave is unknown without the state of the job that runs: give `--state`".to_owned(),
        ];
    };
    let unknown = committed.iter().filter(|of| to_be_filled.contains(&of.audience)).map(|of| {
        let (sync, audience) = (&of.sync, &of.audience);
        format!("sync `{sync}`, audience `{audience}`: how many members would leave is unknown without `--read`")
    });
    let too_many = differences.iter().filter(|of| of.members > 0 && most.is_exceeded(of.exits, of.members));
    let too_many = too_many.map(|StartOfAudience { sync, audience, exits, members, .. }| {
        format!("sync `{sync}`, audience `{audience}`: {exits} of {members} members would leave")
    });
    unknown.chain(too_many).collect()
}

fn as_text(report: &EditReport) -> String {
    let mut out = edit_text(&report.edit);
    if out.is_empty() {
        out.push_str("no definition differs\n");
    }
    let Some(state) = &report.state else { return out };
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a string can be written");
    let how = if state.read { "sources and models were read" } else { "by the last checkpoint" };
    line(format_args!("a start at {} would send ({how}):", state.as_of));
    for StartOfAudience { sync, audience, members, entries, exits, samples } in &state.differences {
        line(format_args!("  {sync}: {audience}: {entries} enter, {exits} leave, of {members} members"));
        for sample in samples {
            let does = if sample.kind == "entry" { "enters" } else { "leaves" };
            let condition = sample.condition.as_ref().map_or(String::new(), |text| format!(": {text}"));
            line(format_args!("    {} {does} ({}){condition}", sample.key, sample.reason));
        }
    }
    if state.differences.is_empty() {
        line(format_args!("  nothing"));
    }
    if !state.to_be_filled.is_empty() {
        let unknown: Vec<&str> = state.to_be_filled.iter().map(String::as_str).collect();
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
