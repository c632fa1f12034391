//! From messages to hits.
//!
//! Computes for each message of one source which events of the job it is, whose, when, and which of their conditions'
//! filters it passes. Promises: every message is counted once, as matched, skipped or a dead letter; bad input is told
//! with its reason and stops nothing. Holds the clock of each partition under replay.
//!
//! Of a message that is two events the best outcome counts: matched, else dead, else without a key.

use crate::hits::{Event, Hits, hash_id, hash_key, hash_position, owner};
use crate::time::Time;
use std::collections::HashMap;
use usher_config::{Found, Limits, Path};
use usher_core::counts::{Counts, Skip};
use usher_core::dead_letters::{DeadLetter, DeadLetterReason, DeadLetters};
use usher_core::sink::SinkError;
use usher_core::source::{Body, PartitionId, Record};
use usher_formats::{Decoder, Fields, TimeError, time_of};
use usher_queries::Value;
use usher_queries::coerce::coerce;
use usher_queries::plan::Plan;
use usher_queries::predicate::Evaluator;

/// The longest key, bytes (SPEC §3).
const KEY_BYTES: usize = 1_024;

struct EventMatch {
    /// Index in `Plan::events`.
    event: u16,
    kind: Option<String>,
    /// Where its key and time are among the decoder's paths; none: the format's.
    key: Option<usize>,
    time: Option<usize>,
    columns: Vec<(usize, usher_config::ColumnType)>,
    filters: Vec<FilterMatch>,
    /// Words of 64 facts.
    blocks: usize,
}

struct FilterMatch {
    predicate: Option<(Evaluator, Vec<usize>)>,
    /// The facts that count what passes, as bits.
    facts: Vec<u64>,
}

/// What is asked of the messages of one source.
pub(crate) struct Messages {
    decoder: Decoder,
    /// By id.
    events: Vec<EventMatch>,
    by_name: HashMap<String, Vec<usize>>,
    of_any_name: Vec<usize>,
    future_skew: Time,
}

/// Where a message stands, and the clock it comes to.
pub(crate) struct Arrived<'a> {
    pub(crate) id: &'a PartitionId,
    /// [`crate::hits::hash_partition`] of it.
    pub(crate) seed: u64,
    /// Beyond this plus the skew a time is of the future.
    pub(crate) now: Time,
    /// The partition's clock under replay, or the job's.
    pub(crate) clock: Clock<'a>,
}

/// What moves time on.
pub(crate) enum Clock<'a> {
    /// The greatest timestamp of the partition so far, moved by its messages, but not beyond a time.
    Partition(&'a mut PartitionClock, Time),
    /// The job's.
    Job(Time),
}

/// The timestamps of a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PartitionClock {
    pub(crate) first: Option<Time>,
    pub(crate) greatest: Option<Time>,
}

/// What became of a message as one event.
#[derive(Clone, Copy)]
enum Outcome {
    Hit(Time),
    NoKey,
    Dead(DeadLetterReason, &'static str),
}

/// What is used again from message to message, so that reading one allocates nothing.
#[derive(Default)]
pub(crate) struct Scratch<'a> {
    /// Indexes of the events that a message is.
    matching: Vec<usize>,
    outcomes: Vec<Outcome>,
    values: Vec<Value<'a>>,
    row: Vec<Value<'a>>,
    facts: Vec<u64>,
}

/// Where what is found goes.
pub(crate) struct Output<'a> {
    /// Per worker.
    pub(crate) hits: &'a mut [Hits],
    pub(crate) counts: &'a mut Counts,
    pub(crate) dead_letters: &'a dyn DeadLetters,
}

impl Messages {
    pub(crate) fn new(plan: &Plan, source: &str) -> Messages {
        let mut paths: Vec<Path> = Vec::new();
        let mut path = |path: &Path| match paths.iter().position(|p| p == path) {
            Some(at) => at,
            None => {
                paths.push(path.clone());
                paths.len() - 1
            }
        };
        let mut events = Vec::new();
        let (mut by_name, mut of_any_name): (HashMap<String, Vec<usize>>, _) = (HashMap::new(), Vec::new());
        for (number, event) in plan.events.iter().enumerate().filter(|(_, event)| event.source == source) {
            match &event.name {
                Some(name) => by_name.entry(name.clone()).or_default().push(events.len()),
                None => of_any_name.push(events.len()),
            }
            let filters = event.filters.iter().map(|filter| {
                let mut facts = vec![0u64; event.facts.len().div_ceil(64)];
                filter.facts.iter().for_each(|fact| facts[*fact as usize / 64] |= 1 << (fact % 64));
                let predicate = filter.predicate.as_ref().map(|predicate| {
                    let at = |name: &str| event.columns.iter().position(|column| column.name == name);
                    let columns = predicate
                        .columns
                        .iter()
                        .map(|(name, _)| at(name).expect("an event reads what its filters need"));
                    (Evaluator::new(predicate), columns.collect())
                });
                FilterMatch { predicate, facts }
            });
            events.push(EventMatch {
                event: u16::try_from(number).expect("more than 65,536 events in one job"),
                kind: event.kind.clone(),
                key: event.foreign_key.as_ref().map(&mut path),
                time: event.timestamp.as_ref().map(&mut path),
                columns: event.columns.iter().map(|column| (path(&column.path), column.column_type)).collect(),
                filters: filters.collect(),
                blocks: event.facts.len().div_ceil(64),
            });
        }
        let Limits { future_skew, .. } = plan.job.limits;
        let decoder = Decoder::of(&plan.job.sources[source], &paths);
        Messages { decoder, events, by_name, of_any_name, future_skew }
    }

