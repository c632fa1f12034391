//! What a sync's messages look like: its `format`, `include`, `event_names` and `fields` (docs/FORMATS.md).
//!
//! A message is one JSON object without a newline. It is built as the format has it, with the included columns where the format
//! puts them, and then `fields` are set, in the order of their paths: a field that is there is replaced, one that is not is
//! added, with the objects around it. Without all that the default message is written directly, byte for byte as
//! [`write_message`](usher_core::message::write_message) does, without its newline.
//!
//! The columns come with the change, as a JSON object of those that the sync includes ([`crate::committed_rows`]); a column that
//! is not in it is null. An update has them twice: `row`, and `previous_row` as they were before. What can't go together is found by [`Messages::check`], when a job is read.

use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use template::{Context, Templates};
use usher_config::{Path, Problem, Step, Sync, SyncFormat, Text};
use usher_core::catalog::Catalog;
use usher_core::catalog::CatalogEntry;
use usher_core::change::{Change, ChangeKind, ChangeTexts, Filter};
use usher_core::message::{MessageId, write_default, write_escaped};
use usher_core::time::write_time;

mod filters;
pub(crate) mod template;

/// What CloudEvents call an entry, an exit and an update.
const CLOUDEVENTS_TYPES: [&str; 3] = ["usher.audience.entry", "usher.audience.exit", "usher.audience.updated"];
/// What Segment calls them.
const SEGMENT_EVENTS: [&str; 3] = ["Audience Entered", "Audience Exited", "Audience Updated"];
/// What the properties of Segment's message have besides columns.
const SEGMENT_PROPERTIES: [&str; 5] = ["audience_id", "audience_name", "model", "job", "reason"];
/// What it has besides, of an update.
const PREVIOUS_ROW: &str = "previous_row";
/// Attributes of CloudEvents that are not the author's to set: the format's own, and the time and id of the change.
const CLOUDEVENTS_FIXED: [&str; 4] = ["specversion", "id", "time", "datacontenttype"];
/// What says to Kafka's readers that a message is a CloudEvent (its Kafka protocol binding, structured mode).
const CLOUDEVENTS_CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

/// How the messages of one sync are written.
#[derive(Debug)]
pub struct Messages {
    catalog: Arc<Catalog>,
    /// None: the default message.
    custom: Option<Custom>,
}

#[derive(Debug)]
struct Custom {
    format: SyncFormat,
    /// The columns that messages carry.
    include: Vec<String>,
    /// What entries, exits and updates are called; none: as the format does.
    names: [Option<String>; 3],
    /// By template.
    fields: Vec<Vec<String>>,
    templates: Templates,
}

/// Returns which changes `sync`, the job's `index`-th, commits and sends.
pub fn filter(index: u16, sync: &Sync, catalog: &Catalog) -> Filter {
    let audiences = sync.audiences.iter().map(|id| &id[..]);
    let kinds = [
        (sync.send_entry, ChangeKind::Entry),
        (sync.send_exit, ChangeKind::Exit),
        (sync.send_update, ChangeKind::Update),
    ];
    let send: Vec<ChangeKind> = kinds.into_iter().filter(|(sends, _)| *sends).map(|(_, kind)| kind).collect();
    Filter::new(index, audiences, &send, catalog)
}

impl From<Arc<Catalog>> for Messages {
    /// The default messages.
    fn from(catalog: Arc<Catalog>) -> Messages {
        Messages { catalog, custom: None }
    }
}

impl Messages {
    /// The messages of `sync`, which [`Messages::check`] has nothing to say of.
    pub fn of(sync: &Sync, catalog: Arc<Catalog>) -> Messages {
        let usual = sync.format == SyncFormat::Usher
            && sync.include.is_empty()
            && sync.fields.is_empty()
            && sync.entry_name.is_none()
            && sync.exit_name.is_none()
            && sync.update_name.is_none();
        let custom = || Custom {
            format: sync.format,
            include: sync.include.iter().map(|column| column.value.clone()).collect(),
            names: [sync.entry_name.clone(), sync.exit_name.clone(), sync.update_name.clone()],
            fields: sync.fields.keys().map(|field| names(field)).collect(),
            templates: Templates::new(sync.fields.values().map(|text| text.value.as_str()))
                .unwrap_or_else(|(_, error)| panic!("a template was not checked when the job was read: {error}")),
        };
        Messages { catalog, custom: (!usual).then(custom) }
    }

