//! The reader of one message: bytes of a wire format in, the values that the job needs out.
//!
//! A [`Decoder`] is made once per source from the format and the job's paths. [`Decoder::decode`] walks a
//! message once, to its end, and leaves what stood at the paths in [`Fields`], borrowed from the message.
//!
//! Promises: a message is [`Malformed`] if it is not one JSON object (of Snowplow's TSV one row of 131 columns) in UTF-8,
//! is deeper than [`DEPTH_MAX`] levels, or has a broken escape or number in a value that the job needs. What the job does
//! not need is checked for structure only. Of a repeated key the last counts. A value of another type than
//! a path expects is [`Found::Nothing`], and so is null. `NaN` and infinities are [`Found::NotFinite`], and a string with half of a
//! surrogate pair is [`Found::Mended`]. A byte order mark before a message and a line end behind it are passed over. Times are only
//! read when asked for.
//! In messages with headers a path `headers.NAME` leads to one of them.
//!
//! Refuses: to unpack a batch envelope, to coerce (the caller knows the types), to judge keys.
//!
//! Another wire format is another `Wire` here and another walk that fills the same `Fields`.

use std::borrow::Cow;
use std::sync::Arc;

use usher_config::{Format, Found, Path, Source, SourceFrom};

use usher_core::source::{BYTE_ORDER_MARK, Headers};

mod json;
mod layout;
mod look;
mod malformed;
mod scan;
mod snowplow;
mod star;
mod strings;
mod time;

use layout::{End, Layout, NameRule, Slot, TimeRule, Wire};
pub use look::Look;
pub use malformed::{Malformed, What};
use scan::Marks;
pub use star::to_json;
pub use time::{NamedTime, TimeError};

/// The deepest message, in levels of objects and arrays, its own object included.
pub const DEPTH_MAX: usize = 128;

/// Reads the messages of one source.
#[derive(Clone, Debug)]
pub struct Decoder {
    layout: Arc<Layout>,
}

impl Decoder {
    /// Prepares to read `format` and, beside what the format itself defines, what stands at `paths`.
    ///
    /// A path whose first step is `properties` is resolved against the format's properties object. Messages have no
    /// headers: `headers.NAME` is a path like others.
    pub fn new(format: &Format, paths: &[Path]) -> Decoder {
        Decoder { layout: Arc::new(Layout::new(format, false, paths)) }
    }

    /// Does what [`Decoder::new`] does for the messages of `source`: those of Kafka have headers.
    ///
    /// There a path `headers.NAME`, of the format too, is the value of that header as text. All that follows `headers.` is
    /// the name, points included. A value that is not UTF-8 is [`Found::NotUtf8`].
    pub fn of(source: &Source, paths: &[Path]) -> Decoder {
        let headers = matches!(source.from, SourceFrom::Kafka { .. });
        Decoder { layout: Arc::new(Layout::new(&source.format, headers, paths)) }
    }

    /// Walks `message` once and refills `fields`, which is reused over the messages of a batch. `headers` are the message's.
    ///
    /// After an error `fields` holds nothing of use. A blank message is malformed: the caller skips those.
    pub fn decode<'a>(
        &self,
        message: &'a [u8],
        headers: Option<&'a dyn Headers>,
        fields: &mut Fields<'a>,
    ) -> Result<(), Malformed> {
        fields.clear(&self.layout);
        if let Some(headers) = headers {
            for (name, slot) in &self.layout.headers {
                fields.found[*slot as usize] = headers.get(name).map_or(Found::Nothing, header);
            }
        }
        let (message, start) = match message.strip_prefix(BYTE_ORDER_MARK) {
            Some(message) => (message, BYTE_ORDER_MARK.len()),
            None => (message, 0),
        };
        let walked = match self.layout.wire {
            Wire::Json => json::walk(&self.layout, message, fields),
            Wire::SnowplowJson => snowplow::walk_json(&self.layout, message, fields),
            Wire::SnowplowTsv => snowplow::walk_tsv(&self.layout, message, fields),
        };
        walked.map_err(|malformed| Malformed { at: malformed.at + start, ..malformed })
    }
}

fn header(value: &[u8]) -> Found<'_> {
    simdutf8::basic::from_utf8(value).map_or(Found::NotUtf8, |text| Found::Text(Cow::Borrowed(text)))
}

/// What one message holds of what the job needs.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    layout: Option<Arc<Layout>>,
    /// By slot.
    found: Vec<Found<'a>>,
    /// By slot, a bit each: met in this message.
    met: Vec<u64>,
    /// Values that are needed and can't be read, by slot. A later value of the same key takes one back.
    broken: Vec<(Slot, Malformed)>,
    /// Where the arrays start that paths with `[*]` lead into, by slot.
    lists: Vec<(Slot, usize)>,
    /// How many of Snowplow's entities came of each wanted kind, by slot.
    entities: Vec<(Slot, usize)>,
    /// Where names are put together.
    name: String,
    marks: Marks,
}

