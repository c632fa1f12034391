//! Messages in Protobuf: the schema that wrote them, compiled for what a job needs, walks the wire.
//!
//! A message and the node of the layout that it is wanted at make one step: for each field number that a path leads to, where it leads. All
//! other fields, known or not, are skipped by their wire type. Fields go by their name, or by their name in JSON.
//!
//! | Protobuf | is |
//! |---|---|
//! | integers | an integer; beyond 64 bits with a sign a decimal |
//! | double, float | a number; `NaN` and infinities are [`Found::NotFinite`] |
//! | enum | the name of its value, as text; a number that it does not have is an integer |
//! | bytes | a text, base64 |
//! | `google.protobuf.Timestamp` | a time, floored to a ms |
//! | `google.protobuf.Duration` | seconds, a decimal |
//! | wrappers, `Struct`, `Value`, `ListValue` | what is in them |
//! | repeated, map, message | [`Found::Compound`], as JSON, where it is wanted whole |
//!
//! A field that is left out has its default, unless it has presence (`optional`, `oneof`, messages): then it has no value. Of a field that is
//! given twice the last counts, of a `oneof` the last of its fields; of a message that is given twice the fields of both count, but its lists
//! and its JSON are those of the last one that has them. Packed and unpacked lists are both read.
//!
//! Refuses: a schema with groups, a message that ends early, and one deeper than [`DEPTH_MAX`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use usher_config::{Envelope, Found};

use super::binary::{self, Text};
use super::envelope::{Content, Inside, Outer, Part, missing};
use super::layout::{Layout, Slot};
use super::malformed::{Malformed, What};
use super::{DEPTH_MAX, Fields};

mod schema;

pub use schema::imports;
use schema::{Field, Kind, Schema, TypeId};

/// A message at a node, by its place in [`ProtobufReader::steps`].
type StepId = u32;

/// Reads messages of one file for one layout.
#[derive(Debug)]
pub(super) struct ProtobufReader {
    schema: Schema,
    /// By message.
    special: Vec<Special>,
    steps: Vec<Step>,
    root: TypeId,
    /// By message: its step as the message itself.
    roots: Vec<StepId>,
    /// By the index of the envelope, then by message.
    envelopes: Vec<Vec<EnvelopeStep>>,
}

/// Of a message that is an envelope: the step for what is beside the message in it, and its parts with their fields.
type EnvelopeStep = (StepId, Vec<(Part, Field)>);

/// What a message stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Special {
    Itself,
    Timestamp,
    Duration,
    /// What its fields have.
    Transparent,
}

/// A message whose fields are wanted at a node.
#[derive(Debug, Default)]
struct Step {
    /// In the order of their numbers.
    wanted: Vec<Wanted>,
    /// By number below [`DIRECT`]: one more than the place in `wanted`; 0 if it is not.
    direct: Vec<u32>,
    /// The places of those of which something is to be done at the end of the message: lists, and fields without presence.
    at_end: Vec<u32>,
}

/// Fields with lesser numbers are found by their number, others by a search.
const DIRECT: u32 = 64;

impl Step {
    fn new(wanted: Vec<Wanted>) -> Step {
        let mut direct = vec![0; DIRECT as usize];
        for (place, wanted) in wanted.iter().enumerate().filter(|(_, wanted)| wanted.field.number < DIRECT) {
            direct[wanted.field.number as usize] = place as u32 + 1;
        }
        let at_end = wanted.iter().enumerate().filter(|(_, wanted)| wanted.field.repeated || !wanted.field.presence);
        let at_end = at_end.map(|(place, _)| place as u32).collect();
        Step { wanted, direct, at_end }
    }

    /// Returns the field of a number, if it is wanted.
    #[inline(always)]
    fn field(&self, number: u32) -> Option<&Wanted> {
        match self.direct.get(number as usize) {
            Some(place) => place.checked_sub(1).map(|place| &self.wanted[place as usize]),
            None => {
                let place = self.wanted.binary_search_by_key(&number, |wanted| wanted.field.number);
                place.ok().map(|place| &self.wanted[place])
            }
        }
    }
}

/// A field that is wanted, or has something that is.
#[derive(Debug)]
struct Wanted {
    field: Field,
    slot: Slot,
    /// The value itself is needed.
    needed: bool,
    /// It has no presence: at its default it says nothing.
    implicit: bool,
    /// Of one message: its step.
    inside: Option<StepId>,
    /// Of a list: the wanted elements.
    elements: Vec<(usize, Wanted)>,
    /// Of a map: the wanted members.
    members: Vec<Wanted>,
    star: bool,
    /// Other fields of its `oneof` that are wanted.
    others: Vec<Slot>,
}

/// A value on the wire.
#[derive(Clone, Copy, Debug)]
enum Raw<'b> {
    Varint(u64),
    Four(u32),
    Eight(u64),
    Bytes(&'b [u8]),
    /// A group, which is passed over.
    Group,
}

