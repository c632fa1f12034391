//! Matches messages to the events of the job.
//!
//! Computes for each message of one source which events it is, of which key, at what time, and which filters of their
//! conditions it passes. Promises: every message is counted once, as matched, skipped or a dead letter; a message that can't be
//! used becomes a dead letter with its reason, and stops nothing. Moves the clock of its partition under replay.
//!
//! If a message is two events, the best outcome counts: matched, else a dead letter, else skipped without a key. A value that can't be
//! read makes a dead letter as those events that need it.

use crate::ingest::event_batch::{
    EventBatch, EventHead, MatchedEvent, hash_element, hash_id, hash_key, hash_position, owner,
};
use crate::ingest::seen::Seen;
use crate::time::{TIMESTAMP_MAX, Time};
use hashbrown::HashMap;
use std::borrow::Cow;
use std::sync::Arc;
use usher_config::duration::format as format_duration;
use usher_config::{Aggregate, ColumnType, Found, Limits, Path, SourceFrom};
use usher_core::counts::{Counts, Skip};
use usher_core::dead_letters::{DeadLetter, DeadLetterReason, DeadLetters};
use usher_core::schemas::Schemas;
use usher_core::sink::SinkError;
use usher_core::source::{Body, PartitionId, Record};
use usher_core::time::{Unit, write_time};
use usher_formats::{Content, Decoder, Element, Fields, Malformed, NamedTime, Needed, TimeError, Unwrapped, What};
use usher_queries::aggregate::Contribution;
use usher_queries::coerce::coerce_of_unit;
use usher_queries::plan::{Filter, Plan};
use usher_queries::predicate::{Evaluator, Predicate, PredicateIndex};
use usher_queries::{StoredValue, Value};

/// The longest key, bytes (SPEC §3).
pub(crate) const KEY_BYTES: usize = 1_024;

/// How messages of the source match one event.
struct EventMatch {
    /// Index in `Plan::events`.
    event: u16,
    /// The kind that messages must have, if any.
    kind: Option<String>,
    /// Indexes of its key and time in the decoder's paths, the time's with its path; `None` for the format's own.
    key: Option<usize>,
    time: Option<(usize, String)>,
    /// The columns that its filters read.
    columns: Vec<Column>,
    filters: Vec<FilterMatch>,
    /// Finds among `filters`, by the values of `columns`, those that a message can pass.
    can_pass: PredicateIndex,
    values: Vec<ValueMatch>,
    /// The windows of its facts, ms; 0 where there is no fact.
    windows: Vec<u64>,
    /// The number of its facts, in blocks of 64.
    blocks: usize,
    /// The columns whose values set live columns, as indexes in `columns`.
    traits: Vec<usize>,
    /// What a message must fulfil to set them, and the columns that it reads.
    shared: Option<(Evaluator, Vec<usize>)>,
}

impl EventMatch {
    /// Returns the longest window of the facts that it counts for, ms; 0 if it sets live columns.
    fn longest_window(&self, event: &MatchedEvent) -> u64 {
        if event.sets_traits() {
            return 0;
        }
        let windows = self.windows.iter().skip(usize::from(event.block) * 64).take(64).enumerate();
        windows.filter(|(bit, _)| event.facts >> bit & 1 == 1).map(|(_, window)| *window).max().unwrap_or(0)
    }

    /// Returns what can't be read of what the event needs.
    fn broken(&self, fields: &Fields<'_>) -> Option<Malformed> {
        let key = self.key.map_or(Needed::Key, Needed::Path);
        let time = self.time.as_ref().map_or(Needed::Time, |(path, _)| Needed::Path(*path));
        let columns = self.columns.iter().map(|column| Needed::Path(column.path));
        fields.broken([key, time, Needed::Id].into_iter().chain(columns))
    }
}

/// A column of an event.
struct Column {
    /// Index in the decoder's paths.
    path: usize,
    column_type: ColumnType,
    unit: Option<Unit>,
}

