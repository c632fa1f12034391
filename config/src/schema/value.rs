//! Values that fit the schema, and the typed look-up of the value of a key.
//!
//! The checker builds a tree of [`Value`]s by the shapes of the keys; [`Fields::get`] reads it back by the types of the
//! same keys. A value that was reported as a problem is not in the tree: [`Fields::has`] distinguishes it from
//! one that is left out.

use std::convert::Infallible;
use std::marker::PhantomData;

use super::{AnyKey, Choice, Key, Record, Section};
use crate::{Decimal, Location, Path, Place, Rate, Refresh, Secret, Share, Start, size};

/// A value and its place.
pub(crate) struct Item {
    /// Its place.
    pub place: Place,
    /// The value.
    pub value: Value,
}

/// A value that fits its shape.
pub(crate) enum Value {
    Text(String),
    Reference(Reference),
    Path(Path),
    Milliseconds(u64),
    Refresh(Refresh),
    Bytes(u64),
    Share(Share),
    Rate(Rate),
    Number(Decimal),
    Boolean(bool),
    Whole(u32),
    Secret(Secret),
    Location(Location),
    Setting(RawSetting),
    Start(Start),
    /// A word of a [`Choice`].
    Choice(&'static str),
    List(Vec<Item>),
    Record(Fields),
    Entries(Vec<Named>),
}

/// An entry under a key that the author chose.
pub(crate) struct Named {
    /// The key.
    pub name: String,
    /// The key's place.
    pub place: Place,
    /// The value; `None` if it was reported.
    pub item: Option<Item>,
}

/// The id of an entry of a section.
pub(crate) struct Reference {
    /// The section.
    pub section: Section,
    /// The id, which need not exist.
    pub id: String,
}

/// A value for librdkafka, before its name decides whether it is a secret.
pub(crate) struct RawSetting {
    /// The text, with its variables substituted.
    pub text: String,
    /// The text as the file has it.
    pub written: String,
}

/// The fields of a record that fit their shapes, defaults included.
pub(crate) struct Fields {
    record: &'static Record,
    /// Keys that the file has, whether their values fit or not.
    written: Vec<&'static str>,
    items: Vec<(&'static str, Item)>,
    /// Whether something in it does not fit, at any depth.
    is_broken: bool,
}

/// A value that was looked up, and its place.
pub(crate) struct At<'a, V> {
    /// Its place.
    pub place: &'a Place,
    /// The value.
    pub value: V,
}

/// An entry that was looked up.
pub(crate) struct Entry<'a, V> {
    /// The key that the author chose.
    pub name: &'a str,
    /// The key's place.
    pub place: &'a Place,
    /// The value; `None` if it was reported.
    pub item: Option<At<'a, V>>,
}

/// A value that was written in one of two forms.
pub(crate) enum Form<'a, V> {
    /// The scalar.
    Short(V),
    /// The mapping.
    Long(&'a Fields),
}

impl Fields {
    /// Returns a record without fields.
    pub fn new(record: &'static Record) -> Fields {
        Fields { record, written: Vec::new(), items: Vec::new(), is_broken: false }
    }

    /// Records that the file has a key.
    pub fn write(&mut self, key: &'static str) {
        self.written.push(key);
    }

    /// Adds the value of a key.
    pub fn insert(&mut self, key: &'static str, item: Item) {
        self.items.push((key, item));
    }

    /// Records that something in it does not fit.
    pub fn mark_broken(&mut self) {
        self.is_broken = true;
    }

    /// Returns whether all in it fits. If not, fields and elements of lists are missing.
    pub fn is_whole(&self) -> bool {
        !self.is_broken
    }

    /// Returns whether the file has that key, even with a wrong value.
    pub fn has(&self, key: &dyn AnyKey) -> bool {
        self.written.contains(&key.name())
    }

    /// Returns whether the file has that key with a wrong value.
    pub fn is_wrong(&self, key: &dyn AnyKey) -> bool {
        self.has(key) && self.item(key).is_none()
    }

    /// Returns the value of a key; `None` if it is wrong, or left out and without a default.
    pub fn get<T: FromValue>(&self, key: &Key<T>) -> Option<T::Out<'_>> {
        T::from_value(&self.item(key)?.value)
    }

    /// Returns the value of a key with its place. The place of a default is that of the record.
    pub fn at<T: FromValue>(&self, key: &Key<T>) -> Option<At<'_, T::Out<'_>>> {
        self.item(key)?.at::<T>()
    }

    /// Returns the place of the value of a key; `None` as for [`Fields::get`].
    pub fn place(&self, key: &dyn AnyKey) -> Option<&Place> {
        Some(&self.item(key)?.place)
    }

    /// Returns the entries under a key; none if it is left out or wrong.
    pub fn entries<T: FromValue>(&self, key: &Key<Entries<T>>) -> Vec<Entry<'_, T::Out<'_>>> {
        self.get(key).unwrap_or_default()
    }

    /// Returns the elements under a key; none if it is left out or wrong.
    pub fn list<T: FromValue>(&self, key: &Key<List<T>>) -> Vec<At<'_, T::Out<'_>>> {
        self.get(key).unwrap_or_default()
    }

    fn item(&self, key: &dyn AnyKey) -> Option<&Item> {
        let is_own = || self.record.keys.iter().any(|own| std::ptr::addr_eq(*own, key));
        debug_assert!(is_own(), "`{}` is a key of another record than {}", key.name(), self.record.what);
        self.items.iter().find(|(name, _)| *name == key.name()).map(|(_, item)| item)
    }
}

