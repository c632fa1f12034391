//! Builds sources.

use std::collections::{BTreeMap, BTreeSet};

use super::{Builder, destination, entry, webhook};
use crate::schema::source::{self as keys, EncodingName, FormatName};
use crate::schema::{At, Choice as _, Fields, Form, Key};
use crate::{
    Encoding, Envelope, Event, Format, JsonPaths, Members, Model, Path, Place, Registry, SchemaFile, SchemaKind,
    Source, SourceFrom, Start,
};

impl<'a> Builder<'a> {
    pub(super) fn source(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Source> {
        if let Some(paths) = json_paths(fields) {
            self.check_json_headers(id, fields, paths);
        }
        let from = match fields.get(&keys::KAFKA) {
            Some(kafka) => {
                let topics: BTreeSet<&str> = kafka.get(&keys::TOPICS)?.iter().map(|topic| topic.value).collect();
                let topics = topics.into_iter().map(str::to_owned).collect();
                SourceFrom::Kafka { kafka: destination::kafka(kafka)?, topics }
            }
            None => {
                let file = fields.get(&keys::FILE)?;
                SourceFrom::File { path: file.get(&keys::FILE_PATH)?.to_owned(), follow: file.get(&keys::FOLLOW)? }
            }
        };
        let start = fields.get(&keys::START_AT).unwrap_or(Start::Window);
        let format = format(fields)?;
        let (encoding, unwrap) = (self.encoding(fields, &format), self.envelopes(fields, &format));
        Some(Source { place: place.clone(), from, format, encoding: encoding?, unwrap: unwrap?, start })
    }

    /// Returns how the messages of a source are written; `None` if that is wrong, or its format can't be written so.
    fn encoding(&mut self, source: &'a Fields, format: &Format) -> Option<Encoding> {
        let name = source.get(&keys::ENCODING)?;
        let (registry, schema) = (source.at(&keys::REGISTRY), source.at(&keys::SCHEMA));
        let Some(encoding) = source.place(&keys::ENCODING).filter(|_| name != EncodingName::Json) else {
            if let Some(schema) = schema {
                let hint = "set `encoding: avro` or `encoding: protobuf`, or leave `schema` out";
                self.report_with_hint(schema.place, "`schema` is for messages in Avro and Protobuf", hint);
                return None;
            }
            if let Some(registry) = registry {
                let hint = "set `encoding: avro`, `protobuf` or `json_schema`, or leave `registry` out";
                self.report_with_hint(registry.place, "`registry` is for messages that name their schema", hint);
                return None;
            }
            return Some(Encoding::Json);
        };
        let word = name.word();
        if source.has(&keys::FILE) {
            let message = format!("`encoding: {word}` is for messages of Kafka, and files have lines of text");
            self.report(encoding, message);
            return None;
        }
        if matches!(format, Format::SnowplowTsv) || matches!(format, Format::SnowplowJson) && name.is_binary() {
            let message = match name.is_binary() {
                true => format!("Snowplow's events are text, and `encoding: {word}` is not"),
                false => format!("Snowplow's rows are no JSON, and `encoding: {word}` is"),
            };
            self.report_with_hint(encoding, message, "set `format: {json: {…}}`, with the paths of the schema");
            return None;
        }
        match (registry, schema) {
            (Some(registry), _) => self.registered(name, registry.value),
            (None, Some(schema)) => self.schema_file(name, source, &schema, encoding),
            (None, None) if name == EncodingName::JsonSchema => {
                let hint = "give the `url` of the registry; messages that name no schema are `encoding: json`";
                self.report_with_hint(encoding, "`encoding: json_schema` needs `registry`", hint);
                None
            }
            (None, None) => {
                let hint = "give the file of the schema that writes the messages, or the registry of the schemas that they name";
                self.report_with_hint(encoding, format!("`encoding: {word}` needs `schema` or `registry`"), hint);
                None
            }
        }
    }

    /// Returns the encoding of messages whose schemas are in a registry.
    fn registered(&mut self, name: EncodingName, registry: &'a Fields) -> Option<Encoding> {
        let kind = match name {
            EncodingName::Json => return None,
            EncodingName::Avro => SchemaKind::Avro,
            EncodingName::Protobuf => SchemaKind::Protobuf,
            EncodingName::JsonSchema => SchemaKind::JsonSchema,
        };
        let registry = Registry {
            url: webhook::secret(registry.at(&keys::REGISTRY_URL)?),
            username: registry.get(&keys::USERNAME).map(str::to_owned),
            password: registry.at(&keys::PASSWORD).map(webhook::secret),
        };
        Some(Encoding::Registered { kind, registry })
    }

    /// Returns the encoding of messages whose schema is in a file.
    fn schema_file(
        &mut self,
        name: EncodingName,
        source: &'a Fields,
        schema: &At<'a, &'a str>,
        encoding: &Place,
    ) -> Option<Encoding> {
        let message = source.at(&keys::MESSAGE);
        let (path, place) = (schema.value.to_owned(), schema.place.clone());
        let file = SchemaFile { path, place, text: String::new(), imports: BTreeMap::new() };
        match (name, message) {
            (EncodingName::Protobuf, Some(message)) => {
                Some(Encoding::Protobuf { schema: file, message: message.value.to_owned() })
            }
            (EncodingName::Protobuf, None) => {
                let hint = "name the message of the file, as in `message: shop.Order`";
                self.report_with_hint(encoding, "`encoding: protobuf` needs `message`", hint);
                None
            }
            (EncodingName::JsonSchema, _) => {
                let hint = "give `registry`; messages that name no schema are `encoding: json`";
                self.report_with_hint(schema.place, "`encoding: json_schema` takes no file of a schema", hint);
                None
            }
            (_, Some(message)) => {
                self.report(message.place, "`message` is for `encoding: protobuf`: a schema of Avro has one type");
                None
            }
            (_, None) => Some(Encoding::Avro(file)),
        }
    }

    /// Returns the envelopes of a source; `None` if its format can't be in one.
    fn envelopes(&mut self, source: &'a Fields, format: &Format) -> Option<Vec<Envelope>> {
        let Some(place) = source.place(&keys::UNWRAP).filter(|_| *format == Format::SnowplowTsv) else {
            return Some(source.list(&keys::UNWRAP).into_iter().map(|envelope| envelope.value).collect());
        };
        let message = "`unwrap` is for messages in JSON, and `snowplow_tsv` has rows";
        self.report_with_hint(place, message, "leave it out, or read Snowplow's events as `snowplow_json`");
        None
    }

    /// Sets the default start of sources whose events set live columns of a model that any key can be a member of: those keys have
    /// no other row.
    pub(super) fn read_traits_from_the_start(
        &self,
        sources: &mut BTreeMap<String, Source>,
        models: &BTreeMap<String, Model>,
        events: &BTreeMap<String, Event>,
    ) {
        let of_any = models.values().filter(|model| model.members == Members::Any);
        for event in of_any.flat_map(|model| model.live.values()).filter_map(|live| events.get(&live.event)) {
            for id in &event.sources {
                let has_start = entry(&self.sources, id).is_none_or(|fields| fields.has(&keys::START_AT));
                if let Some(source) = sources.get_mut(id).filter(|_| !has_start) {
                    source.start = Start::Earliest;
                }
            }
        }
    }

    /// Reports the paths of a `json` format that lead to headers in a wrong way.
    fn check_json_headers(&mut self, id: &'a str, source: &Fields, paths: &'a Fields) {
        let all = [
            &keys::JSON_TYPE,
            &keys::JSON_NAME,
            &keys::JSON_KEY,
            &keys::JSON_TIME,
            &keys::JSON_ID,
            &keys::JSON_PROPERTIES,
        ];
        for path in all.into_iter().filter_map(|key| paths.at(key)) {
            self.check_header(&path, id, source);
        }
        if let Some(path) = paths.at(&keys::JSON_PROPERTIES).filter(|path| path.value.header().is_some()) {
            self.report(path.place, "a header is a single value, and `properties` is the path of an object");
        }
    }

    /// Reports a path to a header if the source has no headers, and a path into a header.
    pub(super) fn check_header(&mut self, path: &At<'a, &'a Path>, id: &str, source: &Fields) {
        let At { place, value: path } = path;
        if !path.is_in_headers() {
            return;
        }
        if source.has(&keys::FILE) && !source.has(&keys::KAFKA) {
            let message = format!("`{path}` is a header of Kafka, and the source `{id}` reads files");
            self.report_with_hint(place, message, "say where it is in the message itself");
        } else if path.header().is_none() {
            let message = format!("`{path}` goes into a header, which is a single value");
            self.report_with_hint(place, message, "a header is written as in `headers.NAME`");
        }
    }
}

/// Returns the paths of a source's `json` format; `None` if its format has no paths.
fn json_paths(source: &Fields) -> Option<&Fields> {
    match source.get(&keys::FORMAT)? {
        Form::Short(_) => None,
        Form::Long(long) => long.get(&keys::JSON),
    }
}

/// Returns whether the format of a source provides a part of its messages. A wrong format counts as one that does.
pub(super) fn provides(source: &Fields, part: &Key<Path>) -> bool {
    match source.get(&keys::FORMAT) {
        None => true,
        Some(Form::Short(name)) => name != FormatName::Json,
        Some(Form::Long(long)) => long.get(&keys::JSON).is_none_or(|paths| paths.has(part)),
    }
}

fn format(source: &Fields) -> Option<Format> {
    Some(match source.get(&keys::FORMAT)? {
        Form::Short(FormatName::Segment) => Format::Segment,
        Form::Short(FormatName::Rudderstack) => Format::Rudderstack,
        Form::Short(FormatName::Hightouch) => Format::Hightouch,
        Form::Short(FormatName::SnowplowTsv) => Format::SnowplowTsv,
        Form::Short(FormatName::SnowplowJson) => Format::SnowplowJson,
        Form::Short(FormatName::Json) => {
            Format::Json(JsonPaths { kind: None, name: None, key: None, time: None, id: None, properties: None })
        }
        Form::Long(long) => {
            let paths = long.get(&keys::JSON)?;
            let path = |key: &Key<Path>| paths.get(key).cloned();
            Format::Json(JsonPaths {
                kind: path(&keys::JSON_TYPE),
                name: path(&keys::JSON_NAME),
                key: path(&keys::JSON_KEY),
                time: path(&keys::JSON_TIME),
                id: path(&keys::JSON_ID),
                properties: path(&keys::JSON_PROPERTIES),
            })
        }
    })
}
