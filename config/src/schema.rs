//! The schema of a job file: the one list of its keys, each typed by its value.
//!
//! A [`Key`] has a name, the [`Shape`] of its value, a default and a description. Its parameter is the type of a
//! look-up: [`Fields::get`] with a `Key<Duration>` returns `Option<u64>`. No other file writes the name of a key, so a
//! misspelt key or a value of another type does not compile. A [`Record`] lists the keys of one mapping. The checker
//! (`typed.rs`), "did you mean" and the JSON Schema (`json_schema.rs`) read the same records.
//!
//! The records are in `schema/`, one file per section of the job file; the root is [`job::RECORD`].

pub(crate) mod audience;
pub(crate) mod condition;
pub(crate) mod destination;
pub(crate) mod event;
pub(crate) mod job;
pub(crate) mod model;
pub(crate) mod process;
pub(crate) mod source;
pub(crate) mod sync;
mod value;
pub(crate) mod vendor;
pub(crate) mod webhook;

use std::marker::PhantomData;

pub(crate) use value::{
    At, Bytes, Choices, Duration, Entries, Entry, Fields, Form, FromValue, Item, List, Named, RawSetting, Reference,
    Short, Value,
};

use crate::{Decimal, Location, Path, Rate, Refresh, Secret, Share, Start};
use value::DefaultValue;

/// What a value may be.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// A string that is not empty.
    Text,
    /// A string that is an id: that of the job itself.
    Id,
    /// The id of an entry of a section. The builder checks that the entry exists.
    Reference(Section),
    /// A predicate, as text. `usher-queries` parses it.
    Predicate,
    /// A path into a message.
    Path,
    /// A duration in ms, from `least` to `most`.
    Duration {
        /// ms.
        least: u64,
        /// ms.
        most: u64,
    },
    /// A duration of at least a second, or `manual`.
    Refresh,
    /// A number of bytes, at least 1.
    Size,
    /// A share of a whole, in percent.
    Share,
    /// A number in a unit of time.
    Rate,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A whole number from `least` to `most`.
    Whole {
        /// The least.
        least: u32,
        /// The greatest.
        most: u32,
    },
    /// A string that is never shown, and keeps its `${VAR}`.
    Secret,
    /// A secret that is an address: its user, password and query are.
    SecretUrl,
    /// A path, folder, glob or url. Of a url user info and query are never shown.
    Location,
    /// A string, number or boolean, as text. Its name decides whether it is a secret.
    Setting,
    /// A template, as text. `usher-connectors` parses it.
    Template,
    /// The name of a topic of Kafka.
    Topic,
    /// `host:port`.
    Address,
    /// `earliest`, `latest`, or a time in ms since the epoch.
    Start,
    /// One of some words.
    Choice {
        /// Its name in messages.
        what: &'static str,
        /// Returns the words.
        words: fn() -> Vec<&'static str>,
    },
    /// A list.
    List {
        /// The shape of an element.
        of: &'static Shape,
        /// The fewest elements.
        least: usize,
        /// The most elements.
        most: usize,
        /// Whether an element may occur only once.
        unique: bool,
    },
    /// A list that is not empty and has no element twice, or one element without the list.
    OneOrMore(&'static Shape),
    /// A mapping with the keys of a record.
    Record(&'static Record),
    /// A mapping of one of several records. The first key of each record identifies it.
    OneOf {
        /// Its name in messages.
        what: &'static str,
        /// The records.
        records: &'static [&'static Record],
    },
    /// A mapping whose keys the author chooses.
    Entries {
        /// The shape of a value.
        of: &'static Shape,
        /// Whether the keys are ids; otherwise they are any text.
        ids: bool,
    },
    /// A scalar, or a mapping with more detail.
    Short {
        /// The scalar.
        scalar: &'static Shape,
        /// The mapping.
        long: &'static Record,
    },
}

impl Shape {
    /// Returns whether it is a secret, or has secrets as its elements.
    fn is_secret(&self) -> bool {
        match self {
            Shape::Secret | Shape::SecretUrl | Shape::Location => true,
            Shape::OneOrMore(of) | Shape::Entries { of, .. } => of.is_secret(),
            _ => false,
        }
    }
}

