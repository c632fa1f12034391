//! The reader of one message: bytes of a wire format in, the values that the job needs out.
//!
//! A [`Decoder`] is made once per source from the format and the job's paths. [`Decoder::decode`] walks a
//! message once, to its end, and leaves what stood at the paths in [`Fields`], borrowed from the message.
//!
//! Promises: a message is [`Malformed`] if it is not one JSON object (of Snowplow's TSV one row of 131 columns) in UTF-8,
//! or is deeper than [`DEPTH_MAX`] levels. A value with a broken escape or number spoils no more than itself:
//! [`Fields::broken`] names it if a path leads to it, and what is found in its place is of no use. What the job does
//! not need is checked for structure only. Of a repeated key the last counts. A value of another type than
//! a path expects is [`Found::Nothing`], and so is null. `NaN` and infinities are [`Found::NotFinite`], and a string with half of a
//! surrogate pair is [`Found::Mended`]. A byte order mark before a message and a line end behind it are passed over. Times are only
//! read when asked for.
//! In messages with headers a path `headers.NAME` leads to one of them.
//!
//! Messages in envelopes are read by [`Decoder::unwrap`] (`envelope.rs`).
//!
//! Refuses: to coerce (the caller knows the types), to judge keys, to say who needs a value that is broken.
//!
//! Another wire format is another `Wire` here and another walk that fills the same `Fields`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use usher_config::{Encoding, Envelope, Format, Found, Path, SchemaKind, Source, SourceFrom};

use usher_core::schemas::{Schema, SchemaId, Schemas};
use usher_core::source::{BYTE_ORDER_MARK, Headers};

mod avro;
mod binary;
mod envelope;
mod json;
mod json_schema;
mod layout;
mod look;
mod malformed;
mod protobuf;
mod registered;
mod scan;
mod shapes;
mod snowplow;
mod star;
mod strings;
mod time;
mod whole;

use avro::AvroReader;
use envelope::Outer;
pub use envelope::{Content, Element, Unwrapped};
use layout::{End, Layout, NameRule, Place, Slot, TimeRule, Wire};
pub use look::Look;
pub use malformed::{Malformed, What};
use protobuf::ProtobufReader;
pub use protobuf::imports;
use registered::Registered;
use scan::Marks;
use shapes::KnownShapes;
pub use star::to_json;
pub use time::{NamedTime, TimeError};

/// The deepest message, in levels of objects and arrays, its own object included.
pub const DEPTH_MAX: usize = 128;

/// Reads the messages of one source.
#[derive(Clone, Debug)]
pub struct Decoder {
    layout: Arc<Layout>,
    /// The outermost first.
    envelopes: Arc<[Envelope]>,
    /// Of CloudEvents: the headers of the attributes that are needed, with their nodes.
    attributes: Arc<[(String, Slot)]>,
    written: Written,
}

/// How messages are written.
#[derive(Clone, Debug)]
enum Written {
    /// As text, which the layout's wire is about.
    Text,
    Avro(Arc<AvroReader>),
    Protobuf(Arc<ProtobufReader>),
    /// By the schema that each message names.
    Registered(Arc<Registered>),
}

impl Written {
    /// The type of what is outermost, of an encoding that has types.
    fn root(&self) -> Option<u32> {
        match self {
            Written::Text | Written::Registered(_) => None,
            Written::Avro(reader) => Some(reader.root()),
            Written::Protobuf(reader) => Some(reader.root()),
        }
    }

    /// Reads a message of a type, whose envelopes are off.
    fn read<'a>(
        &self,
        layout: &Arc<Layout>,
        of: u32,
        message: &'a [u8],
        fields: &mut Fields<'a>,
    ) -> Result<Content, Malformed> {
        match self {
            Written::Text => walk(layout, message, fields),
            Written::Avro(reader) => reader.message(layout, of, message, fields),
            Written::Protobuf(reader) => reader.message(layout, of, message, fields),
            Written::Registered(_) => unreachable!("a message is written by one schema"),
        }
    }
}

impl Decoder {
    /// Prepares to read `format` and, beside what the format itself defines, what stands at `paths`.
    ///
    /// A path whose first step is `properties` is resolved against the format's properties object. Messages have no
    /// headers: `headers.NAME` is a path like others.
    pub fn new(format: &Format, paths: &[Path]) -> Decoder {
        Decoder::with_layout(Layout::new(format, false, paths))
    }