impl ProtobufReader {
    /// Prepares to read the message of a name in a file, in these envelopes; without a name the first one of the file. `files` are those
    /// that it imports.
    ///
    /// # Errors
    /// A clause about the schema.
    pub(super) fn new(
        text: &str,
        files: &BTreeMap<String, String>,
        message: Option<&str>,
        layout: &Layout,
        envelopes: &[Envelope],
    ) -> Result<ProtobufReader, String> {
        let schema = Schema::parse(text, files)?;
        let Some(message) = message else {
            let root = schema.at(&[0]).ok_or("it has no message")?;
            return Ok(ProtobufReader::of_schema(schema, root, layout, envelopes));
        };
        let Some(root) = schema.message(message) else {
            let near = usher_core::suggest::nearest(message, schema.names());
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("it has no message `{message}`{hint}"));
        };
        Ok(ProtobufReader::of_schema(schema, root, layout, envelopes))
    }

    fn of_schema(schema: Schema, root: TypeId, layout: &Layout, envelopes: &[Envelope]) -> ProtobufReader {
        let special: Vec<Special> = schema.messages.iter().map(|message| special(&message.name)).collect();
        let all = 0..schema.messages.len() as TypeId;
        let mut compiler =
            Compiler { schema: &schema, special: &special, layout, steps: Vec::new(), known: HashMap::new() };
        let roots = all.clone().map(|of| compiler.step(of, 0)).collect();
        let envelopes =
            envelopes.iter().map(|envelope| all.clone().map(|of| compiler.envelope(*envelope, of)).collect()).collect();
        let steps = compiler.steps;
        ProtobufReader { special, steps, root, roots, envelopes, schema }
    }

    /// Returns the message at a place in the file: the index in the file, then those in the messages around it.
    pub(super) fn at(&self, place: &[u32]) -> Option<TypeId> {
        self.schema.at(place)
    }

    /// Returns the messages of the file that are in no other one.
    pub(super) fn outermost(&self) -> impl Iterator<Item = TypeId> {
        self.schema.outermost()
    }

    /// Calls `each` with each node of the layout that a message has something for, and the names of the fields there.
    pub(super) fn reached(&self, root: TypeId, mut each: impl FnMut(Slot, &mut dyn Iterator<Item = &str>)) {
        fn inside(wanted: &Wanted, each: &mut impl FnMut(Slot, &mut dyn Iterator<Item = &str>), schema: &Schema) {
            match wanted.field.kind {
                Kind::Message(of) if !wanted.field.map => {
                    let fields = &schema.messages[of as usize].fields;
                    each(wanted.slot, &mut fields.iter().map(|field| &*field.name));
                }
                _ => each(wanted.slot, &mut std::iter::empty()),
            }
            wanted.elements.iter().for_each(|(_, element)| inside(element, each, schema));
            wanted.members.iter().for_each(|member| inside(member, each, schema));
        }
        // All messages are prepared as one: those count that are in the envelopes.
        let (mut left, mut seen) = (Vec::new(), vec![false; self.steps.len()]);
        let mut types = vec![root];
        for envelope in &self.envelopes {
            let mut inside = Vec::new();
            for (beside, parts) in types.iter().map(|of| &envelope[*of as usize]) {
                left.push(*beside);
                let messages = parts.iter().filter(|(part, _)| matches!(part, Part::Message | Part::Before));
                inside.extend(messages.filter_map(|(_, field)| match field.kind {
                    Kind::Message(of) => Some(of),
                    _ => None,
                }));
            }
            inside.sort_unstable();
            inside.dedup();
            types = inside;
        }
        for of in types {
            left.push(self.roots[of as usize]);
            each(0, &mut self.schema.messages[of as usize].fields.iter().map(|field| &*field.name));
        }
        while let Some(step) = left.pop() {
            if std::mem::replace(&mut seen[step as usize], true) {
                continue;
            }
            for wanted in &self.steps[step as usize].wanted {
                inside(wanted, &mut each, &self.schema);
                let of_parts = wanted.elements.iter().map(|(_, element)| element).chain(&wanted.members);
                left.extend(of_parts.chain([wanted]).filter_map(|wanted| wanted.inside));
            }
        }
    }

    /// Returns the type of messages.
    pub(super) fn root(&self) -> TypeId {
        self.root
    }

    /// Returns a message of a type as JSON; `None` if it can't be read.
    pub(super) fn to_json(&self, layout: &Layout, of: TypeId, bytes: &[u8]) -> Option<String> {
        let (mut fields, mut json) = (Fields::default(), String::new());
        Walk::new(self, layout, bytes, &mut fields).json(of, bytes, &mut json, 0)?;
        Some(json)
    }

    /// Reads a message, whose envelopes are off, into `fields`.
    pub(super) fn message<'a>(
        &self,
        layout: &Layout,
        of: TypeId,
        bytes: &'a [u8],
        fields: &mut Fields<'a>,
    ) -> Result<Content, Malformed> {
        let mut walk = Walk::new(self, layout, bytes, fields);
        walk.message(self.roots[of as usize], bytes, 0).map(|()| Content::Message).ok_or(walk.error)
    }

    /// Takes off the envelope that is around a value inside `opened` others.
    pub(super) fn open<'a>(
        &self,
        layout: &Layout,
        (envelope, opened): (Envelope, usize),
        of: TypeId,
        bytes: &'a [u8],
        fields: &mut Fields<'a>,
        outer: &mut Outer<'a>,
    ) -> Result<Inside<'a>, Malformed> {
        let (beside, parts) = &self.envelopes[opened][of as usize];
        let mut walk = Walk::new(self, layout, bytes, fields);
        let (mut message, mut before, mut operation, mut has_version) = (None, None, None, false);
        outer.elements.clear();
        let read = walk.message(*beside, bytes, 1).and_then(|()| {
            let mut at = 0;
            while at < bytes.len() {
                let (number, raw) = walk.next(bytes, &mut at)?;
                let Some((part, field)) = parts.iter().find(|(_, field)| field.number == number) else { continue };
                let found = walk.leaf(field.kind, raw)?;
                match (part, field.kind, raw) {
                    (Part::Beside, ..) => {}
                    (Part::Message, Kind::Message(of), Raw::Bytes(inside)) if field.repeated => {
                        let start = inside.as_ptr() as usize - bytes.as_ptr() as usize;
                        outer.elements.push((start, start + inside.len(), of));
                    }
                    (Part::Message, Kind::Message(of), Raw::Bytes(inside)) => message = Some((inside, of)),
                    (Part::Before, Kind::Message(of), Raw::Bytes(inside)) => before = Some((inside, of)),
                    (Part::Message | Part::Before, ..) => {}
                    (Part::Operation, ..) => operation = found,
                    (Part::Time(name), ..) => outer.time = (found.unwrap_or_default(), *name),
                    (Part::Id, ..) => outer.id = found.unwrap_or_default(),
                    (Part::Version, ..) => has_version = true,
                }
            }
            Some(())
        });
        if read.is_none() {
            return Err(walk.error);
        }
        let has = |part: Part| parts.iter().any(|(known, _)| *known == part);
        let inside = match (envelope, operation) {
            (Envelope::Batch, _) if has(Part::Message) => {
                let elements = std::mem::take(&mut outer.elements);
                outer.begin_batch(layout, fields);
                outer.elements = elements;
                return Ok(Inside::Elements);
            }
            (Envelope::Batch, _) => return missing("no list `batch`, which `unwrap: batch` takes"),
            (Envelope::Connect, _) if !has(Part::Message) => {
                return missing("no message `payload`, which `unwrap: connect` takes");
            }
            (Envelope::Cloudevents, _) if !has_version => {
                return missing("no `specversion`, which a CloudEvent has");
            }
            (Envelope::Cloudevents, _) if !has(Part::Message) => {
                return missing("no message `data`, which `unwrap: cloudevents` takes");
            }
            (Envelope::Debezium, Some(Found::Text(_))) if !has(Part::Message) => {
                return missing("no message `after`, which `unwrap: debezium` takes");
            }
            (Envelope::Debezium, Some(Found::Text(operation))) if operation == "d" => before,
            (Envelope::Debezium, Some(Found::Text(_))) => message,
            (Envelope::Debezium, _) => return missing("no `op`, which a change of Debezium's has"),
            _ => message,
        };
        Ok(match inside {
            Some((inside, of)) => Inside::One(inside, inside.as_ptr() as usize - bytes.as_ptr() as usize, of),
            None => Inside::Nothing,
        })
    }
}