/// The sections of a file whose entries are referred to by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Source,
    Model,
    Event,
    Audience,
}

impl Section {
    /// The name of one entry, in messages.
    pub fn noun(self) -> &'static str {
        match self {
            Section::Source => "source",
            Section::Model => "model",
            Section::Event => "event",
            Section::Audience => "audience",
        }
    }
}

/// An enumeration whose values are words in the file.
pub(crate) trait Choice: Copy + PartialEq + Sync + 'static {
    /// Its name in messages.
    const WHAT: &'static str;
    /// All values, in the order of messages.
    const ALL: &'static [Self];

    /// Returns the word for a value.
    fn word(self) -> &'static str;

    /// Returns the value of a word; `None` if there is none.
    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.word() == word)
    }
}

/// Returns the words of a choice.
fn words<E: Choice>() -> Vec<&'static str> {
    E::ALL.iter().map(|value| value.word()).collect()
}

/// A [`Shape`] whose values are looked up as `T`. Only the constructors below pair the two.
pub(crate) struct Type<T> {
    shape: Shape,
    marker: PhantomData<fn() -> T>,
}

impl<T> Type<T> {
    const fn new(shape: Shape) -> Type<T> {
        Type { shape, marker: PhantomData }
    }
}

const TEXT: Type<String> = Type::new(Shape::Text);
const ID: Type<String> = Type::new(Shape::Id);
const PREDICATE: Type<String> = Type::new(Shape::Predicate);
const TEMPLATE: Type<String> = Type::new(Shape::Template);
const TOPIC: Type<String> = Type::new(Shape::Topic);
const ADDRESS: Type<String> = Type::new(Shape::Address);
const PATH: Type<Path> = Type::new(Shape::Path);
const NUMBER: Type<Decimal> = Type::new(Shape::Number);
const BOOLEAN: Type<bool> = Type::new(Shape::Boolean);
const SIZE: Type<Bytes> = Type::new(Shape::Size);
const SHARE: Type<Share> = Type::new(Shape::Share);
const RATE: Type<Rate> = Type::new(Shape::Rate);
const SECRET: Type<Secret> = Type::new(Shape::Secret);
const SECRET_URL: Type<Secret> = Type::new(Shape::SecretUrl);
const LOCATION: Type<Location> = Type::new(Shape::Location);
const SETTING: Type<RawSetting> = Type::new(Shape::Setting);
const START: Type<Start> = Type::new(Shape::Start);
const REFRESH: Type<Refresh> = Type::new(Shape::Refresh);

const fn reference(section: Section) -> Type<Reference> {
    Type::new(Shape::Reference(section))
}

/// A duration from `least` to `most` ms.
const fn duration(least: u64, most: u64) -> Type<Duration> {
    Type::new(Shape::Duration { least, most })
}

const fn whole(least: u32, most: u32) -> Type<u32> {
    Type::new(Shape::Whole { least, most })
}

const fn choice<E: Choice>() -> Type<E> {
    Type::new(Shape::Choice { what: E::WHAT, words: words::<E> })
}

/// A list of words that is not empty and has no word twice.
const fn choices<E: Choice>() -> Type<Choices<E>> {
    let of = const { &Shape::Choice { what: E::WHAT, words: words::<E> } };
    Type::new(Shape::List { of, least: 1, most: usize::MAX, unique: true })
}

/// A list of `least` to `most` elements.
const fn list<T>(of: &'static Type<T>, least: usize, most: usize) -> Type<List<T>> {
    Type::new(Shape::List { of: &of.shape, least, most, unique: false })
}

/// A list that is not empty and has no element twice.
const fn set<T>(of: &'static Type<T>) -> Type<List<T>> {
    Type::new(Shape::List { of: &of.shape, least: 1, most: usize::MAX, unique: true })
}

const fn one_or_more<T>(of: &'static Type<T>) -> Type<List<T>> {
    Type::new(Shape::OneOrMore(&of.shape))
}

const fn record(record: &'static Record) -> Type<Fields> {
    Type::new(Shape::Record(record))
}