    fn with_layout(layout: Layout) -> Decoder {
        Decoder { layout: Arc::new(layout), envelopes: Arc::new([]), attributes: Arc::new([]), written: Written::Text }
    }

    /// Returns the decoder of messages in these envelopes, the outermost first.
    pub fn in_envelopes(self, envelopes: &[Envelope]) -> Decoder {
        let attributes = match envelopes.contains(&Envelope::Cloudevents) {
            true => envelope::attributes(&self.layout),
            false => Vec::new(),
        };
        Decoder { envelopes: envelopes.into(), attributes: attributes.into(), ..self }
    }

    /// Returns the decoder of messages that an Avro schema writes. Envelopes are to be known before. `references` are the schemas whose
    /// types it names.
    ///
    /// # Errors
    /// A clause about the schema.
    pub fn in_avro(self, schema: &str, references: &[&str]) -> Result<Decoder, String> {
        let reader = AvroReader::new(schema, references, &self.layout, &self.envelopes)?;
        Ok(Decoder { written: Written::Avro(Arc::new(reader)), ..self })
    }

    /// Returns the decoder of a message of a `.proto` file. Envelopes are to be known before. `files` are those that it imports, by
    /// the names that it imports them by.
    ///
    /// # Errors
    /// A clause about the schema.
    pub fn in_protobuf(self, file: &str, files: &BTreeMap<String, String>, message: &str) -> Result<Decoder, String> {
        let reader = ProtobufReader::new(file, files, Some(message), &self.layout, &self.envelopes)?;
        Ok(Decoder { written: Written::Protobuf(Arc::new(reader)), ..self })
    }

    /// Does what [`Decoder::new`] does for the messages of `source`, in its envelopes and its encoding: those of Kafka have headers.
    ///
    /// There a path `headers.NAME`, of the format too, is the value of that header as text. All that follows `headers.` is
    /// the name, points included. A value that is not UTF-8 is [`Found::NotUtf8`].
    ///
    /// `schemas` are those that the messages name; without them no message that names one is read.
    ///
    /// # Errors
    /// A clause about the source's schema.
    pub fn of(source: &Source, paths: &[Path], schemas: Option<Arc<dyn Schemas>>) -> Result<Decoder, String> {
        let decoder = Decoder::without_schema(source, paths);
        match &source.encoding {
            Encoding::Registered { kind, .. } => {
                let schemas = schemas.unwrap_or_else(|| Arc::new(NoSchemas));
                let written = Written::Registered(Arc::new(Registered::new(*kind, schemas)));
                Ok(Decoder { written, ..decoder })
            }
            Encoding::Json => Ok(decoder),
            Encoding::Avro(schema) => decoder.in_avro(&schema.text, &[]),
            Encoding::Protobuf { schema, message } => decoder.in_protobuf(&schema.text, &schema.imports, message),
        }
    }

    fn without_schema(source: &Source, paths: &[Path]) -> Decoder {
        let headers = matches!(source.from, SourceFrom::Kafka { .. });
        Decoder::with_layout(Layout::new(&source.format, headers, paths)).in_envelopes(&source.unwrap)
    }

    /// Returns a clause why messages that name a schema are [`What::UnknownSchema`].
    pub fn why_unknown(&self, id: SchemaId) -> String {
        match &self.written {
            Written::Registered(registered) => registered.why(id),
            Written::Text | Written::Avro(_) | Written::Protobuf(_) => String::new(),
        }
    }

    /// Returns which of `paths` into the messages of a source a schema that may write them has nothing for, as [`Decoder::lacking`] does. Of
    /// Protobuf all messages of the file may be written that are in no other one; JSON in envelopes is not looked at.
    ///
    /// # Errors
    /// A clause about the schema.
    pub fn lacking_in(source: &Source, paths: &[Path], schema: &Schema) -> Result<Lacking, String> {
        let decoder = Decoder::without_schema(source, paths);
        let mut reached = Reached::new(&decoder.layout);
        if schema.kind == SchemaKind::JsonSchema {
            let references: Vec<_> = schema.references.iter().map(|of| (&*of.name, &*of.text)).collect();
            json_schema::reached(&schema.text, &references, &decoder.layout, |slot, names| reached.note(slot, names))?;
            return Ok(if decoder.has_envelopes() { Vec::new() } else { decoder.lacking_by(&reached) });
        }
        let written = registered::compile(schema, &decoder.layout, &decoder.envelopes)?;
        if let Written::Protobuf(reader) = &written {
            for of in reader.outermost() {
                reader.reached(of, |slot, names| reached.note(slot, names));
            }
            return Ok(decoder.lacking_by(&reached));
        }
        Ok(Decoder { written, ..decoder }.lacking())
    }

