//! Why a pull is not taken, in words.

use crate::operators::snapshots::PullError;
use crate::state::brake::Exits;
use usher_config::Share;
use usher_core::warehouse::FileVersion;
use usher_queries::plan::Plan;

/// Audiences that a message names.
const NAMED: usize = 5;

/// Returns what is wrong with a pull of `model` that read `files`, and what to do.
pub(crate) fn describe(plan: &Plan, model: &str, files: &[FileVersion], error: &PullError) -> (String, Option<String>) {
    let accept = || Some(format!("`usher pull {model} --accept` takes it as it is"));
    match error {
        PullError::Unreadable { reason, hint } => (reason.clone(), hint.clone()),
        PullError::NoDifference => ("it is no difference from the snapshot in force".to_owned(), None),
        PullError::RepeatedKey { key, files: (first, second) } => {
            let path = |file: &u32| files.get(*file as usize).map_or("", |file| &file.path);
            let place = match (path(first), path(second)) {
                (one, other) if one == other => format!("in `{one}`"),
                (one, other) => format!("in `{one}` and in `{other}`"),
            };
            let hint = "a key names one row: remove the repeated row, or the file that is there twice";
            (format!("the key `{key}` comes twice: {place}"), Some(hint.to_owned()))
        }
        PullError::FewRows { rows, least } => (format!("it has {rows} rows, fewer than `min_rows`: {least}"), accept()),
        PullError::Exits { rows, exits, most } => {
            (format!("it has {rows} rows, and by it {}", leaving(plan, exits, *most)), accept())
        }
    }
}

/// Returns how many members of which audiences would leave.
pub(crate) fn leaving(plan: &Plan, exits: &[Exits], most: Share) -> String {
    let audience = |one: &Exits| {
        let audience = &plan.models[one.model as usize].audiences[one.audience as usize];
        format!("{} of the {} members of `{}`", one.leaving, one.members, audience.id)
    };
    let named: Vec<String> = exits.iter().take(NAMED).map(audience).collect();
    let more = match exits.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and of {more} other audiences"),
    };
    format!("{}{more} would leave, more than `max_exits`: {most}", named.join(", "))
}