    /// Reads one record.
    ///
    /// # Errors
    /// Dead letters can't be written.
    pub(crate) fn read<'a>(
        &self,
        record: Record<'a>,
        at: &mut Arrived<'_>,
        fields: &mut Fields<'a>,
        scratch: &mut Scratch<'a>,
        out: &mut Output<'_>,
    ) -> Result<(), SinkError> {
        out.counts.read += 1;
        let message = match record.body {
            Body::Bytes(bytes) => bytes,
            Body::Blank => {
                out.counts.skip(Skip::Blank);
                return Ok(());
            }
            Body::TooLarge { head, length } => {
                return bury(&record, at, DeadLetterReason::TooLarge, "", head, length, out);
            }
        };
        let length = message.len() as u64;
        if let Err(malformed) = self.decoder.decode(message, record.headers, fields) {
            return bury(&record, at, DeadLetterReason::Malformed, &malformed.to_string(), message, length, out);
        }
        self.find_matching(fields, &mut scratch.matching);
        if scratch.matching.is_empty() {
            if let Ok(time) = fields.time(record.timestamp)
                && !self.of_the_future(time, at)
            {
                at.clock.passes(time);
            }
            out.counts.skip(Skip::Unmatched);
            return Ok(());
        }
        // First what it is as every event: each may move the clock at which all take effect.
        scratch.outcomes.clear();
        for event in &scratch.matching {
            scratch.outcomes.push(self.outcome(&self.events[*event], fields, &record, at));
        }
        let mut dead = None;
        let mut matched = false;
        for i in 0..scratch.matching.len() {
            match scratch.outcomes[i] {
                Outcome::Hit(timestamp) => {
                    matched = true;
                    let event = &self.events[scratch.matching[i]];
                    self.hit(event, timestamp, fields, scratch, &record, at, out);
                }
                Outcome::NoKey => {}
                Outcome::Dead(reason, detail) => dead = dead.or(Some((reason, detail))),
            }
        }
        match dead {
            _ if matched => out.counts.matched += 1,
            Some((reason, detail)) => return bury(&record, at, reason, detail, message, length, out),
            None => out.counts.skip(Skip::NoKey),
        }
        Ok(())
    }

    /// Finds the events that a message is, in order of their ids.
    fn find_matching(&self, fields: &Fields<'_>, matching: &mut Vec<usize>) {
        let kind = text(fields.kind());
        let named = text(fields.name()).and_then(|name| self.by_name.get(name));
        let of_kind = |event: &&usize| self.events[**event].kind.as_deref().is_none_or(|wanted| Some(wanted) == kind);
        matching.clear();
        matching.extend(named.into_iter().flatten().chain(&self.of_any_name).filter(of_kind));
        matching.sort_unstable();
    }

    /// What the message is as one event. Its time moves the clock whatever else is wrong with it.
    fn outcome(&self, event: &EventMatch, fields: &Fields<'_>, record: &Record<'_>, at: &mut Arrived<'_>) -> Outcome {
        let time = match event.time {
            Some(path) => time_of(fields.get(path)),
            None => fields.time(record.timestamp),
        };
        let of_the_future = time.as_ref().is_ok_and(|time| self.of_the_future(*time, at));
        if let Ok(time) = time
            && !of_the_future
        {
            at.clock.passes(time);
        }
        match key(event.key.map_or(fields.key(), |path| fields.get(path))) {
            Ok(Some(_)) => {}
            Ok(None) => return Outcome::NoKey,
            Err(detail) => return Outcome::Dead(DeadLetterReason::BadKey, detail),
        }
        match time {
            Ok(_) if of_the_future => Outcome::Dead(DeadLetterReason::FutureTimestamp, ""),
            Ok(time) => Outcome::Hit(time),
            Err(TimeError::Missing) => Outcome::Dead(DeadLetterReason::NoTimestamp, ""),
            Err(TimeError::Unreadable) => Outcome::Dead(DeadLetterReason::BadTimestamp, ""),
        }
    }

    fn of_the_future(&self, time: Time, at: &Arrived<'_>) -> bool {
        time > at.now.saturating_add(self.future_skew)
    }

    /// Sends the event to its key's worker, where some filter lets it through.
    #[allow(clippy::too_many_arguments)]
    fn hit<'a>(
        &self,
        event: &EventMatch,
        timestamp: Time,
        fields: &Fields<'a>,
        scratch: &mut Scratch<'a>,
        record: &Record<'_>,
        at: &Arrived<'_>,
        out: &mut Output<'_>,
    ) {
        let Scratch { values, row, facts, .. } = scratch;
        values.clear();
        for (path, column_type) in &event.columns {
            let coerced = coerce(fields.get(*path), *column_type);
            out.counts.mismatches += u64::from(coerced.mismatch);
            values.push(coerced.value);
        }
        facts.clear();
        facts.resize(event.blocks, 0);
        for filter in &event.filters {
            let passes = filter.predicate.as_ref().is_none_or(|(evaluator, columns)| {
                row.clear();
                row.extend(columns.iter().map(|column| values[*column].clone()));
                evaluator.holds(row, 0)
            });
            if passes {
                facts.iter_mut().zip(&filter.facts).for_each(|(all, these)| *all |= these);
            }
        }
        if facts.iter().all(|block| *block == 0) {
            return;
        }
        let id = match fields.id() {
            Found::Text(id) if !id.is_empty() => hash_id(id),
            Found::Number(id) => hash_id(id),
            _ => hash_position(at.seed, record.position),
        };
        let Ok(Some(key)) = key(event.key.map_or(fields.key(), |path| fields.get(path))) else {
            panic!("an event without a key was taken for a hit");
        };
        let found = Event {
            at: at.clock.takes_effect(timestamp),
            timestamp,
            position: record.position,
            id,
            key_hash: hash_key(key),
            event: event.event,
        };
        let worker = owner(found.key_hash, out.hits.len() as u32) as usize;
        out.hits[worker].push(&found, key, facts);
    }
}

