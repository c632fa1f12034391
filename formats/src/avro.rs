//! Messages in Avro: the schema that wrote them, compiled for what a job needs, walks them.
//!
//! A type and the node of the layout that its value is wanted at make one step; what no path leads to is skipped. Fields go by name, a
//! union's branch is passed through.
//!
//! | Avro | is |
//! |---|---|
//! | int, long | an integer |
//! | float, double | a number; `NaN` and infinities are [`Found::NotFinite`] |
//! | decimal | a number, as many digits as it has |
//! | string, enum, uuid | a text |
//! | bytes, fixed | a text, base64 |
//! | date, timestamp-…, local-timestamp-… | a day, a time floored to a ms |
//! | array, map, record | [`Found::Compound`], as JSON, where it is wanted whole |
//!
//! Refuses: a message that is no record or map, one that ends before or behind its end, and one deeper than [`DEPTH_MAX`].

use std::borrow::Cow;
use std::collections::HashMap;

use usher_config::{Envelope, Found};

use super::DEPTH_MAX;
use super::Fields;
use super::binary::{self, Text};
use super::envelope::{Content, Inside, Outer, Part, missing};
use super::layout::{Layout, Slot};
use super::malformed::{Malformed, What};

mod schema;

use schema::{Schema, Type, TypeId};

/// A step of the walk, by its place in [`AvroReader::steps`].
type StepId = u32;

/// Values without bytes that a list may have: 65,536. Any number of them fits in a message.
const EMPTY_MAX: u64 = 1 << 16;
/// What is wrong with the index of a union's branch.
const NO_BRANCH: &str = "a branch that its union does not have";
/// The longest decimal, bytes.
const DECIMAL_BYTES: usize = 512;

/// Reads messages of one schema for one layout.
#[derive(Debug)]
pub(super) struct AvroReader {
    schema: Schema,
    steps: Vec<Step>,
    /// By type: what skips it.
    skips: Vec<StepId>,
    /// By type: whether its values have no bytes.
    empty: Vec<bool>,
    /// By how many envelopes are off, then by type: what is to be done there.
    entries: Vec<Vec<Option<Entry>>>,
}

#[derive(Debug)]
struct Step {
    of: TypeId,
    kind: Kind,
    /// Where its value is wanted, or values inside it.
    slot: Option<Slot>,
    /// It is wanted as JSON.
    whole: bool,
    /// Paths with `[*]` start here.
    star: bool,
}

#[derive(Debug)]
enum Kind {
    Leaf,
    Record(Vec<FieldStep>),
    /// What skips an item; the wanted ones.
    Array(StepId, Vec<(usize, StepId)>),
    /// What skips a value; the wanted ones.
    Map(StepId, Vec<(Slot, StepId)>),
    Union(Vec<StepId>),
}

/// A field of a record: its step, and how its value is read without that where its type is a plain one.
#[derive(Debug)]
struct FieldStep {
    step: StepId,
    /// Set if it is a union of null and one other type.
    optional: Option<Optional>,
    /// Of a union the value in its other branch.
    value: Plain,
}

/// A union of null and one other type: the byte that each branch begins with.
#[derive(Debug)]
struct Optional {
    null: u8,
    other: u8,
    /// Where a null is wanted.
    slot: Option<Slot>,
}

/// How a value is read.
#[derive(Debug)]
enum Plain {
    /// It is passed over: what starts with its length, a number of any length, so many bytes.
    Sized,
    Long,
    Bytes(usize),
    /// A text that is wanted.
    Text(Slot),
    /// By its step.
    Step(StepId),
}

