//! Builds models.

use super::circles::circles;
use super::event::declared_property;
use super::{Builder, entry, owned, sorted_out};
use crate::schema::model as keys;
use crate::schema::{At, DESCRIPTION, Fields, Form, event};
use crate::{
    BelongsTo, ColumnType, DeltaTable, Gap, Live, Members, Model, Parquet, Place, Refresh, TableVersion, nearest,
};
use std::collections::BTreeMap;
use usher_core::time::parse_setting;

impl<'a> Builder<'a> {
    /// Builds a model, without what is wrong in it: that is noted in the gaps.
    pub(super) fn model(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Model {
        let has_parquet = fields.has(&keys::PARQUET) || fields.has(&keys::DELTA);
        let members = match fields.at(&keys::MEMBERS) {
            Some(members) => {
                if members.value == Members::Known && !has_parquet {
                    let message = format!("the model `{id}` has no `parquet`, so none of its keys would be known");
                    let hint = "give it `parquet` or `delta`, or leave out `members`";
                    self.report_with_hint(members.place, message, hint);
                }
                members.value
            }
            // A key that does not fit may stand for `parquet`: then nothing is said of unknown keys.
            None if has_parquet || !fields.is_whole() => Members::Known,
            None => Members::Any,
        };
        let belongs_to = fields.get(&keys::BELONGS_TO).and_then(|belongs_to| self.belongs_to(belongs_to));
        let columns = fields.entries(&keys::COLUMNS).into_iter();
        let (columns, wrong) = sorted_out(
            columns.map(|entry| (entry.name.to_owned(), entry.item.and_then(|item| column_type(item.value)))),
        );
        let parquet = if has_parquet { self.parquet(fields) } else { None };
        let gap = Gap {
            columns: wrong,
            others: fields.is_wrong(&keys::COLUMNS) || has_parquet && parquet.is_none(),
            parent: fields.has(&keys::BELONGS_TO) && belongs_to.is_none(),
        };
        gap.note(id, &mut self.gaps.models);
        Model {
            place: place.clone(),
            description: owned(fields, &DESCRIPTION),
            parquet,
            key: owned(fields, &keys::KEY).unwrap_or_default(),
            refresh: fields.get(&keys::REFRESH_EVERY).unwrap_or(Refresh::Manual),
            max_exits: fields.get(&keys::MAX_EXITS),
            min_rows: fields.get(&keys::MIN_ROWS),
            force_files: fields.get(&keys::FORCE_FILES).unwrap_or(false),
            columns,
            live: self.live_columns(id, fields),
            belongs_to,
            members,
        }
    }

    /// Builds the model that the rows of another belong to.
    fn belongs_to(&mut self, belongs_to: &'a Fields) -> Option<BelongsTo> {
        let model = self.refer(belongs_to, &keys::PARENT);
        Some(BelongsTo { model: model?.to_owned(), foreign_key: owned(belongs_to, &keys::FOREIGN_KEY)? })
    }

    /// Builds where a model's Parquet is.
    fn parquet(&mut self, fields: &Fields) -> Option<Parquet> {
        let table = match fields.get(&keys::DELTA) {
            None => return Some(Parquet::Files(fields.get(&keys::PARQUET)?.clone())),
            Some(Form::Short(url)) => DeltaTable { url: url.clone(), at: TableVersion::Newest },
            Some(Form::Long(long)) => {
                let at = match (long.get(&keys::VERSION), long.at(&keys::AT)) {
                    (Some(version), _) => TableVersion::Number(version),
                    (None, None) => TableVersion::Newest,
                    (None, Some(time)) => match parse_setting(time.value) {
                        Some(ms) => TableVersion::Time(ms),
                        None => {
                            let message = format!("`{}` is not a time", time.value);
                            self.report_with_hint(time.place, message, "write RFC 3339, as in `2026-11-23T10:00:00Z`");
                            return None;
                        }
                    },
                };
                DeltaTable { url: long.get(&keys::URL)?.clone(), at }
            }
        };
        if table.url.shown().contains('*') {
            let place = fields.at(&keys::DELTA)?.place;
            let message = format!("`{}` has a wildcard, and a table is one folder", table.url);
            self.report_with_hint(place, message, "write the folder that holds `_delta_log`");
            return None;
        }
        Some(Parquet::Delta(table))
    }

    /// Builds the live columns of a model that are right.
    fn live_columns(&mut self, id: &'a str, fields: &'a Fields) -> BTreeMap<String, Live> {
        let declared = fields.entries(&keys::COLUMNS).into_iter().filter_map(|entry| match entry.item?.value {
            Form::Long(long) if long.has(&keys::LIVE) => Some((entry.name, long)),
            Form::Long(_) | Form::Short(_) => None,
        });
        declared.filter_map(|(name, long)| Some((name.to_owned(), self.live_column(id, fields, name, long)?))).collect()
    }

    /// Builds one live column. Reports one that is the key, and an event or property that does not fit it.
    fn live_column(&mut self, model: &'a str, fields: &'a Fields, name: &str, column: &'a Fields) -> Option<Live> {
        let At { place, value: live } = column.at(&keys::LIVE)?;
        if fields.get(&keys::KEY) == Some(name) {
            let message = format!("`{name}` is the key of the model `{model}`, and a key can't be live");
            self.report_with_hint(place, message, "an event of another key is about another row");
            return None;
        }
        let column_type = column.get(&keys::TYPE);
        let is_foreign = fields.get(&keys::BELONGS_TO).and_then(|of| of.get(&keys::FOREIGN_KEY)) == Some(name);
        if let Some(of) = column_type.filter(|of| is_foreign && !matches!(of, ColumnType::String | ColumnType::Integer))
        {
            let message = format!("`{name}` is a foreign key, which is a string or an integer, not `{of}`");
            self.report(place, message);
            return None;
        }
        let reference = live.at(&keys::LIVE_EVENT);
        let event = reference.as_ref().and_then(|reference| self.resolve(reference));
        let property = live.at(&keys::LIVE_PROPERTY)?;
        let (id, reference) = (event?, reference?);
        let found = entry(&self.events, id)?;
        if let Some(of) = found.get(&event::MODEL).filter(|of| of.id != model) {
            let message = format!("the event `{id}` is of the model `{}`, the column of `{model}`", of.id);
            self.report_with_hint(reference.place, message, "a live column takes an event of its own model");
            return None;
        }
        let names: Vec<&str> = found.entries(&event::PROPERTIES).iter().map(|entry| entry.name).collect();
        if !names.contains(&property.value) {
            let message = format!("the event `{id}` has no property `{}`", property.value);
            let hint = match (nearest(property.value, names), column_type) {
                (Some(close), _) => format!("did you mean `{close}`?"),
                (None, Some(of)) => format!("declare it at the event: `properties: {{{}: {of}}}`", property.value),
                (None, None) => "declare it at the event".to_owned(),
            };
            self.report_with_hint(property.place, message, hint);
            return None;
        }
        let (column_type, of) = (column_type?, declared_property(found, property.value)?);
        if column_type != of {
            let property_name = property.value;
            let message = format!(
                "the column `{name}` is declared as `{column_type}`, and the property `{property_name}` of the event `{id}` as `{of}`"
            );
            self.report_with_hint(property.place, message, "declare both with one type");
            let in_doubt = Gap { columns: [name.to_owned()].into(), ..Gap::default() };
            in_doubt.note(model, &mut self.gaps.models);
            return None;
        }
        Some(Live { event: id.to_owned(), property: property.value.to_owned() })
    }

    /// Reports models that belong to themselves, directly or through others.
    pub(super) fn check_model_circles(&mut self) {
        let edges = self.models.iter().filter_map(|(id, fields)| {
            let parent = (*fields)?.get(&keys::BELONGS_TO)?.at(&keys::PARENT)?;
            Some((*id, vec![(parent.value.id.as_str(), parent.place.clone())]))
        });
        for (circle, place) in circles(&edges.collect()) {
            self.report(&place, format!("models belong to each other in a circle: {circle}"));
        }
    }
}

/// Returns the id of the model that a model belongs to.
pub(super) fn parent(model: &Fields) -> Option<&str> {
    Some(&model.get(&keys::BELONGS_TO)?.get(&keys::PARENT)?.id)
}

/// Returns the declared type of a column of a model.
pub(super) fn declared_type(model: &Fields, column: &str) -> Option<ColumnType> {
    let columns = model.entries(&keys::COLUMNS);
    let entry = columns.into_iter().find(|entry| entry.name == column)?;
    column_type(entry.item?.value)
}

/// Returns whether a model has a live column, even a wrong one.
pub(super) fn has_live_columns(model: &Fields) -> bool {
    let columns = model.entries(&keys::COLUMNS);
    columns
        .into_iter()
        .any(|entry| matches!(entry.item, Some(At { value: Form::Long(long), .. }) if long.has(&keys::LIVE)))
}

fn column_type(form: Form<'_, ColumnType>) -> Option<ColumnType> {
    match form {
        Form::Short(column_type) => Some(column_type),
        Form::Long(long) => long.get(&keys::TYPE),
    }
}