    /// Returns which of the paths given to [`Decoder::new`] the schema has nothing for, by their indexes, each with a name that is near
    /// to the one that it lacks. None without a schema, and where headers may have what it lacks.
    pub fn lacking(&self) -> Lacking {
        let mut reached = Reached::new(&self.layout);
        match &self.written {
            Written::Text | Written::Registered(_) => return Vec::new(),
            Written::Avro(reader) => reader.reached(|slot, names| reached.note(slot, names)),
            Written::Protobuf(reader) => reader.reached(reader.root(), |slot, names| reached.note(slot, names)),
        }
        self.lacking_by(&reached)
    }

    fn lacking_by(&self, Reached(reached): &Reached) -> Lacking {
        if self.envelopes.contains(&Envelope::Cloudevents) {
            return Vec::new();
        }
        let layout = &self.layout;
        let is_there = |end: &End| match reached.get(end.node as usize) {
            Some(names) => names.is_some(),
            // A header.
            None => true,
        };
        let near = |end: &End| {
            let (mut node, mut name) = (end.node, None);
            while reached[node as usize].is_none() {
                let (parent, of) = layout.parent(node)?;
                (node, name) = (parent, of);
            }
            let names = reached[node as usize].iter().flatten().map(String::as_str);
            usher_core::suggest::nearest(name?, names).map(str::to_owned)
        };
        let lacking = layout
            .paths
            .iter()
            .enumerate()
            .filter(|(_, path)| !is_there(&path.own) && !path.traits.iter().any(is_there));
        lacking.map(|(index, path)| (index, near(&path.own))).collect()
    }

    /// Walks `message`, which is in no envelope, once and refills `fields`, which is reused over the messages of a batch. `headers` are
    /// the message's.
    ///
    /// After an error `fields` holds nothing of use. A blank text is malformed: the caller skips those. Only an encoding can have
    /// [`Content::Blank`]: a null.
    pub fn decode<'a>(
        &self,
        message: &'a [u8],
        headers: Option<&'a dyn Headers>,
        fields: &mut Fields<'a>,
    ) -> Result<Content, Malformed> {
        self.begin(headers, fields);
        match &self.written {
            Written::Text => {}
            Written::Avro(reader) => return reader.message(&self.layout, reader.root(), message, fields),
            Written::Protobuf(reader) => return reader.message(&self.layout, reader.root(), message, fields),
            Written::Registered(registered) => {
                let found = registered.open(message, headers, &self.layout, &self.envelopes)?;
                let placed = |malformed: Malformed| Malformed { at: malformed.at + found.start, ..malformed };
                let read = found.written.read(&self.layout, found.root, found.bytes, fields);
                fields.place_broken(0, found.start);
                return read.map_err(placed);
            }
        }
        match message.strip_prefix(BYTE_ORDER_MARK) {
            Some(marked) => {
                let placed = |malformed: Malformed| Malformed { at: malformed.at + BYTE_ORDER_MARK.len(), ..malformed };
                let read = walk(&self.layout, marked, fields);
                fields.place_broken(0, BYTE_ORDER_MARK.len());
                read.map_err(placed)
            }
            None => walk(&self.layout, message, fields),
        }
    }

    /// Empties `fields` but for the headers.
    fn begin<'a>(&self, headers: Option<&'a dyn Headers>, fields: &mut Fields<'a>) {
        fields.clear(&self.layout);
        if let Some(headers) = headers {
            for (name, slot) in &self.layout.headers {
                fields.found[*slot as usize] = headers.get(name).map_or(Found::Nothing, header);
            }
        }
    }
}

/// Paths that a schema has nothing for: the index of each, and a name that is near to the one that it lacks.
pub type Lacking = Vec<(usize, Option<String>)>;

/// By node of a layout, the names of what a schema has there; `None` if it has nothing for the node.
struct Reached(Vec<Option<Vec<String>>>);

impl Reached {
    fn new(layout: &Layout) -> Reached {
        Reached(vec![None; layout.nodes.len()])
    }