/// What a value is, when some envelopes are off.
#[derive(Debug)]
enum Entry {
    /// The message.
    Message(StepId),
    /// An envelope: its fields, each with its part, the step that reads it and its type.
    Envelope(Vec<(Part, StepId, TypeId)>),
    /// A bare list.
    List(TypeId),
    /// Something else than the envelope that is to be there.
    Wrong(&'static str),
}

impl AvroReader {
    /// Prepares to read messages that a schema wrote, in these envelopes. `references` are the schemas whose types it names.
    ///
    /// # Errors
    /// A clause about the schema.
    pub(super) fn new(
        text: &str,
        references: &[&str],
        layout: &Layout,
        envelopes: &[Envelope],
    ) -> Result<AvroReader, String> {
        let schema = Schema::parse(text, references)?;
        let mut compiler = Compiler { schema: &schema, layout, steps: Vec::new(), known: HashMap::new() };
        let skips = (0..schema.types.len() as TypeId).map(|of| compiler.step(of, None)).collect();
        let mut entries: Vec<Vec<Option<Entry>>> = Vec::new();
        for _ in 0..=envelopes.len() {
            entries.push((0..schema.types.len()).map(|_| None).collect());
        }
        compiler.enter(schema.root, envelopes, 0, &mut entries);
        let is_root = |entry: &Option<Entry>| !matches!(entry, None | Some(Entry::Wrong(_)));
        if envelopes.is_empty() && !entries[0].iter().any(is_root) {
            return Err("its type is no record".to_owned());
        }
        let steps = compiler.steps;
        let empty = empty(&schema);
        Ok(AvroReader { schema, steps, skips, empty, entries })
    }

    /// Calls `each` with each node of the layout that the schema has something for, and the names of the fields there.
    pub(super) fn reached(&self, mut each: impl FnMut(Slot, &mut dyn Iterator<Item = &str>)) {
        for step in &self.steps {
            let Some(slot) = step.slot else { continue };
            match self.schema.of(step.of) {
                Type::Record(fields) => each(slot, &mut fields.iter().map(|(name, _)| &**name)),
                _ => each(slot, &mut std::iter::empty()),
            }
        }
    }

    /// Returns the type of messages.
    pub(super) fn root(&self) -> TypeId {
        self.schema.root
    }

    /// Returns a value of a type as JSON; `None` if it can't be read.
    pub(super) fn to_json(&self, layout: &Layout, of: TypeId, bytes: &[u8]) -> Option<String> {
        let (mut fields, mut json) = (Fields::default(), String::new());
        let mut walk = Walk::new(self, layout, bytes, &mut fields);
        walk.json(of, &mut json, 0)?;
        walk.end()?;
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
        let walked = walk.branch(of).and_then(|of| match self.entries.last()?[of as usize].as_ref() {
            Some(Entry::Message(step)) => {
                walk.step(*step, 0)?;
                walk.end().map(|()| false)
            }
            _ if *self.schema.of(of) == Type::Null => Some(true),
            _ => walk.fail(What::Unfit("it is no record")),
        });
        match walked {
            Some(true) => Ok(Content::Blank),
            Some(false) => Ok(Content::Message),
            None => Err(walk.error),
        }
    }

    /// Takes off the envelope that is around a value when `off` envelopes are off.
    pub(super) fn open<'a>(
        &self,
        layout: &Layout,
        (envelope, off): (Envelope, usize),
        of: TypeId,
        bytes: &'a [u8],
        fields: &mut Fields<'a>,
        outer: &mut Outer<'a>,
    ) -> Result<Inside<'a>, Malformed> {
        let mut walk = Walk::new(self, layout, bytes, fields);
        let Some(of) = walk.branch(of) else { return Err(walk.error) };
        let parts = match &self.entries[off][of as usize] {
            Some(Entry::Envelope(parts)) => parts,
            Some(Entry::List(items)) => {
                return walk.elements(*items, outer).map(|()| Inside::Elements).ok_or(walk.error);
            }
            Some(Entry::Wrong(what)) => return missing(what),
            None if *self.schema.of(of) == Type::Null => return Ok(Inside::Nothing),
            Some(Entry::Message(_)) | None => return missing("another type than its schema has there"),
        };
        let (mut message, mut before, mut operation) = (None, None, Found::Nothing);
        for (part, step, of) in parts {
            let start = walk.at;
            if walk.step(*step, 1).is_none() {
                return Err(walk.error);
            }
            match part {
                Part::Beside | Part::Version => {}
                Part::Message => message = Some((start, *of)),
                Part::Before => before = Some((start, *of)),
                Part::Operation => operation = walk.again(start, *of),
                Part::Time(name) => outer.time = (walk.again(start, *of), *name),
                Part::Id => outer.id = walk.again(start, *of),
            }
        }
        if walk.end().is_none() {
            return Err(walk.error);
        }
        let inside = match (envelope, &operation) {
            (Envelope::Debezium, Found::Text(operation)) if operation == "d" => before,
            (Envelope::Debezium, Found::Nothing) => return missing("no `op`, which a change of Debezium's has"),
            _ => message,
        };
        let Some((start, of)) = inside else { return Ok(Inside::Nothing) };
        walk.at = start;
        let found = walk.branch(of).and_then(|of| {
            if envelope == Envelope::Batch {
                let Type::Array(items) = self.schema.of(of) else { return Some(None) };
                walk.elements(*items, outer)?;
                return Some(Some(Inside::Elements));
            }
            let (start, is_null) = (walk.at, *self.schema.of(of) == Type::Null);
            walk.step(self.skips[of as usize], 1)?;
            Some(if is_null { Some(Inside::Nothing) } else { Some(Inside::One(&bytes[start..walk.at], start, of)) })
        });
        match found {
            Some(Some(inside)) => Ok(inside),
            Some(None) => missing("no list `batch`, which `unwrap: batch` takes"),
            None => Err(walk.error),
        }
    }
}

