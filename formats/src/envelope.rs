//! Envelopes: what is around a message, and where in it the message is.
//!
//! An envelope is walked once: its own structure is checked, the value inside is skipped and found as a range of bytes, which the
//! format's walk then reads. Nothing is copied.
//!
//! Promises:
//! * The envelope's other members are read as members of the message, where the message itself lacks them. A batch's message
//!   id is not: an id is of one message. Kafka Connect's `schema` is none.
//! * `ts_ms` of Debezium and `time` of a CloudEvent are the message's time, and `id` of a CloudEvent is its id, where the format
//!   finds none.
//! * The elements of a batch are separated by brackets and quotes alone, so that a broken one is malformed alone, also one that is not UTF-8, and
//!   whatever envelopes are around the batch. One whose brackets or quotes do not pair makes the batch malformed.
//! * A CloudEvent is binary if the message has the header `ce_specversion`, unless its `content-type` says that it is structured.
//!
//! Refuses: `data_base64` of a CloudEvent, and a CloudEvent whose data is no JSON object.

use std::borrow::Cow;

use usher_config::{Envelope, Found};
use usher_core::source::{BYTE_ORDER_MARK, Headers};

use super::json::{Ahead, Scan, is_number, over, utf8};
use super::layout::{Layout, Slot};
use super::malformed::{Malformed, What};
use super::registered::Unprefixed;
use super::scan::Marks;
use super::{Decoder, Fields, Written};

/// One message that was in a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unwrapped<'a> {
    /// Which element of a batch it is; `None` if it was in no batch.
    pub element: Option<Element>,
    /// Its bytes: of a message that was in no batch the whole record.
    pub raw: &'a [u8],
    /// The message itself; of what can't be unwrapped the value that is not the expected envelope.
    pub inner: &'a [u8],
    /// What it is.
    pub content: Result<Content, Malformed>,
}

/// Where a message is in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its index, from 0.
    pub index: u32,
    /// The byte of the record where it starts.
    pub start: usize,
}

/// What is in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A message, which has been read into the fields.
    Message,
    /// Null, or nothing.
    Blank,
}

/// What envelopes leave in [`Fields`] for the messages in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Outer<'a> {
    /// The message's id, if the format finds none.
    pub(super) id: Found<'a>,
    /// The message's time, if the format finds none, and its name in the envelope.
    pub(super) time: (Found<'a>, &'static str),
    marks: Marks,
    /// Where the elements of a batch start and end, with their types.
    pub(super) elements: Vec<(usize, usize, InsideType)>,
    kept: Kept<'a>,
}

/// The type of what is in an envelope, of an encoding that has types: a number that its reader gives.
pub(super) type InsideType = u32;

/// What the fields have before the first element of a batch is read.
#[derive(Clone, Debug, Default)]
struct Kept<'a> {
    time: (Found<'a>, &'static str),
    found: Vec<Found<'a>>,
    met: Vec<u64>,
    broken: Vec<(Slot, Malformed)>,
    defaulted: Vec<Slot>,
}

/// What a field of an envelope is, in encodings whose schemas name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    /// A member of the message, if it has none of that name.
    Beside,
    Message,
    Before,
    Operation,
    Time(&'static str),
    Id,
    Version,
}

impl Part {
    pub(super) fn of(envelope: Envelope, name: &str) -> Part {
        match (envelope, name) {
            (Envelope::Batch, "batch")
            | (Envelope::Connect, "payload")
            | (Envelope::Cloudevents, "data")
            | (Envelope::Debezium, "after") => Part::Message,
            (Envelope::Debezium, "before") => Part::Before,
            (Envelope::Debezium, "op") => Part::Operation,
            (Envelope::Debezium, "ts_ms") => Part::Time("ts_ms"),
            (Envelope::Cloudevents, "time") => Part::Time("time"),
            (Envelope::Cloudevents, "id") => Part::Id,
            (Envelope::Cloudevents, "specversion") => Part::Version,
            _ => Part::Beside,
        }
    }
}

/// The headers of attributes that a job needs, with their nodes.
pub(super) fn attributes(layout: &Layout) -> Vec<(String, Slot)> {
    let members = layout.nodes[0].members.iter();
    members.map(|member| (format!("ce_{}", member.name), member.node)).collect()
}