    fn note(&mut self, slot: Slot, names: &mut dyn Iterator<Item = &str>) {
        self.0[slot as usize].get_or_insert_default().extend(names.map(str::to_owned));
    }
}

/// The schemas of a source without any.
struct NoSchemas;

impl Schemas for NoSchemas {
    fn find(&self, _: SchemaId) -> Option<Result<Arc<Schema>, Arc<str>>> {
        None
    }

    fn report(&self) -> usher_core::schemas::SchemasReport {
        Default::default()
    }
}

/// Reads a text.
fn walk<'a>(layout: &Arc<Layout>, message: &'a [u8], fields: &mut Fields<'a>) -> Result<Content, Malformed> {
    match layout.wire {
        Wire::Json => json::walk(layout, message, fields)?,
        Wire::SnowplowJson => snowplow::walk_json(layout, message, fields)?,
        Wire::SnowplowTsv => snowplow::walk_tsv(layout, message, fields)?,
    }
    Ok(Content::Message)
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
    /// Values that can't be read, by slot. A later value of the same key takes one back.
    broken: Vec<(Slot, Malformed)>,
    /// Where the arrays start that paths with `[*]` lead into, by slot.
    lists: Vec<(Slot, usize)>,
    /// How many of Snowplow's entities came of each wanted kind, by slot.
    entities: Vec<(Slot, usize)>,
    /// Where a field of Protobuf without presence is at its default.
    defaulted: Vec<Slot>,
    /// Where names are put together.
    name: String,
    marks: Marks,
    known: KnownShapes,
    outer: Outer<'a>,
}

/// A value that may be needed of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// [`Fields::kind`].
    Kind,
    /// [`Fields::name`].
    Name,
    /// [`Fields::key`].
    Key,
    /// [`Fields::id`].
    Id,
    /// All that [`Fields::time`] may be made of, but for the envelope's.
    Time,
    /// [`Fields::get`] of a path.
    Path(usize),
}