    /// What is wrong with the messages of `sync`: templates that can't be read or name what nothing has, and what the format
    /// has no room for.
    pub fn check(sync: &Sync) -> Vec<Problem> {
        let include: Vec<&str> = sync.include.iter().map(|column| column.value.as_str()).collect();
        let mut problems = template::check(sync.fields.values(), &include);
        match sync.format {
            SyncFormat::Usher => {}
            SyncFormat::Cloudevents => {
                problems.extend(sync.fields.iter().filter_map(|(field, text)| no_attribute(&names(field), text)));
            }
            SyncFormat::Segment => {
                let is_taken =
                    |column: &str| SEGMENT_PROPERTIES.contains(&column) || (sync.send_update && column == PREVIOUS_ROW);
                let taken = sync.include.iter().filter(|column| is_taken(&column.value));
                problems.extend(taken.map(|column| {
                    let message = format!("`properties.{}` is the format's own, not a column", column.value);
                    Problem::new(&column.place, message)
                        .hint("name the column otherwise in the model's files, or choose another format")
                }));
            }
        }
        problems
    }

    /// Appends the message of `change`, whose texts are `texts`. Returns the message's id.
    pub fn write(&self, out: &mut Vec<u8>, change: &Change, texts: ChangeTexts<'_>) -> MessageId {
        let key = texts.key;
        let audience = self.catalog.entry(change.audience);
        let id = MessageId::of(audience, change, key);
        match &self.custom {
            None => write_default(out, audience, change, key, &id),
            Some(custom) => custom.message(self.catalog.job(), audience, change, texts, &id).write(out),
        }
        id
    }

    /// Returns what a request of a destination by name has of `change`, whose texts are `texts`.
    pub(crate) fn parts<'a>(&'a self, change: &Change, texts: ChangeTexts<'a>) -> Parts<'a> {
        let (id, context) = self.context(change, texts);
        let mut at = Vec::new();
        write_time(&mut at, change.at);
        let custom = self.custom.as_ref();
        let name = custom.and_then(|custom| custom.names[kind_index(change.kind)].as_deref());
        let columns = |row| custom.map_or_else(Vec::new, |custom| custom.columns(row));
        Parts {
            id,
            reason: change.reason.name(),
            at: String::from_utf8(at).expect("a time is ASCII"),
            at_ms: change.at,
            job: self.catalog.job(),
            audience: self.catalog.entry(change.audience),
            event: name.unwrap_or(SEGMENT_EVENTS[kind_index(change.kind)]),
            columns: columns(texts.row),
            context,
        }
    }

    /// Sets the fields of the sync in an object of `parts`, but those whose template gives null, and appends the object.
    pub(crate) fn write_object(&self, out: &mut Vec<u8>, object: Members<'_>, parts: &Parts<'_>) {
        let mut object = Node::Object(object);
        if let Some(custom) = &self.custom {
            for (number, field) in custom.fields.iter().enumerate() {
                let value = custom.templates.json(number, &parts.context);
                if value != "null" {
                    object.set(field, Node::Raw(value));
                }
            }
        }
        object.write(out);
    }

    /// Returns the message of `change` as Segment has it, before the fields of the sync.
    pub(crate) fn track<'a>(&'a self, change: &Change, texts: ChangeTexts<'a>, parts: &'a Parts<'a>) -> Members<'a> {
        let Some(custom) = self.custom.as_ref().filter(|custom| custom.format == SyncFormat::Segment) else {
            unreachable!("a sync whose changes become events of Segment has its format");
        };
        let previous = if change.kind == ChangeKind::Update { custom.columns(texts.previous_row) } else { Vec::new() };
        let columns = (&parts.columns[..], &previous[..]);
        custom.base(parts.job, parts.audience, change, texts.key, &parts.at, columns, &parts.id)
    }