/// A record that is being unwrapped.
struct Record<'a, 'd> {
    decoder: &'d Decoder,
    /// How it is written: by the schema that it names, where it names one.
    written: &'d Written,
    headers: Option<&'a dyn Headers>,
}

/// What an envelope has inside.
pub(super) enum Inside<'a> {
    /// One value, where it starts in the envelope, and its type.
    One(&'a [u8], usize, InsideType),
    /// Null, or nothing.
    Nothing,
    /// The elements, which are in [`Outer::elements`].
    Elements,
}

impl Decoder {
    /// Returns whether messages come in envelopes: then they are read by [`Decoder::unwrap`].
    pub fn has_envelopes(&self) -> bool {
        !self.envelopes.is_empty()
    }

    /// Takes the envelopes off and refills `fields` with each message that was inside, in order. `headers` are the record's.
    ///
    /// What can't be unwrapped is one malformed message. A batch without elements has no message.
    ///
    /// # Errors
    /// An error of `each` ends it.
    pub fn unwrap<'a, E>(
        &self,
        record: &'a [u8],
        headers: Option<&'a dyn Headers>,
        fields: &mut Fields<'a>,
        each: &mut impl FnMut(Unwrapped<'a>, &mut Fields<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.begin(headers, fields);
        let start = if record.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let whole = Unwrapped { element: None, raw: record, inner: record, content: Ok(Content::Blank) };
        let written = &self.written;
        if let Written::Registered(registered) = written {
            let message = match registered.open(record, headers, &self.layout, &self.envelopes) {
                Ok(message) => message,
                Err(malformed) => return each(Unwrapped { content: Err(malformed), ..whole }, fields),
            };
            let Unprefixed { written, root, bytes, start } = message;
            let whole = Unwrapped { inner: bytes, ..whole };
            return Record { decoder: self, written: &written, headers }.open(
                (0, root),
                bytes,
                start,
                whole,
                fields,
                each,
            );
        }
        if let Some(root) = written.root() {
            return Record { decoder: self, written, headers }.open((0, root), record, 0, whole, fields, each);
        }
        Record { decoder: self, written, headers }.open((0, 0), &record[start..], start, whole, fields, each)
    }
}