fn special(name: &str) -> Special {
    match name.strip_prefix("google.protobuf.") {
        Some("Timestamp") => Special::Timestamp,
        Some("Duration") => Special::Duration,
        Some("Struct" | "Value" | "ListValue") => Special::Transparent,
        Some(wrapper) if wrapper.ends_with("Value") => Special::Transparent,
        _ => Special::Itself,
    }
}

struct Compiler<'s> {
    schema: &'s Schema,
    special: &'s [Special],
    layout: &'s Layout,
    steps: Vec<Step>,
    known: HashMap<(TypeId, Slot), StepId>,
}

impl Compiler<'_> {
    /// Returns the step for a message whose fields are wanted at a node.
    fn step(&mut self, of: TypeId, slot: Slot) -> StepId {
        if let Some(known) = self.known.get(&(of, slot)) {
            return *known;
        }
        let id = self.steps.len() as StepId;
        self.known.insert((of, slot), id);
        self.steps.push(Step::default());
        let schema = self.schema;
        let fields = &schema.messages[of as usize].fields;
        let slot_of = |field: &Field| match self.special[of as usize] {
            Special::Transparent => Some(slot),
            _ => self.member(slot, field),
        };
        let wanted: Vec<(&Field, Slot)> = fields.iter().filter_map(|field| Some((field, slot_of(field)?))).collect();
        let mut step = self.compile(&wanted);
        if self.special[of as usize] == Special::Transparent {
            // A wrapper that is there is a value.
            step.wanted.iter_mut().for_each(|wanted| wanted.implicit = false);
        }
        self.steps[id as usize] = step;
        id
    }

    fn compile(&mut self, wanted: &[(&Field, Slot)]) -> Step {
        let others = |field: &Field| {
            let of_oneof = wanted.iter().filter(|(other, _)| other.oneof.is_some() && other.oneof == field.oneof);
            of_oneof.filter(|(other, _)| other.number != field.number).map(|(_, slot)| *slot).collect::<Vec<_>>()
        };
        let compiled = wanted.iter().map(|(field, slot)| Wanted { others: others(field), ..self.wanted(field, *slot) });
        Step::new(compiled.collect())
    }

    /// The node of a field: by its name, or by its name in JSON.
    fn member(&self, slot: Slot, field: &Field) -> Option<Slot> {
        let node = &self.layout.nodes[slot as usize];
        let by = |name: &str| node.member(name.as_bytes(), 0, name.len());
        by(&field.name).or_else(|| by(&field.json_name))
    }

    fn wanted(&mut self, field: &Field, slot: Slot) -> Wanted {
        let layout = self.layout;
        let node = &layout.nodes[slot as usize];
        let mut wanted = Wanted {
            field: field.clone(),
            slot,
            needed: node.needed,
            implicit: !field.presence || field.repeated,
            inside: None,
            elements: Vec::new(),
            members: Vec::new(),
            star: false,
            others: Vec::new(),
        };
        if field.map {
            let Kind::Message(entry) = field.kind else { unreachable!("a map's entries are messages") };
            let value = Field { presence: true, ..self.schema.messages[entry as usize].fields[1].clone() };
            wanted.members = node.members.iter().map(|member| self.wanted(&value, member.node)).collect();
        } else if field.repeated {
            let element = Field { repeated: false, presence: true, ..field.clone() };
            wanted.elements =
                node.elements.iter().map(|(index, slot)| (*index, self.wanted(&element, *slot))).collect();
            wanted.star = node.star;
        } else if let Kind::Message(of) = field.kind {
            let is_leaf = matches!(self.special[of as usize], Special::Timestamp | Special::Duration);
            wanted.inside = (!is_leaf).then(|| self.step(of, slot));
        }
        wanted
    }

    /// Returns the step for what is beside the message in an envelope, and its parts.
    fn envelope(&mut self, envelope: Envelope, of: TypeId) -> EnvelopeStep {
        let schema = self.schema;
        let fields = &schema.messages[of as usize].fields;
        let part = |field: &Field| match Part::of(envelope, &field.name) {
            Part::Message | Part::Before
                if field.repeated != (envelope == Envelope::Batch) || !matches!(field.kind, Kind::Message(_)) =>
            {
                Part::Beside
            }
            part => part,
        };
        let parts = fields.iter().map(|field| (part(field), field.clone()));
        let parts: Vec<_> = parts.filter(|(part, _)| *part != Part::Beside).collect();
        let is_beside =
            |field: &&Field| envelope != Envelope::Connect && !matches!(part(field), Part::Message | Part::Before);
        let beside = fields.iter().filter(is_beside);
        let wanted: Vec<_> = beside.filter_map(|field| Some((field, self.member(0, field)?))).collect();
        let step = self.compile(&wanted);
        self.steps.push(step);
        (self.steps.len() as StepId - 1, parts)
    }
}