/// A filter that one or more facts of an event share.
struct FilterMatch {
    /// The predicate, and the columns of the event that it reads; `None` if everything passes.
    predicate: Option<(Evaluator, Vec<usize>)>,
    /// The facts that count what passes, as bits.
    facts: Vec<u64>,
}

/// A value that aggregates take.
struct ValueMatch {
    /// Index in [`EventMatch::columns`].
    column: usize,
    aggregate: Aggregate,
    /// The facts that take it, as bits.
    facts: Vec<u64>,
}

/// Matches the messages of one source.
pub(crate) struct EventMatcher {
    decoder: Decoder,
    /// In order of their ids.
    events: Vec<EventMatch>,
    /// Indexes in `events`.
    by_name: HashMap<String, Vec<usize>>,
    of_any_name: Vec<usize>,
    future_skew: Time,
    positions: Positions,
}

/// What a source's positions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Positions {
    Bytes,
    Messages,
}

/// Where a message is in its partition.
#[derive(Clone, Copy, Debug)]
struct MessagePlace {
    /// Of the record that it is in.
    position: u64,
    /// Where it is in the record's batch, if it is in one.
    element: Option<Element>,
}

/// Elements of one batch of a topic that have an order of arrival each; those behind them have the last one's.
const ORDERED_ELEMENTS: u64 = 1 << 12;
/// Orders of arrival in one partition. Batches of a topic beyond offset 2^36 all have the last one.
const ARRIVALS: u64 = 1 << 48;

/// The partition of a message, and the clock by which it takes effect.
pub(crate) struct MessageContext<'a> {
    /// Of the partition.
    pub(crate) id: &'a PartitionId,
    /// [`crate::ingest::event_batch::hash_partition`] of it.
    pub(crate) seed: u64,
    /// A timestamp that is later than this plus `limits.future_skew` is in the future.
    pub(crate) now: Time,
    /// The partition's clock under replay, or the job's.
    pub(crate) clock: MessageClock<'a>,
}

/// The clock by which events take effect.
pub(crate) enum MessageClock<'a> {
    /// The greatest timestamp of the partition so far: its messages move it, but not beyond a time.
    Partition(&'a mut PartitionClock, Time),
    /// The job's clock.
    Job(Time),
}

/// The timestamps read of a partition; `first` is the first one, not the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionClock {
    pub(crate) first: Option<Time>,
    pub(crate) greatest: Option<Time>,
}

/// What a message is as one event.
enum Outcome {
    /// It matches, with a timestamp.
    Matched(Time),
    NoKey,
    /// It can't be used: the reason, and a detail.
    Dead(DeadLetterReason, Cow<'static, str>),
}

/// Buffers that are reused from message to message, so that reading one allocates nothing.
#[derive(Default)]
pub(crate) struct Scratch<'a> {
    /// Indexes of the events that the message is.
    matching: Vec<usize>,
    outcomes: Vec<Outcome>,
    values: Vec<Value<'a>>,
    row: Vec<Value<'a>>,
    facts: Vec<u64>,
    carried: Vec<i128>,
    /// By column, whether the message has a value or null there.
    says: Vec<bool>,
    traits: Vec<Option<StoredValue>>,
    /// What was added to batches of the message: of which event, for which worker, and where in the batch.
    added: Vec<(usize, usize, usize)>,
}

/// Where events, counts and dead letters go.
pub(crate) struct Output<'a> {
    /// By worker.
    pub(crate) batches: &'a mut [EventBatch],
    pub(crate) counts: &'a mut Counts,
    pub(crate) seen: &'a mut Seen,
    pub(crate) dead_letters: &'a dyn DeadLetters,
}