impl<'a> Record<'a, '_> {
    /// Opens `value`, of which so many envelopes are off, and which is of a type; it starts at byte `at` of `message.raw`.
    fn open<E>(
        &self,
        (off, of): (usize, InsideType),
        value: &'a [u8],
        at: usize,
        message: Unwrapped<'a>,
        fields: &mut Fields<'a>,
        each: &mut impl FnMut(Unwrapped<'a>, &mut Fields<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let decoder = self.decoder;
        let layout = &decoder.layout;
        let placed = |malformed: Malformed| Malformed { at: malformed.at + at, ..malformed };
        let Some(envelope) = decoder.envelopes.get(off) else {
            let known = fields.broken.len();
            let read = self.written.read(layout, of, value, fields);
            fields.place_broken(known, at);
            return each(Unwrapped { inner: value, content: read.map_err(placed), ..message }, fields);
        };
        let known = fields.broken.len();
        let has_batch = decoder.envelopes[off + 1..].contains(&Envelope::Batch);
        let mut outer = std::mem::take(&mut fields.outer);
        let opened = match (envelope, self.written) {
            (Envelope::Cloudevents, _) if is_binary_event(self.headers) => {
                self.attributes(fields, &mut outer);
                Ok(Inside::One(value, 0, of))
            }
            (_, Written::Avro(reader)) => reader.open(layout, (*envelope, off), of, value, fields, &mut outer),
            (_, Written::Protobuf(reader)) => reader.open(layout, (*envelope, off), of, value, fields, &mut outer),
            (_, Written::Registered(_)) => unreachable!("a message is written by one schema"),
            (Envelope::Batch, Written::Text) => batch(layout, value, fields, &mut outer),
            (Envelope::Debezium, Written::Text) => debezium(layout, value, fields, &mut outer, has_batch),
            (Envelope::Connect, Written::Text) => connect(value, &mut outer, has_batch),
            (Envelope::Cloudevents, Written::Text) => structured(layout, value, fields, &mut outer, has_batch),
        };
        fields.outer = outer;
        fields.place_broken(known, at);
        match opened {
            Err(malformed) => each(Unwrapped { inner: value, content: Err(placed(malformed)), ..message }, fields),
            Ok(Inside::Nothing) => each(Unwrapped { content: Ok(Content::Blank), ..message }, fields),
            Ok(Inside::One(value, start, of)) => self.open((off + 1, of), value, at + start, message, fields, each),
            Ok(Inside::Elements) => {
                fields.keep();
                let elements = std::mem::take(&mut fields.outer.elements);
                let mut done = Ok(());
                for (index, (start, end, of)) in elements.iter().copied().enumerate() {
                    let raw = &value[start..end];
                    let index = u32::try_from(index).expect("a record has less than 4 GiB");
                    let element = Some(Element { index, start: at + start });
                    let message = Unwrapped { element, raw, inner: raw, content: Ok(Content::Blank) };
                    fields.reset();
                    done = match (raw, self.written) {
                        (b"null", Written::Text) => each(message, fields),
                        _ => self.open((off + 1, of), raw, 0, message, fields, each),
                    };
                    if done.is_err() {
                        break;
                    }
                }
                fields.outer.elements = elements;
                done
            }
        }
    }

    fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.and_then(|headers| headers.get(name))
    }

    /// Reads the attributes of a binary CloudEvent.
    fn attributes(&self, fields: &mut Fields<'a>, outer: &mut Outer<'a>) {
        let text = |name: &str| self.header(name).map(super::header);
        for (name, slot) in self.decoder.attributes.iter() {
            if let Some(found) = text(name) {
                fields.set(&self.decoder.layout, *slot, found);
            }
        }
        outer.id = text("ce_id").unwrap_or_default();
        outer.time = (text("ce_time").unwrap_or_default(), "ce_time");
    }
}

/// Returns whether a record with these headers is a binary CloudEvent.
pub(super) fn is_binary_event(headers: Option<&dyn Headers>) -> bool {
    let header = |name: &str| headers.and_then(|headers| headers.get(name));
    let is_structured = header("content-type").is_some_and(|of| of.starts_with(b"application/cloudevents"));
    !is_structured && header("ce_specversion").is_some()
}

impl Outer<'_> {
    /// Begins a batch: the envelope's id is that of no element.
    pub(super) fn begin_batch(&mut self, layout: &Layout, fields: &mut Fields<'_>) {
        self.elements.clear();
        fields.hide_id(layout);
        self.id = Found::Nothing;
    }
}

/// Returns the end of what is in an envelope. One that has a batch inside is passed over: a broken element of it is broken alone.
fn skip_whole(scan: &mut Scan<'_, '_>, at: usize, has_batch: bool) -> Option<usize> {
    if has_batch { pass_over(scan, at) } else { skip_inside(scan, at) }
}

/// Returns an envelope as text. For bytes of one with a batch that are not UTF-8, one that ends nothing stands in their place.
fn as_text(value: &[u8], has_batch: bool) -> Result<Cow<'_, str>, Malformed> {
    match utf8(value) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(malformed) if !has_batch => Err(malformed),
        Err(_) => Ok(Cow::Owned(passable(value))),
    }
}