    /// Returns the id of the audience of a change.
    pub(crate) fn audience_id(&self, index: u32) -> &str {
        self.catalog.id(index)
    }

    /// Returns the id of `change`, and what templates see of it.
    pub(crate) fn context(&self, change: &Change, texts: ChangeTexts<'_>) -> (MessageId, minijinja::Value) {
        let audience = self.catalog.entry(change.audience);
        let id = MessageId::of(audience, change, texts.key);
        let mut at = Vec::new();
        write_time(&mut at, change.at);
        let at = String::from_utf8(at).expect("a time is ASCII");
        let columns = |row| self.custom.as_ref().map_or_else(Vec::new, |custom| custom.columns(row));
        let columns = (&columns(texts.row)[..], &columns(texts.previous_row)[..]);
        let context = context(self.catalog.job(), audience, change, texts.key, &at, columns, &id);
        (id, context)
    }

    /// The headers that say in Kafka what a message is without opening it: `id`, `audience`, `type` (`entry`, `exit` or
    /// `update`, whatever the message calls them), and for CloudEvents `content-type`.
    pub fn headers<'a>(
        &'a self,
        change: &Change,
        id: &'a MessageId,
    ) -> impl Iterator<Item = (&'static str, &'a [u8])> + use<'a> {
        let audience = self.catalog.id(change.audience);
        let content = match &self.custom {
            Some(custom) if custom.format == SyncFormat::Cloudevents => Some(CLOUDEVENTS_CONTENT_TYPE),
            _ => None,
        };
        [("id", id.as_str()), ("audience", audience), ("type", change.kind.name())]
            .into_iter()
            .chain(content.map(|content| ("content-type", content)))
            .map(|(name, value)| (name, value.as_bytes()))
    }
}

/// What a request of a destination by name has of a change.
pub(crate) struct Parts<'a> {
    /// The message's id.
    pub id: MessageId,
    /// The cause.
    pub reason: &'static str,
    /// RFC 3339.
    pub at: String,
    /// The same, ms since the epoch.
    pub at_ms: u64,
    pub job: &'a str,
    pub audience: &'a CatalogEntry,
    /// What the event is called, of a destination that takes events.
    pub event: &'a str,
    /// The columns that the sync includes.
    pub columns: Vec<Column<'a>>,
    /// What templates see.
    pub context: minijinja::Value,
}

impl<'a> Parts<'a> {
    /// Returns the columns as members of an object.
    pub fn columns(&self) -> Members<'a> {
        self.columns.iter().map(|(name, json)| ((*name).clone(), Node::Raw(json.clone()))).collect()
    }

    /// Returns what the properties of an event have.
    pub fn properties(&self) -> Members<'a> {
        let own = [&self.audience.id[..], &self.audience.name, &self.audience.model, self.job, self.reason];
        let own = SEGMENT_PROPERTIES.iter().zip(own).map(|(name, value)| ((*name).to_owned(), Node::Text(value)));
        own.chain(self.columns()).collect()
    }
}

/// Which of the names of changes is that of a kind.
fn kind_index(kind: ChangeKind) -> usize {
    match kind {
        ChangeKind::Entry => 0,
        ChangeKind::Exit => 1,
        ChangeKind::Update => 2,
    }
}

/// Returns what templates see of a change.
fn context(
    job: &str,
    audience: &CatalogEntry,
    change: &Change,
    key: &str,
    at: &str,
    (columns, previous): (&[Column<'_>], &[Column<'_>]),
    id: &MessageId,
) -> minijinja::Value {
    let value = |(name, json): &(&String, String)| {
        let value = serde_json::from_str(json).expect("a column is JSON");
        ((*name).clone(), value)
    };
    let context = Context {
        key,
        row: columns.iter().map(value).collect(),
        previous_row: previous.iter().map(value).collect(),
        id: id.as_str(),
        kind: change.kind.name(),
        at,
        reason: change.reason.name(),
        audience_id: &audience.id,
        audience_name: &audience.name,
        model: &audience.model,
        job,
    };
    context.value()
}

