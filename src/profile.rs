//! What messages contain: their types and names, and for each path how often it has a value, of which types, with samples.
//!
//! It belongs to no job. The types and names are found where a format has them; [`guess_format`] finds the format.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use usher_config::{Format, JsonPaths, Path, Step};
use usher_formats::{Look, to_json};

/// Paths that are kept of each kind of message: beyond them a message is data of its own making.
const PATHS: usize = 200;
/// Levels of objects that are followed.
const DEPTH: usize = 6;
/// Samples that are kept of a path.
const SAMPLES: usize = 3;
/// Characters of a sample that are shown.
const SHOWN: usize = 40;
/// Values that are kept of a path, to be compared with the keys of tables.
const VALUES: usize = 10_000;
/// Kinds of messages that are kept apart.
const KINDS: usize = 200;

/// The messages of a source.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Messages with content.
    pub messages: u64,
    /// Those that are no object and no row.
    pub unreadable: u64,
    /// By look, as a sentence.
    pub looks: BTreeMap<String, u64>,
    /// By type and name.
    pub kinds: BTreeMap<Kind, Group>,
    /// Messages of kinds beyond those that are kept.
    pub others: u64,
}

/// A type and a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub kind: Option<String>,
    pub name: Option<String>,
}

/// The messages of one kind.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub messages: u64,
    /// By path, as a job file writes it.
    pub paths: BTreeMap<String, Values>,
}

/// The values at a path.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Messages that have one, null excluded.
    pub count: u64,
    /// Their types.
    pub types: BTreeSet<&'static str>,
    /// The first ones, as JSON.
    pub samples: Vec<String>,
}

impl Values {
    /// Returns the type that a job would declare: of numbers `number`, which takes integers too. `None` if there is none.
    pub fn declared(&self) -> Option<&'static str> {
        let types: Vec<&str> = self.types.iter().copied().collect();
        match types[..] {
            [] => None,
            ["integer" | "number"] | ["integer", "number"] => Some("number"),
            ["list<integer>" | "list<number>"] | ["list<integer>", "list<number>"] => Some("list<number>"),
            [one] => (one != "list").then_some(one),
            _ if types.iter().any(|one| one.starts_with("list")) => None,
            _ => Some("string"),
        }
    }

    fn add(&mut self, value: &Value, found: &'static str) {
        self.count += 1;
        self.types.insert(found);
        let sample = shown(&value.to_string());
        if self.samples.len() < SAMPLES && !self.samples.contains(&sample) {
            self.samples.push(sample);
        }
    }
}

impl Profile {
    /// Adds a message.
    pub fn add(&mut self, message: &[u8], format: &Format) {
        self.messages += 1;
        *self.looks.entry(Look::of(message).to_string()).or_default() += 1;
        let Some(Value::Object(object)) = to_json(message) else {
            self.unreadable += 1;
            return;
        };
        let object = Value::Object(object);
        let kind = kind_of(&object, format);
        if self.kinds.len() == KINDS && !self.kinds.contains_key(&kind) {
            self.others += 1;
            return;
        }
        let group = self.kinds.entry(kind).or_default();
        group.messages += 1;
        let mut path = Vec::new();
        if let Value::Object(members) = &object {
            leaves(members, &mut path, &mut |path, value| {
                let Some(found) = type_of(value) else { return };
                let text = path.to_string();
                if group.paths.len() < PATHS || group.paths.contains_key(&text) {
                    group.paths.entry(text).or_default().add(value, found);
                }
            });
        }
    }

    /// Returns how messages look, the most frequent first.
    pub fn look(&self) -> Vec<(&str, u64)> {
        let mut looks: Vec<(&str, u64)> = self.looks.iter().map(|(look, count)| (look.as_str(), *count)).collect();
        looks.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        looks
    }

    /// Returns the messages of a type, whatever their names.
    pub fn of_type(&self, kind: Option<&str>) -> Group {
        let mut all = Group::default();
        for (_, group) in self.kinds.iter().filter(|(of, _)| of.kind.as_deref() == kind) {
            all.messages += group.messages;
            for (path, values) in &group.paths {
                let of_path = all.paths.entry(path.clone()).or_default();
                of_path.count += values.count;
                of_path.types.extend(&values.types);
                of_path.samples.extend(values.samples.iter().cloned());
                of_path.samples.truncate(SAMPLES);
            }
        }
        all
    }

    /// Returns the kinds, the most frequent first.
    pub fn most_frequent(&self) -> Vec<(&Kind, &Group)> {
        let mut kinds: Vec<(&Kind, &Group)> = self.kinds.iter().collect();
        kinds.sort_by(|a, b| b.1.messages.cmp(&a.1.messages).then(a.0.cmp(b.0)));
        kinds
    }
}