fn passable(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

/// Returns the end of a value in an envelope, whose structure is checked.
fn skip_inside(scan: &mut Scan<'_, '_>, at: usize) -> Option<usize> {
    scan.skip::<false>(at, 1)
}

/// Returns the end of a value in an envelope by brackets and quotes alone.
fn pass_over(scan: &mut Scan<'_, '_>, at: usize) -> Option<usize> {
    if !matches!(scan.byte(at), b'{' | b'[') {
        return skip_inside(scan, at);
    }
    let (mut at, mut depth) = (at, 0usize);
    loop {
        match scan.byte(at) {
            b'"' => {
                at = scan.skip_string(at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ if at >= scan.bytes.len() => return scan.fail(What::Expected("`}` or `]`"), at),
            _ => {}
        }
        at += 1;
    }
}

/// Returns what is in an envelope at a range of it.
fn inside(value: &[u8], (start, end): (usize, usize)) -> Inside<'_> {
    match value[start..end].trim_ascii() {
        b"null" | b"" => Inside::Nothing,
        _ => Inside::One(&value[start..end], start, 0),
    }
}

fn connect<'a>(value: &'a [u8], outer: &mut Outer<'a>, has_batch: bool) -> Result<Inside<'a>, Malformed> {
    let mut payload = None;
    members(&as_text(value, has_batch)?, &mut outer.marks, |scan, name, start| {
        if name != "payload" {
            return skip_inside(scan, start);
        }
        let end = skip_whole(scan, start, has_batch)?;
        payload = Some((start, end));
        Some(end)
    })?;
    match payload {
        Some(range) => Ok(inside(value, range)),
        None => missing("no `payload`, which `unwrap: connect` takes"),
    }
}

fn debezium<'a>(
    layout: &Layout,
    value: &'a [u8],
    fields: &mut Fields<'a>,
    outer: &mut Outer<'a>,
    has_batch: bool,
) -> Result<Inside<'a>, Malformed> {
    let (mut before, mut after, mut op) = (None, None, Found::Nothing);
    let Outer { marks, time, .. } = outer;
    members(&as_text(value, has_batch)?, marks, |scan, name, start| {
        let end = skip_whole(scan, start, has_batch && matches!(name, "before" | "after"))?;
        match name {
            "before" => before = Some((start, end)),
            "after" => after = Some((start, end)),
            _ => {
                match name {
                    "op" => op = scalar(scan, value, start, end),
                    "ts_ms" => *time = (scalar(scan, value, start, end), "ts_ms"),
                    _ => {}
                }
                outer_member(layout, scan, name, value, (start, end), fields)?;
            }
        }
        Some(end)
    })?;
    let row = match &op {
        Found::Text(op) if op == "d" => before,
        Found::Text(_) => after,
        _ => return missing("no `op`, which a change of Debezium's has"),
    };
    Ok(row.map_or(Inside::Nothing, |range| inside(value, range)))
}

fn structured<'a>(
    layout: &Layout,
    value: &'a [u8],
    fields: &mut Fields<'a>,
    outer: &mut Outer<'a>,
    has_batch: bool,
) -> Result<Inside<'a>, Malformed> {
    let (mut data, mut is_encoded, mut has_version) = (None, false, false);
    let Outer { marks, id, time, .. } = outer;
    members(&as_text(value, has_batch)?, marks, |scan, name, start| {
        let end = skip_whole(scan, start, has_batch && name == "data")?;
        match name {
            "data" => data = Some((start, end)),
            "data_base64" => is_encoded = true,
            _ => {
                match name {
                    "specversion" => has_version = true,
                    "id" => *id = scalar(scan, value, start, end),
                    "time" => *time = (scalar(scan, value, start, end), "time"),
                    _ => {}
                }
                outer_member(layout, scan, name, value, (start, end), fields)?;
            }
        }
        Some(end)
    })?;
    match data {
        _ if !has_version => missing("no `specversion`, which a CloudEvent has"),
        Some(range) => Ok(inside(value, range)),
        None if is_encoded => missing("a CloudEvent with `data_base64`, and only `data` is read"),
        None => Ok(Inside::Nothing),
    }
}

fn batch<'a>(
    layout: &Layout,
    value: &'a [u8],
    fields: &mut Fields<'a>,
    outer: &mut Outer<'a>,
) -> Result<Inside<'a>, Malformed> {
    // An element that is not UTF-8 is broken alone.
    let text = as_text(value, true)?;
    outer.begin_batch(layout, fields);
    let Outer { marks, elements, .. } = outer;
    let mut is_list = false;
    if text.trim_ascii_start().starts_with('[') {
        marks.refill(text.as_bytes());
        let mut scan = Scan::new(&text, marks);
        let start = scan.blank(0);
        let end = split(&mut scan, start, elements).and_then(|end| ends(&mut scan, end));
        end.ok_or(scan.error)?;
        is_list = true;
    } else {
        members(&text, marks, |scan, name, start| {
            if name != "batch" {
                let end = scan.skip::<false>(start, 1)?;
                outer_member(layout, scan, name, value, (start, end), fields)?;
                return Some(end);
            }
            // Of a repeated key the last counts.
            elements.clear();
            is_list = scan.byte(start) == b'[';
            if is_list { split(scan, start, elements) } else { scan.skip::<false>(start, 1) }
        })?;
    }
    if !is_list {
        return missing("no list `batch`, which `unwrap: batch` takes");
    }
    // One beside the batch.
    fields.hide_id(layout);
    Ok(Inside::Elements)
}