/// The names of a field's path.
fn names(field: &str) -> Vec<String> {
    let path = Path::parse(field).expect("the job's reader has read it");
    let name = |step: Step| match step {
        Step::Key(name) => name,
        Step::Index(_) | Step::All => panic!("the job's reader refuses `{field}`"),
    };
    path.0.into_iter().map(name).collect()
}

/// Why a field can't be set in a CloudEvent.
fn no_attribute(field: &[String], text: &Text) -> Option<Problem> {
    let name = field[0].as_str();
    let simple = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let hint = "what goes with the event is below `data`";
    if name == "data" {
        None
    } else if CLOUDEVENTS_FIXED.contains(&name) {
        Some(Problem::new(&text.place, format!("`{name}` of a CloudEvent is not for `fields` to set")))
    } else if field.len() > 1 {
        let message = format!("the attribute `{name}` of a CloudEvent is a single value and has no `{}`", field[1]);
        Some(Problem::new(&text.place, message).hint(hint))
    } else if !simple(name) || name == "data_base64" {
        let message = format!("`{name}` is no attribute of a CloudEvent: those have lower-case letters and digits");
        Some(Problem::new(&text.place, message).hint(hint))
    } else {
        None
    }
}

/// Whether a text can be an attribute of a CloudEvent: it is not empty, and has no control characters.
fn is_attribute(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// A JSON value under construction. Objects keep their order.
pub(crate) enum Node<'a> {
    Text(&'a str),
    /// JSON.
    Raw(String),
    Object(Members<'a>),
}

/// A column's name, and its value as JSON.
pub(crate) type Column<'a> = (&'a String, String);

/// The members of an object.
pub(crate) type Members<'a> = Vec<(String, Node<'a>)>;