impl Item {
    fn at<T: FromValue>(&self) -> Option<At<'_, T::Out<'_>>> {
        Some(At { place: &self.place, value: T::from_value(&self.value)? })
    }
}

impl Named {
    fn entry<T: FromValue>(&self) -> Entry<'_, T::Out<'_>> {
        Entry { name: &self.name, place: &self.place, item: self.item.as_ref().and_then(Item::at::<T>) }
    }
}

/// A type that the value of a key is looked up as.
///
/// The constructors of [`Type`](super::Type) pair each type with the shape whose values it reads.
pub(crate) trait FromValue: 'static {
    /// What a look-up returns.
    type Out<'a>;
    /// A default in the schema; [`Infallible`] if no key of this type has one.
    type Default: DefaultValue;

    /// Returns the value; `None` if it is of another type.
    fn from_value(value: &Value) -> Option<Self::Out<'_>>;
}

/// A default, as the schema writes it.
pub(crate) trait DefaultValue: Copy + Sync + 'static {
    /// Returns it as the value of a field.
    fn value(self) -> Value;
    /// Returns it as the file writes it, as JSON.
    fn json(self) -> serde_json::Value;
}

impl DefaultValue for Infallible {
    fn value(self) -> Value {
        match self {}
    }

    fn json(self) -> serde_json::Value {
        match self {}
    }
}

impl FromValue for String {
    type Out<'a> = &'a str;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<&str> {
        if let Value::Text(text) = value { Some(text) } else { None }
    }
}

impl FromValue for Reference {
    type Out<'a> = &'a Reference;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<&Reference> {
        if let Value::Reference(reference) = value { Some(reference) } else { None }
    }
}

impl FromValue for Path {
    type Out<'a> = &'a Path;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<&Path> {
        if let Value::Path(path) = value { Some(path) } else { None }
    }
}

impl FromValue for Decimal {
    type Out<'a> = Decimal;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<Decimal> {
        if let Value::Number(number) = value { Some(*number) } else { None }
    }
}

impl FromValue for Share {
    type Out<'a> = Share;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<Share> {
        if let Value::Share(share) = value { Some(*share) } else { None }
    }
}

impl FromValue for Rate {
    type Out<'a> = Rate;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<Rate> {
        if let Value::Rate(rate) = value { Some(*rate) } else { None }
    }
}

impl FromValue for u32 {
    type Out<'a> = u32;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<u32> {
        if let Value::Whole(number) = value { Some(*number) } else { None }
    }
}

impl FromValue for Secret {
    type Out<'a> = &'a Secret;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<&Secret> {
        if let Value::Secret(secret) = value { Some(secret) } else { None }
    }
}

impl FromValue for Location {
    type Out<'a> = &'a Location;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<&Location> {
        if let Value::Location(location) = value { Some(location) } else { None }
    }
}

impl FromValue for RawSetting {
    type Out<'a> = &'a RawSetting;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<&RawSetting> {
        if let Value::Setting(setting) = value { Some(setting) } else { None }
    }
}

impl FromValue for Start {
    type Out<'a> = Start;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<Start> {
        if let Value::Start(start) = value { Some(*start) } else { None }
    }
}

impl FromValue for Fields {
    type Out<'a> = &'a Fields;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<&Fields> {
        if let Value::Record(fields) = value { Some(fields) } else { None }
    }
}

impl FromValue for bool {
    type Out<'a> = bool;
    type Default = bool;

    fn from_value(value: &Value) -> Option<bool> {
        if let Value::Boolean(value) = value { Some(*value) } else { None }
    }
}

impl DefaultValue for bool {
    fn value(self) -> Value {
        Value::Boolean(self)
    }

    fn json(self) -> serde_json::Value {
        self.into()
    }
}

/// A duration, looked up as ms. A value of this type is a default: a whole number of a unit.
#[derive(Clone, Copy)]
pub(crate) struct Duration {
    number: u64,
    unit: &'static str,
    /// ms in the unit.
    unit_ms: u64,
}

impl Duration {
    /// So many ms.
    pub const fn millis(number: u64) -> Duration {
        Duration { number, unit: "ms", unit_ms: 1 }
    }

