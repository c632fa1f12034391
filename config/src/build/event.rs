//! Builds events.

use super::source::provides;
use std::collections::BTreeSet;

use super::{Builder, entry, owned, sorted_out, text};
use crate::schema::event as keys;
use crate::schema::{AnyKey, DESCRIPTION, Entry, Fields, Form, Key, source};
use crate::{ColumnType, Event, Gap, Path, Place, Property, Step};

impl<'a> Builder<'a> {
    /// Builds an event, without what is wrong in it: that is noted in the gaps. Sources and a model that do not exist are
    /// named as they are written.
    pub(super) fn event(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Event {
        let references = fields.get(&keys::SOURCES).unwrap_or_default();
        for reference in &references {
            if let Some(source) = self.resolve(reference) {
                self.check_json_parts(id, place, fields, source);
                self.check_headers(fields, source);
            }
        }
        let sources: BTreeSet<&str> = references.iter().map(|reference| reference.value.id.as_str()).collect();
        let _ = self.refer(fields, &keys::MODEL);
        let model = fields.get(&keys::MODEL).map(|reference| reference.id.clone());
        let names: BTreeSet<&str> = fields.list(&keys::NAMES).into_iter().map(|name| name.value).collect();
        let properties = fields.entries(&keys::PROPERTIES).into_iter();
        let properties = properties.map(|entry| (entry.name.to_owned(), self.event_property(entry)));
        let (properties, wrong) = sorted_out(properties);
        let gap = Gap { columns: wrong, others: fields.is_wrong(&keys::PROPERTIES), parent: false };
        gap.note(id, &mut self.gaps.events);
        Event {
            place: place.clone(),
            label: owned(fields, &keys::LABEL),
            description: owned(fields, &DESCRIPTION),
            sources: sources.into_iter().map(str::to_owned).collect(),
            kind: owned(fields, &keys::TYPE),
            names: names.into_iter().map(str::to_owned).collect(),
            filter: text(fields, &keys::WHERE),
            model: model.unwrap_or_default(),
            foreign_key: fields.get(&keys::FOREIGN_KEY).cloned(),
            timestamp: fields.get(&keys::TIMESTAMP).cloned(),
            properties,
        }
    }

    /// Reports the event's paths to headers that its source does not have.
    fn check_headers(&mut self, fields: &'a Fields, source_id: &str) {
        let Some(source) = entry(&self.sources, source_id) else {
            return;
        };
        let own = [&keys::FOREIGN_KEY, &keys::TIMESTAMP].map(|key| fields.at(key));
        let properties = fields.entries(&keys::PROPERTIES).into_iter().map(|property| match property.item?.value {
            Form::Long(long) => long.at(&keys::PROPERTY_PATH),
            Form::Short(_) => None,
        });
        for path in own.into_iter().chain(properties).flatten() {
            self.check_header(&path, source_id, source);
        }
    }

    /// Reports an event that needs more than its source's `json` format provides: it would never match, or never have a
    /// key.
    fn check_json_parts(&mut self, id: &str, place: &Place, fields: &Fields, source_id: &str) {
        let Some(source) = entry(&self.sources, source_id) else {
            return;
        };
        let matched: [(&dyn AnyKey, &Key<Path>); 2] =
            [(&keys::TYPE, &source::JSON_TYPE), (&keys::NAMES, &source::JSON_NAME)];
        for (key, part) in matched {
            if let Some(place) = fields.place(key).filter(|_| !provides(source, part)) {
                let part = part.name();
                let message = format!(
                    "the format of the source `{source_id}` gives no `{part}`, so the event `{id}` would never match"
                );
                let hint = format!("say where it is: `format: {{json: {{{part}: PATH}}}}`");
                self.report_with_hint(place, message, hint);
            }
        }
        if !fields.has(&keys::FOREIGN_KEY) && !provides(source, &source::JSON_KEY) {
            let message = format!(
                "the event `{id}` has no `foreign_key`, and the format of the source `{source_id}` gives no `key`"
            );
            self.report(place, message);
        }
    }

    fn event_property(&mut self, entry: Entry<'_, Form<'_, ColumnType>>) -> Option<Property> {
        let default_path = || Path(vec![Step::Key("properties".to_owned()), Step::Key(entry.name.to_owned())]);
        let long = match entry.item?.value {
            Form::Short(column_type) => return Some(Property { path: default_path(), column_type, unit: None }),
            Form::Long(long) => long,
        };
        let path = match long.has(&keys::PROPERTY_PATH) {
            true => long.get(&keys::PROPERTY_PATH)?.clone(),
            false => default_path(),
        };
        let column_type = long.get(&keys::PROPERTY_TYPE)?;
        if column_type != ColumnType::Timestamp
            && let Some(place) = long.place(&keys::PROPERTY_UNIT)
        {
            let message = format!("`unit` goes with `type: timestamp`, not with `{column_type}`");
            self.report(place, message);
            return None;
        }
        Some(Property { path, column_type, unit: long.get(&keys::PROPERTY_UNIT) })
    }
}

/// Returns the type of an event's property; `None` if it has no such property, or a wrong one.
pub(super) fn declared_property(event: &Fields, name: &str) -> Option<ColumnType> {
    let entry = event.entries(&keys::PROPERTIES).into_iter().find(|entry| entry.name == name)?;
    match entry.item?.value {
        Form::Short(column_type) => Some(column_type),
        Form::Long(long) => long.get(&keys::PROPERTY_TYPE),
    }
}