const fn one_of(what: &'static str, records: &'static [&'static Record]) -> Type<Fields> {
    Type::new(Shape::OneOf { what, records })
}

/// Entries by any name.
const fn by_name<T>(of: &'static Type<T>) -> Type<Entries<T>> {
    Type::new(Shape::Entries { of: &of.shape, ids: false })
}

/// Entries by id, each of them a record.
const fn by_id(of: &'static Type<Fields>) -> Type<Entries<Fields>> {
    Type::new(Shape::Entries { of: &of.shape, ids: true })
}

const fn short<T>(scalar: &'static Type<T>, long: &'static Record) -> Type<Short<T>> {
    Type::new(Shape::Short { scalar: &scalar.shape, long })
}

/// A key of a record. `T` is the type that its value is looked up as.
pub(crate) struct Key<T: FromValue> {
    name: &'static str,
    shape: Shape,
    absent: Absent<T::Default>,
    doc: &'static str,
}

/// What holds where the file leaves a key out.
#[derive(Clone, Copy)]
enum Absent<D> {
    /// A problem: the key is required.
    Missing,
    /// Nothing, or a default that only the description states.
    Nothing,
    /// This value.
    Default(D),
    /// Nothing, because the key is not valid with every value of other keys. Where it is valid, the builder uses this
    /// value, and the description states it.
    Described(D),
}

const fn required<T: FromValue>(name: &'static str, of: Type<T>, doc: &'static str) -> Key<T> {
    Key { name, shape: of.shape, absent: Absent::Missing, doc }
}

const fn optional<T: FromValue>(name: &'static str, of: Type<T>, doc: &'static str) -> Key<T> {
    Key { name, shape: of.shape, absent: Absent::Nothing, doc }
}

impl<T: FromValue> Key<T> {
    /// Adds the value of a key that is left out.
    const fn default(self, value: T::Default) -> Key<T> {
        Key { absent: Absent::Default(value), ..self }
    }

    /// Adds a default to the description only.
    const fn described_default(self, value: T::Default) -> Key<T> {
        Key { absent: Absent::Described(value), ..self }
    }
}

/// A key of a record, whatever its type.
pub(crate) trait AnyKey: Sync {
    /// Returns the key as the file writes it.
    fn name(&self) -> &'static str;
    /// Returns the shape of its value.
    fn shape(&self) -> &Shape;
    /// Returns whether it must not be left out.
    fn is_required(&self) -> bool;
    /// Returns the value of a key that is left out; `None` if it has no default.
    fn default_value(&self) -> Option<Value>;
    /// Returns the default as the file writes it, as JSON.
    fn default_json(&self) -> Option<serde_json::Value>;
    /// Returns what the key is for, in one or more sentences.
    fn description(&self) -> String;
}

impl<T: FromValue> AnyKey for Key<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn is_required(&self) -> bool {
        matches!(self.absent, Absent::Missing)
    }

    fn default_value(&self) -> Option<Value> {
        match self.absent {
            Absent::Default(default) => Some(default.value()),
            _ => None,
        }
    }

    fn default_json(&self) -> Option<serde_json::Value> {
        match self.absent {
            Absent::Default(default) => Some(default.json()),
            _ => None,
        }
    }

    fn description(&self) -> String {
        match self.absent {
            Absent::Described(default) => match default.json() {
                serde_json::Value::String(text) => format!("{} Default: {text}.", self.doc),
                other => format!("{} Default: {other}.", self.doc),
            },
            _ => self.doc.to_owned(),
        }
    }
}

/// Keys of a record.
type Keys = &'static [&'static dyn AnyKey];

/// A mapping with fixed keys.
pub(crate) struct Record {
    /// Its name in messages.
    pub what: &'static str,
    /// Its keys.
    pub keys: Keys,
    /// What must hold between its keys.
    pub rules: &'static [Rule],
}

impl Record {
    /// Returns the key of a name; `None` if the record has none.
    pub fn key(&self, name: &str) -> Option<&'static dyn AnyKey> {
        self.keys.iter().copied().find(|key| key.name() == name)
    }

    /// Returns the names of all keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name())
    }

    /// Returns the name of the first key, which identifies a record of a [`Shape::OneOf`].
    pub fn leading_key(&self) -> &'static str {
        self.keys.first().map_or(self.what, |key| key.name())
    }
}