impl EventMatcher {
    /// Returns the matcher of a source of the plan; `schemas` are those that its messages name.
    pub(crate) fn new(plan: &Plan, source: &str, schemas: Option<Arc<dyn Schemas>>) -> EventMatcher {
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
        for (number, event) in
            plan.events.iter().enumerate().filter(|(_, event)| event.sources.iter().any(|of| of == source))
        {
            if event.names.is_empty() {
                of_any_name.push(events.len());
            }
            for name in &event.names {
                by_name.entry(name.clone()).or_default().push(events.len());
            }
            let bits = |of: &[u32]| {
                let mut facts = vec![0u64; event.facts.len().div_ceil(64)];
                of.iter().for_each(|fact| facts[*fact as usize / 64] |= 1 << (fact % 64));
                facts
            };
            let at = |name: &str| event.columns.iter().position(|column| column.name == name);
            let facts = &plan.models[event.model as usize].facts;
            let window = |fact: u32| facts[fact as usize].kind.window().unwrap_or(0);
            let values = event.values(&plan.models[event.model as usize]).into_iter().map(|value| {
                let name = value.aggregate.column().expect("the count takes no value");
                let column = at(name).expect("an event reads what its aggregates take");
                ValueMatch { column, facts: bits(&value.facts), aggregate: value.aggregate }
            });
            let evaluator = |predicate: &Predicate| {
                let columns =
                    predicate.columns.iter().map(|(name, _)| at(name).expect("an event reads what its filters need"));
                (Evaluator::new(predicate), columns.collect::<Vec<usize>>())
            };
            let filter = |filter: &Filter| FilterMatch {
                predicate: filter.predicate.as_ref().map(evaluator),
                facts: bits(&filter.facts),
            };
            let filters: Vec<FilterMatch> = event.filters.iter().map(filter).collect();
            let predicates =
                filters.iter().map(|filter| filter.predicate.as_ref().map(|(of, columns)| (of, &columns[..])));
            let can_pass = PredicateIndex::new(predicates);
            events.push(EventMatch {
                event: u16::try_from(number).expect("more than 65,536 events in one job"),
                kind: event.kind.clone(),
                key: event.foreign_key.as_ref().map(&mut path),
                time: event.timestamp.as_ref().map(|time| (path(time), time.to_string())),
                columns: event
                    .columns
                    .iter()
                    .map(|column| Column {
                        path: path(&column.path),
                        column_type: column.column_type,
                        unit: column.unit,
                    })
                    .collect(),
                filters,
                can_pass,
                values: values.collect(),
                windows: event.facts.iter().map(|fact| window(*fact)).collect(),
                blocks: event.facts.len().div_ceil(64),
                traits: event.traits.iter().map(|set| set.column as usize).collect(),
                shared: event.shared.as_ref().map(evaluator),
            });
        }
        let Limits { future_skew, .. } = plan.job.limits;
        let decoder = Decoder::of(&plan.job.sources[source], &paths, schemas)
            .unwrap_or_else(|reason| panic!("the schema of `{source}` was read before: {reason}"));
        let positions = match plan.job.sources[source].from {
            SourceFrom::File { .. } => Positions::Bytes,
            SourceFrom::Kafka { .. } => Positions::Messages,
        };
        EventMatcher { decoder, events, by_name, of_any_name, future_skew, positions }
    }