struct Compiler<'s> {
    schema: &'s Schema,
    layout: &'s Layout,
    steps: Vec<Step>,
    known: HashMap<(TypeId, Option<Slot>), StepId>,
}

impl Compiler<'_> {
    /// Returns the step for a type whose value is wanted at a node, or whose members are.
    fn step(&mut self, of: TypeId, slot: Option<Slot>) -> StepId {
        if let Some(known) = self.known.get(&(of, slot)) {
            return *known;
        }
        let id = self.steps.len() as StepId;
        self.known.insert((of, slot), id);
        let (schema, layout) = (self.schema, self.layout);
        let node = slot.map(|slot| &layout.nodes[slot as usize]);
        let wanted = node.is_some_and(|node| node.needed);
        let star = node.is_some_and(|node| node.star) && matches!(schema.of(of), Type::Array(_));
        // A type that refers to itself finds its own step.
        self.steps.push(Step { of, kind: Kind::Leaf, slot, whole: false, star });
        let kind = match schema.of(of) {
            Type::Record(fields) => {
                let member = |name: &str| node.and_then(|node| node.member(name.as_bytes(), 0, name.len()));
                Kind::Record(fields.iter().map(|(name, of)| self.field(*of, member(name))).collect())
            }
            Type::Array(items) => {
                let elements = node.map_or(&[][..], |node| &node.elements);
                let wanted = elements.iter().map(|(index, slot)| (*index, self.step(*items, Some(*slot)))).collect();
                Kind::Array(self.step(*items, None), wanted)
            }
            Type::Map(values) => {
                let members = node.map_or(&[][..], |node| &node.members);
                let wanted =
                    members.iter().map(|member| (member.node, self.step(*values, Some(member.node)))).collect();
                Kind::Map(self.step(*values, None), wanted)
            }
            Type::Union(branches) => Kind::Union(branches.iter().map(|of| self.step(*of, slot)).collect()),
            _ => Kind::Leaf,
        };
        let step = &mut self.steps[id as usize];
        step.whole = wanted && matches!(kind, Kind::Record(_) | Kind::Array(..) | Kind::Map(..));
        step.kind = kind;
        id
    }

    /// Returns the step of a field, and how it is read where its type is a plain one.
    fn field(&mut self, of: TypeId, slot: Option<Slot>) -> FieldStep {
        let schema = self.schema;
        let null = |of: &TypeId| *schema.of(*of) == Type::Null;
        let (optional, inner) = match schema.of(of) {
            Type::Union(branches) => match branches[..] {
                // An index is twice as much on the wire.
                [first, second] if null(&first) => (Some(Optional { null: 0, other: 2, slot }), second),
                [first, second] if null(&second) => (Some(Optional { null: 2, other: 0, slot }), first),
                _ => (None, of),
            },
            _ => (None, of),
        };
        let value = match (schema.of(inner), slot) {
            (Type::Bytes | Type::String | Type::Decimal { size: None, .. }, None) => Plain::Sized,
            (Type::Int | Type::Long | Type::Date | Type::Timestamp(_) | Type::Enum(_), None) => Plain::Long,
            (Type::Boolean, None) => Plain::Bytes(1),
            (Type::Float, None) => Plain::Bytes(4),
            (Type::Double, None) => Plain::Bytes(8),
            (Type::String, Some(slot)) => Plain::Text(slot),
            _ => Plain::Step(self.step(inner, slot)),
        };
        FieldStep { step: self.step(of, slot), optional, value }
    }

    /// Finds what is to be done with a value of a type when so many envelopes are off.
    fn enter(&mut self, of: TypeId, envelopes: &[Envelope], off: usize, entries: &mut [Vec<Option<Entry>>]) {
        if entries[off][of as usize].is_some() {
            return;
        }
        let schema = self.schema;
        let entry = match (schema.of(of), envelopes.get(off)) {
            (Type::Union(branches), _) => {
                branches.iter().for_each(|of| self.enter(*of, envelopes, off, entries));
                return;
            }
            (Type::Null, _) => return,
            (Type::Record(_) | Type::Map(_), None) => Entry::Message(self.step(of, Some(0))),
            (_, None) => Entry::Wrong("no record"),
            (Type::Record(fields), Some(envelope)) => {
                let mut parts = Vec::new();
                for (name, of) in fields {
                    let part = Part::of(*envelope, name);
                    let slot = match part {
                        Part::Message | Part::Before => None,
                        _ if *envelope == Envelope::Connect => None,
                        _ => self.layout.root_member(name),
                    };
                    parts.push((part, self.step(*of, slot), *of));
                }
                let has = |part: Part| parts.iter().any(|(known, ..)| *known == part);
                match envelope {
                    Envelope::Batch if !has(Part::Message) => {
                        Entry::Wrong("no list `batch`, which `unwrap: batch` takes")
                    }
                    Envelope::Connect if !has(Part::Message) => {
                        Entry::Wrong("no `payload`, which `unwrap: connect` takes")
                    }
                    Envelope::Debezium if !has(Part::Operation) => {
                        Entry::Wrong("no `op`, which a change of Debezium's has")
                    }
                    Envelope::Cloudevents if !has(Part::Version) => {
                        Entry::Wrong("no `specversion`, which a CloudEvent has")
                    }
                    _ => Entry::Envelope(parts),
                }
            }
            (Type::Array(items), Some(Envelope::Batch)) => Entry::List(*items),
            (_, Some(_)) => Entry::Wrong("no record"),
        };
        let mut inside: Vec<TypeId> = match &entry {
            Entry::Envelope(parts) => {
                let message = parts.iter().filter(|(part, ..)| matches!(part, Part::Message | Part::Before));
                message.map(|(.., of)| *of).collect()
            }
            Entry::List(items) => vec![*items],
            _ => Vec::new(),
        };
        if envelopes.get(off) == Some(&Envelope::Cloudevents) {
            // Of a binary one the value is the data.
            inside.push(of);
        }
        if envelopes.get(off) == Some(&Envelope::Batch) && matches!(entry, Entry::Envelope(_)) {
            inside = inside.into_iter().flat_map(|of| items(schema, of)).collect();
        }
        entries[off][of as usize] = Some(entry);
        inside.into_iter().for_each(|of| self.enter(of, envelopes, off + 1, entries));
    }
}