impl Custom {
    fn message<'a>(
        &'a self,
        job: &'a str,
        audience: &'a CatalogEntry,
        change: &Change,
        texts: ChangeTexts<'a>,
        id: &'a MessageId,
    ) -> Node<'a> {
        let key = texts.key;
        let mut at = Vec::new();
        write_time(&mut at, change.at);
        let at = String::from_utf8(at).expect("a time is ASCII");
        let columns = self.columns(texts.row);
        let is_update = change.kind == ChangeKind::Update;
        let previous = if is_update { self.columns(texts.previous_row) } else { Vec::new() };
        let mut message = Node::Object(self.base(job, audience, change, key, &at, (&columns, &previous), id));
        if self.fields.is_empty() {
            return message;
        }
        let context = context(job, audience, change, key, &at, (&columns, &previous), id);
        for (number, field) in self.fields.iter().enumerate() {
            let to_attribute = self.format == SyncFormat::Cloudevents && field[0] != "data";
            if !to_attribute {
                message.set(field, Node::Raw(self.templates.json(number, &context)));
            } else if let Some(text) = self.templates.text(number, &context).filter(|text| is_attribute(text)) {
                // Of any other text the attribute stays as the format has it, or away.
                message.set(field, Node::Raw(serde_json::Value::from(text).to_string()));
            }
        }
        message
    }

    /// The included columns of a row as JSON, in the order of `include`.
    fn columns(&self, row: &str) -> Vec<Column<'_>> {
        if self.include.is_empty() {
            return Vec::new();
        }
        let row: BTreeMap<String, Box<RawValue>> = match row {
            "" => BTreeMap::new(),
            row => serde_json::from_str(row).unwrap_or_else(|error| panic!("a change's row is a JSON object: {error}")),
        };
        let json = |name: &String| row.get(name).map_or_else(|| "null".to_owned(), |value| value.get().to_owned());
        self.include.iter().map(|name| (name, json(name))).collect()
    }

    /// The format's own message.
    #[allow(clippy::too_many_arguments)]
    fn base<'a>(
        &'a self,
        job: &'a str,
        audience: &'a CatalogEntry,
        change: &Change,
        key: &'a str,
        at: &str,
        (columns, previous): (&[Column<'_>], &[Column<'_>]),
        id: &'a MessageId,
    ) -> Members<'a> {
        let which = kind_index(change.kind);
        let name = |usual: &'static str| self.names[which].as_deref().unwrap_or(usual);
        let time = || Node::Raw(format!("\"{at}\""));
        let text = |name: &str, value: &'a str| (name.to_owned(), Node::Text(value));
        let members = |columns: &[Column<'_>]| -> Members<'a> {
            columns.iter().map(|(name, json)| ((*name).clone(), Node::Raw(json.clone()))).collect()
        };
        let object = |name: &str, columns: &[Column<'_>]| (name.to_owned(), Node::Object(members(columns)));
        let row = (!self.include.is_empty()).then(|| object("row", columns));
        let previous_row = (!previous.is_empty()).then(|| object(PREVIOUS_ROW, previous));
        let usher = |kind: &'a str| -> Members<'a> {
            let members = vec![
                text("type", kind),
                text("job", job),
                text("audience_id", &audience.id),
                text("audience_name", &audience.name),
                text("model", &audience.model),
                text("key", key),
                ("at".to_owned(), time()),
                text("reason", change.reason.name()),
            ];
            members.into_iter().chain(row).chain(previous_row).collect()
        };
        match self.format {
            SyncFormat::Usher => {
                let mut members = vec![text("id", id.as_str())];
                members.extend(usher(name(change.kind.name())));
                members
            }
            SyncFormat::Cloudevents => {
                let mut members = vec![
                    text("specversion", "1.0"),
                    text("id", id.as_str()),
                    ("source".to_owned(), Node::Raw(format!("\"/usher/{job}\""))),
                    text("type", name(CLOUDEVENTS_TYPES[which])),
                ];
                members.extend(is_attribute(key).then(|| text("subject", key)));
                members.extend([
                    ("time".to_owned(), time()),
                    text("datacontenttype", "application/json"),
                    ("data".to_owned(), Node::Object(usher(change.kind.name()))),
                ]);
                members
            }
            SyncFormat::Segment => {
                let own = [&audience.id[..], &audience.name[..], &audience.model[..], job, change.reason.name()];
                let own = SEGMENT_PROPERTIES.iter().zip(own).map(|(name, value)| text(name, value));
                let previous_row = (!previous.is_empty()).then(|| object(PREVIOUS_ROW, previous));
                let properties = own.chain(members(columns)).chain(previous_row);
                vec![
                    text("type", "track"),
                    text("messageId", id.as_str()),
                    text("event", name(SEGMENT_EVENTS[which])),
                    text("userId", key),
                    ("timestamp".to_owned(), time()),
                    ("properties".to_owned(), Node::Object(properties.collect())),
                ]
            }
        }
    }
}

impl<'a> Node<'a> {
    /// Sets what stands at a path of names, and makes objects on the way to it.
    pub fn set(&mut self, path: &[String], value: Node<'a>) {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self, Node::Object(_)) {
            *self = Node::Object(Vec::new());
        }
        let Node::Object(members) = self else { unreachable!("it was just made one") };
        let at = members.iter().position(|(name, _)| name == first).unwrap_or_else(|| {
            members.push((first.clone(), Node::Object(Vec::new())));
            members.len() - 1
        });
        members[at].1.set(rest, value);
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        let string = |out: &mut Vec<u8>, text: &str| {
            out.push(b'"');
            write_escaped(out, text);
            out.push(b'"');
        };
        match self {
            Node::Text(text) => string(out, text),
            Node::Raw(json) => out.extend_from_slice(json.as_bytes()),
            Node::Object(members) => {
                out.push(b'{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    string(out, name);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

#[cfg(test)]
mod tests;