    /// Reads one record: counts its messages, moves the clock, and adds its events to the batches of the keys' owners.
    ///
    /// # Errors
    /// A dead letter can't be written.
    pub(crate) fn read<'a>(
        &self,
        record: Record<'a>,
        context: &mut MessageContext<'_>,
        fields: &mut Fields<'a>,
        scratch: &mut Scratch<'a>,
        out: &mut Output<'_>,
    ) -> Result<(), SinkError> {
        let bytes = match record.body {
            Body::Bytes(bytes) => bytes,
            Body::Blank => {
                out.counts.read += 1;
                out.counts.skip(Skip::Blank);
                return Ok(());
            }
            Body::TooLarge { head, length } => {
                out.counts.read += 1;
                out.seen.refused(DeadLetterReason::TooLarge, "", head);
                let place = MessagePlace { position: record.position, element: None };
                return write_dead_letter(place, context, DeadLetterReason::TooLarge, "", (head, length), out);
            }
        };
        if !self.decoder.has_envelopes() {
            let content = self.decoder.decode(bytes, record.headers, fields);
            let message = Unwrapped { element: None, raw: bytes, inner: bytes, content };
            return self.read_message(&record, &message, context, fields, scratch, out);
        }
        self.decoder.unwrap(bytes, record.headers, fields, &mut |message, fields| {
            self.read_message(&record, &message, context, fields, scratch, out)
        })
    }

    /// Reads one message of a record, whose values are in `fields`.
    fn read_message<'a>(
        &self,
        record: &Record<'a>,
        message: &Unwrapped<'a>,
        context: &mut MessageContext<'_>,
        fields: &mut Fields<'a>,
        scratch: &mut Scratch<'a>,
        out: &mut Output<'_>,
    ) -> Result<(), SinkError> {
        out.counts.read += 1;
        let place = MessagePlace { position: record.position, element: message.element };
        let raw = (message.raw, message.raw.len() as u64);
        let malformed = match message.content {
            // Which events it is can't be said.
            Ok(Content::Message) => fields.broken([Needed::Kind, Needed::Name]),
            Ok(Content::Blank) => {
                out.counts.skip(Skip::Blank);
                return Ok(());
            }
            Err(malformed) => Some(malformed),
        };
        if let Some(malformed) = malformed {
            let (reason, detail) = match malformed.what {
                What::UnknownSchema(id) => {
                    (DeadLetterReason::UnknownSchema, format!("schema {id}: {}", self.decoder.why_unknown(id)))
                }
                _ => (DeadLetterReason::Malformed, malformed.to_string()),
            };
            out.seen.refused(reason, &detail, message.inner);
            return write_dead_letter(place, context, reason, &detail, raw, out);
        }
        self.find_matching(fields, &mut scratch.matching);
        if scratch.matching.is_empty() {
            if fields.broken([Needed::Time]).is_none()
                && let Ok(time) = fields.time(record.timestamp)
                && !self.is_future(time, context)
            {
                context.clock.advance(time);
            }
            out.counts.skip(Skip::Unmatched);
            out.seen.unmatched(text(fields.kind()), text(fields.name()), message.inner);
            return Ok(());
        }
        // The outcome as every event comes first: each may move the clock at which all take effect.
        scratch.outcomes.clear();
        for event in &scratch.matching {
            scratch.outcomes.push(self.outcome(&self.events[*event], fields, record, context));
        }
        let mut matched = false;
        for i in 0..scratch.matching.len() {
            if let Outcome::Matched(timestamp) = scratch.outcomes[i] {
                matched = true;
                let event = scratch.matching[i];
                out.seen.matched(self.events[event].event, timestamp);
                self.push(event, timestamp, fields, scratch, place, context, out);
            }
        }
        if matched {
            self.choose_for_message(&mut scratch.added, out.batches);
            out.counts.matched += 1;
            return Ok(());
        }
        let dead = scratch.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Dead(reason, detail) => Some((*reason, &**detail)),
            Outcome::Matched(_) | Outcome::NoKey => None,
        });
        match dead {
            Some((reason, detail)) => {
                out.seen.refused(reason, detail, message.inner);
                write_dead_letter(place, context, reason, detail, raw, out)
            }
            None => {
                out.seen.keyless(message.inner);
                out.counts.skip(Skip::NoKey);
                Ok(())
            }
        }
    }

    /// Writes the indexes of the events that a message is to `matching`, in order.
    fn find_matching(&self, fields: &Fields<'_>, matching: &mut Vec<usize>) {
        let kind = text(fields.kind());
        let named = text(fields.name()).and_then(|name| self.by_name.get(name));
        let of_kind = |event: &&usize| self.events[**event].kind.as_deref().is_none_or(|wanted| Some(wanted) == kind);
        matching.clear();
        matching.extend(named.into_iter().flatten().chain(&self.of_any_name).filter(of_kind));
        matching.sort_unstable();
    }

    /// Returns what the message is as one event. A timestamp that can be read moves the clock even if the key can't be used, but not if
    /// a needed value is broken.
    fn outcome(
        &self,
        event: &EventMatch,
        fields: &Fields<'_>,
        record: &Record<'_>,
        context: &mut MessageContext<'_>,
    ) -> Outcome {
        if let Some(malformed) = event.broken(fields) {
            return Outcome::Dead(DeadLetterReason::Malformed, malformed.to_string().into());
        }
        let time = match &event.time {
            Some((index, path)) => NamedTime { path, found: fields.get(*index) }.read(),
            None => fields.time(record.timestamp),
        };
        let in_future = time.as_ref().is_ok_and(|time| self.is_future(*time, context));
        if let Ok(time) = time
            && !in_future
        {
            context.clock.advance(time);
        }
        match key(event.key.map_or(fields.key(), |path| fields.get(path)), &mut Digits::default()) {
            Ok(Some(_)) => {}
            Ok(None) => return Outcome::NoKey,
            Err(detail) => return Outcome::Dead(DeadLetterReason::BadKey, detail.into()),
        }
        match time {
            Ok(time) if in_future => {
                Outcome::Dead(DeadLetterReason::FutureTimestamp, self.beyond(time, context).into())
            }
            Ok(time) => Outcome::Matched(time),
            Err(TimeError::Missing) => Outcome::Dead(DeadLetterReason::NoTimestamp, "".into()),
            Err(error) => Outcome::Dead(DeadLetterReason::BadTimestamp, error.to_string().into()),
        }
    }

    /// Returns by how much a timestamp is too late.
    fn beyond(&self, time: Time, context: &MessageContext<'_>) -> String {
        let (time_text, now) = (rfc3339(time), rfc3339(context.now));
        if time <= context.now.saturating_add(self.future_skew) {
            return format!("{time_text} is later than {}, the last time that is counted", rfc3339(TIMESTAMP_MAX));
        }
        let (ahead, skew) = (format_duration(time - context.now), format_duration(self.future_skew));
        format!("{time_text} is {ahead} later than {now}; `limits.future_skew` is {skew}")
    }

    /// Returns whether a timestamp is beyond the future that is waited for, or beyond all that state has room for.
    fn is_future(&self, time: Time, context: &MessageContext<'_>) -> bool {
        time > context.now.saturating_add(self.future_skew).min(TIMESTAMP_MAX)
    }

    /// Adds the event to the batch of its key's owner, if it passes a filter.
    #[allow(clippy::too_many_arguments)]
    fn push<'a>(
        &self,
        number: usize,
        timestamp: Time,
        fields: &Fields<'a>,
        scratch: &mut Scratch<'a>,
        place: MessagePlace,
        context: &MessageContext<'_>,
        out: &mut Output<'_>,
    ) {
        let event = &self.events[number];
        let Scratch { values, row, facts, carried, says, traits, added, .. } = scratch;
        values.clear();
        says.clear();
        for column in &event.columns {
            let found = fields.get(column.path);
            let coerced = coerce_of_unit(found, column.column_type, column.unit);
            out.counts.mismatches += u64::from(coerced.mismatch);
            if !event.traits.is_empty() {
                let has_value = *found != Found::Nothing && !fields.is_default(column.path);
                says.push(!coerced.mismatch && (has_value || fields.is_null(column.path)));
            }
            values.push(coerced.value);
        }
        traits.clear();
        if event.traits.iter().any(|column| says[*column]) {
            let passes = event.shared.as_ref().is_none_or(|(evaluator, columns)| {
                row.clear();
                row.extend(columns.iter().map(|column| values[*column].clone()));
                evaluator.holds(row, 0)
            });
            if passes {
                let set = |column: &usize| says[*column].then(|| StoredValue::of(&values[*column]));
                traits.extend(event.traits.iter().map(set));
            }
        }
        facts.clear();
        facts.resize(event.blocks, 0);
        for filter in event.can_pass.candidates(values).map(|position| &event.filters[position]) {
            let passes = filter.predicate.as_ref().is_none_or(|(evaluator, columns)| {
                row.clear();
                row.extend(columns.iter().map(|column| values[*column].clone()));
                evaluator.holds(row, 0)
            });
            if passes {
                facts.iter_mut().zip(&filter.facts).for_each(|(all, these)| *all |= these);
            }
        }
        carried.clear();
        for ValueMatch { column, aggregate, facts: takers } in &event.values {
            if facts.iter().zip(takers).all(|(all, takers)| all & takers == 0) {
                carried.push(0);
                continue;
            }
            let found = fields.get(event.columns[*column].path);
            let contribution = contribution(aggregate, &values[*column], found);
            out.counts.mismatches += u64::from(contribution == Contribution::OutOfRange);
            let value = match contribution {
                Contribution::Number(raw) => Some(raw),
                Contribution::Value(hash) => Some(hash as i128),
                Contribution::Row | Contribution::Null | Contribution::OutOfRange => None,
            };
            if value.is_none() {
                // Aggregates skip nulls: to the facts that take the value the event is none.
                facts.iter_mut().zip(takers).for_each(|(all, takers)| *all &= !takers);
            }
            carried.push(value.unwrap_or(0));
        }
        if facts.iter().all(|block| *block == 0) && traits.is_empty() {
            return;
        }
        let id = match fields.id() {
            Found::Text(id) if !id.is_empty() => hash_id(id),
            Found::Mended(id) => hash_id(id),
            Found::Number(id) => hash_id(id),
            Found::Decimal(id) => hash_id(id),
            Found::Integer(id) => hash_id(Digits::of(*id).text()),
            _ => match place.element {
                Some(element) => hash_element(context.seed, place.position, element.index),
                None => hash_position(context.seed, place.position),
            },
        };
        let mut digits = Digits::default();
        let Ok(Some(key)) = key(event.key.map_or(fields.key(), |path| fields.get(path)), &mut digits) else {
            panic!("an event that matches has a key");
        };
        let head = EventHead {
            at: context.clock.takes_effect(timestamp),
            timestamp,
            position: self.positions.arrival(place),
            id,
            key_hash: hash_key(key),
            event: event.event,
        };
        let worker = owner(head.key_hash, out.batches.len() as u32) as usize;
        let batch = &mut out.batches[worker];
        let first = batch.events.len();
        if facts.iter().any(|block| *block != 0) {
            batch.push(&head, key, facts, carried);
        }
        if !traits.is_empty() {
            batch.push_traits(&head, key, traits);
        }
        added.extend((first..batch.events.len()).map(|at| (number, worker, at)));
    }

    /// Has one of all that a message has added stand for it, which is no longer `added`: the first one of those with the longest window,
    /// which is held longest.
    fn choose_for_message(&self, added: &mut Vec<(usize, usize, usize)>, batches: &mut [EventBatch]) {
        let longest = match &added[..] {
            [] | [_] => added.first(),
            several => several
                .iter()
                .rev()
                .max_by_key(|(number, worker, at)| self.events[*number].longest_window(&batches[*worker].events[*at])),
        };
        if let Some((_, worker, at)) = longest {
            batches[*worker].stand_for_message(*at);
        }
        added.clear();
    }
}