impl<'a> Fields<'a> {
    /// The kind of message: the Segment family's `type`, Snowplow's `event`.
    pub fn kind(&self) -> &Found<'a> {
        self.at(self.layout.as_ref().and_then(|layout| layout.kind))
    }

    /// The event's name: of the Segment family's pages and screens `name`, else `event`; of Snowplow's structured events
    /// `se_action`, else `event_name`.
    pub fn name(&self) -> &Found<'a> {
        let Some(layout) = &self.layout else {
            return &Found::Nothing;
        };
        match layout.name {
            NameRule::One(slot) => self.at(slot),
            NameRule::ByKind { usual, other, kinds } => match self.kind() {
                Found::Text(kind) if kinds.contains(&&**kind) => self.at(Some(other)),
                _ => self.at(Some(usual)),
            },
        }
    }

    /// The key of the parent model as it stands there: the rules of keys are the caller's.
    pub fn key(&self) -> &Found<'a> {
        self.at(self.layout.as_ref().and_then(|layout| layout.key))
    }

    /// The message id.
    pub fn id(&self) -> &Found<'a> {
        self.at(self.layout.as_ref().and_then(|layout| layout.id))
    }

    /// What stood at path `i` of those given to [`Decoder::new`].
    ///
    /// # Panics
    ///
    /// If a message has been decoded and there are no more than `i` paths.
    pub fn get(&self, i: usize) -> &Found<'a> {
        let Some(layout) = &self.layout else {
            return &Found::Nothing;
        };
        let place = &layout.paths[i];
        if place.traits.is_empty() || self.has(&place.own) || !self.is_about_traits() {
            return self.at(Some(place.own.slot));
        }
        let traits = place.traits.iter().find(|traits| self.has(traits));
        self.at(traits.map(|traits| traits.slot))
    }

    /// Returns whether the message has a null at path `i` of those given to [`Decoder::new`], at the path's own end: not where a step
    /// before it is missing, null or no object. An empty column of a row is no null.
    ///
    /// # Panics
    ///
    /// If a message has been decoded and there are no more than `i` paths.
    pub fn is_null(&self, i: usize) -> bool {
        let Some(layout) = &self.layout else { return false };
        let place = &layout.paths[i];
        let mut end = Some(&place.own);
        if !place.traits.is_empty() && !self.has(&place.own) && self.is_about_traits() {
            end = place.traits.iter().find(|traits| self.has(traits));
        }
        // Of a path with `[*]` the end is beyond its array.
        end.is_some_and(|end| end.slot == end.node && self.has(end) && *self.at(Some(end.slot)) == Found::Nothing)
    }

    /// The format's event time, in ms since the epoch.
    ///
    /// Segment family: `timestamp`; else `receivedAt` − (`sentAt` − `originalTimestamp`); else
    /// `originalTimestamp`; else `receivedAt`. Snowplow: `derived_tstamp`; else `true_tstamp`; else `collector_tstamp` −
    /// (`dvce_sent_tstamp` − `dvce_created_tstamp`); else `collector_tstamp`. In all formats `broker`, the transport's time, is the last resort.
    /// What is present counts: if it can't be read, that is the error.
    pub fn time(&self, broker: Option<u64>) -> Result<u64, TimeError<'_>> {
        let named = |path, slot: &Slot| NamedTime { path, found: self.at(Some(*slot)) };
        let rule = self.layout.as_ref().map(|layout| &layout.time);
        let time = match rule {
            None | Some(TimeRule::One(None)) => Err(TimeError::Missing),
            Some(TimeRule::One(Some((slot, path)))) => named(path, slot).read(),
            Some(TimeRule::Segment { timestamp, received, sent, original }) => time::of_segment(
                named("timestamp", timestamp),
                named("receivedAt", received),
                named("sentAt", sent),
                named("originalTimestamp", original),
            ),
            Some(TimeRule::Snowplow { derived, exact, collected, sent, created }) => time::of_snowplow(
                named("derived_tstamp", derived),
                named("true_tstamp", exact),
                named("collector_tstamp", collected),
                named("dvce_sent_tstamp", sent),
                named("dvce_created_tstamp", created),
            ),
        };
        match (time, broker) {
            (Err(TimeError::Missing), Some(broker)) => Ok(broker),
            (time, _) => time,
        }
    }

    /// Whether the message has the path, be its value null.
    fn has(&self, end: &End) -> bool {
        self.met[end.node as usize / 64] & 1 << (end.node % 64) != 0
    }

    fn at(&self, slot: Option<Slot>) -> &Found<'a> {
        match slot {
            Some(slot) => &self.found[slot as usize],
            None => &Found::Nothing,
        }
    }

    /// Messages whose properties are called traits.
    fn is_about_traits(&self) -> bool {
        matches!(self.kind(), Found::Text(kind) if kind == "identify" || kind == "group")
    }

    fn clear(&mut self, layout: &Arc<Layout>) {
        if !self.layout.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, layout)) {
            self.layout = Some(Arc::clone(layout));
            self.found.clear();
            self.found.resize(layout.slots, Found::Nothing);
            self.met.resize(layout.slots.div_ceil(64), 0);
        }
        for found in &mut self.found {
            *found = Found::Nothing;
        }
        self.met.fill(0);
        self.broken.clear();
        self.lists.clear();
        self.entities.clear();
    }
}

#[cfg(test)]
mod tests;