/// What must hold between keys.
pub(crate) enum Rule {
    /// Exactly one of them is there.
    ExactlyOne(Keys),
    /// At most one of them is there. The text is their common name.
    AtMostOne(&'static str, Keys),
    /// Where the first is, the second is too.
    Needs(&'static dyn AnyKey, &'static dyn AnyKey),
    /// Where the first is, one of the others is too.
    NeedsOneOf(&'static dyn AnyKey, Keys),
}

/// What it is, for people: of models, events, audiences and syncs.
pub(crate) static DESCRIPTION: Key<String> = optional("description", TEXT, "What it is, for people.");

/// Returns whether a Kafka property of that name is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token", "key"].iter().any(|word| name.contains(word))
}

/// Returns whether a value at a path of the file may be a secret. Messages do not quote such a value, even a wrong one.
pub(crate) fn is_discreet(path: &str) -> bool {
    let steps: Vec<&str> = path.split('.').collect();
    let is_location = match steps[..] {
        [section, _, key] | [section, _, key, _] if section == job::MODELS.name => {
            key == model::PARQUET.name || key == model::DELTA.name
        }
        [section, key] => section == job::STATE.name && key == process::URL.name,
        _ => false,
    };
    is_location
        || path.starts_with(&[job::API.name, process::KEYS.name].join("."))
        || path.contains(&[destination::KAFKA.name, destination::PROPERTIES.name].join("."))
        || secret_keys(&source::REGISTRY_RECORD)
            .any(|key| path.contains(&[source::REGISTRY.name, key.name()].join(".")))
        || destination::DESTINATION.keys.iter().any(|to| match to.shape() {
            Shape::Record(record) => secret_keys(record).any(|key| path.contains(&[to.name(), key.name()].join("."))),
            _ => false,
        })
}

/// Returns the keys of a record whose values are secret.
fn secret_keys(record: &Record) -> impl Iterator<Item = &'static dyn AnyKey> {
    record.keys.iter().copied().filter(|key| key.shape().is_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name and words of a choice.
    type Words = (&'static str, Vec<&'static str>);

    /// Collects all records and the names of all choices, each record once.
    fn walk(shape: &Shape, records: &mut Vec<&'static Record>, choices: &mut Vec<Words>) {
        match shape {
            Shape::Choice { what, words } => choices.push((what, words())),
            Shape::List { of, .. } | Shape::Entries { of, .. } | Shape::OneOrMore(of) => walk(of, records, choices),
            Shape::Record(record) => walk_record(record, records, choices),
            Shape::OneOf { what, records: kinds } => {
                choices.push((what, Vec::new()));
                kinds.iter().for_each(|kind| walk_record(kind, records, choices));
            }
            Shape::Short { scalar, long } => {
                walk(scalar, records, choices);
                walk_record(long, records, choices);
            }
            _ => {}
        }
    }

    fn walk_record(record: &'static Record, records: &mut Vec<&'static Record>, choices: &mut Vec<Words>) {
        if !records.iter().any(|seen| std::ptr::eq(*seen, record)) {
            records.push(record);
            record.keys.iter().for_each(|key| walk(key.shape(), records, choices));
        }
    }

    #[test]
    fn every_rule_is_about_keys_that_are_there_and_every_key_is_explained() {
        let (mut records, mut choices) = (Vec::new(), Vec::new());
        walk_record(&job::RECORD, &mut records, &mut choices);
        assert!(records.len() > 20);
        for record in records {
            for rule in record.rules {
                let keys = match rule {
                    Rule::ExactlyOne(keys) | Rule::AtMostOne(_, keys) => keys.to_vec(),
                    Rule::Needs(key, other) => vec![*key, *other],
                    Rule::NeedsOneOf(key, others) => [&[*key], *others].concat(),
                };
                let is_there = |key: &&dyn AnyKey| record.keys.iter().any(|other| std::ptr::addr_eq(*other, *key));
                assert!(keys.iter().all(is_there), "{}", record.what);
            }
            assert!(record.keys.iter().all(|key| key.description().ends_with(['.', '`'])), "{}", record.what);
            let names: std::collections::BTreeSet<_> = record.names().collect();
            assert_eq!(names.len(), record.keys.len(), "{} has a key twice", record.what);
        }
    }
}