/// Returns what an event adds to an aggregate; `value` is what was `found`, as a value of its column.
fn contribution(aggregate: &Aggregate, value: &Value<'_>, found: &Found<'_>) -> Contribution {
    match (aggregate, value, found) {
        // Hashes are of values, sums of what is written.
        (Aggregate::Distinct(_), ..) => Contribution::of(aggregate, value),
        (_, Value::Number(_), Found::Number(text)) => Contribution::of_number(text),
        (_, Value::Number(_), Found::Text(text)) => Contribution::of_number(text),
        (_, Value::Number(_), Found::Decimal(text)) => Contribution::of_number(text),
        (_, Value::Number(_), Found::Integer(integer)) => Contribution::of(aggregate, &Value::Integer(*integer)),
        _ => Contribution::of(aggregate, value),
    }
}

/// Returns the text that was found; `None` if it is something else.
fn text<'a>(found: &'a Found<'_>) -> Option<&'a str> {
    match found {
        Found::Text(text) => Some(text),
        Found::Mended(text) => Some(text),
        _ => None,
    }
}

fn rfc3339(time: Time) -> String {
    let mut text = Vec::new();
    write_time(&mut text, time);
    String::from_utf8(text).expect("a time is ASCII")
}

/// Counts a message that can't be used and writes it to the dead letters, with its bytes and their full length.
fn write_dead_letter(
    place: MessagePlace,
    context: &MessageContext<'_>,
    reason: DeadLetterReason,
    detail: &str,
    (raw, length): (&[u8], u64),
    out: &mut Output<'_>,
) -> Result<(), SinkError> {
    out.counts.dead(reason);
    out.dead_letters.write(&DeadLetter {
        partition: context.id,
        position: place.position,
        element: place.element.map(|element| element.index),
        reason,
        detail,
        raw,
        length,
    })
}