/// The distinct texts at each path of all messages, for paths whose values could be keys.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    messages: u64,
    by_path: BTreeMap<String, (u64, BTreeSet<String>)>,
}

impl Texts {
    /// Adds the strings and integers of a message.
    pub fn add(&mut self, message: &[u8]) {
        let Some(Value::Object(members)) = to_json(message) else { return };
        self.messages += 1;
        leaves(&members, &mut Vec::new(), &mut |path, value| {
            let text = match value {
                Value::String(text) if !text.is_empty() => text.clone(),
                Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
                _ => return,
            };
            let name = path.to_string();
            if self.by_path.len() < PATHS || self.by_path.contains_key(&name) {
                let (count, texts) = self.by_path.entry(name).or_default();
                *count += 1;
                if texts.len() < VALUES {
                    texts.insert(text);
                }
            }
        });
    }

    /// Returns the texts at all paths.
    pub fn all(&self) -> BTreeSet<String> {
        self.by_path.values().flat_map(|(_, texts)| texts).cloned().collect()
    }

    /// Returns the texts at a path.
    pub fn at(&self, path: &str) -> Option<&BTreeSet<String>> {
        self.by_path.get(path).map(|(_, texts)| texts)
    }

    /// Returns the path at which most of these keys stand; `None` if none stands anywhere.
    pub fn path_of(&self, keys: &BTreeSet<String>) -> Option<&str> {
        let common = self.by_path.iter().map(|(path, (_, texts))| (texts.intersection(keys).count(), path));
        let best = common.filter(|(common, _)| *common > 0).max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(a.1)));
        best.map(|(_, path)| path.as_str())
    }

    /// Returns the first of these names, compared without case, `_` and `-`, that at least half of the messages have as a path.
    fn named(&self, names: &[&str]) -> Option<Path> {
        let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
        names.iter().find_map(|name| {
            let found =
                self.by_path.iter().find(|(path, (count, _))| plain(path) == *name && count * 2 >= self.messages);
            Path::parse(found?.0).ok()
        })
    }
}

/// Returns the format of messages by the most frequent look. The error is what they look like, if no format reads
/// it, or if they are in envelopes.
pub fn guess_format(messages: &[Vec<u8>], texts: &Texts) -> Result<Format, Look> {
    let mut looks: BTreeMap<String, (u64, Look)> = BTreeMap::new();
    for message in messages {
        let look = Look::of(message);
        // Messages of one family have several types, and objects several keys.
        let name = match &look {
            Look::Segment(_) => "segment".to_owned(),
            Look::Json(_) => "json".to_owned(),
            other => other.to_string(),
        };
        looks.entry(name).or_insert((0, look)).0 += 1;
    }
    let Some((_, look)) = looks.into_values().max_by_key(|(count, _)| *count) else { return Ok(Format::Segment) };
    match look {
        // In an envelope: the format is that of what is inside, which is not looked at here.
        look if look.envelope().is_some() => Err(look),
        Look::Segment(_) => Ok(family(messages)),
        Look::SnowplowTsv => Ok(Format::SnowplowTsv),
        Look::SnowplowJson => Ok(Format::SnowplowJson),
        Look::Json(_) => Ok(Format::Json(json_paths(messages, texts))),
        other => Err(other),
    }
}

/// Returns which of Segment's family wrote messages: by the library that they name, and by `channel`, which RudderStack's have.
fn family(messages: &[Vec<u8>]) -> Format {
    let (mut hightouch, mut rudderstack) = (0, 0);
    let objects: Vec<Value> = messages.iter().filter_map(|message| to_json(message)).collect();
    for object in &objects {
        let library = object["context"]["library"]["name"].as_str().unwrap_or_default().to_lowercase();
        hightouch += usize::from(library.contains("events-sdk") || library.contains("hightouch"));
        rudderstack += usize::from(library.contains("rudder") || object.get("channel").is_some_and(Value::is_string));
    }
    match objects.len() {
        half if hightouch * 2 > half => Format::Hightouch,
        half if rudderstack * 2 > half => Format::Rudderstack,
        _ => Format::Segment,
    }
}