/// Returns whether a value is the default of every type that can have it.
fn is_zero(raw: Raw<'_>) -> bool {
    matches!(raw, Raw::Varint(0) | Raw::Four(0) | Raw::Eight(0) | Raw::Bytes(&[]))
}

/// A walk over one value.
struct Walk<'a, 'w> {
    reader: &'w ProtobufReader,
    layout: &'w Layout,
    whole: &'a [u8],
    fields: &'w mut Fields<'a>,
    error: Malformed,
}

impl<'a, 'w> Walk<'a, 'w> {
    fn new(
        reader: &'w ProtobufReader,
        layout: &'w Layout,
        whole: &'a [u8],
        fields: &'w mut Fields<'a>,
    ) -> Walk<'a, 'w> {
        Walk { reader, layout, whole, fields, error: Malformed { what: What::NotOneObject, at: 0 } }
    }

    /// `rest` is what follows where it failed.
    #[cold]
    fn fail<T>(&mut self, what: What, rest: &[u8]) -> Option<T> {
        let at = (rest.as_ptr() as usize).saturating_sub(self.whole.as_ptr() as usize).min(self.whole.len());
        self.error = Malformed { what, at };
        None
    }

    /// Reads the next field: its number and its value.
    #[inline(always)]
    fn next<'b>(&mut self, bytes: &'b [u8], at: &mut usize) -> Option<(u32, Raw<'b>)> {
        let start = *at;
        let Some(tag) = binary::varint(bytes, at) else {
            return self.fail(What::Unfit("a number that does not end"), &bytes[start..]);
        };
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if number > 0 && number < 1 << 29 => number,
            _ => return self.fail(What::Unfit("a field without a number"), &bytes[start..]),
        };
        // Texts and messages are most of what there is: a branch that is nearly always the same costs less than a table of types.
        if tag & 7 == 2 {
            let Some(length) = binary::varint(bytes, at) else {
                return self.fail(What::Unfit("a number that does not end"), &bytes[*at..]);
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            return Some((number, Raw::Bytes(self.take(bytes, at, length)?)));
        }
        let raw = match tag & 7 {
            0 => match binary::varint(bytes, at) {
                Some(value) => Raw::Varint(value),
                None => return self.fail(What::Unfit("a number that does not end"), &bytes[*at..]),
            },
            1 => Raw::Eight(u64::from_le_bytes(self.take(bytes, at, 8)?.try_into().expect("eight bytes"))),
            3 => {
                self.group(bytes, at, number, 0)?;
                Raw::Group
            }
            5 => Raw::Four(u32::from_le_bytes(self.take(bytes, at, 4)?.try_into().expect("four bytes"))),
            _ => return self.fail(What::Unfit("a field of no type of the wire"), &bytes[start..]),
        };
        Some((number, raw))
    }

    #[inline(always)]
    fn text<'b>(&mut self, bytes: &'b [u8]) -> Option<&'b str> {
        binary::text(bytes).or_else(|| self.fail(What::Unfit("a text that is not UTF-8"), bytes))
    }

    #[inline(always)]
    fn take<'b>(&mut self, bytes: &'b [u8], at: &mut usize, count: usize) -> Option<&'b [u8]> {
        let Some(taken) = at.checked_add(count).and_then(|end| bytes.get(*at..end)) else {
            return self.fail(What::Unfit("it ends early"), &bytes[*at..]);
        };
        *at += count;
        Some(taken)
    }

    /// Passes over a group, to its end.
    fn group(&mut self, bytes: &[u8], at: &mut usize, number: u32, depth: usize) -> Option<()> {
        if depth == DEPTH_MAX {
            return self.fail(What::TooDeep, &bytes[*at..]);
        }
        loop {
            let start = *at;
            match binary::varint(bytes, at) {
                Some(tag) if tag & 7 == 4 && tag >> 3 == u64::from(number) => return Some(()),
                Some(tag) if tag & 7 == 3 => self.group(bytes, at, (tag >> 3) as u32, depth + 1)?,
                _ => {
                    *at = start;
                    self.next(bytes, at)?;
                }
            }
        }
    }

    /// Reads the wanted fields of a message.
    fn message(&mut self, step: StepId, bytes: &'a [u8], depth: usize) -> Option<()> {
        if depth >= DEPTH_MAX {
            return self.fail(What::TooDeep, bytes);
        }
        let reader = self.reader;
        let step = &reader.steps[step as usize];
        let (mut at, mut has_lists) = (0, false);
        while at < bytes.len() {
            let (number, raw) = self.next(bytes, &mut at)?;
            let Some(wanted) = step.field(number) else { continue };
            match wanted.field.repeated {
                true => has_lists = true,
                false => self.value(wanted, raw, depth)?,
            }
        }
        for place in &step.at_end {
            let wanted = &step.wanted[*place as usize];
            if wanted.field.repeated {
                self.list(wanted, if has_lists { bytes } else { &[] }, depth)?;
            } else if !wanted.field.presence && !self.is_met(wanted.slot) {
                let default = self.default(&wanted.field);
                self.fields.set(self.layout, wanted.slot, default);
                if wanted.implicit {
                    self.fields.defaulted.push(wanted.slot);
                }
            }
        }
        Some(())
    }

    fn is_met(&self, slot: Slot) -> bool {
        self.fields.met[slot as usize / 64] & 1 << (slot % 64) != 0
    }

    /// Reads a value that is no list.
    fn value(&mut self, wanted: &Wanted, raw: Raw<'a>, depth: usize) -> Option<()> {
        for other in &wanted.others {
            self.fields.forget(self.layout, *other);
        }
        if let (Kind::String, Raw::Bytes(bytes)) = (wanted.field.kind, raw) {
            let text = self.text(bytes)?;
            self.fields.set(self.layout, wanted.slot, Found::Text(Cow::Borrowed(text)));
            if wanted.implicit && bytes.is_empty() {
                self.fields.defaulted.push(wanted.slot);
            }
            return Some(());
        }
        let Some(inside) = wanted.inside else {
            if let Some(found) = self.leaf(wanted.field.kind, raw)? {
                self.fields.set(self.layout, wanted.slot, found);
                if wanted.implicit && is_zero(raw) {
                    self.fields.defaulted.push(wanted.slot);
                }
            }
            return Some(());
        };
        // Another type of the wire is another field.
        let Raw::Bytes(bytes) = raw else { return Some(()) };
        let Kind::Message(of) = wanted.field.kind else { unreachable!("it has something inside") };
        if self.reader.special[of as usize] == Special::Itself {
            self.fields.met[wanted.slot as usize / 64] |= 1 << (wanted.slot % 64);
        }
        self.message(inside, bytes, depth + 1)?;
        if wanted.needed && self.reader.special[of as usize] == Special::Itself {
            let mut json = String::new();
            self.json(of, bytes, &mut json, depth)?;
            self.fields.found[wanted.slot as usize] = Found::Compound(Cow::Owned(json));
        }
        Some(())
    }

    /// Reads a list or a map out of all of its message.
    fn list(&mut self, wanted: &Wanted, bytes: &'a [u8], depth: usize) -> Option<()> {
        let (mut at, mut index, mut is_there) = (0, 0, false);
        while at < bytes.len() {
            let (number, raw) = self.next(bytes, &mut at)?;
            if number != wanted.field.number {
                continue;
            }
            if !std::mem::replace(&mut is_there, true) {
                self.fields.meet(self.layout, wanted.slot);
            }
            if wanted.field.map {
                self.entry(wanted, raw, depth)?;
                continue;
            }
            let mut packed = Packed::new(wanted.field.kind, raw);
            while let Some(raw) = packed.next(self)? {
                if let Some((_, element)) = wanted.elements.iter().find(|(each, _)| *each == index) {
                    self.fields.met[element.slot as usize / 64] |= 1 << (element.slot % 64);
                    self.value(element, raw, depth + 1)?;
                }
                index += 1;
            }
        }
        // One that an earlier part of the message had stays.
        if !is_there && self.is_met(wanted.slot) {
            return Some(());
        }
        self.fields.met[wanted.slot as usize / 64] |= 1 << (wanted.slot % 64);
        if wanted.needed || wanted.star {
            let mut json = String::new();
            self.json_list(&wanted.field, bytes, &mut json, depth)?;
            if wanted.implicit && matches!(&*json, "[]" | "{}") {
                let stars = self.layout.stars.iter().filter(|star| star.node == wanted.slot).map(|star| star.slot);
                self.fields.defaulted.extend(stars.chain([wanted.slot]));
            }
            if wanted.star {
                binary::stars(self.layout, wanted.slot, &json, self.fields);
            }
            if wanted.needed {
                self.fields.found[wanted.slot as usize] = Found::Compound(Cow::Owned(json));
            }
        }
        Some(())
    }

    /// Reads the wanted member of a map out of one of its entries.
    fn entry(&mut self, wanted: &Wanted, raw: Raw<'a>, depth: usize) -> Option<()> {
        let (Raw::Bytes(entry), Kind::Message(of)) = (raw, wanted.field.kind) else { return Some(()) };
        let fields = &self.reader.schema.messages[of as usize].fields;
        let (key, value) = self.key_and_value(entry, fields[0].kind)?;
        let node = &self.layout.nodes[wanted.slot as usize];
        let Some(slot) = node.member(key.as_bytes(), 0, key.len()) else { return Some(()) };
        let Some(member) = wanted.members.iter().find(|member| member.slot == slot) else { return Some(()) };
        // The last entry of a key counts.
        self.fields.meet(self.layout, slot);
        match value {
            Some(value) => self.value(member, value, depth + 1),
            None => {
                let default = self.default(&fields[1]);
                self.fields.set(self.layout, slot, default);
                Some(())
            }
        }
    }

    /// The key of a map's entry as text, and its value.
    fn key_and_value<'b>(&mut self, entry: &'b [u8], of: Kind) -> Option<(String, Option<Raw<'b>>)> {
        let (mut key, mut value, mut at) = (None, None, 0);
        while at < entry.len() {
            match self.next(entry, &mut at)? {
                (1, raw) => key = self.leaf(of, raw)?,
                (2, raw) => value = Some(raw),
                _ => {}
            }
        }
        let key = match key {
            Some(Found::Text(key)) => key.into_owned(),
            None if of == Kind::String => String::new(),
            None if of == Kind::Bool => "false".to_owned(),
            key => {
                let mut json = String::new();
                binary::write_json(&key.unwrap_or(Found::Integer(0)), &mut json);
                json
            }
        };
        Some((key, value))
    }

    /// What a field without presence has where it is left out.
    fn default<'d>(&self, field: &Field) -> Found<'d> {
        match field.kind {
            Kind::Double | Kind::Float => Found::Double(0.0),
            Kind::Bool => Found::Boolean(false),
            Kind::String | Kind::Bytes => Found::Text(Cow::Borrowed("")),
            Kind::Enum(of) => self.symbol(of, self.reader.schema.enums[of as usize].first()),
            Kind::Message(_) => Found::Nothing,
            _ => Found::Integer(0),
        }
    }

    fn symbol<'d>(&self, of: TypeId, number: i32) -> Found<'d> {
        match self.reader.schema.enums[of as usize].name(number) {
            Some("NULL_VALUE") => Found::Nothing,
            Some(name) => Found::Text(Cow::Owned(name.to_owned())),
            None => Found::Integer(number.into()),
        }
    }

    /// Reads a value without parts. Nothing inside the option: it is of another type of the wire, and so another field; or it has
    /// parts.
    #[inline(always)]
    fn leaf<'b>(&mut self, kind: Kind, raw: Raw<'b>) -> Option<Option<Found<'b>>> {
        Some(Some(match (kind, raw) {
            (Kind::Int64, Raw::Varint(raw)) => Found::Integer(raw as i64),
            (Kind::Int32, Raw::Varint(raw)) => Found::Integer((raw as i32).into()),
            (Kind::Uint32, Raw::Varint(raw)) => Found::Integer((raw as u32).into()),
            (Kind::Uint64, Raw::Varint(raw)) | (Kind::Fixed64, Raw::Eight(raw)) => match i64::try_from(raw) {
                Ok(integer) => Found::Integer(integer),
                Err(_) => Found::Decimal(raw.to_string()),
            },
            (Kind::Sint32, Raw::Varint(raw)) => {
                let raw = raw as u32;
                Found::Integer(((raw >> 1) as i32 ^ -((raw & 1) as i32)).into())
            }
            (Kind::Sint64, Raw::Varint(raw)) => Found::Integer((raw >> 1) as i64 ^ -((raw & 1) as i64)),
            (Kind::Fixed32, Raw::Four(raw)) => Found::Integer(raw.into()),
            (Kind::Sfixed32, Raw::Four(raw)) => Found::Integer((raw as i32).into()),
            (Kind::Sfixed64, Raw::Eight(raw)) => Found::Integer(raw as i64),
            (Kind::Float, Raw::Four(raw)) => binary::number(f32::from_bits(raw).into()),
            (Kind::Double, Raw::Eight(raw)) => binary::number(f64::from_bits(raw)),
            (Kind::Bool, Raw::Varint(raw)) => Found::Boolean(raw != 0),
            (Kind::Enum(of), Raw::Varint(raw)) => self.symbol(of, raw as i32),
            (Kind::String, Raw::Bytes(bytes)) => Found::Text(Cow::Borrowed(self.text(bytes)?)),
            (Kind::Bytes, Raw::Bytes(bytes)) => Found::Text(Cow::Owned(binary::base64(bytes))),
            (Kind::Message(of), Raw::Bytes(bytes)) => match self.reader.special[of as usize] {
                Special::Timestamp => {
                    let (seconds, nanos) = self.seconds(bytes)?;
                    let ms =
                        seconds.checked_mul(1_000).and_then(|ms| ms.checked_add((nanos.div_euclid(1_000_000)).into()));
                    ms.map_or(Found::NotFinite, Found::Timestamp)
                }
                Special::Duration => {
                    let (seconds, nanos) = self.seconds(bytes)?;
                    let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
                    Found::Decimal(binary::decimal(&nanos.to_be_bytes(), 9))
                }
                _ => return Some(None),
            },
            _ => return Some(None),
        }))
    }

    /// The two fields of a time or a duration.
    fn seconds(&mut self, bytes: &[u8]) -> Option<(i64, i32)> {
        let (mut seconds, mut nanos, mut at) = (0, 0, 0);
        while at < bytes.len() {
            match self.next(bytes, &mut at)? {
                (1, Raw::Varint(raw)) => seconds = raw as i64,
                (2, Raw::Varint(raw)) => nanos = raw as i32,
                _ => {}
            }
        }
        Some((seconds, nanos))
    }

    /// Writes a message as JSON, with all of its fields but those that are left out and have presence.
    fn json(&mut self, of: TypeId, bytes: &[u8], out: &mut String, depth: usize) -> Option<()> {
        if depth >= DEPTH_MAX {
            return self.fail(What::TooDeep, bytes);
        }
        let reader = self.reader;
        let (special, message) = (reader.special[of as usize], &reader.schema.messages[of as usize]);
        if special == Special::Transparent {
            for field in &message.fields {
                if field.repeated {
                    return self.json_list(field, bytes, out, depth);
                }
                if let Some(value) = self.last(field, bytes)? {
                    return self.json_value(field, &value, out, depth);
                }
            }
            // An empty wrapper has its default, an empty value is null.
            let default = message.fields.first().filter(|field| !field.presence).map(|field| self.default(field));
            binary::write_json(&default.unwrap_or_default(), out);
            return Some(());
        }
        out.push('{');
        let start = out.len();
        for field in &message.fields {
            let value = if field.repeated { None } else { self.last(field, bytes)? };
            if value.is_none() && field.presence && !field.repeated {
                continue;
            }
            out.push_str(if out.len() > start { "," } else { "" });
            out.push_text(&field.name);
            out.push(':');
            match value {
                _ if field.repeated => self.json_list(field, bytes, out, depth)?,
                Some(value) => self.json_value(field, &value, out, depth)?,
                None => binary::write_json(&self.default(field), out),
            }
        }
        out.push('}');
        Some(())
    }

    /// The last value of a field; of a message all of them together, which merges them.
    fn last<'b>(&mut self, field: &Field, bytes: &'b [u8]) -> Option<Option<Last<'b>>> {
        let (mut last, mut at) = (None, 0);
        while at < bytes.len() {
            let (number, raw) = self.next(bytes, &mut at)?;
            if number != field.number {
                continue;
            }
            last = match (field.kind, raw, last) {
                (Kind::Message(_), Raw::Bytes(more), Some(Last::Merged(mut before))) => {
                    before.extend_from_slice(more);
                    Some(Last::Merged(before))
                }
                (Kind::Message(_), Raw::Bytes(more), Some(Last::Raw(Raw::Bytes(before)))) => {
                    Some(Last::Merged([before, more].concat()))
                }
                (Kind::Message(_), Raw::Bytes(_), _) => Some(Last::Raw(raw)),
                (_, raw, last) => self.leaf(field.kind, raw)?.map(|_| Last::Raw(raw)).or(last),
            };
        }
        Some(last)
    }

    fn json_value(&mut self, field: &Field, value: &Last<'_>, out: &mut String, depth: usize) -> Option<()> {
        match value {
            Last::Raw(raw) => self.json_raw(field.kind, *raw, out, depth),
            Last::Merged(bytes) => self.json_raw(field.kind, Raw::Bytes(bytes), out, depth),
        }
    }

    fn json_raw(&mut self, kind: Kind, raw: Raw<'_>, out: &mut String, depth: usize) -> Option<()> {
        match (self.leaf(kind, raw)?, kind, raw) {
            (Some(found), ..) => binary::write_json(&found, out),
            (None, Kind::Message(of), Raw::Bytes(bytes)) => self.json(of, bytes, out, depth + 1)?,
            (None, ..) => out.push_str("null"),
        }
        Some(())
    }

    /// Writes a list or a map of a message as JSON.
    fn json_list(&mut self, field: &Field, bytes: &[u8], out: &mut String, depth: usize) -> Option<()> {
        out.push(if field.map { '{' } else { '[' });
        let start = out.len();
        let mut at = 0;
        while at < bytes.len() {
            let (number, raw) = self.next(bytes, &mut at)?;
            if number != field.number {
                continue;
            }
            if let (true, Raw::Bytes(entry), Kind::Message(of)) = (field.map, raw, field.kind) {
                let fields = &self.reader.schema.messages[of as usize].fields;
                let (key, value) = self.key_and_value(entry, fields[0].kind)?;
                out.push_str(if out.len() > start { "," } else { "" });
                out.push_text(&key);
                out.push(':');
                match value {
                    Some(value) => self.json_raw(fields[1].kind, value, out, depth)?,
                    None => binary::write_json(&self.default(&fields[1]), out),
                }
                continue;
            }
            let mut packed = Packed::new(field.kind, raw);
            while let Some(raw) = packed.next(self)? {
                out.push_str(if out.len() > start { "," } else { "" });
                self.json_raw(field.kind, raw, out, depth)?;
            }
        }
        out.push(if field.map { '}' } else { ']' });
        Some(())
    }
}