/// The text at a path, if it is one.
fn text<'a>(found: &'a Found<'_>) -> Option<&'a str> {
    match found {
        Found::Text(text) => Some(text),
        _ => None,
    }
}

/// Counts a bad message and writes it to the dead letters.
fn bury(
    record: &Record<'_>,
    at: &Arrived<'_>,
    reason: DeadLetterReason,
    detail: &str,
    raw: &[u8],
    length: u64,
    out: &mut Output<'_>,
) -> Result<(), SinkError> {
    out.counts.dead(reason);
    out.dead_letters.write(&DeadLetter { partition: at.id, position: record.position, reason, detail, raw, length })
}

impl Clock<'_> {
    fn passes(&mut self, time: Time) {
        if let Clock::Partition(clock, limit) = self {
            clock.first = clock.first.or(Some(time));
            clock.greatest = clock.greatest.max(Some(time.min(*limit)));
        }
    }

    /// When an event that comes now takes effect.
    fn takes_effect(&self, timestamp: Time) -> Time {
        match self {
            Clock::Partition(clock, _) => timestamp.max(clock.greatest.expect("the event's own time has passed")),
            Clock::Job(clock) => timestamp.max(*clock),
        }
    }
}

/// A key as SPEC §3 reads it: none for anonymous traffic, an error for what can't be one.
fn key<'a>(found: &'a Found<'_>) -> Result<Option<&'a str>, &'static str> {
    match found {
        Found::Nothing => Ok(None),
        Found::Text(key) if key.is_empty() => Ok(None),
        Found::Text(key) if key.len() > KEY_BYTES => Err("the key is longer than 1,024 bytes"),
        Found::Text(key) => Ok(Some(key)),
        Found::Number("-0") => Ok(Some("0")),
        Found::Number(key) if key.len() > KEY_BYTES => Err("the key is longer than 1,024 bytes"),
        Found::Number(key) if key.bytes().all(|b| b.is_ascii_digit() || b == b'-') => Ok(Some(key)),
        Found::Number(_) => Err("the key is a number but no integer"),
        Found::Boolean(_) => Err("the key is a boolean"),
        Found::Compound(_) => Err("the key is an object or a list"),
        Found::NotUtf8 => Err("the key is not UTF-8"),
    }
}
