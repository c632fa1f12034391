//! Advice in the log, once for a source or an event: why nearly nothing of it matches, and what to set.
//!
//! [`Advisor::look`] is called now and then while a job reads, and at its end. Of a source nearly all of whose messages match nothing,
//! or are refused for one reason, it says what they look like; of an event that has matched nothing, though its source has brought
//! many messages, which names came near; of an event nearly all of whose keys have no row, where its key is set.

use crate::ingest::seen::Seen;
use crate::state::event_counts::EventCounts;
use crate::status::Status;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use usher_config::{Encoding, Members, SchemaKind, Source};
use usher_core::api::UnmatchedName;
use usher_core::counts::{Counts, Skip};
use usher_core::dead_letters::DeadLetterReason;
use usher_core::suggest::nearest;
use usher_formats::Look;
use usher_queries::plan::{EventPlan, Plan};

/// Messages of a source that are read before it is looked at while the job runs.
pub(crate) const LOOK_AFTER: u64 = 1_000;
/// Of so many messages all but one match nothing, or are refused for one reason: nearly all do.
const NEARLY_ALL: u64 = 20;
/// Messages of a source without one of an event before that is said.
const EVENT_AFTER: u64 = 2_000;
/// Messages of an event whose keys are looked up before it is said that they have no rows.
const KEYS_AFTER: u64 = 20;
/// The names that a line lists.
const NAMES: usize = 5;

/// Advises on the sources of a job.
pub(crate) struct Advisor {
    plan: Arc<Plan>,
    /// In order.
    sources: Vec<String>,
    /// What has been said, by source and by event of the plan.
    sources_said: Vec<AtomicBool>,
    events_said: Vec<AtomicBool>,
}

impl Advisor {
    /// Returns the advisor of a job whose sources are in order of their ids.
    pub(crate) fn new(plan: &Arc<Plan>, sources: &[String]) -> Advisor {
        let unsaid = |count| (0..count).map(|_| AtomicBool::new(false)).collect();
        Advisor {
            plan: Arc::clone(plan),
            sources: sources.to_vec(),
            sources_said: unsaid(sources.len()),
            events_said: unsaid(plan.events.len()),
        }
    }

    /// Looks at all sources that have brought at least so many messages, and logs what has not been said.
    pub(crate) fn look(&self, status: &Status, at_least: u64) {
        let (counts, seen) = (status.messages(), status.seen());
        for (index, id) in self.sources.iter().enumerate() {
            let (Some(counts), Some(seen)) = (counts.get(index), seen.get(index)) else { continue };
            if counts.read < at_least || counts.read == 0 {
                continue;
            }
            if let Some(advice) = of_source(&self.plan, id, counts, seen)
                && !self.sources_said[index].swap(true, Ordering::Relaxed)
            {
                tracing::warn!(source = %id, "{advice}");
                continue;
            }
            for (number, event) in self.plan.events.iter().enumerate().filter(|(_, event)| event.sources.contains(id)) {
                if let Some(advice) = of_event(number, event, counts, seen)
                    && !self.sources_said[index].load(Ordering::Relaxed)
                    && !self.events_said[number].swap(true, Ordering::Relaxed)
                {
                    tracing::warn!(source = %id, event = %event.id, "{advice}");
                }
            }
        }
        for (number, (event, counts)) in self.plan.events.iter().zip(status.event_counts()).enumerate() {
            if let Some(advice) = of_keys(&self.plan, event, &counts, at_least.min(KEYS_AFTER))
                && !self.events_said[number].swap(true, Ordering::Relaxed)
            {
                tracing::warn!(event = %event.id, "{advice}");
            }
        }
    }
}

/// Returns the names that came near to those of an event of the job: they differ by case or a letter.
pub(crate) fn near(event: &EventPlan, names: &[UnmatchedName]) -> Vec<String> {
    let of_kind = names.iter().filter(|name| event.kind.is_none() || name.kind == event.kind);
    let near = of_kind.filter_map(|name| {
        let name = name.name.as_deref()?;
        nearest(name, event.names.iter().map(String::as_str)).map(|_| name.to_owned())
    });
    let mut near: Vec<String> = near.take(NAMES).collect();
    if let Some(kind) = &event.kind {
        let kinds = names.iter().filter_map(|name| name.kind.as_deref()).filter(|other| *other != kind);
        near.extend(kinds.filter(|other| nearest(other, [kind.as_str()]).is_some()).map(str::to_owned).take(1));
    }
    near.dedup();
    near
}