/// Returns where messages probably have their parts, by the names that are usual for them.
fn json_paths(messages: &[Vec<u8>], texts: &Texts) -> JsonPaths {
    let named = |names: &[&str]| texts.named(names);
    let is_object = |name: &str| {
        let objects = messages.iter().filter_map(|message| to_json(message));
        objects.filter(|object| object[name].is_object()).count() * 2 >= messages.len()
    };
    let properties = ["properties", "data", "payload", "attributes", "props", "params"];
    let kind = named(&["type", "eventtype", "kind"]);
    let name = named(&["event", "eventname", "name", "action"]);
    JsonPaths {
        kind,
        name,
        key: named(&[
            "userid",
            "user.id",
            "customerid",
            "distinctid",
            "uid",
            "subject",
            "accountid",
            "user",
            "deviceid",
        ]),
        time: named(&[
            "timestamp",
            "time",
            "ts",
            "eventtime",
            "eventtimestamp",
            "occurredat",
            "createdat",
            "datetime",
            "date",
        ]),
        id: named(&["messageid", "eventid", "id", "uuid"]),
        properties: properties
            .iter()
            .find(|name| is_object(name))
            .map(|name| Path(vec![Step::Key((*name).to_owned())])),
    }
}

/// Returns the type and name of a message, where the format has them.
fn kind_of(object: &Value, format: &Format) -> Kind {
    let text = |path: &[&str]| {
        let value = path.iter().try_fold(object, |value, name| value.get(*name));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    match format {
        Format::Segment | Format::Rudderstack | Format::Hightouch => {
            let kind = text(&["type"]);
            let name = match kind.as_deref() {
                Some("page" | "screen") => text(&["name"]),
                _ => text(&["event"]),
            };
            Kind { kind, name }
        }
        Format::SnowplowTsv | Format::SnowplowJson => {
            let kind = text(&["event"]);
            let name = if kind.as_deref() == Some("struct") { text(&["se_action"]) } else { text(&["event_name"]) };
            Kind { kind, name }
        }
        Format::Json(paths) => {
            let at = |path: &Option<Path>| {
                let value = path.as_ref()?.0.iter().try_fold(object, |value, step| match step {
                    Step::Key(name) => value.get(name),
                    Step::Index(index) => value.get(index),
                    Step::All => None,
                });
                value.and_then(Value::as_str).map(str::to_owned)
            };
            Kind { kind: at(&paths.kind), name: at(&paths.name) }
        }
    }
}

/// Calls `found` with each value that is no object, and its path. Of a list of objects that are the lists of what their members have.
fn leaves(members: &Map<String, Value>, path: &mut Vec<Step>, found: &mut impl FnMut(&Path, &Value)) {
    for (name, value) in members {
        path.push(Step::Key(name.clone()));
        match value {
            Value::Object(inner) if path.len() < DEPTH => leaves(inner, path, found),
            Value::Object(_) => {}
            Value::Array(list) if path.len() + 1 < DEPTH && !list.is_empty() && list.iter().all(Value::is_object) => {
                path.push(Step::All);
                leaves(&transposed(list), path, found);
                path.pop();
            }
            value => found(&Path(path.clone()), value),
        }
        path.pop();
    }
}

/// Returns the members of a list of objects, each as the list of its values; of members that are objects again as such a mapping.
fn transposed(list: &[Value]) -> Map<String, Value> {
    let mut members: BTreeMap<&String, Vec<Value>> = BTreeMap::new();
    for (name, value) in list.iter().filter_map(Value::as_object).flatten().filter(|(_, value)| !value.is_null()) {
        members.entry(name).or_default().push(value.clone());
    }
    let whole = |values: Vec<Value>| match values.iter().all(Value::is_object) {
        true => Value::Object(transposed(&values)),
        false => Value::Array(values),
    };
    members.into_iter().map(|(name, values)| (name.clone(), whole(values))).collect()
}

/// Returns the type of a value as a job would declare it; `None` of null and of an empty list, `list` of a list of something else.
fn type_of(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Null | Value::Object(_) => return None,
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(text) if usher_core::time::parse_timestamp(text).is_some() && text.len() > "2026-11-23".len() => {
            "timestamp"
        }
        Value::String(_) => "string",
        Value::Array(list) => {
            let types: BTreeSet<Option<&str>> = list.iter().map(type_of).collect();
            match types.iter().flatten().copied().collect::<Vec<_>>()[..] {
                [] => return None,
                ["integer"] => "list<integer>",
                ["number"] | ["integer", "number"] => "list<number>",
                ["string"] | ["timestamp"] | ["string", "timestamp"] => "list<string>",
                _ => "list",
            }
        }
    })
}