    /// So many seconds.
    pub const fn seconds(number: u64) -> Duration {
        Duration { number, unit: "s", unit_ms: 1_000 }
    }

    /// So many minutes.
    pub const fn minutes(number: u64) -> Duration {
        Duration { number, unit: "m", unit_ms: 60_000 }
    }

    /// So many hours.
    pub const fn hours(number: u64) -> Duration {
        Duration { number, unit: "h", unit_ms: 3_600_000 }
    }

    /// So many days.
    pub const fn days(number: u64) -> Duration {
        Duration { number, unit: "d", unit_ms: 86_400_000 }
    }

    /// Returns its ms.
    pub const fn ms(self) -> u64 {
        self.number * self.unit_ms
    }
}

impl FromValue for Duration {
    type Out<'a> = u64;
    type Default = Duration;

    fn from_value(value: &Value) -> Option<u64> {
        if let Value::Milliseconds(ms) = value { Some(*ms) } else { None }
    }
}

impl DefaultValue for Duration {
    fn value(self) -> Value {
        Value::Milliseconds(self.ms())
    }

    fn json(self) -> serde_json::Value {
        format!("{}{}", self.number, self.unit).into()
    }
}

impl FromValue for Refresh {
    type Out<'a> = Refresh;
    type Default = EveryDuration;

    fn from_value(value: &Value) -> Option<Refresh> {
        if let Value::Refresh(refresh) = value { Some(*refresh) } else { None }
    }
}

/// The default of a [`Refresh`].
#[derive(Clone, Copy)]
pub(crate) struct EveryDuration(pub Duration);

impl DefaultValue for EveryDuration {
    fn value(self) -> Value {
        Value::Refresh(Refresh::Every(self.0.ms()))
    }

    fn json(self) -> serde_json::Value {
        self.0.json()
    }
}

/// A number of bytes, looked up as `u64`.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub u64);

impl FromValue for Bytes {
    type Out<'a> = u64;
    type Default = Bytes;

    fn from_value(value: &Value) -> Option<u64> {
        if let Value::Bytes(bytes) = value { Some(*bytes) } else { None }
    }
}

impl DefaultValue for Bytes {
    fn value(self) -> Value {
        Value::Bytes(self.0)
    }

    fn json(self) -> serde_json::Value {
        size::format(self.0).into()
    }
}

impl<E: Choice> FromValue for E {
    type Out<'a> = E;
    type Default = E;

    fn from_value(value: &Value) -> Option<E> {
        if let Value::Choice(word) = value { E::of_word(word) } else { None }
    }
}

impl<E: Choice> DefaultValue for E {
    fn value(self) -> Value {
        Value::Choice(self.word())
    }

    fn json(self) -> serde_json::Value {
        self.word().into()
    }
}

/// Several values of a [`Choice`].
pub(crate) struct Choices<E>(PhantomData<E>);

impl<E: Choice> FromValue for Choices<E> {
    type Out<'a> = Vec<E>;
    type Default = &'static [E];

    fn from_value(value: &Value) -> Option<Vec<E>> {
        let Value::List(items) = value else { return None };
        items.iter().map(|item| E::from_value(&item.value)).collect()
    }
}

impl<E: Choice> DefaultValue for &'static [E] {
    fn value(self) -> Value {
        let item = |value: &E| Item { place: Place::default(), value: value.value() };
        Value::List(self.iter().map(item).collect())
    }

    fn json(self) -> serde_json::Value {
        self.iter().map(|value| value.json()).collect()
    }
}

/// A list of `T`.
pub(crate) struct List<T>(PhantomData<T>);

impl<T: FromValue> FromValue for List<T> {
    type Out<'a> = Vec<At<'a, T::Out<'a>>>;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<Self::Out<'_>> {
        let Value::List(items) = value else { return None };
        items.iter().map(Item::at::<T>).collect()
    }
}

/// A mapping from names that the author chooses to `T`.
pub(crate) struct Entries<T>(PhantomData<T>);

impl<T: FromValue> FromValue for Entries<T> {
    type Out<'a> = Vec<Entry<'a, T::Out<'a>>>;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<Self::Out<'_>> {
        let Value::Entries(entries) = value else { return None };
        Some(entries.iter().map(Named::entry::<T>).collect())
    }
}

/// A `T`, or a mapping with more detail.
pub(crate) struct Short<T>(PhantomData<T>);

impl<T: FromValue> FromValue for Short<T> {
    type Out<'a> = Form<'a, T::Out<'a>>;
    type Default = Infallible;

    fn from_value(value: &Value) -> Option<Self::Out<'_>> {
        match value {
            Value::Record(fields) => Some(Form::Long(fields)),
            scalar => T::from_value(scalar).map(Form::Short),
        }
    }
}