/// Returns what to say of a source.
fn of_source(plan: &Plan, id: &str, counts: &Counts, seen: &Seen) -> Option<String> {
    let nearly_all = |count: u64| count > 0 && (counts.read - count) * NEARLY_ALL <= counts.read;
    let source = &plan.job.sources[id];
    let unmatched = counts.skipped(Skip::Unmatched);
    if nearly_all(unmatched) {
        return of_unmatched(plan, id, source, (unmatched, counts.read), seen);
    }
    let no_key = counts.skipped(Skip::NoKey);
    // Where some have a key, those without are anonymous traffic.
    if counts.matched == 0 && nearly_all(no_key) {
        let of_key = || "set `foreign_key` of the events to where the key of the model is".to_owned();
        let hint = seen.first_keyless().and_then(|look| unwrap_hint(look, source)).unwrap_or_else(of_key);
        return Some(format!("{no_key} of {} messages have no key\n  hint: {hint}", counts.read));
    }
    let reason = DeadLetterReason::ALL.into_iter().find(|reason| nearly_all(counts.dead_letters(*reason)))?;
    let refused = seen.first_refused(reason)?;
    let look = &refused.look;
    let count = (counts.dead_letters(reason), counts.read);
    let detail = if refused.detail.is_empty() { String::new() } else { format!(" ({})", refused.detail) };
    let what = format!("{} of {} messages are refused as {}{detail}", count.0, count.1, reason.name());
    if reason == DeadLetterReason::Malformed
        && let Some(hint) = other_envelope_hint(look, source)
    {
        return Some(format!("{what}: {look}\n  hint: {hint}"));
    }
    if let Some(hint) = unwrap_hint(look, source) {
        return Some(format!("{what}: {look}\n  hint: {hint}"));
    }
    Some(match reason {
        DeadLetterReason::Malformed if matches!(source.encoding, Encoding::Registered { .. }) => {
            format!(
                "{what}\n  hint: set `encoding` of the source to that of the schemas; what names no schema has none here"
            )
        }
        DeadLetterReason::Malformed if source.encoding != Encoding::Json => {
            format!("{what}\n  hint: set `schema` of the source to the one that writes its messages")
        }
        DeadLetterReason::Malformed => format!("{what}: {look}\n  hint: {}", hint(look, source)),
        DeadLetterReason::NoTimestamp => {
            format!("{what}\n  hint: set `timestamp` of the events, or `time` of the format, to where the time is")
        }
        DeadLetterReason::BadTimestamp => {
            format!("{what}\n  hint: set `timestamp` of the events to a path of RFC 3339 or Unix time")
        }
        DeadLetterReason::FutureTimestamp => {
            format!("{what}\n  hint: set the clocks right, or raise `limits.future_skew`")
        }
        DeadLetterReason::BadKey => {
            format!("{what}\n  hint: set `foreign_key` of the events to a string or an integer")
        }
        DeadLetterReason::TooLarge => format!("{what}\n  hint: raise `limits.message_bytes`"),
        DeadLetterReason::UnknownSchema => {
            format!("{what}\n  hint: set `registry.url` of the source to the registry of those who write its messages")
        }
    })
}

/// Returns what to say of a source nearly all of whose messages match no event.
fn of_unmatched(plan: &Plan, id: &str, source: &Source, (count, read): (u64, u64), seen: &Seen) -> Option<String> {
    let look = seen.sample()?;
    let what = format!("{count} of {read} messages match no event of the job");
    let names = seen.names();
    let is_text = match &source.encoding {
        Encoding::Json => true,
        Encoding::Registered { kind, .. } => *kind == SchemaKind::JsonSchema,
        Encoding::Avro(_) | Encoding::Protobuf { .. } => false,
    };
    if is_text && (!look.is_of(&source.format) || names.is_empty()) {
        return Some(format!("{what}: {look}\n  hint: {}", hint(look, source)));
    }
    if names.is_empty() {
        return Some(format!("{what}\n  hint: set `type` and `name` of the format to where they are in the schema"));
    }
    let mut events =
        plan.events.iter().enumerate().filter(|(_, event)| event.sources.iter().any(|source| source == id));
    if events.all(|(number, _)| seen.event(number).matched > 0) {
        // The job uses little of what comes.
        return None;
    }
    let shown: Vec<String> = names.iter().take(NAMES).map(shown).collect();
    let events = plan.events.iter().filter(|event| event.sources.iter().any(|source| source == id));
    let near = events.filter_map(|event| near(event, &names).into_iter().next().map(|near| (event, near))).next();
    let hint = match near {
        Some((event, near)) => {
            let names = event.names.iter().map(String::as_str);
            let first = event.names.first().map(String::as_str);
            let wanted = nearest(&near, names).or(first).or(event.kind.as_deref()).unwrap_or_default();
            format!("`{near}` comes near to `{wanted}` of the event `{}`: types and names match exactly", event.id)
        }
        None => "set `type` and `name` of the events to what comes".to_owned(),
    };
    Some(format!("{what}; most frequent are {}\n  hint: {hint}", shown.join(", ")))
}

