//! `usher peek`: prints what comes in from a source, and which events of a job match it.

use super::counted;
use crate::exit::Exit;
use crate::open::{Loaded, load};
use crate::profile::{Kind, Profile, Texts, guess_format};
use crate::sample::{self, Sample};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use usher_config::{Format, SourceFrom};

/// The job that an id is of where none is given.
const JOB: &str = "job.yaml";

/// Reasons that are printed; in JSON all are.
const REASONS: usize = 5;

/// What is printed.
#[derive(Clone, Copy)]
pub struct Flags {
    /// The most messages that are read.
    pub messages: usize,
    pub json: bool,
}

/// Prints what comes in from a source: of a job, or a path or url.
pub fn peek(job: Option<&Path>, source: &str, flags: Flags) -> Result<(), Exit> {
    let is_place = source.starts_with("kafka://") || Path::new(source).exists();
    let job = job.or_else(|| (!is_place && Path::new(JOB).exists()).then_some(Path::new(JOB)));
    let loaded = job.map(load).transpose()?;
    let known = loaded.as_ref().and_then(|loaded| loaded.plan.job.sources.get(source));
    let (from, folder) = match (&loaded, known) {
        (Some(loaded), Some(known)) => (known.from.clone(), loaded.folder.as_path()),
        (Some(loaded), None) if !is_place => return Err(unknown(loaded, source)),
        _ => (sample::source_of(source)?, Path::new(".")),
    };
    let Sample { messages, broken } = match known {
        Some(known) => sample::read_source(source, known, folder, flags.messages)?,
        None => Sample { messages: sample::read(source, &from, folder, flags.messages)?, ..Sample::default() },
    };
    let mut broken: Vec<(String, u64)> = broken.into_iter().collect();
    broken.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut texts = Texts::default();
    messages.iter().for_each(|message| texts.add(message));
    let format = match known {
        Some(known) => known.format.clone(),
        // What no format reads is shown by its look.
        None => guess_format(&messages, &texts).unwrap_or(Format::Segment),
    };
    let mut profile = Profile::default();
    messages.iter().for_each(|message| profile.add(message, &format));
    let events = |kind: &Kind| match (&loaded, known) {
        (Some(loaded), Some(_)) => matching(loaded, source, kind),
        _ => Vec::new(),
    };
    if flags.json {
        return super::print(&format!("{}\n", as_json(&profile, &broken, &events)));
    }
    super::print(&as_text((source, &from), &profile, &broken, known.is_some(), &events))
}

fn unknown(loaded: &Loaded, source: &str) -> Exit {
    let ids = || loaded.plan.job.sources.keys().map(String::as_str);
    let hint = match usher_config::nearest(source, ids()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => usher_config::some_of(ids()).map(|ids| format!("sources of the job: {ids}")),
    };
    Exit::wrong(format_args!("`{source}` is no source of the job and no file")).hint(hint)
}

/// Returns the events of a source that match a type and a name; their `where` is not evaluated.
fn matching<'a>(loaded: &'a Loaded, source: &str, of: &Kind) -> Vec<&'a str> {
    let matches = |event: &&usher_queries::plan::EventPlan| {
        event.sources.iter().any(|id| id == source)
            && event.kind.as_ref().is_none_or(|kind| Some(kind) == of.kind.as_ref())
            && (event.names.is_empty() || of.name.as_ref().is_some_and(|name| event.names.contains(name)))
    };
    loaded.plan.events.iter().filter(matches).map(|event| event.id.as_str()).collect()
}

fn as_json<'a>(profile: &Profile, broken: &[(String, u64)], events: &dyn Fn(&Kind) -> Vec<&'a str>) -> Value {
    let broken: Vec<Value> =
        broken.iter().map(|(reason, count)| json!({"reason": reason, "messages": count})).collect();
    let looks: Vec<Value> =
        profile.look().into_iter().map(|(look, count)| json!({"look": look, "messages": count})).collect();
    let kinds = profile.most_frequent().into_iter().map(|(kind, group)| {
        let paths = group.paths.iter().map(|(path, values)| {
            json!({"path": path, "messages": values.count, "types": values.types, "samples": values.samples})
        });
        json!({
            "type": kind.kind, "name": kind.name, "messages": group.messages, "events": events(kind),
            "paths": paths.collect::<Vec<_>>(),
        })
    });
    json!({
        "messages": profile.messages, "unreadable": profile.unreadable, "broken": broken, "looks": looks,
        "kinds": kinds.collect::<Vec<_>>(), "others": profile.others,
    })
}

fn as_text<'a>(
    (source, from): (&str, &SourceFrom),
    profile: &Profile,
    broken: &[(String, u64)],
    has_job: bool,
    events: &dyn Fn(&Kind) -> Vec<&'a str>,
) -> String {
    let place = match from {
        SourceFrom::File { path, .. } => path.clone(),
        SourceFrom::Kafka { topics, .. } => topics.join(", "),
    };
    let mut text =
        format!("{}: {}\n", if place == source { source } else { &place }, counted(profile.messages, "message"));
    for (look, count) in profile.look() {
        writeln!(text, "  {count}: {look}").expect("a string takes text");
    }
    for (reason, count) in broken.iter().take(REASONS) {
        writeln!(text, "  {count} can't be read: {reason}").expect("a string takes text");
    }
    let others: u64 = broken.iter().skip(REASONS).map(|(_, count)| count).sum();
    if others > 0 {
        writeln!(text, "  {others} can't be read for other reasons").expect("a string takes text");
    }
    for (kind, group) in profile.most_frequent() {
        let named: Vec<String> =
            [&kind.kind, &kind.name].into_iter().flatten().map(|part| format!("`{part}`")).collect();
        let named = if named.is_empty() { "without type and name".to_owned() } else { named.join(" ") };
        let matched = match (has_job, &events(kind)[..]) {
            (false, _) => String::new(),
            (true, []) => ": no event of the job".to_owned(),
            (true, events) => format!(": {}", events.join(", ")),
        };
        writeln!(text, "\n{named}, {}{matched}", counted(group.messages, "message")).expect("a string takes text");
        let width = group.paths.keys().map(|path| path.chars().count()).max().unwrap_or(0).min(50);
        for (path, values) in &group.paths {
            let types: Vec<&str> = values.types.iter().copied().collect();
            let (types, samples) = (types.join(" or "), values.samples.join(", "));
            writeln!(text, "  {path:width$}  {types:<9}  {:>6}  {samples}", values.count).expect("a string takes text");
        }
    }
    if profile.others > 0 {
        writeln!(text, "\n{} messages of other types and names", profile.others).expect("a string takes text");
    }
    text
}