impl Positions {
    /// Returns a message's position for the order of arrival: those of the elements of a batch are in their order, behind those of all
    /// earlier records.
    fn arrival(self, place: MessagePlace) -> u64 {
        match (self, place.element) {
            (_, None) => place.position,
            // The next record starts behind the element.
            (Positions::Bytes, Some(element)) => place.position + element.start as u64,
            (Positions::Messages, Some(element)) => {
                let index = u64::from(element.index).min(ORDERED_ELEMENTS - 1);
                place.position.saturating_mul(ORDERED_ELEMENTS).saturating_add(index).min(ARRIVALS - 1)
            }
        }
    }
}

impl MessageClock<'_> {
    /// Moves the clock of a partition to a timestamp, if that is later.
    fn advance(&mut self, time: Time) {
        if let MessageClock::Partition(clock, limit) = self {
            clock.first = clock.first.or(Some(time));
            clock.greatest = clock.greatest.max(Some(time.min(*limit)));
        }
    }

    /// Returns when an event takes effect whose timestamp has passed the clock.
    fn takes_effect(&self, timestamp: Time) -> Time {
        match self {
            MessageClock::Partition(clock, _) => {
                timestamp.max(clock.greatest.expect("the event's own timestamp has moved the clock"))
            }
            MessageClock::Job(clock) => timestamp.max(*clock),
        }
    }
}