/// Returns what to say of an event that has matched nothing.
fn of_event(number: usize, event: &EventPlan, counts: &Counts, seen: &Seen) -> Option<String> {
    if counts.read < EVENT_AFTER || seen.event(number).matched > 0 {
        return None;
    }
    let names = seen.names();
    let near = near(event, &names);
    let hint = match (near.first(), &names[..]) {
        (Some(near), _) => format!("`{near}` came: types and names match exactly"),
        (None, []) => "all messages match other events of the job".to_owned(),
        (None, names) => {
            let shown: Vec<String> = names.iter().take(NAMES).map(shown).collect();
            format!("what no event matches is {}", shown.join(", "))
        }
    };
    Some(format!("the event has matched none of {} messages\n  hint: {hint}", counts.read))
}

/// Returns what to say of an event nearly all of whose keys have no row, so that no audience of the model has them.
fn of_keys(plan: &Plan, event: &EventPlan, counts: &EventCounts, at_least: u64) -> Option<String> {
    let EventCounts { looked_up, without_row, .. } = *counts;
    let nearly_all = without_row > 0 && (looked_up - without_row) * NEARLY_ALL <= looked_up;
    let model = &plan.models[event.model as usize];
    if looked_up < at_least || !nearly_all || model.members == Members::Any {
        return None;
    }
    let (id, key) = (&model.id, &plan.job.models[&model.id].key);
    Some(format!(
        "{without_row} of {looked_up} messages have a key that no row of `{id}` has\n  hint: set `foreign_key` of the event to where \
         `{key}` of `{id}` is, or `key` of the model to the column that the messages have"
    ))
}

/// Returns a type and a name with their count.
fn shown(name: &UnmatchedName) -> String {
    let parts: Vec<String> = [&name.kind, &name.name].into_iter().flatten().map(|part| format!("`{part}`")).collect();
    format!("{} ({})", parts.join(" "), name.count)
}

/// Returns what to set for messages that look to be in an envelope that their source does not take off.
fn unwrap_hint(look: &Look, source: &Source) -> Option<String> {
    // Bytes of other encodings look like an envelope by chance only.
    let is_text = source.encoding == Encoding::Json;
    let envelope = look.envelope().filter(|envelope| is_text && !source.unwrap.contains(envelope))?;
    let inside: Vec<&str> = source.unwrap.iter().map(|envelope| envelope.name()).chain([envelope.name()]).collect();
    Some(match &inside[..] {
        [only] => format!("set `unwrap: {only}` of the source"),
        all => format!("set `unwrap: [{}]` of the source", all.join(", ")),
    })
}

/// Returns what to set where messages, or what is in an envelope, are not in an envelope that their source takes off.
fn other_envelope_hint(look: &Look, source: &Source) -> Option<String> {
    let is_text = source.encoding == Encoding::Json && !source.unwrap.is_empty();
    match look {
        _ if !is_text => None,
        Look::Segment(_) | Look::SnowplowTsv | Look::SnowplowJson | Look::Json(_) => {
            Some("leave out `unwrap` of the source, or list what messages come in".to_owned())
        }
        look => look.envelope().map(|envelope| {
            let name = envelope.name();
            format!("`unwrap` of the source lists envelopes, the outermost first: put `{name}` where it comes, and leave out what does not")
        }),
    }
}

/// Returns what to set for messages that look so.
fn hint(look: &Look, source: &Source) -> String {
    if let Some(hint) = unwrap_hint(look, source) {
        return hint;
    }
    let set = |format: &str| format!("set `format: {format}`");
    match look {
        Look::Batch | Look::Debezium | Look::Connect | Look::CloudEvent => {
            "set `type` of the events to what comes, or leave it out".to_owned()
        }
        Look::Segment(_) => "set `format` to `segment`, `rudderstack` or `hightouch`".to_owned(),
        Look::SnowplowTsv => set("snowplow_tsv"),
        Look::SnowplowJson => set("snowplow_json"),
        Look::SnowplowTracker => "read the enriched events, which Snowplow's pipeline makes of them".to_owned(),
        Look::Json(_) => {
            "set `format: {json: {type: PATH, name: PATH, key: PATH, time: PATH, id: PATH, properties: PATH}}`"
                .to_owned()
        }
        Look::Registry => {
            "set `encoding` of the source, and `registry` to that of those who write its messages".to_owned()
        }
        Look::Binary("gzip" | "zstd") => "compress files as a whole, or let Kafka's producers compress".to_owned(),
        Look::Binary(_) | Look::Row(_) | Look::Other => "write each message as one JSON object in UTF-8".to_owned(),
    }
}
