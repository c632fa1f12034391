//! Builds sources.

use std::collections::{BTreeMap, BTreeSet};

use super::{Builder, destination, entry};
use crate::schema::source::{self as keys, FormatName};
use crate::schema::{At, Fields, Form, Key};
use crate::{Event, Format, JsonPaths, Members, Model, Path, Place, Source, SourceFrom, Start};

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
        Some(Source { place: place.clone(), from, format: format(fields)?, start })
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