/// The last value of a field.
enum Last<'b> {
    Raw(Raw<'b>),
    Merged(Vec<u8>),
}

/// The values of one field of a list: one, or several that are packed.
struct Packed<'b> {
    kind: Kind,
    one: Option<Raw<'b>>,
    rest: &'b [u8],
}

impl<'b> Packed<'b> {
    fn new(kind: Kind, raw: Raw<'b>) -> Packed<'b> {
        let (one, rest): (_, &[u8]) = match (kind, raw) {
            (Kind::String | Kind::Bytes | Kind::Message(_), Raw::Bytes(_)) => (Some(raw), &[]),
            (Kind::String | Kind::Bytes | Kind::Message(_), _) => (None, &[]),
            (_, Raw::Bytes(packed)) => (None, packed),
            (Kind::Double | Kind::Fixed64 | Kind::Sfixed64, raw) => {
                (Some(raw).filter(|raw| matches!(raw, Raw::Eight(_))), &[])
            }
            (Kind::Float | Kind::Fixed32 | Kind::Sfixed32, raw) => {
                (Some(raw).filter(|raw| matches!(raw, Raw::Four(_))), &[])
            }
            // Another type of the wire is another field.
            (_, raw) => (Some(raw).filter(|raw| matches!(raw, Raw::Varint(_))), &[]),
        };
        Packed { kind, one, rest }
    }

    /// Returns the next value; `None` inside if there is none.
    fn next(&mut self, walk: &mut Walk<'_, '_>) -> Option<Option<Raw<'b>>> {
        if self.one.is_some() || self.rest.is_empty() {
            return Some(self.one.take());
        }
        let mut at = 0;
        let raw = match self.kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
                Raw::Eight(u64::from_le_bytes(walk.take(self.rest, &mut at, 8)?.try_into().expect("eight bytes")))
            }
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
                Raw::Four(u32::from_le_bytes(walk.take(self.rest, &mut at, 4)?.try_into().expect("four bytes")))
            }
            _ => match binary::varint(self.rest, &mut at) {
                Some(value) => Raw::Varint(value),
                None => return walk.fail(What::Unfit("a number that does not end"), self.rest),
            },
        };
        self.rest = &self.rest[at..];
        Some(Some(raw))
    }
}