/// Returns the beginning of a text.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(lines: &[&str]) -> (Profile, Format) {
        let messages: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        let mut texts = Texts::default();
        messages.iter().for_each(|message| texts.add(message));
        let format = guess_format(&messages, &texts).expect("a format reads them");
        let mut profile = Profile::default();
        messages.iter().for_each(|message| profile.add(message, &format));
        (profile, format)
    }

    #[test]
    fn messages_are_counted_by_type_and_name_with_the_types_of_their_values() {
        let (profile, format) = profile(&[
            r#"{"type":"track","event":"Bought","userId":"a","properties":{"revenue":5,"tags":["x"],"at":"2026-11-23T10:00:00Z"}}"#,
            r#"{"type":"track","event":"Bought","userId":"b","properties":{"revenue":5.5,"gift":true,"tags":[],"none":null}}"#,
            r#"{"type":"page","name":"Home","anonymousId":"c","properties":{"nan":NaN}}"#,
            "no message",
        ]);
        assert_eq!(format, Format::Segment);
        assert_eq!((profile.messages, profile.unreadable), (4, 1));
        let kinds: Vec<(String, u64)> =
            profile.kinds.iter().map(|(kind, group)| (format!("{kind:?}"), group.messages)).collect();
        assert_eq!(kinds.len(), 2, "{kinds:?}");
        let (_, bought) = profile.most_frequent()[0];
        assert_eq!(bought.messages, 2);
        let declared = |path: &str| bought.paths.get(path).and_then(Values::declared);
        assert_eq!(declared("properties.revenue"), Some("number"));
        assert_eq!(declared("properties.tags"), Some("list<string>"));
        assert_eq!(declared("properties.at"), Some("timestamp"));
        assert_eq!(declared("properties.gift"), Some("boolean"));
        assert_eq!(declared("properties.none"), None);
        assert_eq!(bought.paths["properties.revenue"].samples, ["5", "5.5"]);
    }

    #[test]
    fn lists_of_objects_are_shown_by_what_their_members_have() {
        let line = r#"{"type":"track","event":"Bought","userId":"a","properties":{"items":[{"sku":"A","price":{"net":5}},{"sku":"B","price":{"net":6.5},"x":null}],"mixed":[{"a":1},2]}}"#;
        let (profile, _) = profile(&[line]);
        let (_, bought) = profile.most_frequent()[0];
        let shown = |path: &str| bought.paths.get(path).map(|values| (values.declared(), values.samples.join(" ")));
        assert_eq!(shown("properties.items[*].sku"), Some((Some("list<string>"), r#"["A","B"]"#.to_owned())));
        assert_eq!(shown("properties.items[*].price.net"), Some((Some("list<number>"), "[5,6.5]".to_owned())));
        assert_eq!((shown("properties.items"), shown("properties.items[*].x")), (None, None));
    }

    #[test]
    fn the_family_is_known_by_its_library_and_other_json_by_usual_names() {
        let library = |name: &str, more: &str| {
            format!(r#"{{"type":"track","event":"x","userId":"a","context":{{"library":{{"name":"{name}"}}}}{more}}}"#)
        };
        assert_eq!(profile(&[&library("@segment/analytics-node", "")]).1, Format::Segment);
        assert_eq!(profile(&[&library("events-sdk-python", "")]).1, Format::Hightouch);
        assert_eq!(profile(&[&library("analytics-node", r#","channel":"server""#)]).1, Format::Rudderstack);
        let (_, format) =
            profile(&[r#"{"kind":"order","user_id":7,"ts":1700000000000,"event_id":"1","data":{"total":3}}"#]);
        let Format::Json(paths) = format else { panic!("{format:?}") };
        let text = |path: &Option<Path>| path.as_ref().map(Path::to_string);
        assert_eq!(text(&paths.kind).as_deref(), Some("kind"));
        assert_eq!(text(&paths.key).as_deref(), Some("user_id"));
        assert_eq!(text(&paths.time).as_deref(), Some("ts"));
        assert_eq!(text(&paths.id).as_deref(), Some("event_id"));
        assert_eq!(text(&paths.properties).as_deref(), Some("data"));
    }

    #[test]
    fn the_format_of_messages_in_envelopes_is_not_guessed() {
        for message in [
            r#"{"batch":[{"type":"track","event":"x","userId":"a"}]}"#,
            r#"{"before":null,"after":{"user_id":7},"op":"c","ts_ms":1}"#,
            r#"{"schema":{},"payload":{"user_id":7}}"#,
            r#"{"specversion":"1.0","id":"1","type":"order","data":{"user_id":7}}"#,
        ] {
            let guessed = guess_format(&[message.as_bytes().to_vec()], &Texts::default());
            assert!(guessed.is_err_and(|look| look.envelope().is_some()), "{message}");
        }
    }
}