pub(super) fn missing<T>(what: &'static str) -> Result<T, Malformed> {
    Err(Malformed { what: What::Envelope(what), at: 0 })
}

/// Reads the value at a range of an envelope as a member of the message, if the job needs it.
fn outer_member<'a>(
    layout: &Layout,
    scan: &mut Scan<'_, '_>,
    name: &str,
    value: &'a [u8],
    (start, end): (usize, usize),
    fields: &mut Fields<'a>,
) -> Option<()> {
    // The properties of Snowplow's events are no member.
    let Some(slot) = layout.root_member(name).filter(|slot| layout.snowplow.properties() != Some(*slot)) else {
        return Some(());
    };
    let known = fields.broken.len();
    let text = utf8(&value[start..end]);
    let read =
        text.and_then(|text| over(layout, text, fields, |walk| walk.value(slot, 0, 1, Ahead::default()).map(drop)));
    fields.place_broken(known, start);
    match read {
        Ok(()) => Some(()),
        Err(malformed) => scan.fail(malformed.what, malformed.at + start),
    }
}

/// Calls `each` with the name of each member of an object and where its value starts; it returns where the value ends.
fn members<'t>(
    text: &'t str,
    marks: &mut Marks,
    mut each: impl FnMut(&mut Scan<'t, '_>, &str, usize) -> Option<usize>,
) -> Result<(), Malformed> {
    marks.refill(text.as_bytes());
    let mut scan = Scan::new(text, marks);
    walk_members(&mut scan, &mut each).ok_or(scan.error)
}

fn walk_members<'t, 'm>(
    scan: &mut Scan<'t, 'm>,
    each: &mut impl FnMut(&mut Scan<'t, 'm>, &str, usize) -> Option<usize>,
) -> Option<()> {
    let mut at = scan.blank(0);
    if scan.byte(at) != b'{' {
        return scan.fail(What::NotOneObject, at);
    }
    at = scan.blank(at + 1);
    if scan.byte(at) == b'}' {
        return ends(scan, at + 1);
    }
    loop {
        if scan.byte(at) != b'"' {
            return scan.fail(What::Expected("a name"), at);
        }
        let end = scan.skip_string(at)?;
        // A name whose escapes stand for nothing is nobody's name.
        let name = scan.string(at, end).unwrap_or_default();
        let start = scan.colon(end)?;
        at = each(scan, &name, start)?;
        at = scan.blank(at);
        match scan.byte(at) {
            b',' => at = scan.blank(at + 1),
            b'}' => return ends(scan, at + 1),
            _ => return scan.fail(What::Expected("`,` or `}`"), at),
        }
    }
}

/// Only white space follows.
fn ends(scan: &mut Scan<'_, '_>, at: usize) -> Option<()> {
    let rest = scan.blank(at);
    if rest != scan.bytes.len() {
        return scan.fail(What::NotOneObject, rest);
    }
    Some(())
}

/// Adds the ranges of the elements of the array at `at`, separated by brackets and quotes, and returns where it ends.
fn split(scan: &mut Scan<'_, '_>, at: usize, elements: &mut Vec<(usize, usize, InsideType)>) -> Option<usize> {
    let mut at = scan.blank(at + 1);
    let mut start = at;
    loop {
        match scan.byte(at) {
            b'"' => {
                at = scan.skip_string(at)?;
                continue;
            }
            b'{' | b'[' => {
                at = pass_over(scan, at)?;
                continue;
            }
            b']' => {
                if at > start || !elements.is_empty() {
                    elements.push(trimmed(scan, start, at));
                }
                return Some(at + 1);
            }
            b'}' => return scan.fail(What::Expected("`,` or `]`"), at),
            b',' => {
                elements.push(trimmed(scan, start, at));
                at = scan.blank(at + 1);
                start = at;
                continue;
            }
            _ if at >= scan.bytes.len() => return scan.fail(What::Expected("`,` or `]`"), at),
            _ => {}
        }
        at += 1;
    }
}