/// Returns the key as SPEC §3 reads it: `None` for anonymous traffic, an error for what can't be a key. `digits` is where an integer is
/// written.
fn key<'a>(found: &'a Found<'_>, digits: &'a mut Digits) -> Result<Option<&'a str>, &'static str> {
    match found {
        Found::Nothing => Ok(None),
        Found::Text(key) if key.is_empty() => Ok(None),
        Found::Text(key) if key.len() > KEY_BYTES => Err("the key is longer than 1,024 bytes"),
        Found::Text(key) => Ok(Some(key)),
        Found::Integer(key) => {
            *digits = Digits::of(*key);
            Ok(Some(digits.text()))
        }
        Found::Number(key) => number_key(key),
        Found::Decimal(key) => number_key(key),
        Found::Double(_) => Err("the key is a number but no integer"),
        Found::Boolean(_) => Err("the key is a boolean"),
        Found::Compound(_) => Err("the key is an object or a list"),
        Found::Timestamp(_) | Found::Date(_) => Err("the key is a time"),
        Found::Mended(_) => Err("the key has half of a surrogate pair"),
        Found::NotFinite => Err("the key is not a finite number"),
        Found::NotUtf8 => Err("the key is not UTF-8"),
    }
}

/// Returns the key that a number is.
fn number_key(key: &str) -> Result<Option<&str>, &'static str> {
    match key {
        "-0" => Ok(Some("0")),
        key if key.len() > KEY_BYTES => Err("the key is longer than 1,024 bytes"),
        key if key.bytes().all(|b| b.is_ascii_digit() || b == b'-') => Ok(Some(key)),
        _ => Err("the key is a number but no integer"),
    }
}