impl<'a> Fields<'a> {
    /// The kind of message: the Segment family's `type`, Snowplow's `event`.
    pub fn kind(&self) -> &Found<'a> {
        self.at(self.layout.as_ref().and_then(|layout| layout.kind))
    }

    /// The event's name: of the Segment family's pages and screens `name`, else `event`; of Snowplow's structured events
    /// `se_action`, else `event_name`.
    pub fn name(&self) -> &Found<'a> {
        self.at(self.layout.as_ref().and_then(|layout| self.name_slot(layout)))
    }

    fn name_slot(&self, layout: &Layout) -> Option<Slot> {
        match layout.name {
            NameRule::One(slot) => slot,
            NameRule::ByKind { usual, other, kinds } => match self.kind() {
                Found::Text(kind) if kinds.contains(&&**kind) => Some(other),
                _ => Some(usual),
            },
        }
    }

    /// The key of the parent model as it stands there: the rules of keys are the caller's.
    pub fn key(&self) -> &Found<'a> {
        self.at(self.layout.as_ref().and_then(|layout| layout.key))
    }

    /// The message id; where the format finds none, that of the envelope.
    pub fn id(&self) -> &Found<'a> {
        match self.at(self.layout.as_ref().and_then(|layout| layout.id)) {
            Found::Nothing => &self.outer.id,
            Found::Text(id) if id.is_empty() && self.outer.id != Found::Nothing => &self.outer.id,
            id => id,
        }
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
        self.at(self.end(&layout.paths[i]).map(|end| end.slot))
    }

    /// Returns whether the message has a null at path `i` of those given to [`Decoder::new`], at the path's own end: not where a step
    /// before it is missing, null or no object. An empty column of a row is no null.
    ///
    /// # Panics
    ///
    /// If a message has been decoded and there are no more than `i` paths.
    pub fn is_null(&self, i: usize) -> bool {
        let Some(layout) = &self.layout else { return false };
        // Of a path with `[*]` the end is beyond its array.
        self.end(&layout.paths[i])
            .is_some_and(|end| end.slot == end.node && self.has(end) && *self.at(Some(end.slot)) == Found::Nothing)
    }

    /// Returns whether a field of Protobuf without presence is at its default at path `i` of those given to [`Decoder::new`]: the message
    /// does not say whether it was set. An element of a list and a member of a map are set.
    ///
    /// # Panics
    ///
    /// If a message has been decoded and there are no more than `i` paths.
    pub fn is_default(&self, i: usize) -> bool {
        let Some(layout) = &self.layout else { return false };
        !self.defaulted.is_empty() && self.end(&layout.paths[i]).is_some_and(|end| self.defaulted.contains(&end.slot))
    }

    /// Returns the first of these values that has a broken escape or number. What the kind decides, the name and where paths end, is only
    /// to be relied on if the kind is not broken.
    ///
    /// # Panics
    ///
    /// If a value of the message is broken and there is no such path.
    #[inline]
    pub fn broken(&self, values: impl IntoIterator<Item = Needed>) -> Option<Malformed> {
        if self.broken.is_empty() {
            return None;
        }
        let broken = values.into_iter().flat_map(|value| self.broken_at(value));
        broken.min_by_key(|malformed| malformed.at)
    }

    #[cold]
    fn broken_at(&self, value: Needed) -> Vec<Malformed> {
        let Some(layout) = self.layout.as_deref() else { return Vec::new() };
        let slots: Vec<Slot> = match value {
            Needed::Kind => layout.kind.into_iter().collect(),
            Needed::Name => self.name_slot(layout).into_iter().collect(),
            Needed::Key => layout.key.into_iter().collect(),
            Needed::Id => layout.id.into_iter().collect(),
            Needed::Time => layout.time.slots(),
            Needed::Path(i) => self.end(&layout.paths[i]).map(|end| end.slot).into_iter().collect(),
        };
        self.broken.iter().filter(|(slot, _)| slots.contains(slot)).map(|(_, malformed)| *malformed).collect()
    }

    /// Moves the broken values from the `known`-th on by so many bytes, to where they are in the record.
    fn place_broken(&mut self, known: usize, by: usize) {
        self.broken.iter_mut().skip(known).for_each(|(_, malformed)| malformed.at += by);
    }

    /// Where a path ends in the message.
    fn end<'p>(&self, place: &'p Place) -> Option<&'p End> {
        if place.traits.is_empty() || self.has(&place.own) || !self.is_about_traits() {
            return Some(&place.own);
        }
        place.traits.iter().find(|traits| self.has(traits))
    }

    /// The format's event time, in ms since the epoch.
    ///
    /// Segment family: `timestamp`; else `receivedAt` − (`sentAt` − `originalTimestamp`); else
    /// `originalTimestamp`; else `receivedAt`. Snowplow: `derived_tstamp`; else `true_tstamp`; else `collector_tstamp` −
    /// (`dvce_sent_tstamp` − `dvce_created_tstamp`); else `collector_tstamp`. In all formats the envelope's time comes next, and `broker`, the
    /// transport's time, is the last resort.
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
        let (outer, path) = &self.outer.time;
        match (time, broker) {
            (Err(TimeError::Missing), _) if *outer != Found::Nothing => NamedTime { path, found: outer }.read(),
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
            self.known = KnownShapes::of(&layout.shapes);
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
        self.defaulted.clear();
        (self.outer.id, self.outer.time) = Default::default();
    }

    /// Notes that a node has a value; what an earlier one gave does not count.
    #[inline(always)]
    fn meet(&mut self, layout: &Layout, slot: Slot) {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if self.met[word] & bit != 0 {
            self.forget(layout, slot);
        }
        self.met[word] |= bit;
    }

    /// Puts a value at a node where there may be another.
    #[inline(always)]
    fn set(&mut self, layout: &Layout, slot: Slot, found: Found<'a>) {
        self.meet(layout, slot);
        if layout.nodes[slot as usize].needed {
            self.found[slot as usize] = found;
        }
    }

    /// Takes back what the value at a node gave.
    #[cold]
    fn forget(&mut self, layout: &Layout, slot: Slot) {
        let below = slot..layout.nodes[slot as usize].end;
        self.found[below.start as usize..below.end as usize].fill(Found::Nothing);
        for slot in below.clone() {
            self.met[slot as usize / 64] &= !(1 << (slot % 64));
        }
        let stars = layout.stars.iter().filter(|star| below.contains(&star.node));
        for star in stars.clone() {
            // An envelope may have had the list.
            self.found[star.slot as usize] = Found::Nothing;
        }
        let stays = |each: Slot| !below.contains(&each) && stars.clone().all(|star| star.slot != each);
        self.broken.retain(|(each, _)| stays(*each));
        self.lists.retain(|(each, _)| stays(*each));
        self.defaulted.retain(|each| stays(*each));
    }
}

#[cfg(test)]
mod tests;