/// Returns the types of the items of a list, which may be in a union.
fn items(schema: &Schema, of: TypeId) -> Vec<TypeId> {
    match schema.of(of) {
        Type::Array(items) => vec![*items],
        Type::Union(branches) => branches
            .iter()
            .flat_map(|of| match schema.of(*of) {
                Type::Array(items) => Some(*items),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Returns by type whether its values have no bytes.
fn empty(schema: &Schema) -> Vec<bool> {
    let mut empty = vec![false; schema.types.len()];
    loop {
        let is_empty = |of: &Type| match of {
            Type::Null | Type::Fixed(0) => true,
            Type::Record(fields) => fields.iter().all(|(_, of)| empty[*of as usize]),
            _ => false,
        };
        let next: Vec<bool> = schema.types.iter().map(is_empty).collect();
        if next == empty {
            return empty;
        }
        empty = next;
    }
}

/// A walk over one value.
struct Walk<'a, 'w> {
    reader: &'w AvroReader,
    layout: &'w Layout,
    bytes: &'a [u8],
    at: usize,
    fields: &'w mut Fields<'a>,
    error: Malformed,
}

/// A block of a list or map.
enum Block {
    Items(u64),
    End,
}

impl<'a, 'w> Walk<'a, 'w> {
    fn new(reader: &'w AvroReader, layout: &'w Layout, bytes: &'a [u8], fields: &'w mut Fields<'a>) -> Walk<'a, 'w> {
        Walk { reader, layout, bytes, at: 0, fields, error: Malformed { what: What::NotOneObject, at: 0 } }
    }

    #[cold]
    fn fail<T>(&mut self, what: What) -> Option<T> {
        self.error = Malformed { what, at: self.at };
        None
    }

    /// Nothing follows.
    fn end(&mut self) -> Option<()> {
        if self.at < self.bytes.len() {
            return self.fail(What::Unfit("something follows"));
        }
        Some(())
    }

    #[inline(always)]
    fn long(&mut self) -> Option<i64> {
        match binary::varint(self.bytes, &mut self.at) {
            Some(raw) => Some((raw >> 1) as i64 ^ -((raw & 1) as i64)),
            None => self.fail(What::Unfit("a number that does not end")),
        }
    }

    #[inline(always)]
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let Some(taken) = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end)) else {
            return self.fail(What::Unfit("it ends early"));
        };
        self.at += count;
        Some(taken)
    }

    /// What starts with its length.
    #[inline(always)]
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => self.fail(What::Unfit("a length below 0")),
        }
    }

    /// The type of a value: of a union the branch that it has.
    fn branch(&mut self, mut of: TypeId) -> Option<TypeId> {
        while let Type::Union(branches) = self.reader.schema.of(of) {
            of = *self.chosen(branches, NO_BRANCH)?;
        }
        Some(of)
    }

    #[inline(always)]
    fn chosen<'b, T>(&mut self, branches: &'b [T], missing: &'static str) -> Option<&'b T> {
        let index = self.long()?;
        match usize::try_from(index).ok().and_then(|index| branches.get(index)) {
            Some(branch) => Some(branch),
            None => self.fail(What::Unfit(missing)),
        }
    }

    /// The number of items of the next block of a list or map.
    fn block(&mut self, total: &mut u64, is_empty: bool) -> Option<Block> {
        let count = self.long()?;
        if count == 0 {
            return Some(Block::End);
        }
        if count < 0 {
            // Its length in bytes, which is not needed.
            self.long()?;
        }
        *total = total.saturating_add(count.unsigned_abs());
        if is_empty && *total > EMPTY_MAX {
            return self.fail(What::Unfit("a list of too many values without bytes"));
        }
        Some(Block::Items(count.unsigned_abs()))
    }

    /// Notes where the elements of a list are.
    fn elements(&mut self, items: TypeId, outer: &mut Outer<'a>) -> Option<()> {
        outer.begin_batch(self.layout, self.fields);
        let (mut total, is_empty) = (0, self.reader.empty[items as usize]);
        while let Block::Items(count) = self.block(&mut total, is_empty)? {
            for _ in 0..count {
                let of = self.branch(items)?;
                let start = self.at;
                self.step(self.reader.skips[of as usize], 1)?;
                outer.elements.push((start, self.at, of));
            }
        }
        Some(())
    }

    /// The value at a place, which has been passed before.
    fn again(&mut self, at: usize, of: TypeId) -> Found<'a> {
        let after = std::mem::replace(&mut self.at, at);
        let found = self.branch(of).and_then(|of| self.leaf(of)).unwrap_or_default();
        self.at = after;
        found
    }

    fn step(&mut self, id: StepId, depth: usize) -> Option<()> {
        let (reader, layout) = (self.reader, self.layout);
        let step = &reader.steps[id as usize];
        if depth >= DEPTH_MAX {
            return self.fail(What::TooDeep);
        }
        if step.slot.is_none() && reader.empty[step.of as usize] {
            return Some(());
        }
        let start = self.at;
        match &step.kind {
            Kind::Union(branches) => {
                let branch = self.chosen(branches, NO_BRANCH)?;
                // A union in a union may be its own branch.
                return self.step(*branch, depth + 1);
            }
            Kind::Leaf => {
                return match step.slot {
                    None => self.skip(step.of),
                    Some(slot) => {
                        let found = self.leaf(step.of)?;
                        self.fields.set(self.layout, slot, found);
                        Some(())
                    }
                };
            }
            Kind::Record(fields) => {
                self.meet(step.slot);
                for field in fields {
                    self.field(field, depth + 1)?;
                }
            }
            Kind::Array(skip, wanted) => {
                self.meet(step.slot);
                let Type::Array(items) = reader.schema.of(step.of) else { unreachable!("it was compiled from one") };
                let (mut index, mut total, is_empty) = (0usize, 0, reader.empty[*items as usize]);
                while let Block::Items(count) = self.block(&mut total, is_empty)? {
                    for _ in 0..count {
                        let item = wanted.iter().find(|(each, _)| *each == index).map_or(*skip, |(_, step)| *step);
                        self.step(item, depth + 1)?;
                        index += 1;
                    }
                }
            }
            Kind::Map(skip, wanted) => {
                self.meet(step.slot);
                let mut total = 0;
                while let Block::Items(count) = self.block(&mut total, false)? {
                    for _ in 0..count {
                        let key = self.sized()?;
                        let node = step.slot.map(|slot| &layout.nodes[slot as usize]);
                        let member = node.and_then(|node| node.member(key, 0, key.len()));
                        let value = member.and_then(|slot| wanted.iter().find(|(each, _)| *each == slot));
                        self.step(value.map_or(*skip, |(_, step)| *step), depth + 1)?;
                    }
                }
            }
        }
        if let Some(slot) = step.slot.filter(|_| step.whole || step.star) {
            let end = std::mem::replace(&mut self.at, start);
            let mut json = String::new();
            self.json(step.of, &mut json, depth)?;
            debug_assert_eq!(self.at, end, "the same value has the same end");
            if step.star {
                binary::stars(self.layout, slot, &json, self.fields);
            }
            if step.whole {
                self.fields.found[slot as usize] = Found::Compound(Cow::Owned(json));
            }
        }
        Some(())
    }

    /// Reads a field as its step does, without it where that can be.
    #[inline(always)]
    fn field(&mut self, field: &FieldStep, mut depth: usize) -> Option<()> {
        // A union is a level of its own.
        if depth + 1 >= DEPTH_MAX {
            return self.step(field.step, depth);
        }
        if let Some(optional) = &field.optional {
            match self.bytes.get(self.at) {
                Some(byte) if *byte == optional.other => self.at += 1,
                Some(byte) if *byte == optional.null => {
                    self.at += 1;
                    if let Some(slot) = optional.slot {
                        self.fields.set(self.layout, slot, Found::Nothing);
                    }
                    return Some(());
                }
                // An index in more bytes than it needs, or none.
                _ => return self.step(field.step, depth),
            }
            depth += 1;
        }
        match field.value {
            Plain::Sized => self.sized().map(drop),
            Plain::Long => self.long().map(drop),
            Plain::Bytes(count) => self.take(count).map(drop),
            Plain::Text(slot) => {
                let text = self.text()?;
                self.fields.set(self.layout, slot, Found::Text(Cow::Borrowed(text)));
                Some(())
            }
            Plain::Step(step) => self.step(step, depth),
        }
    }

    /// Reads a text.
    #[inline(always)]
    fn text(&mut self) -> Option<&'a str> {
        let bytes = self.sized()?;
        binary::text(bytes).or_else(|| self.fail(What::Unfit("a text that is not UTF-8")))
    }

    /// Notes that a value is there, at which or in which others are wanted.
    #[inline(always)]
    fn meet(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.fields.meet(self.layout, slot);
        }
    }

    /// Passes over a value without parts.
    #[inline(always)]
    fn skip(&mut self, of: TypeId) -> Option<()> {
        match self.reader.schema.of(of) {
            Type::Null => {}
            Type::Boolean => {
                self.take(1)?;
            }
            Type::Int | Type::Long | Type::Date | Type::Timestamp(_) | Type::Enum(_) => {
                self.long()?;
            }
            Type::Float => {
                self.take(4)?;
            }
            Type::Double => {
                self.take(8)?;
            }
            Type::Bytes | Type::String | Type::Decimal { size: None, .. } => {
                self.sized()?;
            }
            Type::Uuid => {
                self.take(16)?;
            }
            Type::Fixed(size) | Type::Decimal { size: Some(size), .. } => {
                self.take(*size)?;
            }
            Type::Array(_) | Type::Map(_) | Type::Union(_) | Type::Record(_) => unreachable!("it has parts"),
        }
        Some(())
    }

    /// Reads a value without parts; of another type there is nothing.
    fn leaf(&mut self, of: TypeId) -> Option<Found<'a>> {
        let reader = self.reader;
        Some(match reader.schema.of(of) {
            Type::Null | Type::Array(_) | Type::Map(_) | Type::Union(_) | Type::Record(_) => Found::Nothing,
            Type::Boolean => match self.take(1)? {
                [0] => Found::Boolean(false),
                [1] => Found::Boolean(true),
                _ => return self.fail(What::Unfit("a boolean that is neither 0 nor 1")),
            },
            Type::Int => Found::Integer(self.int()?),
            Type::Long => Found::Integer(self.long()?),
            Type::Float => {
                let bytes = self.take(4)?.try_into().expect("four bytes");
                binary::number(f32::from_le_bytes(bytes).into())
            }
            Type::Double => binary::number(f64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes"))),
            Type::String => Found::Text(Cow::Borrowed(self.text()?)),
            Type::Bytes => Found::Text(Cow::Owned(binary::base64(self.sized()?))),
            Type::Fixed(size) => Found::Text(Cow::Owned(binary::base64(self.take(*size)?))),
            Type::Date => match self.int()?.checked_mul(86_400_000) {
                Some(ms) => Found::Date(ms),
                None => Found::NotFinite,
            },
            Type::Timestamp(units) => Found::Timestamp(self.long()?.div_euclid(units / 1_000)),
            Type::Decimal { scale, size } => {
                let bytes = match size {
                    Some(size) => self.take(*size)?,
                    None => self.sized()?,
                };
                if bytes.len() > DECIMAL_BYTES {
                    return self.fail(What::Unfit("a decimal of more than 512 bytes"));
                }
                Found::Decimal(binary::decimal(bytes, *scale as usize))
            }
            Type::Uuid => Found::Text(Cow::Owned(binary::uuid(self.take(16)?))),
            Type::Enum(symbols) => {
                Found::Text(Cow::Owned(self.chosen(symbols, "a symbol that its enum does not have")?.to_string()))
            }
        })
    }

    fn int(&mut self) -> Option<i64> {
        let value = self.long()?;
        match i32::try_from(value) {
            Ok(value) => Some(value.into()),
            Err(_) => self.fail(What::Unfit("an int beyond 32 bits")),
        }
    }

    /// Writes a value as JSON.
    fn json(&mut self, of: TypeId, out: &mut String, depth: usize) -> Option<()> {
        if depth >= DEPTH_MAX {
            return self.fail(What::TooDeep);
        }
        let reader = self.reader;
        match reader.schema.of(of) {
            Type::Union(branches) => {
                let branch = *self.chosen(branches, NO_BRANCH)?;
                self.json(branch, out, depth + 1)?;
            }
            Type::Record(fields) => {
                out.push('{');
                for (index, (name, of)) in fields.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_text(name);
                    out.push(':');
                    self.json(*of, out, depth + 1)?;
                }
                out.push('}');
            }
            Type::Array(items) => {
                out.push('[');
                let (mut first, mut total, is_empty) = (true, 0, reader.empty[*items as usize]);
                while let Block::Items(count) = self.block(&mut total, is_empty)? {
                    for _ in 0..count {
                        out.push_str(if first { "" } else { "," });
                        first = false;
                        self.json(*items, out, depth + 1)?;
                    }
                }
                out.push(']');
            }
            Type::Map(values) => {
                out.push('{');
                let (mut first, mut total) = (true, 0);
                while let Block::Items(count) = self.block(&mut total, false)? {
                    for _ in 0..count {
                        out.push_str(if first { "" } else { "," });
                        first = false;
                        match std::str::from_utf8(self.sized()?) {
                            Ok(key) => out.push_text(key),
                            Err(_) => return self.fail(What::Unfit("a text that is not UTF-8")),
                        }
                        out.push(':');
                        self.json(*values, out, depth + 1)?;
                    }
                }
                out.push('}');
            }
            _ => binary::write_json(&self.leaf(of)?, out),
        }
        Some(())
    }
}