/// The decimal form of an integer, written without an allocation.
#[derive(Clone, Copy, Default)]
struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(integer: i64) -> Digits {
        let mut digits = Digits { bytes: [0; 20], start: 20 };
        let mut rest = integer.unsigned_abs();
        while rest > 0 || digits.start == 20 {
            digits.start -= 1;
            digits.bytes[digits.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        if integer < 0 {
            digits.start -= 1;
            digits.bytes[digits.start] = b'-';
        }
        digits
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.start..]).expect("digits are ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use usher_core::source::Records;

    /// Two events of a message, one of them with two windows.
    const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {}, accounts: {}}
events:
  bought: {source: web, type: track, name: Bought, model: users, properties: {price: number}}
  of_account: {source: web, type: track, name: Bought, model: accounts, foreign_key: properties.account}
audiences:
  buyers: {model: users, where: {performed: bought, within: 1m}}
  big_buyers: {model: users, where: {performed: bought, where: price > 10, within: 1h}}
  accounts: {model: accounts, where: {performed: of_account, within: 10m}}
";

    struct NoDeadLetters;

    impl DeadLetters for NoDeadLetters {
        fn write(&self, letter: &DeadLetter<'_>) -> Result<(), SinkError> {
            panic!("{:?}: {}", letter.reason, letter.detail)
        }

        fn finish(&self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    #[test]
    fn of_all_events_of_a_message_the_one_with_the_longest_window_stands_for_it() {
        let job = usher_config::parse(JOB, "job.yaml", std::path::Path::new("."), &|_| None);
        let job = job.unwrap_or_else(|problem| panic!("{problem}"));
        let plan = usher_queries::compile(&job, "job.yaml", &usher_queries::Schemas::new()).expect("a sound job");
        let matcher = EventMatcher::new(&plan, "web", None);
        let id = PartitionId { source: "web".to_owned(), name: "events.jsonl".to_owned() };
        for (properties, expected) in [
            (r#"{"price":1,"account":"acme"}"#, "of_account"),
            (r#"{"price":20,"account":"acme"}"#, "bought"),
            (r#"{"price":1}"#, "bought"),
            (r#"{"account":"acme"}"#, "of_account"),
        ] {
            let time = 1_790_000_000_000;
            let message = format!(
                r#"{{"type":"track","event":"Bought","userId":"u","timestamp":{time},"properties":{properties}}}"#
            );
            let mut batches = [EventBatch::new(0, 0), EventBatch::new(1, 0)];
            let (mut fields, mut scratch) = (Fields::default(), Scratch::default());
            let (mut counts, mut seen) = (Counts::default(), Seen::default());
            let mut out =
                Output { batches: &mut batches, counts: &mut counts, seen: &mut seen, dead_letters: &NoDeadLetters };
            for record in Records::lines(message.as_bytes(), 0, 1_000) {
                let mut context = MessageContext { id: &id, seed: 7, now: time, clock: MessageClock::Job(0) };
                matcher.read(record, &mut context, &mut fields, &mut scratch, &mut out).expect("nothing refuses");
            }
            let all = batches.iter().flat_map(|batch| &batch.events);
            let stand = all.filter(|event| event.stands_for_message());
            let stand: Vec<&str> = stand.map(|event| &*plan.events[usize::from(event.event)].id).collect();
            assert_eq!(stand, [expected], "{properties}");
        }
    }

    #[test]
    fn an_integer_is_the_key_that_its_digits_are() {
        for integer in [0, 7, -7, 10, i64::MAX, i64::MIN, 1_234_567_890_123_456_789] {
            let mut digits = Digits::default();
            assert_eq!(key(&Found::Integer(integer), &mut digits), Ok(Some(&*integer.to_string())));
        }
        let mut digits = Digits::default();
        assert_eq!(
            key(&Found::Decimal("18446744073709551615".to_owned()), &mut digits),
            Ok(Some("18446744073709551615"))
        );
        for wrong in [Found::Decimal("1.0".to_owned()), Found::Double(1.0), Found::Timestamp(7), Found::Date(7)] {
            assert!(key(&wrong, &mut digits).is_err(), "{wrong:?}");
        }
    }
}