/// Returns a range without the white space at its end.
fn trimmed(scan: &Scan<'_, '_>, start: usize, end: usize) -> (usize, usize, InsideType) {
    (start, start + scan.bytes[start..end].trim_ascii_end().len(), 0)
}

/// Returns what the value at a range of an envelope is, if it is a time or an id; [`Found::Compound`] if it is an object or a list.
fn scalar<'a>(scan: &Scan<'_, '_>, value: &'a [u8], start: usize, end: usize) -> Found<'a> {
    let Ok(text) = utf8(&value[start..end]) else { return Found::NotUtf8 };
    match text {
        "null" => Found::Nothing,
        "true" => Found::Boolean(true),
        "false" => Found::Boolean(false),
        quoted if quoted.starts_with('"') => match scan.string(start, end) {
            Some(Cow::Borrowed(_)) => Found::Text(Cow::Borrowed(&quoted[1..quoted.len() - 1])),
            Some(Cow::Owned(text)) => Found::Text(Cow::Owned(text)),
            None => Found::Nothing,
        },
        word if is_number(word.as_bytes()) => Found::Number(word),
        other => Found::Compound(Cow::Borrowed(other)),
    }
}

/// A value of JSON in its parts, of which some may be broken.
#[derive(Debug)]
pub(super) enum Taken<'a> {
    /// The members of an object, in order.
    Members(Vec<(String, &'a [u8])>),
    /// The elements of an array.
    Elements(Vec<&'a [u8]>),
}

/// Takes an object or an array apart, by brackets and quotes alone where there are some.
pub(super) fn taken_apart(value: &[u8]) -> Option<Taken<'_>> {
    let value = value.strip_prefix(BYTE_ORDER_MARK).unwrap_or(value);
    let text = as_text(value, true).ok()?;
    let mut marks = Marks::default();
    if !text.trim_ascii_start().starts_with('[') {
        let mut parts = Vec::new();
        let each = |scan: &mut Scan<'_, '_>, name: &str, start| {
            let end = pass_over(scan, start)?;
            parts.push((name.to_owned(), &value[start..end]));
            Some(end)
        };
        members(&text, &mut marks, each).ok()?;
        return Some(Taken::Members(parts));
    }
    marks.refill(text.as_bytes());
    let (mut scan, mut elements) = (Scan::new(&text, &marks), Vec::new());
    let start = scan.blank(0);
    let end = split(&mut scan, start, &mut elements)?;
    ends(&mut scan, end)?;
    Some(Taken::Elements(elements.into_iter().map(|(start, end, _)| &value[start..end]).collect()))
}

impl Fields<'_> {
    /// Takes back a message id, which is that of no element of a batch.
    fn hide_id(&mut self, layout: &Layout) {
        match layout.id {
            Some(slot) if (slot as usize) < layout.nodes.len() => self.forget(layout, slot),
            // A header.
            Some(slot) => self.found[slot as usize] = Found::Nothing,
            None => {}
        }
    }

    /// Keeps what the envelope has left, for the elements of its batch.
    fn keep(&mut self) {
        let kept = &mut self.outer.kept;
        kept.time.clone_from(&self.outer.time);
        kept.found.clone_from(&self.found);
        kept.met.clone_from(&self.met);
        kept.broken.clone_from(&self.broken);
        kept.defaulted.clone_from(&self.defaulted);
    }

    /// Forgets what the last element has left.
    fn reset(&mut self) {
        let Outer { id, time, kept, .. } = &mut self.outer;
        *id = Found::Nothing;
        time.clone_from(&kept.time);
        self.found.clone_from_slice(&kept.found);
        self.met.clone_from_slice(&kept.met);
        self.broken.clone_from(&kept.broken);
        self.defaulted.clone_from(&kept.defaulted);
        self.lists.clear();
        self.entities.clear();
    }
}
